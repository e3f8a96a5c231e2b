//! Writes that ended in doubt and whose keys were not promoted: should one of
//! them become so, it must not be filled while the write may still take effect.
//!
//! Keys are remembered by name up to a number; beyond it their doubts are
//! everybody's, so that an outage costs fetches and neither memory nor
//! freshness.

use std::collections::HashMap;

use emberline_hotkey::KeyHash;

/// Keys remembered by name.
const NAMED_MAX: usize = 65_536;

/// See the module's description. Times are nanoseconds of the process's clock.
#[derive(Debug, Default)]
pub struct Doubts {
    named: HashMap<KeyHash, u64>,
    /// Until when a write to any other key may take effect.
    others: u64,
}

impl Doubts {
    /// A write to this key may take effect until then.
    pub fn add(&mut self, hash: KeyHash, until: u64, now: u64) {
        // Not at every addition: while others are in doubt there was no room.
        if self.named.len() >= NAMED_MAX && self.others <= now {
            self.tidy(now);
        }
        if self.named.len() < NAMED_MAX || self.named.contains_key(&hash) {
            let known = self.named.entry(hash).or_insert(until);
            *known = until.max(*known);
        } else {
            self.others = until.max(self.others);
        }
    }

    /// Until when this key must not be filled.
    pub fn until(&self, hash: KeyHash) -> u64 {
        let named = self.named.get(&hash).copied();
        named.unwrap_or(0).max(self.others)
    }

    /// Forget what is over; answers whether something is left.
    pub fn tidy(&mut self, now: u64) -> bool {
        self.named.retain(|_, until| *until > now);
        !self.named.is_empty() || self.others > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_doubt_for_as_long_as_the_last_of_its_writes() {
        let mut doubts = Doubts::default();
        doubts.add(KeyHash(1), 20, 0);
        doubts.add(KeyHash(1), 10, 0);
        assert_eq!(
            (doubts.until(KeyHash(1)), doubts.until(KeyHash(2))),
            (20, 0)
        );
        assert!(doubts.tidy(19));
        assert!(!doubts.tidy(20));
        assert_eq!(doubts.until(KeyHash(1)), 0);
    }

    #[test]
    fn keys_too_many_to_be_named_are_all_in_doubt_until_the_last_of_them_is_not() {
        let mut doubts = Doubts::default();
        let named = NAMED_MAX as u64;
        (0..named).for_each(|hash| doubts.add(KeyHash(hash), 20, 0));
        assert_eq!(doubts.until(KeyHash(named)), 0);
        doubts.add(KeyHash(named), 30, 10);
        assert_eq!(doubts.until(KeyHash(named)), 30);
        assert_eq!(doubts.until(KeyHash(0)), 30);
        // The named ones are over, the others are not.
        assert!(doubts.tidy(20));
        assert_eq!(doubts.until(KeyHash(named)), 30);
        assert!(!doubts.tidy(30));
        // There is room again, also without anybody who tidies.
        (0..named).for_each(|hash| doubts.add(KeyHash(hash), 50, 40));
        doubts.add(KeyHash(named), 70, 60);
        assert_eq!(doubts.named.len(), 1);
        assert_eq!(doubts.until(KeyHash(named)), 70);
    }
}
