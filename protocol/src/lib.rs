//! Bytes to requests and replies, and back, for Redis and memcached.
//!
//! This crate knows both wire formats and nothing else: it does no I/O, reads
//! no clock and depends on no async runtime. Every parser is incremental,
//! iterative (never recursive on input), bounded by explicit limits that are
//! checked before anything is allocated, and preserves bytes: it reports
//! *where* things are in the caller's buffer, so that what is forwarded is
//! what came.

#![forbid(unsafe_code)]

mod copied;
mod edit;
pub mod memcache;
mod outcome;
pub mod redis;

pub use copied::{Copied, CopyError, Fetched};
pub use edit::{Edit, Rename, TtlRule};
pub use outcome::Outcome;

/// What a request does to its key, in the words that routes and metrics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Leaves the key as it is.
    Read,
    /// Stores or changes a value.
    Write,
    /// Removes the key.
    Delete,
    /// Adds to or subtracts from a number.
    Counter,
    /// Changes the expiry alone.
    Touch,
    /// Concerns no single key.
    Other,
}

/// Whether a byte stream holds a whole item yet.
///
/// Needing more bytes is not an error, so it is not in the error type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The item ends `usize` bytes into the buffer that was fed.
    Done(usize),
    /// The first `usize` bytes of the buffer belong to the item and may be
    /// passed on; the bytes behind them must be fed again with more.
    More(usize),
}
