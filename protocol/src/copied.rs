//! What one server says of an item, so that another server can be given it.
//!
//! A copy is asked for, read and added in three steps, none of which is I/O:
//!
//! ```text
//!               Redis                     memcached
//!   ask         PTTL k, DUMP k            mg k v f t k
//!   fetched     :1500  $12 payload        VA 3 f7 t30 kk
//!   add         RESTORE k 1500 payload    ms k 3 T30 F7 ME
//! ```
//!
//! Added, never set: whoever wrote the key meanwhile knows better. What the
//! add became of is told by [`crate::redis::outcome`] and
//! [`crate::memcache::outcome`]; `NotDone` means that there was something.

use std::ops::Range;
use std::time::Duration;

/// An item as one server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Where its bytes are in the buffer of replies: memcached's value, or
    /// what Redis' DUMP made of a value of any type.
    pub payload: Range<usize>,
    /// How long it still has to live; `None` is for ever. Never zero.
    pub ttl: Option<Duration>,
    /// memcached's client flags; 0 in Redis.
    pub flags: u32,
    /// Whether memcached knows the item by a base64 key (the meta flag `b`),
    /// and says so to those who ask for its key.
    pub base64: bool,
}

/// What the replies to `ask` hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// They are not whole yet: call again with the same bytes and more. The
    /// payload is among them, so the caller decides how many are too many.
    Partial,
    /// There is nothing to copy.
    Missing {
        /// Bytes of the replies.
        len: usize,
    },
    /// There is an item.
    Found {
        /// The item.
        copied: Copied,
        /// Bytes of the replies.
        len: usize,
    },
}

/// Why the replies say nothing about the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The server answered with an error. All replies have come.
    #[error("the server refused to give a copy")]
    Refused {
        /// Bytes of the replies.
        len: usize,
    },
    /// The replies are not those to what was asked; the connection must be
    /// discarded.
    #[error("expected the time to live and the value of an item, and got another reply")]
    Unexpected,
}

impl Copied {
    /// The life of the copy: the item's, but never longer than `ttl_max`.
    pub(crate) fn life(&self, ttl_max: Option<Duration>) -> Option<Duration> {
        match (self.ttl, ttl_max) {
            (Some(ttl), Some(max)) => Some(ttl.min(max)),
            (ttl, max) => ttl.or(max),
        }
    }
}
