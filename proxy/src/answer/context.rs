//! What an answer may need to know beyond the request and its connection.

use std::fmt;

use crate::metrics::hotkeys::Hot;
use crate::running::{Listener, Running};

/// The surroundings of a request.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The configuration in force.
    pub running: &'a Running,
    /// Where this client connected.
    pub listener: &'a Listener,
    /// Milliseconds since the Unix epoch.
    pub now: u64,
    /// Called by the few commands that print figures (`INFO`, `stats`), at
    /// most once a request, so that gathering them may cost something.
    pub figures: &'a dyn Fn() -> Figures,
    /// The hot keys of the listener's pools, in no order. Called by `HOTKEYS`
    /// and `stats hotkeys` alone, for the same reason.
    pub hotkeys: &'a dyn Fn() -> Vec<Hot>,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("listener", &self.listener.name)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// Figures of the whole process, summed over its workers.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// When the process started, in milliseconds since the Unix epoch.
    pub started: u64,
    /// Clients connected now, over all listeners.
    pub clients: u64,
    /// Clients accepted since the start.
    pub connections: u64,
    /// Clients turned away since the start.
    pub rejected: u64,
    /// Requests answered since the start, over all listeners.
    pub requests: u64,
    /// Of those, the ones answered with an error.
    pub errors: u64,
    /// Bytes received from clients since the start.
    pub bytes_in: u64,
    /// Bytes sent to clients since the start.
    pub bytes_out: u64,
    /// Bytes that buffers hold now.
    pub buffered: u64,
    /// memcached retrievals since the start.
    pub gets: u64,
    /// memcached stores since the start.
    pub sets: u64,
    /// memcached touches since the start.
    pub touches: u64,
    /// memcached `flush_all`s since the start.
    pub flushes: u64,
    /// Per server, indexed by `ServerId`; may be shorter than the servers are many.
    pub servers: Vec<ServerFigures>,
}

/// Figures of one server, summed over the workers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerFigures {
    /// Whether the last attempt to reach it succeeded; `None` before the first.
    pub up: Option<bool>,
    /// Requests waiting for its reply now.
    pub inflight: u64,
    /// Requests it answered since the start.
    pub requests: u64,
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Then {
    /// The next request may follow.
    Continue,
    /// Send what was answered, then close.
    Close,
}
