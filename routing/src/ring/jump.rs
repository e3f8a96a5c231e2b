//! Jump consistent hash (Lamping and Veach 2014, arXiv:1406.2294): no table,
//! perfectly even. Servers may be added and removed at the end of the list
//! only; anywhere else, drain them instead.
//!
//! A drained server keeps its place, so that nobody else's keys move: a key
//! that lands on it is hashed again until it lands on a live one.

use super::Member;
use super::mix::{STEP, spread};

/// How often a key is hashed again before the next live server takes it.
const TRIES: u64 = 64;

#[derive(Debug)]
pub struct Jump {
    live: Vec<bool>,
}

impl Jump {
    pub fn new(members: &[Member]) -> Jump {
        let live = members.iter().map(|member| member.weight > 0).collect();
        Jump { live }
    }

    #[inline]
    pub fn pick(&self, hash: u32) -> usize {
        let first = jump(hash.into(), self.live.len());
        if self.live[first] {
            return first;
        }
        let mut again = (1..TRIES).map(|i| {
            jump(
                spread(u64::from(hash).wrapping_add(i.wrapping_mul(STEP))),
                self.live.len(),
            )
        });
        let found = again.find(|&index| self.live[index]);
        found.unwrap_or_else(|| next_live(&self.live, first))
    }
}

/// The first live server behind `index`, around the end. Rings that retry
/// fall back on it, so that they end whatever share of a pool is drained.
pub fn next_live(live: &[bool], index: usize) -> usize {
    let around = (index..live.len()).chain(0..index);
    around.into_iter().find(|&i| live[i]).unwrap_or(index)
}

fn jump(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0u64, 0u64);
    while next < buckets as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let ratio = (1u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * ratio) as u64;
    }
    bucket as usize
}

#[cfg(test)]
mod tests {
    use super::jump;

    /// Source: the tests of Guava's and Go's ports of the paper's code.
    #[test]
    fn published_vectors() {
        assert_eq!(jump(1, 1), 0);
        assert_eq!(jump(42, 57), 43);
        assert_eq!(jump(0xDEAD_10CC, 1), 0);
        assert_eq!(jump(0xDEAD_10CC, 666), 361);
        assert_eq!(jump(256, 1024), 520);
    }
}
