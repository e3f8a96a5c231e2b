//! mcrouter's Ch3, the furc hash: a walk through a binary tree of servers,
//! steered by bits drawn from the key. Servers may be added and removed at
//! the end of the list only; anywhere else, drain them instead.
//!
//! Source: mcrouter `mcrouter/lib/fbi/hash.c`. Written from scratch: bits are
//! drawn as they are asked for, where mcrouter keeps up to 1,024 words.

use super::Member;
use super::jump::next_live;
use super::mix::STEP;
use crate::hash::murmur64;

const SEED: u64 = 4_193_360_111;
/// Draws before a key gives up and goes to server 0.
const TRIES: u32 = 32;
/// Distance between two bits of one draw. Bounds a pool to 2^23 servers.
const STRIDE: u32 = 23;
/// How often a key that lands on a drained server is hashed again.
const DRAIN_TRIES: u64 = 64;

#[derive(Debug)]
pub struct Ch3 {
    live: Vec<bool>,
}

impl Ch3 {
    pub fn new(members: &[Member]) -> Ch3 {
        let live = members.iter().map(|member| member.weight > 0).collect();
        Ch3 { live }
    }

    /// mcrouter's choice; where that is drained, a choice among the others
    /// that leaves everybody else's keys in place.
    pub fn pick(&self, key: &[u8]) -> usize {
        let count = self.live.len();
        let hash = hash(key);
        let first = furc(hash, count);
        if self.live[first] {
            return first;
        }
        let mut again = (1..DRAIN_TRIES).map(|i| furc(hash ^ i.wrapping_mul(STEP), count));
        let found = again.find(|&index| self.live[index]);
        found.unwrap_or_else(|| next_live(&self.live, first))
    }
}

/// The first 64 bits of a key's stream; the others follow from them.
pub fn hash(key: &[u8]) -> u64 {
    murmur64::hash(key, SEED)
}

/// The furc hash of a key whose stream starts with `hash`, below `count`.
pub fn furc(hash: u64, count: usize) -> usize {
    if count <= 1 {
        return 0;
    }
    let mut bits = Bits::new(hash);
    let mut depth = count.next_power_of_two().ilog2();
    let mut at = depth;
    for _ in 0..TRIES {
        // Every 0 halves the servers in question to the older half.
        while !bits.bit(at) {
            depth -= 1;
            if depth == 0 {
                return 0;
            }
            at = depth;
        }
        // A 1 chose the newer half, whose servers have `depth` bits.
        at += STRIDE;
        let mut index = 1;
        for _ in 1..depth {
            index = index << 1 | usize::from(bits.bit(at));
            at += STRIDE;
        }
        if index < count {
            return index;
        }
    }
    0
}

/// The endless stream of bits behind a key: each word is the hash of the one
/// before it.
struct Bits {
    first: u64,
    word: u64,
    place: u32,
}

impl Bits {
    fn new(first: u64) -> Bits {
        Bits {
            first,
            word: first,
            place: 0,
        }
    }

    fn bit(&mut self, at: u32) -> bool {
        let place = at / u64::BITS;
        if place < self.place {
            (self.word, self.place) = (self.first, 0);
        }
        while self.place < place {
            self.word = murmur64::hash_word(self.word, SEED);
            self.place += 1;
        }
        self.word >> (at % u64::BITS) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(key: &[u8], count: usize) -> usize {
        furc(hash(key), count)
    }

    /// Source: mcrouter, `mcrouter/lib/test/WeightedCh3HashTest.cpp` with
    /// weights of 1, which it requires to equal the plain furc hash.
    #[test]
    fn published_vectors() {
        assert_eq!(pick(b"sample", 100), 97);
        assert_eq!(pick(b"sample", 1), 0);
        assert_eq!(pick(b"", 100), 72);
        assert_eq!(pick(b"", 1 << 23), 6_173_600);
        assert_eq!(pick(b"sample", 1 << 23), 5_167_780);
        let up: Vec<u8> = (0..=255u8).map(|i| i.wrapping_sub(128)).collect();
        let down: Vec<u8> = up.iter().rev().copied().collect();
        assert_eq!(pick(&up, 99_999), 31_015);
        assert_eq!(pick(&down, 99_999), 67_101);
    }

    /// Source: the same file, polynomial checksums over the keys k0, k1, ...
    #[test]
    fn published_checksums() {
        let checksums = [
            (2, 1_346_413_954u32),
            (3, 914_505_363),
            (7, 4_252_552_508),
            (10, 2_894_016_351),
            (16, 2_995_729_350),
            (100, 2_289_223_413),
            (1000, 2_251_851_331),
            (10_000, 1_328_492_545),
            (100_000, 1_053_928_120),
        ];
        for (count, checksum) in checksums {
            let got = (0..100_000).fold(0u32, |sum, i| {
                let index = pick(format!("k{i}").as_bytes(), count);
                sum.wrapping_mul(31).wrapping_add(index as u32)
            });
            assert_eq!(got, checksum, "{count}");
        }
    }
}
