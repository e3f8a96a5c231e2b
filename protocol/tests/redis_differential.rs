//! The scanner and the parser against the `redis-protocol` crate.
//!
//! Only on sound input of small depth: that crate's decoders recurse without
//! a limit and are more lenient than Redis about numbers.

#![allow(clippy::unwrap_used)]

use emberline_protocol::redis::reply::skip;
use emberline_protocol::redis::{Limits, Parser, Step, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use redis_protocol::resp2::decode::decode as decode2;
use redis_protocol::resp2::encode::extend_encode as encode2;
use redis_protocol::resp2::types::{BytesFrame as Frame2, OwnedFrame as Owned2};
use redis_protocol::resp3::decode::complete::decode as decode3;

fn frame2() -> impl Strategy<Value = Frame2> {
    let flat = prop_oneof![
        "[a-z ]{0,20}".prop_map(|text| Frame2::SimpleString(text.into_bytes().into())),
        "[A-Z]{1,9} [a-z ]{0,20}".prop_map(|text| Frame2::Error(text.into())),
        any::<i64>().prop_map(Frame2::Integer),
        vec(any::<u8>(), 0..50).prop_map(|data| Frame2::BulkString(data.into())),
        Just(Frame2::Null),
    ];
    flat.prop_recursive(5, 60, 8, |inner| vec(inner, 0..8).prop_map(Frame2::Array))
}

/// A RESP3 reply on the wire. Keys of maps and members of sets are numbers,
/// as that crate cannot hash every type.
fn wire3() -> impl Strategy<Value = Vec<u8>> {
    let bulk = |kind: &'static str, prefix: &'static str| {
        vec(any::<u8>(), 0..30).prop_map(move |data| {
            let head = format!("{kind}{}\r\n{prefix}", data.len() + prefix.len()).into_bytes();
            [head, data, b"\r\n".to_vec()].concat()
        })
    };
    let number = any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes());
    let flat = prop_oneof![
        "\\+[a-z ]{0,20}\r\n".prop_map(String::into_bytes),
        "-[A-Z]{1,9} [a-z ]{0,20}\r\n".prop_map(String::into_bytes),
        "\\([1-9][0-9]{0,40}\r\n".prop_map(String::into_bytes),
        "#[tf]\r\n".prop_map(String::into_bytes),
        Just(b"_\r\n".to_vec()),
        any::<f32>().prop_map(|value| format!(",{value:?}\r\n").to_lowercase().into_bytes()),
        number.clone(),
        bulk("$", ""),
        bulk("!", ""),
        bulk("=", "txt:"),
    ];
    flat.prop_recursive(4, 40, 6, move |inner| {
        let many = |kind: char| {
            vec(inner.clone(), 0..6).prop_map(move |all| {
                [
                    format!("{kind}{}\r\n", all.len()).into_bytes(),
                    all.concat(),
                ]
                .concat()
            })
        };
        let set = prop::collection::btree_set(any::<i32>(), 0..6).prop_map(|all| {
            let all: String = all.iter().map(|number| format!(":{number}\r\n")).collect();
            format!("~{}\r\n{all}", all.matches(':').count()).into_bytes()
        });
        let map = prop::collection::btree_map(any::<i32>(), inner.clone(), 0..6).prop_map(|all| {
            let mut out = format!("%{}\r\n", all.len()).into_bytes();
            for (key, value) in all {
                out.extend(format!(":{key}\r\n").into_bytes());
                out.extend(value);
            }
            out
        });
        prop_oneof![3 => many('*'), 1 => set, 2 => map]
    })
}

proptest! {
    #[test]
    fn resp2_replies_end_where_the_oracle_ends(frame in frame2(), behind in vec(any::<u8>(), 0..5)) {
        let mut stream = bytes::BytesMut::new();
        encode2(&mut stream, &frame, false).unwrap();
        stream.extend_from_slice(&behind);
        let (_, len) = decode2(&stream).unwrap().unwrap();
        prop_assert_eq!(skip(&stream), Ok(Some(len)));
        for cut in 0..len {
            prop_assert_eq!(skip(&stream[..cut]), Ok(None));
        }
    }

    #[test]
    fn resp3_replies_end_where_the_oracle_ends(wire in wire3(), behind in vec(any::<u8>(), 0..5)) {
        let stream = [wire, behind].concat();
        let (_, len) = decode3(&stream).unwrap().unwrap();
        prop_assert_eq!(skip(&stream), Ok(Some(len)));
    }

    #[test]
    fn requests_have_the_arguments_that_the_oracle_reads(args in vec(vec(any::<u8>(), 0..40), 1..10)) {
        let mut stream = Vec::new();
        encode::command(&mut stream, args.iter().map(Vec::as_slice));
        let (frame, len) = decode2(&stream).unwrap().unwrap();
        let Owned2::Array(read) = frame else { panic!("{frame:?}") };
        let mut parser = Parser::default();
        prop_assert_eq!(parser.parse(&stream, &Limits::default()), Ok(Step::Frame { len, inline: false }));
        let ours: Vec<_> = parser.args(&stream).map(|arg| Owned2::BulkString(arg.to_vec())).collect();
        prop_assert_eq!(ours, read);
    }
}
