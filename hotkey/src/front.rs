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
    /// Copies could not be made: not to be tried again before this time, in
    /// nanoseconds.
    pub copies_after: u64,
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
            copies_after: 0,
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
        if self.item.as_ref().is_some_and(fresh) {
            return self.item.as_ref();
        }
        // Another worker may have had it filled meanwhile.
        let stored = stored(store, self.key.hash);
        let found = stored.as_ref().is_some_and(fresh);
        self.item = stored;
        self.item.as_ref().filter(|_| found)
    }

    /// The last item, whether it may be served or not.
    #[cfg(test)]
    fn last(&self) -> Option<&Arc<Held>> {
        self.item.as_ref()
    }

    /// Keep what a fill brought, if the store had room for it: a front must
    /// not hold what nobody counts.
    pub fn keep(&mut self, item: &Arc<Held>) {
        if item.is_taken_in() {
            self.item = Some(Arc::clone(item));
        }
    }

    /// Count requests answered from memory, with so many bytes together.
    #[inline]
    pub fn hit(&mut self, times: u64, bytes: usize) {
        self.counts.hits += times;
        self.counts.bytes += bytes as u64;
    }

    /// Count a request that had to be asked.
    #[inline]
    pub fn miss(&mut self) {
        self.counts.misses += 1;
    }
}

/// Out of line: a hit needs none of its code.
#[cold]
#[inline(never)]
fn stored(store: &Store, hash: KeyHash) -> Option<Arc<Held>> {
    store.get(hash)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Board, Item, Value};

    struct Bench {
        board: Board,
        store: Store,
        pulse: Pulse,
        front: Front,
    }

    impl Bench {
        fn new() -> Bench {
            let pulse = Pulse::default();
            pulse.beat(u64::MAX);
            Bench {
                board: Board::default(),
                store: Store::new(1 << 20),
                pulse,
                front: Front::default(),
            }
        }

        fn promote(&mut self, hash: u64) -> Arc<HotKey> {
            self.board.promote(KeyHash(hash), 0, b"key");
            self.front.follow(&self.board.set());
            Arc::clone(self.board.set().get(KeyHash(hash)).unwrap())
        }

        fn demote(&mut self, hash: u64) {
            self.board.demote(KeyHash(hash));
            self.front.follow(&self.board.set());
        }

        /// A fill of this value, stored as the L1's thread does.
        fn fill(&self, key: &HotKey, value: Value) -> Arc<Held> {
            let generation = key.install(key.begin(0).unwrap()).unwrap();
            let held = self.store.hold(Item {
                hash: key.hash,
                generation,
                server: 0,
                epoch: self.pulse.epoch(),
                sent: 0,
                took: 1,
                expires: 100,
                value,
            });
            self.store.insert(&held);
            held
        }

        fn read(&mut self, hash: u64, now: u64) -> Option<Value> {
            let Bench {
                store,
                pulse,
                front,
                ..
            } = self;
            let seat = front.seat(KeyHash(hash))?;
            let item = seat.fresh(store, |_| Some(&*pulse), now)?;
            Some(item.value.clone())
        }

        fn tidy(&mut self) {
            let Bench {
                store,
                pulse,
                front,
                ..
            } = self;
            front.tidy(store, |_| Some(&*pulse));
        }

        fn holds(&mut self, hash: u64) -> bool {
            self.front.seat(KeyHash(hash)).unwrap().last().is_some()
        }
    }

    fn value(text: &str) -> Value {
        Value::Redis(text.as_bytes().into())
    }

    #[test]
    fn an_item_is_found_in_the_store_once_and_then_in_the_front() {
        let mut bench = Bench::new();
        let key = bench.promote(1);
        assert_eq!(bench.read(1, 0), None);
        bench.fill(&key, value("a"));
        assert!(!bench.holds(1));
        assert_eq!(bench.read(1, 0), Some(value("a")));
        assert!(bench.holds(1));
        bench.store.remove(KeyHash(1));
        assert_eq!(bench.read(1, 99), Some(value("a")), "the front has it");
        assert_eq!(bench.read(1, 100), None, "expired");
        assert_eq!(bench.read(2, 0), None, "not promoted");
    }

    #[test]
    fn an_invalidation_is_seen_at_once_and_the_next_fill_found() {
        let mut bench = Bench::new();
        let key = bench.promote(1);
        bench.fill(&key, value("a"));
        assert_eq!(bench.read(1, 0), Some(value("a")));
        key.invalidate();
        assert_eq!(bench.read(1, 0), None);
        bench.fill(&key, value("b"));
        assert_eq!(bench.read(1, 0), Some(value("b")));
        bench.pulse.turn();
        assert_eq!(bench.read(1, 0), None);
    }

    #[test]
    fn a_missing_key_is_an_answer_too() {
        let mut bench = Bench::new();
        let key = bench.promote(1);
        bench.fill(&key, Value::Missing);
        assert_eq!(bench.read(1, 0), Some(Value::Missing));
    }

    #[test]
    fn following_keeps_the_items_of_keys_that_stay() {
        let mut bench = Bench::new();
        let key = bench.promote(1);
        bench.fill(&key, value("a"));
        bench.read(1, 0);
        bench.front.seat(KeyHash(1)).unwrap().hit(1, 7);
        bench.promote(2);
        assert!(bench.holds(1) && !bench.holds(2));
        bench.demote(2);
        assert!(bench.holds(1) && bench.front.seat(KeyHash(2)).is_none());
        let counts: Vec<Counts> = bench
            .front
            .take_counts()
            .map(|(_, counts)| counts)
            .collect();
        let expected = Counts {
            hits: 1,
            misses: 0,
            bytes: 7,
        };
        assert_eq!(counts, [expected]);
        assert_eq!(bench.front.take_counts().count(), 0);
    }

    /// The store still has the item of the first promotion.
    #[test]
    fn a_key_promoted_anew_serves_nothing_of_before() {
        let mut bench = Bench::new();
        let key = bench.promote(1);
        let old = bench.fill(&key, value("a"));
        assert_eq!(bench.read(1, 0), Some(value("a")));
        bench.demote(1);
        assert!(bench.front.is_empty() && bench.front.key(KeyHash(1)).is_none());
        let again = bench.promote(1);
        assert!(!bench.holds(1) && again.generation() > old.generation);
        assert_eq!(bench.read(1, 0), None);
        bench.fill(&again, value("b"));
        assert_eq!(bench.read(1, 0), Some(value("b")));
        assert_eq!(key.begin(0), None);
    }

    #[test]
    fn tidying_drops_what_cannot_be_served_again_and_nothing_else() {
        type Cause = fn(&mut Bench, &HotKey);
        let causes: [(Cause, bool); 5] = [
            (|_, _| (), true),
            (|_, key| key.invalidate(), false),
            (|_, key| key.retire(), false),
            (|bench, _| bench.pulse.turn(), false),
            // It still counts although the store has let it go.
            (|bench, key| bench.store.remove(key.hash), false),
        ];
        for (index, (cause, stays)) in causes.into_iter().enumerate() {
            let mut bench = Bench::new();
            let key = bench.promote(1);
            bench.fill(&key, value("a"));
            bench.read(1, 0);
            cause(&mut bench, &key);
            bench.tidy();
            assert_eq!(bench.holds(1), stays, "cause {index}");
        }
    }

    #[test]
    fn an_item_of_a_server_that_has_gone_is_neither_served_nor_held() {
        let mut bench = Bench::new();
        let key = bench.promote(1);
        bench.fill(&key, value("a"));
        bench.read(1, 0);
        let seat = bench.front.seat(KeyHash(1)).unwrap();
        assert!(seat.fresh(&bench.store, |_| None, 0).is_none());
        bench.front.tidy(&bench.store, |_| None);
        assert!(!bench.holds(1));
    }

    #[test]
    fn a_front_keeps_what_the_store_took_and_not_what_it_refused() {
        let mut bench = Bench::new();
        let key = bench.promote(1);
        let large = Value::Redis(vec![0; 2 << 20].into());
        let refused = bench.fill(&key, large);
        bench.front.seat(KeyHash(1)).unwrap().keep(&refused);
        assert!(!bench.holds(1));
        let taken = bench.fill(&key, value("a"));
        bench.front.seat(KeyHash(1)).unwrap().keep(&taken);
        assert!(bench.holds(1));
    }

    /// Two fronts hold a store's worth of items each; after a tidy they are
    /// no more than the store itself.
    #[test]
    fn fronts_give_back_what_the_store_has_let_go() {
        let mut bench = Bench::new();
        for round in 0..20 {
            for hash in 0..40 {
                let key = bench.promote(hash);
                let held = bench.fill(&key, Value::Redis(vec![round; 50_000].into()));
                bench.front.seat(KeyHash(hash)).unwrap().keep(&held);
                assert!(bench.store.live() <= bench.store.capacity() * 11 / 10);
            }
            bench.store.tidy();
            bench.tidy();
            assert!(
                bench.store.live() <= bench.store.capacity(),
                "round {round}"
            );
        }
    }
}
