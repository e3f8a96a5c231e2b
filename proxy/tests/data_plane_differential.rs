//! Random pipelines through the proxy and straight to a server: the same bytes
//! come back.
//!
//! Fifty clients, each on its own keys, half of them in RESP3, send what
//! [`Commands`](support::Commands) makes up, cut at random places, over two
//! servers and two workers. `EMBERLINE_PIPELINES` says how many pipelines in
//! all, `EMBERLINE_SEED` where the random numbers start.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{
    Asked, Client, Commands, Emberline, Random, Server, assert_same, command, setting, show,
};

const CLIENTS: u64 = 50;

/// Values up to this size are written, now and then.
const VALUE_MAX: usize = 100 * 1024;

/// What is sent without anybody reading at the same time.
const UNREAD_MAX: usize = 32 * 1024;

#[test]
fn pipelines_are_answered_as_by_a_direct_server() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let Some(direct) = Server::redis() else {
        return;
    };
    let pipelines = setting("EMBERLINE_PIPELINES", 20_000);
    compare_all(Emberline::redis(&servers), &direct, pipelines);
    let used = servers
        .iter()
        .all(|server| server.client().call(&["DBSIZE"]) != b":0\r\n");
    assert!(used || pipelines < 1000, "all keys went to one server");
}

/// Every key is promoted at its first read, so that memory has a say in
/// everything.
#[test]
fn pipelines_are_answered_no_otherwise_when_every_key_is_hot() {
    for mode in ["ttl", "tracking"] {
        let Some(servers) = Server::redis_many(2) else {
            return;
        };
        let Some(direct) = Server::redis() else {
            return;
        };
        let addresses = [servers[0].address(), servers[1].address()];
        let proxy = Emberline::config(&format!(
            "[listeners.redis]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"pool\"\n\
             [pools.pool]\nprotocol = \"redis\"\nservers = [\"{}\", \"{}\"]\nrequest_timeout = \"10s\"\n\
             [hotkey]\nthreshold = 1\n\
             [l1]\nmode = \"{mode}\"\nttl = \"30s\"\nreads_per_invalidation = 0\n",
            addresses[0], addresses[1]
        ));
        let pipelines = setting("EMBERLINE_PIPELINES", 20_000) / 20;
        compare_all(proxy, &direct, pipelines);
    }
}

/// So many pipelines of all clients.
fn compare_all(mut proxy: Emberline, direct: &Server, pipelines: u64) {
    let seed = setting("EMBERLINE_SEED", 1);
    println!("EMBERLINE_SEED={seed} EMBERLINE_PIPELINES={pipelines}");

    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (proxy, failed) = (&proxy, &failed);
            let share = pipelines / CLIENTS + u64::from(number < pipelines % CLIENTS);
            scope.spawn(move || {
                let mut pair = Pair::new(proxy, direct, number, seed);
                for pipeline in 0..share {
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(difference) = pair.run_one() {
                        failed.store(true, Ordering::Relaxed);
                        panic!("seed {seed}, client {number}, pipeline {pipeline}: {difference}");
                    }
                }
            });
        }
    });
    proxy.assert_alive();
}

/// One client, twice: through the proxy and without.
struct Pair {
    commands: Commands,
    proxied: Client,
    direct: Client,
}

impl Pair {
    fn new(proxy: &Emberline, direct: &Server, number: u64, seed: u64) -> Pair {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let mut pair = Pair {
            commands: Commands::new(seed, &format!("c{number}"), VALUE_MAX),
            proxied: proxy.client(),
            direct: direct.client(),
        };
        if number % 2 == 1 {
            for client in [&mut pair.proxied, &mut pair.direct] {
                assert!(client.call(&["HELLO", "3"]).starts_with(b"%"));
            }
        }
        pair
    }

    fn run_one(&mut self) -> Result<(), String> {
        let pipeline = self.commands.pipeline();
        let bytes: Vec<u8> = pipeline
            .iter()
            .flat_map(|asked| asked.bytes.clone())
            .collect();
        let pieces = self.commands.pieces(&bytes);
        let sides = [self.proxied.writer(), self.direct.writer()];
        if bytes.len() < UNREAD_MAX {
            sides.into_iter().for_each(|side| write(side, &pieces));
            return self.compare(&pipeline);
        }
        std::thread::scope(|scope| {
            for side in sides {
                scope.spawn(|| write(side, &pieces));
            }
            self.compare(&pipeline)
        })
    }

    fn compare(&mut self, pipeline: &[Asked]) -> Result<(), String> {
        for (index, asked) in pipeline.iter().enumerate() {
            for _ in 0..asked.replies {
                let expected = self.direct.reply();
                let reply = self.proxied.try_reply();
                if reply.as_ref() != Ok(&expected) {
                    let reply = reply.map_or_else(|kind| format!("({kind})"), |reply| show(&reply));
                    return Err(format!(
                        "request {index} of {}\n  asked:  {}\n  direct: {}\n  proxy:  {reply}",
                        pipeline.len(),
                        show(&asked.bytes),
                        show(&expected),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn write(mut side: TcpStream, pieces: &[&[u8]]) {
    for piece in pieces {
        // The other end may hang up on us: what is read says why.
        if side.write_all(piece).is_err() {
            return;
        }
    }
}

#[test]
fn a_session_changes_its_protocol_between_requests() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let Some(direct) = Server::redis() else {
        return;
    };
    let proxy = Emberline::redis(&servers);
    let mut clients = [proxy.client(), direct.client()];
    let mut said: [Vec<Vec<u8>>; 2] = Default::default();
    for (client, said) in clients.iter_mut().zip(&mut said) {
        let mut bytes = Vec::new();
        for protocol in ["3", "2", "3", "2"] {
            bytes.extend(command(&["HSET", "h", "f", protocol]));
            bytes.extend(command(&["HELLO", protocol]));
            bytes.extend(command(&["HGETALL", "h"]));
            bytes.extend(command(&["GET", "missing"]));
            bytes.extend(command(&["MGET", "missing", "h", "other", "b"]));
        }
        client.send(&bytes);
        for index in 0..20 {
            let reply = client.reply();
            // What HELLO says differs in ids and versions.
            said.push(if index % 5 == 1 {
                reply[..1].to_vec()
            } else {
                reply
            });
        }
    }
    let [proxied, direct] = said;
    for (proxied, direct) in proxied.iter().zip(&direct) {
        assert_eq!(show(proxied), show(direct));
    }
}

/// What both sides say last. Not an end of the connection: a server drops
/// what it has not yet written to a client that has finished.
const LAST: &str = "that is all";

/// Send the same to both sides, and compare all that comes back.
fn compare_whole(proxy: &Emberline, direct: &Server, bytes: &mut Vec<u8>, random: &mut Random) {
    bytes.extend(command(&["CLIENT", "REPLY", "ON"]));
    bytes.extend(command(&["ECHO", LAST]));
    let pieces = random.pieces(bytes, 60);
    let [got, expected] = [proxy.client(), direct.client()].map(|mut client| {
        let mut writer = client.writer();
        std::thread::scope(|scope| {
            let pieces = &pieces;
            scope.spawn(move || {
                for piece in pieces {
                    // A pause now and then, so that the pieces are read as pieces.
                    if piece.len() % 3 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    writer.write_all(piece).unwrap();
                }
            });
            client.until(format!("${}\r\n{LAST}\r\n", LAST.len()).as_bytes())
        })
    });
    assert_same(&got, &expected);
}

#[test]
fn values_larger_than_any_buffer_pass_in_their_turn() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let Some(direct) = Server::redis() else {
        return;
    };
    let mut proxy = Emberline::redis(&servers);
    let mut random = Random::new(setting("EMBERLINE_SEED", 1));
    for round in 0..6 {
        let mut bytes = Vec::new();
        if round % 2 == 1 {
            // Its reply names versions: only what follows is of interest.
            bytes.extend(command(&["CLIENT", "REPLY", "SKIP"]));
            bytes.extend(command(&["HELLO", "3"]));
        }
        for number in 0..12 {
            let key = |number: usize| format!("{number}:large-{round}").into_bytes();
            let sizes = [10, 70_000, 1 << 20, (1 << 20) + 1, 3_000_000];
            let (size, other) = (*random.pick(&sizes), *random.pick(&sizes));
            let value = random.bytes(size);
            bytes.extend(match random.below(5) {
                0 => command(&[
                    b"MSET".to_vec(),
                    key(number),
                    value,
                    key(number + 1),
                    random.bytes(other),
                ]),
                1 => command(&[b"APPEND".to_vec(), key(number), value]),
                2 => command(&[
                    b"RPUSH".to_vec(),
                    key(number),
                    value,
                    random.bytes(other),
                    b"x".to_vec(),
                ]),
                3 => command(&[b"NOSUCHCOMMAND".to_vec(), value]),
                _ => command(&[b"SET".to_vec(), key(number), value]),
            });
            bytes.extend(command(&[b"GET".to_vec(), key(random.below(number + 1))]));
            bytes.extend(command(&[b"MGET".to_vec(), key(number), key(0), key(1)]));
            bytes.extend(command(&[
                b"LRANGE".to_vec(),
                key(number),
                b"0".to_vec(),
                b"-1".to_vec(),
            ]));
            bytes.extend(command(&[b"PING".to_vec()]));
        }
        compare_whole(&proxy, &direct, &mut bytes, &mut random);
    }
    proxy.assert_alive();
}

#[test]
fn a_client_that_wants_no_replies_gets_none() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let Some(direct) = Server::redis() else {
        return;
    };
    let mut proxy = Emberline::redis(&servers);
    let mut random = Random::new(1);
    for _ in 0..30 {
        let mut bytes = Vec::new();
        for _ in 0..random.within(1, 60) {
            let key = format!("{}:key", random.below(6));
            let other = format!("{}:key", random.below(6));
            bytes.extend(match random.below(10) {
                0 => command(&["CLIENT", "REPLY", "OFF"]),
                1 | 2 => command(&["CLIENT", "REPLY", "ON"]),
                3 => command(&["CLIENT", "REPLY", "SKIP"]),
                4 => command(&["SET", &key, &other]),
                5 => command(&["MSET", &key, "1", &other, "2"]),
                6 => command(&["MGET", &key, &other]),
                7 => command(&["PING"]),
                8 => command(&["GET", &key, &other]),
                9 if random.one_in(4) => command(&["SET", &key, &"large".repeat(300_000)]),
                _ => command(&["GET", &key]),
            });
        }
        compare_whole(&proxy, &direct, &mut bytes, &mut random);
    }
    proxy.assert_alive();
}
