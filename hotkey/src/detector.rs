//! One worker's detector: a sliding window of set-associative Space-Saving
//! tables (Metwally, Agrawal and El Abbadi 2005).
//!
//! A table counts one sub-window. A key belongs to one of 256 buckets, which
//! has room for eight keys. A key that is not among them replaces the one
//! with the smallest count, and inherits that count as its possible error:
//!
//! ```text
//! bucket   a: 90   b: 41   c: 7   ...   h: 3        z comes
//! becomes  a: 90   b: 41   c: 7   ...   z: 4 (of which 3 may be h's)
//! ```
//!
//! So a key was seen at most `count` and at least `count - error` times, and
//! one that is not in its bucket at most as often as the bucket's minimum.
//! The window is the last ten tables, the youngest of which is still being
//! filled; bounds over it are sums over the tables. A tumbling window would
//! see a quarter of the hot keys.
//!
//! No running totals are kept. Adding up ten buckets costs as much as several
//! requests and is done only where an answer can have changed: each time a
//! key's certain count crosses a step of a sixteenth of the threshold, and
//! when a table is closed, for the buckets that may hold a hot key.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::KeyHash;

/// Tables in a window.
pub const SUB_WINDOWS: usize = 10;

const BUCKETS: usize = 256;
const WAYS: usize = 8;
/// Rotations in a row that a hot key must be cool before it is demoted.
const COOL_ROTATIONS: u8 = 2;

/// What is hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The sliding window in milliseconds. Longer ones find slower keys and
    /// forget later. Rounded down to whole sub-windows, at least 1 ms each.
    pub window_ms: u64,
    /// The weight (requests, or bytes) in one window from which on a key is
    /// hot; 0 is read as 1.
    pub threshold: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window_ms: 1000,
            threshold: 1000,
        }
    }
}

/// Certified bounds on a key's weight in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// It was seen at least this often.
    pub lower: u64,
    /// It was seen at most this often.
    pub upper: u64,
}

/// A key that became hot or ceased to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heat {
    /// Its lower bound reached the threshold.
    Promoted(KeyHash),
    /// Its upper bound stayed below half the threshold for two rotations.
    Demoted(KeyHash),
}

/// Counts keys over a sliding window and tells which are hot.
///
/// Times are milliseconds of any clock that does not go back; a time before
/// one already seen counts as that one.
#[derive(Debug)]
pub struct Detector {
    /// `SUB_WINDOWS` tables; the one after `youngest` is the oldest.
    tables: Vec<Table>,
    youngest: usize,
    /// When the youngest table is to be closed.
    closes_ms: u64,
    sub_window_ms: u64,
    threshold: u64,
    /// A key is looked at when its certain count passes a multiple of
    /// `1 << step_bits`, which is at most a sixteenth of the threshold.
    step_bits: u32,
    /// The hot keys, and for how many rotations each has been cool.
    hot: HashMap<KeyHash, u8, RandomState>,
    changes: Vec<Heat>,
}

impl Detector {
    /// An empty detector whose first sub-window starts at `now_ms`.
    pub fn new(settings: Settings, now_ms: u64) -> Detector {
        let sub_window_ms = (settings.window_ms / SUB_WINDOWS as u64).max(1);
        let threshold = settings.threshold.max(1);
        Detector {
            tables: vec![Table::default(); SUB_WINDOWS],
            youngest: 0,
            closes_ms: now_ms.saturating_add(sub_window_ms),
            sub_window_ms,
            threshold,
            step_bits: (threshold / 16).max(1).ilog2(),
            hot: HashMap::default(),
            changes: Vec::new(),
        }
    }

    /// Counts a request of this weight (1, or its reply's bytes).
    #[inline]
    pub fn record(&mut self, key: KeyHash, weight: u32, now_ms: u64) {
        if now_ms >= self.closes_ms {
            self.rotate(now_ms);
        }
        let certain = u64::from(self.tables[self.youngest].record(key, weight));
        let before = certain.saturating_sub(weight.into());
        if before >> self.step_bits != certain >> self.step_bits {
            self.promote_if_hot(key);
        }
    }

    /// Closes the sub-windows that have ended. Call it now and then when
    /// there may be no requests, or cool keys stay hot.
    pub fn tick(&mut self, now_ms: u64) {
        if now_ms >= self.closes_ms {
            self.rotate(now_ms);
        }
    }

    /// What changed since the last call, in order.
    pub fn changes(&mut self) -> impl Iterator<Item = Heat> + '_ {
        self.changes.drain(..)
    }

    /// Whether there is something for [`changes`](Detector::changes).
    #[inline]
    pub fn changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether this key is hot.
    pub fn is_hot(&self, key: KeyHash) -> bool {
        self.hot.contains_key(&key)
    }

    /// The hot keys, in no order.
    pub fn hot(&self) -> impl ExactSizeIterator<Item = KeyHash> + '_ {
        self.hot.keys().copied()
    }

    /// How often this key was seen in the window.
    pub fn bounds(&self, key: KeyHash) -> Bounds {
        let mut bounds = Bounds { lower: 0, upper: 0 };
        for table in &self.tables {
            let bucket = &table.buckets[bucket_of(key)];
            match bucket.find(key) {
                Some(way) => {
                    bounds.lower += u64::from(bucket.certain(way));
                    bounds.upper += u64::from(bucket.counts[way]);
                }
                None => bounds.upper += u64::from(bucket.least().1),
            }
        }
        bounds
    }

    /// Every key in the tables whose upper bound is at least `least`, each
    /// once, by bucket. What is left out was seen less often than that.
    pub fn at_least(&self, least: u64) -> Vec<(KeyHash, Bounds)> {
        let mut found = Vec::new();
        let mut keys: Vec<KeyHash> = Vec::with_capacity(SUB_WINDOWS * WAYS);
        for bucket in 0..BUCKETS {
            keys.clear();
            for table in &self.tables {
                keys.extend(table.buckets[bucket].keys());
            }
            keys.sort_unstable();
            keys.dedup();
            let bounded = keys.iter().map(|&key| (key, self.bounds(key)));
            found.extend(bounded.filter(|(_, bounds)| bounds.upper >= least));
        }
        found
    }

    /// Ends every sub-window up to `now_ms`. While one is being closed the
    /// tables hold ten whole ones: the window exactly.
    #[cold]
    fn rotate(&mut self, now_ms: u64) {
        let ended = (now_ms - self.closes_ms) / self.sub_window_ms + 1;
        // After so many the tables are empty and all keys demoted.
        let turns = ended.min((SUB_WINDOWS + usize::from(COOL_ROTATIONS)) as u64);
        for _ in 0..turns {
            self.promote_youngest();
            self.demote_cool();
            self.youngest = (self.youngest + 1) % SUB_WINDOWS;
            self.tables[self.youngest].buckets.fill(Bucket::EMPTY);
        }
        let behind = ended.saturating_mul(self.sub_window_ms);
        self.closes_ms = self.closes_ms.saturating_add(behind);
    }

    /// Looks at the keys that passed no step since they reached the
    /// threshold. Most buckets are cool as a whole and need no closer look.
    fn promote_youngest(&mut self) {
        for bucket in 0..BUCKETS {
            let certain_max = |table: &Table| u64::from(table.buckets[bucket].certain_max());
            if self.tables.iter().map(certain_max).sum::<u64>() < self.threshold {
                continue;
            }
            for way in 0..WAYS {
                let bucket = &self.tables[self.youngest].buckets[bucket];
                if bucket.certain(way) > 0 {
                    self.promote_if_hot(KeyHash(bucket.keys[way]));
                }
            }
        }
    }

    fn promote_if_hot(&mut self, key: KeyHash) {
        if self.bounds(key).lower >= self.threshold && self.hot.insert(key, 0).is_none() {
            self.changes.push(Heat::Promoted(key));
        }
    }

    fn demote_cool(&mut self) {
        let mut hot = std::mem::take(&mut self.hot);
        hot.retain(|&key, cool| {
            if self.bounds(key).upper.saturating_mul(2) < self.threshold {
                *cool += 1;
            } else {
                *cool = 0;
            }
            let stays = *cool < COOL_ROTATIONS;
            if !stays {
                self.changes.push(Heat::Demoted(key));
            }
            stays
        });
        self.hot = hot;
    }
}

/// One sub-window: 32 KiB.
#[derive(Clone, Debug)]
struct Table {
    buckets: Box<[Bucket; BUCKETS]>,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            buckets: Box::new([Bucket::EMPTY; BUCKETS]),
        }
    }
}

impl Table {
    /// Counts the key and returns how much of its count is certain.
    #[inline]
    fn record(&mut self, key: KeyHash, weight: u32) -> u32 {
        let bucket = &mut self.buckets[bucket_of(key)];
        let way = match bucket.find(key) {
            Some(way) => way,
            None => {
                let (way, count) = bucket.least();
                bucket.keys[way] = key.0;
                bucket.errors[way] = count;
                way
            }
        };
        bucket.counts[way] = bucket.counts[way].saturating_add(weight);
        bucket.certain(way)
    }
}

/// Eight keys in two cache lines. A count of 0 marks a free way.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    keys: [u64; WAYS],
    /// Saturate: more than 4 GiB of replies in a sub-window count as that.
    counts: [u32; WAYS],
    /// How much of the count another key may have left behind.
    errors: [u32; WAYS],
}

impl Bucket {
    const EMPTY: Bucket = Bucket {
        keys: [0; WAYS],
        counts: [0; WAYS],
        errors: [0; WAYS],
    };

    /// The way of this key. Free ways hold the key 0, which does no harm: if
    /// that key is not in a bucket with free ways, it was never seen, and
    /// says so with the count that it is found with.
    ///
    /// Written without a branch until the end, as is `least`: which of eight
    /// ways it will be cannot be predicted.
    #[inline]
    fn find(&self, key: KeyHash) -> Option<usize> {
        let equal = |way: usize| u32::from(self.keys[way] == key.0) << way;
        let found = (0..WAYS).fold(0, |found, way| found | equal(way));
        (found != 0).then_some(found.trailing_zeros() as usize)
    }

    /// The way with the smallest count, and that count.
    #[inline]
    fn least(&self) -> (usize, u32) {
        let packed = |way: usize| u64::from(self.counts[way]) << 8 | way as u64;
        let least = (0..WAYS).map(packed).fold(u64::MAX, u64::min);
        ((least & 0xff) as usize, (least >> 8) as u32)
    }

    /// The largest certain count of any way.
    fn certain_max(&self) -> u32 {
        (0..WAYS).fold(0, |max, way| max.max(self.certain(way)))
    }

    #[inline]
    fn certain(&self, way: usize) -> u32 {
        self.counts[way] - self.errors[way]
    }

    fn keys(&self) -> impl Iterator<Item = KeyHash> + '_ {
        let taken = (0..WAYS).filter(|&way| self.counts[way] > 0);
        taken.map(|way| KeyHash(self.keys[way]))
    }
}

/// The top bits, so that the rest tells the keys of a bucket apart.
#[inline]
fn bucket_of(key: KeyHash) -> usize {
    (key.0 >> 56) as usize
}

#[cfg(test)]
mod tests;
