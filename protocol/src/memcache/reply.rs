//! Finds where a server's reply ends.

use super::ReplyError;
use crate::Scan;

/// Follows replies through a server's bytes.
#[derive(Debug, Default)]
pub struct Scanner {
    missing: usize,
}

impl Scanner {
    /// Looks for the end of the reply.
    pub fn feed(&mut self, _buf: &[u8]) -> Result<Scan, ReplyError> {
        Ok(Scan::More(0))
    }

    /// Bytes of the data block now being received that have not come.
    pub fn body_missing(&self) -> usize {
        self.missing
    }

    /// Forgets the reply that was begun.
    pub fn reset(&mut self) {
        *self = Scanner::default();
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

/// The items of a get reply.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
}

/// The items of a whole get reply, up to its `END`.
pub fn values(reply: &[u8]) -> Values<'_> {
    Values { rest: reply }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.rest = &[];
        None
    }
}

/// Whether a reply is `ERROR`, `CLIENT_ERROR` or `SERVER_ERROR`.
pub fn is_error(reply: &[u8]) -> bool {
    [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"]
        .iter()
        .any(|p| reply.starts_with(p))
}
