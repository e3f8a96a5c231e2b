//! One request line at a time, whichever encoding it is written in.
//!
//! The parser reports *where* things are in the caller's buffer and copies
//! nothing but a base64 key. It says a request is there as soon as its line
//! is whole: a value may be larger than any buffer, and streams.

use std::ops::Range;

use memchr::memchr;

use super::error::says;
use super::key::key_end;
use super::words::Words;
use super::{Dialect, Recovery, RequestError, Verb, meta, text};

/// How much a client may send.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest key, in bytes; memcached's is 250.
    pub key_max: usize,
    /// The largest data block, in bytes. A larger one is refused and its
    /// bytes are skipped.
    pub value_max: usize,
    /// The longest command line, in bytes, newline included; at least 128.
    /// Beyond it the connection is closed, as there is no end to look for.
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
    /// What of the line a server is to get: all between the leading spaces
    /// and the last argument that means something...
    pub(super) sent: (u32, u32),
    /// ... except for this part, the meta flag `q` with a space before it.
    pub(super) cut: (u32, u32),
}

impl Request {
    /// A request without a data block that is forwarded as it came.
    #[inline]
    pub(super) fn plain(verb: Verb, head: usize, sent: Range<usize>) -> Request {
        Request {
            verb,
            dialect: verb.dialect(),
            head,
            body: None,
            quiet: false,
            base64: false,
            opaque: None,
            sent: (sent.start as u32, sent.end as u32),
            cut: (sent.end as u32, sent.end as u32),
        }
    }

    /// Bytes of the whole request: line, data block and its CRLF.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.head + self.body.map_or(0, |n| n.saturating_add(2))
    }
}

/// What every step of parsing returns, so that the result is written once,
/// where the caller wants it: copying it was 40 % of the time of a `get`.
pub(super) type Parsed = Result<Option<Request>, RequestError>;

/// Finds requests in a client's bytes; reused from one to the next.
///
/// After `None` it remembers how far it has looked, so it belongs to one
/// connection until [`Parser::reset`].
#[derive(Debug, Default)]
pub struct Parser {
    /// Where the keys stand in the line.
    pub(super) keys: Vec<(u32, u32)>,
    /// The key of a request with the meta flag `b`.
    pub(super) decoded: Vec<u8>,
    /// No newline stands before this.
    searched: usize,
}

/// A multi-get of more keys than this gives its memory back.
const KEYS_KEPT: usize = 1024;

impl Parser {
    /// Looks for a request at the start of `buf`; `None` means that its line
    /// is not whole yet: call again with the same bytes and more behind them.
    /// The data block may still be to come.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<Request>, RequestError> {
        self.keys.clear();
        if buf.first() == Some(&BINARY_MAGIC) {
            self.searched = 0;
            return Err(RequestError::new("", Recovery::Close));
        }
        let from = self.searched.min(buf.len());
        let Some(newline) = memchr(b'\n', &buf[from..]) else {
            if buf.len() > line_max(buf, limits) {
                return self.too_long();
            }
            self.searched = buf.len();
            return Ok(None);
        };
        self.searched = 0;
        let head = from + newline + 1;
        if head > limits.line_max && head > line_max(buf, limits) {
            return self.too_long();
        }
        let line = &buf[..head - 1];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.parse_line(line, head, limits)
    }

    fn too_long(&mut self) -> Parsed {
        self.searched = 0;
        Err(RequestError::new(says::LINE_TOO_LONG, Recovery::Close))
    }

    /// `line` is without its line end, `head` bytes with it.
    #[inline]
    fn parse_line(&mut self, line: &[u8], head: usize, limits: &Limits) -> Parsed {
        if line.starts_with(b"get ") {
            // Most of a cache's requests are one key and nothing else.
            let end = key_end(line, 4);
            if end == line.len() && (1..=limits.key_max).contains(&(end - 4)) {
                self.keys.push((4, end as u32));
                return Ok(Some(Request::plain(Verb::Get, head, 0..end)));
            }
            return text::request::parse_get(self, line, head, Verb::Get, 3, limits);
        }
        self.parse_words(line, head, limits)
    }

    /// Any line but the most common one, which need not be split into words.
    #[inline(never)]
    fn parse_words(&mut self, line: &[u8], head: usize, limits: &Limits) -> Parsed {
        let words = Words::split(line);
        let refuse = |reply| Err(RequestError::new(reply, Recovery::Skip(head)));
        let Some(verb) = Verb::lookup(words.word(line, 0)) else {
            return refuse(says::ERROR);
        };
        // memcached takes a line to end at a NUL. Two readings of one line
        // are one too many; where a value follows its length is in doubt.
        if words.has_nul() {
            let recovery = if verb.has_body() {
                Recovery::Close
            } else {
                Recovery::Skip(head)
            };
            return Err(RequestError::new(says::BAD_FORMAT, recovery));
        }
        match verb.dialect() {
            Dialect::Text if verb.is_multiget() => {
                text::request::parse_get(self, line, head, verb, words.range(0).end, limits)
            }
            Dialect::Text => text::request::parse(self, line, head, verb, &words, limits),
            Dialect::Meta => meta::request::parse(self, line, head, verb, &words, limits),
        }
    }

    /// Forgets a request that was begun, for use on another connection.
    pub fn reset(&mut self) {
        self.keys.clear();
        self.keys.shrink_to(KEYS_KEPT);
        self.searched = 0;
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
            &self.decoded
        } else {
            self.key(buf, i)
        }
    }
}

/// First byte of a request in the binary protocol.
const BINARY_MAGIC: u8 = 0x80;

/// How long the line that `buf` begins with may get. Positions are kept in 32
/// bits, so no limit is above that.
fn line_max(buf: &[u8], limits: &Limits) -> usize {
    let max = if starts_multiget(buf) {
        limits.multiget_line_max.max(limits.line_max)
    } else {
        limits.line_max
    };
    max.min(u32::MAX as usize / 2)
}

/// As memcached tells a long multi-get from garbage.
fn starts_multiget(buf: &[u8]) -> bool {
    let spaces = buf.iter().take(100).take_while(|&&b| b == b' ').count();
    let word = &buf[spaces..];
    [&b"get "[..], b"gets ", b"gat ", b"gats "]
        .iter()
        .any(|verb| word.starts_with(verb))
}

/// Whether the data block of `request`, which starts at `buf[0]` and has come
/// whole, is followed by CRLF.
///
/// If it is not, the answer is `CLIENT_ERROR bad data chunk` (nothing for a
/// text command with `noreply`), and the next request begins behind
/// [`Request::len`] bytes all the same.
pub fn body_terminated(buf: &[u8], request: &Request) -> bool {
    request.body.is_none()
        || buf
            .get(..request.len())
            .is_some_and(|whole| whole.ends_with(b"\r\n"))
}
