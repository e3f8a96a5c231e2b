//! Any live server, by weight, drawn anew for every request. For pools whose
//! servers all hold the same, such as read replicas.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Member;
use super::mix::{STEP, spread};
use super::modula::Modula;

#[derive(Debug)]
pub struct Random {
    stretches: Modula,
    /// The state of a SplitMix64. Workers that draw at the same moment may
    /// draw the same number, which does no harm and saves an atomic
    /// read-modify-write.
    state: AtomicU64,
}

impl Random {
    pub fn new(members: &[Member]) -> Random {
        Random {
            stretches: Modula::new(members),
            state: AtomicU64::new(0),
        }
    }

    pub fn pick(&self) -> usize {
        let state = self.state.load(Ordering::Relaxed).wrapping_add(STEP);
        self.state.store(state, Ordering::Relaxed);
        self.stretches.at(spread(state) % self.stretches.total())
    }
}
