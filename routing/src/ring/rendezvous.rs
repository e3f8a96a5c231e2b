//! Rendezvous or highest random weight (Thaler and Ravishankar 1998): every
//! server draws a number for the key and the highest wins, so whatever is
//! added or removed moves its own keys only. Weighted after Schindelhauer
//! and Schomaker 2005: the number is `-weight / ln(draw)`.
//!
//! A lookup asks every server, which suits pools of up to some dozens.

use super::mix::{name_seed, spread};
use super::{Member, live};

#[derive(Debug)]
pub struct Rendezvous {
    candidates: Vec<Candidate>,
    /// Equal weights need no logarithm: it keeps the order of the draws.
    equal: bool,
}

#[derive(Debug)]
struct Candidate {
    index: usize,
    seed: u64,
    weight: f64,
}

impl Rendezvous {
    pub fn new(members: &[Member]) -> Rendezvous {
        let candidates: Vec<Candidate> = live(members)
            .map(|(index, member)| Candidate {
                index,
                seed: name_seed(&member.name),
                weight: member.weight.into(),
            })
            .collect();
        let equal = candidates
            .windows(2)
            .all(|two| two[0].weight == two[1].weight);
        Rendezvous { candidates, equal }
    }

    pub fn pick(&self, hash: u32) -> usize {
        let hash = spread(hash.into());
        let draws = self.candidates.iter().map(|candidate| {
            let draw = spread(candidate.seed ^ hash);
            (draw, candidate)
        });
        let best = if self.equal {
            draws.max_by_key(|&(draw, _)| draw)
        } else {
            draws.max_by(|a, b| score(a.0, a.1.weight).total_cmp(&score(b.0, b.1.weight)))
        };
        best.map_or(0, |(_, candidate)| candidate.index)
    }
}

/// Every live member in the order in which a key prefers them, for failing over
/// inside a pool of any distribution.
#[derive(Debug)]
pub struct Order {
    rendezvous: Rendezvous,
}

impl Order {
    /// Of these members.
    pub fn new(members: &[Member]) -> Order {
        let rendezvous = Rendezvous::new(members);
        Order { rendezvous }
    }

    /// The indexes of the live members for a key with this hash; the first is
    /// what a ring of distribution `rendezvous` picks.
    pub fn of(&self, hash: u32) -> Vec<usize> {
        let hash = spread(hash.into());
        let candidates = self.rendezvous.candidates.iter();
        let mut scores: Vec<(f64, u64, usize)> = candidates
            .map(|candidate| {
                let draw = spread(candidate.seed ^ hash);
                // Scores of equal weights need no logarithm, and many draws
                // have the same one.
                let score = match self.rendezvous.equal {
                    true => 0.0,
                    false => score(draw, candidate.weight),
                };
                (score, draw, candidate.index)
            })
            .collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        scores.into_iter().map(|(_, _, index)| index).collect()
    }
}

/// The draw as a fraction strictly between 0 and 1, weighted.
fn score(draw: u64, weight: f64) -> f64 {
    let fraction = ((draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -weight / fraction.ln()
}
