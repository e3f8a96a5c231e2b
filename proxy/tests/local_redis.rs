//! The embedded pool against the real redis-server: the same random commands
//! to both, the same replies from both.

#![allow(clippy::unwrap_used)]

#[path = "local_support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use emberline::local::LocalPool;
use emberline_protocol::redis::{Version, encode};
use support::{Random, Server, now};

const CAPACITY: u64 = 64 << 20;

/// A connection to the real server.
struct Real(BufReader<TcpStream>);

impl Real {
    fn ask(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let mut request = Vec::new();
        encode::command(&mut request, args.iter().copied());
        self.0.get_mut().write_all(&request).unwrap();
        let mut reply = Vec::new();
        self.read_reply(&mut reply);
        reply
    }

    fn read_reply(&mut self, reply: &mut Vec<u8>) {
        let start = reply.len();
        self.0.read_until(b'\n', reply).unwrap();
        let line = String::from_utf8(reply[start..].to_vec()).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        let len = rest.parse::<i64>().unwrap_or(-1);
        match kind {
            "$" | "=" if len >= 0 => {
                let at = reply.len();
                reply.resize(at + len as usize + 2, 0);
                self.0.read_exact(&mut reply[at..]).unwrap();
            }
            "*" | "~" => (0..len).for_each(|_| self.read_reply(reply)),
            "%" => (0..2 * len).for_each(|_| self.read_reply(reply)),
            _ => {}
        }
    }
}

/// What a random command is made of: each word picks from a list.
const COMMANDS: &[&str] = &[
    "GET K",
    "STRLEN K",
    "GETDEL K",
    "GETSET K V",
    "SET K V",
    "SET K V O",
    "SET K V O O",
    "SET K V O O O",
    "SET K N O",
    "SETNX K V",
    "SETEX K E V",
    "PSETEX K P V",
    "GETEX K",
    "GETEX K O",
    "GETEX K O O",
    "MGET K K K",
    "MSET K V K V",
    "MSET K V K",
    "MSETNX K V K V",
    "APPEND K V",
    "SETRANGE K S V",
    "GETRANGE K I I",
    "SUBSTR K I I",
    "INCR K",
    "DECR K",
    "INCRBY K I",
    "DECRBY K I",
    "INCRBYFLOAT K F",
    "INCRBYFLOAT K F",
    "SETBIT K B I",
    "GETBIT K B",
    "BITCOUNT K",
    "BITCOUNT K I I",
    "BITCOUNT K I I U",
    "BITCOUNT K I",
    "EXPIRE K E",
    "EXPIRE K E C",
    "EXPIRE K E C C",
    "PEXPIRE K P C",
    "EXPIREAT K A C",
    "PEXPIREAT K X C",
    "TTL K",
    "PTTL K",
    "EXPIRETIME K",
    "PEXPIRETIME K",
    "PERSIST K",
    "DEL K K",
    "UNLINK K",
    "EXISTS K K K",
    "TOUCH K K",
    "TYPE K",
    "RENAME K K",
    "RENAMENX K K",
    "COPY K K",
    "COPY K K R",
    "COPY K K R R",
    "OBJECT ENCODING K",
    "OBJECT ENCODING",
    "RANDOMKEY",
    "KEYS G",
    "KEYS *",
    "SCAN 0 COUNT 1000",
    "SCAN 0 COUNT 1000 MATCH G",
    "SCAN 0 T T",
    "SCAN T",
    "DBSIZE",
    "FLUSHALL T",
    "FLUSHDB T T",
    "GET",
    "SET K",
    "GET K K",
    "EXPIRE K",
    "INCR",
    "MSET K",
    "SET K F",
    "SET K F",
    "SET K I",
];

fn word(kind: &str, random: &mut Random, now: u64) -> String {
    let past = (now - 5_000).to_string();
    let soon = (now + 500_000).to_string();
    // Never the same twice: the servers' clocks are a millisecond apart, and
    // GT and LT would tell.
    let later = (1_000 + random.below(10_000_000)).to_string();
    let millis = format!("{later}000");
    let list: &[&str] = match kind {
        "K" => &["a", "b", "{c}d", "key:1", "", "k\r\n\0"],
        "V" => &[
            "",
            "v",
            "hello world",
            "10",
            "-5",
            "3.25",
            "x\0y\r\nz",
            "99999999999999999999",
            "a value of more than forty-four bytes, which is kept apart from its header",
        ],
        "N" => &[
            "0",
            "9223372036854775807",
            "-9223372036854775808",
            "010",
            " 1",
            "-0",
        ],
        "I" => &[
            "0",
            "1",
            "-1",
            "3",
            "-3",
            "7",
            "100",
            "-100",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "abc",
            "",
            "1.5",
            "+1",
            "01",
        ],
        "S" => &[
            "0",
            "1",
            "5",
            "20",
            "-1",
            "536870912",
            "536870911111",
            "9223372036854775807",
            "x",
        ],
        "B" => &[
            "0",
            "1",
            "7",
            "8",
            "77",
            "4294967295999",
            "4294967296",
            "-1",
            "x",
        ],
        "U" => &["BIT", "byte", "bits"],
        "F" => &[
            "0.1",
            "0.2",
            "-0.3",
            "1e5",
            "3.0e-4",
            "5",
            "1e17",
            "123456789.123456789",
            "0x1p4",
            "0x1.8p-3",
            "inf",
            "-inf",
            "nan",
            "1e400",
            "-1e400",
            "1e-20",
            "abc",
            "",
            "1e",
            " 1",
            ".5",
            "5.",
            "+7",
            "1e4931",
            "1e4932",
            "1e4933",
            "1.1897e4932",
            "1e-4960",
            "0e99999",
            "-0",
            "0.00000000000000001",
            "0.000000000000000005",
            "18446744073709551615.5",
            "1e19",
            "-1e19",
        ],
        "E" => &[
            "LATER",
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775",
            "-9223372036854775",
            "x",
        ],
        "P" => &[
            "MILLIS",
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "x",
        ],
        "A" => &[
            "1",
            "0",
            "-1",
            "9999999999",
            "9999999998",
            "9223372036854775807",
            "y",
        ],
        "X" => &[
            "1",
            "-7",
            "9999999999999",
            "9999999999998",
            "9223372036854775807",
            "-9223372036854775808",
        ],
        "C" => &["nx", "XX", "GT", "lt", "foo", "gT"],
        "O" => &[
            "NX",
            "xx",
            "GET",
            "KEEPTTL",
            "PERSIST",
            "EX 100",
            "PX 500000",
            "EXAT 9999999999",
            "PXAT 9999999999999",
            "EX 0",
            "PX -1",
            "EX x",
            "EX",
            "EXAT 1",
            "PXAT PAST",
            "PXAT SOON",
            "EX 9223372036854775807",
            "PX 9223372036854775807",
            "bar",
        ],
        "R" => &["REPLACE", "replace", "DB 0", "DB", "DB x", "foo"],
        "G" => &[
            "*", "a", "?", "[a-c]", "[^a]", "*:*", "k*", "{c}?", "\\a", "[", "[b", "x*", "", "**",
        ],
        "T" => &[
            "ASYNC", "sync", "0", "TYPE", "string", "STRING", "hash", "COUNT", "-1", "x", "MATCH",
        ],
        other => return other.to_owned(),
    };
    random
        .pick(list)
        .replace("PAST", &past)
        .replace("LATER", &later)
        .replace("MILLIS", &millis)
        .replace("SOON", &soon)
}

/// One random command, as arguments.
fn command(random: &mut Random, now: u64) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    for (at, kind) in random.pick(COMMANDS).split(' ').enumerate() {
        let text = if at == 0 {
            kind.to_owned()
        } else {
            word(kind, random, now)
        };
        let splits = kind == "O" || kind == "R";
        match text.split_once(' ').filter(|_| splits) {
            Some((a, b)) => args.extend([a.as_bytes().to_vec(), b.as_bytes().to_vec()]),
            None => args.push(text.into_bytes()),
        }
    }
    args
}

/// Take out of a reply what may differ between two right servers.
fn comparable(args: &[&[u8]], reply: &[u8]) -> String {
    let name = args[0].to_ascii_lowercase();
    let text = String::from_utf8_lossy(reply).into_owned();
    let scale = match name.as_slice() {
        b"ttl" | b"expiretime" => 3,
        b"pttl" | b"pexpiretime" => 3_000,
        _ => 0,
    };
    if scale > 0
        && let Some(value) = text
            .strip_prefix(':')
            .and_then(|t| t.trim().parse::<i64>().ok())
        && value > 0
    {
        // Neighbours compare as near below, in `near`.
        return format!("time {value} {scale}");
    }
    match name.as_slice() {
        b"randomkey" if text.starts_with('$') && text != "$-1\r\n" => "some key".to_owned(),
        // What stands behind a made-up cursor is each server's own affair.
        b"scan" if text.starts_with('*') && args[1] != b"0" => "a page".to_owned(),
        b"keys" | b"scan" if text.starts_with('*') => {
            let mut parts: Vec<_> = text.split('$').collect();
            parts.sort_unstable();
            parts.join("$")
        }
        _ => text,
    }
}

fn near(a: &str, b: &str) -> bool {
    let time = |t: &str| {
        let (value, scale) = t.strip_prefix("time ")?.split_once(' ')?;
        Some((value.parse::<i64>().ok()?, scale.parse::<i64>().ok()?))
    };
    match (time(a), time(b)) {
        (Some((x, scale)), Some((y, _))) => x.abs_diff(y) <= scale.unsigned_abs(),
        _ => a == b,
    }
}

fn compare(version: Version, rounds: usize, seed: u64) {
    let Some(server) = Server::redis() else {
        return;
    };
    let mut real = Real(BufReader::new(server.connect()));
    if version == Version::Resp3 {
        real.ask(&[b"HELLO", b"3"]);
    }
    let pool = LocalPool::new(CAPACITY);
    let mut random = Random::new(seed);
    let mut last = Vec::new();
    for round in 0..rounds {
        let time = now();
        let args = command(&mut random, time);
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let shown = args
            .iter()
            .map(|a| a.escape_ascii().to_string())
            .collect::<Vec<_>>()
            .join(" ");
        last.push(shown.clone());
        let theirs = real.ask(&args);
        if args[0] == b"SET" {
            // Redis counts a key that was stored expired until someone looks at it.
            real.ask(&[b"EXISTS", args[1]]);
        }
        let mut ours = Vec::new();
        pool.redis(&args, version, time, &mut ours);
        let (ours, theirs) = (comparable(&args, &ours), comparable(&args, &theirs));
        let before = &last[last.len().saturating_sub(12)..];
        assert!(
            near(&ours, &theirs),
            "round {round} of seed {seed}: {shown}\nours   {ours:?}\ntheirs {theirs:?}\nafter {before:#?}"
        );
    }
}

#[test]
fn answers_as_redis_does_in_resp2() {
    compare(Version::Resp2, 20_000, 1);
}

#[test]
fn answers_as_redis_does_in_resp3() {
    compare(Version::Resp3, 20_000, 2);
}

/// Answer of the pool to a line of words.
fn ask(pool: &LocalPool, line: &str, now: u64) -> String {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    pool.redis(&args, Version::Resp2, now, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn increments_from_eight_threads_are_all_counted() {
    let pool = Arc::new(LocalPool::new(CAPACITY));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || {
                for i in 0..10_000 {
                    ask(&pool, "INCR shared", 1_000);
                    ask(&pool, &format!("SET other:{thread}:{} x", i % 100), 1_000);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(ask(&pool, "GET shared", 1_000), "$5\r\n80000\r\n");
    assert_eq!(ask(&pool, "DBSIZE", 1_000), ":801\r\n");
}

#[test]
fn renames_from_many_threads_neither_lose_nor_double_a_key() {
    let pool = Arc::new(LocalPool::new(CAPACITY));
    ask(&pool, "SET k0 value", 1_000);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || {
                for i in 0..5_000 {
                    let (from, to) = ((i + thread) % 7, (i * 3 + thread) % 7);
                    ask(&pool, &format!("RENAME k{from} k{to}"), 1_000);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(ask(&pool, "DBSIZE", 1_000), ":1\r\n");
}

#[test]
fn keys_expire_by_the_callers_clock() {
    let pool = LocalPool::new(CAPACITY);
    ask(&pool, "SET a 1 PX 100", 1_000);
    ask(&pool, "SET b 1", 1_000);
    assert_eq!(ask(&pool, "GET a", 1_100), "$1\r\n1\r\n");
    assert_eq!(ask(&pool, "GET a", 1_101), "$-1\r\n");
    assert_eq!(ask(&pool, "TTL a", 1_101), ":-2\r\n");
    assert_eq!(ask(&pool, "DBSIZE", 1_101), ":1\r\n");
    assert_eq!(ask(&pool, "KEYS *", 1_101), "*1\r\n$1\r\nb\r\n");
    assert_eq!(ask(&pool, "SETNX a 2", 1_101), ":1\r\n");
}

#[test]
fn a_scan_returns_every_key_that_was_there_throughout() {
    let pool = LocalPool::new(CAPACITY);
    for i in 0..1_000 {
        ask(&pool, &format!("SET stay:{i} v"), 1_000);
    }
    let mut seen = std::collections::BTreeSet::new();
    let (mut cursor, mut steps) = ("0".to_owned(), 0);
    loop {
        let reply = ask(&pool, &format!("SCAN {cursor} COUNT 7"), 1_000);
        let words: Vec<_> = reply.split("\r\n").collect();
        cursor = words[2].to_owned();
        seen.extend(
            words
                .iter()
                .filter(|w| w.starts_with("stay:"))
                .map(|w| (*w).to_owned()),
        );
        // Others come and go, and the ones that stay are overwritten.
        ask(&pool, &format!("SET come:{steps} v"), 1_000);
        ask(&pool, &format!("DEL come:{}", steps / 2), 1_000);
        ask(&pool, &format!("SET stay:{} w", steps * 13 % 1_000), 1_000);
        steps += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 1_000);
    assert!(steps > 100, "{steps} steps");
}

#[test]
fn memory_stays_within_the_capacity() {
    let pool = LocalPool::new(8 << 20);
    let value = "x".repeat(1 << 20);
    for i in 0..200 {
        ask(&pool, &format!("SET big:{i} {value}"), 1_000);
        let held = ask(&pool, "DBSIZE", 1_000);
        let held: u64 = held
            .trim_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .unwrap();
        assert!(held <= 9, "{held} values of 1 MiB in a pool of 8 MiB");
    }
    assert!(
        ask(&pool, "GET big:199", 1_000).len() > 1 << 20,
        "the newest value is kept"
    );
    for i in 0..50_000 {
        ask(&pool, &format!("SET small:{i} v"), 1_000);
    }
    let held = ask(&pool, "DBSIZE", 1_000);
    let held: u64 = held
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap();
    assert!(
        (10_000..=17_000).contains(&held),
        "{held} small keys in a pool of 8 MiB"
    );
}
