//! Redis requests: the same requests are found however the stream is cut, by
//! the parser and by the flow; no more is consumed than came; what was parsed
//! and encoded again parses to the same arguments; an edit of it is a request.

#![no_main]

use std::time::Duration;

use emberline_protocol::redis::{self, Flow, Limits, Parser, RequestError, Step, command, encode};
use emberline_protocol::{Edit, Scan, TtlRule};
use libfuzzer_sys::fuzz_target;

type Found = (Vec<(usize, Vec<Vec<u8>>)>, Result<usize, RequestError>);

fuzz_target!(|input: &[u8]| {
    let Some((&piece, stream)) = input.split_first() else {
        return;
    };
    let piece = usize::from(piece).max(1);
    let limits = Limits::default();
    let whole = parse(stream, &limits, stream.len().max(1));
    assert_eq!(parse(stream, &limits, piece), whole);
    let lengths: Vec<_> = whole.0.iter().map(|(len, _)| *len).collect();
    assert_eq!(flow(stream, &limits, piece), (lengths, whole.1));
    for (_, args) in whole.0.iter().filter(|(_, args)| !args.is_empty()) {
        reads_back(args, &limits);
    }
});

fn parse(stream: &[u8], limits: &Limits, piece: usize) -> Found {
    let mut parser = Parser::default();
    let mut found = Vec::new();
    let (mut start, mut come) = (0, 0);
    while come < stream.len() {
        come = (come + piece).min(stream.len());
        loop {
            let buf = &stream[start..come];
            let len = match parser.parse(buf, limits) {
                Ok(Step::Frame { len, .. } | Step::Empty { len }) => len,
                Ok(Step::Partial) => break,
                Err(error) => return (found, Err(error)),
            };
            assert!(len > 0 && len <= buf.len());
            found.push((len, parser.args(buf).map(<[u8]>::to_vec).collect()));
            start += len;
        }
    }
    (found, Ok(come - start))
}

fn flow(stream: &[u8], limits: &Limits, piece: usize) -> (Vec<usize>, Result<usize, RequestError>) {
    let mut flow = Flow::new(limits);
    let mut found = Vec::new();
    let (mut start, mut passed, mut come) = (0, 0, 0);
    while come < stream.len() {
        come = (come + piece).min(stream.len());
        while passed < come {
            match flow.feed(&stream[passed..come]) {
                Ok(Scan::Done(len)) => {
                    assert!(len > 0 && len <= come - passed);
                    passed += len;
                    found.push(passed - start);
                    start = passed;
                }
                Ok(Scan::More(len)) => {
                    assert!(len <= come - passed);
                    passed += len;
                    break;
                }
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(come - start))
}

fn reads_back(args: &[Vec<u8>], limits: &Limits) {
    let mut again = Vec::new();
    encode::command(&mut again, args.iter().map(Vec::as_slice));
    let mut parser = Parser::default();
    let len = again.len();
    let step = parser.parse(&again, limits);
    assert_eq!(step, Ok(Step::Frame { len, inline: false }));
    assert!(parser.args(&again).eq(args.iter().map(Vec::as_slice)));
    if let Some(known) = command::lookup(&args[0]) {
        let mut keys = Vec::new();
        if command::keys(known, &parser.request(&again), &mut keys).is_ok() {
            assert!(keys.iter().all(|at| (1..args.len()).contains(at)));
        }
        edits(known, &parser, &again);
    }
}

/// Without effect an edit gives the same bytes, and with one a request.
fn edits(known: &command::Command, parser: &Parser, sent: &[u8]) {
    let now = Duration::from_secs(1_700_000_000);
    let mut out = Vec::new();
    let same = |key: &[u8], out: &mut Vec<u8>| out.extend_from_slice(key);
    let keep = Edit {
        key: Some(&same),
        ttl: Some(TtlRule::Floor(Duration::ZERO)),
    };
    if redis::edit(known, &parser.request(sent), &keep, now, &mut out).is_ok() {
        assert_eq!(out, sent);
    }
    out.clear();
    let cap = Edit {
        key: None,
        ttl: Some(TtlRule::Cap(Duration::from_secs(10))),
    };
    if redis::edit(known, &parser.request(sent), &cap, now, &mut out).is_ok() {
        let len = out.len();
        let step = Parser::default().parse(&out, &Limits::default());
        assert_eq!(step, Ok(Step::Frame { len, inline: false }));
    }
}
