//! What holds for every request and reply, however it is cut.

#![allow(clippy::unwrap_used)]

use emberline_protocol::Scan;
use emberline_protocol::memcache::{
    Limits, Parser, Recovery, Request, RequestError, Scanner, flags, forward, key_ok, values,
};
use proptest::prelude::*;

/// Small limits, so that every one of them is met.
fn limits() -> Limits {
    Limits {
        value_max: 40,
        line_max: 160,
        multiget_line_max: 400,
        ..Limits::default()
    }
}

/// Words that commands are made of, and some that they are not.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "get", "gets", "gat", "gats", "set", "add", "cas", "append", "delete", "incr", "touch",
            "flush_all", "verbosity", "lru", "slabs", "watch", "cache_memlimit", "version", "stats", "mg", "ms", "md", "ma", "mn", "me",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        6 => prop::sample::select(vec![
            "0", "1", "5", "41", "-1", "4294967296", "99999999999999999999", "noreply", "q", "k", "v",
            "b", "O7", "T30", "ME", "a", "key", "Zm9v", "Zm8=", "!!!", "x\u{fc}",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
        1 => (1usize..260).prop_map(|n| vec![b'k'; n]),
    ]
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let ending = prop::sample::select(vec![&b"\r\n"[..], b"\r\n", b"\n", b"\r\nx\r\n", b""]);
    (
        prop::collection::vec(word(), 0..9),
        ending,
        prop::sample::select(vec![" ", " ", "  "]),
    )
        .prop_map(|(words, ending, space)| [&words.join(space.as_bytes())[..], ending].concat())
}

/// Lines that are requests more often than not.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let key = "[a-zA-Z0-9]{1,8}";
    let quiet = prop::sample::select(vec!["", " noreply"]);
    let flag = prop::sample::select(vec!["q", "k", "v", "O12", "T9", "c", "f", "I", "zz", "S1"]);
    prop_oneof![
        (
            prop::sample::select(vec!["get", "gets", "gat 1"]),
            prop::collection::vec(key, 1..20)
        )
            .prop_map(|(verb, keys)| format!("{verb} {}\r\n", keys.join(" "))),
        (
            prop::sample::select(vec!["set", "add", "prepend"]),
            key,
            0usize..50,
            quiet.clone()
        )
            .prop_map(|(verb, key, len, quiet)| format!("{verb} {key} 7 -1 {len}{quiet}\r\n")),
        (
            prop::sample::select(vec!["incr", "touch"]),
            key,
            quiet.clone()
        )
            .prop_map(|(verb, key, quiet)| format!("{verb} {key} 12{quiet}\r\n")),
        (key, quiet).prop_map(|(key, quiet)| format!("delete {key}{quiet}\r\n")),
        (
            prop::sample::select(vec!["mg", "md", "ma"]),
            key,
            prop::collection::vec(flag.clone(), 0..6)
        )
            .prop_map(|(verb, key, flags)| format!("{verb} {key} {}\r\n", flags.join(" "))),
        (key, 0usize..50, prop::collection::vec(flag, 0..6))
            .prop_map(|(key, len, flags)| format!("ms {key} {len} {}\r\n", flags.join("  "))),
    ]
    .prop_map(String::into_bytes)
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![line(), likely(), prop::collection::vec(any::<u8>(), 0..200)]
}

type Parsed = Result<Option<Request>, RequestError>;

fn parse(buf: &[u8]) -> (Parsed, Vec<Vec<u8>>) {
    let mut parser = Parser::default();
    let parsed = parser.parse(buf, &limits());
    let keys = parser.keys(buf).map(<[u8]>::to_vec).collect();
    (parsed, keys)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn split_at_every_byte_gives_the_same(buf in any_line()) {
        let (whole, keys) = parse(&buf);
        let mut parser = Parser::default();
        for end in 0..=buf.len() {
            let part = parser.parse(&buf[..end], &limits());
            if part != Ok(None) {
                prop_assert_eq!(&part, &whole);
                let part_keys: Vec<_> = parser.keys(&buf).map(<[u8]>::to_vec).collect();
                prop_assert_eq!(part_keys, keys);
                return Ok(());
            }
        }
        prop_assert_eq!(whole, Ok(None));
    }

    #[test]
    fn a_refusal_moves_on_within_the_buffer(buf in any_line()) {
        match parse(&buf).0 {
            Err(RequestError { recovery: Recovery::Skip(n), reply }) => {
                prop_assert!(n > 0 && n <= buf.len() && buf[n - 1] == b'\n');
                prop_assert!(!reply.contains(['\r', '\n']));
            }
            Err(RequestError { recovery: Recovery::Swallow(n), .. }) => prop_assert!(n > 2),
            Err(_) => {}
            Ok(Some(request)) => {
                prop_assert!(request.head <= buf.len() && buf[request.head - 1] == b'\n');
                prop_assert!(request.len() >= request.head);
                prop_assert!(request.body.is_none_or(|n| n <= limits().value_max));
            }
            Ok(None) => prop_assert!(!buf[..buf.len().min(160)].contains(&b'\n')),
        }
    }

    #[test]
    fn what_is_forwarded_is_the_request_without_its_quietness(buf in any_line()) {
        let (Ok(Some(request)), keys) = parse(&buf) else { return Ok(()) };
        let mut line = Vec::new();
        forward(&mut line, &buf, &request);
        prop_assert!(line.ends_with(b"\r\n"));
        prop_assert_eq!(line.iter().filter(|&&b| b == b'\n' || b == 0).count(), 1);

        // A bare newline becomes a CRLF, which may be the byte too many.
        let roomy = Limits { line_max: 161, multiget_line_max: 401, ..limits() };
        let mut parser = Parser::default();
        let again = parser.parse(&line, &roomy).unwrap().unwrap();
        let keys_again: Vec<_> = parser.keys(&line).map(<[u8]>::to_vec).collect();
        prop_assert!(!again.quiet);
        prop_assert_eq!(
            (again.verb, again.body, again.base64, again.head),
            (request.verb, request.body, request.base64, line.len())
        );
        let opaque = |r: &Request, buf: &[u8]| r.opaque.clone().map(|at| buf[at].to_vec());
        prop_assert_eq!(opaque(&again, &line), opaque(&request, &buf));
        prop_assert_eq!(&keys_again, &keys);
        if request.quiet && again.verb.name().starts_with('m') {
            let kept: Vec<_> = flags(&buf[..request.head], request.verb).filter(|f| f.0 != b'q').collect();
            let sent: Vec<_> = flags(&line, request.verb).collect();
            prop_assert_eq!(sent, kept);
        }
        prop_assert!(keys.iter().all(|key| key_ok(key)));

        let mut twice = Vec::new();
        forward(&mut twice, &line, &again);
        prop_assert_eq!(twice, line);
    }

    #[test]
    fn replies_cut_anywhere_end_at_the_same_byte(
        reply in reply(),
        mut cuts in prop::collection::vec(1usize..9, 1..9),
    ) {
        let whole = Scanner::default().feed(&reply);
        let mut scanner = Scanner::default();
        let (mut passed, mut fed) = (0, 0);
        while fed < reply.len() {
            cuts.rotate_left(1);
            fed = (fed + cuts[0]).min(reply.len());
            match scanner.feed(&reply[passed..fed]) {
                Ok(Scan::More(n)) => {
                    prop_assert!(passed + n <= fed);
                    passed += n;
                }
                Ok(Scan::Done(n)) => {
                    prop_assert_eq!(whole, Ok(Scan::Done(passed + n)));
                    return Ok(());
                }
                Err(error) => {
                    prop_assert_eq!(whole, Err(error));
                    return Ok(());
                }
            }
        }
        prop_assert_eq!(whole, Ok(Scan::More(passed)));
    }

    #[test]
    fn the_items_of_a_get_reply_are_all_of_it(reply in reply()) {
        let mut items = values(&reply);
        let bytes: Vec<u8> = items.by_ref().flat_map(|item| item.bytes.to_vec()).collect();
        prop_assert_eq!([&bytes[..], items.rest()].concat(), reply);
    }
}

fn reply() -> impl Strategy<Value = Vec<u8>> {
    let value = (
        "[a-z]{1,5}",
        0u32..9,
        prop::collection::vec(any::<u8>(), 0..30),
        prop::option::of(any::<u64>()),
    )
        .prop_map(|(key, flags, data, cas)| {
            let mut out = Vec::new();
            emberline_protocol::memcache::encode::value(
                &mut out,
                key.as_bytes(),
                flags,
                &data,
                cas,
            );
            out
        });
    let ending = prop::sample::select(vec![
        "END\r\n",
        "END\r\n",
        "SERVER_ERROR out of memory\r\n",
        "END",
        "STORED\r\n",
        "VALUE x\r\n",
        "VA 3 k\r\nabc\r\n",
        "STAT a b\r\nEND\r\n",
        "12\r\n",
        "HD\r\n",
        "nonsense\r\n",
    ]);
    let list = (prop::collection::vec(value, 0..5), ending)
        .prop_map(|(values, ending)| [&values.concat()[..], ending.as_bytes()].concat());
    prop_oneof![6 => list, 1 => prop::collection::vec(any::<u8>(), 0..60)]
}
