//! One sub-window's counts: set-associative Space-Saving (Metwally, Agrawal
//! and El Abbadi 2005).
//!
//! A key belongs to one of 256 buckets, which has room for eight keys. A key
//! that is not among them replaces the one with the smallest count, and
//! inherits that count as its possible error:
//!
//! ```text
//! bucket   a: 90   b: 41   c: 7   ...   h: 3        z comes
//! becomes  a: 90   b: 41   c: 7   ...   z: 4 (of which 3 may be h's)
//! ```
//!
//! So a key was seen at most `count` and at least `count - error` times, and
//! one that is not in its bucket at most as often as the bucket's minimum. A
//! bucket's counts add up to exactly what was recorded in it.
//!
//! A key that was hot a moment ago need not take that chance: it is *expected*,
//! that is, given a way before the sub-window begins, and nobody replaces it.
//! It begins with the same large number as count and as error, so that it is
//! never the smallest, and is counted exactly, by the code that counts all.

use crate::KeyHash;

pub const BUCKETS: usize = 256;
pub const WAYS: usize = 8;

/// Ways in a bucket that expected keys may take.
const EXPECTED_MAX: usize = WAYS / 2;

/// The count with which an expected key begins. Others stay below: this is
/// more than a worker can count in the longest sub-window of six minutes.
const EXPECTED: u32 = 1 << 31;

/// 32 KiB once something has been counted, nothing before.
#[derive(Debug, Default)]
pub struct Table {
    buckets: Option<Box<[Bucket; BUCKETS]>>,
}

impl Table {
    /// Counts the key and returns how much of its count is certain.
    #[inline]
    pub fn record(&mut self, key: KeyHash, weight: u32) -> u32 {
        let buckets = match &mut self.buckets {
            Some(buckets) => buckets,
            None => self.buckets.insert(empty()),
        };
        buckets[bucket_of(key)].record(key, weight)
    }

    /// The bucket with this index, unless nothing was counted at all.
    #[inline]
    pub fn bucket(&self, index: usize) -> Option<&Bucket> {
        self.buckets.as_ref()?.get(index)
    }

    /// Whether nothing was counted since the table was cleared.
    pub fn is_empty(&self) -> bool {
        let mut buckets = self.buckets.iter().flat_map(|buckets| buckets.iter());
        buckets.all(|bucket| bucket.counts.iter().all(|count| count & !EXPECTED == 0))
    }

    /// Give a key a way of its own. To be called while nothing is counted yet;
    /// of the keys of a bucket the first few get one.
    pub fn expect(&mut self, key: KeyHash) {
        let bucket = &mut self.buckets.get_or_insert_with(empty)[bucket_of(key)];
        let free = bucket.counts[..EXPECTED_MAX]
            .iter()
            .position(|&count| count == 0);
        if let Some(way) = free {
            bucket.keys[way] = key.0;
            bucket.counts[way] = EXPECTED;
            bucket.errors[way] = EXPECTED;
        }
    }

    /// Forget what was counted, and keep the memory.
    pub fn clear(&mut self) {
        if let Some(buckets) = &mut self.buckets {
            buckets.fill(Bucket::EMPTY);
        }
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        self.buckets
            .as_ref()
            .map_or(0, |_| size_of::<[Bucket; BUCKETS]>())
    }
}

#[cold]
fn empty() -> Box<[Bucket; BUCKETS]> {
    Box::new([Bucket::EMPTY; BUCKETS])
}

/// The top bits, so that the rest tells the keys of a bucket apart.
#[inline]
pub fn bucket_of(key: KeyHash) -> usize {
    (key.0 >> 56) as usize
}

/// Eight keys in two cache lines. A count of 0 marks a free way.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Bucket {
    keys: [u64; WAYS],
    /// From `EXPECTED` on, those of expected keys.
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

    #[inline]
    fn record(&mut self, key: KeyHash, weight: u32) -> u32 {
        let way = match self.find(key) {
            Some(way) => way,
            None => {
                let (way, count) = self.least();
                self.keys[way] = key.0;
                self.errors[way] = count;
                way
            }
        };
        self.counts[way] = self.counts[way].saturating_add(weight);
        self.certain(way)
    }

    /// How much of the key's count is certain, and how much it is at most.
    #[inline]
    pub fn bounds(&self, key: KeyHash) -> (u32, u32) {
        match self.find(key) {
            Some(way) => (self.certain(way), self.most(way)),
            None => (0, self.least().1),
        }
    }

    /// The smallest count: what a key that is not here has at most.
    pub fn floor(&self) -> u32 {
        self.least().1
    }

    /// Everything that was counted.
    pub fn total(&self) -> u64 {
        (0..WAYS).map(|way| u64::from(self.most(way))).sum()
    }

    /// The keys of which so much is certain, or so much possible.
    pub fn reaching(&self, certain: u64, possible: u64) -> impl Iterator<Item = KeyHash> + '_ {
        let certain = u32::try_from(certain).unwrap_or(u32::MAX);
        let possible = u32::try_from(possible).unwrap_or(u32::MAX);
        let reaches = |way: usize| (self.certain(way) >= certain) | (self.most(way) >= possible);
        let reaching = (0..WAYS).fold(0, |set, way| set | u32::from(reaches(way)) << way);
        let reaching = (reaching != 0).then_some(reaching).into_iter();
        let ways = reaching.flat_map(|set| (0..WAYS).filter(move |way| set & 1 << way != 0));
        ways.map(|way| KeyHash(self.keys[way]))
    }

    /// Every key, with what is certain of its count and what it is at most.
    pub fn taken(&self) -> impl Iterator<Item = (KeyHash, u32, u32)> + '_ {
        let taken = (0..WAYS).filter(|&way| self.counts[way] > 0);
        taken.map(|way| (KeyHash(self.keys[way]), self.certain(way), self.most(way)))
    }

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

    #[inline]
    fn most(&self, way: usize) -> u32 {
        self.counts[way] & !EXPECTED
    }

    #[inline]
    fn certain(&self, way: usize) -> u32 {
        self.counts[way] - self.errors[way]
    }
}
