//! How many keys may be asked of a source at once, so that its other clients
//! notice little.
//!
//! TCP's rule: halve when it hurts, grow by a little while it does not. What
//! hurts is that the p99 of the last [`WINDOW`] probes is above the limit. Two of
//! a hundred above it are enough to know, so nobody waits for the other 98.
//!
//! This rule finds a limit by crossing it again and again. So that the limit of
//! the user is kept, the one that is crossed is half of it.

use std::time::Duration;

/// Probes that one decision rests on.
const WINDOW: u32 = 100;

/// So many of them above the limit put the p99 above it.
const OVER: u32 = 2;

/// However slow the source is, it goes on.
const ALLOWED_MIN: usize = 4;

/// Steps from nothing to full speed.
const STEPS: usize = 16;

/// See the module's description.
#[derive(Debug)]
pub struct Pace {
    limit: Option<Duration>,
    most: usize,
    allowed: usize,
    seen: u32,
    over: u32,
    /// How often it was halved.
    pub halvings: u64,
    /// How many times [`WINDOW`] probes were fine.
    pub calms: u64,
}

impl Pace {
    /// Without a limit it is always `most`; with one it begins at an eighth.
    pub fn new(limit: Option<Duration>, most: usize) -> Pace {
        let first = limit.map_or(most, |_| most / 8);
        Pace {
            limit,
            most,
            allowed: first.max(ALLOWED_MIN).min(most),
            seen: 0,
            over: 0,
            halvings: 0,
            calms: 0,
        }
    }

    /// Keys that may be asked for at once.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// A probe took this long.
    pub fn probed(&mut self, took: Duration) {
        let Some(limit) = self.limit else { return };
        self.seen += 1;
        self.over += u32::from(took > limit / 2);
        self.decide();
    }

    /// A probe was not answered, and this is how long it was waited for. Many
    /// would have been sent meanwhile, so one is enough.
    pub fn missed(&mut self, waited: Duration) {
        if self.limit.is_some_and(|limit| waited > limit / 2) {
            self.over = OVER;
            self.decide();
        }
    }

    fn decide(&mut self) {
        if self.over >= OVER {
            self.allowed = (self.allowed / 2).max(ALLOWED_MIN).min(self.most);
            self.halvings += 1;
        } else if self.seen >= WINDOW {
            let step = (self.most / STEPS).max(1);
            self.allowed = self.allowed.saturating_add(step).min(self.most);
            self.calms += 1;
        } else {
            return;
        }
        (self.seen, self.over) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(300);
    const SLOW: Duration = Duration::from_millis(9);
    const LIMIT: Option<Duration> = Some(Duration::from_millis(5));

    fn windows(pace: &mut Pace, count: u32) {
        (0..count * WINDOW).for_each(|_| pace.probed(FAST));
    }

    #[test]
    fn without_a_limit_nothing_slows_it() {
        let mut pace = Pace::new(None, 1024);
        (0..1000).for_each(|_| pace.probed(SLOW));
        assert_eq!((pace.allowed(), pace.halvings), (1024, 0));
    }

    #[test]
    fn it_grows_slowly_to_its_most() {
        let mut pace = Pace::new(LIMIT, 1024);
        let mut seen = vec![pace.allowed()];
        for _ in 0..3 {
            windows(&mut pace, 1);
            seen.push(pace.allowed());
        }
        assert_eq!(seen, [128, 192, 256, 320]);
        windows(&mut pace, 100);
        assert_eq!(pace.allowed(), 1024);
    }

    #[test]
    fn two_slow_ones_of_a_hundred_halve_it_at_once() {
        let mut pace = Pace::new(LIMIT, 1024);
        windows(&mut pace, 100);
        pace.probed(SLOW);
        assert_eq!(pace.allowed(), 1024);
        pace.probed(SLOW);
        assert_eq!((pace.allowed(), pace.halvings), (512, 1));
        // One of a hundred is what a p99 allows.
        for _ in 0..20 {
            pace.probed(SLOW);
            (1..WINDOW).for_each(|_| pace.probed(FAST));
        }
        assert_eq!((pace.allowed(), pace.halvings), (1024, 1));
    }

    /// The worst that can happen to other clients.
    #[test]
    fn a_probe_that_is_never_answered_halves_it() {
        let mut pace = Pace::new(LIMIT, 1024);
        windows(&mut pace, 100);
        pace.missed(Duration::from_secs(5));
        assert_eq!((pace.allowed(), pace.halvings), (512, 1));
        // A connection that ends at once says nothing of how long it takes.
        pace.missed(FAST);
        assert_eq!((pace.allowed(), pace.halvings), (512, 1));
    }

    #[test]
    fn it_never_stands_still() {
        let mut pace = Pace::new(LIMIT, 1024);
        (0..1000).for_each(|_| pace.probed(SLOW));
        assert_eq!(pace.allowed(), ALLOWED_MIN);
        assert_eq!(Pace::new(LIMIT, 1).allowed(), 1);
    }
}
