//! The L1 as the threads share it: who is hot, what is kept, and the thread
//! that fetches it.
//!
//! ```text
//!   worker                                     l1 thread
//!     | GET of a promoted key                     |
//!     | front, store: fresh? -> answered          |
//!     | else Ask::Fill ------------------------>  | one connection per server
//!     |    (its client's slot waits)              |   CLIENT CACHING YES; PTTL; GET
//!     | <------------ Message::Landed ----------  | install(token), store
//!     | answers every slot that waits             | <- invalidations, heartbeats
//! ```
//!
//! Fills of a server go through one connection of this thread, so that a
//! server tracks promoted keys once a process and not once a worker. Rules of
//! the fill protocol are numbered as in `docs/l1.md`.

mod bus;
mod copying;
mod desk;
mod doubts;
pub mod encode;
mod fetch;
mod fitness;
mod flights;
mod ledger;
mod links;
mod memcached;
mod peer;
pub mod preload;
mod redis;
mod thread;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use emberline_hotkey::{Board, Held, HotKey, HotSet, KeyHash, KeyHasher, Pulse, Store, Token};
use emberline_routing::{PoolId, ServerId};
use tokio::sync::mpsc;

use crate::generation::Generation;
use crate::running::Running;
use crate::shelf::Shelf;
use doubts::Doubts;
pub use fetch::{Asked, Fetch, Said};
pub use links::{LinkState, Links};
use preload::Preload;
pub use thread::spawn;

/// What all threads share of the L1.
#[derive(Debug)]
pub struct L1 {
    /// Turns keys into hashes; the same in all workers.
    pub hasher: KeyHasher,
    /// Which keys are promoted.
    pub board: Board,
    /// Their items.
    pub store: Store,
    /// By `ServerId`: whether its items may be served.
    pub pulses: Shelf<Pulse>,
    /// How the thread's connections are.
    pub links: Links,
    /// What the clock of the process counts from.
    pub epoch: Instant,
    /// What it begins with, if a list of that is kept.
    pub preload: Option<Preload>,
    asks: mpsc::UnboundedSender<Given>,
    doubts: Mutex<Doubts>,
    /// Whether there are any: saves the lock.
    doubtful: AtomicBool,
}

/// Something that the thread was asked for.
#[derive(Debug)]
pub struct Given {
    ask: Ask,
    /// It follows from this generation of the configuration, and from no other.
    under: Option<u64>,
}

/// What a worker wants of the L1's thread.
#[derive(Debug)]
pub enum Ask {
    /// Go on under this generation. Answered when nothing that was read under
    /// an older one, and would be read otherwise now, can be served any more.
    Reload(Arc<Generation>, std::sync::mpsc::Sender<()>),
    /// Fetch a promoted key's value. Answered by one [`Landed`] with this token
    /// to this worker; several asks with the same token are one flight, and a
    /// worker that asks twice before it lands is told once.
    Fill {
        /// The key.
        key: Arc<HotKey>,
        /// Taken by the worker just now.
        token: Token,
        /// Where the key lives.
        server: ServerId,
        /// Who wants to be told; `None` for an early refresh, which nobody
        /// waits for.
        worker: Option<usize>,
    },
    /// Give copies of a promoted key to further servers. Answered by one
    /// `Copied` or `Failed` to this worker.
    Copy {
        /// The key.
        key: Arc<HotKey>,
        /// Taken by the worker just now.
        token: Token,
        /// Where the key lives.
        home: ServerId,
        /// Where copies are to live.
        copies: Vec<ServerId>,
        /// Who wants to be told.
        worker: usize,
    },
    /// Tell other proxies that a key has been written through this one.
    Publish {
        /// Index of its pool.
        pool: u16,
        /// The whole key.
        key: Box<[u8]>,
    },
}

/// How a fill ended.
#[derive(Clone, Debug)]
pub enum Filled {
    /// The server's answer, for those who waited. It may also be served to
    /// others, if its generation is still the key's.
    Item(Arc<Held>),
    /// The value cannot be kept (another type, too large, changing too often):
    /// ask the server.
    Unfit {
        /// Nothing is fetched for the key before this time, in nanoseconds of
        /// the process's clock: whoever asks sooner gets this answer again.
        until: u64,
        /// It is too large, and nothing else is wrong with it.
        large: bool,
    },
    /// The key is missing and its lease is this worker's: it tells exactly one
    /// of those who wait that the key is missing. The others go on waiting for
    /// the same flight, which lands again. Sent to one worker of a flight.
    Lease,
    /// Further servers have copies, unless something has happened to the key
    /// since: the key itself [says](HotKey::is_copied) whether they are good.
    Copied,
    /// The server gave no answer.
    Failed,
}

/// Answer to an [`Ask::Fill`] or [`Ask::Copy`].
#[derive(Clone, Debug)]
pub struct Landed {
    /// The key's hash.
    pub hash: KeyHash,
    /// The token of the flight.
    pub token: Token,
    /// How it ended.
    pub filled: Filled,
}

impl L1 {
    /// An empty L1 for this configuration, and what its thread listens to.
    pub fn new(running: &Running) -> (Arc<L1>, mpsc::UnboundedReceiver<Given>) {
        let (asks, asked) = mpsc::unbounded_channel();
        let (hasher, board) = (KeyHasher::random(), Board::default());
        for (PoolId(pool), settings) in running.pools() {
            board.always(&hasher, pool, &settings.hotkey.always);
        }
        let l1 = L1 {
            hasher,
            board,
            store: Store::new(running.l1_capacity),
            pulses: Shelf::new(running.servers.places()),
            links: Links::new(running.servers.places()),
            epoch: Instant::now(),
            preload: running.preload.as_ref().map(Preload::new),
            asks,
            doubts: Mutex::default(),
            doubtful: AtomicBool::new(false),
        };
        (Arc::new(l1), asked)
    }

    /// Nanoseconds of the process's clock.
    pub fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Hand something to the thread.
    pub fn ask(&self, ask: Ask) {
        // The thread ends with the process only.
        let _ = self.asks.send(Given { ask, under: None });
    }

    /// The same, of what this generation of the configuration has led to: it
    /// fails if the thread is further already, because the key's server may be
    /// another one now.
    pub fn ask_under(&self, generation: u64, ask: Ask) {
        let under = Some(generation);
        let _ = self.asks.send(Given { ask, under });
    }

    /// A write to a key that is not promoted ended in doubt at `now`: if it is
    /// promoted before `until`, nothing may be filled before then.
    pub fn doubt(&self, hash: KeyHash, until: u64, now: u64) {
        self.doubts().add(hash, until, now);
        self.doubtful.store(true, Ordering::SeqCst);
    }

    /// Keep keys that were promoted just now from being filled while writes to
    /// them are in doubt.
    pub fn quarantine_doubtful(&self, set: &HotSet) {
        if !self.doubtful.load(Ordering::SeqCst) {
            return;
        }
        let now = self.now();
        let mut doubts = self.doubts();
        let left = doubts.tidy(now);
        for key in set.keys() {
            let until = doubts.until(key.hash);
            if until > now {
                key.quarantine(until);
            }
        }
        self.doubtful.store(left, Ordering::SeqCst);
    }

    fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server's pulse.
    #[inline]
    pub fn pulse(&self, server: u32) -> Option<&Pulse> {
        self.pulses.get(server as usize)
    }
}
