//! The L1 as the threads share it: who is hot, what is kept, and the thread
//! that fetches it.
//!
//! ```text
//!   worker                                     l1 thread
//!     | GET of a promoted key                     |
//!     | front, store: fresh? -> answered          |
//!     | else Ask::Fill ------------------------>  | one connection per server
//!     |    (its client's slot waits)              |   CLIENT CACHING YES; PTTL; GET
//!     | <------------ Message::Filled ----------  | install(token), store
//!     | answers every slot that waits             | <- invalidations, heartbeats
//! ```
//!
//! Fills of a server go through one connection of this thread, so that a
//! server tracks promoted keys once a process and not once a worker. Rules of
//! the fill protocol are numbered as in `docs/l1.md`.

mod bus;
mod desk;
pub mod encode;
mod fetch;
mod memcached;
mod peer;
mod thread;

use std::sync::Arc;
use std::time::Instant;

use emberline_hotkey::{Board, Held, HotKey, KeyHash, KeyHasher, Pulse, Store, Token};
use emberline_routing::ServerId;
use tokio::sync::mpsc;

use crate::running::Running;
pub use fetch::{Asked, Fetch, Said};
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
    pub pulses: Box<[Pulse]>,
    /// What the clock of the process counts from.
    pub epoch: Instant,
    asks: mpsc::UnboundedSender<Ask>,
}

/// What a worker wants of the L1's thread.
#[derive(Debug)]
pub enum Ask {
    /// Fetch a promoted key's value. Answered by one `Filled` to this worker;
    /// several asks with the same token are one flight.
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
    /// The value cannot be kept (another type, too large): ask the server.
    Unfit,
    /// The key is missing and its lease is this worker's: it tells exactly one
    /// of those who wait that the key is missing. The others go on waiting for
    /// the same flight, which lands again. Sent to one worker of a flight.
    Lease,
    /// The server gave no answer.
    Failed,
}

/// Answer to an [`Ask::Fill`].
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
    pub fn new(running: &Running) -> (Arc<L1>, mpsc::UnboundedReceiver<Ask>) {
        let (asks, asked) = mpsc::unbounded_channel();
        let l1 = L1 {
            hasher: KeyHasher::random(),
            board: Board::default(),
            store: Store::new(running.l1_capacity),
            pulses: running.servers.iter().map(|_| Pulse::default()).collect(),
            epoch: Instant::now(),
            asks,
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
        let _ = self.asks.send(ask);
    }

    /// A server's pulse.
    #[inline]
    pub fn pulse(&self, server: u32) -> Option<&Pulse> {
        self.pulses.get(server as usize)
    }
}
