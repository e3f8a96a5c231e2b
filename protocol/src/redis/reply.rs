//! Replies of servers: where one ends, and what merging needs to know of it.
//!
//! A [`Scanner`] follows a reply of any depth without keeping its bytes and
//! without recursion. What it remembers is one number per open level:
//!
//! ```text
//!   *2 \r\n  *3 \r\n  :1 \r\n        left: 2   level: 3 elements to come
//!                                    stack:    1 element to come, 0 above
//! ```
//!
//! RESP3's attributes (`|`) are elements of no level: they open one of their
//! own, and the level below still waits for the value that they describe.

use super::framing::{self, Body, line_end};
use crate::Scan;

/// Arrays, maps, sets and so on inside one another.
pub const DEPTH_MAX: usize = 128;

/// Elements that one reply may announce, all its levels together.
pub const ELEMENTS_MAX: u64 = 1 << 30;

/// Bytes of one bulk string. Redis' own limit is 512 MiB unless it is
/// configured otherwise; values only stream through here, so the limit is what is believable.
pub const BULK_MAX: u64 = 1 << 40;

/// Bytes of a header line such as `$5\r\n`.
const HEADER_MAX: usize = 64;

/// Finds the end of one reply after another. Resumable; no allocation for flat replies.
#[derive(Clone, Debug)]
pub struct Scanner {
    part: Part,
    level: Level,
    /// The levels around this one.
    stack: Vec<Level>,
    /// Elements that this reply may still announce.
    budget: u64,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// The next byte says of what type an element is.
    Type,
    /// Inside a line; its end has not come.
    Line,
    Body(Body),
}

/// What an open level still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// So many elements.
    Elements(u64),
    /// Elements until `.` (RESP3's `*?`).
    Stream,
    /// Pieces of a string until `;0` (RESP3's `$?`).
    Pieces,
}

const TOP: Level = Level::Elements(1);

impl Default for Scanner {
    fn default() -> Self {
        Scanner {
            part: Part::Type,
            level: TOP,
            stack: Vec::new(),
            budget: ELEMENTS_MAX,
        }
    }
}

impl Scanner {
    /// How much of `buf` belongs to the reply. After `Done` or an error the
    /// scanner expects a new reply.
    ///
    /// A header line comes with `Done` or `More` only when it is whole; other
    /// lines and bulk strings are passed on in whatever pieces they come.
    #[inline]
    pub fn feed(&mut self, buf: &[u8]) -> Result<Scan, ReplyError> {
        // The budget is whole as long as nothing but flat replies has been seen.
        if matches!(self.part, Part::Type)
            && self.budget == ELEMENTS_MAX
            && self.stack.is_empty()
            && let Some(len) = flat(buf)
        {
            return Ok(Scan::Done(len));
        }
        let scan = self.scan(buf);
        if !matches!(scan, Ok(Scan::More(_))) {
            self.reset();
        }
        scan
    }

    fn scan(&mut self, buf: &[u8]) -> Result<Scan, ReplyError> {
        let mut at = 0;
        loop {
            let rest = &buf[at..];
            match &mut self.part {
                Part::Type => match (&mut self.level, flat(rest)) {
                    (Level::Elements(left), Some(len)) => {
                        *left -= 1;
                        at += len;
                    }
                    _ => match self.element(rest)? {
                        Some(taken) => at += taken,
                        None => return Ok(Scan::More(at)),
                    },
                },
                Part::Line => match line_end(rest, 0) {
                    Some(end) => {
                        at += end + 2;
                        self.part = Part::Type;
                    }
                    None => {
                        // The `\n` of a last `\r` may be the next byte to come.
                        let half = usize::from(rest.last() == Some(&b'\r'));
                        return Ok(Scan::More(buf.len() - half));
                    }
                },
                Part::Body(body) => {
                    at += body.feed(rest).map_err(|_| ReplyError::BulkEnd)?;
                    if body.left > 0 {
                        return Ok(Scan::More(at));
                    }
                    self.part = Part::Type;
                }
            }
            if matches!(self.part, Part::Type) && self.close_levels() {
                return Ok(Scan::Done(at));
            }
        }
    }

    /// Reads the type of the next element, and its header if it has one.
    fn element(&mut self, rest: &[u8]) -> Result<Option<usize>, ReplyError> {
        let Some(&kind) = rest.first() else {
            return Ok(None);
        };
        if self.level == Level::Pieces && kind != b';' {
            return Err(ReplyError::Kind(kind));
        }
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                self.take();
                self.part = Part::Line;
                return Ok(Some(1));
            }
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {}
            b'.' if self.level == Level::Stream => {}
            b';' if self.level == Level::Pieces => {}
            other => return Err(ReplyError::Kind(other)),
        }
        let Some((header, len)) = header(rest)? else {
            return Ok(None);
        };
        self.open(kind, header)?;
        Ok(Some(len))
    }

    fn open(&mut self, kind: u8, header: Header) -> Result<(), ReplyError> {
        if kind != b'|' {
            self.take();
        }
        match (kind, header) {
            (b'$' | b'=' | b'!', Header::Number(size)) => self.body(size),
            (b'$' | b'*', Header::Null) => Ok(()),
            (b'$', Header::Streamed) => self.descend(Level::Pieces),
            (b';', Header::Number(0)) => {
                self.ascend();
                Ok(())
            }
            (b';', Header::Number(size)) => self.body(size),
            (b'*' | b'~' | b'>', Header::Number(count)) => self.elements(count),
            (b'%' | b'|', Header::Number(pairs)) => self.elements(pairs.saturating_mul(2)),
            (b'*' | b'~' | b'%', Header::Streamed) => self.descend(Level::Stream),
            (b'.', Header::Empty) => {
                self.ascend();
                Ok(())
            }
            _ => Err(ReplyError::Length),
        }
    }

    fn body(&mut self, size: u64) -> Result<(), ReplyError> {
        if size > BULK_MAX {
            return Err(ReplyError::Length);
        }
        self.part = Part::Body(Body::of(size));
        Ok(())
    }

    fn elements(&mut self, count: u64) -> Result<(), ReplyError> {
        self.budget = self
            .budget
            .checked_sub(count)
            .ok_or(ReplyError::TooManyElements)?;
        match count {
            0 => Ok(()),
            _ => self.descend(Level::Elements(count)),
        }
    }

    fn descend(&mut self, level: Level) -> Result<(), ReplyError> {
        if self.stack.len() == DEPTH_MAX {
            return Err(ReplyError::TooDeep);
        }
        self.stack.push(std::mem::replace(&mut self.level, level));
        Ok(())
    }

    /// Only called on a level that was descended to.
    fn ascend(&mut self) {
        self.level = self.stack.pop().unwrap_or(TOP);
    }

    /// Counts an element of this level as begun.
    fn take(&mut self) {
        if let Level::Elements(left) = &mut self.level {
            *left -= 1;
        }
    }

    /// Leaves every level that has got all its elements; true at the end of the reply.
    fn close_levels(&mut self) -> bool {
        while self.level == Level::Elements(0) {
            match self.stack.pop() {
                Some(outer) => self.level = outer,
                None => return true,
            }
        }
        false
    }

    /// Bytes of the bulk string now being received that have not come, its line break included.
    pub fn body_missing(&self) -> usize {
        match self.part {
            Part::Body(body) => usize::try_from(body.left).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    /// Expects the first byte of a reply again.
    pub fn reset(&mut self) {
        self.part = Part::Type;
        self.level = TOP;
        self.stack.clear();
        self.budget = ELEMENTS_MAX;
    }
}

/// The length of a whole reply without levels; `None` sends the caller to the slow path.
#[inline(always)]
fn flat(buf: &[u8]) -> Option<usize> {
    match buf.first()? {
        b'$' => {
            let (size, len) = framing::plain(b'$', buf)?;
            let end = len + size;
            (buf.get(end..end + 2)? == b"\r\n").then_some(end + 2)
        }
        b'+' if buf.starts_with(b"+OK\r\n") => Some(5),
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => line_end(buf, 1).map(|end| end + 2),
        _ => None,
    }
}

enum Header {
    Number(u64),
    /// `-1`
    Null,
    /// `?`
    Streamed,
    /// Nothing, as in `.\r\n`.
    Empty,
}

/// What stands behind the type in a header line, and the line's length; `None` if it is not whole.
fn header(line: &[u8]) -> Result<Option<(Header, usize)>, ReplyError> {
    let kind = line.first().copied().unwrap_or_default();
    if let Some((number, len)) = framing::plain(kind, line) {
        return Ok(Some((Header::Number(number as u64), len)));
    }
    let reach = line.len().min(HEADER_MAX);
    let Some(end) = line_end(&line[..reach], 1) else {
        return match line.len() < HEADER_MAX {
            true => Ok(None),
            false => Err(ReplyError::Length),
        };
    };
    let header = match &line[1..end] {
        b"" => Header::Empty,
        b"?" => Header::Streamed,
        b"-1" => Header::Null,
        digits => match framing::number(digits).map(u64::try_from) {
            Some(Ok(number)) => Header::Number(number),
            _ => return Err(ReplyError::Length),
        },
    };
    Ok(Some((header, end + 2)))
}

/// Whether the next item is an out-of-band push, which answers no request.
pub fn first_is_push(buf: &[u8]) -> bool {
    buf.first() == Some(&b'>')
}

/// Whether a reply is an error.
pub fn is_error(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'-' | b'!'))
}

/// The value of an integer reply.
pub fn integer(reply: &[u8]) -> Option<i64> {
    let text = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    framing::number(text.strip_prefix(b"+").unwrap_or(text))
}

/// The length of the reply at the start of `buf`, if it is whole.
pub fn skip(buf: &[u8]) -> Result<Option<usize>, ReplyError> {
    match Scanner::default().feed(buf)? {
        Scan::Done(len) => Ok(Some(len)),
        Scan::More(_) => Ok(None),
    }
}

/// The elements of an array, a set or a push, each as its raw bytes.
///
/// Ends early if the reply is not whole or not proper, which a reply that a
/// [`Scanner`] called `Done` cannot be.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
    scanner: Scanner,
}

/// Takes an array (or set, or push) apart. An attribute in front of it is left out.
pub fn elements(reply: &[u8]) -> Result<Elements<'_>, ReplyError> {
    let reply = described(reply)?.ok_or(ReplyError::NotAnArray)?;
    match (reply.first(), header(reply)?) {
        (Some(b'*' | b'~' | b'>'), Some((Header::Number(count), len))) => {
            Elements::new(&reply[len..], count)
        }
        _ => Err(ReplyError::NotAnArray),
    }
}

/// What stands behind the attributes in front of a reply; `None` if they have
/// not come whole.
pub(super) fn described(reply: &[u8]) -> Result<Option<&[u8]>, ReplyError> {
    let mut rest = reply;
    while rest.first() == Some(&b'|') {
        let Some((header, len)) = header(rest)? else {
            return Ok(None);
        };
        let Header::Number(pairs) = header else {
            return Err(ReplyError::Length);
        };
        let mut inside = Elements::new(&rest[len..], pairs.saturating_mul(2))?;
        for _ in 0..inside.left {
            if inside.next_or_error()?.is_none() {
                return Ok(None);
            }
        }
        rest = inside.rest;
    }
    Ok(Some(rest))
}

impl<'a> Elements<'a> {
    fn new(rest: &'a [u8], count: u64) -> Result<Elements<'a>, ReplyError> {
        Ok(Elements {
            rest,
            left: usize::try_from(count).map_err(|_| ReplyError::TooManyElements)?,
            scanner: Scanner::default(),
        })
    }

    /// The next element; `None` if it has not come whole.
    fn next_or_error(&mut self) -> Result<Option<&'a [u8]>, ReplyError> {
        let Scan::Done(len) = self.scanner.feed(self.rest)? else {
            return Ok(None);
        };
        let (element, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(Some(element))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let element = self.next_or_error().ok().flatten();
        if element.is_none() {
            self.left = 0;
        }
        element
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Elements<'_> {}

/// What a server did wrong. Its connection must be discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No element can start with this byte here.
    #[error("a reply cannot go on with byte {0:#04x}")]
    Kind(u8),
    /// A header that is no number, or none that can be believed.
    #[error("invalid length in a reply")]
    Length,
    /// More than [`DEPTH_MAX`] levels.
    #[error("a reply is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
    /// More than [`ELEMENTS_MAX`] elements, all levels together.
    #[error("a reply announces more than {ELEMENTS_MAX} elements")]
    TooManyElements,
    /// No line break behind a bulk string.
    #[error("expected a line break behind a bulk string in a reply")]
    BulkEnd,
    /// Something else came where an array was expected.
    #[error("expected an array in reply")]
    NotAnArray,
}
