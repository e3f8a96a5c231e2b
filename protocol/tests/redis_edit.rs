//! Requests to Redis with another key or another life, as a table.
//!
//! The clock stands at 1,700,000,000 s.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use emberline_protocol::redis::{
    self, KeyError, Limits, Parser, Step, carries_ttl, command, encode,
};
use emberline_protocol::{Edit, TtlRule};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);

const SET: TtlRule = TtlRule::Set(Duration::from_secs(10));
const CAP: TtlRule = TtlRule::Cap(Duration::from_secs(10));
const FLOOR: TtlRule = TtlRule::Floor(Duration::from_secs(10));

#[test]
fn lives_are_set_capped_and_floored() {
    // The request, then what it becomes under each rule; "=" is itself.
    for (request, set, cap, floor) in [
        ("SET k v", "SET k v PX 10000", "SET k v PX 10000", "="),
        (
            "SET k v EX 100",
            "SET k v PX 10000",
            "SET k v PX 10000",
            "=",
        ),
        ("SET k v EX 10", "=", "=", "="),
        ("SET k v ex 5", "SET k v PX 10000", "=", "SET k v PX 10000"),
        (
            "SET k v NX PX 10001 GET",
            "SET k v NX PX 10000 GET",
            "SET k v NX PX 10000 GET",
            "=",
        ),
        ("SET k v PX 1", "SET k v PX 10000", "=", "SET k v PX 10000"),
        (
            "SET k v EXAT 1700000100 XX",
            "SET k v PX 10000 XX",
            "SET k v PX 10000 XX",
            "=",
        ),
        ("SET k v EXAT 1700000010", "=", "=", "="),
        (
            "SET k v PXAT 1700000005000",
            "SET k v PX 10000",
            "=",
            "SET k v PX 10000",
        ),
        (
            "SET k v GET",
            "SET k v GET PX 10000",
            "SET k v GET PX 10000",
            "=",
        ),
        ("SET EX EX", "SET EX EX PX 10000", "SET EX EX PX 10000", "="),
        ("SET k v KEEPTTL", "=", "=", "="),
        ("SETEX k 100 v", "PSETEX k 10000 v", "PSETEX k 10000 v", "="),
        ("setex k 5 v", "PSETEX k 10000 v", "=", "PSETEX k 10000 v"),
        (
            "PSETEX k 20000 v",
            "PSETEX k 10000 v",
            "PSETEX k 10000 v",
            "=",
        ),
        ("GETEX k", "=", "=", "="),
        (
            "GETEX k EX 100",
            "GETEX k PX 10000",
            "GETEX k PX 10000",
            "=",
        ),
        (
            "GETEX k PERSIST",
            "GETEX k PX 10000",
            "GETEX k PX 10000",
            "=",
        ),
        (
            "GETEX k PXAT 1700000020000",
            "GETEX k PX 10000",
            "GETEX k PX 10000",
            "=",
        ),
        ("GETEX k KEEPTTL", "=", "=", "="),
        ("EXPIRE k 100", "PEXPIRE k 10000", "PEXPIRE k 10000", "="),
        (
            "EXPIRE k 5 GT",
            "PEXPIRE k 10000 GT",
            "=",
            "PEXPIRE k 10000 GT",
        ),
        (
            "PEXPIRE k 60000 NX",
            "PEXPIRE k 10000 NX",
            "PEXPIRE k 10000 NX",
            "=",
        ),
        (
            "EXPIREAT k 1700000100",
            "PEXPIRE k 10000",
            "PEXPIRE k 10000",
            "=",
        ),
        (
            "PEXPIREAT k 1700000000001 XX",
            "PEXPIRE k 10000 XX",
            "=",
            "PEXPIRE k 10000 XX",
        ),
        ("PERSIST k", "PEXPIRE k 10000", "PEXPIRE k 10000", "="),
        (
            "RESTORE k 0 p",
            "RESTORE k 10000 p",
            "RESTORE k 10000 p",
            "=",
        ),
        (
            "RESTORE k 1700000100000 p ABSTTL REPLACE",
            "RESTORE k 10000 p REPLACE",
            "RESTORE k 10000 p REPLACE",
            "=",
        ),
        (
            "RESTORE k 0 p REPLACE ABSTTL",
            "RESTORE k 10000 p REPLACE",
            "RESTORE k 10000 p REPLACE",
            "=",
        ),
        (
            "RESTORE k 5 p IDLETIME 7",
            "RESTORE k 10000 p IDLETIME 7",
            "=",
            "RESTORE k 10000 p IDLETIME 7",
        ),
    ] {
        for (rule, want) in [(SET, set), (CAP, cap), (FLOOR, floor)] {
            let want = if want == "=" { request } else { want };
            check(request, None, Some(rule), Ok(want));
        }
    }
}

#[test]
fn what_expires_at_once_or_is_refused_by_the_server_is_left_alone() {
    for request in [
        "SET k v EX 0",
        "SET k v EX -1",
        "SET k v EX 9223372036854775807",
        "SET k v PX 9223372036854775807",
        "SET k v EX 99999999999999999999999",
        "SET k v EX ten",
        "SET k v EX",
        "SET k v EX 10 PX 10",
        "SET k v EX 100 KEEPTTL",
        "SET k v PERSIST",
        "SET k v EXAT 1600000000",
        "SET k v EXAT -9223372036854775808",
        "SET k v SOMETHING",
        "SET k v EX +100",
        "SET k v EX 0100",
        "GETEX k EX 0",
        "GETEX k EX 10 PERSIST",
        "SETEX k 0 v",
        "SETEX k x v",
        "EXPIRE k -1",
        "EXPIRE k 0",
        "EXPIREAT k 1",
        "PEXPIREAT k 1700000000000",
        "PERSIST k k",
        "RESTORE k -1 p",
        "RESTORE k 1 p ABSTTL",
        "RESTORE k 100 p ABSTTL ABSTTL",
    ] {
        for rule in [SET, CAP, FLOOR] {
            check(request, None, Some(rule), Ok(request));
        }
    }
}

#[test]
fn commands_without_a_life_pass() {
    for request in [
        "GET k",
        "INCR k",
        "SETNX k v",
        "GETSET k v",
        "MSET k v",
        "HSET k f v",
        "APPEND k v",
        "DEL k",
        "SADD EX 100",
        "TTL k",
    ] {
        for rule in [SET, CAP, FLOOR] {
            check(request, None, Some(rule), Ok(request));
        }
        let name = request.split(' ').next().unwrap();
        assert!(!carries_ttl(command::lookup(name.as_bytes()).unwrap()));
    }
    for name in ["set", "setex", "getex", "expireat", "persist", "restore"] {
        assert!(carries_ttl(command::lookup(name.as_bytes()).unwrap()));
    }
}

#[test]
fn every_key_is_renamed_and_nothing_else() {
    for (request, want) in [
        ("GET k", "GET eu:k"),
        ("get get", "get eu:get"),
        ("SET k k", "SET eu:k k"),
        ("MGET a b a", "MGET eu:a eu:b eu:a"),
        ("MSET a 1 b a", "MSET eu:a 1 eu:b a"),
        ("DEL a b", "DEL eu:a eu:b"),
        ("RENAME a b", "RENAME eu:a eu:b"),
        ("OBJECT ENCODING k", "OBJECT ENCODING eu:k"),
        ("XINFO STREAM s", "XINFO STREAM eu:s"),
        ("EVAL s 2 a b a", "EVAL s 2 eu:a eu:b a"),
        ("EVAL s 0 a", "EVAL s 0 a"),
        (
            "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
            "ZUNIONSTORE eu:d 2 eu:a eu:b WEIGHTS 1 2",
        ),
        (
            "XREAD COUNT 1 STREAMS a b 0 0",
            "XREAD COUNT 1 STREAMS eu:a eu:b 0 0",
        ),
        ("SORT a BY w_* STORE b", "SORT eu:a BY w_* STORE eu:b"),
        ("BITOP AND d a b", "BITOP AND eu:d eu:a eu:b"),
        ("PING", "PING"),
    ] {
        check(request, Some(&prefixed), None, Ok(want));
    }
    check(
        "SETEX k 100 v",
        Some(&prefixed),
        Some(CAP),
        Ok("PSETEX eu:k 10000 v"),
    );
    check(
        "PERSIST k",
        Some(&prefixed),
        Some(CAP),
        Ok("PEXPIRE eu:k 10000"),
    );
    check(
        "SET k v",
        Some(&prefixed),
        Some(CAP),
        Ok("SET eu:k v PX 10000"),
    );
}

#[test]
fn keys_that_cannot_be_told_are_an_error_and_write_nothing() {
    check("GET", Some(&prefixed), None, Err(KeyError::Arity("get")));
    check(
        "OBJECT NOSUCH k",
        Some(&prefixed),
        None,
        Err(KeyError::NoKey("object")),
    );
    check(
        "EVAL s 3 a",
        Some(&prefixed),
        None,
        Err(KeyError::TooManyKeys),
    );
}

fn prefixed(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"eu:");
    out.extend_from_slice(key);
}

fn same(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
}

type Rename = dyn Fn(&[u8], &mut Vec<u8>);

fn check(request: &str, key: Option<&Rename>, ttl: Option<TtlRule>, want: Result<&str, KeyError>) {
    let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
    let command = command::lookup(args[0]).unwrap();
    let mut out = b"before".to_vec();
    let edited = redis::edit(command, &args, &Edit { key, ttl }, NOW, &mut out);
    let mut wanted = b"before".to_vec();
    if let Ok(text) = want {
        wanted.extend(encoded(text));
    }
    let shown = (out.escape_ascii().to_string(), edited);
    let wanted = (wanted.escape_ascii().to_string(), want.map(|_| ()));
    assert_eq!(shown, wanted, "{request} under {ttl:?}");
}

fn encoded(text: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    encode::command(&mut out, words.into_iter());
    out
}

proptest! {
    #[test]
    fn an_edit_without_effect_gives_the_same_bytes(
        name in prop::sample::select(command::COMMANDS.iter().map(|c| c.name).collect::<Vec<_>>()),
        args in proptest::collection::vec(argument(), 0..8),
    ) {
        let mut words = vec![name.as_bytes()];
        words.extend(args.iter().map(Vec::as_slice));
        let mut sent = Vec::new();
        encode::command(&mut sent, words.iter().copied());
        // As it came from a client, through the parser.
        let mut parser = Parser::default();
        let step = parser.parse(&sent, &Limits::default()).unwrap();
        prop_assert_eq!(step, Step::Frame { len: sent.len(), inline: false });
        let command = command::lookup(name.as_bytes()).unwrap();
        let keep = [
            Edit::default(),
            Edit { key: Some(&same), ttl: None },
            Edit { key: None, ttl: Some(TtlRule::Floor(Duration::ZERO)) },
            Edit { key: None, ttl: Some(TtlRule::Cap(Duration::MAX)) },
        ];
        for (at, edit) in keep.iter().enumerate() {
            let mut out = Vec::new();
            let edited = redis::edit(command, &parser.request(&sent), edit, NOW, &mut out);
            // A cap gives a life to what has none.
            let same = at < 3 || !carries_ttl(command);
            match edited {
                Ok(()) => prop_assert!(!same || out == sent, "{}", out.escape_ascii()),
                Err(_) => prop_assert!(out.is_empty()),
            }
        }
    }

    #[test]
    fn an_edited_request_is_a_request(
        name in prop::sample::select(command::COMMANDS.iter().map(|c| c.name).collect::<Vec<_>>()),
        args in proptest::collection::vec(argument(), 0..8),
        rule in prop::sample::select(vec![SET, CAP, FLOOR]),
        now in prop::sample::select(vec![Duration::ZERO, NOW, Duration::MAX]),
    ) {
        let mut words = vec![name.as_bytes()];
        words.extend(args.iter().map(Vec::as_slice));
        let command = command::lookup(name.as_bytes()).unwrap();
        let edit = Edit { key: Some(&prefixed), ttl: Some(rule) };
        let mut out = Vec::new();
        if redis::edit(command, &words, &edit, now, &mut out).is_ok() {
            let step = Parser::default().parse(&out, &Limits::default()).unwrap();
            prop_assert_eq!(step, Step::Frame { len: out.len(), inline: false });
            // What has been ruled once is not ruled again.
            let mut parser = Parser::default();
            parser.parse(&out, &Limits::default()).unwrap();
            let again = Edit { key: None, ttl: Some(rule) };
            let mut twice = Vec::new();
            let renamed = command::lookup(parser.arg(&out, 0)).unwrap();
            redis::edit(renamed, &parser.request(&out), &again, now, &mut twice).unwrap();
            prop_assert_eq!(out.escape_ascii().to_string(), twice.escape_ascii().to_string());
        }
    }
}

/// Words that mean something, numbers at the edges, and bytes.
fn argument() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "k",
        "v",
        "EX",
        "PX",
        "EXAT",
        "pxat",
        "KEEPTTL",
        "PERSIST",
        "NX",
        "GET",
        "ABSTTL",
        "REPLACE",
        "STORE",
        "STREAMS",
        "0",
        "1",
        "2",
        "-1",
        "100",
        "1700000100",
        "1700000100000",
        "9223372036854775807",
        "-9223372036854775808",
        "1e3",
        "",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..5),
    ]
}
