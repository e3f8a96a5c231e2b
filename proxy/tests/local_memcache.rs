//! The embedded pool against the real memcached: the same random commands to
//! both, the same replies from both.

#![allow(clippy::unwrap_used)]

#[path = "local_support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use emberline::local::LocalPool;
use emberline_protocol::memcache::{Limits, Parser, Recovery, body_terminated};
use support::{Random, Server, now};

const CAPACITY: u64 = 64 << 20;

/// The pool's replies to some requests.
fn ours(pool: &LocalPool, mut requests: &[u8], now: u64) -> String {
    let (mut parser, limits, mut out) = (Parser::default(), Limits::default(), Vec::new());
    while !requests.is_empty() {
        match parser.parse(requests, &limits) {
            Ok(Some(request)) => {
                let keys: Vec<&[u8]> = parser.keys(requests).collect();
                let (line, rest) = requests.split_at(request.head);
                assert!(
                    body_terminated(requests, &request),
                    "the tests send whole bodies"
                );
                let body = &rest[..request.body.unwrap_or(0)];
                pool.memcache(&request, &keys, line, body, now, &mut out);
                requests = &requests[request.len()..];
            }
            Ok(None) => panic!("the tests send whole lines"),
            Err(error) => {
                if !error.reply.is_empty() {
                    out.extend_from_slice(error.reply.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                match error.recovery {
                    Recovery::Skip(len) | Recovery::Swallow(len) => requests = &requests[len..],
                    Recovery::Close => break,
                }
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The real server's replies to some requests.
fn theirs(real: &mut TcpStream, requests: &[u8]) -> String {
    real.write_all(requests).unwrap();
    // Its own reply tells that those before it are complete.
    real.write_all(b"version\r\n").unwrap();
    let mut out = Vec::new();
    let mut buf = [0; 1 << 16];
    loop {
        let lines = out.strip_suffix(b"\r\n").unwrap_or_default();
        let last = lines
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |at| at + 1);
        if lines[last..].starts_with(b"VERSION ") {
            out.truncate(last);
            break;
        }
        let got = real.read(&mut buf).unwrap();
        assert!(got > 0, "memcached closed the connection");
        out.extend_from_slice(&buf[..got]);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a random command is made of: each word picks from a list. `@` stands
/// for the key's cas, `BODY` for the length of a data block that follows.
const COMMANDS: &[&str] = &[
    "get K",
    "get K K K",
    "gets K",
    "gets K K",
    "gat E K",
    "gats E K K",
    "set K F E BODY",
    "set K F E BODY noreply",
    "set K 0 0 NUMBER",
    "set K 0 0 NUMBER",
    "add K F E BODY",
    "replace K F E BODY",
    "append K F E BODY",
    "prepend K F E BODY noreply",
    "append K 0 0 BODY",
    "cas K F E BODY @",
    "cas K F E BODY @",
    "cas K 0 0 BODY 1",
    "cas K 0 0 BODY 0",
    "cas K 0 0 BODY @ noreply",
    "delete K",
    "delete K 0",
    "delete K noreply",
    "incr K D",
    "decr K D",
    "incr K D",
    "decr K D noreply",
    "touch K E",
    "touch K E noreply",
    "mg K M M",
    "mg K M M M",
    "mg K M M M M M",
    "mg K v t f c",
    "mg K v s h",
    "mg K t N100 v",
    "mg K t R150 k",
    "ms K BODY",
    "ms K BODY M M",
    "ms K BODY M M M",
    "ms K BODY C@ M",
    "ms K BODY C@ I M",
    "ms K BODY C1 I M",
    "ms K BODY M C@ M",
    "md K",
    "md K M M",
    "md K I",
    "md K I T200 M",
    "md K C@ M",
    "md K I C@ q",
    "ma K",
    "ma K M M",
    "ma K M M M M",
    "ma K v N100 J7 M",
    "ma K v C@ D3",
    "ma K v t c",
    "ma K T100 MD v t",
    "ma K MD T-1 D1",
    "me K",
    "me K b",
    "mn",
    "flush_all",
    "flush_all noreply",
    "flush_all x",
    "get",
    "set K",
    "incr K",
    "touch K",
    "gat 0",
    "delete K 5",
    "incr K x",
    "touch K x",
    "ms K",
    "mg",
    "ma",
    "incr K -1",
    "ms K NUMBER",
    "ms K NUMBER b",
    "ma K b N0 v",
    "mg K b v k",
    "md K Olonger-than-thirty-two-bytes-it-is",
    "ms K BODY Olonger-than-thirty-two-bytes-it-is",
    "mg K u T100 Olonger-than-thirty-two-bytes-it-is",
];

fn word(kind: &str, random: &mut Random) -> String {
    let list: &[&str] = match kind {
        "K" => &["a", "b", "num", "YWI=", "ab", "YQ==", "Y"],
        "F" => &["0", "7", "4294967295"],
        "E" => &[
            "0",
            "100",
            "200",
            "-1",
            "2592001",
            "2147483647",
            "2147483648",
            "99999999999",
            "300",
        ],
        "D" => &[
            "1",
            "5",
            "10",
            "18446744073709551615",
            "9223372036854775808",
            "0",
            "99",
        ],
        "M" => &[
            "b",
            "b",
            "c",
            "f",
            "h",
            "k",
            "l",
            "q",
            "s",
            "t",
            "u",
            "v",
            "v",
            "v",
            "k",
            "O1",
            "Oabc",
            "O",
            "N0",
            "N100",
            "N-1",
            "N",
            "Nx",
            "R50",
            "R150",
            "R-1",
            "R0",
            "Rx",
            "T0",
            "T100",
            "T200",
            "T-1",
            "T",
            "I",
            "I",
            "C1",
            "C0",
            "Cx",
            "C999999999",
            "C@",
            "F5",
            "F0",
            "Fx",
            "MA",
            "MP",
            "MR",
            "ME",
            "MS",
            "MZ",
            "MI",
            "MD",
            "M+",
            "M-",
            "Mxx",
            "J13",
            "Jx",
            "D2",
            "D100",
            "Dx",
            "z",
            "L1",
            "Pz",
            "S5",
            "E5",
            "x",
            "!",
        ],
        other => return other.to_owned(),
    };
    random.pick(list).to_owned()
}

/// A random command, still with `@` for the cas, and its key.
fn command(random: &mut Random) -> (String, String) {
    let words: Vec<_> = random
        .pick(COMMANDS)
        .split(' ')
        .map(|kind| word(kind, random))
        .collect();
    let key = words.get(1).cloned().unwrap_or_default();
    // memcached loses the T of an `ma` whose number grows by a digit: it
    // gives the expiry to the item that it has just replaced. We do not.
    let loses = words[0] == "ma" && !words.contains(&"MD".to_owned());
    let words: Vec<_> = words
        .into_iter()
        .filter(|w| !(loses && w.starts_with('T')))
        .collect();
    let values = &["", "x", "hello", "some longer value", "12", "7 "];
    // No minus: memcached looks for one behind large numbers too, in whatever
    // an earlier item left there, and then calls them negative.
    let numbers = &[
        "0",
        "9",
        "10",
        "99",
        "12345",
        "18446744073709551615",
        " 8",
        "1 2",
        "+4",
    ];
    let mut body = None;
    let words: Vec<_> = words
        .into_iter()
        .map(|word| {
            let list: &[&str] = match word.as_str() {
                "BODY" => values,
                "NUMBER" => numbers,
                _ => return word,
            };
            let value = random.pick(list);
            body = Some(value);
            value.len().to_string()
        })
        .collect();
    let mut line = words.join(" ") + "\r\n";
    if let Some(body) = body {
        line = line + body + "\r\n";
    }
    (line, key)
}

/// The cas of a key, which differs between the servers; 77 if it has none.
fn cas_in(reply: &str) -> String {
    let cas = reply.split("\r\n").next().unwrap().split(' ').nth(4);
    cas.unwrap_or("77").to_owned()
}

/// Take out of a reply what may differ between two right servers.
fn comparable(request: &str, reply: &str) -> String {
    let is_meta = |line: &str| {
        ["HD", "VA", "EN", "NS", "NF", "EX", "ME"]
            .iter()
            .any(|code| line.starts_with(code))
    };
    let lines = reply.split("\r\n").map(|line| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if words[0] == "VALUE" && words.len() == 5 {
            "cas".clone_into(&mut words[4]);
        }
        if is_meta(line) {
            words
                .iter_mut()
                .skip(1)
                .for_each(|word| *word = comparable_word(word));
        }
        words.join(" ")
    });
    let text = lines.collect::<Vec<_>>().join("\r\n");
    if request.starts_with("gat") || !text.contains("t0") {
        text
    } else {
        text.replace("t0", "tpast")
    }
}

fn comparable_word(word: &str) -> String {
    // Relative times are chosen hundreds of seconds apart; absolute ones, years
    // away, count down past every multiple of a hundred.
    let round = |time: i64| {
        if time > 100_000_000 {
            0
        } else {
            (time + 50).div_euclid(100) * 100
        }
    };
    let split = word
        .find(|c: char| c.is_ascii_digit() || c == '-')
        .unwrap_or(word.len());
    let (name, number) = word.split_at(split);
    match (name, number.parse::<i64>()) {
        ("t", Ok(time)) if time != -1 => format!("t{}", round(time)),
        ("exp=", Ok(time)) if time != -1 => format!("exp={}", -round(-time)),
        ("c", Ok(cas)) if cas != 0 => "c#".to_owned(),
        ("l" | "la=" | "cas=" | "cls=", Ok(_)) => name.to_owned(),
        _ => word.to_owned(),
    }
}

fn compare(rounds: usize, seed: u64) {
    let Some(server) = Server::memcached() else {
        return;
    };
    let mut real = server.connect();
    let pool = LocalPool::new(CAPACITY);
    let mut random = Random::new(seed);
    let (mut last, mut failures) = (Vec::<String>::new(), Vec::new());
    // So that no item has the cas 1, which stands for an old one.
    to_both(&pool, &mut real, b"set a 0 0 0\r\n\r\nset a 0 0 0\r\n\r\n");
    for round in 0..rounds {
        let (line, key) = command(&mut random);
        last.push(line.clone());
        let (mut to_us, mut to_them) = (line.clone(), line.clone());
        if line.contains('@') {
            let ask = format!("gets {}\r\n", key);
            to_us = line.replace('@', &cas_in(&ours(&pool, ask.as_bytes(), now())));
            to_them = line.replace('@', &cas_in(&theirs(&mut real, ask.as_bytes())));
        }
        let theirs = theirs(&mut real, to_them.as_bytes());
        let ours = ours(&pool, to_us.as_bytes(), now());
        let (a, b) = (comparable(&line, &ours), comparable(&line, &theirs));
        // Of several faults in one line the parser sees these first.
        let first = ["duplicate flag", "decoding key"]
            .iter()
            .any(|fault| a.contains(fault));
        if a != b && !(first && b.starts_with("CLIENT_ERROR")) {
            // What concerns this key, also where it is called in base64.
            let plain = key.replace("YWI=", "ab").replace("YQ==", "a");
            let coded = key.replace("ab", "YWI=").replace('a', "YQ==");
            let about = |line: &&String| {
                let words: Vec<_> = line.split_ascii_whitespace().collect();
                words[0] == "flush_all"
                    || [&key, &plain, &coded]
                        .iter()
                        .any(|k| words.contains(&k.as_str()))
            };
            let before: Vec<_> = last.iter().filter(about).cloned().collect();
            let before = before[before.len().saturating_sub(30)..].concat();
            failures.push(format!(
                "round {round} of seed {seed} after\n{before}\n-> {ours}<> {theirs}"
            ));
            // From here they would differ in everything.
            to_both(&pool, &mut real, b"flush_all\r\n");
            last.clear();
        }
    }
    failures.truncate(10);
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn to_both(pool: &LocalPool, real: &mut TcpStream, requests: &[u8]) {
    ours(pool, requests, now());
    theirs(real, requests);
}

#[test]
fn answers_as_memcached_does() {
    compare(30_000, 1);
    compare(10_000, 2);
}

#[test]
fn the_largest_item_is_memcacheds() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let mut real = server.connect();
    let pool = LocalPool::new(CAPACITY);
    for flags in ["0", "1"] {
        // Header, cas, key and CRLF take 60 bytes, flags other than 0 four more.
        for size in [
            1_048_510, 1_048_512, 1_048_513, 1_048_516, 1_048_517, 1_048_576,
        ] {
            let value = "x".repeat(size);
            let request =
                format!("set k 0 0 1\r\ny\r\nset k {flags} 0 {size}\r\n{value}\r\nget k\r\n");
            let ours = ours(&pool, request.as_bytes(), now());
            let theirs = theirs(&mut real, request.as_bytes());
            assert!(ours == theirs, "{size}: {} {}", &ours[..60], &theirs[..60]);
        }
    }
}

#[test]
fn items_expire_by_the_callers_clock() {
    let pool = LocalPool::new(CAPACITY);
    let t = 1_000_000_000_000;
    assert_eq!(ours(&pool, b"set k 0 10 1\r\nx\r\n", t), "STORED\r\n");
    assert_eq!(ours(&pool, b"mg k t v\r\n", t + 9_999), "VA 1 t1\r\nx\r\n");
    assert_eq!(ours(&pool, b"get k\r\n", t + 10_000), "END\r\n");
    assert_eq!(
        ours(&pool, b"add k 0 1000000010 1\r\nx\r\n", t + 10_000),
        "NOT_STORED\r\n".replace("NOT_", "")
    );
    assert_eq!(ours(&pool, b"get k\r\n", t + 10_000), "END\r\n");
}

#[test]
fn a_delayed_flush_waits_and_the_last_one_counts() {
    let pool = LocalPool::new(CAPACITY);
    let t = 1_000_000_000_000;
    ours(&pool, b"set k 0 0 1\r\nx\r\n", t);
    assert_eq!(ours(&pool, b"flush_all 5\r\n", t), "OK\r\n");
    assert_eq!(ours(&pool, b"flush_all 10\r\n", t), "OK\r\n");
    assert_eq!(
        ours(&pool, b"get k\r\n", t + 9_000),
        "VALUE k 0 1\r\nx\r\nEND\r\n"
    );
    assert_eq!(ours(&pool, b"get k\r\n", t + 10_000), "END\r\n");
    ours(&pool, b"set k 0 0 1\r\nx\r\n", t + 10_000);
    assert_eq!(
        ours(&pool, b"get k\r\n", t + 20_000),
        "VALUE k 0 1\r\nx\r\nEND\r\n"
    );
}

#[test]
fn increments_and_cas_from_eight_threads_are_atomic() {
    let pool = Arc::new(LocalPool::new(CAPACITY));
    ours(&pool, b"set n 0 0 1\r\n0\r\nset list 0 0 0\r\n\r\n", 1_000);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || {
                let mut won = 0;
                for _ in 0..10_000 {
                    ours(&pool, b"incr n 1\r\n", 1_000);
                }
                while won < 200 {
                    let cas = cas_in(&ours(&pool, b"gets list\r\n", 1_000));
                    let request = format!("ms list 1 MA C{cas}\r\nx\r\n");
                    won += usize::from(ours(&pool, request.as_bytes(), 1_000) == "HD\r\n");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert!(ours(&pool, b"get n\r\n", 1_000).contains("80000"));
    assert!(ours(&pool, b"mg list s\r\n", 1_000).contains("s1600"));
}

#[test]
fn what_it_cannot_do_it_says() {
    let pool = LocalPool::new(CAPACITY);
    let reply = ours(&pool, b"stats\r\n", 1_000);
    assert!(
        reply.starts_with("SERVER_ERROR the embedded pool does not support 'stats'"),
        "{reply}"
    );
}
