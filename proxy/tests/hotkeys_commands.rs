//! `emberline hotkeys` and `emberline top`, as a user runs them.

#![allow(clippy::unwrap_used)]

mod admin_support;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use admin_support::{Site, running, start};
use emberline::running::Visibility;

fn emberline(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
    command.args(args).stdin(Stdio::null());
    command.output().unwrap()
}

/// What was printed, of a run with this exit code.
fn check(args: &[&str], code: i32) -> String {
    let output = emberline(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    String::from_utf8(output.stdout).unwrap() + &said
}

fn site() -> (Site, String) {
    let mut running = running("r", 2, 1);
    running.visibility = Visibility::Plain;
    let site = start(running);
    for (pool, key) in [(0, &b"user:1"[..]), (1, b"\x1b[2Jevil")] {
        let l1 = &site.state.l1;
        l1.board.promote(l1.hasher.hash_in(pool, key), pool, key);
    }
    let admin = site.admin().to_string();
    (site, admin)
}

#[test]
fn a_list_is_a_table_or_json() {
    let (_site, admin) = site();
    let table = check(&["hotkeys", "--admin", &admin], 0);
    let heads = table.lines().next().unwrap();
    assert!(
        heads.starts_with("KEY ") && heads.ends_with("HOT FOR"),
        "{table}"
    );
    assert!(table.contains("user:1 "), "{table}");
    assert!(table.contains("\\x1b[2Jevil "), "{table}");
    assert!(!table.contains('\x1b'));
    assert!(table.contains("pool-0 only observes: "), "{table}");

    let of_pool = check(&["hotkeys", "--admin", &admin, "--pool", "pool-1"], 0);
    assert!(!of_pool.contains("user:1"), "{of_pool}");
    let of_key = check(&["hotkeys", "--admin", &admin, "--key", "user:1"], 0);
    assert!(
        of_key.contains("user:1") && !of_key.contains("evil"),
        "{of_key}"
    );
    let cut = check(&["hotkeys", "--admin", &admin, "--limit", "1"], 0);
    assert!(cut.contains("1 of 2; --limit shows more"), "{cut}");

    let json = check(&["hotkeys", "--json", "--admin", &admin], 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["found"], 2);
}

#[test]
fn who_cannot_be_asked_is_said_with_a_hint() {
    let (site, admin) = site();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = free.to_string();
    let status = site.status().to_string();
    for command in [&["hotkeys"][..], &["top", "--once"]] {
        let said = |admin| check(&[command, &["--admin", admin]].concat(), 1);
        let text = said(&nobody);
        assert!(text.contains("is an Emberline running"), "{text}");
        let text = said(&status);
        assert!(text.contains("--admin wants the admin API"), "{text}");
        assert!(!said("unix:/nowhere/at/all").is_empty());
    }
    let text = check(&["hotkeys", "--admin", &admin, "--pool", "nobody"], 1);
    assert!(text.contains("there is no pool \"nobody\""), "{text}");
    for wrong in [
        &["hotkeys", "--sort", "name"][..],
        &["hotkeys", "--limit", "0"],
        &["top", "--interval", "1ms"],
    ] {
        check(wrong, 2);
    }
}

#[test]
fn top_without_a_terminal_says_what_to_do() {
    let (_site, admin) = site();
    let said = check(&["top", "--admin", &admin], 1);
    assert!(
        said.contains("top --once") && said.contains("emberline hotkeys"),
        "{said}"
    );
    let picture = check(
        &["top", "--once", "--interval", "100ms", "--admin", &admin],
        0,
    );
    for part in [
        "Emberline 0",
        "POOL ",
        "pool-1",
        "KEY ",
        "user:1",
        "2 hot keys",
    ] {
        assert!(picture.contains(part), "{part} in\n{picture}");
    }
    assert!(
        !picture.contains('\x1b') && !picture.contains("q quit"),
        "{picture}"
    );
}

/// `emberline top` on a terminal of `script`'s making.
struct Terminal {
    dir: PathBuf,
    script: Child,
}

impl Terminal {
    fn open(top: &str, name: &str) -> Terminal {
        let dir = std::env::temp_dir().join(format!("emberline-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let settings = "stty -a | tr -d '\n' | sed 's/speed.*line//'";
        let inside = format!(
            "stty rows 24 cols 80; {settings} >before; \
             sh -c 'echo $$ >pid; exec {top}'; echo exit $?; {settings} >after"
        );
        std::fs::write(dir.join("inside"), inside).unwrap();
        let script = Command::new("timeout")
            .args(["30", "script", "-qfec", "sh inside", "out"])
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Terminal { dir, script }
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.dir.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Wait until this has been drawn.
    fn await_text(&mut self, text: &str) {
        while !self.read("out").contains(text) {
            let ended = self.script.try_wait().unwrap();
            assert!(ended.is_none(), "{text:?} was not drawn");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.script.stdin.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// The whole of it: drawn on the other screen, left with 0, nothing changed.
    fn check(mut self) {
        self.script.wait().unwrap();
        let (out, before, after) = (self.read("out"), self.read("before"), self.read("after"));
        let entered = out.find("\x1b[?1049h").unwrap_or_else(|| panic!("{out:?}"));
        let left = out.rfind("\x1b[?1049l");
        let left = left.unwrap_or_else(|| panic!("{out:?}"));
        assert!(entered < left && out[left..].contains("exit 0"), "{out:?}");
        assert!(out[left..].contains("\x1b[?25h") || out[..left].contains("\x1b[?25h"));
        assert!(!before.is_empty() && before == after, "{before} {after}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn script_is_missing() -> bool {
    let missing = !Path::new("/usr/bin/script").exists();
    if missing {
        eprintln!("skipped: script is not installed");
    }
    missing
}

fn top(admin: &str) -> String {
    let program = env!("CARGO_BIN_EXE_emberline");
    format!("{program} top --interval 100ms --admin {admin}")
}

#[test]
fn top_gives_the_terminal_back_when_a_key_ends_it() {
    if script_is_missing() {
        return;
    }
    let (_site, admin) = site();
    let mut terminal = Terminal::open(&top(&admin), "key");
    terminal.await_text("user:1");
    terminal.press(b"?");
    // Words, as blanks are not drawn where there were blanks before.
    terminal.await_text("sampled).");
    terminal.press(b"?p");
    terminal.await_text("PAUSED");
    terminal.press(b"q");
    terminal.check();
}

#[test]
fn top_gives_the_terminal_back_when_a_signal_ends_it() {
    if script_is_missing() {
        return;
    }
    let (_site, admin) = site();
    let mut terminal = Terminal::open(&top(&admin), "signal");
    terminal.await_text("user:1");
    let kill = format!("kill -TERM {}", terminal.read("pid"));
    let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(status.success());
    terminal.check();
}

#[test]
fn top_stays_when_its_emberline_goes() {
    if script_is_missing() {
        return;
    }
    let (site, admin) = site();
    let mut terminal = Terminal::open(&top(&admin), "gone");
    terminal.await_text("user:1");
    drop(site);
    terminal.await_text("figures:");
    terminal.press(b"q");
    terminal.check();
}
