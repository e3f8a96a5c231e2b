//! Promoted keys through the whole proxy: answered from memory, never older
//! than what the client's own requests have done, and as the server would
//! have said it.

#![allow(clippy::unwrap_used)]

mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Client, Emberline, Server, eventually, show};

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

/// One client's increments, or reads, each with what it was told.
type Told = Vec<(i64, Result<i64, String>)>;

fn number(reply: &[u8]) -> Result<i64, String> {
    let text = String::from_utf8_lossy(reply).trim_end().to_owned();
    match text.strip_prefix(':') {
        Some(digits) => Ok(digits.parse().unwrap()),
        None => Err(text),
    }
}

fn counting(servers: &[Server]) -> Emberline {
    let more = "[hotkey]\nalways = [\"counter\"]\ncombine_increments = true\n";
    proxy("redis", servers, more)
}

/// Have each client do its increments one after the other, all at once.
fn increment(proxy: &Emberline, clients: Vec<Vec<i64>>) -> Vec<Told> {
    std::thread::scope(|scope| {
        let clients = clients.into_iter().enumerate();
        let clients: Vec<_> = clients
            .map(|(index, deltas)| {
                let mut client = proxy.client();
                if index % 2 == 1 {
                    client.call(&["HELLO", "3"]);
                }
                scope.spawn(move || {
                    let ask = |delta: i64, client: &mut Client| {
                        let text = delta.to_string();
                        let opposite = delta.checked_neg().map(|delta| delta.to_string());
                        let reply = match (delta, opposite) {
                            (1, _) => client.call(&["INCR", "counter"]),
                            (-1, _) => client.call(&["DECR", "counter"]),
                            (_, Some(opposite)) if index % 3 == 0 => {
                                client.call(&["DECRBY", "counter", &opposite])
                            }
                            _ => client.call(&["INCRBY", "counter", &text]),
                        };
                        (delta, number(&reply))
                    };
                    let deltas = deltas.into_iter();
                    deltas
                        .map(|delta| ask(delta, &mut client))
                        .collect::<Told>()
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    })
}

/// Whether increments that were told these sums can have come one after the
/// other, from `start` on to `end`: each takes one sum to the next, so they
/// are the edges of a way that uses each of them once.
fn check_serial(start: i64, end: i64, told: &[Told]) {
    let mut balance: std::collections::HashMap<i64, i64> = std::collections::HashMap::new();
    for (delta, sum) in told.iter().flatten() {
        if let Ok(sum) = sum {
            *balance.entry(sum.wrapping_sub(*delta)).or_default() += 1;
            *balance.entry(*sum).or_default() -= 1;
        }
    }
    *balance.entry(start).or_default() -= 1;
    *balance.entry(end).or_default() += 1;
    balance.retain(|_, count| *count != 0);
    assert!(balance.is_empty(), "sums that do not follow: {balance:?}");
}

#[test]
fn increments_of_either_sign_get_sums_of_one_order() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = counting(std::slice::from_ref(&server));
    let deltas = [1, -1, 7, -7, 1, 1000, -3, 1, 0, -1];
    let client = |shift: usize| -> Vec<i64> {
        (0..300)
            .map(|at| deltas[(at + shift) % deltas.len()])
            .collect()
    };
    let clients: Vec<Vec<i64>> = (0..10).map(client).collect();
    let all: i64 = clients.iter().flatten().sum();
    let told = increment(&proxy, clients);
    assert!(told.iter().flatten().all(|(_, sum)| sum.is_ok()));
    let end = show(&server.client().call(&["GET", "counter"]));
    assert_eq!(end, format!("${}\\r\\n{all}\\r\\n", all.to_string().len()));
    check_serial(0, all, &told);
}

#[test]
fn increments_beyond_the_largest_number_are_refused_one_by_one() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = counting(std::slice::from_ref(&server));
    for (start, delta) in [
        (i64::MAX - 100, 1),
        (i64::MAX - 100, 30),
        (i64::MIN + 100, -7),
    ] {
        server
            .client()
            .call(&["SET", "counter", &start.to_string()]);
        let told = increment(&proxy, vec![vec![delta; 50]; 8]);
        let fits = if delta > 0 {
            (i64::MAX - start) / delta
        } else {
            (i64::MIN - start) / delta
        };
        let done = told.iter().flatten().filter(|(_, sum)| sum.is_ok()).count();
        assert_eq!(done as i64, fits, "{delta}");
        check_serial(start, start + fits * delta, &told);
        let refused = told
            .iter()
            .flatten()
            .filter_map(|(_, sum)| sum.as_ref().err());
        for refused in refused {
            assert_eq!(
                refused, "-ERR increment or decrement would overflow",
                "{delta}"
            );
        }
    }
    // The largest steps there are.
    server.client().call(&["SET", "counter", "0"]);
    let told = increment(&proxy, vec![vec![i64::MAX, -i64::MAX]; 6]);
    let end = number_of(&server);
    check_serial(0, end, &told);
    server.client().call(&["SET", "counter", "0"]);
    let told = increment(&proxy, vec![vec![i64::MIN, i64::MAX, 1]; 6]);
    check_serial(0, number_of(&server), &told);
}

fn number_of(server: &Server) -> i64 {
    let reply = server.client().call(&["GET", "counter"]);
    let text = String::from_utf8(reply).unwrap();
    text.lines().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_pipeline_of_increments_and_reads_is_answered_in_its_order() {
    let Some(server) = Server::redis() else {
        return;
    };
    let more =
        "[hotkey]\nalways = [\"counter\"]\ncombine_increments = true\n[l1]\nmode = \"tracking\"\n";
    let proxy = proxy("redis", std::slice::from_ref(&server), more);
    std::thread::scope(|scope| {
        for index in 0..6 {
            let mut client = proxy.client();
            scope.spawn(move || {
                let mut last = 0;
                for _ in 0..100 {
                    let mut requests = Vec::new();
                    requests.extend(support::command(&["GET", "counter"]));
                    requests.extend(support::command(&["INCR", "counter"]));
                    requests.extend(support::command(&["GET", "counter"]));
                    requests.extend(support::command(&["INCRBY", "counter", "5"]));
                    if index % 2 == 0 {
                        // Unheard, but done.
                        requests.extend(support::command(&["CLIENT", "REPLY", "SKIP"]));
                        requests.extend(support::command(&["INCRBY", "counter", "2"]));
                    }
                    requests.extend(support::command(&["MGET", "counter"]));
                    client.send(&requests);
                    for step in 0..5 {
                        let reply = String::from_utf8(client.reply()).unwrap();
                        let digits = reply.trim_end().rsplit("\r\n").next().unwrap();
                        // What is missing is `$-1`, and counts as nothing.
                        let value = digits.trim_start_matches(':').parse().unwrap_or(0);
                        let least = match step {
                            0 | 2 => last,
                            1 => last + 1,
                            3 => last + 5,
                            _ => last + if index % 2 == 0 { 2 } else { 0 },
                        };
                        assert!(value >= least, "step {step}: {reply:?} after {last}");
                        last = value;
                    }
                }
            });
        }
    });
    let expected = 6 * 100 * 6 + 3 * 100 * 2;
    assert_eq!(number_of(&server), expected);
}

#[test]
fn clients_that_leave_while_their_increments_wait_hold_up_nobody() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = counting(std::slice::from_ref(&server));
    for _ in 0..10 {
        server.freeze();
        let mut staying: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
        let mut leaving: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
        for client in leaving.iter_mut().chain(&mut staying) {
            client.send(&support::command(&["INCR", "counter"]));
        }
        drop(leaving);
        sleep(Duration::from_millis(10));
        server.thaw();
        for client in &mut staying {
            assert!(number(&client.reply()).is_ok());
            assert!(number(&client.call(&["INCR", "counter"])).is_ok());
        }
    }
}

#[test]
fn increments_that_wait_for_a_server_that_dies_are_told_and_the_next_are_done() {
    let Some(mut server) = Server::redis() else {
        return;
    };
    let proxy = counting(std::slice::from_ref(&server));
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
        number(&clients[0].call(&["INCR", "counter"])).unwrap();
        server.freeze();
        for client in &mut clients {
            client.send(&support::command(&["INCR", "counter"]));
        }
        sleep(Duration::from_millis(20));
        server.kill();
        for client in &mut clients {
            let reply = show(&client.reply());
            assert!(reply.starts_with("-ERR"), "{reply}");
        }
        server.restart();
        eventually("the server is not used again", || {
            number(&clients[3].call(&["INCR", "counter"])).is_ok()
        });
        let before = number_of(&server);
        // What is refused because the server was down just now is not done.
        for client in &mut clients {
            eventually("the server is not used again", || {
                number(&client.call(&["INCR", "counter"])).is_ok()
            });
        }
        assert_eq!(number_of(&server), before + 20);
    }
}

#[test]
fn silent_increments_are_done_and_not_heard() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = counting(std::slice::from_ref(&server));
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        let mut requests = support::command(&["CLIENT", "REPLY", "OFF"]);
        requests.extend(support::command(&["INCR", "counter"]).repeat(100));
        requests.extend(support::command(&["CLIENT", "REPLY", "ON"]));
        requests.extend(support::command(&["INCR", "counter"]));
        client.send(&requests);
    }
    for client in &mut clients {
        assert_eq!(client.reply(), b"+OK\r\n");
        assert!(number(&client.reply()).unwrap() > 100);
    }
    eventually("they are not all done", || number_of(&server) == 808);
}

/// In `ttl` mode with these settings before one server.
fn short(server: &Server, settings: &str, request_timeout: &str) -> Emberline {
    Emberline::config(&format!(
        "[listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"main\"\n\
         [pools.main]\nprotocol = \"redis\"\nservers = [\"{}\"]\nrequest_timeout = \"{request_timeout}\"\n\
         [hotkey]\nalways = [\"hot\"]\n[l1]\nmode = \"ttl\"\n{settings}\n",
        server.address()
    ))
}

#[test]
fn a_herd_asks_its_server_about_once_for_each_expiry() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = short(&server, "ttl = \"200ms\"\nearly_refresh = 0.0", "4s");
    let mut clients: Vec<Client> = (0..200).map(|_| proxy.client()).collect();
    clients[0].call(&["SET", "hot", "v"]);
    let before = calls(&server, "get");
    let (begin, mut rounds) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(3) {
        rounds += 1;
        for client in &mut clients {
            client.send(&support::command(&["GET", "hot"]));
        }
        for client in &mut clients {
            assert_eq!(client.reply(), b"$1\r\nv\r\n");
        }
    }
    let expiries = begin.elapsed().as_millis() as u64 / 200 + 1;
    let asked = calls(&server, "get") - before;
    assert!(
        asked <= 4 * expiries + 200,
        "{asked} for {expiries} expiries and {rounds} herds"
    );
}

#[test]
fn those_who_are_too_many_to_wait_are_answered_all_the_same() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = short(&server, "ttl = \"5ms\"\nwaiters_max = 1", "4s");
    let mut clients: Vec<Client> = (0..50).map(|_| proxy.client()).collect();
    for round in 0..150 {
        let value = round.to_string();
        clients[round % 50].call(&["SET", "hot", &value]);
        for client in &mut clients {
            client.send(&support::command(&["GET", "hot"]));
        }
        let expected = format!("${}\\r\\n{value}\\r\\n", value.len());
        for client in &mut clients {
            assert_eq!(show(&client.reply()), expected, "round {round}");
        }
    }
}

#[test]
fn readers_of_a_frozen_server_are_told_and_nothing_hangs() {
    let Some(server) = Server::redis() else {
        return;
    };
    let proxy = short(&server, "ttl = \"50ms\"", "400ms");
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.client()).collect();
    for _ in 0..3 {
        clients[0].call(&["SET", "hot", "v"]);
        get(&mut clients[1], "hot");
        server.freeze();
        sleep(Duration::from_millis(60));
        for client in &mut clients {
            client.send(&support::command(&["GET", "hot"]).repeat(3));
        }
        let leaving = clients.split_off(30);
        drop(leaving);
        for client in &mut clients {
            for _ in 0..3 {
                let reply = show(&client.reply());
                assert!(reply.starts_with("-ERR"), "{reply}");
            }
        }
        server.thaw();
        eventually("the server is not used again", || {
            get(&mut clients[0], "hot") == "$1\\r\\nv\\r\\n"
        });
        for client in &mut clients {
            assert_eq!(get(client, "hot"), "$1\\r\\nv\\r\\n");
        }
        clients.extend((0..10).map(|_| proxy.client()));
    }
}

#[test]
fn what_has_expired_serves_while_the_server_does_not_answer() {
    let Some(server) = Server::redis() else {
        return;
    };
    let settings = "ttl = \"50ms\"\nearly_refresh = 0.0\nstale_if_error = \"60s\"";
    let proxy = short(&server, settings, "300ms");
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    clients[0].call(&["SET", "hot", "v"]);
    eventually("it is not kept", || {
        (0..20).for_each(|_| drop(get(&mut clients[0], "hot")));
        calls(&server, "get") > 2
    });
    get(&mut clients[0], "hot");
    server.freeze();
    sleep(Duration::from_millis(70));
    for _ in 0..3 {
        // They come one after the other: each later than what is kept is old.
        for client in &mut clients {
            client.send(&support::command(&["GET", "hot"]));
            sleep(Duration::from_millis(10));
        }
        for client in &mut clients {
            assert_eq!(show(&client.reply()), "$1\\r\\nv\\r\\n");
        }
    }
    // What was written since may have been done: nothing older is told.
    clients[0].send(&support::command(&["SET", "hot", "w"]));
    assert!(clients[0].reply().starts_with(b"-ERR"));
    for client in &mut clients {
        let reply = get(client, "hot");
        assert!(reply.starts_with("-ERR"), "{reply}");
    }
    server.thaw();
    for client in &mut clients {
        eventually("the server is not used again", || {
            get(client, "hot") == "$1\\r\\nw\\r\\n"
        });
    }
}

#[test]
fn a_proxy_that_ends_answers_those_who_wait_for_a_fetch() {
    let Some(server) = Server::redis() else {
        return;
    };
    let mut proxy = short(&server, "ttl = \"50ms\"", "4s");
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.client()).collect();
    clients[0].call(&["SET", "hot", "v"]);
    get(&mut clients[0], "hot");
    server.freeze();
    sleep(Duration::from_millis(60));
    for client in &mut clients {
        client.send(&support::command(&["GET", "hot"]).repeat(2));
    }
    sleep(Duration::from_millis(50));
    proxy.signal("TERM");
    sleep(Duration::from_millis(50));
    server.thaw();
    for client in &mut clients {
        for _ in 0..2 {
            assert_eq!(show(&client.reply()), "$1\\r\\nv\\r\\n");
        }
        assert_eq!(client.rest(), b"");
    }
    let status = proxy.wait(Duration::from_secs(10)).expect("it ends");
    assert!(status.success(), "{status:?}");
}

#[test]
fn a_hot_key_is_answered_however_it_is_asked_for() {
    let Some(server) = Server::redis() else {
        return;
    };
    for mode in ["ttl", "tracking"] {
        let proxy = redis(std::slice::from_ref(&server), mode);
        let (mut client, mut other) = (proxy.client(), proxy.client());
        client.call(&["SET", "hot", "v"]);
        client.call(&["SET", "cold", "c"]);
        let hot = support::command(&["GET", "hot"]);
        let parts: [(&[u8], &str); 15] = [
            (b"GET hot\r\n", "$1\r\nv\r\n"),
            (b"  get   \"hot\" \r\n", "$1\r\nv\r\n"),
            (b"GET hot\n", "$1\r\nv\r\n"),
            (b"*2\r\n$3\r\ngEt\r\n$3\r\nhot\r\n", "$1\r\nv\r\n"),
            (b"GET gone\r\n", "$-1\r\n"),
            (b"MGET hot cold gone hot\r\n", "*4\r\n$1\r\nv\r\n$1\r\nc\r\n$-1\r\n$1\r\nv\r\n"),
            (b"GET cold\r\n", "$1\r\nc\r\n"),
            (b"CLIENT REPLY SKIP\r\nGET hot\r\nGET hot\r\n", "$1\r\nv\r\n"),
            (b"CLIENT REPLY SKIP\r\nMGET hot cold\r\nGET cold\r\n", "$1\r\nc\r\n"),
            (b"CLIENT REPLY OFF\r\nGET hot\r\nGET cold\r\nMGET hot cold\r\nGET gone\r\nCLIENT REPLY ON\r\n", "+OK\r\n"),
            (b"GET hot x\r\n", "-ERR wrong number of arguments for 'get' command\r\n"),
            (b"HELLO 3\r\n", "HELLO"),
            (b"GET gone\r\nMGET gone hot\r\n", "_\r\n*2\r\n_\r\n$1\r\nv\r\n"),
            (b"HELLO 2\r\n", "HELLO"),
            (&hot, "$1\r\nv\r\n"),
        ];
        for round in 0..40 {
            // Everything at once, then everything in pieces; while the key is
            // in memory and while it has to be fetched.
            if round % 3 == 0 {
                other.call(&["SET", "hot", "v"]);
            }
            let requests: Vec<u8> = parts.iter().flat_map(|(ask, _)| ask.to_vec()).collect();
            match round % 2 {
                0 => client.send(&requests),
                _ => requests.chunks(7).for_each(|some| client.send(some)),
            }
            for (ask, expected) in &parts {
                if *expected == "HELLO" {
                    let reply = client.reply();
                    assert!(matches!(reply[0], b'%' | b'*'), "{}", show(&reply));
                    continue;
                }
                let got = client.exactly(expected.len());
                let asked = ask.escape_ascii();
                assert_eq!(
                    show(&got),
                    show(expected.as_bytes()),
                    "{mode}, round {round}: {asked}"
                );
            }
        }
    }
}

#[test]
fn a_write_behind_a_read_of_several_keys_does_not_overtake_it() {
    for count in [1, 2] {
        let Some(servers) = Server::redis_many(count) else {
            return;
        };
        let more = "[hotkey]\nalways = [\"hot\"]\n[l1]\nmode = \"ttl\"\nttl = \"1ms\"\n";
        let proxy = proxy("redis", &servers, more);
        let mut client = proxy.client();
        client.call(&["SET", "hot", "0"]);
        for round in 1..500 {
            let (before, value) = ((round - 1).to_string(), round.to_string());
            let mut requests = support::command(&["MGET", "cold", "hot", "colder"]);
            requests.extend(support::command(&["SET", "hot", &value]));
            requests.extend(support::command(&["MGET", "hot"]));
            client.send(&requests);
            let expected = format!(
                "*3\\r\\n$-1\\r\\n${}\\r\\n{before}\\r\\n$-1\\r\\n",
                before.len()
            );
            assert_eq!(
                show(&client.reply()),
                expected,
                "{count} servers, round {round}"
            );
            assert_eq!(client.reply(), b"+OK\r\n");
            let expected = format!("*1\\r\\n${}\\r\\n{value}\\r\\n", value.len());
            assert_eq!(
                show(&client.reply()),
                expected,
                "{count} servers, round {round}"
            );
        }
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
