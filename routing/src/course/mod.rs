//! A plan being carried out: who is asked next, and whose reply counts.
//!
//! A [`Course`] is told what became of each *leg* (one request to one place)
//! and says what to do now. It sends nothing and reads no clock, so every turn
//! that servers can force on it is a line in a test:
//!
//! ```text
//!   start()                    -> Send 0
//!   settle(0, Timeout)         -> Send 1              the next of a Try
//!   settle(1, Hit)             -> Refill, Answer 1    and 0 gets a copy
//! ```
//!
//! Nodes stand in one vector, parents before their children; a child that
//! settles tells its parent, and so on up. What has been answered goes on
//! until every leg has settled: copies of a shadow, the slower ones of a fan.

mod refill;
mod tries;

use std::time::Duration;

use emberline_protocol::{Kind, Outcome};

use crate::conditions::StateId;
use crate::plan::{Canned, Change, Fan, Mirror, Outcomes, Pick, Pieces, Plan, Refill, Try};
use crate::{PoolId, ServerId, Target};

/// One request to one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Leg(pub u16);

/// A node that waits for a time to pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Pause(pub u16);

/// Where the answer comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The reply of this leg.
    Leg(Leg),
    /// None of them.
    Canned(Canned),
}

/// What is to be done now.
#[derive(Clone, PartialEq, Debug)]
pub enum Act {
    /// Send this leg's request.
    Send(Leg),
    /// Call [`Course::elapsed`] after so long.
    Wait(Pause, Duration),
    /// Answer the client; said once.
    Answer(Source),
    /// What leg `from` found is to be copied to these places.
    Refill {
        /// Who has it.
        from: Leg,
        /// Who shall have it, and under which key.
        to: Vec<(ServerId, Change)>,
        /// The copies' longest life.
        cap: Option<Duration>,
        /// Not what is marked here; see [`Refill::tombstone`].
        tombstone: Option<StateId>,
    },
    /// A read hit or missed: [`States::learn`](crate::States::learn).
    Learn {
        /// Of whom that is learned.
        state: StateId,
        /// Whether it hit.
        hit: bool,
    },
    /// Take one of this allowance's tokens ([`States::spend`]), and call
    /// [`Course::paid`] with whether there was one.
    ///
    /// [`States::spend`]: crate::States::spend
    Spend(Pause, StateId),
}

/// See the module's description.
#[derive(Debug)]
pub struct Course {
    nodes: Vec<Node>,
    legs: Vec<Place>,
    /// Reads may be asked anywhere; others only when it is certain that they
    /// were not carried out.
    read: bool,
    answered: bool,
    /// Legs that were sent and have not settled, and replies that wait.
    out: usize,
}

/// Where a leg goes.
#[derive(Debug)]
struct Place {
    target: Target,
    change: Change,
    /// More than one request may become of it.
    pieces: Option<Box<Pieces>>,
    node: usize,
    begun: bool,
}

#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    /// Its number among its parent's children.
    number: usize,
    what: What,
    verdict: Option<Verdict>,
    /// Its children are being asked, and not all of them have been.
    opening: bool,
}

/// How a node has ended.
#[derive(Clone, Debug)]
struct Verdict {
    outcome: Outcome,
    source: Source,
    /// It is not about what the client asked: a deletion in its place.
    silent: bool,
}

impl Verdict {
    fn canned(canned: Canned) -> Verdict {
        Verdict {
            outcome: canned.outcome(),
            source: Source::Canned(canned),
            silent: false,
        }
    }
}

#[derive(Debug)]
enum What {
    Leg(Leg),
    Canned {
        canned: Canned,
        delay: Option<Duration>,
    },
    Try {
        children: Vec<usize>,
        on: Outcomes,
        hedge_after: Option<Duration>,
        retry_writes: bool,
        allowance: Option<StateId>,
        refill: Option<Refill>,
        copies_missed: bool,
        learn: Option<StateId>,
        /// How many have been asked.
        begun: usize,
        /// Until an [`Act::Wait`] is over, something may be decided.
        waits: bool,
        /// It is being asked whether the next may be.
        paying: bool,
        /// It may not: nobody is asked any more.
        broke: bool,
    },
    Fan {
        children: Vec<usize>,
        answer: Pick,
    },
    Mirror {
        children: Vec<usize>,
        refill: Option<Refill>,
    },
}

impl Course {
    /// A course for this plan of a request of this kind.
    pub fn new(plan: Plan, kind: Kind) -> Course {
        let mut course = Course {
            nodes: Vec::new(),
            legs: Vec::new(),
            read: kind == Kind::Read,
            answered: false,
            out: 0,
        };
        course.add(plan, None, 0, &Change::default());
        course
    }

    /// Begin. Acts are appended in the order in which they are to be done.
    pub fn start(&mut self, acts: &mut Vec<Act>) {
        self.begin(0, acts);
    }

    /// This leg has ended so. A leg ends once; what is said again is ignored.
    pub fn settle(&mut self, leg: Leg, outcome: Outcome, acts: &mut Vec<Act>) {
        let Some(place) = self.legs.get(usize::from(leg.0)) else {
            return;
        };
        let node = place.node;
        if !place.begun || self.nodes[node].verdict.is_some() {
            return;
        }
        self.out = self.out.saturating_sub(1);
        let verdict = Verdict {
            outcome,
            source: Source::Leg(leg),
            silent: place.change.delete && outcome.is_good(),
        };
        self.close(node, verdict, acts);
    }

    /// The time that an [`Act::Wait`] asked for has passed.
    pub fn elapsed(&mut self, pause: Pause, acts: &mut Vec<Act>) {
        let at = usize::from(pause.0);
        let Some(node) = self.nodes.get(at).filter(|node| node.verdict.is_none()) else {
            return;
        };
        match &node.what {
            What::Try { .. } => self.waited(at, acts),
            What::Canned { canned, .. } => {
                let verdict = Verdict::canned(canned.clone());
                self.out = self.out.saturating_sub(1);
                self.close(at, verdict, acts);
            }
            _ => {}
        }
    }

    /// Whether there was a token for an [`Act::Spend`].
    pub fn paid(&mut self, pause: Pause, paid: bool, acts: &mut Vec<Act>) {
        let at = usize::from(pause.0);
        let Some(node) = self.nodes.get_mut(at) else {
            return;
        };
        let What::Try { paying, broke, .. } = &mut node.what else {
            return;
        };
        if !std::mem::take(paying) {
            return;
        }
        *broke = !paid;
        self.out = self.out.saturating_sub(1);
        if self.nodes[at].verdict.is_some() {
            return;
        }
        match paid {
            true => self.ask_next(at, acts),
            false => {
                if let Some(best) = self.best_if_over(at) {
                    self.end(at, best, acts);
                }
            }
        }
    }

    /// Whether another place would be asked if this time were over now.
    pub fn asks_after(&self, pause: Pause) -> bool {
        let at = usize::from(pause.0);
        let waits = self
            .nodes
            .get(at)
            .is_some_and(|node| node.verdict.is_none());
        waits && self.may_go_on(at)
    }

    /// Where a leg goes, and what the request is there. Of [`pieces`](Self::pieces)
    /// it is the first place of the key itself, and what is changed on the way
    /// to them.
    pub fn place(&self, leg: Leg) -> Option<(Target, &Change)> {
        let place = self.legs.get(usize::from(leg.0))?;
        Some((place.target, &place.change))
    }

    /// What a leg is, if it is no single request but has to be carried out by
    /// looking at the value.
    pub fn pieces(&self, leg: Leg) -> Option<&Pieces> {
        self.legs.get(usize::from(leg.0))?.pieces.as_deref()
    }

    /// What became of the whole, once it has been answered. A write that may
    /// have taken effect somewhere is never said to be certain not to have.
    pub fn outcome(&self) -> Option<Outcome> {
        let outcome = self.nodes.first()?.verdict.as_ref()?.outcome;
        let unsure = !self.read && outcome.is_certain_not_run() && self.may_have_run(0);
        Some(if unsure { Outcome::Lost } else { outcome })
    }

    /// Whether the client has its answer.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether nothing more can happen.
    pub fn is_over(&self) -> bool {
        self.answered && self.out == 0
    }

    /// Whether what this leg says may still become the answer: if not, its
    /// reply need not be kept.
    pub fn may_answer(&self, leg: Leg) -> bool {
        if self.answered {
            return false;
        }
        let Some(place) = self.legs.get(usize::from(leg.0)) else {
            return false;
        };
        let mut child = place.node;
        while let Some(parent) = self.nodes[child].parent {
            let heard = match &self.nodes[parent].what {
                What::Mirror { .. } => self.nodes[child].number == 0,
                What::Fan { answer, .. } => match answer {
                    Pick::First | Pick::FirstOfAll => self.nodes[child].number == 0,
                    Pick::Nobody => false,
                    Pick::Fastest | Pick::Majority | Pick::Worst | Pick::Every => true,
                },
                _ => true,
            };
            if !heard || self.nodes[parent].verdict.is_some() {
                return false;
            }
            child = parent;
        }
        true
    }

    fn add(&mut self, plan: Plan, parent: Option<usize>, number: usize, change: &Change) -> usize {
        let plan = match plan {
            Plan::Edit(inner, plan) => {
                return self.add(*plan, parent, number, &change.then(&inner));
            }
            // To delete it is to delete its head.
            Plan::Pieces(pieces) if change.delete => {
                return self.add(pieces.head, parent, number, change);
            }
            plan => plan,
        };
        let at = self.nodes.len();
        self.nodes.push(Node {
            parent,
            number,
            what: canned(Canned::Null),
            verdict: None,
            opening: false,
        });
        let what = match plan {
            Plan::Answer(pool) => self.leg(Target::Answer(pool), change, None, at),
            Plan::Send(server) => self.leg(Target::Send(server), change, None, at),
            Plan::Pieces(pieces) => match pieces.head.first() {
                Some(first) => self.leg(first, change, Some(pieces), at),
                None => canned(Canned::Null),
            },
            Plan::Reply(canned) => What::Canned {
                canned,
                delay: change.delay,
            },
            Plan::Edit(..) => canned(Canned::Null),
            Plan::Try(tries) => {
                let Try {
                    plans,
                    on,
                    hedge_after,
                    retry_writes,
                    allowance,
                    refill,
                    copies_missed,
                    learn,
                } = *tries;
                What::Try {
                    children: self.add_all(plans, at, change),
                    on,
                    hedge_after,
                    retry_writes,
                    allowance,
                    refill,
                    copies_missed,
                    learn,
                    begun: 0,
                    waits: false,
                    paying: false,
                    broke: false,
                }
            }
            Plan::Fan(fan) => {
                let Fan { plans, answer } = *fan;
                let children = self.add_all(plans, at, change);
                What::Fan { children, answer }
            }
            Plan::Mirror(mirror) => {
                let Mirror {
                    main,
                    copies,
                    refill,
                } = *mirror;
                let plans = std::iter::once(main).chain(copies);
                let children = self.add_all(plans, at, change);
                What::Mirror { children, refill }
            }
        };
        self.nodes[at].what = what;
        at
    }

    fn add_all(
        &mut self,
        plans: impl IntoIterator<Item = Plan>,
        parent: usize,
        change: &Change,
    ) -> Vec<usize> {
        let plans = plans.into_iter().enumerate();
        plans
            .map(|(number, plan)| self.add(plan, Some(parent), number, change))
            .collect()
    }

    fn leg(
        &mut self,
        target: Target,
        change: &Change,
        pieces: Option<Box<Pieces>>,
        node: usize,
    ) -> What {
        let leg = Leg(u16::try_from(self.legs.len()).unwrap_or(u16::MAX));
        self.legs.push(Place {
            target,
            change: change.clone(),
            pieces,
            node,
            begun: false,
        });
        What::Leg(leg)
    }

    fn begin(&mut self, node: usize, acts: &mut Vec<Act>) {
        match &self.nodes[node].what {
            What::Leg(leg) => {
                let leg = *leg;
                self.legs[usize::from(leg.0)].begun = true;
                self.out += 1;
                acts.push(Act::Send(leg));
            }
            What::Canned { delay, .. } if delay.is_some_and(|delay| !delay.is_zero()) => {
                self.out += 1;
                let delay = delay.unwrap_or_default();
                acts.push(Act::Wait(pause(node), delay));
            }
            What::Canned { canned, .. } => {
                let verdict = Verdict::canned(canned.clone());
                self.close(node, verdict, acts);
            }
            What::Try { children, .. } if children.is_empty() => {
                self.close(node, Verdict::canned(Canned::Null), acts);
            }
            What::Try { .. } => self.next(node, acts),
            What::Fan { children, answer } => {
                let (children, answer) = (children.clone(), *answer);
                // Who answers at once must not let a parent go on before the
                // others have been asked: a write might be sent twice.
                self.nodes[node].opening = true;
                children.iter().for_each(|&child| self.begin(child, acts));
                self.nodes[node].opening = false;
                for &child in &children {
                    if let Some(verdict) = self.nodes[child].verdict.clone() {
                        self.tell_parent(node, child, verdict, acts);
                    }
                }
                if children.is_empty() {
                    self.close(node, Verdict::canned(Canned::Null), acts);
                } else if answer == Pick::Nobody {
                    self.close(node, Verdict::canned(Canned::Accepted), acts);
                }
            }
            What::Mirror { children, .. } => {
                let children = children.clone();
                children.iter().for_each(|&child| self.begin(child, acts));
            }
        }
    }

    /// A node has ended.
    fn close(&mut self, node: usize, verdict: Verdict, acts: &mut Vec<Act>) {
        if self.nodes[node].verdict.is_some() {
            return;
        }
        self.nodes[node].verdict = Some(verdict.clone());
        let Some(parent) = self.nodes[node].parent else {
            if !self.answered {
                self.answered = true;
                acts.push(Act::Answer(verdict.source));
            }
            return;
        };
        if let What::Mirror { children, .. } = &self.nodes[parent].what {
            self.refill_copies(parent, children, node, acts);
        }
        self.tell_parent(parent, node, verdict, acts);
    }

    /// A child has ended: its parent may have, too.
    fn tell_parent(&mut self, parent: usize, node: usize, verdict: Verdict, acts: &mut Vec<Act>) {
        if self.copies_missed(parent) {
            return self.refill(parent, &verdict, acts);
        }
        if self.nodes[parent].verdict.is_some() || self.nodes[parent].opening {
            return;
        }
        let ended = match &self.nodes[parent].what {
            What::Try { .. } => self.after_try(parent, node, &verdict, acts),
            What::Fan { children, answer } => self.after_fan(children, *answer, node),
            What::Mirror { children, .. } if children.first() == Some(&node) => Some(verdict),
            _ => None,
        };
        if let Some(verdict) = ended {
            self.end(parent, verdict, acts);
        }
    }

    /// An inner node ends so.
    fn end(&mut self, node: usize, verdict: Verdict, acts: &mut Vec<Act>) {
        self.learn(node, &verdict, acts);
        self.refill(node, &verdict, acts);
        self.close(node, verdict, acts);
        if self.copies_missed(node) {
            self.ask_next(node, acts);
        }
    }

    /// Whether a write may have taken effect somewhere below this node. The
    /// verdict alone does not say: the worst of a fan may be "down" where
    /// another server has done it.
    fn may_have_run(&self, node: usize) -> bool {
        let any = |children: &[usize]| children.iter().any(|&child| self.may_have_run(child));
        match &self.nodes[node].what {
            What::Canned { .. } => false,
            What::Try { children, .. } | What::Fan { children, .. } => any(children),
            What::Mirror { children, .. } => any(&children[..children.len().min(1)]),
            What::Leg(leg) => {
                let begun = self.legs[usize::from(leg.0)].begun;
                let verdict = self.nodes[node].verdict.as_ref();
                // Whoever said no has answered, wherever it is asked next.
                let not_run = |outcome: Outcome| {
                    outcome.is_certain_not_run()
                        || matches!(outcome, Outcome::Miss | Outcome::NotDone | Outcome::Error)
                };
                begun && !verdict.is_some_and(|verdict| not_run(verdict.outcome))
            }
        }
    }

    fn after_fan(&self, children: &[usize], answer: Pick, said: usize) -> Option<Verdict> {
        let verdicts = children
            .iter()
            .filter_map(|&child| self.nodes[child].verdict.as_ref());
        let all = verdicts.clone().count() == children.len();
        match answer {
            Pick::Nobody => None,
            Pick::First => match self.nodes[said].number {
                0 => self.nodes[said].verdict.clone(),
                _ => None,
            },
            Pick::Fastest => {
                let done =
                    |verdict: &&Verdict| matches!(verdict.outcome, Outcome::Hit | Outcome::Done);
                let found = verdicts.clone().find(done).cloned();
                found.or_else(|| self.best(children).filter(|_| all))
            }
            Pick::Majority => {
                let like = |one: &Verdict| {
                    let same = |other: &&Verdict| other.outcome == one.outcome;
                    verdicts.clone().filter(same).count()
                };
                let most = verdicts.clone().find(|one| like(one) * 2 > children.len());
                most.cloned()
                    .or_else(|| self.worst(children).filter(|_| all))
            }
            Pick::Worst => self.worst(children).filter(|_| all),
            Pick::Every => {
                let worst = self.worst(children).filter(|_| all)?;
                match worst.outcome.is_good() {
                    true => self.best(children),
                    false => Some(worst),
                }
            }
            Pick::FirstOfAll => {
                let first = children.first().filter(|_| all)?;
                self.nodes[*first].verdict.clone()
            }
        }
    }

    fn best(&self, children: &[usize]) -> Option<Verdict> {
        let verdicts = children
            .iter()
            .filter_map(|&child| self.nodes[child].verdict.as_ref());
        // Of equals the first.
        verdicts
            .min_by_key(|verdict| (verdict.silent, verdict.outcome.rank()))
            .cloned()
    }

    fn worst(&self, children: &[usize]) -> Option<Verdict> {
        let verdicts = children
            .iter()
            .rev()
            .filter_map(|&child| self.nodes[child].verdict.as_ref());
        verdicts
            .max_by_key(|verdict| (verdict.outcome.rank(), !verdict.silent))
            .cloned()
    }
}

fn canned(canned: Canned) -> What {
    let delay = None;
    What::Canned { canned, delay }
}

fn pause(node: usize) -> Pause {
    Pause(u16::try_from(node).unwrap_or(u16::MAX))
}

/// The pool of a local target.
impl Target {
    /// The embedded pool, if it is one.
    pub fn local(self) -> Option<PoolId> {
        match self {
            Target::Answer(pool) => Some(pool),
            Target::Send(_) => None,
        }
    }
}
