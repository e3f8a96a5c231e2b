//! Durable deletes, end to end: servers with their data on disk are killed,
//! keys deleted meanwhile, and everything comes back, the proxy too.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use support::{Client, Emberline, Server, TempDir, eventually, free_port, http, page, show};

/// A proxy before servers that keep what they have, and its delete log.
struct Site {
    proxy: Emberline,
    admin: SocketAddr,
    config: String,
    dir: TempDir,
}

impl Site {
    /// `log` is more of the log's table, `pool` of the pool's.
    fn start(protocol: &str, servers: &[Server], log: &str, pool: &str) -> Site {
        let dir = TempDir::new();
        let addresses: Vec<String> = servers
            .iter()
            .map(|at| format!("\"{}\"", at.address()))
            .collect();
        let config = format!(
            "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{}_BIND\"\nroute = \"main\"\n\
             [pools.main]\nprotocol = \"{protocol}\"\nservers = [{}]\n\
             probe_first = \"20ms\"\nprobe_last = \"50ms\"\n{pool}\n\
             delete_log = {{ path = \"{}\", {log} }}\n",
            protocol.to_uppercase(),
            addresses.join(", "),
            dir.path().join("deletes.log").display(),
        );
        Site::run(config, dir)
    }

    fn run(config: String, dir: TempDir) -> Site {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let bind = admin.to_string();
        let proxy = Emberline::config_with(&config, &["--workers", "2", "--admin-bind", &bind]);
        Site {
            proxy,
            admin,
            config,
            dir,
        }
    }

    /// `kill -9`, and another one; `between` sees the log.
    fn kill_and_restart(self, between: impl FnOnce(PathBuf)) -> Site {
        let Site {
            mut proxy,
            config,
            dir,
            ..
        } = self;
        proxy.signal("KILL");
        proxy.wait(Duration::from_secs(10)).unwrap();
        drop(proxy);
        between(dir.path().join("deletes.log"));
        Site::run(config, dir)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("deletes.log")
    }

    fn metric(&self, name: &str) -> f64 {
        self.metric_of("main", name)
    }

    fn metric_of(&self, pool: &str, name: &str) -> f64 {
        let answer = page(self.admin, "/metrics");
        let start = format!("emberline_delete_log_{name}{{pool=\"{pool}\"}} ");
        let line = answer.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {name} in {answer}"))
            .parse()
            .unwrap()
    }
}

/// Redis servers that write everything to disk before they answer.
fn persistent(count: usize) -> Option<Vec<Server>> {
    let aof = ["--appendonly", "yes", "--appendfsync", "always"];
    (0..count).map(|_| Server::redis_with(&aof)).collect()
}

/// Keys that live on this server, found by writing through the proxy.
fn keys_of(server: &Server, client: &mut Client, count: usize) -> Vec<String> {
    let mut own = server.client();
    let mut keys = Vec::new();
    for i in 0.. {
        let key = format!("{i}:some-key");
        assert_eq!(client.call(&["SET", &key, "old"]), b"+OK\r\n");
        if own.call(&["EXISTS", &key]) == b":1\r\n" {
            keys.push(key);
        }
        if keys.len() == count {
            break;
        }
    }
    keys
}

/// Until the proxy knows that the server is down: a read says so.
fn await_down(client: &mut Client, key: &str) {
    eventually("the server is not ejected", || {
        show(&client.call(&["GET", key])).contains("has been down for")
    });
}

#[test]
fn a_delete_outlives_its_servers_absence() {
    let Some(mut servers) = persistent(2) else {
        return;
    };
    let mut site = Site::start("redis", &servers, "", "");
    let mut client = site.proxy.client();
    let keys = keys_of(&servers[0], &mut client, 4);
    let elsewhere = keys_of(&servers[1], &mut client, 1);
    servers[0].kill();
    // The first finds out, the others know; UNLINK and several keys alike.
    assert_eq!(client.call(&["DEL", &keys[0]]), b":1\r\n");
    assert_eq!(client.call(&["UNLINK", &keys[1]]), b":1\r\n");
    assert_eq!(client.call(&["DEL", &keys[2], &elsewhere[0]]), b":2\r\n");
    assert_eq!(site.metric("appended_total"), 3.0);
    assert_eq!(site.metric("waiting"), 3.0);
    assert!(site.metric("bytes") > 100.0);
    // Nothing but deletes.
    let reply = show(&client.call(&["SET", &keys[3], "x"]));
    assert!(reply.starts_with("-ERR server"), "{reply}");
    let reply = show(&client.call(&["GETDEL", &keys[3]]));
    assert!(reply.starts_with("-ERR server"), "{reply}");

    servers[0].restart();
    let mut own = servers[0].client();
    eventually("the deletes are not applied", || {
        site.metric("waiting") == 0.0
    });
    for key in &keys[..3] {
        assert_eq!(own.call(&["EXISTS", key]), b":0\r\n", "{key}");
    }
    assert_eq!(own.call(&["EXISTS", &keys[3]]), b":1\r\n");
    assert_eq!(site.metric("replayed_total"), 3.0);
    assert_eq!(site.metric("bytes"), 8.0, "it is cut back");
    assert_eq!(std::fs::metadata(site.log()).unwrap().len(), 8);
    assert_eq!(site.metric("oldest_seconds"), 0.0);
    site.proxy.assert_alive();
}

/// From the moment the server is back: whoever reads a deleted key misses it,
/// and who writes it finds what was written.
#[test]
fn nothing_overtakes_a_delete_that_waits() {
    let Some(mut servers) = persistent(1) else {
        return;
    };
    let mut site = Site::start("redis", &servers, "", "");
    let (mut one, mut two) = (site.proxy.client(), site.proxy.client());
    let keys = keys_of(&servers[0], &mut one, 300);
    for round in 0..3 {
        servers[0].kill();
        await_down(&mut one, &keys[0]);
        for key in &keys {
            assert_eq!(one.call(&["DEL", key]), b":1\r\n");
        }
        servers[0].restart();
        let value = format!("new-{round}");
        // Both at once, on two workers; the last keys first, which are
        // replayed last.
        for (number, key) in keys.iter().enumerate().rev() {
            let client = if number % 2 == 0 { &mut one } else { &mut two };
            if number % 3 == 0 {
                eventually("it stays down", || {
                    let reply = client.call(&["GET", key]);
                    assert!(reply == b"$-1\r\n" || reply[0] == b'-', "{}", show(&reply));
                    reply == b"$-1\r\n"
                });
            }
            let (args, expected) = match number % 5 {
                0 => (vec!["APPEND", key, "x"], &b":1\r\n"[..]),
                1 => (vec!["MSET", key, &value], &b"+OK\r\n"[..]),
                _ => (vec!["SET", key, &value], &b"+OK\r\n"[..]),
            };
            eventually("it cannot be written", || {
                let reply = client.call(&args);
                assert!(reply == expected || reply[0] == b'-', "{}", show(&reply));
                reply == expected
            });
        }
        eventually("the deletes are not applied", || {
            site.metric("waiting") == 0.0
        });
        for (number, key) in keys.iter().enumerate() {
            let expected = if number % 5 == 0 { "x" } else { &value };
            let expected = format!("${}\r\n{expected}\r\n", expected.len());
            assert_eq!(show(&two.call(&["GET", key])), show(expected.as_bytes()));
        }
    }
    site.proxy.assert_alive();
}

/// Whoever is not woken waits for longer than its client does.
#[test]
fn all_who_wait_for_a_delete_are_woken_when_it_is_applied() {
    let Some(mut servers) = persistent(1) else {
        return;
    };
    let mut site = Site::start("redis", &servers, "", "request_timeout = \"60s\"");
    let mut client = site.proxy.client();
    let keys = keys_of(&servers[0], &mut client, 200);
    servers[0].kill();
    await_down(&mut client, &keys[0]);
    for key in &keys {
        assert_eq!(client.call(&["DEL", key]), b":1\r\n");
    }
    let read = |mut client: Client, first: usize| {
        for number in 0..keys.len() {
            let [one, other] = [0, 1].map(|next| &keys[(first + number + next) % keys.len()]);
            eventually("it stays down", || {
                let reply = show(&client.call(&["MGET", one, other]));
                assert!(!reply.contains("earlier delete"), "{reply}");
                reply == "*2\\r\\n$-1\\r\\n$-1\\r\\n"
            });
        }
    };
    std::thread::scope(|scope| {
        for first in 0..12 {
            let (client, read) = (site.proxy.client(), &read);
            scope.spawn(move || read(client, first * 7));
        }
        servers[0].restart();
    });
    assert_eq!(servers[0].client().call(&["DBSIZE"]), b":0\r\n");
    site.proxy.assert_alive();
}

#[test]
fn a_killed_proxy_forgets_no_delete() {
    let Some(mut servers) = persistent(1) else {
        return;
    };
    let site = Site::start("redis", &servers, "", "");
    let mut client = site.proxy.client();
    let keys = keys_of(&servers[0], &mut client, 50);
    servers[0].kill();
    for key in &keys {
        assert_eq!(client.call(&["DEL", key]), b":1\r\n");
    }
    let site = site.kill_and_restart(|_| {});
    assert_eq!(site.metric("waiting"), 50.0);
    assert!(site.metric("oldest_seconds") >= 0.0);
    servers[0].restart();
    eventually("the deletes are not applied", || {
        site.metric("waiting") == 0.0
    });
    assert_eq!(servers[0].client().call(&["DBSIZE"]), b":0\r\n");
    // What was applied is not applied again by the next process.
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["SET", &keys[0], "new"]), b"+OK\r\n");
    let mut site = site.kill_and_restart(|_| {});
    std::thread::sleep(Duration::from_millis(300));
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["GET", &keys[0]]), b"$3\r\nnew\r\n");
    site.proxy.assert_alive();
}

#[test]
fn a_torn_record_is_left_out_and_the_log_goes_on() {
    let Some(mut servers) = persistent(1) else {
        return;
    };
    let site = Site::start("redis", &servers, "", "");
    let mut client = site.proxy.client();
    let keys = keys_of(&servers[0], &mut client, 3);
    servers[0].kill();
    assert_eq!(client.call(&["DEL", &keys[0]]), b":1\r\n");
    assert_eq!(client.call(&["DEL", &keys[1]]), b":1\r\n");
    let site = site.kill_and_restart(|path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len - 3).unwrap();
    });
    assert_eq!(site.metric("waiting"), 1.0);
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["DEL", &keys[2]]), b":1\r\n");
    // Rubbish behind the last record is no record either.
    let mut site = site.kill_and_restart(|path| {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(&[0xff; 100]).unwrap();
    });
    assert_eq!(site.metric("waiting"), 2.0);
    servers[0].restart();
    eventually("the deletes are not applied", || {
        site.metric("waiting") == 0.0
    });
    let mut own = servers[0].client();
    let left = keys.iter().map(|key| own.call(&["EXISTS", key]));
    let left: Vec<String> = left.map(|reply| show(&reply)).collect();
    assert_eq!(left, [":0\\r\\n", ":1\\r\\n", ":0\\r\\n"]);
    site.proxy.assert_alive();
}

#[test]
fn a_full_log_gives_the_client_the_servers_error() {
    let Some(mut servers) = persistent(1) else {
        return;
    };
    let mut site = Site::start("redis", &servers, "bytes_max = \"4KiB\"", "");
    let mut client = site.proxy.client();
    let keys = keys_of(&servers[0], &mut client, 100);
    servers[0].kill();
    await_down(&mut client, &keys[0]);
    let replies: Vec<Vec<u8>> = keys.iter().map(|key| client.call(&["DEL", key])).collect();
    let taken = replies.iter().filter(|reply| **reply == b":1\r\n").count();
    let refused = replies
        .iter()
        .filter(|reply| reply.starts_with(b"-ERR server"));
    assert_eq!(taken + refused.count(), 100);
    assert!((30..100).contains(&taken), "{taken}");
    assert!(std::fs::metadata(site.log()).unwrap().len() <= 4096);
    assert_eq!(site.metric("dropped_total"), (100 - taken) as f64);
    // The same key again takes no more room in the end.
    for _ in 0..200 {
        let reply = client.call(&["DEL", &keys[0]]);
        assert!(reply == b":1\r\n" || reply[0] == b'-', "{}", show(&reply));
    }
    assert!(std::fs::metadata(site.log()).unwrap().len() <= 4096);
    servers[0].restart();
    eventually("the deletes are not applied", || {
        site.metric("waiting") == 0.0
    });
    let left = format!(":{}\r\n", 100 - taken);
    assert_eq!(servers[0].client().call(&["DBSIZE"]), left.as_bytes());
    site.proxy.assert_alive();
}

#[test]
fn a_delete_that_waits_for_too_long_is_dropped() {
    let Some(mut servers) = persistent(1) else {
        return;
    };
    let mut site = Site::start("redis", &servers, "age_max = \"1s\"", "");
    let mut client = site.proxy.client();
    let keys = keys_of(&servers[0], &mut client, 1);
    servers[0].kill();
    assert_eq!(client.call(&["DEL", &keys[0]]), b":1\r\n");
    eventually("it is not dropped", || site.metric("dropped_total") == 1.0);
    assert_eq!(site.metric("waiting"), 0.0);
    servers[0].restart();
    eventually("the server is not used again", || {
        client.call(&["GET", &keys[0]]) == b"$3\r\nold\r\n"
    });
    site.proxy.assert_alive();
}

/// A replica that is away takes part in a delete through its log, and a gutter
/// is told at once.
#[test]
fn a_delete_leg_of_a_route_is_durable() {
    let (Some(mut first), Some(second)) = (persistent(1), persistent(2)) else {
        return;
    };
    let dir = TempDir::new();
    let pool = |name: &str, server: &Server, more: &str| {
        format!(
            "[pools.{name}]\nprotocol = \"redis\"\nservers = [\"{}\"]\n\
             probe_first = \"20ms\"\nprobe_last = \"50ms\"\n{more}\n",
            server.address()
        )
    };
    let log = format!(
        "delete_log = \"{}\"\non_down = {{ gutter = \"spare\" }}",
        dir.path().join("deletes.log").display()
    );
    let config = [
        "[listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"copies\"\n\
         [routes.copies]\ntype = \"replicas\"\nchildren = [\"main\", \"other\"]\n",
        &pool("main", &first[0], &log),
        &pool("other", &second[0], ""),
        &pool("spare", &second[1], ""),
    ];
    let mut site = Site::run(config.concat(), dir);
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["SET", "k", "old"]), b"+OK\r\n");
    first[0].kill();
    eventually("the gutter does not take over", || {
        client.call(&["SET", "k", "new"]) == b"+OK\r\n"
    });
    let (mut other, mut spare) = (second[0].client(), second[1].client());
    assert_eq!(spare.call(&["EXISTS", "k"]), b":1\r\n");
    assert_eq!(client.call(&["DEL", "k"]), b":1\r\n");
    assert_eq!(other.call(&["EXISTS", "k"]), b":0\r\n");
    eventually("the gutter keeps it", || {
        spare.call(&["EXISTS", "k"]) == b":0\r\n"
    });
    first[0].restart();
    eventually("the delete is not applied", || {
        site.metric("waiting") == 0.0
    });
    assert_eq!(first[0].client().call(&["EXISTS", "k"]), b":0\r\n");
    site.proxy.assert_alive();
}

/// A timeout ejects nobody: the delete is applied as soon as the server reads
/// again, and nothing of that client overtakes it.
#[test]
fn a_delete_that_timed_out_is_applied_by_a_server_that_never_went_down() {
    let Some(servers) = persistent(1) else {
        return;
    };
    let mut site = Site::start(
        "redis",
        &servers,
        "",
        "request_timeout = \"200ms\"\nfailures = 1000",
    );
    let mut client = site.proxy.client();
    let keys = keys_of(&servers[0], &mut client, 1);
    servers[0].freeze();
    assert_eq!(client.call(&["DEL", &keys[0]]), b":1\r\n");
    servers[0].thaw();
    eventually("it cannot be written", || {
        client.call(&["SET", &keys[0], "new"]) == b"+OK\r\n"
    });
    eventually("the delete is not applied", || {
        site.metric("waiting") == 0.0
    });
    assert_eq!(client.call(&["GET", &keys[0]]), b"$3\r\nnew\r\n");
    site.proxy.assert_alive();
}

/// A frozen memcached keeps what it has.
#[test]
fn memcached_deletes_are_durable_in_both_dialects() {
    let Some(servers) = Server::memcached_many(1) else {
        return;
    };
    let mut site = Site::start("memcached", &servers, "", "request_timeout = \"200ms\"");
    let mut client = site.proxy.client();
    for key in ["a", "b", "c"] {
        let reply = client.ask(format!("set {key} 0 0 3\r\nold\r\n"));
        assert_eq!(reply, b"STORED\r\n");
    }
    // `two words` in base64.
    assert_eq!(client.ask("ms dHdvIHdvcmRz 3 b\r\nold\r\n"), b"HD\r\n");
    servers[0].freeze();
    assert_eq!(client.ask("delete a\r\n"), b"DELETED\r\n");
    assert_eq!(client.ask("md b\r\n"), b"HD\r\n");
    assert_eq!(client.ask("md dHdvIHdvcmRz b\r\n"), b"HD\r\n");
    servers[0].thaw();
    eventually("the deletes are not applied", || {
        site.metric("waiting") == 0.0
    });
    let mut own = servers[0].client();
    assert_eq!(own.ask("get a b c\r\n"), b"VALUE c 0 3\r\nold\r\nEND\r\n");
    assert_eq!(own.ask("mg dHdvIHdvcmRz b v\r\n"), b"EN\r\n");
    site.proxy.assert_alive();
}

#[test]
fn a_log_that_cannot_be_used_is_told_at_the_start() {
    let dir = TempDir::new();
    let path = dir.path().join("deletes.log");
    std::fs::write(&path, "something else entirely").unwrap();
    let config = dir.path().join("config.toml");
    let bind = free_port();
    let text = format!(
        "admin.bind = \"off\"\n\
         [listeners.main]\nprotocol = \"redis\"\nbind = \"127.0.0.1:{bind}\"\nroute = \"main\"\n\
         [pools.main]\nprotocol = \"redis\"\nservers = [\"127.0.0.1:1\"]\n\
         delete_log = \"deletes.log\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_emberline"))
        .arg("serve")
        .arg("-c")
        .arg(&config)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("pool \"main\": delete log"), "{said}");
    assert!(said.contains("no delete log"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), b"something else entirely");
}

/// A pool of these servers, which writes down what it cannot delete, or not.
struct Pool<'a> {
    name: &'a str,
    servers: &'a [&'a Server],
    logs: bool,
}

fn pool<'a>(name: &'a str, servers: &'a [&'a Server], logs: bool) -> Pool<'a> {
    Pool {
        name,
        servers,
        logs,
    }
}

/// A configuration with these pools; clients are led to the first.
fn with_pools(dir: &TempDir, pools: &[Pool<'_>]) -> String {
    let log = format!(
        "delete_log = \"{}\"\n",
        dir.path().join("deletes.log").display()
    );
    let mut text = format!(
        "[listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"{}\"\n",
        pools[0].name
    );
    for pool in pools {
        let addresses = pool
            .servers
            .iter()
            .map(|at| format!("\"{}\"", at.address()));
        text += &format!(
            "[pools.{}]\nprotocol = \"redis\"\nservers = [{}]\n\
             probe_first = \"20ms\"\nprobe_last = \"50ms\"\n{}",
            pool.name,
            addresses.collect::<Vec<_>>().join(", "),
            if pool.logs { &log } else { "" }
        );
    }
    text
}

impl Site {
    #[track_caller]
    fn reload(&self, config: &str) {
        self.proxy.rewrite(config);
        let (status, body) = http(self.admin, "POST", "/reload");
        assert_eq!(status, 200, "{body}");
    }
}

/// What waits is known by the log's path and the server's name, whatever else
/// a reload makes of the pool.
#[test]
fn deletes_that_wait_outlive_reloads() {
    let Some(mut servers) = persistent(3) else {
        return;
    };
    let dir = TempDir::new();
    let (down, others) = servers.split_at(1);
    let (a, b, c) = (&down[0], &others[0], &others[1]);
    let first = with_pools(&dir, &[pool("main", &[a, b], true)]);
    let later = [
        // Another order, another name, another pool before it, one more server.
        with_pools(
            &dir,
            &[
                pool("renamed", &[c, b, a], true),
                pool("before", &[b], false),
            ],
        ),
        // No log for a while: what waits stays where it is.
        with_pools(&dir, &[pool("renamed", &[c, b, a], false)]),
        with_pools(&dir, &[pool("renamed", &[c, b, a], true)]),
        // The path is another pool's.
        with_pools(
            &dir,
            &[
                pool("front", &[b, c], false),
                pool("main", &[a, c, b], true),
            ],
        ),
    ];
    let mut site = Site::run(first, dir);
    let mut client = site.proxy.client();
    let keys = keys_of(a, &mut client, 20);
    servers[0].kill();
    await_down(&mut client, &keys[0]);
    for key in &keys {
        assert_eq!(client.call(&["DEL", key]), b":1\r\n");
    }
    for config in &later {
        site.reload(config);
        if config.contains("delete_log") {
            let pool = match config.contains("[pools.renamed]") {
                true => "renamed",
                false => "main",
            };
            assert_eq!(site.metric_of(pool, "waiting"), 20.0, "{config}");
        }
    }
    let written = std::fs::metadata(site.log()).unwrap().len();
    assert!(written > 20 * 50, "{written}");
    servers[0].restart();
    eventually("the deletes are not applied", || {
        site.metric("waiting") == 0.0
    });
    assert_eq!(site.metric("replayed_total"), 20.0);
    let mut own = servers[0].client();
    for key in &keys {
        assert_eq!(own.call(&["EXISTS", key]), b":0\r\n", "{key}");
    }
    site.proxy.assert_alive();
}

#[test]
fn logs_that_come_and_go_leave_no_file_open() {
    let Some(mut servers) = persistent(2) else {
        return;
    };
    let dir = TempDir::new();
    let (a, b) = (&servers[0], &servers[1]);
    let config = |name, servers, logs| with_pools(&dir, &[pool(name, servers, logs)]);
    let configs = [
        config("main", &[a, b][..], true),
        config("main", &[b, a][..], false),
        config("other", &[b, a][..], true),
        config("other", &[a][..], true),
        config("main", &[a][..], false),
    ];
    let mut site = Site::run(configs[0].clone(), dir);
    let mut client = site.proxy.client();
    let keys = keys_of(a, &mut client, 5);
    servers[0].kill();
    await_down(&mut client, &keys[0]);
    for key in &keys {
        assert_eq!(client.call(&["DEL", key]), b":1\r\n");
    }
    let open = || {
        let pid = site.proxy.pid();
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let log = site.log();
        let paths = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        paths.filter(|path| *path == log).count()
    };
    assert_eq!(open(), 1);
    for config in configs.iter().cycle().skip(1).take(50) {
        site.reload(config);
        assert!(open() <= 1);
    }
    // The last of them has the log again, as the first did.
    eventually("it is open more than once", || open() == 1);
    assert_eq!(site.metric("waiting"), 5.0);
    servers[0].restart();
    eventually("the deletes are not applied", || {
        site.metric("waiting") == 0.0
    });
    site.reload(&configs[1]);
    eventually("a log that nobody has is open", || open() == 0);
    site.proxy.assert_alive();
}
