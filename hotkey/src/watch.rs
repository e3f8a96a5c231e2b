//! One worker's eyes on one pool.

use crate::{Board, Detector, Heat, KeyHash, Settings};

/// What a request does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Leaves it as it is.
    Read,
    /// Changes it.
    Write,
}

/// What counts as hot in a pool.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// The sliding window in milliseconds.
    pub window_ms: u64,
    /// Requests in the window, over all workers, from which on a key is hot.
    pub threshold: u64,
    /// Bytes of replies in the window from which on a key is hot.
    pub threshold_bytes: Option<u64>,
    /// One request of this many is counted.
    pub sample: u32,
    /// A promoted key stays so for at least this long, in milliseconds.
    pub hold_ms: u64,
    /// By prefix; the longest that matches a key counts.
    pub rules: Vec<Rule>,
    /// Keys that are always promoted.
    pub always: Vec<Box<[u8]>>,
}

/// What counts as hot among the keys with a prefix.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Of the whole key.
    pub prefix: Box<[u8]>,
    /// As in [`WatchSettings`].
    pub window_ms: u64,
    /// As in [`WatchSettings`].
    pub threshold: u64,
    /// As in [`WatchSettings`].
    pub hold_ms: u64,
}

/// See the module's description.
#[derive(Debug)]
pub struct Watch {
    pool: u16,
    reads: Detector,
}

impl Watch {
    /// Worker `worker` of `workers` looks at `pool`.
    pub fn new(
        settings: &WatchSettings,
        pool: u16,
        worker: usize,
        workers: usize,
        now_ms: u64,
    ) -> Watch {
        let _ = worker;
        let settings = Settings {
            window_ms: settings.window_ms,
            threshold: settings.threshold / workers.max(1) as u64,
        };
        Watch {
            pool,
            reads: Detector::new(settings, now_ms),
        }
    }

    /// Count a request.
    #[inline]
    pub fn record(
        &mut self,
        board: &Board,
        access: Access,
        hash: KeyHash,
        key: &[u8],
        now_ms: u64,
    ) {
        if access == Access::Write {
            return;
        }
        self.reads.record(hash, 1, now_ms);
        if self.reads.changed() {
            for heat in self.reads.changes() {
                match heat {
                    Heat::Promoted(hot) if hot == hash => board.promote(hash, self.pool, key),
                    Heat::Promoted(_) => {}
                    Heat::Demoted(hot) => board.demote(hot),
                }
            }
        }
    }

    /// Count the bytes of a reply to a read of this key.
    #[inline]
    pub fn reply(&mut self, board: &Board, hash: KeyHash, bytes: usize, now_ms: u64) {
        let _ = (board, hash, bytes, now_ms);
    }

    /// To be called a few times a second, requests or none.
    pub fn tick(&mut self, board: &Board, now_ms: u64) {
        self.reads.tick(now_ms);
        for heat in self.reads.changes() {
            if let Heat::Demoted(hot) = heat {
                board.demote(hot);
            }
        }
    }
}
