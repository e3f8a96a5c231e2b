//! What can be wrong with a request or a reply, and how to go on after it.

use std::borrow::Cow;

/// A request that is answered at once instead of being forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reply}")]
pub struct RequestError {
    /// The line to answer, without its CRLF, as memcached says it. Empty:
    /// answer nothing, because the request said `noreply` or because there is
    /// nobody to understand the answer.
    pub reply: Cow<'static, str>,
    /// Where the next request begins.
    pub recovery: Recovery,
}

impl RequestError {
    pub(super) const fn new(reply: &'static str, recovery: Recovery) -> RequestError {
        RequestError {
            reply: Cow::Borrowed(reply),
            recovery,
        }
    }
}

/// Where the next request begins after a refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Skip this many bytes, all of which are in the buffer.
    Skip(usize),
    /// Skip this many bytes, some of which may not have come yet: the line of
    /// a refused value and the value itself.
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
    /// The first word is none that memcached sends here.
    #[error("reply starts with an unknown word")]
    UnknownWord,
    /// A value's header does not say its size.
    #[error("value header is malformed")]
    BadHeader,
    /// A data block does not end in CRLF.
    #[error("data block is not followed by a line end")]
    BadDataEnd,
}

/// The error lines of memcached 1.6.18, word for word.
pub(super) mod says {
    pub const ERROR: &str = "ERROR";
    pub const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
    pub const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
    pub const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
    pub const DELETE_USAGE: &str =
        "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
    pub const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";
    pub const FLAGS_TOO_LONG: &str = "CLIENT_ERROR options flags too long";
    pub const FLAGS_TOO_LONG_GET: &str = "CLIENT_ERROR options flags are too long";
    pub const DUPLICATE_FLAG: &str = "CLIENT_ERROR duplicate flag";
    pub const INVALID_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag";
    pub const BAD_BASE64: &str = "CLIENT_ERROR error decoding key";
    /// memcached closes the connection without a word; a word helps.
    pub const LINE_TOO_LONG: &str = "CLIENT_ERROR line too long";
}
