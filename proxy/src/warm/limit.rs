//! So many keys or bytes in a second, over all servers together.
//!
//! A debt and not a bucket: what was taken is paid for by whoever comes next, so
//! a value of any size passes, and on average the rate is kept.

use std::time::Duration;

use tokio::time::Instant;

/// See the module's description. Time is an argument.
#[derive(Debug)]
pub struct Limit {
    per_second: Option<f64>,
    /// When everything that was taken is paid for.
    paid: Option<Instant>,
}

impl Limit {
    /// `None` and 0: no limit.
    pub fn new(per_second: Option<u64>) -> Limit {
        Limit {
            per_second: per_second.filter(|&rate| rate > 0).map(|rate| rate as f64),
            paid: None,
        }
    }

    /// How long to wait until what was taken before is paid for.
    pub fn wait(&self, now: Instant) -> Duration {
        let paid = self.paid.unwrap_or(now);
        paid.saturating_duration_since(now)
    }

    /// Take so many.
    pub fn take(&mut self, count: usize, now: Instant) {
        if let Some(rate) = self.per_second {
            let cost = Duration::try_from_secs_f64(count as f64 / rate).unwrap_or_default();
            let from = self.paid.filter(|paid| *paid > now).unwrap_or(now);
            self.paid = from.checked_add(cost).or(Some(from));
        }
    }

    /// What may be taken at a time so that the flow looks even: a tenth of a
    /// second's worth, at least 1.
    pub fn portion(&self, most: usize) -> usize {
        let tenth = self.per_second.map(|rate| (rate / 10.0) as usize);
        tenth.map_or(most, |tenth| tenth.clamp(1, most.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_paid_for_by_the_next() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = Limit::new(Some(100));
        assert_eq!(limit.wait(start), Duration::ZERO);
        limit.take(50, start);
        assert_eq!(limit.wait(start), Duration::from_millis(500));
        limit.take(10, at(100));
        assert_eq!(limit.wait(at(100)), Duration::from_millis(500));
        assert_eq!(limit.wait(at(600)), Duration::ZERO);
        // Time in which nothing was taken is not saved up.
        limit.take(10, at(5000));
        assert_eq!(limit.wait(at(5000)), Duration::from_millis(100));
    }

    #[test]
    fn no_limit_never_waits() {
        let now = Instant::now();
        for none in [None, Some(0)] {
            let mut limit = Limit::new(none);
            limit.take(usize::MAX, now);
            assert_eq!(limit.wait(now), Duration::ZERO);
            assert_eq!(limit.portion(256), 256);
        }
        assert_eq!(Limit::new(Some(1)).portion(256), 1);
        assert_eq!(Limit::new(Some(1000)).portion(256), 100);
    }
}
