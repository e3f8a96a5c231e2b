//! Servers that go down and come up: who is asked nothing any more, what
//! clients are told, and what is not held against a server.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    Client, Emberline, Scripted, Server, command, drain_requests, eventually, free_port, page, show,
};

/// A proxy and where it tells how its servers are.
struct Site {
    proxy: Emberline,
    admin: SocketAddr,
}

impl Site {
    /// `workers` before one pool of these servers; `pool` is more of its table.
    fn start(protocol: &str, servers: &[SocketAddr], workers: usize, pool: &str) -> Site {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let servers: Vec<String> = servers.iter().map(|at| format!("\"{at}\"")).collect();
        let config = format!(
            "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{}_BIND\"\nroute = \"main\"\n\
             [pools.main]\nprotocol = \"{protocol}\"\nservers = [{}]\n{pool}\n",
            protocol.to_uppercase(),
            servers.join(", ")
        );
        let (workers, bind) = (workers.to_string(), admin.to_string());
        let more = ["--workers", &workers, "--admin-bind", &bind];
        Site {
            proxy: Emberline::config_with(&config, &more),
            admin,
        }
    }

    fn redis(servers: &[Server], pool: &str) -> Site {
        Site::start("redis", &support::addresses(servers), 2, pool)
    }

    /// What `/pools` says of a server, by its number.
    fn server(&self, number: usize) -> Value {
        let pools: Value = serde_json::from_str(&page(self.admin, "/pools")).unwrap();
        pools["pools"][0]["servers"][number].clone()
    }

    fn is_up(&self, number: usize) -> bool {
        self.server(number)["down"].is_null()
    }

    /// The sum of a family's series that mention all of `labels`.
    fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let text = page(self.admin, "/metrics");
        let lines = text.lines().filter(|line| {
            line.starts_with(&format!("{family}{{"))
                && labels.iter().all(|word| line.contains(word))
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// A key for each of these servers.
fn keys(servers: &[Server], client: &mut Client) -> Vec<String> {
    let mut own: Vec<Client> = servers.iter().map(Server::client).collect();
    let mut keys = vec![None; servers.len()];
    for number in 0.. {
        if keys.iter().all(Option::is_some) {
            break;
        }
        let key = format!("{number}:some-key");
        assert_eq!(client.call(&["SET", &key, &key]), b"+OK\r\n");
        let home = own
            .iter_mut()
            .position(|server| server.call(&["EXISTS", &key]) == b":1\r\n");
        keys[home.unwrap()].get_or_insert(key);
    }
    keys.into_iter().flatten().collect()
}

fn get(client: &mut Client, key: &str) -> String {
    show(&client.call(&["GET", key]))
}

#[test]
fn a_killed_server_is_down_at_once_for_everybody_and_up_after_a_probe() {
    let Some(mut servers) = Server::redis_many(3) else {
        return;
    };
    let mut site = Site::redis(&servers, "request_timeout = \"30s\"");
    // Each on its own worker.
    let (mut one, mut two) = (site.proxy.client(), site.proxy.client());
    let keys = keys(&servers, &mut one);
    assert_eq!(two.call(&["PING"]), b"+PONG\r\n");
    assert!(site.is_up(0));

    servers[0].kill();
    let down = format!("-ERR server {} has been down for ", servers[0].address());
    eventually("the server is not ejected", || {
        get(&mut one, &keys[0]).starts_with(&down)
    });
    // The other worker has never tried, and need not.
    let connects = site.server(0)["connects_failed"].clone();
    for _ in 0..500 {
        for client in [&mut one, &mut two] {
            let reply = get(client, &keys[0]);
            assert!(reply.starts_with(&down), "{reply}");
            assert!(reply.contains("refused"), "{reply}");
            let reply = get(client, &keys[1]);
            assert!(
                reply.ends_with(&format!("\\r\\n{}\\r\\n", keys[1])),
                "{reply}"
            );
        }
    }
    let shown = site.server(0);
    assert_eq!(shown["connects_failed"], connects, "it was tried again");
    assert_eq!(shown["state"], "down");
    assert_eq!(shown["down"]["ejected"], true);
    assert!(shown["down"]["why"].as_str().unwrap().contains("refused"));
    assert!(shown["down"]["since_unix_ms"].is_u64(), "{shown}");
    assert!(shown["down"]["next_probe_ms"].is_u64(), "{shown}");
    let name = format!("server=\"{}\"", servers[0].address());
    let counted = |family: &str, more: &str| site.metric(family, &[&name, more]);
    assert_eq!(counted("emberline_upstream_ejections_total", ""), 1.0);
    assert_eq!(counted("emberline_upstream_health", ""), 0.0);
    eventually("no probe was counted", || {
        site.metric("emberline_upstream_probes_total", &["result=\"error\""]) > 0.0
    });

    // Nobody asks for anything: a probe finds out.
    servers[0].restart();
    eventually("no probe finds it", || site.is_up(0));
    let counted = |family: &str, more: &str| site.metric(family, &[&name, more]);
    assert_eq!(
        site.metric("emberline_upstream_probes_total", &["result=\"ok\""]),
        1.0
    );
    assert_eq!(counted("emberline_upstream_health", ""), 1.0);
    for client in [&mut one, &mut two] {
        assert_eq!(client.call(&["SET", &keys[0], "again"]), b"+OK\r\n");
    }
    site.proxy.assert_alive();
}

#[test]
fn a_killed_memcached_is_down_and_up_again() {
    let Some(mut servers) = Server::memcached_many(1) else {
        return;
    };
    let mut site = Site::start("memcached", &support::addresses(&servers), 1, "");
    let mut client = site.proxy.client();
    assert_eq!(client.ask("set k 0 0 1\r\nx\r\n"), b"STORED\r\n");
    servers[0].kill();
    let down = format!("SERVER_ERROR server {} has been down", servers[0].address());
    eventually("the server is not ejected", || {
        client.ask("get k\r\n").starts_with(down.as_bytes())
    });
    servers[0].restart();
    eventually("no probe finds it", || site.is_up(0));
    assert_eq!(client.ask("get k\r\n"), b"END\r\n");
    site.proxy.assert_alive();
}

#[test]
fn a_frozen_server_is_ejected_after_three_timeouts() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut site = Site::redis(&servers, "request_timeout = \"200ms\"");
    let mut client = site.proxy.client();
    let keys = keys(&servers, &mut client);
    servers[0].freeze();
    let timeout = format!(
        "-ERR server {} did not answer in time\\r\\n",
        servers[0].address()
    );
    let mut late = 0;
    eventually("the server is not ejected", || {
        let reply = get(&mut client, &keys[0]);
        late += usize::from(reply == timeout);
        reply.contains(" has been down for ")
    });
    assert_eq!(late, 3, "requests that had to wait");
    assert_eq!(site.server(0)["timeouts"], 3);
    let reply = get(&mut client, &keys[0]);
    assert!(
        reply.ends_with(": it did not answer in time\\r\\n"),
        "{reply}"
    );
    servers[0].thaw();
    eventually("no probe finds it", || site.is_up(0));
    assert!(get(&mut client, &keys[0]).starts_with('$'));
    site.proxy.assert_alive();
}

#[test]
fn many_requests_behind_one_that_is_slow_are_one_timeout() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut site = Site::redis(&servers, "request_timeout = \"300ms\"");
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["SET", "k", "v"]), b"+OK\r\n");
    servers[0].freeze();
    client.send(&command(&["GET", "k"]).repeat(50));
    for _ in 0..50 {
        let reply = show(&client.reply());
        assert!(reply.contains("did not answer in time"), "{reply}");
    }
    servers[0].thaw();
    assert_eq!(site.server(0)["timeouts"], 50);
    assert_eq!(site.server(0)["ejections"], 0);
    assert!(site.is_up(0));
    site.proxy.assert_alive();
}

#[test]
fn when_half_of_a_pool_is_down_nobody_is_ejected() {
    let Some(mut servers) = Server::redis_many(4) else {
        return;
    };
    let mut site = Site::redis(&servers, "");
    let mut client = site.proxy.client();
    let keys = keys(&servers, &mut client);
    servers[0].kill();
    eventually("one server of four is not ejected", || {
        get(&mut client, &keys[0]).contains(" has been down for ")
    });
    servers[1].kill();
    // It is still tried, and fails only because nobody listens there.
    for key in [&keys[1], &keys[0]] {
        eventually("half of the pool is ejected", || {
            get(&mut client, key).contains(" cannot be reached: Connection refused")
        });
    }
    for number in 0..2 {
        eventually("the pool does not panic", || {
            site.server(number)["down"]["ejected"] == false
        });
    }
    for (number, key) in keys.iter().enumerate().skip(2) {
        let reply = get(&mut client, key);
        assert!(reply.starts_with('$'), "{number}: {reply}");
    }

    servers[1].restart();
    eventually("the other one is not ejected again", || {
        site.is_up(1) && get(&mut client, &keys[0]).contains(" has been down for ")
    });
    eventually("the server is not used again", || {
        get(&mut client, &keys[1]) == "$-1\\r\\n"
    });
    site.proxy.assert_alive();
}

#[test]
fn who_waits_too_long_for_a_busy_server_does_not_eject_it() {
    // Every request takes a third of the time that one may take, and only one
    // at a time is let through: the last of many would wait far too long.
    let server = Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, _| {
            std::thread::sleep(Duration::from_millis(200));
            stream.write_all(b"$1\r\nv\r\n").is_ok()
        });
    });
    let pool = "request_timeout = \"600ms\"\ninflight_max = 1\nconnections = 4";
    let mut site = Site::start("redis", &[server.address()], 1, pool);
    let mut clients: Vec<Client> = (0..12).map(|_| site.proxy.client()).collect();
    for client in &mut clients {
        client.send(&command(&["GET", "hot"]).repeat(2));
    }
    let (mut answered, mut queued) = (0, 0);
    let told = format!(
        "-ERR server {} has 1 requests in flight: this one was not sent in time\\r\\n",
        server.address()
    );
    for client in &mut clients {
        for _ in 0..2 {
            match show(&client.reply()) {
                reply if reply == "$1\\r\\nv\\r\\n" => answered += 1,
                reply if reply == told => queued += 1,
                reply => panic!("{reply}"),
            }
        }
    }
    assert!(answered > 0 && queued > 0, "{answered} and {queued}");
    let shown = site.server(0);
    assert_eq!(shown["ejections"], 0, "{shown}");
    assert_eq!(shown["timeouts"], 0, "{shown}");
    assert_eq!(shown["inflight"], 0, "{shown}");
    // Who comes later finds it free.
    assert_eq!(get(&mut clients[0], "hot"), "$1\\r\\nv\\r\\n");
    site.proxy.assert_alive();
}

#[test]
fn the_limit_of_requests_in_flight_is_over_all_connections() {
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let now = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (seen, busy) = (Arc::clone(&most), Arc::clone(&now));
    let server = Scripted::start(move |mut stream, _| {
        drain_requests(&mut stream, |stream, _| {
            seen.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            busy.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(b"$1\r\nv\r\n").is_ok()
        });
    });
    let pool = "request_timeout = \"20s\"\ninflight_max = 2\nconnections = 8";
    let site = Site::start("redis", &[server.address()], 1, pool);
    let mut clients: Vec<Client> = (0..16).map(|_| site.proxy.client()).collect();
    for client in &mut clients {
        client.send(&command(&["GET", "k"]).repeat(5));
    }
    for client in &mut clients {
        for _ in 0..5 {
            assert_eq!(show(&client.reply()), "$1\\r\\nv\\r\\n");
        }
    }
    assert!(server.connections() > 2, "{}", server.connections());
    assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
}

#[test]
fn an_upload_ends_although_it_is_all_that_is_allowed() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let site = Site::redis(&servers, "request_timeout = \"20s\"\ninflight_max = 1");
    let mut client = site.proxy.client();
    let value = vec![b'x'; 8 << 20];
    for _ in 0..3 {
        let reply = client.call(&[b"SET".as_slice(), b"k", &value]);
        assert_eq!(show(&reply), "+OK\\r\\n");
        assert_eq!(client.call(&["STRLEN", "k"]), b":8388608\r\n");
    }
}

#[test]
fn a_server_without_resp3_is_not_ejected_by_those_who_want_it() {
    let server = Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, args| {
            let reply: &[u8] = match args[0].as_slice() {
                b"HELLO" => b"-ERR unknown command 'HELLO'\r\n",
                _ => b"$1\r\nv\r\n",
            };
            stream.write_all(reply).is_ok()
        });
    });
    let site = Site::start("redis", &[server.address()], 1, "");
    let (mut modern, mut plain) = (site.proxy.client(), site.proxy.client());
    assert!(modern.call(&["HELLO", "3"]).starts_with(b"%"));
    let mut refused = 0;
    eventually("its refusal is not passed on", || {
        refused += usize::from(get(&mut modern, "k").contains("refused the handshake"));
        refused > 20
    });
    assert_eq!(site.server(0)["ejections"], 0);
    eventually("others are not served", || {
        get(&mut plain, "k") == "$1\\r\\nv\\r\\n"
    });
}

/// Its refusal is a matter between it and those who want RESP3.
#[test]
fn who_wants_resp3_of_an_old_server_holds_up_nobody_else() {
    let Some(server) = Server::redis_with(&["--rename-command", "HELLO", ""]) else {
        return;
    };
    let site = Site::start("redis", &[server.address()], 1, "connections = 8");
    let mut modern = site.proxy.client();
    assert!(modern.call(&["HELLO", "3"]).starts_with(b"%"));
    for round in 0..24 {
        eventually("it is not refused", || {
            get(&mut modern, "k").contains("refused the handshake")
        });
        // Most of them need a connection of their own.
        let mut plain = site.proxy.client();
        assert_eq!(get(&mut plain, "k"), "$-1\\r\\n", "round {round}");
        assert_eq!(site.server(0)["state"], "up");
    }
    assert_eq!(site.server(0)["ejections"], 0);
}

/// Redis lets the connection come, says that it has enough of them, and hangs up.
#[test]
fn a_server_at_its_maxclients_is_neither_stormed_nor_ejected() {
    let Some(server) = Server::redis_with(&["--maxclients", "3"]) else {
        return;
    };
    let mut site = Site::start("redis", &[server.address()], 1, "");
    let mut own: Vec<Client> = Vec::new();
    eventually("nobody of its own gets in", || {
        let mut one = server.client();
        if one.call(&["PING"]) == b"+PONG\r\n" {
            own.push(one);
        }
        own.len() == 3
    });
    let mut client = site.proxy.client();
    let full = format!(
        "-ERR server {} cannot be reached: it said -ERR max number of clients reached\\r\\n",
        server.address()
    );
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(get(&mut client, "k"), full);
        asked += 1;
    }
    let info = String::from_utf8(own[0].call(&["INFO", "stats"])).unwrap();
    let count = info
        .lines()
        .find_map(|line| line.strip_prefix("rejected_connections:"));
    let count: u64 = count.unwrap().parse().unwrap();
    assert!(count < 30, "{count} connects for {asked} requests");
    assert_eq!(site.server(0)["ejections"], 0);
    drop(own);
    eventually("it is not used when it has room", || {
        get(&mut client, "k") == "$-1\\r\\n"
    });
    site.proxy.assert_alive();
}

/// A long reply may have begun before all others were late.
#[test]
fn the_end_of_a_reply_that_was_asked_for_before_does_not_restore_a_server() {
    let (ends, ended) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (stop, stopped) = (Arc::clone(&ends), Arc::clone(&ended));
    let server = Scripted::start(move |mut stream, _| {
        drain_requests(&mut stream, |stream, args| {
            if args.get(1).is_none_or(|key| key != b"long") {
                return true;
            }
            let _ = stream.write_all(b"$100000\r\n");
            for _ in 0..99_999 {
                if !stop.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                let _ = stream.write_all(b"x");
            }
            let whole = stream.write_all(b"x\r\n").is_ok();
            stopped.store(true, Ordering::SeqCst);
            whole
        });
    });
    let pool =
        "request_timeout = \"400ms\"\nconnections = 8\nprobe_first = \"1m\"\nprobe_last = \"1m\"";
    let mut site = Site::start("redis", &[server.address()], 1, pool);
    let mut reader = site.proxy.client();
    reader.send(&command(&["GET", "long"]));
    eventually("it is not asked", || server.connections() > 0);
    let mut clients: Vec<Client> = (0..7).map(|_| site.proxy.client()).collect();
    eventually("it is not ejected", || {
        for client in &mut clients {
            client.send(&command(&["GET", "k"]));
        }
        clients.iter_mut().for_each(|client| drop(client.reply()));
        !site.is_up(0)
    });
    ends.store(true, Ordering::SeqCst);
    assert_eq!(reader.reply().len(), "$100000\r\n\r\n".len() + 100_000);
    assert!(ended.load(Ordering::SeqCst));
    assert!(
        !site.is_up(0),
        "what was asked before it went down is no news"
    );
    site.proxy.assert_alive();
}

/// Nobody else is to blame when the proxy may open nothing more.
#[test]
fn a_proxy_without_descriptors_says_so_and_ejects_nobody() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut site = Site::redis(&servers, "");
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["PING"]), b"+PONG\r\n");
    let limit = |files: usize| {
        let pid = site.proxy.pid().to_string();
        let limit = format!("--nofile={files}:");
        let mut command = std::process::Command::new("prlimit");
        command.args(["--pid", &pid, &limit]).status()
    };
    // What is open stays so.
    if !limit(3).is_ok_and(|status| status.success()) {
        eprintln!("skipped: prlimit is not installed");
        return;
    }
    let told = format!(
        "-ERR the proxy cannot connect to server {}: Too many open files",
        servers[0].address()
    );
    for _ in 0..20 {
        let reply = get(&mut client, "k");
        assert!(reply.starts_with(&told), "{reply}");
    }
    assert!(limit(1024).unwrap().success());
    let shown = site.server(0);
    assert_eq!(shown["ejections"], 0, "{shown}");
    assert_eq!(shown["connects_failed"], 0, "{shown}");
    eventually("it does not connect when it may", || {
        get(&mut client, "k") == "$-1\\r\\n"
    });
    site.proxy.assert_alive();
}

#[test]
fn a_server_that_hangs_up_when_idle_is_not_blamed() {
    let server = Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, _| {
            let _ = stream.write_all(b"$1\r\nv\r\n");
            false
        });
    });
    let site = Site::start("redis", &[server.address()], 1, "");
    let mut client = site.proxy.client();
    for round in 0..5 {
        let before = server.connections();
        eventually("it is not asked again", || {
            get(&mut client, "k") == "$1\\r\\nv\\r\\n"
        });
        assert!(server.connections() > before);
        // From the second on the next connect waits, but that is all.
        eventually("the hang-up is not seen", || {
            round == 0 || site.server(0)["state"] == "down"
        });
    }
    assert_eq!(site.server(0)["ejections"], 0);
}

#[test]
fn a_live_reply_ends_a_panic_before_any_probe_does() {
    // Two servers that say nothing for a while, and then everything. Probes
    // are never answered: they are the connections that begin with PING.
    let talks = Arc::new(AtomicBool::new(false));
    let start = || {
        let talks = Arc::clone(&talks);
        Scripted::start(move |mut stream, _| {
            drain_requests(&mut stream, |stream, args| {
                let silent = args[0] == b"PING" || !talks.load(Ordering::SeqCst);
                silent || stream.write_all(b"$1\r\nv\r\n").is_ok()
            });
        })
    };
    let (one, two) = (start(), start());
    let pool = "request_timeout = \"100ms\"";
    let site = Site::start("redis", &[one.address(), two.address()], 1, pool);
    let mut client = site.proxy.client();
    let keys: Vec<String> = (0..16)
        .map(|number| format!("{}:key", number * 7919))
        .collect();
    eventually("they do not go down", || {
        for key in &keys {
            client.send(&command(&["GET", key]));
        }
        keys.iter().for_each(|_| drop(client.reply()));
        !site.is_up(0) && !site.is_up(1)
    });
    assert_eq!(site.server(0)["down"]["ejected"], false);
    talks.store(true, Ordering::SeqCst);
    // The first that answers ends the panic, and the other is ejected for good.
    eventually("no answer is heard", || {
        for key in &keys {
            client.send(&command(&["GET", key]));
        }
        keys.iter().for_each(|_| drop(client.reply()));
        site.is_up(0) || site.is_up(1)
    });
    assert_eq!(
        site.metric("emberline_upstream_probes_total", &["result=\"ok\""]),
        0.0
    );
}
