//! The buckets of `emberline_request_duration_seconds`.
//!
//! Bounds are powers of two nanoseconds, from 16.384 us to 4.295 s: finding
//! the bucket is one count of leading zeros, and an estimate read from them
//! is never off by more than a factor of two.

/// Buckets with an upper bound.
const BOUNDED: usize = 19;
/// The first bucket holds everything up to `2^FIRST` nanoseconds.
const FIRST: u32 = 14;
/// Cells of a histogram: the last one is everything beyond the last bound.
pub(super) const BUCKETS: usize = BOUNDED + 1;

/// The cell that a duration falls into; a duration equal to a bound is within it.
#[inline]
pub(super) fn bucket(nanos: u64) -> usize {
    let bits = u64::BITS - nanos.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST) as usize).min(BOUNDED)
}

/// Upper bounds in seconds, without the infinite one.
pub(super) fn bounds() -> impl Iterator<Item = f64> {
    (0..BOUNDED as u32).map(|i| (1u64 << (FIRST + i)) as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_within_its_bounds() {
        let bounds: Vec<u64> = bounds().map(|s| (s * 1e9).round() as u64).collect();
        for nanos in [
            0,
            1,
            16_383,
            16_384,
            16_385,
            32_768,
            32_769,
            1_000_000,
            1 << 32,
            (1 << 32) + 1,
            u64::MAX,
        ] {
            let cell = bucket(nanos);
            let below = cell.checked_sub(1).map_or(0, |i| bounds[i]);
            let above = bounds.get(cell).copied().unwrap_or(u64::MAX);
            assert!(
                nanos <= above && (nanos > below || cell == 0),
                "{nanos} in {cell}"
            );
        }
    }
}
