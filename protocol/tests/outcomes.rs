//! What replies mean: a table per protocol, each reply also cut at every byte.
//!
//! A beginning of a reply says either nothing yet or what the whole one says.

#![allow(clippy::unwrap_used)]

use emberline_protocol::Outcome::{self, Busy, Done, Error, Hit, Miss, NotDone};
use emberline_protocol::memcache::{self, Verb};
use emberline_protocol::redis::{self, command};
use emberline_protocol::{Kind, redis::reply};
use proptest::prelude::*;

#[test]
fn errors_say_that_there_is_no_stream() {
    for (name, reply, expected) in [
        (
            "xpending",
            "-NOGROUP No such key 'k' or consumer group 'g'\r\n",
            Miss,
        ),
        (
            "xinfo",
            "-NOGROUP No such consumer group 'g' for key name 'k'\r\n",
            Miss,
        ),
        ("xinfo", "-ERR no such key\r\n", Miss),
        ("xinfo", "-ERR syntax error\r\n", Error),
        ("xpending", "-LOADING Redis is loading\r\n", Busy),
        ("get", "-ERR no such key\r\n", Error),
    ] {
        let command = command::lookup(name.as_bytes()).unwrap();
        let said = |reply: &[u8]| redis::outcome(Some(command), Kind::Read, reply);
        assert_eq!(said(reply.as_bytes()), Some(expected), "{name} {reply}");
        for cut in 0..reply.len() {
            let early = said(&reply.as_bytes()[..cut]);
            assert!(
                early.is_none_or(|early| early == expected),
                "{reply} at {cut}"
            );
        }
    }
}

#[test]
fn redis_reads_hit_or_miss() {
    for (name, misses, hits) in [
        ("get", "$-1\r\n _\r\n", "$0\r\n\r\n $2\r\nok\r\n"),
        (
            "mget",
            "*1\r\n$-1\r\n *2\r\n_\r\n_\r\n",
            "*2\r\n$-1\r\n$1\r\na\r\n",
        ),
        ("hmget", "*2\r\n$-1\r\n$-1\r\n", "*2\r\n$-1\r\n$0\r\n\r\n"),
        (
            "hgetall",
            "*0\r\n %0\r\n",
            "*2\r\n$1\r\na\r\n$1\r\nb\r\n %1\r\n+a\r\n+b\r\n",
        ),
        ("lrange", "*0\r\n", "*1\r\n$0\r\n\r\n"),
        ("smembers", "~0\r\n *0\r\n", "~1\r\n+a\r\n"),
        ("exists", ":0\r\n", ":1\r\n"),
        ("touch", ":0\r\n", ":3\r\n"),
        ("ttl", ":-2\r\n", ":-1\r\n :0\r\n :100\r\n"),
        ("pttl", ":-2\r\n", ":-1\r\n"),
        ("expiretime", ":-2\r\n", ":-1\r\n"),
        ("type", "+none\r\n", "+string\r\n +nonesuch\r\n +no\r\n"),
        ("strlen", ":0\r\n", ":5\r\n"),
        ("getrange", "$0\r\n\r\n", "$1\r\na\r\n"),
        ("sismember", ":0\r\n #f\r\n", ":1\r\n #t\r\n"),
        ("smismember", "*2\r\n:0\r\n:0\r\n", "*2\r\n:0\r\n:1\r\n"),
        ("zrank", "$-1\r\n _\r\n", ":0\r\n"),
        ("zscore", "$-1\r\n _\r\n", "$1\r\n0\r\n ,0\r\n"),
        ("zmscore", "*1\r\n_\r\n", "*1\r\n,0\r\n"),
        ("geopos", "*1\r\n*-1\r\n", "*1\r\n*2\r\n+1\r\n+2\r\n"),
        ("bitpos", ":-1\r\n", ":0\r\n :7\r\n"),
        ("lpos", "$-1\r\n *0\r\n", ":0\r\n *1\r\n:0\r\n"),
        (
            "hscan",
            "*2\r\n$1\r\n0\r\n*0\r\n",
            "*2\r\n$1\r\n7\r\n*0\r\n *2\r\n$1\r\n0\r\n*2\r\n+a\r\n+b\r\n",
        ),
        ("object", "$-1\r\n", ":0\r\n $3\r\nraw\r\n"),
        ("xread", "*-1\r\n _\r\n", "*1\r\n*2\r\n+s\r\n*0\r\n"),
        ("dump", "$-1\r\n", "$1\r\na\r\n $?\r\n;1\r\na\r\n;0\r\n"),
        ("eval_ro", "$-1\r\n *0\r\n", ":0\r\n"),
        // A command's attributes say nothing about its key.
        (
            "get",
            "|1\r\n+ttl\r\n:3600\r\n_\r\n",
            "|1\r\n+a\r\n*1\r\n_\r\n$1\r\na\r\n",
        ),
        // Reads by their kind alone.
        (
            "",
            "$-1\r\n :0\r\n *0\r\n",
            "$0\r\n\r\n :1\r\n =8\r\ntxt:abcd\r\n",
        ),
    ] {
        check_redis(name, Kind::Read, misses, Miss);
        check_redis(name, Kind::Read, hits, Hit);
    }
}

#[test]
fn redis_changes_are_done_or_not() {
    for (name, refused, done) in [
        ("set", "$-1\r\n _\r\n", "+OK\r\n $3\r\nold\r\n"),
        ("setnx", ":0\r\n", ":1\r\n"),
        ("getset", "", "$-1\r\n $1\r\na\r\n"),
        ("setex", "", "+OK\r\n"),
        ("append", "", ":0\r\n :5\r\n"),
        ("del", ":0\r\n", ":1\r\n :2\r\n"),
        ("unlink", ":0\r\n", ":1\r\n"),
        ("getdel", "$-1\r\n", "$1\r\na\r\n $0\r\n\r\n"),
        ("expire", ":0\r\n", ":1\r\n"),
        ("persist", ":0\r\n", ":1\r\n"),
        ("incr", "", ":0\r\n :-1\r\n :7\r\n"),
        ("incrbyfloat", "", "$1\r\n0\r\n"),
        ("hset", "", ":0\r\n :2\r\n"),
        ("hdel", ":0\r\n", ":1\r\n"),
        ("zadd", "$-1\r\n", ":0\r\n ,1.5\r\n"),
        ("sadd", ":0\r\n", ":1\r\n"),
        (
            "lpop",
            "$-1\r\n _\r\n *-1\r\n",
            "$1\r\na\r\n *1\r\n$1\r\na\r\n",
        ),
        ("zpopmin", "*0\r\n", "*2\r\n$1\r\na\r\n$1\r\n1\r\n"),
        ("linsert", ":0\r\n :-1\r\n", ":3\r\n"),
        ("sunionstore", "", ":0\r\n"),
        ("eval", "", "$-1\r\n *0\r\n :0\r\n"),
        (
            "restore",
            "-BUSYKEY Target key name already exists.\r\n",
            "+OK\r\n",
        ),
        ("", "_\r\n", ":0\r\n +OK\r\n"),
    ] {
        let kind = command::lookup(name.as_bytes()).map_or(Kind::Write, |command| command.kind);
        check_redis(name, kind, refused, NotDone);
        check_redis(name, kind, done, Done);
    }
}

#[test]
fn redis_commands_that_read_as_they_write_hit_or_miss() {
    check_redis("getex", Kind::Touch, "$-1\r\n", Miss);
    check_redis("getex", Kind::Touch, "$0\r\n\r\n", Hit);
    check_redis("sort", Kind::Write, "*0\r\n", Miss);
    check_redis("sort", Kind::Write, "*1\r\n$1\r\na\r\n", Hit);
    check_redis("sort", Kind::Write, ":0\r\n :3\r\n", Done);
}

#[test]
fn redis_errors_are_told_from_those_that_say_elsewhere() {
    for kind in [Kind::Read, Kind::Write, Kind::Delete, Kind::Other] {
        for code in [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script",
            "MASTERDOWN Link with MASTER is down",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "READONLY You can't write against a read only replica.",
        ] {
            check_one("get", kind, format!("-{code}\r\n").as_bytes(), Some(Busy));
            let blob = format!("!{}\r\n{code}\r\n", code.len());
            check_one("get", kind, blob.as_bytes(), Some(Busy));
        }
        for code in [
            "ERR no such key",
            "WRONGTYPE Operation against a key",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "LOADINGS are something else",
            "BUSYGROUP Consumer Group name already exists",
            "NOSCRIPT",
            "",
            "AVERYLONGCODETHATNEVERENDS",
        ] {
            check_one("get", kind, format!("-{code}\r\n").as_bytes(), Some(Error));
        }
    }
    for nonsense in [
        "",
        "HTTP/1.1 400",
        "?",
        ":x\r\n",
        "*x\r\n",
        "|x\r\n",
        "\r\n",
    ] {
        let want = (!nonsense.is_empty()).then_some(Error);
        let got = redis::outcome(None, Kind::Read, nonsense.as_bytes());
        assert_eq!(got, want, "{nonsense:?}");
    }
}

#[test]
fn redis_replies_that_never_end_their_first_line_are_errors() {
    for kind in [b':', b'*', b'!', b'|'] {
        let mut endless = vec![kind];
        endless.extend_from_slice(&[b'9'; 100]);
        let got = redis::outcome(None, Kind::Read, &endless);
        assert_eq!(got, Some(Error), "{}", char::from(kind));
    }
    // A huge array is told by its first element.
    let got = redis::outcome(None, Kind::Read, b"*1000000000\r\n$1\r\n");
    assert_eq!(got, Some(Hit));
}

#[test]
fn redis_commands_about_no_key_are_done() {
    check_redis("keys", Kind::Other, "*0\r\n :0\r\n $-1\r\n +PONG\r\n", Done);
}

fn check_redis(name: &str, kind: Kind, replies: &str, want: Outcome) {
    for reply in split(replies) {
        check_one(name, kind, reply.as_bytes(), Some(want));
    }
}

/// Replies that are separated by a space behind their line end.
fn split(replies: &str) -> impl Iterator<Item = String> {
    let pieces = replies.split("\r\n ").map(str::to_owned);
    pieces.filter(|reply| !reply.is_empty()).map(|mut reply| {
        if !reply.ends_with("\r\n") {
            reply.push_str("\r\n");
        }
        reply
    })
}

fn check_one(name: &str, kind: Kind, reply: &[u8], want: Option<Outcome>) {
    let command = command::lookup(name.as_bytes());
    assert!(command.is_some() || name.is_empty(), "{name}");
    let of = |reply: &[u8]| redis::outcome(command, kind, reply);
    let shown = reply.escape_ascii();
    assert_eq!(of(reply), want, "{name} {shown}");
    for end in 0..reply.len() {
        let got = of(&reply[..end]);
        assert!(
            got.is_none() || got == want,
            "{name} {shown} cut at {end}: {got:?}"
        );
    }
}

#[test]
fn memcached_says_it_in_its_first_word() {
    use Verb::*;
    for (verbs, reply, want) in [
        (&[Get, Gets, Gat, Gats][..], "VALUE k 0 1\r\na\r\nEND", Hit),
        (&[Get, Gets, Gat, Gats], "END", Miss),
        (&[Set, Add, Replace, Append, Prepend, Cas], "STORED", Done),
        (&[Set, Add, Replace, Append, Prepend], "NOT_STORED", NotDone),
        (&[Cas], "EXISTS", NotDone),
        (&[Cas, Delete, Incr, Decr, Touch], "NOT_FOUND", NotDone),
        (&[Delete], "DELETED", Done),
        (&[Touch], "TOUCHED", Done),
        (&[Incr, Decr], "0", Done),
        (&[Incr, Decr], "18446744073709551615", Done),
        (&[MetaGet], "VA 1 kfoo\r\na", Hit),
        (&[MetaGet], "VA 0 W", Hit),
        (&[MetaGet], "HD", Hit),
        (&[MetaGet], "HD Z X", Hit),
        (&[MetaGet], "EN", Miss),
        (&[MetaGet], "EN kfoo", Miss),
        (&[MetaSet, MetaDelete, MetaArithmetic], "HD", Done),
        (&[MetaArithmetic], "VA 2\r\n10", Done),
        (&[MetaSet, MetaDelete, MetaArithmetic], "NS", NotDone),
        (&[MetaSet, MetaDelete, MetaArithmetic], "NF O7", NotDone),
        (&[MetaSet, MetaDelete, MetaArithmetic], "EX", NotDone),
        (&[MetaNoop], "MN", Done),
        (&[MetaDebug], "ME k exp=-1", Hit),
        (&[MetaDebug], "EN", Miss),
        (&[FlushAll], "OK", Done),
        (&[Stats], "STAT pid 1", Done),
        (&[Slabs], "BUSY currently processing reassign request", Busy),
        (Verb::ALL, "ERROR", Error),
        (Verb::ALL, "CLIENT_ERROR bad data chunk", Error),
        (
            Verb::ALL,
            "SERVER_ERROR out of memory storing object",
            Error,
        ),
        (
            &[Get, MetaGet, Set, MetaSet, MetaNoop, MetaDebug],
            "HTTP/1.1 400",
            Error,
        ),
        (&[Get], "STORED", Error),
        (&[Set], "END", Error),
        (&[Incr], "x1", Error),
        (&[Get], "BUSY", Error),
        (&[Get, MetaGet, Set], "", Error),
    ] {
        for &verb in verbs {
            let whole = format!("{reply}\r\n").into_bytes();
            let of = |reply: &[u8]| memcache::outcome(verb, reply);
            assert_eq!(of(&whole), Some(want), "{} {reply}", verb.name());
            for end in 0..whole.len() {
                let got = of(&whole[..end]);
                assert!(
                    got.is_none() || got == Some(want),
                    "{} {reply} cut at {end}: {got:?}",
                    verb.name()
                );
            }
        }
    }
    assert_eq!(memcache::outcome(Get, &[b'V'; 100]), Some(Error));
}

proptest! {
    #[test]
    fn a_beginning_never_says_something_else(
        bytes in proptest::collection::vec(
            prop::sample::select(b"$*%~_:+-!|#,01239?;. \r\nABUSYVAEND".to_vec()), 0..40),
        command in prop::sample::select(vec!["", "get", "type", "hscan", "mget", "del", "sort"]),
        kind in prop::sample::select(vec![Kind::Read, Kind::Write, Kind::Delete, Kind::Other]),
    ) {
        let command = command::lookup(command.as_bytes());
        let verbs = [Verb::Get, Verb::MetaGet, Verb::Set, Verb::Incr, Verb::Slabs];
        let mut said: [Option<Outcome>; 6] = [None; 6];
        for end in 0..=bytes.len() {
            let beginning = &bytes[..end];
            let mut now = vec![redis::outcome(command, kind, beginning)];
            now.extend(verbs.map(|verb| memcache::outcome(verb, beginning)));
            for (before, now) in said.iter_mut().zip(now) {
                prop_assert!(before.is_none() || *before == now, "{before:?} then {now:?}");
                *before = now;
            }
        }
        // What a scanner calls a whole reply says something.
        if let Ok(Some(len)) = reply::skip(&bytes) {
            prop_assert!(redis::outcome(command, kind, &bytes[..len]).is_some());
        }
    }
}

#[test]
fn only_whole_reads_prove_that_a_key_is_not_there() {
    for (name, reply, proves) in [
        ("get", "$-1\r\n", true),
        ("get", "$0\r\n\r\n", false),
        ("get", "-WRONGTYPE no string\r\n", false),
        ("getex", "_\r\n", true),
        ("exists", ":0\r\n", true),
        ("exists", ":1\r\n", false),
        ("type", "+none\r\n", true),
        ("ttl", ":-2\r\n", true),
        ("ttl", ":-1\r\n", false),
        ("pttl", ":-2\r\n", true),
        ("dump", "$-1\r\n", true),
        ("hgetall", "%0\r\n", true),
        ("llen", ":0\r\n", true),
        ("smembers", "*0\r\n", true),
        // A field, a range, an empty string; a key of another type.
        ("hget", "$-1\r\n", false),
        ("hexists", ":0\r\n", false),
        ("lrange", "*0\r\n", false),
        ("sismember", ":0\r\n", false),
        ("zrangebyscore", "*0\r\n", false),
        ("strlen", ":0\r\n", false),
        ("getbit", ":0\r\n", false),
        ("getrange", "$0\r\n\r\n", false),
        ("xlen", ":0\r\n", false),
        ("mget", "*1\r\n$-1\r\n", false),
        // Too little has come.
        ("get", "$", false),
    ] {
        let command = command::lookup(name.as_bytes()).unwrap();
        let said = redis::proves_absence(command, reply.as_bytes());
        assert_eq!(said, proves, "{name}: {reply:?}");
    }
}

#[test]
fn writes_that_may_leave_nothing_are_known() {
    let away = "hdel lpop rpop lmpop lmove ltrim lrem srem spop smove zrem zpopmin rename \
                sinterstore sort bitop eval fcall xdel xtrim move";
    let stays = "set append hset lpush sadd zadd setbit incr get expire del copy";
    for (names, expected) in [(away, true), (stays, false)] {
        for name in names.split_whitespace() {
            let command = command::lookup(name.as_bytes()).unwrap();
            assert_eq!(redis::takes_away(command), expected, "{name}");
        }
    }
}
