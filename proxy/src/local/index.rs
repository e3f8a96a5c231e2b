//! Every key of a store once, ordered by hash, and the expiring ones once
//! more, ordered by when.
//!
//! A cache can be asked for a key but cannot be walked in pieces. `SCAN` must
//! return every key that is there from its first call to its last, whatever
//! is added and removed in between, and remembers nothing but a number: so
//! keys stand in the order of a hash that never changes while the pool lives,
//! and the cursor is the place to go on from. Keys that share a place are
//! returned together.
//!
//! An index is a leaf: nothing is locked or called while one of its shards is
//! held, so the cache may report evictions to it from anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::store::{Key, NEVER};

/// How many parts are locked apart from each other.
pub const SHARDS: usize = 64;

/// Places are 52 bits wide: clients that keep a cursor in a double stay exact.
const PLACE_BITS: u32 = 52;

/// Where a key stands in the order of the index.
pub fn place_of(hasher: &RandomState, key: &[u8]) -> u64 {
    hasher.hash_one(key) >> (u64::BITS - PLACE_BITS)
}

/// Which shard a place belongs to; ascending places have ascending shards.
pub fn shard_of(place: u64) -> usize {
    // At most SHARDS - 1: the six highest of 52 bits.
    ((place >> (PLACE_BITS - SHARDS.ilog2())) as usize).min(SHARDS - 1)
}

/// The keys of one table.
#[derive(Debug)]
pub struct Index {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    keys: BTreeMap<(u64, Key), Slot>,
    /// Expiry, place and key of what `keys` holds with an expiry.
    due: BTreeSet<(u64, u64, Key)>,
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    expires: u64,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Index {
    /// Note the entry that a key now holds; answers the key as it is shared.
    pub fn insert(&self, place: u64, key: &[u8], serial: u64, expires: u64) -> Key {
        let mut shard = self.shard(shard_of(place));
        let (key, old) = match shard.keys.remove_entry(&(place, Key::from(key))) {
            Some(((_, key), slot)) => (key, Some(slot)),
            None => (Key::from(key), None),
        };
        if let Some(slot) = old.filter(|s| s.expires != NEVER) {
            shard.due.remove(&(slot.expires, place, key.clone()));
        }
        if expires != NEVER {
            shard.due.insert((expires, place, key.clone()));
        }
        shard
            .keys
            .insert((place, key.clone()), Slot { serial, expires });
        key
    }

    /// Forget a key.
    pub fn remove(&self, place: u64, key: &[u8]) {
        self.shard(shard_of(place)).remove(place, Key::from(key));
    }

    /// Forget a key if it still holds the entry with this serial.
    pub fn forget(&self, place: u64, key: &Key, serial: u64) {
        let mut shard = self.shard(shard_of(place));
        let at = (place, key.clone());
        if shard
            .keys
            .get(&at)
            .is_some_and(|slot| slot.serial == serial)
        {
            shard.remove(place, at.1);
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|s| self.shard(s).keys.len()).sum()
    }

    /// At least `count` keys from a place on, and the place after them; 0
    /// when there are no more.
    pub fn page(&self, from: u64, count: usize) -> (Vec<Key>, u64) {
        let mut found = Vec::new();
        let mut last = None;
        for number in shard_of(from)..SHARDS {
            let shard = self.shard(number);
            for (place, key) in shard.keys.range((from, Key::default())..).map(|(at, _)| at) {
                if found.len() >= count && last != Some(*place) {
                    return (found, *place);
                }
                last = Some(*place);
                found.push(key.clone());
            }
        }
        (found, 0)
    }

    /// Whether a shard holds a key that has expired.
    pub fn is_due(&self, shard: usize, now: u64) -> bool {
        self.shard(shard)
            .due
            .first()
            .is_some_and(|first| first.0 < now)
    }

    /// Take one expired key out of a shard.
    pub fn pop_due(&self, shard: usize, now: u64) -> Option<Key> {
        let mut shard = self.shard(shard);
        let (_, place, key) = shard.due.first().filter(|first| first.0 < now)?.clone();
        shard.remove(place, key.clone());
        Some(key)
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn remove(&mut self, place: u64, key: Key) {
        let at = (place, key);
        if let Some(slot) = self.keys.remove(&at)
            && slot.expires != NEVER
        {
            self.due.remove(&(slot.expires, place, at.1));
        }
    }
}
