//! Request lines to memcached with another key or another expiry, and reply
//! lines with the client's own key, as tables.
//!
//! The clock stands at 1,700,000,000 s.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use emberline_protocol::memcache::{
    self, EditError, KEY_MAX, Limits, Parser, Verb, base64, forward, restore_key,
};
use emberline_protocol::{Edit, TtlRule};
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);

const SET: TtlRule = TtlRule::Set(Duration::from_secs(10));
const CAP: TtlRule = TtlRule::Cap(Duration::from_secs(10));
const FLOOR: TtlRule = TtlRule::Floor(Duration::from_secs(10));

#[test]
fn expiries_are_set_capped_and_floored() {
    // The line, then what it becomes under each rule; "=" is itself.
    for (line, set, cap, floor) in [
        ("set k 7 0 1", "set k 7 10 1", "set k 7 10 1", "="),
        ("set k 7 100 1", "set k 7 10 1", "set k 7 10 1", "="),
        ("add k 0 5 1", "add k 0 10 1", "=", "add k 0 10 1"),
        ("replace k 0 10 1", "=", "=", "="),
        ("replace k 0 010 1", "=", "=", "="),
        ("cas k 0 0 1 99", "cas k 0 10 1 99", "cas k 0 10 1 99", "="),
        ("set k 0 2592000 1", "set k 0 10 1", "set k 0 10 1", "="),
        // A moment: 100 s, 5 s and 10 s from now.
        ("set k 0 1700000100 1", "set k 0 10 1", "set k 0 10 1", "="),
        ("set k 0 1700000005 1", "set k 0 10 1", "=", "set k 0 10 1"),
        ("set k 0 1700000010 1", "=", "=", "="),
        // At once, in two ways.
        ("set k 0 -1 1", "=", "=", "="),
        ("set k 0 1600000000 1", "=", "=", "="),
        ("set k 0 2592001 1", "=", "=", "="),
        ("append k 0 0 1", "=", "=", "="),
        ("prepend k 0 100 1", "=", "=", "="),
        ("touch k 0", "touch k 10", "touch k 10", "="),
        ("touch k 5", "touch k 10", "=", "touch k 10"),
        ("touch k -1", "=", "=", "="),
        ("gat 0 a b", "gat 10 a b", "gat 10 a b", "="),
        ("gats 100 10", "gats 10 10", "gats 10 10", "="),
        ("get 100", "=", "=", "="),
        ("delete k", "=", "=", "="),
        ("incr k 100", "=", "=", "="),
        ("ms k 1", "ms k 1 T10", "ms k 1 T10", "="),
        ("ms k 1 T0 F7", "ms k 1 T10 F7", "ms k 1 T10 F7", "="),
        ("ms k 1 T5 c", "ms k 1 T10 c", "=", "ms k 1 T10 c"),
        ("ms k 1 T-1", "=", "=", "="),
        ("ms k 1 Tx", "=", "=", "="),
        ("ms k 1 T", "=", "=", "="),
        ("ms k 1 MA", "=", "=", "="),
        ("ms k 1 Mprepend", "=", "=", "="),
        ("ms k 1 MA N60", "ms k 1 MA N10", "ms k 1 MA N10", "="),
        ("ms k 1 ME", "ms k 1 ME T10", "ms k 1 ME T10", "="),
        ("ms T5 1 k", "ms T5 1 k T10", "ms T5 1 k T10", "="),
        ("mg k v", "=", "=", "="),
        ("mg k v T100", "mg k v T10", "mg k v T10", "="),
        ("mg k T0 v", "mg k T10 v", "mg k T10 v", "="),
        // The life of a lease's stub is only shortened.
        ("mg k v N30 R30", "=", "mg k v N10 R30", "="),
        ("mg k v N5", "=", "=", "="),
        ("mg T100", "=", "=", "="),
        ("ma k N0 J1", "ma k N10 J1", "ma k N10 J1", "="),
        (
            "ma k T5 N100",
            "ma k T10 N10",
            "ma k T5 N10",
            "ma k T10 N100",
        ),
        ("ma k", "=", "=", "="),
        ("md k I T30", "md k I T10", "md k I T10", "="),
        ("md k", "=", "=", "="),
        ("mn", "=", "=", "="),
        ("flush_all 100", "=", "=", "="),
    ] {
        for (rule, want) in [(SET, set), (CAP, cap), (FLOOR, floor)] {
            let want = if want == "=" { line } else { want };
            check(line, None, Some(rule), Ok(want));
        }
    }
}

#[test]
fn long_lives_are_written_as_moments() {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    check(
        "set k 0 0 1",
        None,
        Some(TtlRule::Cap(days(30))),
        Ok("set k 0 2592000 1"),
    );
    check(
        "set k 0 0 1",
        None,
        Some(TtlRule::Cap(days(31))),
        Ok("set k 0 1702678400 1"),
    );
    check(
        "set k 0 60 1",
        None,
        Some(TtlRule::Set(Duration::MAX)),
        Ok("set k 0 2147483647 1"),
    );
    check(
        "ms k 1 T60",
        None,
        Some(TtlRule::Floor(days(60))),
        Ok("ms k 1 T1705184000"),
    );
}

#[test]
fn the_key_is_renamed_and_nothing_else() {
    for (line, want) in [
        ("get k", "get eu:k"),
        ("get get k get", "get eu:get eu:k eu:get"),
        ("gat 10 10", "gat 10 eu:10"),
        ("set set 1 2 3", "set eu:set 1 2 3"),
        ("cas 1 1 1 1 1", "cas eu:1 1 1 1 1"),
        ("append k 0 0 1", "append eu:k 0 0 1"),
        ("touch 1 1", "touch eu:1 1"),
        ("incr 1 1", "incr eu:1 1"),
        ("delete k", "delete eu:k"),
        ("mg k k v", "mg eu:k k v"),
        ("ms T1 1 T1", "ms eu:T1 1 T1"),
        ("md k q", "md eu:k"),
        ("ma k Ok", "ma eu:k Ok"),
        ("me k", "me eu:k"),
        // `k` in base64 is aw==, `eu:k` is ZXU6aw==.
        ("mg aw== b v", "mg ZXU6aw== b v"),
        ("ms aw== 1 b T0", "ms ZXU6aw== 1 b T0"),
        ("me aw== b", "me ZXU6aw== b"),
        ("mn", "mn"),
        ("version", "version"),
        ("get  k   l", "get  eu:k   eu:l"),
        ("set k 0 0 1 noreply", "set eu:k 0 0 1"),
    ] {
        check(line, Some(&prefixed), None, Ok(want));
    }
    check(
        "ms k 1 q F7",
        Some(&prefixed),
        Some(CAP),
        Ok("ms eu:k 1 F7 T10"),
    );
    check("gat 0 k", Some(&prefixed), Some(CAP), Ok("gat 10 eu:k"));
}

#[test]
fn a_key_that_memcached_would_not_take_is_an_error() {
    let to = |new: Vec<u8>| move |_: &[u8], out: &mut Vec<u8>| out.extend_from_slice(&new);
    for (new, plain, in_base64) in [
        (
            b"".to_vec(),
            Some(EditError::KeyEmpty),
            Some(EditError::KeyEmpty),
        ),
        (b"a b".to_vec(), Some(EditError::KeyByte(1)), None),
        (
            b"a\r\nflush_all".to_vec(),
            Some(EditError::KeyByte(1)),
            None,
        ),
        (b"ab\0".to_vec(), Some(EditError::KeyByte(2)), None),
        (b"\x7f".to_vec(), Some(EditError::KeyByte(0)), None),
        (vec![b'x'; 250], None, Some(EditError::KeyTooLong(336))),
        (
            vec![b'x'; 251],
            Some(EditError::KeyTooLong(251)),
            Some(EditError::KeyTooLong(336)),
        ),
        (vec![b'x'; 186], None, None),
        (vec![b'x'; 187], None, Some(EditError::KeyTooLong(252))),
    ] {
        for (line, want) in [
            ("get k", &plain),
            ("ms k 1", &plain),
            ("mg aw== b", &in_base64),
        ] {
            let mut out = b"before".to_vec();
            let rename = to(new.clone());
            let got = edited(line, Some(&rename), None, &mut out);
            assert_eq!(got.err(), *want, "{line} {}", new.escape_ascii());
            if want.is_some() {
                assert_eq!(out, b"before");
            }
        }
    }
    // One bad key of several is enough.
    let bad = |key: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(if key == b"b" { b" " } else { key });
    };
    check("get a b", Some(&bad), None, Err(EditError::KeyByte(0)));
}

#[test]
fn replies_get_the_client_s_key_back() {
    use Verb::*;
    for (verb, line, key, want) in [
        (Get, "VALUE eu:k 0 3", "k", "VALUE k 0 3"),
        (Gets, "VALUE eu:k 0 3 99", "VALUE", "VALUE VALUE 0 3 99"),
        (Gat, "END", "k", "END"),
        (MetaGet, "VA 3 keu:k f0", "k", "VA 3 kk f0"),
        (MetaGet, "VA 3 Okey keu:k", "k", "VA 3 Okey kk"),
        (MetaGet, "VA 3 f0 t-1", "k", "VA 3 f0 t-1"),
        (MetaGet, "HD keu:k W", "k", "HD kk W"),
        (MetaGet, "EN keu:k", "k", "EN kk"),
        (MetaSet, "HD keu:k c5", "k", "HD kk c5"),
        (MetaSet, "NS keu:k", "k", "NS kk"),
        (MetaDelete, "NF keu:k O1", "k", "NF kk O1"),
        (MetaArithmetic, "VA 1 keu:k", "k", "VA 1 kk"),
        (MetaDebug, "ME eu:k exp=-1", "k", "ME k exp=-1"),
        (MetaNoop, "MN", "k", "MN"),
        (Get, "SERVER_ERROR VALUE kk", "k", "SERVER_ERROR VALUE kk"),
        (MetaGet, "CLIENT_ERROR kk", "k", "CLIENT_ERROR kk"),
        (Incr, "7", "k", "7"),
        (Get, "VALUE", "k", "VALUE"),
        (Get, "", "k", ""),
    ] {
        let check = |line: String, want: String| {
            let mut out = Vec::new();
            restore_key(verb, line.as_bytes(), key.as_bytes(), false, &mut out);
            assert_eq!(
                out.escape_ascii().to_string(),
                want.as_bytes().escape_ascii().to_string()
            );
        };
        check(format!("{line}\r\n"), format!("{want}\r\n"));
        check(format!("{line}\n"), format!("{want}\n"));
        check(line.to_owned(), want.to_owned());
    }
}

#[test]
fn the_client_s_key_comes_in_the_encoding_of_the_item() {
    // The key, whether it is base64, the reply, what is sent instead.
    for (key, in_base64, line, want) in [
        ("aw==", true, "VA 1 kZXU6aw== b\r\n", "VA 1 kaw== b\r\n"),
        ("k", false, "VA 1 kZXU6aw== b\r\n", "VA 1 kaw== b\r\n"),
        ("aw==", true, "VA 1 keu:k\r\n", "VA 1 kk\r\n"),
        // A space cannot be written plainly.
        ("IA==", true, "VA 1 keu:k f1\r\n", "VA 1 kIA== b f1\r\n"),
    ] {
        let mut out = Vec::new();
        restore_key(
            Verb::MetaGet,
            line.as_bytes(),
            key.as_bytes(),
            in_base64,
            &mut out,
        );
        assert_eq!(
            out.escape_ascii().to_string(),
            want.as_bytes().escape_ascii().to_string()
        );
    }
}

fn prefixed(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"eu:");
    out.extend_from_slice(key);
}

fn same(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key);
}

type Rename = dyn Fn(&[u8], &mut Vec<u8>);

fn edited(
    line: &str,
    key: Option<&Rename>,
    ttl: Option<TtlRule>,
    out: &mut Vec<u8>,
) -> Result<(), EditError> {
    let sent = format!("{line}\r\n");
    let limits = Limits::default();
    let request = Parser::default()
        .parse(sent.as_bytes(), &limits)
        .unwrap()
        .unwrap();
    memcache::edit(sent.as_bytes(), &request, &Edit { key, ttl }, NOW, out)
}

fn check(line: &str, key: Option<&Rename>, ttl: Option<TtlRule>, want: Result<&str, EditError>) {
    let mut out = Vec::new();
    let got = edited(line, key, ttl, &mut out).map(|()| out.escape_ascii().to_string());
    let want = want.map(|line| format!("{line}\r\n").as_bytes().escape_ascii().to_string());
    assert_eq!(got, want, "{line} under {ttl:?}");
}

proptest! {
    #[test]
    fn an_edit_without_effect_forwards_the_same_bytes(line in line()) {
        let Ok(Some(request)) = Parser::default().parse(&line, &Limits::default()) else {
            return Ok(());
        };
        let mut plain = Vec::new();
        forward(&mut plain, &line, &request);
        for edit in [
            Edit::default(),
            Edit { key: Some(&same), ttl: Some(TtlRule::Floor(Duration::ZERO)) },
        ] {
            let mut out = Vec::new();
            memcache::edit(&line, &request, &edit, NOW, &mut out).unwrap();
            prop_assert_eq!(out.escape_ascii().to_string(), plain.escape_ascii().to_string());
        }
    }

    #[test]
    fn an_edited_request_is_the_same_request_of_another_key(
        line in line(),
        rule in prop::sample::select(vec![SET, CAP, FLOOR]),
    ) {
        let (mut parser, mut again) = (Parser::default(), Parser::default());
        let Ok(Some(request)) = parser.parse(&line, &Limits::default()) else {
            return Ok(());
        };
        let edit = Edit { key: Some(&prefixed), ttl: Some(rule) };
        let mut out = Vec::new();
        memcache::edit(&line, &request, &edit, NOW, &mut out).unwrap();
        // Less of the line than was parsed is the caller's mistake, and no panic.
        for end in 0..line.len() {
            let _ = memcache::edit(&line[..end], &request, &edit, NOW, &mut Vec::new());
        }
        let edited = again.parse(&out, &Limits::default()).unwrap().unwrap();
        prop_assert_eq!(edited.verb, request.verb);
        prop_assert_eq!((edited.body, edited.base64), (request.body, request.base64));
        prop_assert_eq!(again.key_count(), parser.key_count());
        for i in 0..parser.key_count() {
            let mut want = Vec::new();
            prefixed(parser.routing_key(&line, &request, i), &mut want);
            prop_assert_eq!(again.routing_key(&out, &edited, i), &want[..]);
        }
        // What has been ruled once is not ruled again.
        let mut twice = Vec::new();
        let rule = Edit { key: None, ttl: Some(rule) };
        memcache::edit(&out, &edited, &rule, NOW, &mut twice).unwrap();
        prop_assert_eq!(out.escape_ascii().to_string(), twice.escape_ascii().to_string());
    }

    #[test]
    fn a_restored_key_is_the_one_thing_that_changes(
        verb in prop::sample::select(Verb::ALL.to_vec()),
        line in proptest::collection::vec(
            prop::sample::select(b"VAHDENVALUE kbk 019 \r\n".to_vec()), 0..30),
        key in "[a-z]{1,8}",
        in_base64 in any::<bool>(),
    ) {
        let mut token = Vec::new();
        match in_base64 {
            true => base64::encode(&mut token, key.as_bytes()),
            false => token.extend_from_slice(key.as_bytes()),
        }
        let mut out = Vec::new();
        restore_key(verb, &line, &token, in_base64, &mut out);
        prop_assert!(out.len() <= line.len() + KEY_MAX);
        let words = |line: &[u8]| memcache::tokens(line).count();
        prop_assert!(words(&out) >= words(&line));
        let ends = |line: &[u8]| line.iter().filter(|b| **b == b'\n').count();
        prop_assert_eq!(ends(&out), ends(&line));
    }
}

/// Lines that are mostly requests.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "k",
        "key:1",
        "aw==",
        "b",
        "v",
        "q",
        "T0",
        "T100",
        "T-1",
        "Tx",
        "N30",
        "N",
        "F7",
        "MA",
        "ME",
        "Mx",
        "I",
        "0",
        "1",
        "-1",
        "60",
        "1700000100",
        "4294967295",
        "noreply",
        "O7",
        "",
    ];
    let verb = prop::sample::select(Verb::ALL.to_vec());
    let rest = proptest::collection::vec(prop::sample::select(words.to_vec()), 0..8);
    (verb, rest).prop_map(|(verb, rest)| format!("{} {}\r\n", verb.name(), rest.join(" ")).into())
}
