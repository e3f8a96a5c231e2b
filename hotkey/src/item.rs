//! A value in the L1: what a server said of a key, and until when it holds.

use crate::mutation::{Mutation, breaks};
use crate::{HotKey, KeyHash, Pulse};

/// What a server said of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is no such key.
    Missing,
    /// A string as RESP writes it in both versions: `$5\r\nhello\r\n`.
    Redis(Box<[u8]>),
    /// An item of a memcached server.
    Memcached {
        /// Client flags.
        flags: u32,
        /// The unique number, as `gets` gives it.
        cas: u64,
        /// The value without its line end.
        data: Box<[u8]>,
    },
}

impl Value {
    /// Bytes of the value itself.
    pub fn len(&self) -> usize {
        match self {
            Value::Missing => 0,
            Value::Redis(bytes) => bytes.len(),
            Value::Memcached { data, .. } => data.len(),
        }
    }

    /// Whether the key is missing or its value is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One entry of the L1. Immutable: a key with a new value gets a new item.
///
/// Times are nanoseconds of the process's clock.
#[derive(Debug)]
pub struct Item {
    /// The key's hash, its pool included.
    pub hash: KeyHash,
    /// The key's generation that this item belongs to.
    pub generation: u64,
    /// Index of the server that said it.
    pub server: u32,
    /// That server's epoch when the fill was sent.
    pub epoch: u64,
    /// When the fill was sent: the value is at least as new as that.
    pub sent: u64,
    /// How long the fill took.
    pub took: u64,
    /// Not to be served from here on; never later than the server's own time.
    pub expires: u64,
    /// What the server said.
    pub value: Value,
}

impl Item {
    /// Whether it may be served at `now` for this key, which must be the one
    /// with its hash.
    #[inline]
    pub fn is_fresh(&self, key: &HotKey, pulse: &Pulse, now: u64) -> bool {
        (self.generation == key.generation() || breaks(Mutation::NoFrontCheck))
            && now < self.expires
            && self.epoch == pulse.epoch()
            && pulse.is_alive(now)
    }

    /// Whether it has merely expired: nothing is known to have changed.
    pub fn has_merely_expired(&self, key: &HotKey, now: u64) -> bool {
        self.generation == key.generation() && now >= self.expires
    }

    /// Whether it is time to ask anew although it may still be served, so
    /// that nobody has to wait when it expires.
    ///
    /// `chance` is a uniform random number above 0 and at most 1. A reader
    /// comes early by an exponentially distributed time, longer the longer a
    /// fill takes (XFetch: Vattani, Chierichetti and Lowenstein 2015).
    pub fn is_due(&self, now: u64, beta: f64, chance: f64) -> bool {
        let early = self.took as f64 * beta * -chance.ln();
        now as f64 + early >= self.expires as f64
    }

    /// Bytes that the entry takes in memory, our best estimate.
    pub fn weight(&self) -> u32 {
        let bytes = self.value.len() + size_of::<Item>() + OVERHEAD;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What an entry costs beside itself: reference counts, the store's node and
/// queues, the allocator's rounding. The record `l1-memory` measures it.
const OVERHEAD: usize = 256;
