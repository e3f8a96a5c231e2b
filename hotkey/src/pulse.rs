//! Whether what was read from a server may still be served: its epoch and the
//! time until which its invalidations are known to have arrived.
//!
//! There is one pulse per server. In `tracking` mode its connection pings: a
//! server pushes every invalidation before the PONG, so when a ping sent at
//! `s` has been answered, everything that happened before `s` is known here,
//! and what is served until `s + H` is at most `H` old. In `ttl` mode nothing
//! is pushed and the pulse never stops; only the epoch is used.

use crate::sync::{AtomicU64, Ordering};

/// See the module's description. Times are nanoseconds of the process's clock.
#[derive(Debug)]
pub struct Pulse {
    epoch: AtomicU64,
    alive_until: AtomicU64,
}

impl Default for Pulse {
    /// A server of which nothing may be served yet.
    fn default() -> Pulse {
        Pulse {
            epoch: AtomicU64::new(0),
            alive_until: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// The epoch that an item of this server must carry to be served.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Everything read from this server so far is not to be served any more:
    /// its connection was lost, or it said that all keys have gone.
    pub fn turn(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether items of this server may be served at `now`.
    #[inline]
    pub fn is_alive(&self, now: u64) -> bool {
        now < self.alive_until.load(Ordering::SeqCst)
    }

    /// Items may be served until this time; `u64::MAX` where nothing has to
    /// be heard from the server.
    pub fn beat(&self, until: u64) {
        self.alive_until.store(until, Ordering::SeqCst);
    }

    /// Serve nothing until the next [`beat`](Pulse::beat).
    pub fn stop(&self) {
        self.alive_until.store(0, Ordering::SeqCst);
    }
}
