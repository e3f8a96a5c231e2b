//! memcached over two servers: split, quiet, partial and large requests, and
//! random pipelines of text and meta commands compared with a direct server.
//!
//! `EMBERLINE_PIPELINES` and `EMBERLINE_SEED` as for Redis.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Client, Emberline, Random, Server, assert_same, setting, show};

const CLIENTS: u64 = 20;

fn pair() -> Option<(Vec<Server>, Emberline)> {
    let servers = Server::memcached_many(2)?;
    let proxy = Emberline::memcached(&servers);
    Some((servers, proxy))
}

/// Keys that the hash spreads over the servers.
fn keys(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{number}:some-key"))
        .collect()
}

fn store(client: &mut Client, keys: &[String]) {
    for key in keys {
        let set = format!("set {key} 7 0 {}\r\n{key}\r\n", key.len());
        assert_eq!(show(&client.ask(set)), "STORED\\r\\n");
    }
}

fn block(key: &str) -> String {
    format!("VALUE {key} 7 {}\r\n{key}\r\n", key.len())
}

/// How many items a server has.
fn items(server: &Server) -> usize {
    let stats = String::from_utf8(server.client().ask("stats\r\n")).unwrap();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("STAT curr_items "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_multi_get_is_answered_in_the_order_of_its_keys() {
    let Some((servers, mut proxy)) = pair() else {
        return;
    };
    let mut client = proxy.client();
    let keys = keys(60);
    store(&mut client, &keys);
    assert!(
        servers.iter().all(|server| items(server) > 0),
        "all keys went to one server"
    );
    let mut random = Random::new(1);
    for _ in 0..100 {
        let mut asked = Vec::new();
        for _ in 0..random.within(2, 40) {
            let missing = random.one_in(5);
            let key = random.pick(&keys).clone();
            asked.push(if missing {
                format!("missing-{key}")
            } else {
                key
            });
        }
        let expected: String = asked
            .iter()
            .filter(|key| !key.starts_with("missing"))
            .map(|key| block(key))
            .collect();
        let get = format!("get {}\r\n", asked.join(" "));
        assert_same(&client.ask(get), format!("{expected}END\r\n").as_bytes());
        let gat = format!("gat 0 {}\r\n", asked.join(" "));
        assert_same(&client.ask(gat), format!("{expected}END\r\n").as_bytes());
    }
    proxy.assert_alive();
}

#[test]
fn a_cas_unique_comes_from_the_server_and_goes_back() {
    let Some((_servers, proxy)) = pair() else {
        return;
    };
    let mut client = proxy.client();
    let keys = keys(10);
    store(&mut client, &keys);
    let all = String::from_utf8(client.ask(format!("gets {}\r\n", keys.join(" ")))).unwrap();
    let lines: Vec<&str> = all
        .lines()
        .filter(|line| line.starts_with("VALUE "))
        .collect();
    assert_eq!(lines.len(), keys.len());
    for (key, line) in keys.iter().zip(lines) {
        let (_, unique) = line.rsplit_once(' ').unwrap();
        assert!(line.starts_with(&format!("VALUE {key} ")));
        let cas = |value: &str| format!("cas {key} 0 0 {} {unique}\r\n{value}\r\n", value.len());
        assert_eq!(show(&client.ask(cas("first"))), "STORED\\r\\n");
        assert_eq!(show(&client.ask(cas("second"))), "EXISTS\\r\\n");
    }
    let cas = "cas nothing 0 0 1 1\r\nx\r\n";
    assert_eq!(show(&client.ask(cas)), "NOT_FOUND\\r\\n");
}

#[test]
fn what_is_quiet_stays_quiet_and_in_order() {
    let Some((_servers, proxy)) = pair() else {
        return;
    };
    let mut client = proxy.client();
    let keys = keys(20);
    let mut sent = String::new();
    for key in &keys {
        sent += &format!("set {key} 7 0 {} noreply\r\n{key}\r\n", key.len());
    }
    sent += &format!("get {}\r\n", keys.join(" "));
    sent += &format!(
        "delete {} noreply\r\nadd {} 0 0 1 noreply\r\nx\r\n",
        keys[0], keys[1]
    );
    sent += &format!(
        "mg {} v q\r\nmg {} v k q\r\nmg {} v q\r\nmn\r\n",
        keys[0], keys[1], keys[0]
    );
    for key in &keys {
        sent += &format!("ms {key} 1 q\r\ny\r\n");
    }
    sent += &format!("ma {} q\r\nmd {} q\r\nmn\r\n", keys[2], keys[3]);
    client.send(sent.as_bytes());
    let blocks: String = keys.iter().map(|key| block(key)).collect();
    let expected = format!(
        "{blocks}END\r\nVA {} k{}\r\n{}\r\nMN\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\nMN\r\n",
        keys[1].len(),
        keys[1],
        keys[1]
    );
    client.finish();
    assert_same(&client.rest(), expected.as_bytes());
}

#[test]
fn flush_all_empties_both_servers() {
    let Some((servers, proxy)) = pair() else {
        return;
    };
    let mut client = proxy.client();
    let keys = keys(20);
    let get = format!("get {}\r\n", keys.join(" "));
    for flush in ["flush_all\r\n", "flush_all 0\r\n", "flush_all noreply\r\n"] {
        store(&mut client, &keys);
        assert!(servers.iter().all(|server| items(server) > 0));
        // memcached's clock has seconds: what is stored in the same one stays.
        std::thread::sleep(Duration::from_millis(1100));
        client.send(flush.as_bytes());
        if !flush.contains("noreply") {
            assert_eq!(show(&client.memcached_reply()), "OK\\r\\n");
        }
        assert_eq!(show(&client.ask(&get)), "END\\r\\n");
    }
}

fn with_partial(servers: &[Server], partial: &str) -> Emberline {
    let addresses: Vec<String> = servers
        .iter()
        .map(|server| format!("\"{}\"", server.address()))
        .collect();
    Emberline::config(&format!(
        "[listeners.memcached]\nprotocol = \"memcached\"\nbind = \"MEMCACHED_BIND\"\nroute = \"pool\"\n\
         [pools.pool]\nprotocol = \"memcached\"\nservers = [{}]\npartial = \"{partial}\"\n",
        addresses.join(", ")
    ))
}

#[test]
fn a_server_that_is_down_is_an_error_or_a_miss_as_configured() {
    let Some(mut servers) = Server::memcached_many(2) else {
        return;
    };
    let keys = keys(20);
    for partial in ["error", "missing"] {
        let mut proxy = with_partial(&servers, partial);
        let mut client = proxy.client();
        store(&mut client, &keys);
        let get = format!("get {}\r\n", keys.join(" "));
        let mut left = servers[1].client();
        servers[0].kill();
        let deadline = Instant::now() + Duration::from_secs(10);
        for _ in 0..10 {
            let reply = client.ask(&get);
            if partial == "error" {
                assert!(
                    reply.starts_with(b"SERVER_ERROR server 127.0.0.1:"),
                    "{}",
                    show(&reply)
                );
            } else {
                let expected = left.ask(&get);
                assert!(expected.len() > 20);
                assert_same(&reply, &expected);
            }
            // A single key and a write are never a miss: nobody said so.
            let lost = keys
                .iter()
                .find(|key| left.ask(format!("get {key}\r\n")) == b"END\r\n")
                .unwrap();
            let reply = client.ask(format!("set {lost} 0 0 1\r\nx\r\n"));
            assert!(
                reply.starts_with(b"SERVER_ERROR server 127.0.0.1:"),
                "{}",
                show(&reply)
            );
            let flush = client.ask("flush_all 1000\r\n");
            assert!(
                flush.starts_with(b"SERVER_ERROR server 127.0.0.1:"),
                "{}",
                show(&flush)
            );
            assert!(Instant::now() < deadline, "errors are slow");
        }
        servers[0].restart();
        proxy.assert_alive();
    }
}

#[test]
fn values_as_large_as_a_server_takes_pass() {
    let Some((_servers, mut proxy)) = pair() else {
        return;
    };
    let Some(direct) = Server::memcached() else {
        return;
    };
    let mut sides = [proxy.client(), direct.client()];
    let mut random = Random::new(1);
    let sizes = [
        65_535, 500_000, 1_000_000, 1_048_300, 1_048_576, 1_048_577, 2_000_000,
    ];
    for (number, size) in sizes.into_iter().enumerate() {
        let value = random.bytes(size);
        let mut bytes = format!("set {number}:large-value 0 0 {size}\r\n").into_bytes();
        bytes.extend_from_slice(&value);
        bytes.extend_from_slice(
            format!("\r\nget {number}:large-value other\r\nms {number}:meta S{size}\r\n")
                .as_bytes(),
        );
        // The meta command's size is its second word: this one is an error.
        bytes.extend_from_slice(format!("ms {number}:meta-value {size}\r\n").as_bytes());
        bytes.extend_from_slice(&value);
        bytes.extend_from_slice(format!("\r\nmg {number}:meta-value v s\r\nmn\r\n").as_bytes());
        let replies = sides.each_mut().map(|side| {
            let mut writer = side.writer();
            std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&bytes));
                until_noop(side)
            })
        });
        assert!(
            replies[0] == replies[1],
            "{size}: {} and {}",
            show(&replies[0]),
            show(&replies[1])
        );
    }
    proxy.assert_alive();
}

/// Everything up to the answer to `mn`.
fn until_noop(client: &mut Client) -> Vec<u8> {
    let mut replies = Vec::new();
    loop {
        let reply = client.memcached_reply();
        replies.extend_from_slice(&reply);
        if reply == b"MN\r\n" {
            return replies;
        }
    }
}

#[test]
fn pipelines_are_answered_as_by_a_direct_memcached() {
    let Some(servers) = Server::memcached_many(2) else {
        return;
    };
    let Some(direct) = Server::memcached() else {
        return;
    };
    let mut proxy = Emberline::memcached(&servers);
    let pipelines = setting("EMBERLINE_PIPELINES", 4000);
    let seed = setting("EMBERLINE_SEED", 1);
    println!("EMBERLINE_SEED={seed} EMBERLINE_PIPELINES={pipelines}");
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (proxy, direct, failed) = (&proxy, &direct, &failed);
            scope.spawn(move || {
                let mut commands = Commands {
                    random: Random::new(seed.wrapping_mul(1_000_003).wrapping_add(number)),
                    client: number,
                };
                let mut sides = [proxy.client(), direct.client()];
                for pipeline in 0..pipelines.div_ceil(CLIENTS) {
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(difference) = run_one(&mut commands, &mut sides) {
                        failed.store(true, Ordering::Relaxed);
                        panic!("seed {seed}, client {number}, pipeline {pipeline}: {difference}");
                    }
                }
            });
        }
    });
    proxy.assert_alive();
    assert!(
        servers.iter().all(|server| items(server) > 0),
        "all keys went to one server"
    );
}

fn run_one(commands: &mut Commands, sides: &mut [Client; 2]) -> Result<(), String> {
    let asked: Vec<Vec<u8>> = (0..commands.random.within(1, 40))
        .map(|_| commands.next())
        .collect();
    let mut bytes = asked.concat();
    bytes.extend_from_slice(b"mn\r\n");
    let cuts = commands.random.below(12);
    let pieces = commands.random.pieces(&bytes, cuts);
    let [proxied, direct] = sides;
    let (a, b) = std::thread::scope(|scope| {
        for mut writer in [direct.writer(), proxied.writer()] {
            let pieces = &pieces;
            // What is not taken shows in what is read.
            scope.spawn(move || pieces.iter().try_for_each(|piece| writer.write_all(piece)));
        }
        let expected = until_noop(direct);
        (proxied.at_most(expected.len()), expected)
    });
    if a == b {
        return Ok(());
    }
    let at = a
        .iter()
        .zip(&b)
        .position(|(a, b)| a != b)
        .unwrap_or(a.len().min(b.len()));
    let from = at.saturating_sub(60);
    let asked: Vec<String> = asked.iter().map(|asked| show(asked)).collect();
    Err(format!(
        "replies differ at {at}\n  direct: {}\n  proxy:  {}\n  asked:  {}",
        show(&b[from..]),
        show(&a[from.min(a.len())..]),
        asked.join("\n          "),
    ))
}

/// What one client asks; see the Redis generator for what is left out.
struct Commands {
    random: Random,
    client: u64,
}

impl Commands {
    fn next(&mut self) -> Vec<u8> {
        match self.random.below(20) {
            0..=5 => self.read(),
            6..=10 => self.store(),
            11..=13 => self.change(),
            14..=18 => self.meta(),
            _ => self.wrong(),
        }
    }

    fn key(&mut self) -> String {
        format!("{}:key-of-{}", self.random.below(8), self.client)
    }

    fn counter(&mut self) -> String {
        format!("{}:counter-of-{}", self.random.below(3), self.client)
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.below(40) {
            0 => self.random.below(100_000),
            1..=3 => 0,
            4..=12 => self.random.below(2000),
            _ => self.random.below(30),
        };
        self.random.bytes(len)
    }

    fn noreply(&mut self) -> &'static str {
        if self.random.one_in(4) {
            " noreply"
        } else {
            ""
        }
    }

    fn read(&mut self) -> Vec<u8> {
        let count = if self.random.one_in(2) {
            1
        } else {
            self.random.within(2, 12)
        };
        let keys: Vec<String> = (0..count).map(|_| self.key()).collect();
        let end = self.random.pick(&["\r\n", "\r\n", "\n"]);
        match self.random.below(5) {
            0 => format!("gat 0 {}{end}", keys.join(" ")),
            _ => format!("get {}{end}", keys.join(" ")),
        }
        .into_bytes()
    }

    fn store(&mut self) -> Vec<u8> {
        let verb = *self.random.pick(&[
            "set", "set", "set", "add", "replace", "append", "prepend", "cas",
        ]);
        let (key, value) = match self.random.one_in(6) {
            true => (
                self.counter(),
                self.random.below(1000).to_string().into_bytes(),
            ),
            false => (self.key(), self.value()),
        };
        let flags = self.random.below(70_000);
        let unique = if verb == "cas" { " 99999999999" } else { "" };
        let noreply = self.noreply();
        let mut bytes = format!(
            "{verb} {key} {flags} 0 {}{unique}{noreply}\r\n",
            value.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&value);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn change(&mut self) -> Vec<u8> {
        let (key, counter, noreply) = (self.key(), self.counter(), self.noreply());
        let delta = self.random.below(2000);
        match self.random.below(5) {
            0 => format!("delete {key}{noreply}\r\n"),
            1 => format!("touch {key} 0{noreply}\r\n"),
            2 => format!("decr {counter} {delta}{noreply}\r\n"),
            _ => format!("incr {counter} {delta}{noreply}\r\n"),
        }
        .into_bytes()
    }

    /// The key, now and then in base64 with the flag that says so.
    fn meta_key(&mut self) -> (String, &'static str) {
        let key = self.key();
        match self.random.one_in(4) {
            true => (base64(key.as_bytes()), " b"),
            false => (key, ""),
        }
    }

    /// Some of these flags, in any order.
    fn flags(&mut self, of: &[&str]) -> String {
        let mut flags = String::new();
        for _ in 0..self.random.below(4) {
            let flag = *self.random.pick(of);
            if !flags.contains(&format!(" {}", &flag[..1])) {
                flags += &format!(" {flag}");
            }
        }
        flags
    }

    fn meta(&mut self) -> Vec<u8> {
        let (key, base64) = self.meta_key();
        match self.random.below(8) {
            0..=2 => {
                let flags = self.flags(&["v", "k", "f", "s", "q", "Oabc", "h", "E77", "N30"]);
                format!("mg {key}{base64}{flags}\r\n").into_bytes()
            }
            3 | 4 => {
                let flags =
                    self.flags(&["k", "q", "Oxyz", "F42", "ME", "MA", "MP", "MR", "MS", "I"]);
                let value = self.value();
                let mut bytes = format!("ms {key} {}{base64}{flags}\r\n", value.len()).into_bytes();
                bytes.extend_from_slice(&value);
                bytes.extend_from_slice(b"\r\n");
                bytes
            }
            5 => {
                let flags = self.flags(&["k", "q", "O1", "I", "T30"]);
                format!("md {key}{base64}{flags}\r\n").into_bytes()
            }
            6 => {
                let counter = self.counter();
                let flags = self.flags(&["k", "q", "O2", "v", "N0", "J13", "D7", "MD", "MI"]);
                // memcached 1.6 says `HD` to a quiet request that creates the item; through
                // the proxy it is as quiet as any other success.
                let flags = if flags.contains(" N0") {
                    flags.replace(" q", "")
                } else {
                    flags
                };
                format!("ma {counter}{flags}\r\n").into_bytes()
            }
            _ => format!("mg {key}{base64} v q\r\n").into_bytes(),
        }
    }

    fn wrong(&mut self) -> Vec<u8> {
        let key = self.key();
        match self.random.below(9) {
            0 => "get\r\n".to_owned(),
            1 => "nosuchcommand\r\n".to_owned(),
            2 => format!("incr {key} abc\r\n"),
            // Not `get` with such a key: memcached 1.6 then drops the replies
            // that it has not written yet, those of earlier requests too.
            3 | 4 => format!("mg {}\r\n", "k".repeat(251)),
            5 => format!("delete {key} 5\r\n"),
            6 => "\r\n".to_owned(),
            7 => format!("touch {key}\r\n"),
            _ => "mg\r\n".to_owned(),
        }
        .into_bytes()
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}
