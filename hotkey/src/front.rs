//! One worker's view of the promoted keys, with the items that it serves.
//!
//! A lookup is one probe of a small table; whether what is found may be served
//! is decided anew each time, by the key's shared generation, so two workers
//! never disagree about a value for longer than a load takes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::store::{Held, Store};
use crate::{HotKey, HotSet, KeyHash, Pulse};

/// See the module's description.
#[derive(Debug, Default)]
pub struct Front {
    seats: HashMap<KeyHash, Seat, BuildHasherDefault<AsItIs>>,
}

/// One promoted key in a worker.
#[derive(Debug)]
pub struct Seat {
    /// What all workers share of it.
    pub key: Arc<HotKey>,
    item: Option<Arc<Held>>,
    /// The key's value cannot be kept: not to be tried again before this
    /// time, in nanoseconds.
    pub unfit_until: u64,
    /// It is too large to be kept.
    pub large: bool,
    /// When this worker has last asked for copies, in nanoseconds.
    pub copies_asked: u64,
    /// The generation in which this worker has asked for an early refresh, or
    /// `observe` would have had the value.
    pub asked: u64,
    /// `observe`: until when the value would have been kept.
    pub observed_until: u64,
    /// Since the last [`Front::take_counts`].
    counts: Counts,
}

/// What a worker did with a promoted key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered from memory (in `observe`: would have been).
    pub hits: u64,
    /// Had to be asked.
    pub misses: u64,
    /// Bytes of values answered from memory.
    pub bytes: u64,
}

impl Front {
    /// Take over what has been promoted and demoted.
    pub fn follow(&mut self, set: &HotSet) {
        let mut before = std::mem::take(&mut self.seats);
        self.seats = set
            .keys()
            .map(|key| {
                let seat = before
                    .remove(&key.hash)
                    .filter(|seat| Arc::ptr_eq(&seat.key, key));
                let seat = seat.unwrap_or_else(|| Seat::new(Arc::clone(key)));
                (key.hash, seat)
            })
            .collect();
    }

    /// Whether nothing is promoted.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The promoted key with this hash, if there is one.
    #[inline]
    pub fn seat(&mut self, hash: KeyHash) -> Option<&mut Seat> {
        self.seats.get_mut(&hash)
    }

    /// The same without a change.
    #[inline]
    pub fn key(&self, hash: KeyHash) -> Option<&Arc<HotKey>> {
        self.seats.get(&hash).map(|seat| &seat.key)
    }

    /// Every promoted key.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<HotKey>> {
        self.seats.values().map(|seat| &seat.key)
    }

    /// Drop items that can never be served again, so that their memory is
    /// free; call it a few times a second. `pulse` finds a server's pulse.
    pub fn tidy<'p>(&mut self, store: &Store, pulse: impl Fn(u32) -> Option<&'p Pulse>) {
        for seat in self.seats.values_mut() {
            let stale = |item: &Arc<Held>| {
                item.generation != seat.key.generation()
                    || pulse(item.server).is_none_or(|pulse| pulse.epoch() != item.epoch)
            };
            let lost = |item: &Arc<Held>| {
                let stored = store.get(item.hash);
                stored.is_none_or(|stored| !Arc::ptr_eq(&stored, item))
            };
            if seat
                .item
                .as_ref()
                .is_some_and(|item| stale(item) || lost(item))
            {
                seat.item = None;
            }
        }
    }

    /// What was done since the last call, by key.
    pub fn take_counts(&mut self) -> impl Iterator<Item = (&Arc<HotKey>, Counts)> {
        self.seats
            .values_mut()
            .map(|seat| (&seat.key, std::mem::take(&mut seat.counts)))
            .filter(|(_, counts)| *counts != Counts::default())
    }
}

impl Seat {
    fn new(key: Arc<HotKey>) -> Seat {
        Seat {
            key,
            item: None,
            unfit_until: 0,
            large: false,
            copies_asked: 0,
            asked: u64::MAX,
            observed_until: 0,
            counts: Counts::default(),
        }
    }

    /// The item to answer with at `now`, if there is one that may be served.
    /// `pulse` finds a server's pulse.
    #[inline]
    pub fn fresh<'p>(
        &mut self,
        store: &Store,
        pulse: impl Fn(u32) -> Option<&'p Pulse>,
        now: u64,
    ) -> Option<&Arc<Held>> {
        let fresh = |item: &Arc<Held>| {
            pulse(item.server).is_some_and(|pulse| item.is_fresh(&self.key, pulse, now))
        };
        if !self.item.as_ref().is_some_and(fresh) {
            // Another worker may have had it filled meanwhile.
            self.item = store.get(self.key.hash);
            if !self.item.as_ref().is_some_and(fresh) {
                return None;
            }
        }
        self.item.as_ref()
    }

    /// The last item, whether it may be served or not.
    pub fn last(&self) -> Option<&Arc<Held>> {
        self.item.as_ref()
    }

    /// Keep what a fill brought.
    pub fn keep(&mut self, item: &Arc<Held>) {
        self.item = Some(Arc::clone(item));
    }

    /// Count a request answered from memory.
    #[inline]
    pub fn hit(&mut self, bytes: usize) {
        self.counts.hits += 1;
        self.counts.bytes += bytes as u64;
    }

    /// Count a request that had to be asked.
    #[inline]
    pub fn miss(&mut self) {
        self.counts.misses += 1;
    }
}

/// Key hashes are random already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
