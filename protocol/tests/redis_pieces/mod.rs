//! Feeds the Redis parsers a stream in pieces, as a socket would, and says
//! what they make of it.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use emberline_protocol::Scan;
use emberline_protocol::redis::{Flow, Limits, Parser, ReplyError, RequestError, Scanner, Step};

/// What was found in a stream: whole items, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<T, E> {
    pub items: Vec<T>,
    /// `Ok`: bytes of an item that is not whole.
    pub end: Result<usize, E>,
}

/// A request's length and arguments; none for an empty one.
pub type Request = (usize, Vec<Vec<u8>>);

/// Ends of the pieces: behind every `size` bytes.
pub fn every(size: usize) -> impl FnMut(usize) -> usize {
    move |at| at + size
}

/// Ends of the pieces from a list of sizes, repeated.
pub fn sizes(sizes: &[usize]) -> impl FnMut(usize) -> usize + '_ {
    let mut next = sizes.iter().cycle();
    move |at| at + next.next().copied().unwrap_or(1).max(1)
}

pub fn parse(
    stream: &[u8],
    limits: &Limits,
    mut cut: impl FnMut(usize) -> usize,
) -> Found<Request, RequestError> {
    let mut parser = Parser::default();
    let mut items = Vec::new();
    let (mut start, mut come) = (0, 0);
    while come < stream.len() {
        come = cut(come).min(stream.len());
        loop {
            let buf = &stream[start..come];
            match parser.parse(buf, limits) {
                Ok(Step::Frame { len, .. }) => {
                    assert!(len <= buf.len() && len > 0);
                    let args = parser.args(buf).map(<[u8]>::to_vec).collect();
                    items.push((len, args));
                    start += len;
                }
                Ok(Step::Empty { len }) => {
                    assert!(len <= buf.len() && len > 0);
                    items.push((len, Vec::new()));
                    start += len;
                }
                Ok(Step::Partial) => break,
                Err(error) => {
                    let end = Err(error);
                    return Found { items, end };
                }
            }
        }
    }
    let end = Ok(come - start);
    Found { items, end }
}

/// The lengths that a flow finds.
pub fn flow(
    stream: &[u8],
    limits: &Limits,
    cut: impl FnMut(usize) -> usize,
) -> Found<usize, RequestError> {
    let mut flow = Flow::new(limits);
    follow(stream, cut, |buf| flow.feed(buf))
}

/// The lengths that a scanner finds.
pub fn scan(stream: &[u8], cut: impl FnMut(usize) -> usize) -> Found<usize, ReplyError> {
    let mut scanner = Scanner::default();
    follow(stream, cut, |buf| scanner.feed(buf))
}

fn follow<E>(
    stream: &[u8],
    mut cut: impl FnMut(usize) -> usize,
    mut feed: impl FnMut(&[u8]) -> Result<Scan, E>,
) -> Found<usize, E> {
    let mut items = Vec::new();
    let (mut start, mut passed, mut come) = (0, 0, 0);
    while come < stream.len() {
        come = cut(come).min(stream.len());
        while passed < come {
            match feed(&stream[passed..come]) {
                Ok(Scan::Done(len)) => {
                    assert!(len <= come - passed && len > 0);
                    passed += len;
                    items.push(passed - start);
                    start = passed;
                }
                Ok(Scan::More(len)) => {
                    assert!(len <= come - passed);
                    passed += len;
                    break;
                }
                Err(error) => {
                    let end = Err(error);
                    return Found { items, end };
                }
            }
        }
    }
    let end = Ok(come - start);
    Found { items, end }
}
