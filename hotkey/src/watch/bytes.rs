//! Bytes, counted in quanta.

use crate::SUB_WINDOWS;

/// At most 4 KiB: most replies of a cache are smaller and then count rarely.
const QUANTUM_MAX: u64 = 4096;

/// Quanta in a threshold, at least: chance is off by 3 % then.
const QUANTA_MIN: u64 = 1024;

/// The quantum for a threshold, in bytes.
pub fn quantum(threshold_bytes: u64) -> u64 {
    (threshold_bytes / QUANTA_MIN).clamp(1, QUANTUM_MAX)
}

/// Draws quanta out of replies: `bytes / quantum` of them on average.
#[derive(Debug)]
pub struct Quanta {
    size: u64,
    /// Bytes that pass until the next one is drawn.
    left: u64,
    dice: Dice,
}

impl Quanta {
    pub fn new(threshold_bytes: u64, seed: u64) -> Quanta {
        let size = quantum(threshold_bytes);
        Quanta {
            size,
            left: size,
            dice: Dice::new(seed),
        }
    }

    /// Bytes in a quantum.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many quanta a reply of so many bytes counts.
    #[inline]
    pub fn draw(&mut self, bytes: usize) -> u32 {
        let bytes = bytes as u64;
        if bytes < self.left && bytes < self.size {
            self.left -= bytes;
            return 0;
        }
        self.draw_some(bytes)
    }

    #[inline(never)]
    fn draw_some(&mut self, bytes: u64) -> u32 {
        let mut drawn = bytes / self.size;
        let mut rest = bytes % self.size;
        while rest >= self.left {
            rest -= self.left;
            drawn += 1;
            // 1 ..= 2 * size - 1: `size` on average.
            self.left = 1 + u64::from(self.dice.below(2 * self.size as u32 - 1));
        }
        self.left -= rest;
        // Ten tables of these must not overflow anything.
        drawn.min(u64::from(u32::MAX) / SUB_WINDOWS as u64) as u32
    }
}

/// Chance that is good enough for sampling (SplitMix64).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (((z >> 32) * u64::from(n)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quanta_add_up_to_the_bytes() {
        for size in [1, 10, 100, 1000, 2048, 4095, 4096, 10_000, 1_000_000] {
            let mut quanta = Quanta::new(16 << 20, 1);
            let replies = (400_000_000 / size).min(200_000);
            let drawn: u64 = (0..replies).map(|_| u64::from(quanta.draw(size))).sum();
            let expected = (replies * size) as f64 / 4096.0;
            let off = drawn as f64 / expected - 1.0;
            let error = 3.0 / expected.sqrt();
            assert!(off.abs() < error, "{size}: {drawn}, expected {expected}");
        }
    }

    #[test]
    fn keys_that_take_turns_are_both_seen() {
        let mut quanta = Quanta::new(16 << 20, 1);
        let mut drawn = [0; 2];
        for i in 0..100_000 {
            drawn[i % 2] += quanta.draw(2048);
        }
        assert!(
            drawn.iter().all(|n| (23_500..26_500).contains(n)),
            "{drawn:?}"
        );
    }

    #[test]
    fn a_small_threshold_has_a_small_quantum() {
        assert_eq!(quantum(16 << 20), 4096);
        assert_eq!(quantum(64 << 10), 64);
        assert_eq!(quantum(1), 1);
        let mut quanta = Quanta::new(1, 1);
        assert_eq!(quanta.draw(0), 0);
        assert_eq!(quanta.draw(3), 3);
        assert!(quanta.draw(usize::MAX) > 0);
    }
}
