//! The L1's store of record, shared by all workers and weighed in bytes.
//!
//! It holds the items of promoted keys alone. A hit costs several hundred
//! nanoseconds here, so workers keep what they serve in a [`Front`](crate::Front)
//! of their own and come here only when that has nothing fresh.
//!
//! The store decides what stays, not what may be served: that is the item's
//! own business (generation, epoch, expiry). An item that the store has let go
//! may live on in a front for a moment. It is counted until the last one has
//! dropped it, and what would take more than a tenth above the capacity is
//! not taken in (the other half of a tenth is the allocator's):
//!
//! ```text
//!   hold ---> on its way     not counted: an answer like any other
//!                |
//!              insert        room is made; counted, or refused
//!                v
//!             taken in       counted ---> evicted ---> dropped by the last front
//! ```

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// How often memory that was let go is asked for at once.
const RECLAIMS: usize = 16;

/// An item whose bytes are counted, once a store has taken it in, for as long
/// as anybody holds it.
#[derive(Debug)]
pub struct Held {
    item: Item,
    live: Arc<AtomicU64>,
    counted: AtomicBool,
}

impl Held {
    /// Whether a store has taken it in. Otherwise it is an answer on its way,
    /// and not to be kept.
    #[inline]
    pub fn is_taken_in(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }
}

impl Deref for Held {
    type Target = Item;

    #[inline]
    fn deref(&self) -> &Item {
        &self.item
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if *self.counted.get_mut() {
            let weight = u64::from(self.item.weight());
            self.live.fetch_sub(weight, Ordering::Relaxed);
        }
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

    /// Wrap an item so that its bytes are counted from when it is
    /// [taken in](Store::insert). It is not stored yet.
    pub fn hold(&self, item: Item) -> Arc<Held> {
        Arc::new(Held {
            item,
            live: Arc::clone(&self.live),
            counted: AtomicBool::new(false),
        })
    }

    /// Take an item in; false if there is no room for it, since it is larger
    /// than the store or since fronts still hold too much that was let go.
    pub fn insert(&self, held: &Arc<Held>) -> bool {
        let weight = u64::from(held.weight());
        if weight > self.capacity {
            return false;
        }
        // First, so that what goes in its stead has gone when it is counted.
        self.cache.insert(held.hash, Arc::clone(held));
        if self.live() + weight > self.capacity {
            self.cache.run_pending_tasks();
        }
        self.reclaim(self.max().saturating_sub(weight));
        let taken_in = self.count(held, weight);
        if !taken_in {
            self.cache.invalidate(&held.hash);
        }
        taken_in
    }

    /// Have memory that moka has let go given back until no more than this is
    /// live. moka leaves that to crossbeam-epoch, which frees what was let go
    /// two epochs ago, and only when somebody pushes it.
    fn reclaim(&self, most: u64) {
        for _ in 0..RECLAIMS {
            if self.live() <= most {
                return;
            }
            self.cache.run_pending_tasks();
            crossbeam_epoch::pin().flush();
            // Another thread may stand in an old epoch just now.
            std::thread::yield_now();
        }
    }

    /// The most that may be live: the process is to grow by no more than a
    /// tenth above the capacity, and the allocator's pages need some of it.
    fn max(&self) -> u64 {
        self.capacity + self.capacity / 10
    }

    /// Add an item's bytes, unless that were too many or they are in already.
    fn count(&self, held: &Held, weight: u64) -> bool {
        if held.counted.swap(true, Ordering::Relaxed) {
            return true;
        }
        let add = |live: u64| Some(live + weight).filter(|&live| live <= self.max());
        let added = self
            .live
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok();
        held.counted.store(added, Ordering::Relaxed);
        added
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
        self.reclaim(self.capacity);
    }

    /// Bytes of all items taken in that anybody still holds; never more than
    /// a tenth above the capacity.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    fn item(hash: u64, len: usize) -> Item {
        Item {
            hash: KeyHash(hash),
            generation: 1,
            server: 0,
            epoch: 0,
            sent: 0,
            took: 0,
            expires: 10,
            value: Value::Redis(vec![b'x'; len].into()),
        }
    }

    /// A length, log-uniform between 8 bytes and 256 KiB, out of 64 random bits.
    fn log_uniform(bits: u64) -> usize {
        let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
        (8.0 * (unit * 15.0).exp2()) as usize
    }

    fn mix(z: u64) -> u64 {
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[test]
    fn what_is_on_its_way_is_not_counted_and_what_is_in_is() {
        let store = Store::new(1 << 20);
        let held = store.hold(item(1, 1000));
        assert_eq!((store.live(), held.is_taken_in()), (0, false));
        assert!(store.insert(&held) && held.is_taken_in());
        let weight = u64::from(held.weight());
        assert_eq!(store.live(), weight);
        // Twice is once.
        assert!(store.insert(&held));
        assert_eq!(store.live(), weight);
        store.remove(KeyHash(1));
        store.tidy();
        assert!(store.get(KeyHash(1)).is_none());
        assert_eq!(store.live(), weight, "somebody still holds it");
        drop(held);
        assert_eq!(store.live(), 0);
    }

    #[test]
    fn a_missing_key_has_a_weight_too() {
        let store = Store::new(1 << 20);
        let held = store.hold(Item {
            value: Value::Missing,
            ..item(1, 0)
        });
        assert!(held.value.is_empty() && held.weight() as usize >= size_of::<Held>());
        assert!(store.insert(&held));
        assert_eq!(store.get(KeyHash(1)).unwrap().value, Value::Missing);
    }

    #[test]
    fn an_item_larger_than_the_store_is_refused_and_displaces_nothing() {
        let store = Store::new(1 << 20);
        assert!(store.insert(&store.hold(item(1, 1000))));
        assert!(!store.insert(&store.hold(item(2, 1 << 20))));
        store.tidy();
        assert!(store.get(KeyHash(1)).is_some());
        assert!(store.get(KeyHash(2)).is_none());
    }

    /// A full store whose last tenth is too small for the new item.
    #[test]
    fn a_large_item_finds_room_in_a_full_store_of_small_ones() {
        let store = Store::new(1 << 20);
        for hash in 0..3000 {
            assert!(store.insert(&store.hold(item(hash, 400))), "{hash}");
        }
        assert!(store.insert(&store.hold(item(9999, 700 << 10))));
        assert!(store.get(KeyHash(9999)).is_some());
        assert!(store.live() <= store.capacity() * 11 / 10);
    }

    /// Fronts hold everything that was ever taken in: the store fills up to
    /// its tenth, refuses, and takes in again once they let go.
    #[test]
    fn what_fronts_hold_counts() {
        let store = Store::new(1 << 20);
        let mut front = Vec::new();
        let refused = (0..10_000).find(|&hash| {
            let held = store.hold(item(hash, 10_000));
            let taken_in = store.insert(&held);
            front.push(held);
            !taken_in
        });
        assert!(refused.is_some());
        let hash = KeyHash(refused.unwrap());
        assert!(store.get(hash).is_none(), "a refused item is not served");
        assert!(store.live() <= store.capacity() * 11 / 10);
        front.clear();
        assert!(store.insert(&store.hold(item(1, 10_000))));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let store = Store::new(100 << 10);
        for hash in 0..60 {
            assert!(store.insert(&store.hold(item(hash, 2000))));
            store.tidy();
            assert!(store.get(KeyHash(0)).is_some(), "used before {hash} came");
        }
        store.tidy();
        assert!(store.get(KeyHash(1)).is_none());
    }

    /// When the store has gone, nothing of it is left. Threads of other tests
    /// may keep moka from freeing at once.
    fn all_is_given_back(store: Store) {
        let live = Arc::clone(&store.live);
        drop(store);
        let given_back = (0..20_000).any(|_| {
            crossbeam_epoch::pin().flush();
            std::thread::sleep(std::time::Duration::from_millis(1));
            live.load(Ordering::Relaxed) == 0
        });
        assert!(
            given_back,
            "{} bytes are left",
            live.load(Ordering::Relaxed)
        );
    }

    /// Four threads fill, replace and remove; each also holds what it had
    /// last, as a front does. At no moment does anybody see too much.
    #[test]
    fn many_threads_never_exceed_the_capacity_by_more_than_a_tenth() {
        let store = Store::new(2 << 20);
        let max = store.capacity() * 11 / 10;
        let refused = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (store, refused) = (&store, &refused);
                scope.spawn(move || {
                    let mut last = None;
                    for turn in 0..4000 {
                        let bits = mix(thread << 32 | turn);
                        let hash = bits % 300;
                        if bits.is_multiple_of(17) {
                            store.remove(KeyHash(hash));
                        }
                        let held = store.hold(item(hash, log_uniform(mix(bits))));
                        if store.insert(&held) {
                            last = Some(held);
                        } else {
                            refused.fetch_add(1, Ordering::Relaxed);
                            last = None;
                        }
                        assert!(store.live() <= max, "{} of {max}", store.live());
                    }
                    drop(last);
                });
            }
        });
        // What the threads hold may alone be more than the tenth, so refusals
        // are right; but the store must not have closed.
        let refused = refused.into_inner();
        assert!(refused < 16_000 / 2, "{refused} of 16000 refused");
        all_is_given_back(store);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is done in whichever order, what is counted is what is
        /// held, and it is never too much.
        #[test]
        fn the_count_is_what_is_held(
            capacity in 20_000u64..400_000,
            steps in prop::collection::vec((0u64..40, 0usize..60_000, 0u8..8), 1..300),
        ) {
            let store = Store::new(capacity);
            let mut front: Vec<Arc<Held>> = Vec::new();
            for (hash, len, what) in steps {
                match what {
                    0 => store.remove(KeyHash(hash)),
                    1 => store.tidy(),
                    2 => front.clear(),
                    3 => front.extend(store.get(KeyHash(hash))),
                    _ => {
                        let held = store.hold(item(hash, len));
                        let taken_in = store.insert(&held);
                        prop_assert_eq!(taken_in, held.is_taken_in());
                        if !taken_in {
                            let stored = store.get(KeyHash(hash));
                            prop_assert!(stored.is_none_or(|stored| stored.is_taken_in()));
                        }
                    }
                }
                prop_assert!(store.live() <= capacity + capacity / 10);
                let kept: u64 = {
                    let mut kept: Vec<&Arc<Held>> = front.iter().collect();
                    kept.sort_by_key(|held| Arc::as_ptr(held));
                    kept.dedup_by(|a, b| Arc::ptr_eq(a, b));
                    kept.iter().map(|held| u64::from(held.weight())).sum()
                };
                prop_assert!(store.live() >= kept);
            }
            drop(front);
            all_is_given_back(store);
        }
    }
}
