//! What both protocols' replies consist of, as the load generator sees them.

/// A piece of a reply, in the order in which it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A value begins. Memcached says of which key; Redis answers by position.
    Value {
        /// The key as the reply names it.
        name: Option<&'a [u8]>,
        /// Bytes of the value.
        len: u64,
    },
    /// The next bytes of the value.
    Chunk(&'a [u8]),
    /// The value is whole.
    ValueEnd,
    /// A key without a value (Redis).
    Missing,
    /// Anything else that is no error: `OK`, a number, `STORED`.
    Status,
    /// An error reply, or an error in place of an element.
    Error(&'a [u8]),
    /// The reply is whole.
    End,
}

/// Bytes that are no reply: the stream cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl Malformed {
    /// Quote the line that could not be read.
    pub fn line(line: &[u8]) -> Malformed {
        let shown = &line[..line.len().min(80)];
        Malformed(format!(
            "unreadable reply line \"{}\"",
            shown.escape_ascii()
        ))
    }
}

/// Lines are short in what we ask for; more than this without a newline is no reply.
pub const LINE_MAX: usize = 64 << 10;

/// A value being received: its bytes, then the line end behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Body {
    left: u64,
    line_end: u8,
}

impl Body {
    /// A value of `len` bytes follows, and CR LF behind it.
    pub fn new(len: u64) -> Body {
        Body {
            left: len,
            line_end: 2,
        }
    }

    /// Take what `buf` has of the body: how many bytes, and whether it is whole now.
    pub fn take<'a>(&mut self, buf: &'a [u8], sink: &mut impl FnMut(Event<'a>)) -> (usize, bool) {
        let data = self.left.min(buf.len() as u64) as usize;
        if data > 0 {
            sink(Event::Chunk(&buf[..data]));
            self.left -= data as u64;
        }
        if self.left > 0 {
            return (data, false);
        }
        let end = usize::from(self.line_end).min(buf.len() - data);
        self.line_end -= end as u8;
        (data + end, self.line_end == 0)
    }
}

/// The line at the start of `buf` without its line end, and its whole length.
pub fn line(buf: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    match memchr::memchr(b'\n', buf) {
        Some(end) => {
            let line = &buf[..end];
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
        }
        None if buf.len() > LINE_MAX => Err(Malformed::line(buf)),
        None => Ok(None),
    }
}

/// A decimal number that fills the whole text.
pub fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
