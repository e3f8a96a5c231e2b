//! One after the other: when the next is asked, and what a `Try` ends with.

use std::time::Duration;

use super::{Act, Course, Verdict, What, pause};
use emberline_protocol::Outcome;

impl Course {
    /// Ask the next of a `Try`, or first whether that is allowed.
    pub(super) fn next(&mut self, node: usize, acts: &mut Vec<Act>) {
        let What::Try {
            begun,
            allowance,
            paying,
            ..
        } = &mut self.nodes[node].what
        else {
            return;
        };
        match *allowance {
            Some(allowance) if *begun > 0 => {
                *paying = true;
                self.out += 1;
                acts.push(Act::Spend(pause(node), allowance));
            }
            _ => self.ask_next(node, acts),
        }
    }

    pub(super) fn ask_next(&mut self, node: usize, acts: &mut Vec<Act>) {
        let What::Try {
            children,
            begun,
            hedge_after,
            retry_writes,
            ..
        } = &mut self.nodes[node].what
        else {
            return;
        };
        let Some(&child) = children.get(*begun) else {
            return;
        };
        *begun += 1;
        let more = *begun < children.len();
        // A hedge sends what has not been answered: never a write.
        let repeatable = self.read || *retry_writes;
        let after = hedge_after.filter(|_| more && repeatable);
        let asked = *begun;
        self.begin(child, acts);
        // What begins may end at once, and the next have been asked.
        let waits = match &self.nodes[node].what {
            What::Try { begun, .. } => *begun == asked && self.nodes[node].verdict.is_none(),
            _ => false,
        };
        if let Some(after) = after.filter(|_| waits) {
            self.wait(node, after, acts);
        }
    }

    fn wait(&mut self, node: usize, after: Duration, acts: &mut Vec<Act>) {
        if let What::Try { waits, .. } = &mut self.nodes[node].what
            && !std::mem::replace(waits, true)
        {
            acts.push(Act::Wait(pause(node), after));
        }
    }

    /// A `Try` has waited for `hedge_after`: another is asked, or what one has
    /// said is the answer although others are still out.
    pub(super) fn waited(&mut self, node: usize, acts: &mut Vec<Act>) {
        if let What::Try { waits, .. } = &mut self.nodes[node].what {
            *waits = false;
        }
        if self.may_go_on(node) {
            self.next(node, acts);
        } else if let Some(best) = self.best_decided(node) {
            self.end(node, best, acts);
        }
    }

    /// Whether this is a `Try` that has ended with a miss, and asks on for the
    /// sake of a copy.
    pub(super) fn copies_missed(&self, node: usize) -> bool {
        let verdict = self.nodes[node].verdict.as_ref();
        let missed = verdict.is_some_and(|verdict| verdict.outcome == Outcome::Miss);
        match &self.nodes[node].what {
            What::Try { copies_missed, .. } => missed && *copies_missed,
            _ => false,
        }
    }

    /// `child` has said this: the `Try` ends with it, goes on, or waits for
    /// others that have been asked. A hedge has asked two, and the faster may
    /// have nothing: only what was found ends it at once. Anything else waits
    /// for the slower one, for `hedge_after` once more: a miss must not take
    /// the whole timeout of a server that hangs.
    pub(super) fn after_try(
        &mut self,
        node: usize,
        child: usize,
        said: &Verdict,
        acts: &mut Vec<Act>,
    ) -> Option<Verdict> {
        let What::Try {
            on, retry_writes, ..
        } = &self.nodes[node].what
        else {
            return None;
        };
        let found = matches!(said.outcome, Outcome::Hit | Outcome::Done);
        if found && !on.has(said.outcome) {
            return Some(said.clone());
        }
        let safe = self.read || *retry_writes || !self.may_have_run(child);
        if on.has(said.outcome) && safe && self.may_go_on(node) {
            self.next(node, acts);
            return None;
        }
        let over = self.best_if_over(node);
        if over.is_none()
            && let What::Try {
                hedge_after: Some(after),
                ..
            } = self.nodes[node].what
            && self.best_decided(node).is_some()
        {
            self.wait(node, after, acts);
        }
        over
    }

    /// Whether a `Try` has somebody left to ask, and none of those that it has
    /// asked has given an answer that it ends with.
    pub(super) fn may_go_on(&self, node: usize) -> bool {
        let What::Try {
            children,
            on,
            begun,
            paying,
            broke,
            ..
        } = &self.nodes[node].what
        else {
            return false;
        };
        let asked = children.iter().take(*begun);
        let mut verdicts = asked.filter_map(|&child| self.nodes[child].verdict.as_ref());
        let left = *begun < children.len() && !*paying && !*broke;
        left && verdicts.all(|verdict| on.has(verdict.outcome))
    }

    /// What a `Try` ends with, if nobody is left to be waited for: the best that
    /// leads to no other, or else the best.
    pub(super) fn best_if_over(&self, node: usize) -> Option<Verdict> {
        let What::Try {
            children,
            begun,
            paying,
            ..
        } = &self.nodes[node].what
        else {
            return None;
        };
        let asked = &children[..*begun];
        let ended = |&child: &usize| self.nodes[child].verdict.is_some();
        if *paying || !asked.iter().all(ended) {
            return None;
        }
        self.best_decided(node).or_else(|| self.best(asked))
    }

    /// The best that a `Try` has heard and that leads to no other.
    fn best_decided(&self, node: usize) -> Option<Verdict> {
        let What::Try {
            children,
            on,
            begun,
            ..
        } = &self.nodes[node].what
        else {
            return None;
        };
        let decides = |&child: &usize| {
            let verdict = self.nodes[child].verdict.as_ref();
            verdict.is_some_and(|verdict| !on.has(verdict.outcome))
        };
        let asked = children.iter().take(*begun).copied();
        self.best(&asked.filter(decides).collect::<Vec<usize>>())
    }
}
