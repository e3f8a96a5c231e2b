//! What is done behind the answer: copies for those that have not got the key,
//! and what is learned of hits and misses.

use super::{Act, Course, Leg, Source, Verdict, What};
use crate::ServerId;
use crate::plan::{Change, Refill, Target};
use emberline_protocol::Outcome;

impl Course {
    pub(super) fn learn(&self, node: usize, verdict: &Verdict, acts: &mut Vec<Act>) {
        let What::Try {
            learn: Some(state), ..
        } = &self.nodes[node].what
        else {
            return;
        };
        let (state, hit) = (*state, verdict.outcome == Outcome::Hit);
        if hit || verdict.outcome == Outcome::Miss {
            acts.push(Act::Learn { state, hit });
        }
    }

    /// A later one had what earlier ones had not: they get a copy.
    pub(super) fn refill(&self, node: usize, verdict: &Verdict, acts: &mut Vec<Act>) {
        let What::Try {
            children,
            refill: Some(refill),
            ..
        } = &self.nodes[node].what
        else {
            return;
        };
        let missed = children.iter().filter_map(|&child| self.missed(child));
        self.copy(refill, verdict, &missed.collect::<Vec<Leg>>(), acts);
    }

    /// `node`, a child of a mirror, has ended: copies that missed what the main
    /// one has get it, each as soon as both are known.
    pub(super) fn refill_copies(
        &self,
        mirror: usize,
        children: &[usize],
        node: usize,
        acts: &mut Vec<Act>,
    ) {
        let What::Mirror {
            refill: Some(refill),
            ..
        } = &self.nodes[mirror].what
        else {
            return;
        };
        let Some((&main, copies)) = children.split_first() else {
            return;
        };
        let Some(verdict) = &self.nodes[main].verdict else {
            return;
        };
        let ended = copies.iter().filter(|&&copy| node == main || node == copy);
        let missed = ended.filter_map(|&copy| self.missed(copy));
        self.copy(refill, verdict, &missed.collect::<Vec<Leg>>(), acts);
    }

    /// The leg that said for this node that there is no such key.
    fn missed(&self, node: usize) -> Option<Leg> {
        match &self.nodes[node].verdict {
            Some(Verdict {
                outcome: Outcome::Miss,
                source: Source::Leg(leg),
                ..
            }) if self.pieces(*leg).is_none() => Some(*leg),
            _ => None,
        }
    }

    /// What was found is copied to where these legs missed it.
    fn copy(&self, refill: &Refill, found: &Verdict, missed: &[Leg], acts: &mut Vec<Act>) {
        let (Outcome::Hit, Source::Leg(from)) = (found.outcome, &found.source) else {
            return;
        };
        // What is there may be no more than a head, and its pieces elsewhere.
        if missed.is_empty() || self.pieces(*from).is_some() {
            return;
        }
        let places = match &refill.to {
            Some(plan) => plan.aims(),
            None => missed
                .iter()
                .filter_map(|leg| self.place(*leg))
                .map(|(target, change)| (target, change.clone()))
                .collect(),
        };
        let (own, own_change) = match self.place(*from) {
            Some((target, change)) => (Some(target), change.key.clone()),
            None => (None, None),
        };
        // Not onto itself; nor where a write would delete.
        let elsewhere =
            |target: Target, change: &Change| Some(target) != own || change.key != own_change;
        let to: Vec<(ServerId, Change)> = places
            .into_iter()
            .filter(|(target, change)| elsewhere(*target, change) && !change.delete)
            .filter_map(|(target, change)| match target {
                Target::Send(server) => Some((server, change)),
                Target::Answer(_) => None,
            })
            .collect();
        if !to.is_empty() {
            acts.push(Act::Refill {
                from: *from,
                to,
                cap: refill.cap,
                tombstone: refill.tombstone,
            });
        }
    }
}
