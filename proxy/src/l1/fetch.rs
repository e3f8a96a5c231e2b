//! One value to be fetched from a server, and what the server said.

use std::sync::Arc;
use std::time::Duration;

use emberline_hotkey::{HotKey, Token, Value};

/// A value to be fetched.
#[derive(Debug)]
pub struct Fetch {
    /// The key.
    pub key: Arc<HotKey>,
    /// Taken before the server is asked.
    pub token: Token,
}

/// What a server said.
#[derive(Debug)]
pub enum Said {
    /// The value, or that there is none, and how long it has to live there;
    /// `None` for as long as the server likes.
    Value(Value, Option<Duration>),
    /// It cannot be kept: another type, too large, or half-way to something
    /// else (a stale item, somebody's lease).
    Unfit,
    /// No answer.
    Failed,
}
