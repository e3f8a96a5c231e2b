//! One worker's counter of keys: a sliding window of Space-Saving tables.
//!
//! The window is the last ten [`Table`]s, the youngest of which is still being
//! filled; bounds over it are sums over the tables. A tumbling window would
//! see a quarter of the hot keys.
//!
//! A hot key is counted exactly from the sub-window on that follows the one in
//! which it was noticed: it is *expected* there.
//!
//! No running totals are kept. Adding up ten buckets costs as much as several
//! requests, so it is done when a sub-window ends ([`Detector::heavy`]) and
//! where a key grows so fast that it cannot wait for that; who decides so is
//! the [`Watch`](crate::Watch). What is hot is not decided here: that takes
//! the counts of all workers, which the [`Board`](crate::Board) has.

mod table;
#[cfg(test)]
mod tests;

use crate::KeyHash;
use table::{BUCKETS, Table, WAYS, bucket_of};

/// Tables in a window.
pub const SUB_WINDOWS: usize = 10;

/// Keys that [`Detector::heavy`] names at most: as many as a table holds.
const HEAVY_MAX: usize = BUCKETS * WAYS;

/// Certified bounds on a key's weight in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// It was seen at least this often.
    pub lower: u64,
    /// It was seen at most this often.
    pub upper: u64,
}

/// Counts keys over a sliding window of ten sub-windows. When one ends is the
/// caller's business.
///
/// Takes memory when something is counted, 35 KiB for each sub-window, and
/// gives it back when nothing has been for a whole window.
#[derive(Debug, Default)]
pub struct Detector {
    youngest: Table,
    /// A ring.
    closed: [Table; SUB_WINDOWS - 1],
    oldest: usize,
}

/// The keys of a window that are worth naming.
#[derive(Debug, Default)]
pub struct Heavy {
    /// Each once, in no order.
    pub keys: Vec<Sighting>,
    /// A key that is not among them was seen at most this often.
    pub rest: u64,
    /// The weight of all keys together.
    pub total: u64,
}

/// What is known of one key in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The key.
    pub hash: KeyHash,
    /// In the whole window.
    pub bounds: Bounds,
    /// It was seen at least this often in the nine younger sub-windows.
    pub recent: u64,
}

impl Detector {
    /// Counts a request of this weight, and returns how much of the key's
    /// weight in the sub-window is certain.
    #[inline]
    pub fn record(&mut self, key: KeyHash, weight: u32) -> u32 {
        self.youngest.record(key, weight)
    }

    /// Ends the sub-window: the oldest of the ten is forgotten. Keys that are
    /// `expected` to be seen again are counted exactly in the one that begins,
    /// the first 4 of each bucket.
    pub fn close(&mut self, expected: &[KeyHash]) {
        let mut youngest = std::mem::take(&mut self.youngest);
        youngest.seal();
        let idle = youngest.is_empty();
        if idle {
            youngest = Table::default();
        }
        let mut forgotten = std::mem::replace(&mut self.closed[self.oldest], youngest);
        if !idle {
            forgotten.clear();
            self.youngest = forgotten;
            expected.iter().for_each(|&key| self.youngest.expect(key));
        }
        self.oldest = (self.oldest + 1) % self.closed.len();
    }

    /// How often this key was seen in the window.
    pub fn bounds(&self, key: KeyHash) -> Bounds {
        self.sighting(key).bounds
    }

    /// The same, and how much of it will stay for another sub-window.
    pub fn sighting(&self, key: KeyHash) -> Sighting {
        let index = bucket_of(key);
        let (mut bounds, mut leaves) = (Bounds::default(), 0);
        for (i, table) in self.tables().enumerate() {
            if let Some(bucket) = table.bucket(index) {
                let (lower, upper) = bucket.bounds(key);
                bounds.lower += u64::from(lower);
                bounds.upper += u64::from(upper);
                leaves += if i == self.oldest {
                    u64::from(lower)
                } else {
                    0
                };
            }
        }
        Sighting {
            hash: key,
            bounds,
            recent: bounds.lower - leaves,
        }
    }

    /// The keys that were certainly seen `limit` times or may have been seen
    /// much more often than the errors of their bucket say of any key; the
    /// busiest 2,048 of them. Takes some tens of microseconds.
    pub fn heavy(&mut self, limit: u64) -> Heavy {
        self.youngest.seal();
        let mut heavy = Heavy {
            total: self.tables().map(Table::total).sum(),
            ..Heavy::default()
        };
        if heavy.total > 0 {
            (0..BUCKETS).for_each(|bucket| self.heavy_in(bucket, limit, &mut heavy));
            heavy.keep_busiest();
        }
        heavy
    }

    /// Most keys of a bucket are cold, and most buckets have no other. So
    /// first those keys are found that have a tenth of what it takes in any of
    /// the ten tables, and only these are added up over all of them.
    fn heavy_in(&self, index: usize, limit: u64, heavy: &mut Heavy) {
        let floor = |table: &Table| u64::from(table.digest(index).floor);
        let hidden: u64 = self.tables().map(floor).sum();
        let rest = limit.max(2 * hidden);
        heavy.rest = heavy.rest.max(rest);
        let certain = limit.div_ceil(SUB_WINDOWS as u64).max(1);
        let excess = (rest - hidden) / SUB_WINDOWS as u64 + 1;

        let mut names = [KeyHash(0); SUB_WINDOWS * WAYS];
        let mut count = 0;
        for table in self.tables() {
            let digest = table.digest(index);
            let possible = u64::from(digest.floor) + excess;
            if u64::from(digest.certain_max) < certain && u64::from(digest.most_max) < possible {
                continue;
            }
            let Some(bucket) = table.bucket(index) else {
                continue;
            };
            for (key, lower, upper) in bucket.taken(index) {
                if u64::from(lower) >= certain || u64::from(upper) >= possible {
                    names[count] = key;
                    count += 1;
                }
            }
        }
        let names = &mut names[..count];
        names.sort_unstable();
        for (i, &name) in names.iter().enumerate() {
            if i > 0 && names[i - 1] == name {
                continue;
            }
            let key = self.sighting(name);
            if key.bounds.lower >= limit || key.bounds.upper > rest {
                heavy.keys.push(key);
            }
        }
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        size_of::<Detector>() + self.tables().map(Table::memory).sum::<usize>()
    }

    /// The oldest is the one with that index.
    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.closed.iter().chain([&self.youngest])
    }
}

impl Heavy {
    fn keep_busiest(&mut self) {
        if self.keys.len() > HEAVY_MAX {
            let busiest = |key: &Sighting| std::cmp::Reverse(key.bounds.upper);
            let (_, first_left_out, _) = self.keys.select_nth_unstable_by_key(HEAVY_MAX, busiest);
            self.rest = self.rest.max(first_left_out.bounds.upper);
            self.keys.truncate(HEAVY_MAX);
        }
    }
}
