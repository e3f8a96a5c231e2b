//! The hash modulo the number of servers, each repeated by its weight.
//! Source: twemproxy `src/hashkit/nc_modula.c`. Adding or removing a server
//! moves nearly every key.

use super::{Member, live};

#[derive(Debug)]
pub struct Modula {
    /// The indexes of the live members.
    indexes: Vec<usize>,
    /// Where each one's stretch of the remainders ends.
    ends: Vec<u64>,
    total: u64,
}

impl Modula {
    pub fn new(members: &[Member]) -> Modula {
        let mut total = 0;
        let (indexes, ends) = live(members)
            .map(|(index, member)| {
                total += u64::from(member.weight);
                (index, total)
            })
            .unzip();
        Modula {
            indexes,
            ends,
            total,
        }
    }

    #[inline]
    pub fn pick(&self, hash: u32) -> usize {
        self.at(u64::from(hash) % self.total)
    }

    /// The member whose stretch holds this remainder.
    pub fn at(&self, remainder: u64) -> usize {
        self.indexes[self.ends.partition_point(|&end| end <= remainder)]
    }

    /// The sum of the weights: remainders lie below it.
    pub fn total(&self) -> u64 {
        self.total
    }
}
