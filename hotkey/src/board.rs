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
//! sent, and the fill sees its write. And a key is retired before it leaves
//! the set.
//!
//! ```text
//!   Watch --post, report--> Ledger of the pool       posts of all workers, added up
//!                             | certain count >= threshold    | counts fell
//!                             v                               v
//!                          promoted ----------------------> demoted
//!                             | at most once in `pace`
//!                             v
//!                          HotSet, version + 1 ----> workers' fronts
//! ```
//!
//! Bounds add up: a worker that does not name a key has seen it at most as
//! often as its post says of the rest. What is certain of all workers together
//! reaches the threshold: promoted. What is possible falls below half of it
//! and stays there for two rounds: demoted, so that a key at the threshold
//! does not come and go.
//!
//! A worker that falls silent keeps no key hot: its posts lose their certain
//! counts after two sub-windows, and their possible ones after a window.
//!
//! All of this is under one lock, which no request takes.

mod ledger;
mod post;
mod round;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::{Bounds, Counts, HotKey, KeyHash, KeyHasher};
use ledger::{Candidate, Ledger, Promoted};
pub(crate) use post::{Answer, Note, Outcome, Place, Post, Sheet, View};

/// Keys that a process promotes at most, unless told otherwise.
const PROMOTED_MAX: usize = 65_536;

/// A set of this many keys more is published a millisecond later: every
/// worker goes through all of it each time.
const KEYS_PER_MS: usize = 256;

/// The promoted keys at one moment.
#[derive(Debug, Default)]
pub struct HotSet {
    keys: HashMap<KeyHash, Arc<HotKey>, RandomState>,
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

/// Why a key is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Mostly reads brought it to the threshold.
    Reads,
    /// Mostly writes did.
    Writes,
    /// The bytes of its replies did.
    Bytes,
    /// It is on the list of those that always are.
    Always,
    /// [`Board::promote`] was asked to; [`Board::demote`] ends it.
    Hand,
    /// It was hot in the process's last life ([`Board::preload`]).
    Preload,
}

/// What is known of one promoted key, over all workers.
///
/// Counts are of the window that ended with the last sub-window; of a key that
/// was promoted since then, of the running one.
#[derive(Clone, Debug)]
pub struct Row {
    /// The key.
    pub key: Arc<HotKey>,
    /// Why it is promoted.
    pub reason: Reason,
    /// Reads in the window.
    pub reads: Bounds,
    /// Writes in the window.
    pub writes: Bounds,
    /// Bytes of replies to reads, in the pool's own window. Sampled, so never
    /// certain; 0 if the pool has no threshold for them.
    pub bytes: Bounds,
    /// Requests of its pool in the window, for its share. In a pool whose
    /// rules have several windows: those of the keys with the same window.
    pub total: u64,
    /// Whether reads and writes are certain; not so when requests are sampled.
    pub certain: bool,
    /// The window in milliseconds; 0 while no worker has been heard.
    pub window_ms: u64,
    /// When it was promoted, in milliseconds of the process's clock.
    pub since_ms: u64,
    /// What the workers did with it since then.
    pub counts: Counts,
}

/// See the module's description.
#[derive(Debug)]
pub struct Board {
    version: AtomicU64,
    inner: Mutex<Inner>,
}

impl Default for Board {
    /// A board for 65,536 keys.
    fn default() -> Board {
        Board::new(PROMOTED_MAX)
    }
}

#[derive(Debug, Default)]
struct Inner {
    promoted_max: usize,
    /// By pool.
    ledgers: BTreeMap<u16, Ledger>,
    /// Over all pools.
    promoted: usize,
    serial: u64,
    /// The latest time that anybody told.
    now_ms: u64,
    set: Arc<HotSet>,
    set_ms: u64,
    /// Whether something was promoted or demoted since `set` was made.
    set_is_old: bool,
}

impl Board {
    /// A board that promotes at most this many keys, those by hand and the
    /// always-hot ones aside. When it is full, new keys wait until one is
    /// demoted; of those that come together, the hottest go first.
    pub fn new(promoted_max: usize) -> Board {
        Board {
            version: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                promoted_max,
                ..Inner::default()
            }),
        }
    }

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
        inner.promote_by_hand(hash, pool, key, Reason::Hand);
        self.publish(&mut inner);
    }

    /// Demote a key, whatever its counts say.
    pub fn demote(&self, hash: KeyHash) {
        let mut inner = self.lock();
        inner.demote(hash);
        self.publish(&mut inner);
    }

    /// These keys of a pool are promoted from now on and never demoted for
    /// being cool. A list replaces the one before: keys that are no longer on
    /// it stay promoted only for as long as they are hot.
    pub fn always(&self, hasher: &KeyHasher, pool: u16, keys: &[Box<[u8]>]) {
        let mut inner = self.lock();
        for promoted in inner.ledger(pool).promoted.values_mut() {
            if promoted.reason == Reason::Always {
                promoted.reason = Reason::Reads;
            }
        }
        for key in keys {
            let hash = hasher.hash_in(pool, key);
            inner.promote_by_hand(hash, pool, key, Reason::Always);
        }
        self.publish(&mut inner);
    }

    /// Promote keys that were hot in another life of the process, the hottest
    /// first. Until `until_ms` none is demoted for being cool; from then on they
    /// are judged like all others. What is promoted already stays as it is, and
    /// what is too long, or one too many, is passed over.
    pub fn preload<'k>(
        &self,
        keys: impl IntoIterator<Item = (KeyHash, u16, &'k [u8])>,
        until_ms: u64,
    ) {
        let mut inner = self.lock();
        for (hash, pool, key) in keys {
            let full = inner.promoted >= inner.promoted_max;
            if full || key.len() > ledger::KEY_MAX || inner.promoted(hash).is_some() {
                continue;
            }
            inner.promote_by_hand(hash, pool, key, Reason::Preload);
            if let Some(promoted) = inner.promoted(hash) {
                promoted.hold(until_ms);
            }
        }
        self.publish(&mut inner);
    }

    /// Demote what was preloaded into pools that no worker has had a request
    /// for: nobody would ever judge it.
    pub fn forget_unheard(&self) {
        let mut inner = self.lock();
        let unheard = inner.ledgers.values().filter(|ledger| ledger.is_unheard());
        let keys = unheard.flat_map(|ledger| ledger.promoted.values());
        let preloaded = keys.filter(|promoted| promoted.reason == Reason::Preload);
        let hashes: Vec<KeyHash> = preloaded.map(|promoted| promoted.key.hash).collect();
        for hash in hashes {
            inner.demote(hash);
        }
        self.publish(&mut inner);
    }

    /// A worker did this with a promoted key.
    pub fn count(&self, hash: KeyHash, counts: Counts) {
        let mut inner = self.lock();
        if let Some(promoted) = inner.promoted(hash) {
            let sum = &mut promoted.counts;
            sum.hits = sum.hits.saturating_add(counts.hits);
            sum.misses = sum.misses.saturating_add(counts.misses);
            sum.bytes = sum.bytes.saturating_add(counts.bytes);
        }
    }

    /// What is known of the promoted keys, the busiest first.
    pub fn rows(&self) -> Vec<Row> {
        let inner = self.lock();
        let ledgers = inner.ledgers.values();
        let rows = ledgers.flat_map(|ledger| {
            let promoted = ledger.promoted.values();
            promoted.map(|promoted| ledger.row(promoted))
        });
        let mut rows: Vec<Row> = rows.collect();
        let busy = |row: &Row| (row.reads.lower + row.writes.lower, row.bytes.lower);
        rows.sort_by_key(|row| (std::cmp::Reverse(busy(row)), row.key.hash));
        rows
    }

    /// How many requests a key of this pool drew in the pool's own window,
    /// promoted or not, as of the last sub-window that all workers posted.
    pub fn bounds(&self, pool: u16, hash: KeyHash) -> Bounds {
        let inner = self.lock();
        let ledger = inner.ledgers.get(&pool);
        ledger.map_or(Bounds::default(), |ledger| ledger.bounds(hash))
    }

    /// The keys of this pool that any worker names, promoted or not: those
    /// with at least a quarter of the threshold, and perhaps others.
    pub fn named(&self, pool: u16) -> Vec<KeyHash> {
        let inner = self.lock();
        inner.ledgers.get(&pool).map_or(Vec::new(), Ledger::named)
    }

    /// A worker's sub-window has ended.
    pub(crate) fn post(&self, place: &Place, window: usize, post: Post, now_ms: u64) -> Answer {
        let mut inner = self.lock();
        let answer = inner.post(place, window, post, now_ms);
        self.publish_in_time(&mut inner);
        answer
    }

    /// A key grows too fast to wait for the end of the sub-window that opened
    /// at `opened_ms`.
    pub(crate) fn report(
        &self,
        place: &Place,
        window: usize,
        opened_ms: u64,
        (hash, key): (KeyHash, Option<&[u8]>),
        notes: [Note; 3],
        now_ms: u64,
    ) -> Outcome {
        let mut inner = self.lock();
        if !inner.hears(place, now_ms) {
            return Outcome::Settled;
        }
        let ledger = inner.ledger(place.pool);
        ledger.note(place.worker, window, opened_ms, hash, notes);
        if let Some(key) = key {
            ledger.name(hash, key);
        }
        let outcome = inner.consider(place.pool, window, &[hash]).outcome(hash);
        self.publish_in_time(&mut inner);
        outcome
    }

    /// The name of a key that was wanted.
    pub(crate) fn name(&self, place: &Place, (hash, key): (KeyHash, &[u8]), now_ms: u64) {
        let mut inner = self.lock();
        if inner.hears(place, now_ms) {
            inner.ledger(place.pool).name(hash, key);
            inner.consider(place.pool, 0, &[hash]);
            self.publish_in_time(&mut inner);
        }
    }

    /// Publish what has changed, unless the last set is younger than `pace`:
    /// ten thousand promotions in a row are not to be ten thousand sets.
    fn publish_in_time(&self, inner: &mut Inner) {
        let pace_ms = (inner.promoted / KEYS_PER_MS) as u64;
        if inner.now_ms - inner.set_ms >= pace_ms {
            self.publish(inner);
        }
    }

    fn publish(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.set_is_old) {
            inner.set = Arc::new(inner.make_set());
            inner.set_ms = inner.now_ms;
            self.version.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn post(&mut self, place: &Place, window: usize, post: Post, now_ms: u64) -> Answer {
        if !self.hears(place, now_ms) {
            return Answer::default();
        }
        let sheets = post.sheets.iter();
        let mut hashes: Vec<KeyHash> = sheets.flat_map(|s| s.notes.keys().copied()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let now_ms = self.now_ms;
        let ledger = self.ledger(place.pool);
        for cooled in ledger.post(place.worker, window, post, now_ms) {
            self.demote(cooled);
        }
        self.consider(place.pool, window, &hashes)
    }

    /// Whether this watch may speak.
    fn hears(&mut self, place: &Place, now_ms: u64) -> bool {
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;
        self.ledger(place.pool).hears(place, now_ms)
    }

    /// Promote those of the keys that are hot, the hottest first.
    fn consider(&mut self, pool: u16, window: usize, hashes: &[KeyHash]) -> Answer {
        let now_ms = self.now_ms;
        let ledger = self.ledgers.entry(pool).or_default();
        let mut answer = ledger.answer(hashes);
        let new = hashes
            .iter()
            .filter(|hash| !ledger.promoted.contains_key(hash));
        let hot = new.filter_map(|&hash| ledger.candidate(hash, window));
        let mut hot: Vec<Candidate> = hot.collect();
        hot.sort_by_key(|candidate| std::cmp::Reverse(candidate.heat));
        for candidate in hot {
            if self.promoted >= self.promoted_max {
                answer.settled.push(candidate.hash);
            } else if ledger.promote(&candidate, pool, self.serial + 1, now_ms) {
                self.serial += 1;
                self.promoted += 1;
                self.set_is_old = true;
                answer.settled.push(candidate.hash);
            } else {
                answer.wanted.insert(candidate.hash);
            }
        }
        answer
    }

    fn promote_by_hand(&mut self, hash: KeyHash, pool: u16, key: &[u8], reason: Reason) {
        if let Some(promoted) = self.promoted(hash) {
            promoted.reason = reason;
            return;
        }
        self.serial += 1;
        self.promoted += 1;
        self.set_is_old = true;
        let (key, now_ms) = (HotKey::new(hash, pool, key, self.serial), self.now_ms);
        self.ledger(pool).promote_by_hand(key, reason, now_ms);
    }

    fn demote(&mut self, hash: KeyHash) {
        let mut ledgers = self.ledgers.values_mut();
        let Some(promoted) = ledgers.find_map(|ledger| ledger.promoted.remove(&hash)) else {
            return;
        };
        // First: whoever still has the old set must not serve it any more.
        promoted.key.retire();
        self.promoted -= 1;
        self.set_is_old = true;
    }

    fn promoted(&mut self, hash: KeyHash) -> Option<&mut Promoted> {
        let mut ledgers = self.ledgers.values_mut();
        ledgers.find_map(|ledger| ledger.promoted.get_mut(&hash))
    }

    fn ledger(&mut self, pool: u16) -> &mut Ledger {
        self.ledgers.entry(pool).or_default()
    }

    fn make_set(&self) -> HotSet {
        let promoted = self.ledgers.values().flat_map(|l| l.promoted.values());
        let keys = promoted.map(|promoted| (promoted.key.hash, Arc::clone(&promoted.key)));
        HotSet {
            keys: keys.collect(),
        }
    }
}
