//! Requests: RESP arrays of bulk strings, and plain lines.
//!
//! A [`Parser`] tells where a request ends and where its arguments are; the
//! bytes stay where they are. It is as strict as Redis 7.0.15, in Redis' own
//! words, and stricter in two places where Redis reads past its input: what
//! stands behind a header's `\r` and behind an argument must be the line
//! break. A server that does look there would close the connection that all
//! clients share.
//!
//! ```text
//!            '*' header            '$' header              bytes and \r\n
//!   Start ---------------> Header ------------> Bulk ---------------------+
//!     | other byte            ^                                           |
//!     +--> a plain line       +---- arguments left -----------------------+--> Frame
//! ```

use super::{Args, framing, inline};
use memchr::memchr2;

pub use super::flow::Flow;

/// What a client may ask for at most. Checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one request.
    pub args_max: usize,
    /// Bytes of one argument.
    pub bulk_max: usize,
    /// Bytes of a plain line, or of a header line, before its line break.
    pub inline_max: usize,
    /// Whether the client still has to authenticate; only changes the words of an error.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            args_max: 1 << 20,
            bulk_max: 512 << 20,
            inline_max: 64 << 10,
            unauthenticated: false,
        }
    }
}

impl Limits {
    /// What Redis allows a client that has not authenticated: 10 arguments of 16 KiB.
    pub fn unauthenticated() -> Self {
        Limits {
            args_max: 10,
            bulk_max: 16 << 10,
            unauthenticated: true,
            ..Limits::default()
        }
    }
}

/// What a buffer holds at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A whole request.
    Frame {
        /// Bytes of the request.
        len: usize,
        /// Whether it came as a plain line. Servers want an array, so such a
        /// request must be encoded anew instead of being forwarded.
        inline: bool,
    },
    /// Nothing to answer (`\r\n`, `*0`, `*-1`).
    Empty {
        /// Bytes to skip.
        len: usize,
    },
    /// Not whole yet.
    Partial,
}

/// Finds one request after another.
///
/// One parser may serve many connections as long as it is reset where a
/// partial request is abandoned.
#[derive(Debug, Default)]
pub struct Parser {
    state: State,
    /// The first byte that has not been understood yet.
    at: usize,
    /// Arguments announced, and how many of them are still incomplete.
    announced: usize,
    args_left: usize,
    /// Bytes of a line without end that were searched in vain.
    searched: usize,
    /// How many bytes there were at the last call, while in `Bulk`.
    seen: usize,
    /// Where the arguments are: in the caller's buffer, or in `decoded`.
    args: Vec<(u32, u32)>,
    inline: bool,
    decoded: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Header,
    /// The bytes of an argument: where they begin and end.
    Bulk {
        start: usize,
        end: usize,
    },
}

/// An idle parser keeps room for this many arguments (or bytes of a line); one large request must not cost memory for ever.
const KEPT: usize = 1024;

impl Parser {
    /// Looks for a request at the start of `buf`.
    ///
    /// After `Partial`, call again with the same bytes and more behind them: the
    /// parser goes on where it stopped. After anything else the next call starts a
    /// new request.
    #[inline]
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Step, RequestError> {
        if self.state == State::Start && self.searched == 0 {
            self.begin();
            if let Some(len) = self.parse_whole(buf, limits) {
                return Ok(Step::Frame { len, inline: false });
            }
        }
        let step = self.parse_step_by_step(buf, limits);
        if step.is_err() {
            self.reset();
        }
        step
    }

    /// The hot path: a request that is whole and plain, in one go and without
    /// keeping account of where it is. `None` says nothing; then the request is
    /// looked at again, step by step.
    #[inline]
    fn parse_whole(&mut self, buf: &[u8], limits: &Limits) -> Option<usize> {
        let buf = &buf[..buf.len().min(FRAME_MAX)];
        let (count, mut at) = framing::plain(b'*', buf)?;
        if count == 0 || count > limits.args_max {
            return None;
        }
        for _ in 0..count {
            let rest = &buf[at..];
            let (size, len) = framing::plain(b'$', rest)?;
            if size > limits.bulk_max || rest.get(len + size..len + size + 2)? != b"\r\n" {
                return None;
            }
            let start = at + len;
            let end = start + size;
            self.args.push((start as u32, end as u32));
            at = end + 2;
        }
        self.announced = count;
        Some(at)
    }

    #[inline(never)]
    fn parse_step_by_step(&mut self, buf: &[u8], limits: &Limits) -> Result<Step, RequestError> {
        if self.state == State::Start {
            self.args.clear();
            self.announced = 0;
            match buf.first() {
                None => return Ok(Step::Partial),
                Some(b'*') => {}
                Some(_) => return self.parse_line(buf, limits),
            }
            let Some((count, len)) = multibulk_header(buf, &mut self.searched, limits)? else {
                return Ok(Step::Partial);
            };
            self.searched = 0;
            if count == 0 {
                return Ok(Step::Empty { len });
            }
            self.announced = count;
            self.args_left = count;
            self.at = len;
        }
        self.parse_args(buf, limits)
    }

    fn parse_args(&mut self, buf: &[u8], limits: &Limits) -> Result<Step, RequestError> {
        while self.args_left > 0 {
            let (start, end) = match self.state {
                State::Bulk { start, end } => (start, end),
                _ => {
                    let rest = &buf[self.at.min(buf.len())..];
                    let Some((size, len)) = bulk_header(rest, &mut self.searched, limits)? else {
                        self.state = State::Header;
                        return Ok(Step::Partial);
                    };
                    self.searched = 0;
                    let start = self.at + len;
                    (start, start.saturating_add(size))
                }
            };
            if end > FRAME_MAX {
                return Err(RequestError::TooBig);
            }
            let Some(line_break) = buf.get(end..end + 2) else {
                if buf.get(end).is_some_and(|byte| *byte != b'\r') {
                    return Err(RequestError::BulkEnd);
                }
                self.state = State::Bulk { start, end };
                self.seen = buf.len();
                return Ok(Step::Partial);
            };
            if line_break != b"\r\n" {
                return Err(RequestError::BulkEnd);
            }
            self.args.push((start as u32, end as u32));
            self.args_left -= 1;
            self.at = end + 2;
            self.state = State::Header;
        }
        self.state = State::Start;
        Ok(Step::Frame {
            len: self.at,
            inline: false,
        })
    }

    fn parse_line(&mut self, buf: &[u8], limits: &Limits) -> Result<Step, RequestError> {
        let Some(len) = inline::line(buf, &mut self.searched, limits)? else {
            return Ok(Step::Partial);
        };
        self.searched = 0;
        self.inline = true;
        inline::split(&buf[..len], &mut self.decoded, &mut self.args)?;
        self.announced = self.args.len();
        Ok(match self.args.len() {
            0 => Step::Empty { len },
            _ => Step::Frame { len, inline: true },
        })
    }

    #[inline]
    fn begin(&mut self) {
        if self.inline || self.args.capacity() > KEPT {
            self.shrink();
        }
        self.args.clear();
    }

    #[cold]
    fn shrink(&mut self) {
        self.inline = false;
        self.decoded.clear();
        self.decoded.shrink_to(KEPT);
        self.args.clear();
        self.args.shrink_to(KEPT);
    }

    /// Arguments of the frame just parsed, or complete so far after `Partial`.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether [`Parser::len`] is 0.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `i`, empty if there are not that many; `buf` as passed to [`Parser::parse`].
    #[inline]
    pub fn arg<'a>(&'a self, buf: &'a [u8], i: usize) -> &'a [u8] {
        let source = if self.inline { &self.decoded } else { buf };
        match self.args.get(i) {
            Some(&(from, to)) => source.get(from as usize..to as usize).unwrap_or_default(),
            None => &[],
        }
    }

    /// All arguments in order; `buf` as passed to [`Parser::parse`].
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.len()).map(move |i| self.arg(buf, i))
    }

    /// Where argument `i` is in the buffer; `None` for a plain line, whose arguments were decoded.
    pub fn range(&self, i: usize) -> Option<std::ops::Range<usize>> {
        let (from, to) = *self.args.get(i)?;
        (!self.inline).then_some(from as usize..to as usize)
    }

    /// The arguments together with their bytes; `buf` as passed to [`Parser::parse`].
    pub fn request<'a>(&'a self, buf: &'a [u8]) -> Request<'a> {
        Request { parser: self, buf }
    }

    /// Number of arguments announced; 0 while that is not known.
    pub fn args_announced(&self) -> usize {
        self.announced
    }

    /// After `Partial`: how many bytes the argument now being received still
    /// lacks, its line break included; 0 between arguments.
    pub fn bulk_missing(&self) -> usize {
        match self.state {
            State::Bulk { end, .. } => (end + 2).saturating_sub(self.seen),
            _ => 0,
        }
    }

    /// After `Partial`: the bytes that the argument now being received will
    /// have, without its line break; `None` between arguments.
    pub fn bulk_size(&self) -> Option<usize> {
        match self.state {
            State::Bulk { start, end } => Some(end - start),
            _ => None,
        }
    }

    /// Forgets a partial request: the next call starts a new one.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.searched = 0;
        self.args_left = 0;
        self.announced = 0;
        self.begin();
    }
}

/// Offsets are kept in 32 bits. A request beyond that is streamed, never held.
const FRAME_MAX: usize = u32::MAX as usize - 2;

/// A parsed request together with its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    parser: &'a Parser,
    buf: &'a [u8],
}

impl Args for Request<'_> {
    fn len(&self) -> usize {
        self.parser.len()
    }

    fn arg(&self, i: usize) -> &[u8] {
        self.parser.arg(self.buf, i)
    }
}

/// The count in `*3\r\n` (0 for a negative one) and the line's length; `None` if the line is not whole.
#[inline(always)]
pub(super) fn multibulk_header(
    line: &[u8],
    searched: &mut usize,
    limits: &Limits,
) -> Result<Option<(usize, usize)>, RequestError> {
    let (count, len) = match framing::plain(b'*', line) {
        Some((count, len)) => (count, len),
        None => match whole_line(line, searched, limits) {
            Line::Partial => return Ok(None),
            Line::TooLong => return Err(RequestError::MultibulkLineTooBig),
            Line::Whole(text, len) => match framing::number(text) {
                Some(count) => (usize::try_from(count).unwrap_or(0), len),
                None => return Err(RequestError::MultibulkLength),
            },
            Line::Broken => return Err(RequestError::MultibulkLength),
        },
    };
    if count > limits.args_max {
        return Err(excess(
            count > i32::MAX as usize || !limits.unauthenticated,
            RequestError::MultibulkLength,
            RequestError::UnauthenticatedMultibulk,
        ));
    }
    Ok(Some((count, len)))
}

/// The size in `$3\r\n` and the line's length; `None` if the line is not whole.
#[inline(always)]
pub(super) fn bulk_header(
    line: &[u8],
    searched: &mut usize,
    limits: &Limits,
) -> Result<Option<(usize, usize)>, RequestError> {
    let (size, len) = match framing::plain(b'$', line) {
        Some(header) => header,
        None => match bulk_header_slow(line, searched, limits)? {
            Some(header) => header,
            None => return Ok(None),
        },
    };
    if size > limits.bulk_max {
        return Err(excess(
            size > Limits::default().bulk_max || !limits.unauthenticated,
            RequestError::BulkLength,
            RequestError::UnauthenticatedBulk,
        ));
    }
    Ok(Some((size, len)))
}

#[cold]
fn bulk_header_slow(
    line: &[u8],
    searched: &mut usize,
    limits: &Limits,
) -> Result<Option<(usize, usize)>, RequestError> {
    let whole = whole_line(line, searched, limits);
    match (whole, line.first()) {
        (Line::Partial, _) => Ok(None),
        (Line::TooLong, _) => Err(RequestError::BulkLineTooBig),
        (_, Some(&byte)) if byte != b'$' => Err(RequestError::ExpectedBulk(byte)),
        (Line::Whole(text, len), _) => match framing::number(text).map(usize::try_from) {
            Some(Ok(size)) => Ok(Some((size, len))),
            _ => Err(RequestError::BulkLength),
        },
        (Line::Broken, _) => Err(RequestError::BulkLength),
    }
}

#[cold]
fn excess(plainly: bool, invalid: RequestError, unauthenticated: RequestError) -> RequestError {
    if plainly { invalid } else { unauthenticated }
}

enum Line<'a> {
    Partial,
    /// What stands between the first byte and the line break, and the length of all.
    Whole(&'a [u8], usize),
    /// A NUL, at which Redis would stop looking, or a `\r` without its `\n`.
    Broken,
    TooLong,
}

#[cold]
fn whole_line<'a>(line: &'a [u8], searched: &mut usize, limits: &Limits) -> Line<'a> {
    let reach = line.len().min(limits.inline_max.saturating_add(1));
    let from = (*searched).min(reach);
    let Some(found) = memchr2(b'\r', 0, &line[from..reach]) else {
        if line.len() > limits.inline_max {
            return Line::TooLong;
        }
        *searched = reach;
        return Line::Partial;
    };
    let end = from + found;
    *searched = end;
    match (line[end], line.get(end + 1)) {
        (0, _) => Line::Broken,
        (_, None) => Line::Partial,
        (_, Some(b'\n')) => Line::Whole(line.get(1..end).unwrap_or_default(), end + 2),
        (_, Some(_)) => Line::Broken,
    }
}

/// Why a request cannot be read.
///
/// Each is fatal to the connection, as nobody can say where the next request
/// begins: answer `-ERR <display>` and close. Only an [`HttpRequest`] is
/// closed without an answer. The words are Redis' own where Redis has any.
///
/// [`HttpRequest`]: RequestError::HttpRequest
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// `*` without a proper count, or more arguments than allowed.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// More arguments than an unauthenticated client may send.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulk,
    /// A `*` line without an end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLineTooBig,
    /// Something else than an argument where one was announced.
    #[error("Protocol error: expected '$', got '{}'", shown(*.0))]
    ExpectedBulk(u8),
    /// `$` without a proper size, or a larger argument than allowed.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A larger argument than an unauthenticated client may send.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulk,
    /// A `$` line without an end.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooBig,
    /// No line break behind an argument.
    #[error("Protocol error: expected CRLF after bulk")]
    BulkEnd,
    /// Quotes without their counterpart in a plain line.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A plain line without an end.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// A NUL in a plain line: most likely not this protocol at all.
    #[error("Protocol error: NUL in inline request")]
    InlineNul,
    /// A request of 4 GiB and more that was not streamed.
    #[error("Protocol error: request too big")]
    TooBig,
    /// `POST` or `Host:`: close without an answer.
    #[error("Possible SECURITY ATTACK detected: this looks like an HTTP request")]
    HttpRequest,
}

fn shown(byte: u8) -> char {
    match byte {
        b'\r' | b'\n' => ' ',
        other => char::from(other),
    }
}
