//! Replies of servers: where one ends, and what merging needs to know of it.
use crate::Scan;

/// Finds the end of one reply after another.
#[derive(Debug, Default)]
pub struct Scanner {}

impl Scanner {
    /// How much of `buf` belongs to the reply.
    pub fn feed(&mut self, _buf: &[u8]) -> Result<Scan, ReplyError> {
        Ok(Scan::More(0))
    }
    /// Bytes of the bulk now being received that have not come.
    pub fn body_missing(&self) -> usize {
        0
    }
    /// Expects the first byte of a reply again.
    pub fn reset(&mut self) {}
}

/// Whether the next item is an out-of-band push.
pub fn first_is_push(buf: &[u8]) -> bool {
    buf.first() == Some(&b'>')
}

/// Length of the whole reply at the start of `buf`, if it is whole.
pub fn skip(_buf: &[u8]) -> Result<Option<usize>, ReplyError> {
    Ok(None)
}

/// The elements of an array, set or push reply as raw bytes.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
}

/// Takes an array apart.
pub fn elements(reply: &[u8]) -> Result<Elements<'_>, ReplyError> {
    Ok(Elements {
        rest: reply,
        left: 0,
    })
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let _ = self.rest;
        None
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Elements<'_> {}

/// The value of an integer reply.
pub fn integer(_reply: &[u8]) -> Option<i64> {
    None
}

/// Whether a reply is an error.
pub fn is_error(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'-' | b'!'))
}

/// What a server did wrong. Its connection must be discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A reply cannot start with this byte.
    #[error("a reply cannot start with byte {0:#04x}")]
    Kind(u8),
}
