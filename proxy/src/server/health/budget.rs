//! How many reads may be sent a second time.
//!
//! When a server fails, every read that was meant for it can be answered by a
//! copy; but when all of them are slow, sending everything twice is what keeps
//! them so. A budget allows for the one and forbids the other: retries are a
//! share of the first tries, plus a few a second, for proxies that do little.
//! (Finagle's `RetryBudget`; its window is a ring of ten seconds, here what is
//! left over decays by a tenth each second, which needs one number.)

use std::time::Duration;

/// One retry, in the unit of the account.
const RETRY: u64 = 1000;

/// What is left over decays by one of this many parts a second.
const DECAY: u64 = 10;

const SECOND: u64 = Duration::from_secs(1).as_nanos() as u64;

/// See the module's description.
#[derive(Debug)]
pub struct RetryBudget {
    /// What a first try adds.
    share: u64,
    /// What a second adds.
    least: u64,
    left: u64,
    /// The second up to which `least` was added, in nanoseconds.
    at: u64,
}

impl RetryBudget {
    /// `share` of the first tries (0 to 1) may be tried again, and `least`
    /// more each second. The first second's are there at once.
    pub fn new(share: f64, least: u32) -> RetryBudget {
        let least = u64::from(least) * RETRY;
        RetryBudget {
            share: (share.clamp(0.0, 1.0) * RETRY as f64) as u64,
            least,
            left: least,
            at: 0,
        }
    }

    /// Count a first try.
    pub fn deposit(&mut self, now: u64) {
        self.advance(now);
        self.left = self.left.saturating_add(self.share);
    }

    /// Whether one more try is allowed; if so, it is paid for.
    pub fn withdraw(&mut self, now: u64) -> bool {
        self.advance(now);
        let allowed = self.left >= RETRY;
        if allowed {
            self.left -= RETRY;
        }
        allowed
    }

    /// What was paid for was no waste.
    pub fn give_back(&mut self) {
        self.left = self.left.saturating_add(RETRY);
    }

    fn advance(&mut self, now: u64) {
        let seconds = now.saturating_sub(self.at) / SECOND;
        if seconds == 0 {
            return;
        }
        self.at += seconds * SECOND;
        // After a minute of silence nothing is left but what time itself gives.
        for _ in 0..seconds.min(60) {
            self.left = self.left - self.left / DECAY + self.least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &mut RetryBudget, now: u64) -> usize {
        (0..100_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_fifth_of_the_first_tries_may_be_repeated() {
        let mut budget = RetryBudget::new(0.2, 0);
        (0..1000).for_each(|_| budget.deposit(0));
        assert_eq!(retries(&mut budget, 0), 200);
        assert_eq!(retries(&mut budget, 5 * SECOND), 0);
    }

    #[test]
    fn a_few_are_always_allowed() {
        let mut budget = RetryBudget::new(0.2, 10);
        assert_eq!(retries(&mut budget, 0), 10);
        assert_eq!(retries(&mut budget, SECOND - 1), 0);
        assert_eq!(retries(&mut budget, SECOND), 10);
        assert_eq!(retries(&mut budget, 3 * SECOND), 19);
    }

    #[test]
    fn what_is_saved_in_calm_does_not_pay_for_a_storm() {
        let mut budget = RetryBudget::new(0.2, 10);
        for second in 0..100 {
            (0..1000).for_each(|_| budget.deposit(second * SECOND));
        }
        // Ten seconds' worth, whatever came before.
        let saved = retries(&mut budget, 99 * SECOND);
        assert!((1900..2200).contains(&saved), "{saved}");

        (0..100_000).for_each(|_| budget.deposit(99 * SECOND));
        let saved = retries(&mut budget, 1_000_000 * SECOND);
        assert!(saved <= 150, "{saved}");
    }

    #[test]
    fn a_share_that_makes_no_sense_is_none_or_all() {
        for (share, expected) in [(-1.0, 0), (f64::NAN, 0), (7.0, 10)] {
            let mut budget = RetryBudget::new(share, 0);
            (0..10).for_each(|_| budget.deposit(0));
            assert_eq!(retries(&mut budget, 0), expected, "{share}");
        }
    }
}
