//! The values of one in-process pool: a moka cache that bounds their bytes,
//! and around it what a cache alone does not promise.
//!
//! moka decides *what is evicted* and nothing else. Whether an entry is still
//! alive is decided by its own expiry against the caller's clock, never by
//! moka's. Entries are immutable behind an `Arc` and replaced whole, so a
//! reader needs no lock and never sees half a change.
//!
//! A change reads, decides and replaces under the lock of the key's shard:
//! that makes `INCR` atomic over worker threads, and lets a command on
//! several keys hold all their shards at once. moka's own `compute` methods
//! were refused because they cover one key, and a `RENAME` needs two.
//!
//! `FLUSHALL` holds every lock and puts an empty table in place of the full
//! one, so that it is complete the moment it is answered.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use foldhash::fast::RandomState;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::index::{Index, SHARDS, place_of, shard_of};

/// A key, shared between the cache and the index.
pub type Key = Arc<[u8]>;

/// The expiry of an entry that never expires.
pub const NEVER: u64 = u64::MAX;

/// What an entry costs beside its key and value, in bytes: the entry, moka's
/// bookkeeping and the place in the index, as measured with many small keys.
const OVERHEAD: u64 = 600;

/// A flushed table of fewer keys than this is freed by the worker itself.
const FREED_HERE: usize = 10_000;

/// What one key holds.
#[derive(Debug)]
pub struct Entry {
    /// The value.
    pub data: Bytes,
    /// The last millisecond since the Unix epoch at which it is alive, or [`NEVER`].
    pub expires: u64,
    /// memcached's unique number; 0 lets the store give the next one.
    pub cas: u64,
    /// memcached's client flags.
    pub flags: u32,
    /// What is known about the entry beside its value: a set of [`Mark`]s.
    pub marks: AtomicU8,
    /// When it was last read or stored, in milliseconds since the Unix epoch.
    pub accessed: AtomicU64,
    /// Tells this entry from the one it replaced; given by the store.
    serial: u64,
}

/// A bit of [`Entry::marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    /// Redis: the value was edited in place, so that `OBJECT ENCODING` says `raw`.
    Raw = 1,
    /// Redis: INCRBYFLOAT made it, so that `OBJECT ENCODING` never says `int`.
    Float = 32,
    /// memcached: it was read since it was stored.
    Fetched = 2,
    /// memcached: it was marked stale.
    Stale = 4,
    /// memcached: a client was told that it may refresh it.
    TokenSent = 8,
    /// memcached: its key was given in base64.
    BinaryKey = 16,
}

impl Entry {
    /// An entry that never expires and carries no marks.
    pub fn new(data: impl Into<Bytes>) -> Entry {
        Entry {
            data: data.into(),
            expires: NEVER,
            cas: 0,
            flags: 0,
            marks: AtomicU8::new(0),
            accessed: AtomicU64::new(0),
            serial: 0,
        }
    }

    /// The same entry with another expiry.
    pub fn expiring(mut self, expires: u64) -> Entry {
        self.expires = expires;
        self
    }

    /// The same entry with this mark.
    pub fn marked(self, mark: Mark) -> Entry {
        self.mark(mark);
        self
    }

    /// A copy that shares the value's bytes.
    pub fn duplicate(&self) -> Entry {
        Entry {
            data: self.data.clone(),
            expires: self.expires,
            cas: self.cas,
            flags: self.flags,
            marks: AtomicU8::new(self.marks.load(Ordering::Relaxed)),
            accessed: AtomicU64::new(self.accessed.load(Ordering::Relaxed)),
            serial: 0,
        }
    }

    /// Whether it carries this mark.
    pub fn has(&self, mark: Mark) -> bool {
        self.marks.load(Ordering::Relaxed) & mark as u8 != 0
    }

    /// Set this mark.
    pub fn mark(&self, mark: Mark) {
        self.marks.fetch_or(mark as u8, Ordering::Relaxed);
    }

    /// Clear this mark.
    pub fn unmark(&self, mark: Mark) {
        self.marks.fetch_and(!(mark as u8), Ordering::Relaxed);
    }

    /// Whether it may still be answered. Redis keeps a key through the very
    /// millisecond of its expiry.
    fn alive(&self, now: u64) -> bool {
        now <= self.expires
    }
}

/// A value that the pool cannot hold even when it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the value needs {needed} bytes and the embedded pool holds {capacity}; raise its capacity"
)]
pub struct TooLarge {
    needed: u64,
    capacity: u64,
}

/// All entries of one pool.
pub struct Store {
    table: ArcSwap<Table>,
    /// One per shard of the index; taken in ascending order.
    locks: Box<[Mutex<()>]>,
    hasher: RandomState,
    capacity: u64,
    serial: AtomicU64,
    /// Bytes stored since moka was last made to evict.
    unswept: AtomicU64,
}

struct Table {
    cache: Cache<Key, Arc<Entry>, RandomState>,
    index: Arc<Index>,
}

impl Store {
    /// An empty store for this many bytes of keys, values and bookkeeping.
    pub fn new(capacity: u64) -> Store {
        let hasher = RandomState::default();
        Store {
            table: ArcSwap::from_pointee(Table::new(capacity, &hasher)),
            locks: (0..SHARDS).map(|_| Mutex::new(())).collect(),
            hasher,
            capacity,
            serial: AtomicU64::new(0),
            unswept: AtomicU64::new(0),
        }
    }

    /// The live entry of a key, without a lock.
    pub fn read(&self, key: &[u8], now: u64) -> Option<Arc<Entry>> {
        let entry = self.table.load().cache.get(key)?;
        entry.alive(now).then_some(entry)
    }

    /// Hold one key still, to read and change it.
    pub fn lock(&self, key: &[u8], now: u64) -> Locked<'_> {
        let place = place_of(&self.hasher, key);
        let held = Held::One(take(&self.locks[shard_of(place)]));
        self.locked(held, now, shard_of(place)..shard_of(place) + 1)
    }

    /// Hold several keys still at once.
    pub fn lock_many<'k>(&self, keys: impl Iterator<Item = &'k [u8]>, now: u64) -> Locked<'_> {
        let mut shards: Vec<usize> = keys.map(|k| shard_of(place_of(&self.hasher, k))).collect();
        // Ascending and each once: two threads never wait for each other.
        shards.sort_unstable();
        shards.dedup();
        let held = shards.iter().map(|&s| take(&self.locks[s])).collect();
        self.locked(Held::Many(held), now, shards)
    }

    /// Forget everything.
    pub fn flush(&self) {
        let held: Vec<_> = self.locks.iter().map(take).collect();
        let old = self
            .table
            .swap(Arc::new(Table::new(self.capacity, &self.hasher)));
        drop(held);
        if old.index.len() < FREED_HERE {
            return;
        }
        // Freeing a full table takes long enough for a worker's other clients
        // to notice. Where no thread can be had, it is freed here after all.
        let freeing = std::thread::Builder::new().name("flush".to_owned());
        let _ = freeing.spawn(move || drop(old));
    }

    /// How many keys are alive.
    pub fn len(&self, now: u64) -> usize {
        self.expire(now);
        self.table.load().index.len()
    }

    /// Every live key, in no meaningful order.
    pub fn keys(&self, now: u64) -> Vec<Key> {
        self.page(0, usize::MAX, now).0
    }

    /// At least `count` live keys from a place on, if there are that many,
    /// and the place to go on from: 0 when nothing is left.
    pub fn page(&self, from: u64, count: usize, now: u64) -> (Vec<Key>, u64) {
        self.expire(now);
        self.table.load().index.page(from, count)
    }

    /// Some live key, chosen without preference.
    pub fn random(&self, now: u64) -> Option<Key> {
        self.expire(now);
        let salt = self.serial.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let from = place_of(&self.hasher, &salt);
        let table = self.table.load();
        let found = table.index.page(from, 1).0.pop();
        found.or_else(|| table.index.page(0, 1).0.pop())
    }

    /// A number greater than every one given before.
    fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn locked<'a>(
        &'a self,
        held: Held<'a>,
        now: u64,
        shards: impl IntoIterator<Item = usize>,
    ) -> Locked<'a> {
        let table = self.table.load();
        for shard in shards {
            table.expire(shard, now);
        }
        Locked {
            store: self,
            table,
            now,
            _held: held,
        }
    }

    /// Drop everything that has expired, wherever it is.
    fn expire(&self, now: u64) {
        for (shard, lock) in self.locks.iter().enumerate() {
            if self.table.load().index.is_due(shard, now) {
                let _held = take(lock);
                self.table.load().expire(shard, now);
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// Some keys of a [`Store`], held still until this is dropped.
///
/// The caller passes only keys that it locked; for any other key a change
/// would still be safe but no longer atomic with what was read before.
pub struct Locked<'a> {
    store: &'a Store,
    table: Guard<Arc<Table>>,
    now: u64,
    _held: Held<'a>,
}

enum Held<'a> {
    One(#[allow(dead_code, reason = "held, not read")] MutexGuard<'a, ()>),
    Many(#[allow(dead_code, reason = "held, not read")] Vec<MutexGuard<'a, ()>>),
}

impl Locked<'_> {
    /// The live entry of a key.
    pub fn read(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.table.cache.get(key).filter(|e| e.alive(self.now))
    }

    /// Whether `put` would accept a value of this size.
    pub fn check(&self, key: &[u8], size: usize) -> Result<(), TooLarge> {
        let needed = weight(key.len(), size);
        let capacity = self.store.capacity;
        if needed > capacity {
            Err(TooLarge { needed, capacity })
        } else {
            Ok(())
        }
    }

    /// Store an entry in place of whatever the key held; answers its cas.
    /// An entry that has expired already removes the key.
    pub fn put(&self, key: &[u8], mut entry: Entry) -> Result<u64, TooLarge> {
        self.check(key, entry.data.len())?;
        entry.serial = self.store.next_serial();
        if entry.cas == 0 {
            entry.cas = entry.serial;
        }
        let cas = entry.cas;
        if !entry.alive(self.now) {
            self.remove(key);
            return Ok(cas);
        }
        let added = weight(key.len(), entry.data.len());
        let place = place_of(&self.store.hasher, key);
        // Into the index first: an entry that is evicted at once must find
        // its place there to remove it.
        let shared = self
            .table
            .index
            .insert(place, key, entry.serial, entry.expires);
        self.table.cache.insert(shared, Arc::new(entry));
        self.sweep(added);
        Ok(cas)
    }

    /// Remove a key; answers whether it was alive.
    pub fn remove(&self, key: &[u8]) -> bool {
        let place = place_of(&self.store.hasher, key);
        self.table.index.remove(place, key);
        self.table
            .cache
            .remove(key)
            .is_some_and(|e| e.alive(self.now))
    }

    /// A number greater than every one given before, for a new cas.
    pub fn next_cas(&self) -> u64 {
        self.store.next_serial()
    }

    /// moka evicts after some tens of writes: with large values that could be
    /// many times the capacity, so it is made to after a share of it.
    fn sweep(&self, added: u64) {
        let unswept = self.store.unswept.fetch_add(added, Ordering::Relaxed) + added;
        if unswept > (self.store.capacity / 32).max(16 << 10) {
            self.store.unswept.store(0, Ordering::Relaxed);
            self.table.cache.run_pending_tasks();
        }
    }
}

impl Table {
    fn new(capacity: u64, hasher: &RandomState) -> Table {
        let index = Arc::new(Index::default());
        let (evicted, places) = (Arc::clone(&index), hasher.clone());
        let cache = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|key: &Key, entry: &Arc<Entry>| {
                u32::try_from(weight(key.len(), entry.data.len())).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |key: Arc<Key>, entry: Arc<Entry>, cause| {
                // What the store itself replaces or removes it has already
                // taken out of the index.
                if cause.was_evicted() {
                    evicted.forget(place_of(&places, &key), &key, entry.serial);
                }
            })
            .build_with_hasher(hasher.clone());
        Table { cache, index }
    }

    /// Drop what has expired in one shard, whose lock the caller holds.
    fn expire(&self, shard: usize, now: u64) {
        while let Some(key) = self.index.pop_due(shard, now) {
            self.cache.invalidate(&key);
        }
    }
}

fn weight(key: usize, value: usize) -> u64 {
    key as u64 + value as u64 + OVERHEAD
}

/// A panic while a lock was held left no entry half changed, because entries
/// are replaced whole: the lock may be used on.
fn take(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
