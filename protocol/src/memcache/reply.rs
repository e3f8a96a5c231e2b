//! Finds where a server's reply ends, without being told the request.
//!
//! ```text
//!            VALUE header                 STAT, ITEM, PREFIX
//!   Start ----------------> Data ---> List <----------------
//!     |  \                             |  \________________/
//!     |   \ VA header                  | END or an error line
//!     |    '-------> Data ----.        |
//!     '--- any other line ----+--------+--> done, Start again
//! ```

use memchr::memchr;

use super::{ReplyError, Verb, meta, number, text};
use crate::Scan;

/// The longest line a reply may have. memcached's longest are `stats` lines
/// and the debug line of `me`, all below 2 KiB.
const LINE_MAX: usize = 8192;

/// What a reply line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The whole reply.
    Line,
    /// The header of a data block in a list.
    Value,
    /// A line of a list.
    Item,
    /// The header of a data block that ends the reply.
    MetaValue,
}

/// Follows replies through a server's bytes. Allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    /// Bytes of a data block still to come, its CRLF included; 0 between lines.
    missing: usize,
    /// Whether the reply is a list, which only `END` or an error ends.
    list: bool,
}

impl Scanner {
    /// Looks for the end of the reply whose first, or next, byte is `buf[0]`.
    ///
    /// After [`Scan::More`] the bytes it does not count are fed again with
    /// more. After [`Scan::Done`] or an error the next call begins a reply.
    pub fn feed(&mut self, buf: &[u8]) -> Result<Scan, ReplyError> {
        let result = self.advance(buf);
        if !matches!(result, Ok(Scan::More(_))) {
            self.reset();
        }
        result
    }

    fn advance(&mut self, buf: &[u8]) -> Result<Scan, ReplyError> {
        let mut at = 0;
        loop {
            if self.missing > 0 {
                let have = buf.len() - at;
                if have < self.missing {
                    // The two bytes of the CRLF are only looked at together.
                    let data = have.min(self.missing - 2);
                    self.missing -= data;
                    return Ok(Scan::More(at + data));
                }
                at += self.missing;
                if !buf[..at].ends_with(b"\r\n") {
                    return Err(ReplyError::BadDataEnd);
                }
                self.missing = 0;
                if !self.list {
                    return Ok(Scan::Done(at));
                }
            }
            let rest = &buf[at..];
            let Some(newline) = memchr(b'\n', &rest[..rest.len().min(LINE_MAX)]) else {
                return match rest.len() {
                    n if n >= LINE_MAX => Err(ReplyError::LineTooLong),
                    _ => Ok(Scan::More(at)),
                };
            };
            if self.line(&rest[..newline])? {
                return Ok(Scan::Done(at + newline + 1));
            }
            at += newline + 1;
        }
    }

    /// Takes one line without its newline; whether it ends the reply.
    fn line(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let word = match memchr(b' ', line) {
            Some(space) => &line[..space],
            None => line,
        };
        let shape = shape(word).ok_or(ReplyError::UnknownWord)?;
        if self.list && !matches!(shape, Shape::Value | Shape::Item) {
            let ends = word == b"END" || is_error(line);
            return if ends {
                Ok(true)
            } else {
                Err(ReplyError::UnknownWord)
            };
        }
        let len = match shape {
            Shape::Line => return Ok(true),
            Shape::Item => {
                self.list = true;
                return Ok(false);
            }
            Shape::Value => {
                self.list = true;
                text::reply::data_len(line)
            }
            Shape::MetaValue => meta::reply::data_len(line),
        };
        self.missing = len.ok_or(ReplyError::BadHeader)? + 2;
        Ok(false)
    }

    /// Bytes of the data block now being received that have not come, its
    /// CRLF included; 0 between lines. After [`Scan::More`].
    pub fn body_missing(&self) -> usize {
        self.missing
    }

    /// Forgets the reply that was begun.
    pub fn reset(&mut self) {
        *self = Scanner::default();
    }
}

fn shape(word: &[u8]) -> Option<Shape> {
    if matches!(
        word,
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" | b"ERROR:"
    ) {
        return Some(Shape::Line);
    }
    text::reply::shape(word).or_else(|| meta::reply::shape(word))
}

/// Whether a reply is `ERROR`, `CLIENT_ERROR` or `SERVER_ERROR`.
///
/// A list that breaks off in an error is not told by its beginning.
pub fn is_error(reply: &[u8]) -> bool {
    [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"]
        .iter()
        .any(|word| {
            reply.strip_prefix(*word).is_some_and(|rest| {
                matches!(rest.first(), None | Some(b' ' | b'\r' | b'\n' | b':'))
            })
        })
}

/// Whether the reply to a request that was quiet is kept from its client, as
/// memcached 1.6.18 does it.
///
/// `noreply` hides whatever the answer is. The meta flag `q` hides only the
/// nominal one: that `mg` missed, that `ms` stored, that `md` deleted, that
/// `ma` counted (with its value, too). One thing cannot be told from the reply:
/// a quiet `ma` that *creates* its number is answered by memcached and is not
/// answered here.
pub fn suppressed(verb: Verb, reply: &[u8]) -> bool {
    let code = reply.get(..2).unwrap_or_default();
    match verb {
        Verb::MetaGet => code == b"EN",
        Verb::MetaSet | Verb::MetaDelete => code == b"HD",
        Verb::MetaArithmetic => code == b"HD" || code == b"VA",
        Verb::MetaNoop | Verb::MetaDebug => false,
        _ => true,
    }
}

/// One item of a get reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The whole block with its line ends, as it came.
    pub bytes: &'a [u8],
    /// The client flags.
    pub flags: u32,
    /// The value.
    pub data: &'a [u8],
    /// The unique number, in replies to `gets` and `gats`.
    pub cas: Option<u64>,
}

/// The items of a get reply, for merging and for filling a cache.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Values<'a> {
    /// What has not been iterated: behind the last item the line that ends
    /// the reply, `END` or an error.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// The items of a whole get reply, up to the line that ends it.
pub fn values(reply: &[u8]) -> Values<'_> {
    Values { rest: reply }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let line = self.rest.strip_prefix(b"VALUE ")?;
        let newline = memchr(b'\n', line)?;
        let mut words = super::tokens(&line[..=newline]);
        let key = words.next()?;
        let flags = number::unsigned_32(words.next()?)?;
        let len = number::length(words.next()?)?;
        let cas = words.next().and_then(number::unsigned);
        let data_start = b"VALUE ".len() + newline + 1;
        let data = self.rest.get(data_start..data_start + len)?;
        let (bytes, rest) = self.rest.split_at_checked(data_start + len + 2)?;
        self.rest = rest;
        Some(Value {
            key,
            bytes,
            flags,
            data,
            cas,
        })
    }
}
