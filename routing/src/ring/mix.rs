//! Hashes of our own, for the rings that no other proxy has to agree with.

use crate::hash::murmur64;

/// The seed of a member's name; two names share one with chance 2^-64.
pub fn name_seed(name: &str) -> u64 {
    murmur64::hash(name.as_bytes(), 0x656d_6265_726c_696e)
}

/// Spreads all bits of a word over all others (the finish of SplitMix64,
/// Steele, Lea and Flood 2014).
#[inline]
pub fn spread(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The step of SplitMix64: the golden ratio in 64 bits.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
