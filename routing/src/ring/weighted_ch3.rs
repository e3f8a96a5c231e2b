//! mcrouter's WeightedCh3.
//!
//! Source: mcrouter `mcrouter/lib/WeightedCh3HashFunc.cpp`. Its weights are
//! fractions of 1; ours count, so the largest of a pool stands for 1.
//! Written from scratch.

use super::Member;
use super::ch3;
use super::jump::next_live;
use crate::hash::spooky;

const SEED: u32 = 0xface_2014;
/// Salts that are tried before the last choice stands.
const TRIES: usize = 32;
/// Longer keys are copied to the heap when they must be salted.
const SHORT: usize = 256;

#[derive(Debug)]
pub struct WeightedCh3 {
    /// A server is accepted when the second hash lies below its threshold.
    thresholds: Vec<u32>,
    live: Vec<bool>,
}

impl WeightedCh3 {
    pub fn new(members: &[Member]) -> WeightedCh3 {
        let largest = members
            .iter()
            .map(|member| member.weight)
            .max()
            .unwrap_or(1);
        let threshold = |member: &Member| {
            let share = f64::from(member.weight) / f64::from(largest);
            (share * f64::from(u32::MAX)) as u32
        };
        WeightedCh3 {
            thresholds: members.iter().map(threshold).collect(),
            live: members.iter().map(|member| member.weight > 0).collect(),
        }
    }

    /// Salts the key with "", "0", "1", ... until a server accepts it.
    pub fn pick(&self, key: &[u8]) -> usize {
        if let Some(index) = self.accepted(key) {
            return index;
        }
        let mut short = [0; SHORT + 2];
        let mut long = Vec::new();
        let salted: &mut [u8] = if key.len() <= SHORT {
            &mut short[..key.len() + 2]
        } else {
            long.resize(key.len() + 2, 0);
            &mut long
        };
        salted[..key.len()].copy_from_slice(key);

        let mut last = key.len();
        for salt in 0..TRIES - 1 {
            // The digits of the salt, the lowest first.
            salted[key.len()] = b'0' + (salt % 10) as u8;
            salted[key.len() + 1] = b'0' + (salt / 10) as u8;
            last = key.len() + if salt < 10 { 1 } else { 2 };
            if let Some(index) = self.accepted(&salted[..last]) {
                return index;
            }
        }
        let refused = ch3::furc(ch3::hash(&salted[..last]), self.thresholds.len());
        next_live(&self.live, refused)
    }

    fn accepted(&self, key: &[u8]) -> Option<usize> {
        let index = ch3::furc(ch3::hash(key), self.thresholds.len());
        let accepted = spooky::hash32(key, SEED) < self.thresholds[index];
        accepted.then_some(index)
    }
}
