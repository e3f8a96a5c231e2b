//! Promoted keys of memcached pools through the whole proxy: what is answered
//! from memory is what the server would have said, byte for byte, and never
//! older than what the proxy's own clients have done.

#![allow(clippy::unwrap_used)]

mod serving_support;
mod support;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use serving_support::{Proxy, eventually};
use support::{Client, Server, show};

const MODES: [&str; 2] = ["ttl", "revalidate"];

const HOT: &str = "always = [\"hot\", \"hotter\", \"gone\", \"big\", \"a b\"]";

/// In this mode; `more` is more of `[l1]`.
fn start(servers: &[Server], mode: &str, more: &str) -> Proxy {
    let pool = "request_timeout = \"4s\"";
    let ttl = if mode == "ttl" { "ttl = \"30s\"" } else { "" };
    let l1 = format!("[hotkey]\n{HOT}\n[l1]\nmode = \"{mode}\"\n{ttl}\n{more}\n");
    Proxy::start("memcached", servers, pool, &l1)
}

/// Everything that comes back up to and with this.
fn exchange(client: &mut Client, request: &str, last: &str) -> String {
    client.send(request.as_bytes());
    String::from_utf8_lossy(&client.until(last.as_bytes())).into_owned()
}

/// A request and, behind it, one whose reply shows that it is over.
fn ask(client: &mut Client, request: &str) -> String {
    exchange(client, &format!("{request}\r\nmn\r\n"), "MN\r\n")
}

fn set(client: &mut Client, key: &str, value: &str) {
    let request = format!("set {key} 7 0 {}\r\n{value}", value.len());
    assert_eq!(ask(client, &request), "STORED\r\nMN\r\n");
}

/// What a reader of `hot` sees.
fn value_of(client: &mut Client) -> Option<String> {
    let reply = ask(client, "get hot");
    let mut lines = reply.split("\r\n");
    let head = lines.next().unwrap();
    if head == "END" {
        return None;
    }
    assert!(head.starts_with("VALUE hot "), "{reply:?}");
    Some(lines.next().unwrap().to_owned())
}

#[test]
fn what_memory_says_is_what_the_server_says() {
    for mode in MODES {
        let Some(server) = Server::memcached() else {
            return;
        };
        let proxy = start(std::slice::from_ref(&server), mode, "max_item = \"1KiB\"");
        let (mut client, mut direct) = (proxy.client(), server.client());
        let big = "x".repeat(5000);
        for (key, value) in [
            ("hot", "value"),
            ("hotter", ""),
            ("cold", "c"),
            ("big", &big),
        ] {
            set(&mut client, key, value);
        }
        assert_eq!(ask(&mut client, "ms YSBi 2 b\r\nhi"), "HD\r\nMN\r\n");
        let requests = [
            "get hot",
            "gets hot",
            "get hotter",
            "gets hotter",
            "get gone",
            "gets gone",
            "get big",
            "gets big",
            "get  hot ",
            "get hot hot",
            "get hot cold",
            "gets hot cold hotter",
            "get cold hot gone hotter cold hot",
            "gets gone",
            "get gone hot gone",
            "get big hot cold",
            "mg hot",
            "mg hot v",
            "mg hot s v f c k",
            "mg hot k O12 v",
            "mg hot f",
            "mg hot v k q O9",
            "mg aG90 b v k c",
            "mg aG90 b k",
            "mg YSBi b v k f c s",
            "mg YSBi b k O7",
            "mg gone v",
            "mg gone k O1",
            "mg gone v k q",
            "mg Z29uZQ== b k v",
            "mg hot t v",
            "mg hot v t f",
            "mg hotter v s",
            "mg hotter f k",
            "mg big s f c",
            "mg big v",
            "mg hot v O123456789012345678901234567890123",
            "mg hot E5 v",
            "mg hot z",
            "mg hot v v",
            "mg hot q v\r\nmg gone q v\r\nmg hotter q k v",
        ];
        for round in 0..4 {
            for request in requests {
                let (got, expected) = (ask(&mut client, request), ask(&mut direct, request));
                assert_eq!(got, expected, "{mode}, round {round}: {request}");
            }
        }
        let event = if mode == "ttl" { "hit" } else { "revalidated" };
        proxy.has_seen(event);
    }
}

#[test]
fn several_keys_of_several_servers_come_as_one_server_says_them() {
    for mode in MODES {
        let Some(servers) = Server::memcached_many(2) else {
            return;
        };
        let proxy = start(&servers, mode, "");
        let mut client = proxy.client();
        let keys = ["hot", "hotter", "a", "b", "c", "d", "e", "gone"];
        for key in &keys[..7] {
            set(&mut client, key, &format!("value of {key}"));
        }
        let mut direct = [servers[0].client(), servers[1].client()];
        for round in 0..30 {
            for verb in ["get", "gets"] {
                let mut wanted: Vec<&str> = keys.to_vec();
                wanted.rotate_left(round % keys.len());
                wanted.push("hot");
                let mut expected = String::new();
                for key in &wanted {
                    for server in &mut direct {
                        let reply = ask(server, &format!("{verb} {key}"));
                        expected += reply.strip_suffix("END\r\nMN\r\n").unwrap();
                    }
                }
                let got = ask(&mut client, &format!("{verb} {}", wanted.join(" ")));
                assert_eq!(got, expected + "END\r\nMN\r\n", "{mode}, round {round}");
            }
        }
    }
}

#[test]
fn the_unique_number_of_a_served_value_is_the_servers() {
    for mode in MODES {
        let Some(servers) = Server::memcached_many(2) else {
            return;
        };
        let proxy = start(&servers, mode, "");
        let (mut client, mut other) = (proxy.client(), proxy.client());
        set(&mut client, "hot", "0");
        for round in 1..60 {
            value_of(&mut other);
            let reply = ask(&mut client, "gets hot");
            let cas = reply
                .lines()
                .next()
                .unwrap()
                .rsplit(' ')
                .next()
                .unwrap()
                .to_owned();
            let request = format!("cas hot 7 0 2 {cas}\r\n{round:02}");
            assert_eq!(
                ask(&mut client, &request),
                "STORED\r\nMN\r\n",
                "{mode}: {reply}"
            );
            assert_eq!(ask(&mut client, &request), "EXISTS\r\nMN\r\n", "{mode}");
            assert_eq!(value_of(&mut other), Some(format!("{round:02}")), "{mode}");
        }
    }
}

#[test]
fn every_way_of_writing_an_item_is_seen_at_once() {
    let writes: [(&str, Option<&str>); 26] = [
        ("set hot 0 0 1\r\n1", Some("1")),
        ("incr hot 4", Some("5")),
        ("decr hot 2", Some("3")),
        ("append hot 0 0 1\r\n4", Some("34")),
        ("prepend hot 0 0 1\r\n2", Some("234")),
        ("replace hot 0 0 1\r\nr", Some("r")),
        ("touch hot 100", Some("r")),
        ("gat 100 hot", Some("r")),
        ("gats 100 hot cold", Some("r")),
        ("delete hot", None),
        ("add hot 0 0 1\r\na", Some("a")),
        ("md hot", None),
        ("ms hot 1\r\nm", Some("m")),
        ("ms hot 1 MA\r\nn", Some("mn")),
        ("ms hot 1 q\r\n8", Some("8")),
        ("ma hot", Some("9")),
        ("ma aG90 b q", Some("10")),
        ("mg hot v T100", Some("10")),
        ("md hot q", None),
        ("ma hot N0 J5", Some("5")),
        ("set hot 0 0 1 noreply\r\ns", Some("s")),
        ("append hot 0 0 1 noreply\r\nt", Some("st")),
        ("delete hot noreply", None),
        ("set hot 0 0 1\r\nu", Some("u")),
        ("touch hot -1", None),
        ("set hot 0 -1 1\r\nv", None),
    ];
    for mode in MODES {
        let Some(server) = Server::memcached() else {
            return;
        };
        let proxy = start(std::slice::from_ref(&server), mode, "");
        let (mut writer, mut reader) = (proxy.client(), proxy.client());
        for round in 0..15 {
            for (write, expected) in writes {
                value_of(&mut reader);
                value_of(&mut reader);
                let said = ask(&mut writer, write);
                let got = value_of(&mut reader);
                let after = format!("{mode}, round {round}: {write} said {said:?}");
                assert_eq!(got.as_deref(), expected, "{after}");
            }
            set(&mut writer, "hot", "x");
            assert_eq!(value_of(&mut reader).as_deref(), Some("x"));
            assert_eq!(ask(&mut writer, "flush_all"), "OK\r\nMN\r\n");
            assert_eq!(
                value_of(&mut reader),
                None,
                "{mode}, round {round}: flush_all"
            );
        }
    }
}

#[test]
fn requests_on_one_connection_take_effect_in_their_order() {
    for mode in MODES {
        for count in [1, 2] {
            let Some(servers) = Server::memcached_many(count) else {
                return;
            };
            let proxy = start(&servers, mode, "");
            let (mut client, mut other) = (proxy.client(), proxy.client());
            set(&mut client, "hot", "z");
            set(&mut client, "cold", "c");
            let mut before = "z".to_owned();
            for round in 0..200 {
                let (a, b) = (format!("a{round}"), format!("b{round}"));
                let value = |text: &str, flags: u32| {
                    format!("VALUE hot {flags} {}\r\n{text}\r\n", text.len())
                };
                let request = format!(
                    "get hot\r\nset hot 1 0 {len}\r\n{a}\r\nget hot\r\nmg hot v q\r\nappend hot 0 0 1 noreply\r\n+\r\n\
                     get cold hot\r\nms hot {len} q F2\r\n{b}\r\nget hot cold\r\nmn\r\n",
                    len = a.len(),
                );
                let flags = if round == 0 { 7 } else { 2 };
                let plus = format!("{a}+");
                let cold = "VALUE cold 7 1\r\nc\r\n";
                let expected = format!(
                    "{}END\r\nSTORED\r\n{}END\r\nVA {} \r\n{a}\r\n{cold}{}END\r\n{}{cold}END\r\nMN\r\n",
                    value(&before, flags),
                    value(&a, 1),
                    a.len(),
                    value(&plus, 1),
                    value(&b, 2),
                )
                .replace(" \r\n", "\r\n");
                let got = exchange(&mut client, &request, "MN\r\n");
                assert_eq!(got, expected, "{mode}, {count} servers, round {round}");
                assert_eq!(
                    value_of(&mut other),
                    Some(b.clone()),
                    "{mode}, round {round}"
                );
                before = b;
            }
        }
    }
}

#[test]
fn a_missing_item_is_remembered_until_it_is_set() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let proxy = start(std::slice::from_ref(&server), "ttl", "");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    for round in 0..50 {
        for _ in 0..5 {
            assert_eq!(value_of(&mut other), None);
        }
        set(&mut client, "hot", &round.to_string());
        assert_eq!(value_of(&mut other), Some(round.to_string()));
        assert_eq!(ask(&mut client, "delete hot"), "DELETED\r\nMN\r\n");
    }
    proxy.has_seen("hit");
}

#[test]
fn an_item_is_not_served_when_the_server_has_let_it_expire() {
    for mode in MODES {
        let Some(server) = Server::memcached() else {
            return;
        };
        let proxy = start(std::slice::from_ref(&server), mode, "");
        let (mut client, mut direct) = (proxy.client(), server.client());
        for seconds in [1, 3] {
            assert_eq!(
                ask(&mut client, &format!("set hot 0 {seconds} 1\r\nx")),
                "STORED\r\nMN\r\n"
            );
            loop {
                let gone = ask(&mut direct, "get hot") == "END\r\nMN\r\n";
                let served = value_of(&mut client);
                if gone {
                    assert_eq!(served, None, "{mode}: {seconds} s");
                    break;
                }
            }
        }
    }
}

#[test]
fn an_item_marked_stale_has_one_winner_and_is_not_kept() {
    for mode in MODES {
        let Some(server) = Server::memcached() else {
            return;
        };
        let proxy = start(std::slice::from_ref(&server), mode, "");
        let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
        for round in 0..20 {
            set(&mut clients[0], "hot", &format!("v{round}"));
            for client in &mut clients {
                ask(client, "mg hot v c");
            }
            assert_eq!(ask(&mut clients[1], "md hot I T30"), "HD\r\nMN\r\n");
            let barrier = Barrier::new(clients.len());
            let replies: Vec<String> = thread::scope(|scope| {
                let asking: Vec<_> = clients
                    .iter_mut()
                    .map(|client| {
                        let barrier = &barrier;
                        scope.spawn(move || {
                            barrier.wait();
                            ask(client, "mg hot v c")
                        })
                    })
                    .collect();
                asking
                    .into_iter()
                    .map(|asked| asked.join().unwrap())
                    .collect()
            });
            let first = |reply: &String| reply.lines().next().unwrap().to_owned();
            let lines: Vec<String> = replies.iter().map(first).collect();
            let won = lines.iter().filter(|line| line.contains(" W")).count();
            // In `revalidate` a fetch that nobody waits for may have won while
            // they asked: it has given that back, to whoever asks next.
            assert!(
                won <= 1 && (won == 1 || mode == "revalidate"),
                "{mode}: {lines:?}"
            );
            if won == 0 {
                eventually("nobody is told to set it anew", || {
                    ask(&mut clients[0], "mg hot v c").contains(" W")
                });
            }
            assert!(
                lines.iter().all(|line| line.contains(" X")),
                "{mode}: {lines:?}"
            );
            set(&mut clients[2], "hot", "new");
            let said = ask(&mut clients[3], "mg hot v");
            assert_eq!(said, "VA 3\r\nnew\r\nMN\r\n", "{mode}");
        }
    }
}

#[test]
fn a_restarted_server_with_the_same_unique_numbers_is_not_taken_for_the_old() {
    let Some(mut server) = Server::memcached() else {
        return;
    };
    let proxy = start(std::slice::from_ref(&server), "revalidate", "");
    let mut client = proxy.client();
    for round in 0..4 {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        set(&mut client, "hot", &old);
        let cas = ask(&mut client, "mg hot c");
        let before = proxy.event("revalidated");
        eventually("it is not kept", || {
            assert_eq!(value_of(&mut client), Some(old.clone()));
            proxy.event("revalidated") > before
        });
        server.kill();
        server.restart();
        let mut direct = server.client();
        // Until the numbers meet.
        eventually("another number", || {
            set(&mut direct, "hot", &new);
            ask(&mut direct, "mg hot c") == cas
        });
        eventually("the server is not used again", || {
            let reply = ask(&mut client, "get hot");
            assert!(!reply.contains("old"), "round {round}: {reply}");
            reply.contains(&new)
        });
        assert_eq!(value_of(&mut client), Some(new));
        server.kill();
        server.restart();
        eventually("the server is not used again", || {
            ask(&mut client, "mn").starts_with("MN") && value_at(&mut client)
        });
    }
}

/// Whether the server is reached.
fn value_at(client: &mut Client) -> bool {
    !ask(client, "get hot").starts_with("SERVER_ERROR")
}

#[test]
fn a_key_is_revalidated_again_after_a_fetch_that_failed() {
    let Some(mut server) = Server::memcached() else {
        return;
    };
    let proxy = start(std::slice::from_ref(&server), "revalidate", "");
    let mut client = proxy.client();
    set(&mut client, "hot", "v");
    eventually("it is not kept", || {
        value_of(&mut client);
        proxy.event("revalidated") > 0
    });
    server.kill();
    for _ in 0..50 {
        ask(&mut client, "get hot");
        thread::sleep(Duration::from_millis(4));
    }
    server.restart();
    let mut direct = server.client();
    set(&mut direct, "hot", "w");
    let before = proxy.event("revalidated");
    eventually("it is never kept again", || {
        ask(&mut client, "get hot");
        proxy.event("revalidated") > before
    });
    assert_eq!(value_of(&mut client).as_deref(), Some("w"));
}

/// Ask with everybody at once; `then` is called with whoever is told that the
/// item is missing. Answers the replies.
fn herd(proxy: &Proxy, count: usize, then: impl Fn(&mut Client) + Sync) -> BTreeMap<String, usize> {
    let barrier = Barrier::new(count);
    let mut told = BTreeMap::new();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..count)
            .map(|_| {
                let mut client = proxy.client();
                let (barrier, then) = (&barrier, &then);
                scope.spawn(move || {
                    barrier.wait();
                    let reply = show(&client.ask("get hot\r\n"));
                    if reply == "END\\r\\n" {
                        then(&mut client);
                    }
                    reply
                })
            })
            .collect();
        for client in clients {
            *told.entry(client.join().unwrap()).or_default() += 1;
        }
    });
    told
}

#[test]
fn one_of_those_who_miss_a_leased_item_sets_it_and_the_others_get_that() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let proxy = start(std::slice::from_ref(&server), "ttl", "lease = \"10s\"");
    for round in 0..10 {
        let told = herd(&proxy, 20, |client| {
            thread::sleep(Duration::from_millis(30));
            set(client, "hot", "made");
        });
        let expected = [
            ("END\\r\\n".to_owned(), 1),
            ("VALUE hot 7 4\\r\\nmade\\r\\nEND\\r\\n".to_owned(), 19),
        ];
        assert_eq!(told, BTreeMap::from(expected), "round {round}");
        assert_eq!(ask(&mut proxy.client(), "delete hot"), "DELETED\r\nMN\r\n");
    }
}

#[test]
fn a_lease_that_nobody_uses_ends_with_everybody_told_that_the_item_is_missing() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let proxy = start(std::slice::from_ref(&server), "ttl", "lease = \"2s\"");
    let told = herd(&proxy, 20, |_| {});
    assert_eq!(told, BTreeMap::from([("END\\r\\n".to_owned(), 20)]));
    let mut client = proxy.client();
    set(&mut client, "hot", "late");
    assert_eq!(value_of(&mut client).as_deref(), Some("late"));
}

#[test]
fn clients_that_leave_while_they_wait_for_a_lease_take_nothing_with_them() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let proxy = start(std::slice::from_ref(&server), "ttl", "lease = \"3s\"");
    for _ in 0..3 {
        let mut holder = proxy.client();
        assert_eq!(holder.ask("get hot\r\n"), b"END\r\n");
        let mut leaving: Vec<Client> = (0..10).map(|_| proxy.client()).collect();
        let mut staying: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
        for client in staying.iter_mut().chain(&mut leaving) {
            client.send(b"get hot\r\n");
        }
        drop(leaving);
        drop(holder);
        let mut told = 0;
        // Somebody who is still there is told, and sets it.
        for client in &mut staying {
            let reply = client.memcached_reply();
            if reply == b"END\r\n" {
                told += 1;
                set(client, "hot", "made");
            } else {
                assert_eq!(show(&reply), "VALUE hot 7 4\\r\\nmade\\r\\nEND\\r\\n");
            }
        }
        assert!(told >= 1);
        assert_eq!(ask(&mut staying[0], "delete hot"), "DELETED\r\nMN\r\n");
    }
}

#[test]
fn the_stub_of_a_lease_is_never_given_to_a_client_as_a_value() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let proxy = start(
        std::slice::from_ref(&server),
        "ttl",
        "lease = \"2s\"\nwaiters_max = 1",
    );
    let told = herd(&proxy, 20, |_| {});
    assert_eq!(told, BTreeMap::from([("END\\r\\n".to_owned(), 20)]));
}
