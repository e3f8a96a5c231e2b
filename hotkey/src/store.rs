//! The L1's store of record, shared by all workers and weighed in bytes.
//!
//! It holds the items of promoted keys alone. A hit costs several hundred
//! nanoseconds here, so workers keep what they serve in a [`Front`](crate::Front)
//! of their own and come here only when that has nothing fresh.
//!
//! The store decides what stays, not what may be served: that is the item's
//! own business (generation, epoch, expiry). An item that the store has let go
//! may live on in a front for a moment. It is counted until the last one has
//! dropped it, and while that would take more than a tenth above the capacity,
//! nothing new is taken in.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::{Item, KeyHash};

/// See the module's description.
#[derive(Debug)]
pub struct Store {
    cache: Cache<KeyHash, Arc<Held>, foldhash::fast::RandomState>,
    capacity: u64,
    live: Arc<AtomicU64>,
}

/// An item whose bytes are counted as long as anybody holds it.
#[derive(Debug)]
pub struct Held {
    item: Item,
    live: Arc<AtomicU64>,
}

impl Deref for Held {
    type Target = Item;

    fn deref(&self) -> &Item {
        &self.item
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let weight = u64::from(self.item.weight());
        self.live.fetch_sub(weight, Ordering::Relaxed);
    }
}

impl Store {
    /// An empty store of this capacity in bytes.
    pub fn new(capacity: u64) -> Store {
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, held: &Arc<Held>| held.weight())
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(foldhash::fast::RandomState::default());
        Store {
            cache,
            capacity,
            live: Arc::default(),
        }
    }

    /// Wrap an item so that its bytes are counted. It is not stored yet.
    pub fn hold(&self, item: Item) -> Arc<Held> {
        let weight = u64::from(item.weight());
        self.live.fetch_add(weight, Ordering::Relaxed);
        let live = Arc::clone(&self.live);
        Arc::new(Held { item, live })
    }

    /// Take an item in; false if there is no room for it at the moment.
    pub fn insert(&self, held: &Arc<Held>) -> bool {
        let max = self.capacity + self.capacity / 10;
        if self.live() > max {
            self.cache.run_pending_tasks();
        }
        if self.live() > max || u64::from(held.weight()) > self.capacity {
            return false;
        }
        self.cache.insert(held.hash, Arc::clone(held));
        true
    }

    /// The key's item, fresh or not.
    pub fn get(&self, hash: KeyHash) -> Option<Arc<Held>> {
        self.cache.get(&hash)
    }

    /// Every item, in no order. Looking counts as no use of them, so that who
    /// watches the store does not decide what it keeps.
    pub fn items(&self) -> impl Iterator<Item = Arc<Held>> + '_ {
        self.cache.iter().map(|(_, held)| held)
    }

    /// Let an item go.
    pub fn remove(&self, hash: KeyHash) {
        self.cache.invalidate(&hash);
    }

    /// Let go what has to go; call it a few times a second.
    pub fn tidy(&self) {
        self.cache.run_pending_tasks();
    }

    /// Bytes of all items that anybody still holds.
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// The capacity in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Items in the store, about.
    pub fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    /// Whether the store has no items, as far as it has counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
