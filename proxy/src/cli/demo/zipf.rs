//! Skewed keys: rank `k` is drawn in proportion to `1 / k`.
//!
//! A table of running sums and a binary search: a demo has few keys, and the
//! table is easier to believe than a formula without one.

/// A distribution over the ranks `0..n`.
#[derive(Debug)]
pub struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    pub fn new(n: u32) -> Zipf {
        let mut sum = 0.0;
        let add = |rank: u32| {
            sum += 1.0 / f64::from(rank);
            sum
        };
        Zipf {
            sums: (1..=n.max(1)).map(add).collect(),
        }
    }

    /// The rank that a number in `0.0..1.0` falls on.
    pub fn rank(&self, unit: f64) -> u32 {
        let total = self.sums.last().copied().unwrap_or(0.0);
        let rank = self.sums.partition_point(|&sum| sum <= unit * total);
        rank.min(self.sums.len() - 1) as u32
    }
}

/// Random numbers in `0.0..1.0`, the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct Units(pub u64);

impl Units {
    pub fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_fall_off_as_one_over_k() {
        let zipf = Zipf::new(100);
        let mut units = Units(3);
        let mut seen = [0u32; 100];
        (0..100_000).for_each(|_| seen[zipf.rank(units.draw()) as usize] += 1);
        // The sum of 1/k up to 100 is 5.187: rank 0 gets 19.3 %, rank 1 half of that.
        assert!((18_800..19_800).contains(&seen[0]), "{}", seen[0]);
        assert!((9_300..10_000).contains(&seen[1]), "{}", seen[1]);
        assert_eq!(zipf.rank(0.0), 0);
        assert_eq!(zipf.rank(1.0), 99);
        assert_eq!(Zipf::new(1).rank(0.5), 0);
    }
}
