//! What servers say of an item, and what another server is told: tables, each
//! reply also cut at every byte.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use emberline_protocol::{Copied, CopyError, Fetched, memcache, redis};

const NOW: Duration = Duration::from_secs(1_700_000_000);

/// Payload, life in milliseconds, flags, base64; or nothing.
type Item = Option<(&'static str, Option<u64>, u32, bool)>;

#[test]
fn redis_says_life_and_dump() {
    for (replies, want) in [
        (
            ":-1\r\n$3\r\na\r\n\r\n",
            Ok(Some(("a\r\n", None, 0, false))),
        ),
        (":1500\r\n$0\r\n\r\n", Ok(Some(("", Some(1500), 0, false)))),
        (":-2\r\n$-1\r\n", Ok(None)),
        (":-2\r\n_\r\n", Ok(None)),
        // Gone, or come, between the two.
        (":1500\r\n$-1\r\n", Ok(None)),
        (":-2\r\n$1\r\na\r\n", Ok(None)),
        // A life of 0 would be for ever to RESTORE.
        (":0\r\n$1\r\na\r\n", Ok(None)),
        (":-9223372036854775808\r\n$1\r\na\r\n", Ok(None)),
        ("-LOADING wait\r\n-LOADING wait\r\n", Err(true)),
        (":1\r\n-ERR no\r\n", Err(true)),
        ("+OK\r\n$1\r\na\r\n", Err(false)),
        (":1\r\n:1\r\n", Err(false)),
        (":1\r\n*1\r\n$1\r\na\r\n", Err(false)),
        (":99999999999999999999\r\n$1\r\na\r\n", Err(false)),
    ] {
        check(redis::copy::fetched, replies, want);
    }
    assert_eq!(redis::copy::fetched(b"?"), Err(CopyError::Unexpected));
}

#[test]
fn memcached_says_flags_life_and_value() {
    for (reply, want) in [
        (
            "VA 3 f7 t30 kk\r\na\r\n\r\n",
            Ok(Some(("a\r\n", Some(30_000), 7, false))),
        ),
        ("VA 0 f0 t-1 kk\r\n\r\n", Ok(Some(("", None, 0, false)))),
        (
            "VA 1 f0 t-1 kaw== b\r\na\r\n",
            Ok(Some(("a", None, 0, true))),
        ),
        ("EN\r\n", Ok(None)),
        ("EN kk\r\n", Ok(None)),
        // Neither its last second nor what is stale is worth a copy.
        ("VA 1 f0 t0 kk\r\na\r\n", Ok(None)),
        ("VA 1 f0 t9 kk W X\r\na\r\n", Ok(None)),
        ("VA 1 f0 t9 kk Z\r\na\r\n", Ok(None)),
        ("SERVER_ERROR out of memory\r\n", Err(true)),
        ("VA 1 f0 kk\r\na\r\n", Err(false)),
        ("VA 1 t9 kk\r\na\r\n", Err(false)),
        ("VA 1 f4294967296 t9\r\na\r\n", Err(false)),
        ("VA 1 f0 t9 kk\r\nabc", Err(false)),
        ("HD\r\n", Err(false)),
        ("STORED\r\n", Err(false)),
        ("VA -1 f0 t9\r\n", Err(false)),
    ] {
        check(memcache::copy::fetched, reply, want);
    }
    let endless = memcache::copy::fetched(&[b'V'; 5000]);
    assert_eq!(endless, Err(CopyError::Unexpected));
}

/// `Err(true)` is an error reply, `Err(false)` no reply to this at all.
fn check(
    fetched: impl Fn(&[u8]) -> Result<Fetched, CopyError>,
    replies: &'static str,
    want: Result<Item, bool>,
) {
    let got = match fetched(replies.as_bytes()) {
        Ok(Fetched::Found { copied, len }) => {
            assert_eq!(len, replies.len(), "{replies:?}");
            let millis = copied
                .ttl
                .map(|ttl| u64::try_from(ttl.as_millis()).unwrap());
            let payload = &replies[copied.payload];
            Ok(Some((payload, millis, copied.flags, copied.base64)))
        }
        Ok(Fetched::Missing { len }) => {
            assert_eq!(len, replies.len(), "{replies:?}");
            Ok(None)
        }
        Ok(Fetched::Partial) => panic!("{replies:?} is whole"),
        Err(CopyError::Refused { len }) => {
            assert_eq!(len, replies.len(), "{replies:?}");
            Err(true)
        }
        Err(CopyError::Unexpected) => Err(false),
    };
    assert_eq!(got, want, "{replies:?}");
    for end in 0..replies.len() {
        let part = fetched(&replies.as_bytes()[..end]);
        let early = part == Ok(Fetched::Partial) || part == Err(CopyError::Unexpected);
        assert!(early, "{replies:?} cut at {end}: {part:?}");
        assert!(want.is_err() || part.is_ok(), "{replies:?} cut at {end}");
    }
    // What follows belongs to somebody else.
    let more = format!("{replies}$5\r\n");
    assert_eq!(fetched(more.as_bytes()), fetched(replies.as_bytes()));
}

#[test]
fn redis_is_asked_and_told() {
    let mut out = Vec::new();
    redis::copy::ask(&mut out, b"k\0");
    assert_eq!(
        out.escape_ascii().to_string(),
        r"*2\r\n$4\r\nPTTL\r\n$2\r\nk\x00\r\n*2\r\n$4\r\nDUMP\r\n$2\r\nk\x00\r\n"
    );
    for (ttl, ttl_max, want) in [
        (None, None, "$1\r\n0"),
        (Some(1500), None, "$4\r\n1500"),
        (None, Some(700), "$3\r\n700"),
        (Some(1500), Some(700), "$3\r\n700"),
        (Some(700), Some(1500), "$3\r\n700"),
        // "At most nothing" must not become "for ever".
        (Some(700), Some(0), "$1\r\n1"),
        (Some(u64::MAX), None, "$16\r\n1000000000000000"),
    ] {
        let mut out = Vec::new();
        let max = ttl_max.map(Duration::from_millis);
        redis::copy::add(&mut out, b"k", b"\r\n", &item(ttl, 0, false), max);
        let want = format!("*4\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n{want}\r\n$2\r\n\r\n\r\n");
        assert_eq!(
            out.escape_ascii().to_string(),
            want.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn memcached_is_asked_and_told() {
    for (key, want) in [("k", "mg k v f t k"), ("a b", "mg YSBi b v f t k")] {
        let mut out = Vec::new();
        memcache::copy::ask(&mut out, key.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{want}\r\n"));
    }
    for (key, ttl, ttl_max, base64, want) in [
        ("k", None, None, false, "ms k 1 F7 ME"),
        ("k", Some(30_000), None, false, "ms k 1 T30 F7 ME"),
        ("k", None, Some(10_900), false, "ms k 1 T10 F7 ME"),
        ("k", Some(30_000), Some(10_900), false, "ms k 1 T10 F7 ME"),
        ("k", Some(30_000), Some(1), false, "ms k 1 T1 F7 ME"),
        (
            "k",
            Some(2_592_001_000),
            None,
            false,
            "ms k 1 T1702592001 F7 ME",
        ),
        ("k", None, None, true, "ms aw== 1 F7 b ME"),
        ("a b", None, None, false, "ms YSBi 1 F7 b ME"),
    ] {
        let mut out = Vec::new();
        let max = ttl_max.map(Duration::from_millis);
        let copied = item(ttl, 7, base64);
        memcache::copy::add(&mut out, key.as_bytes(), b"v", &copied, max, NOW).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{want}\r\nv\r\n"));
    }
    for bad in [&b""[..], &[b'x'; 251]] {
        let mut out = Vec::new();
        assert!(memcache::copy::ask(&mut out, bad).is_err());
        let copied = item(None, 0, false);
        assert!(memcache::copy::add(&mut out, bad, b"", &copied, None, NOW).is_err());
        assert!(out.is_empty());
    }
}

fn item(ttl: Option<u64>, flags: u32, base64: bool) -> Copied {
    Copied {
        payload: 0..0,
        ttl: ttl.map(Duration::from_millis),
        flags,
        base64,
    }
}
