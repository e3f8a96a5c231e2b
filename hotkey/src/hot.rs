//! One promoted key, as all workers share it: its generation.
//!
//! Whether a value may be installed, and whether one may be served, are the
//! same question: *has anything happened to the key since?* The generation is
//! the answer. A fill takes a [`Token`] before it asks the server; whatever
//! concerns the key in the meantime (a local write, a push, the bus) moves the
//! generation on, and the token is worth nothing any more:
//!
//! ```text
//!                begin                    install(token)
//!   Absent(g) ----------> Filling(g) ------------------------> Present(g+1)
//!      ^                      |  invalidate: g+1                   |
//!      |                      v                                    | invalidate: g+2
//!      +---------------- Poisoned(g, now g+1) <--------------------+
//! ```
//!
//! Nothing is removed when a key is invalidated: an item that carries another
//! generation than its key is not served. So an invalidation is one atomic
//! addition, whoever does it, and every worker's own copy is stale at once.
//!
//! Generations of one key never repeat, nor do those of a key that is demoted
//! and promoted again: each [`HotKey`] starts in a range of its own. After
//! 2^23 promotions the ranges begin anew; that could hurt only if an item of
//! the same key had waited for all of them, and no item lives that long.
//!
//! Everything that changes a generation is one read-modify-write: `tests/loom.rs`
//! checks all their orders.

use crate::sync::{AtomicU64, Ordering};

use crate::KeyHash;
use crate::mutation::{Mutation, breaks};

/// Set in the generation of a key that is no longer promoted. Counting up does
/// not clear it, so a retired key stays retired whoever still invalidates it.
const RETIRED: u64 = 1 << 63;

/// Every promoted key has this many generations to itself.
const RANGE_BITS: u32 = 40;

/// A key that drew enough requests to be worth memory of its own.
#[derive(Debug)]
pub struct HotKey {
    /// Its hash, its pool included.
    pub hash: KeyHash,
    /// Index of its pool.
    pub pool: u16,
    /// The key as clients send it (base64 decoded).
    pub key: Box<[u8]>,
    /// See the module's description.
    generation: AtomicU64,
    /// No fill may begin before this time (nanoseconds).
    quarantine: AtomicU64,
    /// The generation whose value further servers have a copy of.
    copied: AtomicU64,
    /// Until when those copies are there (nanoseconds).
    copied_until: AtomicU64,
    /// Until when a server may have something that was meant as a copy.
    placed_until: AtomicU64,
}

/// The right to install what a server is about to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// The generation in which the fill began: fills of one key in the same
    /// generation are one flight.
    pub fn generation(self) -> u64 {
        self.0
    }
}

impl HotKey {
    /// A key promoted just now; `serial` is different for every promotion in
    /// the process.
    pub fn new(hash: KeyHash, pool: u16, key: &[u8], serial: u64) -> HotKey {
        HotKey {
            hash,
            pool,
            key: key.into(),
            generation: AtomicU64::new((serial << RANGE_BITS) & !RETIRED),
            quarantine: AtomicU64::new(0),
            copied: AtomicU64::new(RETIRED),
            copied_until: AtomicU64::new(0),
            placed_until: AtomicU64::new(0),
        }
    }

    /// The generation that an item must carry to be served.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// A fill begins: `None` if the key is no longer promoted, or if a write
    /// to it ended in doubt a short time before `now`.
    ///
    /// To be called *before* the server is asked.
    pub fn begin(&self, now: u64) -> Option<Token> {
        // The quarantine is looked at last: one that comes in between has
        // poisoned the token.
        let generation = self.generation();
        let quarantined = now < self.quarantine.load(Ordering::SeqCst);
        (generation & RETIRED == 0 && !quarantined).then_some(Token(generation))
    }

    /// The server has answered: the generation that the item is to carry, or
    /// `None` if something has happened to the key since the token was taken.
    pub fn install(&self, token: Token) -> Option<u64> {
        let next = token.0 + 1;
        if breaks(Mutation::NoPoison) && !self.is_retired() {
            return Some(self.generation());
        }
        self.generation
            .compare_exchange(token.0, next, Ordering::SeqCst, Ordering::SeqCst)
            .ok()
            .map(|_| next)
    }

    /// Something has happened, or may have happened, to the key's value; or a
    /// reader has been given the server's own answer, which may be newer than
    /// what is kept or being fetched.
    pub fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// A write to the key ended in doubt: it may still take effect until
    /// `until`, so nothing may be filled before.
    pub fn quarantine(&self, until: u64) {
        self.quarantine.fetch_max(until, Ordering::SeqCst);
        self.invalidate();
    }

    /// Further servers are about to be given copies, which they may have until
    /// `until`, whether or not anybody comes to read them.
    pub fn placing(&self, until: u64) {
        self.placed_until.fetch_max(until, Ordering::SeqCst);
    }

    /// Further servers have been given what the key's own server said to the
    /// holder of this token. They have it until `until`.
    pub fn copied(&self, token: Token, until: u64) {
        self.copied_until.store(until, Ordering::SeqCst);
        self.copied.store(token.0, Ordering::SeqCst);
    }

    /// Whether copies may be read: nothing has happened to the key since they
    /// were made.
    pub fn is_copied(&self, now: u64) -> bool {
        now < self.copied_until.load(Ordering::SeqCst)
            && self.copied.load(Ordering::SeqCst) == self.generation()
    }

    /// Whether there may be copies, good or not.
    pub fn has_copies(&self, now: u64) -> bool {
        now < self.placed_until.load(Ordering::SeqCst)
    }

    /// The key is no longer promoted; nothing of it is served or installed
    /// from here on.
    pub fn retire(&self) {
        self.generation.fetch_or(RETIRED, Ordering::SeqCst);
    }

    /// Whether the key is no longer promoted.
    pub fn is_retired(&self) -> bool {
        self.generation() & RETIRED != 0
    }
}
