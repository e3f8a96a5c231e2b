//! Preload, end to end: a proxy is stopped or killed, and the next one has its
//! hot keys in memory before anybody asks for them.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::{Emberline, Server, TempDir, free_port, show};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whatever is promoted by its heat stays so, however slow the test is.
const HOT: &str = "[hotkey]\nthreshold = 50\nwindow = \"10s\"\nhold = \"1h\"\n";

/// A proxy before one pool, `main`, and its list.
struct Site {
    proxy: Emberline,
    admin: SocketAddr,
    config: String,
    dir: TempDir,
}

impl Site {
    /// `preload` is more of the preload's table, `more` of `[l1]` and what
    /// follows. `list` is what the last process has left.
    fn start(protocol: &str, server: &Server, preload: &str, more: &str, list: &str) -> Site {
        let dir = TempDir::new();
        let path = dir.path().join("hot");
        if !list.is_empty() {
            std::fs::write(&path, list).unwrap();
        }
        Site::begin(protocol, server, preload, more, dir)
    }

    fn begin(protocol: &str, server: &Server, preload: &str, more: &str, dir: TempDir) -> Site {
        let config = format!(
            "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{}_BIND\"\nroute = \"main\"\n\
             [pools.main]\nprotocol = \"{protocol}\"\nservers = [\"{}\"]\n\
             [l1]\npreload = {{ path = \"{}\", {preload} }}\n{more}",
            protocol.to_uppercase(),
            server.address(),
            dir.path().join("hot").display(),
        );
        Site::run(config, dir)
    }

    fn run(config: String, dir: TempDir) -> Site {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let proxy = Emberline::config_with(&config, &["--admin-bind", &admin.to_string()]);
        Site {
            proxy,
            admin,
            config,
            dir,
        }
    }

    /// End it by this signal, and start another one; `between` is done while
    /// there is none.
    fn restart(self, signal: &str, between: impl FnOnce()) -> Site {
        let Site {
            mut proxy,
            config,
            dir,
            ..
        } = self;
        proxy.signal(signal);
        proxy.wait(PATIENCE).expect("it ends");
        drop(proxy);
        between();
        let site = Site::run(config, dir);
        site.is_ready();
        site
    }

    fn list(&self) -> PathBuf {
        self.dir.path().join("hot")
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let ask =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The sum of the series that begin like this.
    fn metric(&self, series: &str) -> f64 {
        let text = self.ask("GET", "/metrics");
        let lines = text.lines().filter(|line| line.starts_with(series));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap());
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    }

    fn preloaded(&self, result: &str) -> f64 {
        self.metric(&format!(
            "emberline_l1_preloaded_keys_total{{result=\"{result}\"}}"
        ))
    }

    fn promoted(&self) -> f64 {
        self.metric("emberline_hotkeys{")
    }

    #[track_caller]
    fn is_ready(&self) {
        eventually("it is never ready", || {
            self.ask("GET", "/readyz").starts_with("HTTP/1.1 200")
        });
    }

    /// Read these keys until they are promoted.
    fn heat(&self, keys: &[&str], read: impl Fn(&mut support::Client, &str)) {
        let mut client = self.proxy.client();
        eventually("the keys are never hot", || {
            for key in keys {
                (0..60).for_each(|_| read(&mut client, key));
            }
            self.promoted() >= keys.len() as f64
        });
    }

    fn get(&self, key: &str) -> String {
        show(&self.proxy.client().call(&["GET", key]))
    }
}

fn bulk(value: &str) -> String {
    show(format!("${}\r\n{value}\r\n", value.len()).as_bytes())
}

#[track_caller]
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How often a Redis server was asked for a value.
fn gets(server: &Server) -> u64 {
    let stats = server.client().call(&["INFO", "commandstats"]);
    let stats = String::from_utf8_lossy(&stats).into_owned();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

fn redis_get(client: &mut support::Client, key: &str) {
    client.call(&["GET", key]);
}

const KEYS: [&str; 5] = ["a", "b", "changed", "deleted", "caf\u{e9} \\"];

fn fill(server: &Server) {
    for key in KEYS {
        server.client().call(&["SET", key, &format!("old {key}")]);
    }
}

#[test]
fn the_first_read_of_each_hot_key_is_answered_from_memory() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let site = Site::start("redis", &server, "deadline = \"5m\"", HOT, "");
    site.is_ready();
    assert_eq!(site.preloaded("filled"), 0.0);
    site.heat(&KEYS, redis_get);
    let site = site.restart("TERM", || {
        server.client().call(&["SET", "changed", "new"]);
        server.client().call(&["DEL", "deleted"]);
    });
    let mode = std::fs::metadata(site.list()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        (site.preloaded("filled"), site.preloaded("missing")),
        (4.0, 1.0)
    );
    assert_eq!(site.promoted(), 5.0);

    let before = gets(&server);
    for key in ["a", "b", KEYS[4]] {
        assert_eq!(site.get(key), bulk(&format!("old {key}")));
    }
    assert_eq!(site.get("changed"), bulk("new"));
    assert_eq!(gets(&server), before, "nothing was asked of the server");
    assert_eq!(site.get("deleted"), "$-1\\r\\n");
}

#[test]
fn what_the_server_pushes_ends_a_preloaded_value() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let list = "emberline hot keys 1\nmain a\n";
    let site = Site::start("redis", &server, "deadline = \"5m\"", "ttl = \"1h\"", list);
    site.is_ready();
    let before = gets(&server);
    assert_eq!(site.get("a"), bulk("old a"));
    assert_eq!(gets(&server), before);
    server.client().call(&["SET", "a", "new"]);
    eventually("the change is never seen", || site.get("a") == bulk("new"));
    // What is written through the proxy is seen at once.
    let mut client = site.proxy.client();
    client.call(&["SET", "a", "newer"]);
    assert_eq!(show(&client.call(&["GET", "a"])), bulk("newer"));
}

#[test]
fn what_is_written_while_values_are_fetched_is_never_gone_back_on() {
    let Some(server) = Server::redis() else {
        return;
    };
    let keys: Vec<String> = (0..300).map(|i| format!("k{i}")).collect();
    let mut list = "emberline hot keys 1\n".to_owned();
    for key in &keys {
        server.client().call(&["SET", key, "old"]);
        list.push_str(&format!("main {key}\n"));
    }
    for mode in ["ttl", "tracking"] {
        let more = format!(
            "mode = \"{mode}\"\nttl = \"1h\"\n[pool_defaults]\nrequest_timeout = \"20s\"\n"
        );
        // Fetches and writes are under way together when it wakes.
        server.freeze();
        let site = Site::start("redis", &server, "deadline = \"5m\"", &more, &list);
        let mut client = site.proxy.client();
        let write = |value: &str| {
            let sets = keys
                .iter()
                .map(|key| support::command(&["SET", key, value]));
            sets.collect::<Vec<_>>().concat()
        };
        client.send(&write(mode));
        server.thaw();
        for key in &keys {
            assert_eq!(client.reply(), b"+OK\r\n");
            assert_eq!(site.get(key), bulk(mode), "{key}");
        }
        site.is_ready();
        for key in &keys {
            assert_eq!(site.get(key), bulk(mode), "{key}");
        }
    }
}

#[test]
fn a_killed_process_leaves_the_list_that_it_saved_last() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let preload = "deadline = \"5m\", save_every = \"1s\"";
    let site = Site::start("redis", &server, preload, HOT, "");
    site.heat(&KEYS, redis_get);
    eventually("the list is never saved", || {
        let list = std::fs::read_to_string(site.list()).unwrap_or_default();
        list.lines().count() == 1 + KEYS.len()
    });
    let site = site.restart("KILL", || {});
    assert_eq!(site.preloaded("filled"), 5.0);
    let before = gets(&server);
    assert_eq!(site.get("b"), bulk("old b"));
    assert_eq!(gets(&server), before);
}

#[test]
fn the_list_is_taken_when_draining_begins() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let site = Site::start("redis", &server, "", HOT, "");
    site.heat(&KEYS, redis_get);
    site.ask("POST", "/drain");
    eventually("the list is never saved", || {
        site.metric("emberline_l1_preload_saves_total{result=\"ok\"}") == 1.0
    });
    let list = std::fs::read_to_string(site.list()).unwrap();
    assert_eq!(list.lines().count(), 1 + KEYS.len());
    assert!(list.contains("main caf\\xc3\\xa9\\x20\\x5c\n"), "{list}");
}

#[test]
fn memcached_keys_are_preloaded_and_a_missing_ones_lease_is_left_alone() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let mut direct = server.client();
    direct.send(b"set a 7 0 5\r\nvalue\r\n");
    assert_eq!(direct.until(b"\r\n"), b"STORED\r\n");
    let list = "emberline hot keys 1\nmain a\nmain missing\n";
    let more = "ttl = \"10m\"\nlease = \"60s\"\n";
    let site = Site::start("memcached", &server, "deadline = \"5m\"", more, list);
    site.is_ready();
    assert_eq!(
        (site.preloaded("filled"), site.preloaded("missing")),
        (1.0, 1.0)
    );
    let mut client = site.proxy.client();
    client.send(b"get a\r\n");
    let reply = b"VALUE a 7 5\r\nvalue\r\nEND\r\n";
    assert_eq!(client.until(b"END\r\n"), reply);
    eventually("the read is never counted as a hit", || {
        site.metric("emberline_l1_events_total{pool=\"main\",event=\"hit\"}") == 1.0
    });
    // The first client is to set it, and is told so at once.
    client.send(b"get missing\r\n");
    assert_eq!(client.until(b"\r\n"), b"END\r\n");
}

#[test]
fn readiness_waits_for_the_values_and_clients_do_not() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    server.freeze();
    let list = "emberline hot keys 1\nmain a\nmain b\n";
    let site = Site::start("redis", &server, "deadline = \"5m\"", "", list);
    let unready = site.ask("GET", "/readyz");
    assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
    assert!(unready.contains("preloading"), "{unready}");
    assert_eq!(site.proxy.client().call(&["PING"]), b"+PONG\r\n");
    server.thaw();
    site.is_ready();
    assert_eq!(site.preloaded("filled"), 2.0);
    assert_eq!(site.get("a"), bulk("old a"));
}

#[test]
fn no_server_delays_readiness_beyond_the_deadline() {
    let Some(mut server) = Server::redis() else {
        return;
    };
    fill(&server);
    let list = "emberline hot keys 1\nmain a\nmain b\n";
    let start = |server: &Server| {
        let site = Site::start("redis", server, "deadline = \"1s\"", "", list);
        site.is_ready();
        eventually("they are never counted", || site.preloaded("failed") == 2.0);
        site
    };
    server.freeze();
    drop(start(&server));
    server.kill();
    let site = start(&server);
    // They are hot all the same, and fetched by whoever reads them.
    assert_eq!(site.promoted(), 2.0);
    server.restart();
    fill(&server);
    eventually("the server never comes back", || {
        site.get("a") == bulk("old a")
    });
}

#[test]
fn files_that_are_no_sound_list_stop_nobody() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let long = format!("emberline hot keys 1\nmain {}\nmain a\n", "x".repeat(5000));
    let cases: [(&[u8], f64); 6] = [
        (b"", 0.0),
        (b"emberline hot", 0.0),
        (b"emberline hot keys 99\nmain a\n", 0.0),
        (
            b"emberline hot keys 1\n\xff\nmain a\ngone b\nmain \\x\nmain b\nmain torn",
            2.0,
        ),
        (b"emberline hot keys 1\nmain a\nmain a\nmain a\n", 1.0),
        (long.as_bytes(), 1.0),
    ];
    for (bytes, filled) in cases {
        let dir = TempDir::new();
        std::fs::write(dir.path().join("hot"), bytes).unwrap();
        let site = Site::begin("redis", &server, "deadline = \"5m\"", HOT, dir);
        site.is_ready();
        assert_eq!(site.preloaded("filled"), filled, "{}", show(bytes));
        assert_eq!(site.get("a"), bulk("old a"));
        // A new list takes its place.
        site.heat(&KEYS, redis_get);
        let site = site.restart("TERM", || {});
        assert!(site.preloaded("filled") >= 5.0, "{}", show(bytes));
    }
}

#[test]
fn what_is_somebody_elses_is_not_written_over() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let foreign = "[listeners.main]\n";
    let site = Site::start("redis", &server, "save_every = \"1s\"", HOT, foreign);
    site.is_ready();
    site.heat(&KEYS, redis_get);
    let site = site.restart("TERM", || {});
    assert_eq!(std::fs::read_to_string(site.list()).unwrap(), foreign);

    for make in ["mkdir", "mkfifo"] {
        let dir = TempDir::new();
        let path = dir.path().join("hot");
        let made = std::process::Command::new(make).arg(&path).status();
        assert!(made.unwrap().success());
        let site = Site::begin("redis", &server, "", HOT, dir);
        site.is_ready();
        site.heat(&KEYS, redis_get);
        let site = site.restart("TERM", || {});
        assert!(!site.list().is_file(), "{make}");
        assert_eq!(site.get("a"), bulk("old a"));
    }
}

#[test]
fn keys_that_nobody_reads_any_more_are_forgotten() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let list = "emberline hot keys 1\nmain a\nmain b\n";
    // Nobody asks the pool for anything.
    let site = Site::start("redis", &server, "hold = \"1s\"", "", list);
    site.is_ready();
    assert_eq!(site.preloaded("filled"), 2.0);
    eventually("they are never forgotten", || site.promoted() == 0.0);
    // Somebody does, for something else.
    let site = Site::start("redis", &server, "hold = \"1s\"", "", list);
    let mut client = site.proxy.client();
    eventually("they are never forgotten", || {
        client.call(&["GET", "changed"]);
        site.promoted() == 0.0
    });
    assert_eq!(site.get("a"), bulk("old a"));
}

#[test]
fn a_pool_that_does_not_answer_from_memory_is_left_alone() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(&server);
    let list = "emberline hot keys 1\nmain a\n";
    for mode in ["observe", "off"] {
        let more = format!("mode = \"{mode}\"\n{HOT}");
        let site = Site::start("redis", &server, "", &more, list);
        site.is_ready();
        assert_eq!(site.preloaded("skipped"), 1.0);
        assert_eq!(site.promoted(), 0.0);
        if mode == "observe" {
            site.heat(&KEYS, redis_get);
        }
        let site = site.restart("TERM", || {});
        assert_eq!(std::fs::read_to_string(site.list()).unwrap(), list);
    }
}

#[test]
fn values_are_fetched_within_the_bounds() {
    let Some(server) = Server::redis() else {
        return;
    };
    let mut direct = server.client();
    let large = "x".repeat(10_000);
    let mut list = "emberline hot keys 1\n".to_owned();
    for i in 0..100 {
        direct.call(&["SET", &format!("k{i}"), &large]);
        list.push_str(&format!("main k{i}\n"));
    }
    // One more than fits, as its size is not known before.
    let preload = "deadline = \"5m\", bytes_max = \"100000B\", keys_max = 50";
    let site = Site::start("redis", &server, preload, "", &list);
    site.is_ready();
    let filled = site.preloaded("filled");
    assert!((5.0..=10.0).contains(&filled), "{filled}");
    assert_eq!(site.preloaded("skipped"), 50.0 - filled);
    // Too large for the L1: hot, and the server's.
    let site = Site::start("redis", &server, "", "max_item = \"1000B\"", &list);
    site.is_ready();
    assert_eq!(site.preloaded("unfit"), 100.0);
    assert_eq!(site.get("k0"), bulk(&large));
}
