//! However a stream is cut into pieces, the parsers find the same in it; and
//! what is encoded reads back.

#![allow(clippy::unwrap_used)]

mod redis_pieces;

use emberline_protocol::redis::reply::{elements, integer, skip};
use emberline_protocol::redis::{Limits, Version, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use redis_pieces::{every, flow, parse, scan, sizes};

fn arg() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..20),
        1 => vec(any::<u8>(), 100..300),
        1 => Just(b"\r\n".to_vec()),
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let multibulk = vec(arg(), 1..6).prop_map(|args| {
        let mut out = Vec::new();
        encode::command(&mut out, args.iter().map(Vec::as_slice));
        out
    });
    let line = "[a-z \"'\\\\x0-9\t]{0,30}\r?\n".prop_map(String::into_bytes);
    let empty = prop_oneof![Just("\r\n"), Just("*0\r\n"), Just("*-1\r\n")]
        .prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![6 => multibulk, 2 => line, 1 => empty]
}

/// Whole requests, with now and then a byte that does not belong there.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    (vec(request(), 1..6), damage()).prop_map(|(all, damage)| spoil(all.concat(), damage))
}

fn damage() -> impl Strategy<Value = Option<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![
        any::<u8>(),
        Just(b'\r'),
        Just(b'\n'),
        Just(b'*'),
        Just(b'0')
    ];
    prop::option::weighted(0.4, (any::<prop::sample::Index>(), byte))
}

fn spoil(mut stream: Vec<u8>, damage: Option<(prop::sample::Index, u8)>) -> Vec<u8> {
    if let Some((at, byte)) = damage {
        let at = at.index(stream.len());
        stream[at] = byte;
    }
    stream
}

/// Any reply of RESP3, attributes and streamed forms included.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let bulk = |kind: char| {
        vec(any::<u8>(), 0..40).prop_map(move |data| {
            let head = format!("{kind}{}\r\n", data.len()).into_bytes();
            [head, data, b"\r\n".to_vec()].concat()
        })
    };
    let line = "[-+:,(#_][a-z\r0-9]{0,20}\r\n".prop_map(String::into_bytes);
    let null = prop_oneof![
        Just("$-1\r\n"),
        Just("*-1\r\n"),
        Just("_\r\n"),
        Just("*0\r\n")
    ]
    .prop_map(|text| text.as_bytes().to_vec());
    let pieces = vec(bulk(';'), 0..4).prop_map(|mut pieces| {
        pieces.retain(|piece| !piece.starts_with(b";0"));
        [b"$?\r\n".to_vec(), pieces.concat(), b";0\r\n".to_vec()].concat()
    });
    let flat = prop_oneof![4 => bulk('$'), 1 => bulk('='), 1 => bulk('!'), 4 => line, 1 => null, 1 => pieces];
    flat.prop_recursive(4, 40, 6, |inner| {
        let many = |kind: char, each: usize| {
            vec(vec(inner.clone(), each), 0..5).prop_map(move |all| {
                let head = format!("{kind}{}\r\n", all.len()).into_bytes();
                [head, all.concat().concat()].concat()
            })
        };
        let streamed = (prop_oneof![Just('*'), Just('~'), Just('%')], vec(inner.clone(), 0..5))
            .prop_map(|(kind, all)| {
                let head = format!("{kind}?\r\n").into_bytes();
                [head, all.concat(), b".\r\n".to_vec()].concat()
            });
        let described = (many('|', 2), inner.clone()).prop_map(|(attribute, value)| {
            [attribute, value].concat()
        });
        prop_oneof![3 => many('*', 1), 1 => many('~', 1), 1 => many('>', 1), 2 => many('%', 2), 1 => streamed, 1 => described]
    })
}

/// Writes one reply.
type Write<'a> = &'a dyn Fn(&mut Vec<u8>);

proptest! {
    #[test]
    fn requests_are_the_same_in_any_pieces(stream in requests(), pieces in vec(1usize..30, 1..8)) {
        let limits = Limits::default();
        let whole = parse(&stream, &limits, every(stream.len()));
        prop_assert_eq!(&parse(&stream, &limits, every(1)), &whole);
        prop_assert_eq!(&parse(&stream, &limits, sizes(&pieces)), &whole);
        let lengths: Vec<_> = whole.items.iter().map(|(len, _)| *len).collect();
        for cut in [stream.len(), 1, pieces[0]] {
            let found = flow(&stream, &limits, every(cut));
            prop_assert_eq!(&found.items, &lengths);
            prop_assert_eq!(&found.end, &whole.end);
        }
    }

    #[test]
    fn a_request_reads_back_as_it_was_encoded(args in vec(arg(), 1..40), behind in vec(any::<u8>(), 0..9)) {
        let mut stream = Vec::new();
        encode::command(&mut stream, args.iter().map(Vec::as_slice));
        let len = stream.len();
        stream.extend(behind);
        let found = parse(&stream, &Limits::default(), every(stream.len()));
        prop_assert_eq!(&found.items[0], &(len, args));
    }

    #[test]
    fn replies_are_the_same_in_any_pieces(
        all in vec(reply(), 1..4), damage in damage(), pieces in vec(1usize..30, 1..8),
    ) {
        let lengths: Vec<_> = all.iter().map(Vec::len).collect();
        let sound = damage.is_none();
        let stream = spoil(all.concat(), damage);
        let whole = scan(&stream, every(stream.len()));
        if sound {
            prop_assert_eq!(&whole.items, &lengths);
            prop_assert_eq!(&whole.end, &Ok(0));
        }
        prop_assert_eq!(&scan(&stream, every(1)), &whole);
        prop_assert_eq!(&scan(&stream, sizes(&pieces)), &whole);
    }

    #[test]
    fn an_array_comes_apart_into_its_elements(all in vec(reply(), 0..8)) {
        let mut array = Vec::new();
        encode::array(&mut array, all.len());
        array.extend(all.concat());
        let apart = elements(&array).unwrap();
        prop_assert_eq!(apart.len(), all.len());
        prop_assert!(apart.eq(all.iter().map(Vec::as_slice)));
        let described = [b"|1\r\n+a\r\n:1\r\n".to_vec(), array].concat();
        prop_assert!(elements(&described).unwrap().eq(all.iter().map(Vec::as_slice)));
    }

    #[test]
    fn whatever_is_encoded_is_one_reply(text in ".*", data in vec(any::<u8>(), 0..50), number: i64, float: f64, truth: bool) {
        for version in [Version::Resp2, Version::Resp3] {
            let replies: [Write; 9] = [
                &|out| encode::simple(out, &text),
                &|out| encode::error(out, &text),
                &|out| encode::integer(out, number),
                &|out| encode::bulk(out, &data),
                &|out| encode::null(out, version),
                &|out| encode::null_array(out, version),
                &|out| encode::double(out, float, version),
                &|out| encode::boolean(out, truth, version),
                &|out| encode::verbatim(out, &data, version),
            ];
            for reply in replies {
                let mut out = Vec::new();
                reply(&mut out);
                prop_assert_eq!(skip(&out), Ok(Some(out.len())));
            }
        }
        let mut out = Vec::new();
        encode::integer(&mut out, number);
        prop_assert_eq!(integer(&out), Some(number));
    }
}

#[test]
fn what_resp2_lacks_is_said_as_redis_says_it() {
    let check = |write: &dyn Fn(&mut Vec<u8>, Version), resp2: &str, resp3: &str| {
        for (version, expected) in [(Version::Resp2, resp2), (Version::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut out, version);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    };
    check(&encode::null, "$-1\r\n", "_\r\n");
    check(&encode::null_array, "*-1\r\n", "_\r\n");
    check(
        &|out, version| encode::map(out, 2, version),
        "*4\r\n",
        "%2\r\n",
    );
    check(
        &|out, version| encode::set(out, 2, version),
        "*2\r\n",
        "~2\r\n",
    );
    check(
        &|out, version| encode::push(out, 2, version),
        "*2\r\n",
        ">2\r\n",
    );
    check(
        &|out, version| encode::double(out, 2.25, version),
        "$4\r\n2.25\r\n",
        ",2.25\r\n",
    );
    check(
        &|out, version| encode::double(out, 5.0, version),
        "$1\r\n5\r\n",
        ",5\r\n",
    );
    check(
        &|out, version| encode::double(out, 1e300, version),
        "$6\r\n1e+300\r\n",
        ",1e+300\r\n",
    );
    check(
        &|out, version| encode::double(out, f64::NEG_INFINITY, version),
        "$4\r\n-inf\r\n",
        ",-inf\r\n",
    );
    check(
        &|out, version| encode::boolean(out, true, version),
        ":1\r\n",
        "#t\r\n",
    );
    check(
        &|out, version| encode::verbatim(out, b"x", version),
        "$1\r\nx\r\n",
        "=5\r\ntxt:x\r\n",
    );
    check(
        &|out, _| encode::error(out, "ERR a\r\nb"),
        "-ERR a  b\r\n",
        "-ERR a  b\r\n",
    );
}

#[test]
fn a_parser_tells_how_much_of_an_argument_is_to_come() {
    use emberline_protocol::redis::{Parser, Step};
    let mut parser = Parser::default();
    let stream = b"*2\r\n$3\r\nGET\r\n$100\r\nabc";
    assert_eq!(parser.parse(stream, &Limits::default()), Ok(Step::Partial));
    assert_eq!((parser.args_announced(), parser.len()), (2, 1));
    assert_eq!(parser.arg(stream, 0), b"GET");
    assert_eq!(parser.bulk_missing(), 99);
    parser.reset();
    assert_eq!(
        (parser.args_announced(), parser.len(), parser.bulk_missing()),
        (0, 0, 0)
    );
}
