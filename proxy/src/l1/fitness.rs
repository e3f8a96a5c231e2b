//! Keys that are not worth asking for at the moment: their value cannot be
//! kept, or changes too often.
//!
//! Each time a key turns out so again shortly after, it is left alone for
//! twice as long.

use std::collections::HashMap;

use emberline_hotkey::KeyHash;

const SECOND: u64 = 1_000_000_000;

/// How long a key is left alone the first time, and at the most; nanoseconds.
const FIRST: u64 = 10 * SECOND;
const LONGEST: u64 = 300 * SECOND;

/// Keys remembered; there are far fewer, because only promoted ones come here.
const SPELLS_MAX: usize = 65_536;

/// See the module's description. Times are nanoseconds of the process's clock.
#[derive(Debug, Default)]
pub struct Fitness {
    spells: HashMap<KeyHash, Spell>,
}

#[derive(Clone, Copy, Debug)]
struct Spell {
    until: u64,
    length: u64,
    /// It is too large, and nothing else is wrong with it.
    large: bool,
}

impl Spell {
    /// Until when another one is its continuation.
    fn remembered(self) -> u64 {
        self.until.saturating_add(2 * self.length)
    }
}

impl Fitness {
    /// Until when the key is to be left alone, if it is, and whether that is
    /// for its size.
    pub fn until(&self, hash: KeyHash, now: u64) -> Option<(u64, bool)> {
        let spell = self.spells.get(&hash)?;
        (now < spell.until).then_some((spell.until, spell.large))
    }

    /// The key is unfit: leave it alone. Answers until when.
    pub fn refuse(&mut self, hash: KeyHash, now: u64, large: bool) -> u64 {
        let before = self.spells.get(&hash);
        let length = match before {
            Some(spell) if now < spell.remembered() => (2 * spell.length).min(LONGEST),
            _ => FIRST,
        };
        let until = now.saturating_add(length);
        if before.is_some() || self.spells.len() < SPELLS_MAX {
            let spell = Spell {
                until,
                length,
                large,
            };
            self.spells.insert(hash, spell);
        }
        until
    }

    /// Forget what was long ago.
    pub fn tidy(&mut self, now: u64) {
        self.spells.retain(|_, spell| now < spell.remembered());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_left_alone_longer_each_time_and_forgiven_when_it_was_good() {
        let (mut fitness, key) = (Fitness::default(), KeyHash(7));
        assert_eq!(fitness.until(key, 0), None);
        let mut now = 0;
        let mut lengths = Vec::new();
        for _ in 0..7 {
            let until = fitness.refuse(key, now, true);
            assert_eq!(fitness.until(key, until - 1), Some((until, true)));
            assert_eq!(fitness.until(key, until), None);
            lengths.push((until - now) / SECOND);
            now = until;
        }
        assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300]);

        fitness.tidy(now + 599 * SECOND);
        assert_eq!(fitness.spells.len(), 1);
        fitness.tidy(now + 600 * SECOND);
        assert_eq!(fitness.spells.len(), 0);
        assert_eq!(
            fitness.refuse(key, now + 600 * SECOND, false),
            now + 610 * SECOND
        );
    }
}
