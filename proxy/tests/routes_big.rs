//! Large values in pieces, before real servers.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;

use routes_support::{Dialect, House, story, story_of};
use support::{Client, command};

/// Pieces of 1 KiB on one server.
const SMALL: &str = "[routes.top]
    type = 'big_value'
    child = 'a'
    chunk = '1KiB'
    ttl = '1h'";

/// Pieces of 1 KiB on three servers.
const SPREAD: &str = "[routes.top]
    type = 'big_value'
    child = 'main'
    chunk = '1KiB'
    [pools.main]
    protocol = 'PROTOCOL'
    servers = ['@a', '@b', '@c']";

/// How every head begins, for who wants to forge one.
const MAGIC: &[u8] = b"\0pieces\x01";

fn house(dialect: Dialect, config: &str) -> Option<House> {
    House::new(dialect, config, "")
}

/// Bytes of every kind, so many of them.
fn binary(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|at| ((at * at + seed * 31) / 7) as u8)
        .collect()
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// The keys on a Redis server, in order.
fn keys(client: &mut Client) -> Vec<String> {
    let reply = client.call(&["KEYS", "*"]);
    let text = String::from_utf8(reply).unwrap();
    let words = text.split("\r\n").filter(|word| !word.is_empty());
    let mut keys: Vec<String> = words
        .filter(|word| !word.starts_with(['*', '$']))
        .map(str::to_owned)
        .collect();
    keys.sort();
    keys
}

#[test]
fn values_around_a_chunk_come_back_as_they_went() {
    story(
        SMALL,
        "client set k =1023 100    -> ok
        a get k                    -> =1023
        client get k               -> =1023
        client set k =1024 100     -> ok
        a get k                    -> =1024
        client get k               -> =1024
        client set k =1025 100     -> ok
        a size k                   -> 40
        client get k               -> =1025
        client size k              -> 1025
        client ttl k               -> 100s
        client set k =2048         -> ok
        client get k               -> =2048
        client set k =2049         -> ok
        client get k               -> =2049
        client set l =300000       -> ok
        client get l               -> =300000
        client mget k no l         -> =2049 - =300000
        other mget l l             -> =300000 =300000
        client touch k 50          -> ok
        client ttl k               -> 50s
        client add k new           -> no
        client get k               -> =2049
        client del k no            -> 1
        client get k               -> -
        client size k              -> 0
        client add k =5000         -> ok
        client get k               -> =5000
        client set k small         -> ok
        client get k               -> small
        a get k                    -> small
        client set k 1             -> ok
        client incr k              -> 2
        client incr l              -> !
        client get l               -> =300000",
    );
}

#[test]
fn what_lives_for_ever_lives_as_long_as_its_pieces_may() {
    story(
        SMALL,
        "client set k =5000        -> ok
        client ttl k               -> 3600s
        client set k =5000 90000   -> ok
        client ttl k               -> 3600s
        client set k =5000 60      -> ok
        client ttl k               -> 60s
        client set k small         -> ok
        client ttl k               -> forever",
    );
}

#[test]
fn pieces_have_the_life_that_the_item_asks_for() {
    let Some(mut house) = house(Dialect::Redis, SMALL) else {
        return;
    };
    for (words, life) in [
        (vec!["SET", "k", "V", "EX", "100"], 100_000),
        (vec!["SET", "k", "V", "PX", "50000"], 50_000),
        (vec!["SETEX", "k", "100", "V"], 100_000),
        (vec!["PSETEX", "k", "50000", "V"], 50_000),
        (vec!["SET", "k", "V", "EX", "100000"], 3_600_000),
        (vec!["SET", "k", "V"], 3_600_000),
        (vec!["SETNX", "k", "V"], 3_600_000),
        (vec!["GETSET", "k", "V"], 3_600_000),
        (vec!["MSET", "k", "V"], 3_600_000),
        (vec!["SET", "k", "V", "KEEPTTL"], 3_600_000),
    ] {
        let value = binary(5000, 1);
        let mut server = house.servers[0].client();
        server.call(&["FLUSHALL"]);
        let ask: Vec<&[u8]> = words
            .iter()
            .map(|word| match *word {
                "V" => &value[..],
                word => word.as_bytes(),
            })
            .collect();
        let reply = house.client("client").call(&ask);
        assert!(reply[0] != b'-', "{words:?}");
        let keys = keys(&mut server);
        assert_eq!(keys.len(), 6, "{words:?}: {keys:?}");
        for key in &keys {
            let left = server.call(&["PTTL", key]);
            let left: i64 = String::from_utf8_lossy(&left[1..]).trim().parse().unwrap();
            let forever = key == "k" && words.contains(&"KEEPTTL");
            let fits = match forever {
                true => left == -1,
                false => left <= life && left > life - 8000,
            };
            assert!(fits, "{words:?}: {key} lives for {left}");
        }
        assert_eq!(house.client("client").call(&["GET", "k"]), bulk(&value));
    }
}

#[test]
fn pieces_are_spread_over_the_servers() {
    let Some(mut house) = house(Dialect::Redis, SPREAD) else {
        return;
    };
    let value = binary(100_000, 2);
    let said = house.client("client").call(&[b"SET", &b"k"[..], &value]);
    assert_eq!(said, b"+OK\r\n");
    assert_eq!(house.client("client").call(&["GET", "k"]), bulk(&value));
    for server in &house.servers {
        let count = keys(&mut server.client()).len();
        assert!((10..=60).contains(&count), "{count} of 99 keys");
    }
}

#[test]
fn a_value_that_looks_like_a_head_is_a_value() {
    // A real one, to be sure.
    let Some(mut house) = house(Dialect::Redis, SMALL) else {
        return;
    };
    let client = house.client("client");
    client.call(&[b"SET", &b"k"[..], &binary(5000, 3)]);
    let head = house.servers[0].client().call(&["GET", "k"]);
    let head = head[5..45].to_vec();
    assert!(head.starts_with(MAGIC));
    let forged = [
        head.clone(),
        MAGIC.to_vec(),
        [&head[..], b"x"].concat(),
        [MAGIC, &binary(1016, 1)].concat(),
        [MAGIC, &binary(5000, 1)].concat(),
    ];
    for value in &forged {
        let client = house.client("client");
        assert_eq!(client.call(&[b"SET", &b"f"[..], value]), b"+OK\r\n");
        assert_eq!(client.call(&["GET", "f"]), bulk(value));
        let reply = client.call(&["STRLEN", "f"]);
        assert_eq!(reply, format!(":{}\r\n", value.len()).into_bytes());
        // No head either, but by somebody who does not ask the proxy.
        let mut server = house.servers[0].client();
        server.call(&[b"SET", &b"raw"[..], value]);
        assert_eq!(house.client("client").call(&["GET", "raw"]), b"$-1\r\n");
    }
    for short in [&MAGIC[..7], b"\0", b""] {
        let client = house.client("client");
        client.call(&[b"SET", &b"f"[..], short]);
        assert_eq!(client.call(&["GET", "f"]), bulk(short));
    }
}

#[test]
fn a_forged_head_is_a_value_of_memcached_too() {
    let Some(mut house) = house(Dialect::Memcached, SMALL) else {
        return;
    };
    let client = house.client("client");
    let value = [MAGIC, &binary(32, 5)].concat();
    let set = [b"set f 9 0 40\r\n", &value[..], b"\r\n"].concat();
    assert_eq!(client.ask(set), b"STORED\r\n");
    let wanted = [b"VALUE f 9 40\r\n", &value[..], b"\r\nEND\r\n"].concat();
    assert_eq!(client.ask("get f\r\n"), wanted);
}

#[test]
fn without_a_piece_there_is_no_value() {
    let Some(mut house) = house(Dialect::Redis, SMALL) else {
        return;
    };
    let value = binary(5000, 4);
    let mut server = house.servers[0].client();
    for harm in ["DEL", "APPEND", "SETRANGE", "LPUSH"] {
        server.call(&["FLUSHALL"]);
        let client = house.client("client");
        client.call(&[b"SET", &b"k"[..], &value]);
        let pieces = keys(&mut server);
        assert_eq!(pieces.len(), 6, "{pieces:?}");
        let piece = pieces.iter().find(|key| key.contains("~2~")).unwrap();
        match harm {
            "DEL" => server.call(&["DEL", piece]),
            "APPEND" => server.call(&["APPEND", piece, "x"]),
            // As long as it was, and another.
            "SETRANGE" => server.call(&["SETRANGE", piece, "5", "other"]),
            _ => {
                server.call(&["DEL", piece]);
                server.call(&["LPUSH", piece, "x"])
            }
        };
        let client = house.client("client");
        match harm {
            "LPUSH" => {
                let said = client.call(&["GET", "k"]);
                assert!(said.starts_with(b"-WRONGTYPE"), "{said:?}");
            }
            _ => {
                assert_eq!(client.call(&["GET", "k"]), b"$-1\r\n", "{harm}");
                assert_eq!(client.call(&["STRLEN", "k"]), b":0\r\n");
                assert_eq!(client.call(&["GETRANGE", "k", "0", "9"]), b"$0\r\n\r\n");
                let two = client.call(&["MGET", "k", "no"]);
                assert_eq!(two, b"*2\r\n$-1\r\n$-1\r\n");
                let resp3 = house.client("in RESP3");
                resp3.call(&["HELLO", "3"]);
                assert_eq!(resp3.call(&["GET", "k"]), b"_\r\n");
                assert_eq!(resp3.call(&["GETSET", "k", "small"]), b"_\r\n");
                assert_eq!(resp3.call(&["GET", "k"]), b"$5\r\nsmall\r\n");
            }
        }
    }
}

#[test]
fn conditions_are_decided_at_the_key_itself() {
    let Some(mut house) = house(Dialect::Redis, SMALL) else {
        return;
    };
    let (old, new) = (binary(5000, 5), binary(7000, 6));
    let mut say = |words: &[&[u8]]| house.client("client").call(words);
    assert_eq!(say(&[b"SET", b"k", &old, b"XX"]), b"$-1\r\n");
    assert_eq!(say(&[b"GET", b"k"]), b"$-1\r\n");
    assert_eq!(say(&[b"SET", b"k", &old, b"NX", b"EX", b"60"]), b"+OK\r\n");
    assert_eq!(say(&[b"SET", b"k", &new, b"NX"]), b"$-1\r\n");
    assert_eq!(say(&[b"SETNX", b"k", &new]), b":0\r\n");
    assert_eq!(say(&[b"GET", b"k"]), bulk(&old));
    assert_eq!(say(&[b"SET", b"k", &new, b"GET"]), bulk(&old));
    assert_eq!(say(&[b"GETSET", b"k", &old]), bulk(&new));
    assert_eq!(say(&[b"SET", b"k", b"small", b"GET"]), bulk(&old));
    assert_eq!(say(&[b"GETSET", b"k", &new]), bulk(b"small"));
    assert_eq!(say(&[b"GETSET", b"k", b"small"]), bulk(&new));
    assert_eq!(say(&[b"DEL", b"k"]), b":1\r\n");
    assert_eq!(say(&[b"SETNX", b"k", &new]), b":1\r\n");
    assert_eq!(say(&[b"GETEX", b"k", b"EX", b"30"]), bulk(&new));
    assert_eq!(say(&[b"TTL", b"k"]), b":30\r\n");
    assert_eq!(say(&[b"GETDEL", b"k"]), bulk(&new));
    assert_eq!(say(&[b"EXISTS", b"k"]), b":0\r\n");
    assert_eq!(
        say(&[b"MSET", b"k", &new, b"l", b"1", b"m", &old]),
        b"+OK\r\n"
    );
    let three = [b"*3\r\n", &bulk(&new)[..], &bulk(b"1"), &bulk(&old)].concat();
    assert_eq!(say(&[b"MGET", b"k", b"l", b"m"]), three);
    assert_eq!(
        say(&[b"GETRANGE", b"k", b"1020", b"1030"]),
        bulk(&new[1020..=1030])
    );
    assert_eq!(say(&[b"GETRANGE", b"k", b"-5", b"-1"]), bulk(&new[6995..]));
    assert_eq!(say(&[b"GETRANGE", b"l", b"0", b"5"]), bulk(b"1"));
    assert!(say(&[b"GETRANGE", b"k", b"x", b"5"]).starts_with(b"-ERR value is not an integer"));
    assert_eq!(say(&[b"STRLEN", b"k"]), b":7000\r\n");
    assert_eq!(say(&[b"TYPE", b"k"]), b"+string\r\n");
    assert!(say(&[b"INCR", b"k"]).starts_with(b"-ERR value is not an integer"));
    assert!(say(&[b"SET", b"k", &new, b"EX", b"0"]).starts_with(b"-ERR invalid expire"));
    assert!(say(&[b"SET", b"k", &old, b"NONSENSE"]).starts_with(b"-ERR syntax"));
    assert_eq!(say(&[b"GET", b"k"]), bulk(&new));
    // Other types are nobody's pieces.
    assert_eq!(say(&[b"LPUSH", b"list", b"x"]), b":1\r\n");
    assert!(say(&[b"GET", b"list"]).starts_with(b"-WRONGTYPE"));
    assert!(say(&[b"STRLEN", b"list"]).starts_with(b"-WRONGTYPE"));
    assert_eq!(say(&[b"HSET", b"hash", b"f", &new]), b":1\r\n");
    assert_eq!(say(&[b"HGET", b"hash", b"f"]), bulk(&new));
}

#[test]
fn what_works_on_a_part_of_a_value_is_refused() {
    let Some(mut house) = house(Dialect::Redis, SMALL) else {
        return;
    };
    let client = house.client("client");
    client.call(&[b"SET", &b"k"[..], &binary(5000, 7)]);
    for words in [
        &["APPEND", "k", "x"][..],
        &["SETRANGE", "k", "0", "x"],
        &["SETBIT", "k", "0", "1"],
        &["GETBIT", "k", "0"],
        &["BITCOUNT", "k"],
        &["BITOP", "NOT", "k", "k"],
        &["BITFIELD", "k", "SET", "u8", "0", "1"],
        &["DUMP", "k"],
        &["RESTORE", "l", "0", "x"],
        &["RENAME", "k", "l"],
        &["COPY", "k", "l"],
        &["MSETNX", "k", "x"],
        &["EVAL", "return redis.call('get', KEYS[1])", "1", "k"],
        &["SORT", "list", "GET", "k"],
    ] {
        let said = client.call(words);
        let wanted = format!(
            "-ERR route `top` keeps large values in pieces, where {} cannot work\r\n",
            words[0]
        );
        assert_eq!(String::from_utf8_lossy(&said), wanted);
    }
    assert_eq!(client.call(&["GET", "k"]), bulk(&binary(5000, 7)));
}

#[test]
fn memcached_flags_numbers_and_sizes_are_those_of_the_value() {
    let Some(mut house) = house(Dialect::Memcached, SMALL) else {
        return;
    };
    let (old, new) = (binary(5000, 8), binary(3000, 9));
    let client = house.client("client");
    let mut say = |line: &str, data: Option<&[u8]>| {
        let mut ask = format!("{line}\r\n").into_bytes();
        if let Some(data) = data {
            ask.extend_from_slice(data);
            ask.extend_from_slice(b"\r\n");
        }
        client.ask(ask)
    };
    assert_eq!(say("replace k 7 0 5000", Some(&old)), b"NOT_STORED\r\n");
    assert_eq!(say("add k 7 60 5000", Some(&old)), b"STORED\r\n");
    assert_eq!(say("add k 8 60 3000", Some(&new)), b"NOT_STORED\r\n");
    let value = [b"VALUE k 7 5000\r\n", &old[..], b"\r\nEND\r\n"].concat();
    assert_eq!(say("get k", None), value);
    let gets = say("gets k", None);
    let line = String::from_utf8_lossy(&gets[..gets.iter().position(|b| *b == b'\r').unwrap()]);
    let cas = line.strip_prefix("VALUE k 7 5000 ").unwrap().to_owned();
    let refused = say("cas k 9 0 3000 1", Some(&new));
    assert_eq!(refused, b"EXISTS\r\n");
    assert_eq!(say("get k", None), value);
    assert_eq!(
        say(&format!("cas k 9 0 3000 {cas}"), Some(&new)),
        b"STORED\r\n"
    );
    let value = [b"VALUE k 9 3000\r\n", &new[..], b"\r\nEND\r\n"].concat();
    assert_eq!(say("gat 100 k", None), value);
    assert_eq!(say("mg k t f s", None), b"HD t100 f9 s3000\r\n");
    let meta = [b"VA 3000 s3000 kk f9\r\n", &new[..], b"\r\n"].concat();
    assert_eq!(say("mg k s v k f", None), meta);
    assert_eq!(say("mg no s v", None), b"EN\r\n");
    assert_eq!(say("mg k f", None), b"HD f9\r\n");
    assert_eq!(say("ms k 5000 T77 F3", Some(&old)), b"HD\r\n");
    assert_eq!(say("mg k t f s", None), b"HD t77 f3 s5000\r\n");
    assert_eq!(say("ms k 5000 ME", Some(&old)), b"NS\r\n");
    let key = "YSBi/w==";
    assert_eq!(say(&format!("ms {key} 3000 b"), Some(&new)), b"HD\r\n");
    let meta = [b"VA 3000 kYSBi/w== b\r\n", &new[..], b"\r\n"].concat();
    assert_eq!(say(&format!("mg {key} b v k"), None), meta);
    let long = "k".repeat(250);
    assert_eq!(
        say(&format!("set {long} 0 0 3000"), Some(&new)),
        b"STORED\r\n"
    );
    assert!(say(&format!("get {long}"), None).len() > 3000);
    for line in [
        "append k 0 0 1",
        "prepend k 0 0 1",
        "ms k 1 MA",
        "ms k 1 MP",
    ] {
        let said = String::from_utf8(say(line, Some(b"x"))).unwrap();
        assert!(said.starts_with("SERVER_ERROR route `top` keeps"), "{said}");
    }
    assert!(say("incr k 1", None).starts_with(b"CLIENT_ERROR"));
    assert_eq!(say("touch k 50", None), b"TOUCHED\r\n");
    assert_eq!(say("delete k", None), b"DELETED\r\n");
    assert_eq!(say("get k", None), b"END\r\n");
    // Quiet ones say nothing, and are done.
    let set = [b"set k 5 0 5000 noreply\r\n", &old[..], b"\r\n"].concat();
    client.send(&set);
    let value = [b"VALUE k 5 5000\r\n", &old[..], b"\r\nEND\r\n"].concat();
    assert_eq!(client.ask("get k\r\n"), value);
}

#[test]
fn what_a_client_asks_next_comes_after_its_large_write() {
    let Some(mut house) = house(Dialect::Redis, SPREAD) else {
        return;
    };
    let values: Vec<Vec<u8>> = (0..20).map(|n| binary(40_000 + n, n)).collect();
    let mut asked = Vec::new();
    let mut wanted = Vec::new();
    for value in &values {
        asked.extend(command(&[b"SET", &b"k"[..], value]));
        asked.extend(command(&["GET", "k"]));
        asked.extend(command(&["STRLEN", "k"]));
        asked.extend(command(&["DEL", "k"]));
        asked.extend(command(&["GET", "k"]));
        wanted.extend(b"+OK\r\n");
        wanted.extend(bulk(value));
        wanted.extend(format!(":{}\r\n:1\r\n$-1\r\n", value.len()).into_bytes());
    }
    let client = house.client("client");
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &asked));
    let got = client.exactly(wanted.len());
    sender.join().unwrap().unwrap();
    assert!(got == wanted, "replies are out of order");
}

#[test]
fn a_reader_sees_one_write_or_another() {
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = house(dialect, SPREAD) else {
            return;
        };
        house.tell("client set k =60000 -> ok");
        let mut writers = Vec::new();
        for len in [50_000, 70_000] {
            let mut client = house.proxy.client();
            writers.push(std::thread::spawn(move || {
                let value = pattern_like(len);
                for _ in 0..100 {
                    let said = match dialect {
                        Dialect::Redis => client.call(&[b"SET", &b"k"[..], &value]),
                        Dialect::Memcached => {
                            let line = format!("set k 0 0 {len}\r\n");
                            client.ask([line.as_bytes(), &value, b"\r\n"].concat())
                        }
                    };
                    assert!(matches!(said[0], b'+' | b'S'), "{said:?}");
                }
            }));
        }
        while writers.iter().any(|writer| !writer.is_finished()) {
            let got = house.perform("client get k");
            let whole = ["=50000", "=60000", "=70000"].contains(&&*got);
            assert!(whole, "{dialect:?}: {got}");
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
    }
}

/// As stories write `=N`.
fn pattern_like(len: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..4099u32).map(|at| (at * at / 7) as u8).collect();
    let mut bytes = block.repeat(len / block.len() + 1);
    bytes.truncate(len);
    bytes
}

#[test]
fn large_values_fail_over_whole() {
    // Each child has pieces of its own.
    let above = "[routes.top]
        type = 'failover'
        children = [
          { type = 'big_value', child = 'a', chunk = '1KiB' },
          { type = 'big_value', child = 'b', chunk = '1KiB' },
        ]";
    story(
        above,
        "client set k =5000        -> ok
        b set k other              -> ok
        client get k               -> =5000
        a kill
        client get k               -> other
        client set k =7000         -> ok
        client get k               -> =7000
        client mget k no           -> =7000 -
        client del k               -> 1
        b kill
        client set k =5000         -> !
        client get k               -> !",
    );
    // And every piece fails over by itself.
    let below = "[routes.top]
        type = 'big_value'
        chunk = '1KiB'
        child = { type = 'failover', children = ['a', 'b'] }";
    story(
        below,
        "client set k =5000        -> ok
        a kill
        client get k               -> -
        client set k =5000         -> ok
        client get k               -> =5000",
    );
}

#[test]
fn many_large_values_at_once_wait_for_each_other() {
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let config = "[routes.top]
            type = 'big_value'
            child = 'main'
            chunk = '64KiB'
            [pools.main]
            protocol = 'PROTOCOL'
            servers = ['@a']
            request_timeout = '20s'
            value_max = '64MiB'";
        let config = match dialect {
            Dialect::Redis => config.replace("value_max = '64MiB'", ""),
            Dialect::Memcached => config.to_owned(),
        };
        let Some(mut house) = house(dialect, &config) else {
            return;
        };
        let clients = (0..8).map(|number| {
            let mut client = house.proxy.client();
            std::thread::spawn(move || {
                let value = binary(3_000_000, number);
                let key = format!("k{number}");
                for _ in 0..2 {
                    let (said, got) = match dialect {
                        Dialect::Redis => (
                            client.call(&[b"SET", key.as_bytes(), &value]),
                            client.call(&["GET", &key]),
                        ),
                        Dialect::Memcached => {
                            let line = format!("set {key} 0 0 {}\r\n", value.len());
                            let set = [line.as_bytes(), &value, b"\r\n"].concat();
                            (client.ask(set), client.ask(format!("get {key}\r\n")))
                        }
                    };
                    assert!(
                        matches!(said[0], b'+' | b'S') && said.len() < 10,
                        "{said:?}"
                    );
                    let at = got.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                    assert!(got[at..].starts_with(&value), "{} bytes", got.len());
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        house.proxy.assert_alive();
    }
}

#[test]
fn a_dead_server_of_several_is_an_error_and_no_torn_value() {
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = house(dialect, SPREAD) else {
            return;
        };
        let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
        for key in &keys {
            house.tell(&format!("client set {key} =50000 -> ok"));
        }
        house.tell("b kill");
        for key in &keys {
            house.tell(&format!("client get {key} -> !"));
            house.tell(&format!("client set {key} =60000 -> !"));
        }
        // What was there before is there again, or nothing.
        if dialect == Dialect::Memcached {
            house.tell("b restart");
            for key in &keys {
                house.tell(&format!("client get {key} ~> -"));
            }
        }
    }
}

#[test]
fn pieces_are_copied_as_everything_is_below_the_route() {
    story(
        "[routes.top]
        type = 'big_value'
        chunk = '1KiB'
        child = { type = 'replicas', children = ['a', 'b'], read = 'first', read_repair = true }",
        "client set k =9000 500    -> ok
        a flush
        client get k               -> =9000
        client get k; a size k     ~> 40
        client get k               -> =9000
        client ttl k               -> 500s",
    );
}

#[test]
fn nobody_waits_for_pieces_of_a_shadow() {
    story(
        "[routes.top]
        type = 'shadow'
        main = 'a'
        copies = [{ route = { type = 'big_value', child = 'b', chunk = '1KiB' } }]",
        "client set k =9000        -> ok
        a get k                    -> =9000
        b size k                   ~> 40
        client get k               -> =9000
        b freeze
        client set k =8000         -> ok
        client get k               -> =8000
        client set k =7000         -> ok
        client get k               -> =7000",
    );
}

#[test]
fn the_routes_around_change_keys_and_lives_of_pieces_too() {
    story(
        "[routes.top]
        type = 'ttl'
        cap = '50s'
        child = { type = 'key', add_prefix = 'up:', child = 'big' }
        [routes.big]
        type = 'big_value'
        chunk = '1KiB'
        child = { type = 'key', add_prefix = 'down:', child = 'a' }",
        "client set k =9000        -> ok
        client get k               -> =9000
        client mget k no           -> =9000 -
        client ttl k               -> 50s
        a size down:up:k           -> 40
        client set k small         -> ok
        a get down:up:k            -> small
        client del k               -> 1
        a get down:up:k            -> -",
    );
    // One in another is of no use, and does no harm.
    story(
        "[routes.top]
        type = 'big_value'
        chunk = '4KiB'
        child = { type = 'big_value', child = 'a', chunk = '1KiB' }",
        "client set k =9000        -> ok
        client get k               -> =9000
        client size k              -> 9000
        client set k =2000         -> ok
        client get k               -> =2000",
    );
}

#[test]
fn embedded_pools_keep_pieces_too() {
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let config = "[routes.top]
            type = 'big_value'
            chunk = '1KiB'
            child = 'memory'
            [pools.memory]
            protocol = 'PROTOCOL'
            kind = 'local'";
        story_of(
            dialect,
            config,
            "client set k =900000 100 -> ok
            client get k             -> =900000
            client ttl k             -> 100s
            client size k            -> 900000
            client del k             -> 1
            client get k             -> -",
        );
    }
}

#[test]
fn values_of_many_megabytes_come_back() {
    let config = |more: &str| {
        format!(
            "[routes.top]
            type = 'big_value'
            child = 'main'
            [pools.main]
            protocol = 'PROTOCOL'
            servers = ['@a', '@b']
            request_timeout = '20s'
            {more}"
        )
    };
    let script = "client set k =20000000   -> ok
        client set l =33000000       -> ok
        client get k                 -> =20000000
        other mget k l               -> =20000000 =33000000
        a freeze
        b thaw
        a thaw
        client get l                 -> =33000000
        client set l =34000000       -> !
        other get l                  -> =33000000";
    story_of(Dialect::Redis, &config(""), script);
    story_of(Dialect::Memcached, &config("value_max = '64MiB'"), script);
}
