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

/// 35 KiB once something has been counted, nothing before.
#[derive(Debug, Default)]
pub struct Table {
    buckets: Option<Box<[Bucket; BUCKETS]>>,
    /// Made by [`seal`](Table::seal).
    digests: Vec<Digest>,
    total: u64,
}

/// What there is to know of a bucket without reading it: a closed table is
/// looked at nine more times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest {
    /// What a key that is not in the bucket has at most.
    pub floor: u32,
    /// The largest certain count of any key.
    pub certain_max: u32,
    /// The largest count of any key.
    pub most_max: u32,
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
            bucket.put(way, key);
            bucket.counts[way] = EXPECTED;
            bucket.errors[way] = EXPECTED;
        }
    }

    /// Add up what was counted so far, for [`digest`](Table::digest) and
    /// [`total`](Table::total).
    pub fn seal(&mut self) {
        if let Some(buckets) = &self.buckets {
            self.digests.clear();
            self.digests.extend(buckets.iter().map(Bucket::digest));
            self.total = buckets.iter().map(Bucket::total).sum();
        }
    }

    /// A bucket as it was when the table was sealed.
    #[inline]
    pub fn digest(&self, index: usize) -> Digest {
        self.digests.get(index).copied().unwrap_or_default()
    }

    /// Everything that was counted until the table was sealed.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Forget what was counted, and keep the memory.
    pub fn clear(&mut self) {
        if let Some(buckets) = &mut self.buckets {
            buckets.fill(Bucket::EMPTY);
        }
        self.digests.clear();
        self.total = 0;
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        let buckets = self.buckets.as_ref();
        buckets.map_or(0, |_| size_of::<[Bucket; BUCKETS]>())
            + self.digests.capacity() * size_of::<Digest>()
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

#[inline]
fn tag_of(key: KeyHash) -> u8 {
    (key.0 >> 48) as u8
}

/// Eight keys in two cache lines. A count of 0 marks a free way.
///
/// The first byte of a key is the bucket's index. The second is its *tag*, and
/// the tags of all ways are compared at once, as numbers in one word: of the
/// keys that are not here, 31 in 32 are known by that alone.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Bucket {
    /// A byte for each way, the first the lowest.
    tags: u64,
    /// Bits 32..48 of the keys.
    middles: [u16; WAYS],
    /// Bits 0..32 of the keys.
    lows: [u32; WAYS],
    /// From `EXPECTED` on, those of expected keys.
    counts: [u32; WAYS],
    /// How much of the count another key may have left behind.
    errors: [u32; WAYS],
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

impl Bucket {
    const EMPTY: Bucket = Bucket {
        tags: 0,
        middles: [0; WAYS],
        lows: [0; WAYS],
        counts: [0; WAYS],
        errors: [0; WAYS],
    };

    #[inline]
    fn record(&mut self, key: KeyHash, weight: u32) -> u32 {
        let way = match self.find(key) {
            Some(way) => way,
            None => {
                let (way, count) = self.least();
                self.put(way, key);
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

    /// Everything that was counted.
    fn total(&self) -> u64 {
        (0..WAYS).map(|way| u64::from(self.most(way))).sum()
    }

    fn digest(&self) -> Digest {
        let max = |counts: fn(&Bucket, usize) -> u32| {
            (0..WAYS).map(|way| counts(self, way)).fold(0, u32::max)
        };
        Digest {
            floor: self.least().1,
            certain_max: max(Bucket::certain),
            most_max: max(Bucket::most),
        }
    }

    /// Every key of this bucket, which has this index, with what is certain of its count and what it is at most.
    pub fn taken(&self, index: usize) -> impl Iterator<Item = (KeyHash, u32, u32)> + '_ {
        let taken = (0..WAYS).filter(|&way: &usize| self.counts[way] > 0);
        taken.map(move |way| (self.key(index, way), self.certain(way), self.most(way)))
    }

    /// The way of this key. Free ways hold a key of zeros, which does no harm:
    /// if that key is not in a bucket with free ways, it was never seen, and
    /// says so with the count that it is found with.
    #[inline]
    fn find(&self, key: KeyHash) -> Option<usize> {
        let differ = self.tags ^ (u64::from(tag_of(key)) * LOW_BITS);
        // A byte's high bit, if the byte is 0; above the first such byte a 1
        // may do the same, and is told apart below.
        let mut equal = differ.wrapping_sub(LOW_BITS) & !differ & HIGH_BITS;
        while equal != 0 {
            let way = (equal.trailing_zeros() / 8) as usize % WAYS;
            if self.lows[way] == key.0 as u32 && self.middles[way] == (key.0 >> 32) as u16 {
                return Some(way);
            }
            equal &= equal - 1;
        }
        None
    }

    #[inline]
    fn put(&mut self, way: usize, key: KeyHash) {
        let shift = 8 * (way % WAYS);
        self.tags &= !(0xff << shift);
        self.tags |= u64::from(tag_of(key)) << shift;
        self.middles[way] = (key.0 >> 32) as u16;
        self.lows[way] = key.0 as u32;
    }

    /// The key of this way, in the bucket with this index.
    fn key(&self, index: usize, way: usize) -> KeyHash {
        let tag = self.tags >> (8 * way) & 0xff;
        let high = (index as u64) << 56 | tag << 48;
        KeyHash(high | u64::from(self.middles[way]) << 32 | u64::from(self.lows[way]))
    }

    /// The way with the smallest count, and that count. Written without a
    /// branch: which of eight ways it will be cannot be predicted.
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
