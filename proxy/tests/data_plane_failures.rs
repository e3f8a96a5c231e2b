//! Servers that die or freeze: whatever happens, a reply goes
//! to the request that it answers or to nobody.
//!
//! Every value names its key, its client and the write that made it, so that a
//! reply in the wrong place is seen for what it is.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Client, Emberline, Random, Server, addresses, command, setting, show};

const CLIENTS: usize = 16;

/// Keys of one client.
const KEYS: usize = 8;

/// What may happen to a server in a test.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// It is killed and starts again, empty.
    Kill,
    /// It stops for longer than the request timeout and goes on. A write that
    /// was given up may then overtake a later one.
    Freeze,
}

#[test]
fn no_value_goes_astray_while_servers_are_killed() {
    let Some(mut servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis_within(&addresses(&servers), "2s");
    let rounds = setting("EMBERLINE_KILLS", 10);
    let tally = traffic(&proxy, Harm::Kill, |random| {
        for _ in 0..rounds {
            std::thread::sleep(Duration::from_millis(200 + random.next() % 400));
            let first = random.below(servers.len());
            servers[first].kill();
            if random.one_in(3) {
                servers[1 - first].kill();
            }
            std::thread::sleep(Duration::from_millis(random.next() % 150));
            servers
                .iter_mut()
                .filter(|server| !server.is_running())
                .for_each(Server::restart);
        }
    });
    proxy.assert_alive();
    assert!(tally.right() > 1000, "{tally:?}");
    assert!(
        tally.errors() > 0,
        "nobody noticed that the servers were killed"
    );
}

#[test]
fn a_late_reply_reaches_nobody() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis_within(&addresses(&servers), "150ms");
    let rounds = setting("EMBERLINE_FREEZES", 6);
    let tally = traffic(&proxy, Harm::Freeze, |random| {
        for _ in 0..rounds {
            std::thread::sleep(Duration::from_millis(random.next() % 200));
            let server = random.pick(&servers);
            server.freeze();
            std::thread::sleep(Duration::from_millis(100 + random.next() % 400));
            server.thaw();
        }
    });
    proxy.assert_alive();
    assert!(
        tally.errors() > 0,
        "nobody noticed that the servers were frozen"
    );
}

#[derive(Debug, Default)]
struct Tally {
    right: AtomicUsize,
    errors: AtomicUsize,
    hangups: AtomicUsize,
}

impl Tally {
    fn right(&self) -> usize {
        self.right.load(Ordering::Relaxed)
    }

    fn errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Clients write and read while `harm` is done; afterwards all must be well.
fn traffic(proxy: &Emberline, kind: Harm, harm: impl FnOnce(&mut Random)) -> Tally {
    let seed = setting("EMBERLINE_SEED", 1);
    let (tally, over) = (Tally::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tally, over) = (&tally, &over);
            scope.spawn(move || {
                let mut owner = Owner::new(proxy, number, seed, kind);
                while !over.load(Ordering::Relaxed) {
                    if !owner.run_one(proxy, tally) {
                        // Errors come so fast that nothing else would be done.
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
                owner.recover(proxy);
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            harm(&mut Random::new(seed));
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    println!("{tally:?}");
    tally
}

/// A client and what it knows of its keys.
struct Owner {
    number: usize,
    client: Client,
    random: Random,
    writes: u64,
    kind: Harm,
    /// The newest write of each key that is known to have been made.
    known: HashMap<usize, u64>,
}

/// What a reply has to be.
#[derive(Debug)]
enum Expected {
    /// `+OK`, for these writes.
    Written(Vec<(usize, u64)>),
    Value(usize),
    Values(Vec<usize>),
    /// How many of so many keys there are.
    Count(usize),
    /// Exactly this, whatever the servers do.
    Own(Vec<u8>),
}

impl Owner {
    fn new(proxy: &Emberline, number: usize, seed: u64, kind: Harm) -> Owner {
        let mut owner = Owner {
            number,
            client: proxy.client(),
            random: Random::new(seed.wrapping_mul(7919).wrapping_add(number as u64)),
            writes: 0,
            kind,
            known: HashMap::new(),
        };
        owner.greet();
        owner
    }

    fn greet(&mut self) {
        if self.number % 2 == 1 {
            assert!(self.client.call(&["HELLO", "3"]).starts_with(b"%"));
        }
    }

    fn key(&self, key: usize) -> String {
        format!("key{key}-of-{}", self.number)
    }

    /// `key|client|write|padding`.
    fn value(&mut self, key: usize) -> (u64, Vec<u8>) {
        self.writes += 1;
        let mut value = format!("{}|{}|{}|", self.key(key), self.number, self.writes).into_bytes();
        let padding = if self.random.one_in(30) { 200_000 } else { 300 };
        value.resize(value.len() + self.random.below(padding), b'.');
        (self.writes, value)
    }

    fn make(&mut self) -> (Vec<u8>, Expected) {
        let key = self.random.below(KEYS);
        match self.random.below(10) {
            0..=3 => {
                let (write, value) = self.value(key);
                let request = command(&[b"SET".to_vec(), self.key(key).into(), value]);
                (request, Expected::Written(vec![(key, write)]))
            }
            4..=6 => (
                command(&["GET".to_owned(), self.key(key)]),
                Expected::Value(key),
            ),
            7 => {
                let keys: Vec<usize> = (0..self.random.within(2, 6))
                    .map(|_| self.random.below(KEYS))
                    .collect();
                let mut args = vec!["MGET".to_owned()];
                args.extend(keys.iter().map(|&key| self.key(key)));
                (command(&args), Expected::Values(keys))
            }
            8 => {
                let (mut args, mut written) = (vec![b"MSET".to_vec()], Vec::new());
                for key in 0..3 {
                    let (write, value) = self.value(key);
                    args.extend([self.key(key).into_bytes(), value]);
                    written.push((key, write));
                }
                (command(&args), Expected::Written(written))
            }
            _ if self.random.one_in(2) => {
                let args = [
                    "EXISTS".to_owned(),
                    self.key(0),
                    self.key(1),
                    self.key(2),
                    self.key(3),
                ];
                (command(&args), Expected::Count(4))
            }
            _ => {
                let word = format!("echo-{}-{}", self.number, self.random.next());
                let reply = format!("${}\r\n{word}\r\n", word.len());
                (command(&["ECHO", &word]), Expected::Own(reply.into_bytes()))
            }
        }
    }

    /// One pipeline; true if every reply was right and none an error.
    fn run_one(&mut self, proxy: &Emberline, tally: &Tally) -> bool {
        let asked: Vec<_> = (0..self.random.within(1, 24))
            .map(|_| self.make())
            .collect();
        let bytes: Vec<u8> = asked
            .iter()
            .flat_map(|(request, _)| request.clone())
            .collect();
        let mut writer = self.client.writer();
        let mut well = true;
        std::thread::scope(|scope| {
            // Somebody must read meanwhile: values may be large.
            scope.spawn(move || writer.write_all(&bytes));
            for (_, expected) in &asked {
                match self.client.try_reply() {
                    Ok(reply) if self.check(expected, &reply) => {
                        tally.right.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(_) => {
                        well = false;
                        tally.errors.fetch_add(1, Ordering::Relaxed);
                    }
                    // A reply that has begun and cannot end costs the connection.
                    Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                        well = false;
                        tally.hangups.fetch_add(1, Ordering::Relaxed);
                        self.client.finish_quietly();
                        self.client = proxy.client();
                        self.greet();
                        return;
                    }
                    Err(kind) => panic!("client {}: no reply to {expected:?}: {kind}", self.number),
                }
            }
        });
        well
    }

    /// Whether `reply` is right; false if it is an error; wrong is a panic.
    fn check(&mut self, expected: &Expected, reply: &[u8]) -> bool {
        let number = self.number;
        let wrong = || -> ! {
            panic!(
                "client {number}: expected {expected:?}, got {}",
                show(reply)
            )
        };
        if let Expected::Own(own) = expected {
            return if own == reply { true } else { wrong() };
        }
        if reply.starts_with(b"-") {
            let ours = reply.starts_with(b"-ERR server 127.0.0.1:");
            // A restarted server says so while it loads nothing.
            return if ours || reply.starts_with(b"-LOADING") {
                false
            } else {
                wrong()
            };
        }
        match expected {
            Expected::Written(writes) => {
                if reply != b"+OK\r\n" {
                    wrong();
                }
                self.known.extend(writes.iter().copied());
            }
            Expected::Value(key) => {
                if !self.owns(*key, reply) {
                    wrong();
                }
            }
            Expected::Values(keys) => {
                let head = format!("*{}\r\n", keys.len());
                let Some(elements) = reply.strip_prefix(head.as_bytes()) else {
                    wrong()
                };
                let elements = support::replies(elements);
                if elements.len() != keys.len()
                    || !keys
                        .iter()
                        .zip(elements)
                        .all(|(key, value)| self.owns(*key, value))
                {
                    wrong();
                }
            }
            Expected::Count(most) => {
                let text = std::str::from_utf8(reply)
                    .ok()
                    .and_then(|text| text.strip_prefix(':'));
                if text
                    .and_then(|text| text.trim_end().parse::<usize>().ok())
                    .is_none_or(|count| count > *most)
                {
                    wrong();
                }
            }
            Expected::Own(_) => {}
        }
        true
    }

    /// Whether this is a value that we wrote for `key`, or none.
    fn owns(&mut self, key: usize, reply: &[u8]) -> bool {
        if reply == b"$-1\r\n" || reply == b"_\r\n" {
            return true;
        }
        let Some(line) = reply.windows(2).position(|two| two == b"\r\n") else {
            return false;
        };
        let value = &reply[line + 2..reply.len() - 2];
        let start = format!("{}|{}|", self.key(key), self.number);
        let Some(rest) = value.strip_prefix(start.as_bytes()) else {
            return false;
        };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let Ok(write) = std::str::from_utf8(&rest[..digits]).unwrap().parse::<u64>() else {
            return false;
        };
        let known = self.known.get(&key).copied().unwrap_or(0);
        if write > self.writes || self.kind == Harm::Kill && write < known {
            return false;
        }
        self.known.insert(key, write);
        rest[digits..].first() == Some(&b'|') && rest[digits + 1..].iter().all(|byte| *byte == b'.')
    }

    /// All servers are there again: soon nothing fails any more.
    fn recover(&mut self, proxy: &Emberline) {
        let deadline = Instant::now() + Duration::from_secs(15);
        let tally = Tally::default();
        while !(0..5).all(|_| self.run_one(proxy, &tally)) {
            assert!(
                Instant::now() < deadline,
                "client {} does not recover: {tally:?}",
                self.number
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_dead_server_fails_fast_and_alone() {
    let Some(mut servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis_within(&addresses(&servers), "60s");
    let mut client = proxy.client();
    let key_of = |server: &Server, client: &mut Client| {
        (0..)
            .map(|number| format!("{number}:some-key"))
            .find(|key| {
                assert_eq!(client.call(&["SET", key, key]), b"+OK\r\n");
                server.client().call(&["EXISTS", key]) == b":1\r\n"
            })
    };
    let dead = key_of(&servers[0], &mut client).unwrap();
    let alive = key_of(&servers[1], &mut client).unwrap();

    // What is in flight when it dies is answered at once, not in a minute.
    servers[0].freeze();
    client.send(&command(&["GET", &dead]));
    assert!(client.is_silent(Duration::from_millis(50)));
    servers[0].kill();
    let started = Instant::now();
    assert!(client.reply().starts_with(b"-ERR server 127.0.0.1:"));
    // So is everything that comes later, whoever asks.
    for _ in 0..20 {
        let mut other = proxy.client();
        assert!(
            other
                .call(&["GET", &dead])
                .starts_with(b"-ERR server 127.0.0.1:")
        );
        assert!(
            other
                .call(&["MGET", &dead, &alive])
                .starts_with(b"-ERR server 127.0.0.1:")
        );
        assert!(
            other
                .call(&["GET", &alive])
                .ends_with(format!("\r\n{alive}\r\n").as_bytes())
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );

    servers[0].restart();
    let deadline = Instant::now() + Duration::from_secs(15);
    while client.call(&["SET", &dead, "again"]) != b"+OK\r\n" {
        assert!(Instant::now() < deadline, "the server is not used again");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(client.call(&["GET", &dead]), b"$5\r\nagain\r\n");
    proxy.assert_alive();
}

#[test]
fn a_frozen_server_does_not_hold_up_another() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis_within(&addresses(&servers), "400ms");
    let mut client = proxy.client();
    servers[0].freeze();
    // Some of these keys are on the frozen server, and each is asked for by
    // itself: the others are answered, in their turn.
    let keys: Vec<String> = (0..40).map(|number| format!("{number}:some-key")).collect();
    let pipeline: Vec<u8> = keys
        .iter()
        .flat_map(|key| command(&["SET", key, key]))
        .collect();
    client.send(&pipeline);
    let replies: Vec<Vec<u8>> = keys.iter().map(|_| client.reply()).collect();
    let written = replies.iter().filter(|reply| *reply == b"+OK\r\n").count();
    assert!((1..40).contains(&written), "{written} of 40");
    for reply in replies.iter().filter(|reply| *reply != b"+OK\r\n") {
        assert!(
            reply.ends_with(b"did not answer in time\r\n"),
            "{}",
            show(reply)
        );
    }
    servers[0].thaw();
    let deadline = Instant::now() + Duration::from_secs(15);
    for key in &keys {
        while client.call(&["SET", key, key]) != b"+OK\r\n" {
            assert!(Instant::now() < deadline, "{key} is not written");
        }
        assert!(
            client
                .call(&["GET", key])
                .ends_with(format!("\r\n{key}\r\n").as_bytes())
        );
    }
    proxy.assert_alive();
}

#[test]
fn no_memcached_value_goes_astray_while_servers_are_killed() {
    let Some(mut servers) = Server::memcached_many(2) else {
        return;
    };
    let mut proxy = Emberline::memcached(&servers);
    let over = AtomicBool::new(false);
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (proxy, over, tally) = (&proxy, &over, &tally);
            scope.spawn(move || {
                let mut client = proxy.client();
                let mut random = Random::new(number as u64);
                while !over.load(Ordering::Relaxed) {
                    memcached_pipeline(&mut client, number, &mut random, tally);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..6 {
                std::thread::sleep(Duration::from_millis(300));
                servers[round % 2].kill();
                std::thread::sleep(Duration::from_millis(50));
                servers[round % 2].restart();
            }
        }));
        over.store(true, Ordering::Relaxed);
        done.unwrap();
    });
    println!("{tally:?}");
    assert!(tally.right() > 1000 && tally.errors() > 0, "{tally:?}");
    proxy.assert_alive();
}

/// Sets, gets and multi-gets of the client's own keys, in one write.
fn memcached_pipeline(client: &mut Client, number: usize, random: &mut Random, tally: &Tally) {
    let name = |key: usize| format!("{key}:key-of-{number}");
    let mut asked: Vec<Vec<usize>> = Vec::new();
    let mut bytes = String::new();
    for _ in 0..random.within(1, 20) {
        let key = random.below(KEYS);
        if random.one_in(2) {
            let value = format!("{}|{}", name(key), ".".repeat(random.below(2000)));
            bytes += &format!("set {} 0 0 {}\r\n{value}\r\n", name(key), value.len());
            asked.push(Vec::new());
        } else {
            // In their order and each once, so that what is missing can be told.
            let keys: Vec<usize> = (0..KEYS)
                .filter(|other| *other == key || random.one_in(3))
                .collect();
            let names: Vec<String> = keys.iter().map(|key| name(*key)).collect();
            bytes += &format!("get {}\r\n", names.join(" "));
            asked.push(keys);
        }
    }
    client.send(bytes.as_bytes());
    for keys in asked {
        let reply = client.memcached_reply();
        if reply.starts_with(b"SERVER_ERROR server 127.0.0.1:") {
            tally.errors.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        tally.right.fetch_add(1, Ordering::Relaxed);
        if keys.is_empty() {
            assert_eq!(show(&reply), "STORED\\r\\n");
            continue;
        }
        let text = String::from_utf8(reply).unwrap();
        let mut lines = text.lines();
        let mut expected = keys.iter().map(|key| name(*key));
        while let Some(line) = lines.next().filter(|line| *line != "END") {
            let key = line.split(' ').nth(1).unwrap();
            assert!(
                expected.any(|name| name == key),
                "{line} is not asked for, or not in its turn"
            );
            let value = lines.next().unwrap();
            assert!(
                value.starts_with(&format!("{key}|")),
                "{line}: {}",
                show(value.as_bytes())
            );
        }
        assert!(text.ends_with("END\r\n"));
    }
}
