//! Edited requests and copies, put to a real redis-server and memcached.
//!
//! The tables elsewhere say what is written; here the servers say whether they
//! take it and what life they give. Skips, saying so, what is not installed.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use emberline_protocol::memcache::{self, Limits, Parser, Verb};
use emberline_protocol::redis::{self, command, encode, reply};
use emberline_protocol::{Edit, Fetched, Outcome, Scan, TtlRule};

const CAP: TtlRule = TtlRule::Cap(Duration::from_secs(10));

#[test]
fn redis_takes_what_was_edited_and_lets_it_live_as_long() {
    let Some(mut server) = Server::redis() else {
        eprintln!("skipped: redis-server is not installed");
        return;
    };
    // The request, and what became of it.
    let moment = now().as_secs() + 1000;
    let forever = server.redis_ask(&["SET", "eu:old", "v"]);
    assert_eq!(forever, b"+OK\r\n");
    for (request, outcome) in [
        ("SET k v".to_owned(), Outcome::Done),
        ("SET k v EX 1000".into(), Outcome::Done),
        ("SET k v GET PX 99999999".into(), Outcome::Done),
        (format!("SET k v XX EXAT {moment}"), Outcome::Done),
        ("SET k v NX".into(), Outcome::NotDone),
        ("SETEX k 1000 v".into(), Outcome::Done),
        ("PSETEX k 1000000 v".into(), Outcome::Done),
        ("GETEX k PERSIST".into(), Outcome::Hit),
        (format!("GETEX k PXAT {moment}000"), Outcome::Hit),
        ("EXPIRE k 1000".into(), Outcome::Done),
        ("EXPIRE k 1000 NX".into(), Outcome::NotDone),
        (format!("EXPIREAT k {moment}"), Outcome::Done),
        (format!("PEXPIREAT k {moment}000 XX"), Outcome::Done),
        ("PERSIST k".into(), Outcome::Done),
        ("PERSIST nosuch".into(), Outcome::NotDone),
        ("PERSIST old".into(), Outcome::Done),
        ("EXPIRE k -1".into(), Outcome::Done),
        ("SET k v EX 0".into(), Outcome::Error),
    ] {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let command = command::lookup(words[0]).unwrap();
        let mut sent = Vec::new();
        let edit = Edit {
            key: Some(&prefixed),
            ttl: Some(CAP),
        };
        redis::edit(command, &words, &edit, now(), &mut sent).unwrap();
        let answer = server.redis_answer(&sent);
        let got = redis::outcome(Some(command), command.kind, &answer);
        assert_eq!(got, Some(outcome), "{request}: {}", answer.escape_ascii());
        for key in ["eu:k", "eu:old"] {
            let left = reply::integer(&server.redis_ask(&["PTTL", key])).unwrap();
            let capped = left <= 10_000 && (left != -1 || key == "eu:old");
            assert!(capped, "{request} leaves {key} {left} ms");
        }
        let plain = server.redis_ask(&["EXISTS", "k", "old", "nosuch"]);
        assert_eq!(plain, b":0\r\n", "{request}");
    }
    let left = reply::integer(&server.redis_ask(&["PTTL", "eu:old"])).unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
}

#[test]
fn redis_answers_the_same_of_keys_that_are_not_there() {
    let Some(mut server) = Server::redis() else {
        eprintln!("skipped: redis-server is not installed");
        return;
    };
    let requests = [
        "BITCOUNT k",
        "BITFIELD_RO k",
        "BITPOS k 1",
        "BITPOS k 0",
        "COPY k l",
        "DEL k",
        "DUMP k",
        "EXISTS k l",
        "EXPIRE k 10",
        "EXPIRETIME k",
        "GEODIST k a b",
        "GEOHASH k a b",
        "GEOPOS k a b",
        "GEORADIUS k 1 1 1 m",
        "GEORADIUSBYMEMBER_RO k a 1 m",
        "GEOSEARCH k FROMLONLAT 1 1 BYRADIUS 1 m",
        "GET k",
        "GETBIT k 3",
        "GETDEL k",
        "GETEX k",
        "GETRANGE k 0 3",
        "HDEL k f",
        "HEXISTS k f",
        "HGET k f",
        "HGETALL k",
        "HKEYS k",
        "HLEN k",
        "HMGET k f g",
        "HRANDFIELD k",
        "HRANDFIELD k 2",
        "HSCAN k 0",
        "HSTRLEN k f",
        "HVALS k",
        "LCS k l",
        "LCS k l LEN",
        "LCS k l IDX",
        "LINDEX k 0",
        "LINSERT k BEFORE a b",
        "LLEN k",
        "LPOP k",
        "LPOS k a",
        "LPOS k a COUNT 2",
        "LPUSHX k a",
        "LRANGE k 0 -1",
        "LREM k 0 a",
        "MGET k l",
        "OBJECT ENCODING k",
        "PERSIST k",
        "PEXPIRETIME k",
        "PFCOUNT k l",
        "PTTL k",
        "SCARD k",
        "SDIFF k l",
        "SET k v XX",
        "SINTER k l",
        "SINTERCARD 2 k l",
        "SISMEMBER k a",
        "SMEMBERS k",
        "SMISMEMBER k a b",
        "SMOVE k l a",
        "SORT k",
        "SORT_RO k",
        "SPOP k",
        "SRANDMEMBER k",
        "SRANDMEMBER k 2",
        "SREM k a",
        "SSCAN k 0",
        "STRLEN k",
        "SUBSTR k 0 3",
        "SUNION k l",
        "TOUCH k l",
        "TTL k",
        "TYPE k",
        "UNLINK k",
        "XDEL k 1-1",
        "XLEN k",
        "XRANGE k - +",
        "XREAD STREAMS k 0",
        "XREVRANGE k + -",
        "ZCARD k",
        "ZCOUNT k 0 1",
        "ZDIFF 2 k l",
        "ZINTER 2 k l",
        "ZINTERCARD 2 k l",
        "ZLEXCOUNT k - +",
        "ZMSCORE k a b",
        "ZPOPMIN k",
        "ZRANDMEMBER k",
        "ZRANDMEMBER k 2",
        "ZRANGE k 0 -1",
        "ZRANGEBYLEX k - +",
        "ZRANGEBYSCORE k 0 1",
        "ZRANK k a",
        "ZREM k a",
        "ZREVRANGE k 0 -1",
        "ZREVRANGEBYLEX k + -",
        "ZREVRANGEBYSCORE k 1 0",
        "ZREVRANK k a",
        "ZSCAN k 0",
        "ZSCORE k a",
        "ZUNION 2 k l",
    ];
    for version in [redis::Version::Resp2, redis::Version::Resp3] {
        if version == redis::Version::Resp3 {
            server.redis_ask(&["HELLO", "3"]);
        }
        for request in requests {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            let mut sent = Vec::new();
            encode::command(&mut sent, words.iter().copied());
            let said = server.redis_answer(&sent);
            let mut expected = Vec::new();
            let command = command::lookup(words[0]).unwrap();
            redis::missing(command, &words, version, &mut expected);
            let (said, expected) = (said.escape_ascii(), expected.escape_ascii());
            assert_eq!(expected.to_string(), said.to_string(), "{request}");
        }
    }
}

#[test]
fn memcached_answers_the_same_of_keys_that_are_not_there() {
    let Some(mut server) = Server::memcached() else {
        eprintln!("skipped: memcached is not installed");
        return;
    };
    for request in [
        "get k\r\n",
        "gets k\r\n",
        "gat 10 k\r\n",
        "replace k 0 0 1\r\nv\r\n",
        "append k 0 0 1\r\nv\r\n",
        "cas k 0 0 1 7\r\nv\r\n",
        "delete k\r\n",
        "incr k 1\r\n",
        "touch k 10\r\n",
        "mg k v t O12 k\r\n",
        "ms k 1 MR O12 k\r\nv\r\n",
        "ms a2V5 1 b k MR Oa\r\nv\r\n",
        "md k q O12 k\r\n",
        "md a2V5 O12 b k\r\n",
        "ma k k O3 v\r\n",
    ] {
        let mut parser = Parser::default();
        let parsed = parser.parse(request.as_bytes(), &Limits::default());
        let verb = parsed.unwrap().unwrap().verb;
        let mut expected = Vec::new();
        let (line, _) = request.split_once('\n').unwrap();
        memcache::missing(verb, line.as_bytes(), &mut expected);
        let said = server.memcached_answer(request.replace(" q ", " ").as_bytes());
        let (said, expected) = (said.escape_ascii(), expected.escape_ascii());
        assert_eq!(expected.to_string(), said.to_string(), "{request}");
    }
}

#[test]
fn redis_copies_every_type_with_its_life_and_adds_only() {
    let Some(mut server) = Server::redis() else {
        eprintln!("skipped: redis-server is not installed");
        return;
    };
    for make in [
        "SET k v PX 100000",
        "RPUSH k a b",
        "HSET k f v",
        "ZADD k 1.5 m",
        "XADD k 1-1 f v",
    ] {
        server.redis_ask(&["FLUSHALL"]);
        server.redis_ask(&make.split(' ').collect::<Vec<_>>());
        let mut question = Vec::new();
        redis::copy::ask(&mut question, b"k");
        let replies = server.redis_answer(&question);
        let Fetched::Found { copied, len } = redis::copy::fetched(&replies).unwrap() else {
            panic!("{make}");
        };
        assert_eq!(
            (len, copied.ttl.is_some()),
            (replies.len(), make.contains("PX"))
        );
        let payload = &replies[copied.payload.clone()];
        for outcome in [Outcome::Done, Outcome::NotDone] {
            let mut sent = Vec::new();
            redis::copy::add(&mut sent, b"copy", payload, &copied, None);
            let answer = server.redis_answer(&sent);
            let restore = command::lookup(b"restore").unwrap();
            let got = redis::outcome(Some(restore), restore.kind, &answer);
            assert_eq!(got, Some(outcome), "{make}: {}", answer.escape_ascii());
        }
        let dumps = ["k", "copy"].map(|key| server.redis_ask(&["DUMP", key]));
        assert_eq!(dumps[0], dumps[1], "{make}");
        let left = reply::integer(&server.redis_ask(&["PTTL", "copy"])).unwrap();
        match copied.ttl {
            Some(_) => assert!((1..=100_000).contains(&left), "{make}: {left}"),
            None => assert_eq!(left, -1, "{make}"),
        }
    }
    let mut question = Vec::new();
    redis::copy::ask(&mut question, b"nosuch");
    assert_eq!(server.redis_answer(&question), b":-2\r\n$-1\r\n");
}

#[test]
fn memcached_takes_what_was_edited_and_lets_it_live_as_long() {
    let Some(mut server) = Server::memcached() else {
        eprintln!("skipped: memcached is not installed");
        return;
    };
    let moment = now().as_secs() + 10_000_000;
    for (request, outcome) in [
        ("set k 7 0 1\r\nv\r\n".to_owned(), Outcome::Done),
        (
            format!("replace k 7 {moment} 1 noreply\r\nv\r\n"),
            Outcome::Done,
        ),
        ("add k 7 0 1\r\nv\r\n".into(), Outcome::NotDone),
        ("cas k 7 0 1 1\r\nv\r\n".into(), Outcome::NotDone),
        ("append k 0 0 1\r\nv\r\n".into(), Outcome::Done),
        ("touch k 0\r\n".into(), Outcome::Done),
        ("gat 0 k\r\n".into(), Outcome::Hit),
        ("gats 0 k\r\n".into(), Outcome::Hit),
        ("get k\r\n".into(), Outcome::Hit),
        ("get nosuch\r\n".into(), Outcome::Miss),
        ("mg k v T0 k q\r\n".into(), Outcome::Hit),
        ("mg nosuch v k\r\n".into(), Outcome::Miss),
        ("ms k 1 k q\r\n1\r\n".into(), Outcome::Done),
        ("ms k 1 T0 k MS\r\n1\r\n".into(), Outcome::Done),
        ("ma k T0 v\r\n".into(), Outcome::Done),
        ("ma new N0 J1\r\n".into(), Outcome::Done),
        ("ms k 1 MA\r\n1\r\n".into(), Outcome::Done),
        ("md k I T0\r\n".into(), Outcome::Done),
        ("mg k v\r\n".into(), Outcome::Hit),
        ("ms aw== 1 b\r\nv\r\n".into(), Outcome::Done),
        ("mg aw== b v k T0\r\n".into(), Outcome::Hit),
        ("incr new 1\r\n".into(), Outcome::Done),
        ("delete new\r\n".into(), Outcome::Done),
        ("delete new\r\n".into(), Outcome::NotDone),
        ("ms k 1 Tx\r\nv\r\n".into(), Outcome::Error),
    ] {
        let buf = request.as_bytes();
        let parsed = Parser::default()
            .parse(buf, &Limits::default())
            .unwrap()
            .unwrap();
        let mut sent = Vec::new();
        let edit = Edit {
            key: Some(&prefixed),
            ttl: Some(CAP),
        };
        memcache::edit(buf, &parsed, &edit, now(), &mut sent).unwrap();
        sent.extend_from_slice(&buf[parsed.head..parsed.len()]);
        let answer = server.memcached_answer(&sent);
        let got = memcache::outcome(parsed.verb, &answer);
        assert_eq!(got, Some(outcome), "{request:?}: {}", answer.escape_ascii());

        let end = answer.iter().position(|b| *b == b'\n').unwrap() + 1;
        let key = memcache::tokens(&buf[..parsed.head]).nth(1).unwrap();
        let mut shown = Vec::new();
        memcache::restore_key(parsed.verb, &answer[..end], key, parsed.base64, &mut shown);
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.contains("eu:"), "{request:?}: {shown}");

        let left = server.memcached_answer(b"mg eu:k t\r\n");
        let left = String::from_utf8(left).unwrap();
        let seconds: i64 = match left.trim().split_once('t') {
            Some((_, rest)) => rest.split(' ').next().unwrap().parse().unwrap(),
            None => continue,
        };
        assert!(
            (0..=10).contains(&seconds),
            "{request:?} leaves {seconds} s"
        );
    }
    let plain = server.memcached_answer(b"get k new nosuch\r\n");
    assert_eq!(plain, b"END\r\n");
}

#[test]
fn memcached_copies_with_flags_and_life_and_adds_only() {
    let Some(mut server) = Server::memcached() else {
        eprintln!("skipped: memcached is not installed");
        return;
    };
    // More than 30 days are said as a moment.
    let far = format!("ms YyA= 1 b T{}\r\nc\r\n", now().as_secs() + 3_000_000);
    for (request, from, to) in [
        ("ms a 3 T100 F7\r\na\r\n\r\n", &b"a"[..], &b"copy"[..]),
        ("ms b 0 F4294967295\r\n\r\n", b"b", b"copy 2"),
        (&far, b"c ", b"copy\r\n"),
    ] {
        assert_eq!(
            server.memcached_answer(request.as_bytes()),
            b"HD\r\n",
            "{request}"
        );
        let (first, payload) = copied(&mut server, from);
        for outcome in [Outcome::Done, Outcome::NotDone] {
            let mut sent = Vec::new();
            memcache::copy::add(&mut sent, to, &payload, &first, None, now()).unwrap();
            let answer = server.memcached_answer(&sent);
            assert_eq!(
                memcache::outcome(Verb::MetaSet, &answer),
                Some(outcome),
                "{request}"
            );
        }
        let (second, same) = copied(&mut server, to);
        assert_eq!((second.flags, same), (first.flags, payload));
        let seconds = |life: Option<Duration>| life.map(|life| life.as_secs());
        let (was, is) = (seconds(first.ttl), seconds(second.ttl));
        let near = was.zip(is).is_none_or(|(was, is)| was.abs_diff(is) <= 1);
        assert!(near && was.is_some() == is.is_some(), "{was:?} {is:?}");
    }
    let mut question = Vec::new();
    memcache::copy::ask(&mut question, b"nosuch").unwrap();
    let answer = server.memcached_answer(&question);
    assert!(matches!(
        memcache::copy::fetched(&answer),
        Ok(Fetched::Missing { .. })
    ));
}

fn copied(server: &mut Server, key: &[u8]) -> (emberline_protocol::Copied, Vec<u8>) {
    let mut question = Vec::new();
    memcache::copy::ask(&mut question, key).unwrap();
    let answer = server.memcached_answer(&question);
    match memcache::copy::fetched(&answer) {
        Ok(Fetched::Found { copied, len }) => {
            assert_eq!(len, answer.len());
            let payload = answer[copied.payload.clone()].to_vec();
            (copied, payload)
        }
        other => panic!("{}: {other:?}", key.escape_ascii()),
    }
}

fn prefixed(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"eu:");
    out.extend_from_slice(key);
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A server and a connection to it; killed at the end, also of a test that fails.
struct Server {
    process: Child,
    connection: Option<TcpStream>,
}

impl Server {
    fn redis() -> Option<Server> {
        let args = ["--bind", "127.0.0.1", "--save", "", "--port"];
        Server::start("redis-server", &args)
    }

    fn memcached() -> Option<Server> {
        let args = ["-u", "root", "-l", "127.0.0.1", "-U", "0", "-p"];
        Server::start("memcached", &args)
    }

    fn start(program: &str, args: &[&str]) -> Option<Server> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new(program)
            .args(args)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut server = Server {
            process,
            connection: None,
        };
        let started = Instant::now();
        while server.connection.is_none() {
            let patience = started.elapsed() < Duration::from_secs(20);
            assert!(patience, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(5));
            server.connection = TcpStream::connect(("127.0.0.1", port)).ok();
        }
        let connection = server.connection.as_ref().unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Some(server)
    }

    fn redis_ask(&mut self, words: &[&str]) -> Vec<u8> {
        let mut sent = Vec::new();
        encode::command(&mut sent, words.iter().map(|word| word.as_bytes()));
        self.redis_answer(&sent)
    }

    /// As many replies as there are requests in `sent`.
    fn redis_answer(&mut self, sent: &[u8]) -> Vec<u8> {
        let mut scanner = redis::Scanner::default();
        let mut requests = redis::Parser::default();
        let (mut rest, mut wanted) = (sent, 0);
        while let Ok(redis::Step::Frame { len, .. }) =
            requests.parse(rest, &redis::Limits::default())
        {
            rest = &rest[len..];
            wanted += 1;
        }
        self.answer(sent, wanted, |buf| scanner.feed(buf).unwrap())
    }

    fn memcached_answer(&mut self, sent: &[u8]) -> Vec<u8> {
        let mut scanner = memcache::Scanner::default();
        self.answer(sent, 1, |buf| scanner.feed(buf).unwrap())
    }

    fn answer(
        &mut self,
        sent: &[u8],
        wanted: usize,
        mut feed: impl FnMut(&[u8]) -> Scan,
    ) -> Vec<u8> {
        let connection = self.connection.as_mut().unwrap();
        connection.write_all(sent).unwrap();
        let (mut answer, mut scanned, mut replies) = (Vec::new(), 0, 0);
        let mut chunk = [0; 4096];
        while replies < wanted {
            match feed(&answer[scanned..]) {
                Scan::Done(len) => {
                    scanned += len;
                    replies += 1;
                }
                Scan::More(len) => {
                    scanned += len;
                    let read = connection.read(&mut chunk).unwrap();
                    assert!(read > 0, "closed by the server");
                    answer.extend_from_slice(&chunk[..read]);
                }
            }
        }
        assert_eq!(scanned, answer.len());
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
