//! Promoted keys through the whole proxy: answered from memory, never older
//! than what the client's own requests have done, and as the server would
//! have said it.

#![allow(clippy::unwrap_used)]

mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Client, Emberline, Server, show};

/// One listener over these servers; `more` is the rest of the configuration.
fn proxy(protocol: &str, servers: &[Server], more: &str) -> Emberline {
    let bind = format!("{}_BIND", protocol.to_uppercase());
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("\"{}\"", server.address()))
        .collect();
    let servers = servers.join(", ");
    Emberline::config(&format!(
        "[proxy]\nworkers = 2\n\
         [listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{bind}\"\nroute = \"main\"\n\
         [pools.main]\nprotocol = \"{protocol}\"\nservers = [{servers}]\n\
         request_timeout = \"4s\"\n{more}"
    ))
}

fn redis(servers: &[Server], mode: &str) -> Emberline {
    let more = format!(
        "[hotkey]\nalways = [\"hot\", \"hotter\", \"list\", \"gone\"]\n[l1]\nmode = \"{mode}\"\n"
    );
    proxy("redis", servers, &more)
}

/// How often a command was called on a server.
fn calls(server: &Server, command: &str) -> u64 {
    let stats = server.client().call(&["INFO", "commandstats"]);
    let stats = String::from_utf8_lossy(&stats).into_owned();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

/// Ask until the answer is this, for a while.
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(5));
    }
}

fn get(client: &mut Client, key: &str) -> String {
    show(&client.call(&["GET", key]))
}

#[test]
fn a_hot_key_costs_its_server_almost_nothing() {
    for mode in ["ttl", "tracking"] {
        let Some(server) = Server::redis() else {
            return;
        };
        server.client().call(&["SET", "hot", "value"]);
        let proxy = redis(std::slice::from_ref(&server), mode);
        let mut clients = [proxy.client(), proxy.client(), proxy.client()];
        let before = calls(&server, "get");
        for _ in 0..2000 {
            for client in &mut clients {
                assert_eq!(get(client, "hot"), "$5\\r\\nvalue\\r\\n", "{mode}");
            }
        }
        let asked = calls(&server, "get") - before;
        assert!(asked < 100, "{mode}: the server was asked {asked} times");
    }
}

#[test]
fn a_client_reads_what_it_wrote_in_the_order_in_which_it_asked() {
    for mode in ["ttl", "tracking"] {
        let Some(server) = Server::redis() else {
            return;
        };
        let proxy = redis(std::slice::from_ref(&server), mode);
        let mut client = proxy.client();
        let mut other = proxy.client();
        for round in 0..300 {
            let (a, b) = (format!("a{round}"), format!("b{round}"));
            let mut requests = Vec::new();
            for args in [
                ["GET", "hot", ""].as_slice(),
                &["SET", "hot", &a],
                &["GET", "hot"],
                &["APPEND", "hot", "+"],
                &["GET", "hot"],
                &["MGET", "cold", "hot"],
                &["SET", "hot", &b],
            ] {
                let args: Vec<&str> = args.iter().copied().filter(|arg| !arg.is_empty()).collect();
                requests.extend(support::command(&args));
            }
            client.send(&requests);
            let replies: Vec<String> = (0..7).map(|_| show(&client.reply())).collect();
            let before = if round == 0 {
                "$-1\\r\\n".to_owned()
            } else {
                let before = format!("b{}", round - 1);
                format!("${}\\r\\n{before}\\r\\n", before.len())
            };
            let length = a.len() + 1;
            let expected = [
                before,
                "+OK\\r\\n".to_owned(),
                format!("${}\\r\\n{a}\\r\\n", a.len()),
                format!(":{length}\\r\\n"),
                format!("${length}\\r\\n{a}+\\r\\n"),
                format!("*2\\r\\n$-1\\r\\n${length}\\r\\n{a}+\\r\\n"),
                "+OK\\r\\n".to_owned(),
            ];
            assert_eq!(replies, expected, "{mode}, round {round}");
            let expected = format!("${}\\r\\n{b}\\r\\n", b.len());
            assert_eq!(get(&mut other, "hot"), expected, "{mode}, round {round}");
        }
    }
}

#[test]
fn what_empties_all_servers_does_not_overtake_a_read_that_waits() {
    let (Some(one), Some(two)) = (Server::redis(), Server::redis()) else {
        return;
    };
    let servers = [one, two];
    let proxy = redis(&servers, "ttl");
    let mut client = proxy.client();
    for round in 0..100 {
        let mut requests = support::command(&["SET", "hot", "value"]);
        requests.extend(support::command(&["GET", "hot"]));
        requests.extend(support::command(&["FLUSHALL"]));
        requests.extend(support::command(&["GET", "hot"]));
        client.send(&requests);
        let replies: Vec<String> = (0..4).map(|_| show(&client.reply())).collect();
        let expected = ["+OK\\r\\n", "$5\\r\\nvalue\\r\\n", "+OK\\r\\n", "$-1\\r\\n"];
        assert_eq!(replies, expected, "round {round}");
    }
}

#[test]
fn every_way_of_writing_is_seen_at_once() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = redis(std::slice::from_ref(&server), "ttl");
    let mut writer = proxy.client();
    let mut reader = proxy.client();
    let script = "return redis.call('SET', KEYS[1], 'script')";
    let writes: [(&[&str], &str); 12] = [
        (&["SET", "hot", "1"], "$1\\r\\n1\\r\\n"),
        (&["INCR", "hot"], "$1\\r\\n2\\r\\n"),
        (&["GETSET", "hot", "set"], "$3\\r\\nset\\r\\n"),
        (&["MSET", "hot", "many", "cold", "x"], "$4\\r\\nmany\\r\\n"),
        (&["DEL", "hot"], "$-1\\r\\n"),
        (&["SETNX", "hot", "nx"], "$2\\r\\nnx\\r\\n"),
        (&["COPY", "cold", "hot", "REPLACE"], "$1\\r\\nx\\r\\n"),
        (&["EVAL", script, "1", "hot"], "$6\\r\\nscript\\r\\n"),
        (&["RENAME", "cold", "hot"], "$1\\r\\nx\\r\\n"),
        (&["SETRANGE", "hot", "0", "y"], "$1\\r\\ny\\r\\n"),
        (&["GETDEL", "hot"], "$-1\\r\\n"),
        (&["FLUSHALL"], "$-1\\r\\n"),
    ];
    for round in 0..20 {
        for (write, expected) in &writes {
            get(&mut reader, "hot");
            get(&mut reader, "hot");
            writer.call(write);
            assert_eq!(
                get(&mut reader, "hot"),
                *expected,
                "{write:?}, round {round}"
            );
        }
    }
}

#[test]
fn another_writer_is_heard_within_a_push() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = redis(std::slice::from_ref(&server), "tracking");
    let mut direct = server.client();
    let mut reader = proxy.client();
    for round in 0..50 {
        let value = format!("v{round}");
        direct.call(&["SET", "hot", &value]);
        let expected = format!("${}\\r\\n{value}\\r\\n", value.len());
        eventually("the push did not come", || {
            get(&mut reader, "hot") == expected
        });
    }
    direct.call(&["SET", "hot", "last"]);
    eventually("no push", || {
        get(&mut reader, "hot") == "$4\\r\\nlast\\r\\n"
    });
    direct.call(&["FLUSHALL"]);
    eventually("no push", || get(&mut reader, "hot") == "$-1\\r\\n");
}

#[test]
fn what_memory_cannot_keep_is_the_servers() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = redis(std::slice::from_ref(&server), "tracking");
    let mut client = proxy.client();
    client.call(&["RPUSH", "list", "a"]);
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\\r\\n";
    for _ in 0..20 {
        assert_eq!(get(&mut client, "list"), wrong);
        assert_eq!(
            show(&client.call(&["MGET", "list", "hot"])),
            "*2\\r\\n$-1\\r\\n$-1\\r\\n"
        );
    }
    let large = "x".repeat(300 * 1024);
    client.call(&["SET", "hot", &large]);
    for _ in 0..20 {
        let reply = client.call(&["GET", "hot"]);
        assert_eq!(reply.len(), large.len() + "$307200\r\n\r\n".len());
    }
    client.call(&["SET", "hot", "small"]);
    assert_eq!(get(&mut client, "hot"), "$5\\r\\nsmall\\r\\n");
}

#[test]
fn both_versions_of_resp_read_the_same_entry() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = redis(std::slice::from_ref(&server), "ttl");
    let (mut two, mut three) = (proxy.client(), proxy.client());
    three.call(&["HELLO", "3"]);
    two.call(&["SET", "hot", "v"]);
    for _ in 0..10 {
        assert_eq!(get(&mut two, "hot"), "$1\\r\\nv\\r\\n");
        assert_eq!(get(&mut three, "hot"), "$1\\r\\nv\\r\\n");
        assert_eq!(get(&mut two, "gone"), "$-1\\r\\n");
        assert_eq!(get(&mut three, "gone"), "_\\r\\n");
        let both = ["MGET", "gone", "hot", "cold", "hot"];
        assert_eq!(
            show(&two.call(&both)),
            "*4\\r\\n$-1\\r\\n$1\\r\\nv\\r\\n$-1\\r\\n$1\\r\\nv\\r\\n"
        );
        assert_eq!(
            show(&three.call(&both)),
            "*4\\r\\n_\\r\\n$1\\r\\nv\\r\\n_\\r\\n$1\\r\\nv\\r\\n"
        );
    }
}

#[test]
fn an_entry_never_outlives_its_key() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = redis(std::slice::from_ref(&server), "ttl");
    let mut client = proxy.client();
    let mut direct = server.client();
    for _ in 0..5 {
        client.call(&["SET", "hot", "v", "PX", "150"]);
        while get(&mut client, "hot") != "$-1\\r\\n" {
            // Asked after: what was served before must still have been there.
            assert!(direct.call(&["PTTL", "hot"]) != b":-1\r\n");
        }
        assert_eq!(show(&direct.call(&["GET", "hot"])), "$-1\\r\\n");
    }
}

#[test]
fn a_server_that_dies_takes_what_was_tracked_with_it() {
    let Some(mut server) = Server::redis() else {
        return;
    };
    let proxy = redis(std::slice::from_ref(&server), "tracking");
    let mut client = proxy.client();
    client.call(&["SET", "hot", "before"]);
    for _ in 0..10 {
        assert_eq!(get(&mut client, "hot"), "$6\\r\\nbefore\\r\\n");
    }
    server.kill();
    eventually("it is served still", || {
        get(&mut client, "hot").starts_with("-ERR")
    });
    server.restart();
    eventually("it is not served again", || {
        get(&mut client, "hot") == "$-1\\r\\n"
    });
    client.call(&["SET", "hot", "after"]);
    assert_eq!(get(&mut client, "hot"), "$5\\r\\nafter\\r\\n");
}

#[test]
fn increments_in_flight_are_added_up_and_each_gets_its_own_sum() {
    let Some(server) = Server::redis() else {
        return;
    };
    let more = "[hotkey]\nalways = [\"counter\"]\ncombine_increments = true\n";
    let proxy = proxy("redis", std::slice::from_ref(&server), more);
    let per_client = 500;
    let mut seen: Vec<i64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mut client = proxy.client();
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    for _ in 0..per_client / 5 {
                        let request = support::command(&["INCR", "counter"]).repeat(5);
                        client.send(&request);
                        let replies: Vec<i64> = (0..5)
                            .map(|_| {
                                let reply = client.reply();
                                std::str::from_utf8(&reply[1..reply.len() - 2])
                                    .unwrap()
                                    .parse()
                                    .unwrap()
                            })
                            .collect();
                        assert!(replies.is_sorted(), "{replies:?}");
                        seen.extend(replies);
                    }
                    seen
                })
            })
            .collect();
        let clients = clients.into_iter();
        clients.flat_map(|client| client.join().unwrap()).collect()
    });
    seen.sort_unstable();
    let all: Vec<i64> = (1..=8 * per_client).collect();
    assert_eq!(seen, all, "every sum is given once");
    let asked = calls(&server, "incrby");
    assert!(asked > 0, "none travelled together");
    // What one of them would be refused, each is refused alone.
    let mut client = proxy.client();
    client.call(&["SET", "counter", "text"]);
    client.send(&support::command(&["INCR", "counter"]).repeat(4));
    for _ in 0..4 {
        assert!(client.reply().starts_with(b"-ERR value is not an integer"));
    }
}

/// What a server does not take for a number is none in anybody's company.
#[test]
fn what_is_no_number_travels_with_no_other() {
    let Some(server) = Server::redis() else {
        return;
    };
    let more = "[hotkey]\nalways = [\"counter\"]\ncombine_increments = true\n";
    let proxy = proxy("redis", std::slice::from_ref(&server), more);
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for round in 0..100 {
        for (at, client) in clients.iter_mut().enumerate() {
            let number = if at < 4 {
                "1"
            } else {
                ["+1", "01", "-0", "+0"][at - 4]
            };
            client.send(&support::command(&["INCRBY", "counter", number]));
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let reply = show(&client.reply());
            let expected = if at < 4 { ":" } else { "-ERR value is not" };
            assert!(reply.starts_with(expected), "{round}, {at}: {reply}");
        }
    }
    let count = show(&server.client().call(&["GET", "counter"]));
    assert_eq!(count, "$3\\r\\n400\\r\\n");
}
