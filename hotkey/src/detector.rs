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
use table::{BUCKETS, Bucket, Table, WAYS, bucket_of};

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

    /// Ends the sub-window: the oldest of the ten is forgotten. Keys that are
    /// `expected` to be seen again are counted exactly in the one that begins,
    /// the first 4 of each bucket.
    pub fn close(&mut self, expected: &[KeyHash]) {
        let mut youngest = std::mem::take(&mut self.youngest);
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

    /// The keys that were certainly seen `limit` times or may have been seen
    /// much more often than the errors of their bucket say of any key; the
    /// busiest 2,048 of them. Takes some tens of microseconds.
    pub fn heavy(&self, limit: u64) -> Heavy {
        let mut heavy = Heavy::default();
        if self.tables().all(Table::is_empty) {
            return heavy;
        }
        let mut rows = Rows::default();
        for bucket in 0..BUCKETS {
            self.heavy_in(bucket, limit, &mut rows, &mut heavy);
        }
        heavy.keep_busiest();
        heavy
    }

    /// Most keys of a bucket are cold, and most buckets have no other. So
    /// first those keys are found that have a tenth of what it takes in any of
    /// the ten tables, and only these are added up over all of them.
    fn heavy_in(&self, index: usize, limit: u64, rows: &mut Rows, heavy: &mut Heavy) {
        let mut buckets = [None; SUB_WINDOWS];
        for (place, table) in buckets.iter_mut().zip(self.oldest_first()) {
            let bucket = table.bucket(index);
            *place = bucket.map(|bucket| (bucket, u64::from(bucket.floor())));
        }
        let hidden: u64 = buckets.iter().flatten().map(|&(_, floor)| floor).sum();
        let rest = limit.max(2 * hidden);
        heavy.rest = heavy.rest.max(rest);
        rows.clear();
        let certain = limit.div_ceil(SUB_WINDOWS as u64).max(1);
        let excess = (rest - hidden) / SUB_WINDOWS as u64 + 1;
        for (bucket, floor) in buckets.iter().flatten() {
            heavy.total += bucket.total();
            for key in bucket.reaching(certain, floor + excess) {
                rows.add(key);
            }
        }
        if rows.count == 0 {
            return;
        }
        for (age, bucket) in buckets.iter().enumerate() {
            if let &Some((bucket, floor)) = bucket {
                rows.count(bucket, floor, age == 0);
            }
        }
        let sightings = rows.all().iter().map(|row| row.sighting(hidden));
        let named = |key: &Sighting| key.bounds.lower >= limit || key.bounds.upper > rest;
        heavy.keys.extend(sightings.filter(named));
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        size_of::<Detector>() + self.tables().map(Table::memory).sum::<usize>()
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.closed.iter().chain([&self.youngest])
    }

    fn oldest_first(&self) -> impl Iterator<Item = &Table> {
        let (younger, older) = self.closed.split_at(self.oldest);
        older.iter().chain(younger).chain([&self.youngest])
    }
}

/// The keys of a bucket over all tables, found by the low bits of their hash.
struct Rows {
    rows: [Row; SUB_WINDOWS * WAYS],
    count: usize,
    /// One more than the index of a row; 0 is free.
    slots: [u8; SLOTS],
}

/// What the tables that have the key say of it.
#[derive(Clone, Copy, Default)]
struct Row {
    key: KeyHash,
    lower: u64,
    upper: u64,
    /// The part of `lower` that leaves the window next.
    leaves: u64,
    /// What these tables would say if they did not have it.
    floors: u64,
}

impl Row {
    /// `hidden` is what all tables would say if they did not have it.
    fn sighting(&self, hidden: u64) -> Sighting {
        Sighting {
            hash: self.key,
            bounds: Bounds {
                lower: self.lower,
                upper: self.upper + hidden - self.floors,
            },
            recent: self.lower - self.leaves,
        }
    }
}

/// A power of two, and more than half as many again as rows.
const SLOTS: usize = 128;

impl Default for Rows {
    fn default() -> Rows {
        Rows {
            rows: [Row::default(); SUB_WINDOWS * WAYS],
            count: 0,
            slots: [0; SLOTS],
        }
    }
}

impl Rows {
    fn clear(&mut self) {
        if self.count > 0 {
            self.count = 0;
            self.slots = [0; SLOTS];
        }
    }

    /// A row for this key, unless it has one. There is a row for every way of
    /// every table, so they suffice.
    fn add(&mut self, key: KeyHash) {
        let slot = self.slot(key);
        if self.slots[slot] == 0 && self.count < self.rows.len() {
            self.rows[self.count] = Row {
                key,
                ..Row::default()
            };
            self.count += 1;
            self.slots[slot] = self.count as u8;
        }
    }

    /// Add what a bucket says to the rows.
    fn count(&mut self, bucket: &Bucket, floor: u64, leaves: bool) {
        for (key, lower, upper) in bucket.taken() {
            let slot = self.slot(key);
            if self.slots[slot] != 0 {
                let row = &mut self.rows[usize::from(self.slots[slot]) - 1];
                row.lower += u64::from(lower);
                row.leaves += if leaves { u64::from(lower) } else { 0 };
                row.upper += u64::from(upper);
                row.floors += floor;
            }
        }
    }

    /// The slot with the key's row, or the free one where it would be.
    #[inline]
    fn slot(&self, key: KeyHash) -> usize {
        let mut slot = key.0 as usize % SLOTS;
        while self.slots[slot] != 0 && self.rows[usize::from(self.slots[slot]) - 1].key != key {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    fn all(&self) -> &[Row] {
        &self.rows[..self.count]
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
