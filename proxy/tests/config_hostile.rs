//! No text makes the configuration panic, hang or eat memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use emberline::config::{self, Environment, Report, Source};

fn load(text: &str) -> (bool, Report) {
    let environment = Environment {
        variable: &|_| None,
        directory: None,
        cpus: 1,
        files: std::sync::Arc::default(),
    };
    let source = Source::new("hostile", text);
    let (running, report) = config::load(&source, &environment);
    assert_eq!(
        running.is_none(),
        report.has_errors(),
        "{}",
        report.render(&source)
    );
    let shown = report.render(&source);
    assert!(shown.len() < 200_000, "a report of {} bytes", shown.len());
    (running.is_some(), report)
}

fn refused(text: &str, message: &str) {
    let (usable, report) = load(text);
    assert!(!usable);
    let said: Vec<_> = report
        .diagnostics()
        .map(|one| one.message.clone())
        .collect();
    assert!(
        said.iter().any(|one| one.contains(message)),
        "{said:.2000?}"
    );
}

/// Every example and every broken case of the repository.
fn texts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["../configs", "../configs/examples", "tests/data/config"] {
        for entry in fs::read_dir(root.join(directory)).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.extension().is_some_and(|kind| kind == "toml") {
                found.push(fs::read_to_string(path).expect("a readable file"));
            }
        }
    }
    assert!(found.len() > 15);
    found
}

/// Marsaglia's xorshift: the same bytes in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[test]
fn truncated_files_are_reported() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for text in texts() {
        for _ in 0..40 {
            let mut end = dice.roll(text.len() + 1);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            load(&text[..end]);
        }
    }
}

#[test]
fn damaged_files_are_reported() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for text in texts() {
        for _ in 0..60 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..=dice.roll(4) {
                let at = dice.roll(bytes.len());
                match dice.roll(3) {
                    0 => bytes[at] = dice.roll(256) as u8,
                    1 => bytes[at] = b"\"'[]{}=.,\n#\\$-"[dice.roll(14)],
                    _ => {
                        // A stretch moved elsewhere: keys in wrong tables.
                        let length = dice.roll(40).min(bytes.len() - at);
                        let stretch: Vec<u8> = bytes.drain(at..at + length).collect();
                        let to = dice.roll(bytes.len() + 1);
                        bytes.splice(to..to, stretch);
                    }
                }
            }
            load(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn noise_is_reported() {
    let mut dice = Dice(7);
    for length in [0, 1, 2, 10, 1000, 20_000] {
        let bytes: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
        load(&String::from_utf8_lossy(&bytes));
        let ascii: String = (0..length)
            .map(|_| (dice.roll(95) + 32) as u8 as char)
            .collect();
        load(&ascii);
    }
}

#[test]
fn a_binary_or_endless_file_is_refused_unread() {
    let directory = std::env::temp_dir().join(format!("emberline-config-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory");
    let path = directory.join("binary.toml");
    fs::write(&path, b"[proxy]\nworkers = 1\n\xff\xfe\x00").expect("a written file");
    let error = config::open(&path).expect_err("not text").to_string();
    assert_eq!(error, "not a text file: line 3 is not UTF-8");
    fs::remove_dir_all(&directory).expect("removed");
    let error = config::open(Path::new("/dev/zero"))
        .expect_err("endless")
        .to_string();
    assert!(error.starts_with("longer than"), "{error}");
}

#[test]
fn a_hundred_thousand_servers_are_refused_quickly() {
    let servers: String = (0..100_000)
        .map(|i| format!("\"10.0.{}.{}:6379\", ", i / 256, i % 256))
        .collect();
    let start = Instant::now();
    refused(
        &format!("{REDIS}route = \"p\"\n[pools.p]\nprotocol = \"redis\"\nservers = [{servers}]\n"),
        "100000 servers are defined",
    );
    let wrong = "5, ".repeat(100_000);
    refused(
        &format!("{REDIS}route = \"p\"\n[pools.p]\nprotocol = \"redis\"\nservers = [{wrong}]\n"),
        "a server is an integer",
    );
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
}

const REDIS: &str = "[listeners.redis]\nprotocol = \"redis\"\nbind = \"127.0.0.1:0\"\n";
const POOL: &str = "[pools.p]\nprotocol = \"redis\"\nkind = \"local\"\n";

/// Routes 0 to n, each the default of the one before it.
fn chain(n: usize, last: &str) -> String {
    let mut text = format!("{REDIS}route = \"r0\"\n{POOL}");
    for i in 0..n {
        let next = if i + 1 < n {
            format!("r{}", i + 1)
        } else {
            last.to_owned()
        };
        text +=
            &format!("[routes.r{i}]\ntype = \"prefix\"\nchildren = {{}}\ndefault = \"{next}\"\n");
    }
    text
}

#[test]
fn long_chains_and_circles_are_refused() {
    assert!(load(&chain(32, "p")).0);
    refused(&chain(33, "p"), "33 routes follow each other");
    refused(&chain(20_000, "p"), "20000 routes follow each other");
    refused(&chain(20_000, "r0"), "routes lead in a circle");
    refused(&chain(1, "r0"), "routes lead in a circle: r0 -> r0");
}

/// Twenty-five routes, each with two ways to the next: 2^25 paths.
#[test]
fn a_lattice_of_shared_routes_costs_what_its_text_does() {
    let mut text = format!("{REDIS}route = \"r0\"\n{POOL}");
    for i in 0..25 {
        let next = if i < 24 {
            format!("r{}", i + 1)
        } else {
            "p".to_owned()
        };
        text += &format!(
            "[routes.r{i}]\ntype = \"prefix\"\nchildren = {{ a = \"{next}\", b = \"{next}\" }}\ndefault = \"{next}\"\n"
        );
    }
    let start = Instant::now();
    assert!(load(&text).0);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn deep_nesting_overflows_no_stack() {
    for depth in [10, 79, 1000, 100_000] {
        load(&format!("a = {}{}", "[".repeat(depth), "]".repeat(depth)));
        load(&format!("a = {}", "{a=".repeat(depth)));
        load(&format!("[{}a]\n", "a.".repeat(depth)));
        load(&format!("{}a = 1\n", "a.".repeat(depth)));
        load(&format!("[[{}a]]\n", "a.".repeat(depth)));
    }
    // As deep as brackets and dotted keys together can get.
    let dotted = "a.".repeat(70) + "a";
    let deep = format!("{{{dotted} = ").repeat(70) + "1" + &"}".repeat(70);
    load(&format!("[{dotted}]\n{dotted} = {deep}\n"));
    let routes = "{ type = \"prefix\", children.x = ".repeat(40)
        + "\"p\""
        + &", default = \"p\" }".repeat(40);
    refused(
        &format!("{REDIS}route = {routes}\n{POOL}"),
        "routes nest deeper than 32",
    );
}

#[test]
fn many_tables_are_counted() {
    let mut text = format!("{REDIS}route = \"p0\"\n");
    for i in 0..5_000 {
        text += &format!("[pools.p{i}]\nprotocol = \"redis\"\nkind = \"local\"\n");
    }
    refused(&text, "5000 pools are defined");
}

#[test]
fn long_names_and_values_are_not_repeated_at_length() {
    let long = "x".repeat(1 << 20);
    refused(
        &format!("{REDIS}route = \"{long}\"\n{POOL}"),
        "there is no pool",
    );
    refused(&format!("[{long}]\n"), "unknown key");
    refused(
        &format!("{REDIS}route = \"p\"\n{POOL}hash = \"{long}\"\n"),
        "unknown hash",
    );
    refused(&format!("[pools.{long}]\n"), "cannot be a name");
    refused(
        &format!("[proxy]\ntimeout_head = \"{long}\"\nmemory_max = \"{long}\"\n"),
        "is not a",
    );
    refused(
        &format!("[listeners.x]\nbind = \"{long}\"\n"),
        "is not an address",
    );
}

/// A general list is kept by every pool that takes it over.
#[test]
fn many_listed_keys_are_counted() {
    let keys = |n: usize| (0..n).map(|i| format!("\"k{i}\",")).collect::<String>();
    let pools = |n: usize| {
        let pool = |i| format!("[pools.p{i}]\nprotocol = \"redis\"\nkind = \"local\"\n");
        format!("{REDIS}route = \"p0\"\n") + &(0..n).map(pool).collect::<String>()
    };
    let always = |n| format!("[hotkey]\nalways = [{}]\n", keys(n));
    assert!(load(&(always(1000) + &pools(2))).0);
    refused(&(always(1001) + &pools(1)), "`always` has 1001 entries");
    refused(
        &(always(200_000) + &pools(1)),
        "`always` has 200000 entries",
    );
    refused(
        &(always(1000) + &pools(101)),
        "101000 rules and keys are listed",
    );
    refused(
        &(always(200_000) + &pools(4096)),
        "819200000 rules and keys are listed",
    );
    let rules = "[[hotkey.rules]]\nprefix = \"a\"\n".repeat(1001);
    refused(&(rules + &pools(1)), "`rules` has 1001 entries");
}

#[test]
fn long_keys_and_prefixes_are_refused() {
    let long = "x".repeat(1 << 20);
    let rest = format!("{REDIS}route = \"p\"\n{POOL}");
    for key in ["always", "split"] {
        refused(
            &format!("[hotkey]\ncopies = 1\n{key} = [\"{long}\", \"{long}\"]\n{rest}"),
            "has 1048576 bytes, expected at most 1024",
        );
    }
    refused(
        &format!("[[hotkey.rules]]\nprefix = \"{long}\"\n{rest}"),
        "`prefix` has 1048576 bytes",
    );
    refused(
        &format!("[bus]\nserver = \"a:1\"\nchannel = \"{long}\"\n{rest}"),
        "`channel` has 1048576 bytes",
    );
    refused(
        &format!("[hotkey]\nkey_visibility = \"{long}\"\n[l1]\nmode = \"{long}\"\n{rest}"),
        "unknown mode of the L1",
    );
}

/// Every number that a setting may be given, and some that none may.
#[test]
fn extreme_numbers_are_taken_or_refused() {
    let values = [
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1e308",
        "-1e308",
        "1e999",
        "5e-324",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "-0.0",
        "\"0s\"",
        "\"1us\"",
        "\"18446744073709551615h\"",
        "\"1e5s\"",
        "\"18446744073709551615B\"",
        "\"16777216TiB\"",
        "true",
        "[]",
        "{}",
        "1979-05-27",
        "\"\"",
    ];
    let hotkey = "enabled window threshold threshold_bytes sample hold always copies split \
                  combine_increments rules key_visibility";
    let l1 = "capacity mode ttl max_item negative_ttl heartbeat early_refresh stale_if_error \
              waiters_max reads_per_invalidation touch_every lease";
    let pool = "salt on_down gutter_ttl zone queue_timeout retry_budget failures probe_first \
                probe_last panic delete_log dns";
    let dns = "servers ttl_min ttl_max";
    let rest = format!(
        "{REDIS}route = \"p\"\n{POOL}[pools.q]\nprotocol = \"redis\"\nservers = [\"a:1\"]\n"
    );
    for value in values {
        for key in hotkey.split(' ') {
            load(&format!("[hotkey]\n{key} = {value}\n{rest}"));
            load(&format!("{rest}[pools.q.hotkey]\n{key} = {value}\n"));
        }
        for key in dns.split(' ') {
            load(&format!("[dns]\n{key} = {value}\n{rest}"));
        }
        for key in l1.split(' ') {
            load(&format!("[l1]\n{key} = {value}\n{rest}"));
            load(&format!("{rest}[pools.q.l1]\n{key} = {value}\n"));
        }
        for key in pool.split(' ') {
            load(&format!("{rest}{key} = {value}\n"));
            load(&format!("[pool_defaults]\n{key} = {value}\n{rest}"));
        }
        for key in ["window", "threshold", "hold", "ttl", "allow"] {
            load(&format!(
                "[[hotkey.rules]]\nprefix = \"a\"\n{key} = {value}\n{rest}"
            ));
        }
    }
}

/// One mistake in the general table is one finding, however many pools take
/// it over.
#[test]
fn a_general_mistake_is_said_once() {
    let pool = |i| format!("[pools.p{i}]\nprotocol = \"redis\"\nservers = [\"a:1\"]\n");
    let pools: String = (0..1000).map(pool).collect();
    let text = format!(
        "[hotkey]\nenabled = false\nsplit = [\"x\"]\n[l1]\ncapacity = \"1MiB\"\nmax_item = \"2MiB\"\n\
         mode = \"revalidate\"\n{REDIS}route = \"p0\"\n{pools}"
    );
    let (_, report) = load(&text);
    assert_eq!(report.count(config::Severity::Error), 4);
}
