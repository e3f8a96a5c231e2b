//! One value to be fetched from a server, and what the server said.

use std::sync::Arc;
use std::time::Duration;

use emberline_hotkey::{HotKey, Token, Value};
use emberline_routing::ServerId;

/// A value to be fetched.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The key.
    pub key: Arc<HotKey>,
    /// Taken before the server is asked.
    pub token: Token,
    /// Where the key lives.
    pub server: ServerId,
    /// The flight that it is for; no two have the same number, so a reply that
    /// comes too late lands nowhere.
    pub flight: u64,
}

/// What was true when a server was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When, in nanoseconds of the process's clock; never later than the bytes left.
    pub sent: u64,
    /// The server's epoch at that time.
    pub epoch: u64,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// The value, or that there is none, and how long it has to live from when
    /// the server was asked; `None` for as long as the server likes.
    Value(Value, Option<Duration>),
    /// It cannot be kept: another type, too large, or half-way to something
    /// else (a stale item, somebody's lease).
    Unfit,
    /// It is too large to be kept, and nothing else is wrong with it.
    TooLarge,
    /// memcached: there is no such key, and the server has given us the lease
    /// of it (`l1.lease`). One of those who wait is to be told that the key is
    /// missing, so that it sets it; the fill goes on for the others and lands
    /// again.
    Lease,
    /// No answer.
    Failed,
}
