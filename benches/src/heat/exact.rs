//! The window, counted exactly.

use std::collections::{HashMap, VecDeque};

use emberline_hotkey::SUB_WINDOWS;

/// One count per key and sub-window, and their sums.
#[derive(Debug, Default)]
pub struct Exact {
    youngest: HashMap<u32, u32>,
    closed: VecDeque<HashMap<u32, u32>>,
    sums: HashMap<u32, u64>,
}

impl Exact {
    pub fn record(&mut self, key: u32) {
        *self.youngest.entry(key).or_default() += 1;
        *self.sums.entry(key).or_default() += 1;
    }

    /// The keys of the last ten sub-windows, the running one included.
    pub fn counts(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.sums.iter().map(|(&key, &count)| (key, count))
    }

    /// The sub-window ends.
    pub fn close(&mut self) {
        self.closed.push_back(std::mem::take(&mut self.youngest));
        if self.closed.len() < SUB_WINDOWS {
            return;
        }
        for (key, count) in self.closed.pop_front().unwrap_or_default() {
            if let Some(sum) = self.sums.get_mut(&key) {
                *sum -= u64::from(count);
                if *sum == 0 {
                    self.sums.remove(&key);
                }
            }
        }
    }
}
