//! One request line at a time.

use std::ops::Range;

use super::{Dialect, RequestError, Verb};

/// How much a client may send.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest key, in bytes; memcached's is 250.
    pub key_max: usize,
    /// The largest data block, in bytes.
    pub value_max: usize,
    /// The longest command line, in bytes, newline included.
    pub line_max: usize,
    /// The longest line of `get`, `gets`, `gat` and `gats`.
    pub multiget_line_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_max: super::KEY_MAX,
            value_max: 1 << 20,
            line_max: 2048,
            multiget_line_max: 1 << 20,
        }
    }
}

/// A request whose command line is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The command.
    pub verb: Verb,
    /// How it was written.
    pub dialect: Dialect,
    /// Bytes of the command line, its newline included.
    pub head: usize,
    /// Bytes of the data block that follows, without its CRLF.
    pub body: Option<usize>,
    /// `noreply`, or the meta flag `q`.
    pub quiet: bool,
    /// The meta flag `b`: the key is base64.
    pub base64: bool,
    /// Where the token of the meta flag `O` stands in the line, without the `O`.
    pub opaque: Option<Range<usize>>,
}

impl Request {
    /// Bytes of the whole request: line, data block and its CRLF.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.head + self.body.map_or(0, |n| n + 2)
    }
}

/// Finds requests in a client's bytes; reused from one to the next.
#[derive(Debug, Default)]
pub struct Parser {
    keys: Vec<(u32, u32)>,
    decoded: Vec<u8>,
}

impl Parser {
    /// Looks for a request at the start of `buf`; `None` means that its line
    /// is not whole yet. The data block may still be to come.
    pub fn parse(
        &mut self,
        _buf: &[u8],
        _limits: &Limits,
    ) -> Result<Option<Request>, RequestError> {
        self.keys.clear();
        Ok(None)
    }

    /// Forgets a request that was begun.
    pub fn reset(&mut self) {
        self.keys.clear();
    }

    /// How many keys the request has.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The `i`th key as it was written; empty if there is none.
    pub fn key<'a>(&self, buf: &'a [u8], i: usize) -> &'a [u8] {
        match self.keys.get(i) {
            Some(&(start, end)) => buf.get(start as usize..end as usize).unwrap_or_default(),
            None => &[],
        }
    }

    /// The keys as they were written.
    pub fn keys<'a>(&'a self, buf: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.keys.len()).map(move |i| self.key(buf, i))
    }

    /// The bytes to hash for routing: the `i`th key, decoded if the request
    /// gave it in base64.
    pub fn routing_key<'a>(&'a mut self, buf: &'a [u8], request: &Request, i: usize) -> &'a [u8] {
        if request.base64 {
            return &self.decoded;
        }
        self.key(buf, i)
    }
}

/// Whether the data block of `request`, which starts at `buf[0]` and has come
/// whole, is followed by CRLF. If not the client is answered
/// `CLIENT_ERROR bad data chunk`.
pub fn body_terminated(buf: &[u8], request: &Request) -> bool {
    buf.get(..request.len())
        .is_some_and(|whole| request.body.is_none() || whole.ends_with(b"\r\n"))
}

/// The words of a command line, without its line end.
pub fn tokens(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.trim_ascii_end()
        .split(|&b| b == b' ')
        .filter(|t| !t.is_empty())
}
