//! Maglev (Eisenbud et al., NSDI 2016, section 3.4): every server prefers the
//! entries of a table in an order of its own and they take turns to fill it.
//! A lookup is one read; adding or removing a server moves its own keys and a
//! few per cent of the others'.
//!
//! A server of less than the largest weight skips turns.

use super::mix::{name_seed, spread};
use super::{Member, live};

/// Entries; the paper's smaller prime.
const SIZE: u32 = 65_537;
const FREE: u16 = u16::MAX;

#[derive(Debug)]
pub struct Maglev {
    table: Vec<u16>,
}

struct Filler {
    index: u16,
    weight: u64,
    /// Turns due, in units of the largest weight.
    due: u64,
    next: u32,
    skip: u32,
}

impl Maglev {
    pub fn new(members: &[Member]) -> Maglev {
        let mut fillers: Vec<Filler> = live(members)
            .map(|(index, member)| {
                let seed = name_seed(&member.name);
                Filler {
                    index: index as u16,
                    weight: member.weight.into(),
                    due: 0,
                    next: (seed % u64::from(SIZE)) as u32,
                    skip: (spread(seed) % u64::from(SIZE - 1)) as u32 + 1,
                }
            })
            .collect();
        // Whoever has the first turn gets at most one entry more than others,
        // so the order must not depend on the places in the list.
        fillers.sort_by_key(|filler| (filler.next, filler.skip));
        let largest = fillers
            .iter()
            .map(|filler| filler.weight)
            .max()
            .unwrap_or(1);

        let mut table = vec![FREE; SIZE as usize];
        let mut left = SIZE;
        while left > 0 {
            for filler in &mut fillers {
                filler.due += filler.weight;
                if filler.due < largest {
                    continue;
                }
                filler.due -= largest;
                // The size is prime, so the steps reach every entry.
                while table[filler.next as usize] != FREE {
                    filler.next = (filler.next + filler.skip) % SIZE;
                }
                table[filler.next as usize] = filler.index;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Maglev { table }
    }

    #[inline]
    pub fn pick(&self, hash: u32) -> usize {
        usize::from(self.table[(hash % SIZE) as usize])
    }
}
