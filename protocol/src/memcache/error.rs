//! What can be wrong with a request or a reply, and how to go on after it.

use std::borrow::Cow;

/// A request that is answered with an error instead of being forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reply}")]
pub struct RequestError {
    /// The line to answer, without its CRLF, as memcached says it. Empty:
    /// answer nothing.
    pub reply: Cow<'static, str>,
    /// Where the next request begins.
    pub recovery: Recovery,
}

/// Where the next request begins after a refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Skip this many bytes, all of which are in the buffer.
    Skip(usize),
    /// Skip this many bytes, some of which may not have come yet.
    Swallow(usize),
    /// Nowhere: answer, then close the connection.
    Close,
}

/// A server's reply that is not memcached's protocol.
///
/// The connection that it came on cannot be trusted with another reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No newline within the longest line a reply may have.
    #[error("reply line is too long")]
    LineTooLong,
    /// The first word is none that memcached sends.
    #[error("reply starts with an unknown word")]
    UnknownWord,
    /// A value's header does not say its size.
    #[error("value header is malformed")]
    BadHeader,
    /// A data block does not end in CRLF.
    #[error("data block is not followed by a line end")]
    BadDataEnd,
}
