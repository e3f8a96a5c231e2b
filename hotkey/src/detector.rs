//! One worker's counter of keys: a sliding window of Space-Saving tables.
//!
//! The window is the last ten [`Table`]s, the youngest of which is still being
//! filled; bounds over it are sums over the tables. A tumbling window would
//! see a quarter of the hot keys.
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
/// Takes memory when something is counted, 32 KiB for each sub-window, and
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

    /// Ends the sub-window: the oldest of the ten is forgotten.
    pub fn close(&mut self) {
        let mut youngest = std::mem::take(&mut self.youngest);
        let idle = youngest.is_empty();
        if idle {
            youngest = Table::default();
        }
        let mut forgotten = std::mem::replace(&mut self.closed[self.oldest], youngest);
        if !idle {
            forgotten.clear();
            self.youngest = forgotten;
        }
        self.oldest = (self.oldest + 1) % self.closed.len();
    }

    /// How often this key was seen in the window.
    pub fn bounds(&self, key: KeyHash) -> Bounds {
        self.tables().fold(Bounds::default(), |sum, table| {
            let bucket = table.bucket(bucket_of(key));
            let (lower, upper) = bucket.map_or((0, 0), |bucket| bucket.bounds(key));
            Bounds {
                lower: sum.lower + u64::from(lower),
                upper: sum.upper + u64::from(upper),
            }
        })
    }

    /// What [`bounds`](Detector::bounds) and the nine younger tables say.
    pub fn sighting(&self, key: KeyHash) -> Sighting {
        let bounds = self.bounds(key);
        let oldest = self.closed[self.oldest].bucket(bucket_of(key));
        let leaves = oldest.map_or(0, |bucket| bucket.bounds(key).0);
        Sighting {
            hash: key,
            bounds,
            recent: bounds.lower - u64::from(leaves),
        }
    }

    /// The keys that may have been seen `limit` times, the busiest
    /// [`HEAVY_MAX`] of them. Takes some tens of microseconds.
    pub fn heavy(&self, limit: u64) -> Heavy {
        let mut heavy = Heavy {
            rest: limit,
            total: self.tables().map(Table::total).sum(),
            ..Heavy::default()
        };
        if heavy.total == 0 {
            heavy.rest = 0;
            return heavy;
        }
        for bucket in 0..BUCKETS {
            self.heavy_in(bucket, limit, &mut heavy);
        }
        let rest = heavy.rest;
        let named = |key: &Sighting| key.bounds.upper > rest || key.bounds.lower >= limit;
        heavy.keys.retain(named);
        heavy.keep_busiest();
        heavy
    }

    /// Whoever reaches the limit over ten tables has a tenth of it in one of
    /// them. Elsewhere it may hide below the bucket's minimum; how much that
    /// can be in sum becomes part of `rest`.
    fn heavy_in(&self, index: usize, limit: u64, heavy: &mut Heavy) {
        let share = limit / SUB_WINDOWS as u64;
        let mut names = [KeyHash(0); SUB_WINDOWS * WAYS];
        let mut count = 0;
        let mut hidden = 0;
        for bucket in self.tables().filter_map(|table| table.bucket(index)) {
            let floor = share.max(bucket.floor().into());
            hidden += floor;
            for key in bucket.above(floor) {
                names[count] = key;
                count += 1;
            }
        }
        heavy.rest = heavy.rest.max(hidden);
        let names = &mut names[..count];
        names.sort_unstable();
        for (i, &name) in names.iter().enumerate() {
            if i == 0 || names[i - 1] != name {
                heavy.keys.push(self.sighting(name));
            }
        }
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        size_of::<Detector>() + self.tables().map(Table::memory).sum::<usize>()
    }

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
