//! mcrouter's WeightedCh3.
//!
//! Source: mcrouter `mcrouter/lib/WeightedCh3HashFunc.cpp`. Its weights are
//! fractions of 1; ours count, so the largest of a pool stands for 1.
//! Written from scratch.

use super::Member;
use super::ch3;
use super::jump::next_live;
use crate::hash::spooky;

const SEED: u32 = 0xface_2014;
/// Salts that are tried before the last choice stands.
const TRIES: usize = 32;
/// Longer keys are copied to the heap when they must be salted.
const SHORT: usize = 256;

#[derive(Debug)]
pub struct WeightedCh3 {
    /// A server is accepted when the second hash lies below its threshold.
    thresholds: Vec<u32>,
    live: Vec<bool>,
}

impl WeightedCh3 {
    pub fn new(members: &[Member]) -> WeightedCh3 {
        let largest = members.iter().map(|member| member.weight).max();
        let largest = f64::from(largest.unwrap_or(1));
        WeightedCh3::of(
            members
                .iter()
                .map(|member| f64::from(member.weight) / largest),
        )
    }

    /// Of weights from 0 to 1, as mcrouter is configured with.
    fn of(weights: impl Iterator<Item = f64>) -> WeightedCh3 {
        let (thresholds, live) = weights
            .map(|weight| ((weight * f64::from(u32::MAX)) as u32, weight > 0.0))
            .unzip();
        WeightedCh3 { thresholds, live }
    }

    /// Salts the key with "", "0", "1", ... until a server accepts it.
    pub fn pick(&self, key: &[u8]) -> usize {
        if let Some(index) = self.accepted(key) {
            return index;
        }
        let mut short = [0; SHORT + 2];
        let mut long = Vec::new();
        let salted: &mut [u8] = if key.len() <= SHORT {
            &mut short[..key.len() + 2]
        } else {
            long.resize(key.len() + 2, 0);
            &mut long
        };
        salted[..key.len()].copy_from_slice(key);

        let mut last = key.len();
        for salt in 0..TRIES - 1 {
            // The digits of the salt, the lowest first.
            salted[key.len()] = b'0' + (salt % 10) as u8;
            salted[key.len() + 1] = b'0' + (salt / 10) as u8;
            last = key.len() + if salt < 10 { 1 } else { 2 };
            if let Some(index) = self.accepted(&salted[..last]) {
                return index;
            }
        }
        let refused = ch3::furc(ch3::hash(&salted[..last]), self.thresholds.len());
        next_live(&self.live, refused)
    }

    fn accepted(&self, key: &[u8]) -> Option<usize> {
        let index = ch3::furc(ch3::hash(key), self.thresholds.len());
        let accepted = spooky::hash32(key, SEED) < self.thresholds[index];
        accepted.then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ring: &WeightedCh3, keys: usize) -> Vec<usize> {
        let mut counts = vec![0; ring.live.len()];
        for key in 0..keys {
            counts[ring.pick(key.to_string().as_bytes())] += 1;
        }
        counts
    }

    /// Source: mcrouter, `mcrouter/lib/test/WeightedCh3HashTest.cpp`.
    #[test]
    fn published_counts() {
        let member = |weight| Member {
            name: String::new(),
            weight,
        };
        let reduced = WeightedCh3::new(&[10, 10, 7].map(member));
        assert_eq!(counts(&reduced, 1000), [341, 371, 288]);
        let random = [
            0.429, 0.541, 0.117, 0.998, 0.283, 0.065, 0.109, 0.042, 0.676, 0.943,
        ];
        assert_eq!(
            counts(&WeightedCh3::of(random.into_iter()), 10_000),
            [1016, 1252, 288, 2354, 661, 195, 247, 122, 1668, 2197]
        );
    }

    fn checksum(ring: &WeightedCh3, prefix: &str) -> u32 {
        (0..10_000).fold(0u32, |sum, i| {
            let index = ring.pick(format!("{prefix}{i}").as_bytes());
            sum.wrapping_mul(31).wrapping_add(index as u32)
        })
    }

    /// Source: the same file, polynomial checksums.
    #[test]
    fn published_checksums() {
        let mixed = WeightedCh3::of([1.0, 0.5, 0.0, 0.75, 1.0].into_iter());
        assert_eq!(checksum(&mixed, "d"), 2_309_057_571);
        let half = |count| WeightedCh3::of(std::iter::repeat_n(0.5, count));
        assert_eq!(checksum(&half(2), "k"), 2_395_690_262);
        assert_eq!(checksum(&half(10), "k"), 547_444_706);
        assert_eq!(checksum(&half(10_000), "k"), 3_378_951_161);
        let long: String = ('A'..='Z').cycle().take(128).collect();
        assert_eq!(checksum(&half(2), &long), 3_784_301_429);
        assert_eq!(checksum(&half(100), &long), 4_273_108_085);
    }

    #[test]
    fn keys_of_any_length_are_salted() {
        let ring = WeightedCh3::of([0.001, 1.0, 0.0].into_iter());
        for length in [0, 1, 255, 256, 257, 5000] {
            let picked = ring.pick(&vec![b'k'; length]);
            assert!(picked < 2, "{length}");
        }
    }
}
