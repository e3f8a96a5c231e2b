//! Keys that are split over several servers, through the whole proxy.

#![allow(clippy::unwrap_used)]

mod serving_support;
mod support;

use std::time::{Duration, Instant};

use serving_support::{Proxy, bulk, calls, eventually, get};
use support::{Client, Server, command, show};

/// Ways in which memory does not carry the key `hot`.
const MODES: [&str; 2] = [
    "mode = \"off\"",
    "mode = \"ttl\"\nttl = \"20s\"\nmax_item = \"4B\"",
];

/// `hot` has copies on two servers more. What the L1 says is `l1`.
fn start(protocol: &str, servers: &[Server], l1: &str) -> Proxy {
    let more = format!("[hotkey]\ncopies = 2\nalways = [\"hot\"]\nsplit = [\"hot\"]\n[l1]\n{l1}\n");
    Proxy::start(
        protocol,
        servers,
        "request_timeout = \"4s\"\nconnect_timeout = \"1s\"",
        &more,
    )
}

/// Read until copies are read.
fn split(proxy: &Proxy, client: &mut Client, expected: &str) {
    let before = proxy.event("split_read");
    eventually("no copies are read", || {
        for _ in 0..10 {
            assert_eq!(get(client, "hot"), expected);
        }
        proxy.event("split_read") > before
    });
}

/// What each server has of the key, its own server first.
fn homes(servers: &[Server], key: &str, value: &str) -> Vec<String> {
    let mut all: Vec<String> = servers
        .iter()
        .map(|server| get(&mut server.client(), key))
        .collect();
    if let Some(home) = all.iter().position(|reply| *reply == bulk(value)) {
        all.swap(0, home);
    }
    all
}

/// The number of the server that a key belongs to.
fn home_of(servers: &[Server], proxy: &Proxy, key: &str) -> usize {
    let mut client = proxy.client();
    client.call(&["SET", key, "where"]);
    let home = servers
        .iter()
        .position(|server| get(&mut server.client(), key) == bulk("where"));
    home.unwrap()
}

#[test]
fn reads_of_a_split_key_spare_its_own_server() {
    for l1 in MODES {
        let Some(servers) = Server::redis_many(3) else {
            return;
        };
        let proxy = start("redis", &servers, l1);
        let home = home_of(&servers, &proxy, "hot");
        let mut client = proxy.client();
        client.call(&["SET", "hot", "a value"]);
        split(&proxy, &mut client, &bulk("a value"));
        let before: Vec<u64> = servers.iter().map(|server| calls(server, "get")).collect();
        for _ in 0..600 {
            assert_eq!(get(&mut client, "hot"), bulk("a value"));
        }
        for (number, server) in servers.iter().enumerate() {
            let more = calls(server, "get") - before[number];
            if number == home {
                assert!(more < 100, "{l1}: its own server was read {more} times");
            } else {
                assert!(more > 100, "{l1}: a copy was read {more} times");
            }
        }
    }
}

#[test]
fn a_write_is_acknowledged_when_no_copy_is_left() {
    for l1 in MODES {
        let Some(servers) = Server::redis_many(3) else {
            return;
        };
        let proxy = start("redis", &servers, l1);
        let (mut writer, mut reader) = (proxy.client(), proxy.client());
        writer.call(&["SET", "hot", "value-0"]);
        for round in 1..15 {
            let before = format!("value-{}", round - 1);
            split(&proxy, &mut reader, &bulk(&before));
            let value = format!("value-{round}");
            assert_eq!(writer.call(&["SET", "hot", &value]), b"+OK\r\n");
            let expected = [bulk(&value), "$-1\\r\\n".into(), "$-1\\r\\n".into()];
            assert_eq!(
                homes(&servers, "hot", &value),
                expected,
                "{l1}, round {round}"
            );
            assert_eq!(get(&mut reader, "hot"), bulk(&value), "{l1}, round {round}");
        }
    }
}

#[test]
fn a_write_while_copies_are_made_leaves_none_of_the_old_value() {
    let Some(servers) = Server::redis_many(3) else {
        return;
    };
    let proxy = start("redis", &servers, MODES[0]);
    let (mut writer, mut reader) = (proxy.client(), proxy.client());
    for round in 0..400 {
        let value = format!("value-{round}");
        assert_eq!(writer.call(&["SET", "hot", &value]), b"+OK\r\n");
        for _ in 0..round % 7 {
            assert_eq!(get(&mut reader, "hot"), bulk(&value), "round {round}");
            assert_eq!(get(&mut writer, "hot"), bulk(&value), "round {round}");
        }
    }
}

#[test]
fn every_way_of_writing_a_split_key_is_seen_at_once() {
    let upload = "u".repeat(1_500_000);
    let script = "return redis.call('SET', KEYS[1], 'script')";
    let writes: [(&[&str], String); 14] = [
        (&["SET", "hot", "1000000"], bulk("1000000")),
        (&["INCR", "hot"], bulk("1000001")),
        (
            &["MSET", "hot", "many", "a", "x", "b", "y", "c", "z"],
            bulk("many"),
        ),
        (&["MSET", "hot", "alone"], bulk("alone")),
        (&["DEL", "hot", "a", "b", "c"], "$-1\\r\\n".into()),
        (&["SETNX", "hot", "again"], bulk("again")),
        (&["EVAL", script, "1", "hot"], bulk("script")),
        (
            &["SET", "hot", &upload],
            show(format!("${}\r\n{upload}\r\n", upload.len()).as_bytes()),
        ),
        (&["SET", "hot", "small again"], bulk("small again")),
        (&["UNLINK", "hot"], "$-1\\r\\n".into()),
        (&["APPEND", "hot", "appended"], bulk("appended")),
        (&["GETDEL", "hot"], "$-1\\r\\n".into()),
        (&["SETEX", "hot", "1000", "fleeting"], bulk("fleeting")),
        (&["FLUSHALL"], "$-1\\r\\n".into()),
    ];
    for l1 in MODES {
        let Some(servers) = Server::redis_many(3) else {
            return;
        };
        let proxy = start("redis", &servers, l1);
        let (mut writer, mut reader) = (proxy.client(), proxy.client());
        writer.call(&["SET", "hot", "first value"]);
        let mut before = bulk("first value");
        for round in 0..3 {
            for (write, expected) in &writes {
                if before.contains("$-1") {
                    get(&mut reader, "hot");
                } else {
                    split(&proxy, &mut reader, &before);
                }
                let said = writer.call(write);
                assert_ne!(said[0], b'-', "{}", show(&said));
                for _ in 0..20 {
                    let name = write[0];
                    assert_eq!(
                        get(&mut reader, "hot"),
                        *expected,
                        "{l1}, round {round}: {name}"
                    );
                    assert_eq!(
                        get(&mut writer, "hot"),
                        *expected,
                        "{l1}, round {round}: {name}"
                    );
                }
                before.clone_from(expected);
            }
        }
    }
}

#[test]
fn a_pipeline_over_a_split_key_takes_effect_in_its_order() {
    for l1 in MODES {
        let Some(servers) = Server::redis_many(3) else {
            return;
        };
        let proxy = start("redis", &servers, l1);
        let mut others: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
        let mut client = proxy.client();
        client.call(&["SET", "hot", "value-0"]);
        let end = Instant::now() + Duration::from_secs(4);
        let mut round = 0;
        while Instant::now() < end {
            round += 1;
            // Others keep the copies coming.
            for other in &mut others {
                other.send(&command(&["GET", "hot"]).repeat(round % 5));
            }
            let value = format!("value-{round}");
            let mut requests = command(&["GET", "hot"]).repeat(3);
            requests.extend(command(&["SET", "hot", &value]));
            requests.extend(command(&["GET", "hot"]).repeat(round % 9));
            client.send(&requests);
            let before = bulk(&format!("value-{}", round - 1));
            for _ in 0..3 {
                assert_eq!(show(&client.reply()), before, "{l1}, round {round}");
            }
            assert_eq!(client.reply(), b"+OK\r\n");
            for _ in 0..round % 9 {
                assert_eq!(show(&client.reply()), bulk(&value), "{l1}, round {round}");
            }
            for other in &mut others {
                (0..round % 5).for_each(|_| drop(other.reply()));
            }
            for _ in 0..round % 50 {
                assert_eq!(get(&mut client, "hot"), bulk(&value), "{l1}, round {round}");
            }
        }
        assert!(proxy.event("split_read") > 0, "{l1}");
    }
}

#[test]
fn a_copy_that_is_gone_is_not_a_missing_key() {
    for l1 in MODES {
        let Some(servers) = Server::redis_many(3) else {
            return;
        };
        let proxy = start("redis", &servers, l1);
        let home = home_of(&servers, &proxy, "hot");
        let mut client = proxy.client();
        client.call(&["SET", "hot", "a value"]);
        for _ in 0..10 {
            split(&proxy, &mut client, &bulk("a value"));
            for (number, server) in servers.iter().enumerate() {
                if number != home {
                    server.client().call(&["DEL", "hot"]);
                }
            }
            for _ in 0..20 {
                assert_eq!(get(&mut client, "hot"), bulk("a value"), "{l1}");
            }
        }
    }
}

#[test]
fn a_split_key_expires_with_its_own_server() {
    for l1 in MODES {
        let Some(servers) = Server::redis_many(3) else {
            return;
        };
        let proxy = start("redis", &servers, l1);
        let home = home_of(&servers, &proxy, "hot");
        let mut client = proxy.client();
        for _ in 0..3 {
            client.call(&["SET", "hot", "a value", "PX", "700"]);
            let mut direct = servers[home].client();
            loop {
                let gone = get(&mut direct, "hot") == "$-1\\r\\n";
                let seen = get(&mut client, "hot");
                if gone {
                    assert_eq!(seen, "$-1\\r\\n", "{l1}");
                    break;
                }
            }
            eventually("a copy outlives its key", || {
                servers
                    .iter()
                    .all(|server| get(&mut server.client(), "hot") == "$-1\\r\\n")
            });
        }
        assert!(proxy.event("split_read") > 0, "{l1}");
    }
}

#[test]
fn a_split_key_survives_the_servers_of_its_copies() {
    for l1 in MODES {
        let Some(mut servers) = Server::redis_many(3) else {
            return;
        };
        let proxy = start("redis", &servers, l1);
        let home = home_of(&servers, &proxy, "hot");
        let mut client = proxy.client();
        let mut writer = proxy.client();
        client.call(&["SET", "hot", "a value"]);
        split(&proxy, &mut client, &bulk("a value"));
        let copies: Vec<usize> = (0..3).filter(|number| *number != home).collect();
        for copy in &copies {
            servers[*copy].kill();
            for _ in 0..200 {
                assert_eq!(get(&mut client, "hot"), bulk("a value"), "{l1}");
            }
        }
        // Nobody can see a copy any more: a write needs nobody's leave.
        let mut value = String::new();
        for round in 0..5 {
            value = format!("a new value {round}");
            assert_eq!(writer.call(&["SET", "hot", &value]), b"+OK\r\n", "{l1}");
            assert_eq!(get(&mut client, "hot"), bulk(&value), "{l1}");
        }
        copies.iter().for_each(|copy| servers[*copy].restart());
        split(&proxy, &mut client, &bulk(&value));
    }
}

#[test]
fn a_frozen_copy_does_not_keep_its_readers() {
    let Some(servers) = Server::redis_many(3) else {
        return;
    };
    let proxy = start("redis", &servers, MODES[0]);
    let home = home_of(&servers, &proxy, "hot");
    let mut client = proxy.client();
    client.call(&["SET", "hot", "a value"]);
    split(&proxy, &mut client, &bulk("a value"));
    let copy = &servers[(home + 1) % 3];
    copy.freeze();
    for _ in 0..10 {
        assert_eq!(get(&mut client, "hot"), bulk("a value"));
    }
    copy.thaw();
    split(&proxy, &mut client, &bulk("a value"));
}

fn ask(client: &mut Client, request: &str) -> String {
    client.send(format!("{request}\r\nmn\r\n").as_bytes());
    String::from_utf8_lossy(&client.until(b"MN\r\n")).into_owned()
}

#[test]
fn items_of_memcached_are_split_and_their_unique_numbers_are_not() {
    for l1 in MODES {
        let Some(servers) = Server::memcached_many(3) else {
            return;
        };
        let proxy = start("memcached", &servers, l1);
        let (mut client, mut other) = (proxy.client(), proxy.client());
        // Other items make the servers' numbers differ.
        for key in 0..20 {
            ask(&mut client, &format!("set k{key} 0 0 1\r\nx"));
        }
        assert_eq!(
            ask(&mut client, "set hot 7 0 9\r\nvalue-000"),
            "STORED\r\nMN\r\n"
        );
        for round in 1..20 {
            let before = format!("value-{:03}", round - 1);
            let reads = proxy.event("split_read");
            let expected = format!("VALUE hot 7 9\r\n{before}\r\nEND\r\nMN\r\n");
            eventually("no copies are read", || {
                for _ in 0..5 {
                    assert_eq!(ask(&mut other, "get hot"), expected, "{l1}");
                    let said = ask(&mut other, "mg hot v f k q O1");
                    assert_eq!(
                        said,
                        format!("VA 9 f7 khot O1\r\n{before}\r\nMN\r\n"),
                        "{l1}"
                    );
                    assert_eq!(ask(&mut other, "mg hot s f"), "HD s9 f7\r\nMN\r\n", "{l1}");
                }
                proxy.event("split_read") > reads
            });
            let said = ask(&mut client, "gets hot");
            let cas = said
                .lines()
                .next()
                .unwrap()
                .rsplit(' ')
                .next()
                .unwrap()
                .to_owned();
            let said = ask(&mut client, "mg hot c");
            assert_eq!(said, format!("HD c{cas}\r\nMN\r\n"), "{l1}, round {round}");
            let write = match round % 3 {
                0 => format!("cas hot 7 0 9 {cas}\r\nvalue-{round:03}"),
                1 => format!("ms hot 9 C{cas} F7 q\r\nvalue-{round:03}"),
                _ => format!("set hot 7 0 9 noreply\r\nvalue-{round:03}"),
            };
            let said = ask(&mut client, &write);
            let expected = if round % 3 == 0 {
                "STORED\r\nMN\r\n"
            } else {
                "MN\r\n"
            };
            assert_eq!(said, expected, "{l1}, round {round}: {write}");
            let said = ask(&mut other, "get hot");
            let expected = format!("VALUE hot 7 9\r\nvalue-{round:03}\r\nEND\r\nMN\r\n");
            assert_eq!(said, expected, "{l1}, round {round}");
        }
        for (write, expected) in [
            ("delete hot", "END\r\nMN\r\n"),
            (
                "add hot 7 0 9\r\nvalue-abc",
                "VALUE hot 7 9\r\nvalue-abc\r\nEND\r\nMN\r\n",
            ),
            ("flush_all", "END\r\nMN\r\n"),
        ] {
            (0..50).for_each(|_| drop(ask(&mut other, "get hot")));
            ask(&mut client, write);
            assert_eq!(ask(&mut other, "get hot"), expected, "{l1}: {write}");
        }
    }
}
