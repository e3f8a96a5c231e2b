//! Pauses that double, with jitter.
//!
//! Without jitter all workers, and all proxies that lost the same server in
//! the same moment, would come back to it in the same moment, too.

use std::time::Duration;

use crate::nanos::nanos;

/// The pause before attempt number `attempt`, counted from 0: `first`, doubled
/// each time, but not above `last`; of that, a random part between the half
/// and the whole. `random` is any number.
pub fn jittered(first: Duration, last: Duration, attempt: u32, random: u64) -> Duration {
    let whole = nanos(first)
        .saturating_mul(1 << attempt.min(32))
        .min(nanos(last));
    let half = whole / 2;
    Duration::from_nanos(half + random % (whole - half + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_last_and_differ() {
        let (first, last) = (Duration::from_millis(250), Duration::from_secs(10));
        let whole = [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000];
        for (attempt, whole) in (0..).zip(whole) {
            let whole = Duration::from_millis(whole);
            let (least, most) = (
                jittered(first, last, attempt, 0),
                jittered(first, last, attempt, nanos(whole / 2)),
            );
            assert_eq!(least, whole / 2, "attempt {attempt}");
            assert_eq!(most, whole, "attempt {attempt}");
        }
        assert_eq!(jittered(first, last, u32::MAX, 0), last / 2);
    }

    #[test]
    fn no_pause_is_no_trouble() {
        assert_eq!(
            jittered(Duration::ZERO, Duration::ZERO, 3, 7),
            Duration::ZERO
        );
    }
}
