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

use std::time::Duration;

use emberline_protocol::{Kind, Outcome};

use crate::conditions::StateId;
use crate::plan::{Canned, Change, Fan, Mirror, Outcomes, Pick, Plan, Refill, Try};
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
    },
    /// One of this allowance's tokens has been used.
    Spend(StateId),
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
    /// Legs that were sent and have not settled.
    out: usize,
}

/// Where a leg goes.
#[derive(Debug)]
struct Place {
    target: Target,
    change: Change,
    node: usize,
}

#[derive(Debug)]
struct Node {
    parent: Option<usize>,
    /// Its number among its parent's children.
    number: usize,
    what: What,
    verdict: Option<Verdict>,
}

/// How a node has ended.
#[derive(Clone, Debug)]
struct Verdict {
    outcome: Outcome,
    source: Source,
}

#[derive(Debug)]
enum What {
    Leg(Leg),
    Canned(Canned),
    Try {
        children: Vec<usize>,
        on: Outcomes,
        hedge_after: Option<Duration>,
        retry_writes: bool,
        allowance: Option<StateId>,
        refill: Option<Refill>,
        /// How many have been asked.
        begun: usize,
    },
    Fan {
        children: Vec<usize>,
        answer: Pick,
    },
    Mirror {
        children: Vec<usize>,
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
        let Some(node) = self.legs.get(usize::from(leg.0)).map(|place| place.node) else {
            return;
        };
        if self.nodes[node].verdict.is_some() {
            return;
        }
        self.out = self.out.saturating_sub(1);
        let source = Source::Leg(leg);
        self.close(node, Verdict { outcome, source }, acts);
    }

    /// The time that an [`Act::Wait`] asked for has passed.
    pub fn elapsed(&mut self, pause: Pause, acts: &mut Vec<Act>) {
        let node = usize::from(pause.0);
        if self
            .nodes
            .get(node)
            .is_some_and(|node| node.verdict.is_none())
        {
            self.next(node, acts);
        }
    }

    /// Where a leg goes, and what the request is there.
    pub fn place(&self, leg: Leg) -> Option<(Target, &Change)> {
        let place = self.legs.get(usize::from(leg.0))?;
        Some((place.target, &place.change))
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
                    Pick::First => self.nodes[child].number == 0,
                    Pick::Nobody => false,
                    Pick::Fastest | Pick::Majority | Pick::Worst => true,
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
        if let Plan::Edit(inner, plan) = plan {
            return self.add(*plan, parent, number, &change.then(&inner));
        }
        let at = self.nodes.len();
        self.nodes.push(Node {
            parent,
            number,
            what: What::Canned(Canned::Null),
            verdict: None,
        });
        let what = match plan {
            Plan::Answer(pool) => self.leg(Target::Answer(pool), change, at),
            Plan::Send(server) => self.leg(Target::Send(server), change, at),
            Plan::Reply(canned) => What::Canned(canned),
            Plan::Edit(..) => What::Canned(Canned::Null),
            Plan::Try(tries) => {
                let Try {
                    plans,
                    on,
                    hedge_after,
                    retry_writes,
                    allowance,
                    refill,
                } = *tries;
                What::Try {
                    children: self.add_all(plans, at, change),
                    on,
                    hedge_after,
                    retry_writes,
                    allowance,
                    refill,
                    begun: 0,
                }
            }
            Plan::Fan(fan) => {
                let Fan { plans, answer } = *fan;
                let children = self.add_all(plans, at, change);
                What::Fan { children, answer }
            }
            Plan::Mirror(mirror) => {
                let Mirror { main, copies } = *mirror;
                let plans = std::iter::once(main).chain(copies);
                let children = self.add_all(plans, at, change);
                What::Mirror { children }
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

    fn leg(&mut self, target: Target, change: &Change, node: usize) -> What {
        let leg = Leg(u16::try_from(self.legs.len()).unwrap_or(u16::MAX));
        self.legs.push(Place {
            target,
            change: change.clone(),
            node,
        });
        What::Leg(leg)
    }

    fn begin(&mut self, node: usize, acts: &mut Vec<Act>) {
        match &self.nodes[node].what {
            What::Leg(leg) => {
                self.out += 1;
                acts.push(Act::Send(*leg));
            }
            What::Canned(canned) => {
                let verdict = Verdict {
                    outcome: canned.outcome(),
                    source: Source::Canned(canned.clone()),
                };
                self.close(node, verdict, acts);
            }
            What::Try { .. } => self.next(node, acts),
            What::Fan { children, answer } => {
                let (children, answer) = (children.clone(), *answer);
                children.iter().for_each(|&child| self.begin(child, acts));
                if answer == Pick::Nobody || children.is_empty() {
                    let canned = match children.is_empty() {
                        true => Canned::Null,
                        false => Canned::Accepted,
                    };
                    let verdict = Verdict {
                        outcome: canned.outcome(),
                        source: Source::Canned(canned),
                    };
                    self.close(node, verdict, acts);
                }
            }
            What::Mirror { children } => {
                let children = children.clone();
                children.iter().for_each(|&child| self.begin(child, acts));
            }
        }
    }

    /// Ask the next of a `Try`.
    fn next(&mut self, node: usize, acts: &mut Vec<Act>) {
        let What::Try {
            children,
            begun,
            allowance,
            hedge_after,
            ..
        } = &mut self.nodes[node].what
        else {
            return;
        };
        let Some(&child) = children.get(*begun) else {
            return;
        };
        *begun += 1;
        let (first, more) = (*begun == 1, *begun < children.len());
        if let Some(allowance) = allowance.filter(|_| !first) {
            acts.push(Act::Spend(allowance));
        }
        let pause = hedge_after.filter(|_| more);
        self.begin(child, acts);
        if let Some(after) = pause.filter(|_| self.nodes[node].verdict.is_none()) {
            let pause = Pause(u16::try_from(node).unwrap_or(u16::MAX));
            acts.push(Act::Wait(pause, after));
        }
    }

    /// A node has ended: its parent may have, too.
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
        if self.nodes[parent].verdict.is_some() {
            return;
        }
        let ended = match &self.nodes[parent].what {
            What::Try { .. } => self.after_try(parent, &verdict, acts),
            What::Fan { children, answer } => self.after_fan(children, *answer, node),
            What::Mirror { children } if children.first() == Some(&node) => Some(verdict),
            _ => None,
        };
        if let Some(verdict) = ended {
            self.refill(parent, &verdict, acts);
            self.close(parent, verdict, acts);
        }
    }

    fn after_try(&mut self, node: usize, said: &Verdict, acts: &mut Vec<Act>) -> Option<Verdict> {
        let What::Try {
            children,
            on,
            retry_writes,
            begun,
            ..
        } = &self.nodes[node].what
        else {
            return None;
        };
        if !on.has(said.outcome) {
            return Some(said.clone());
        }
        let safe = self.read || *retry_writes || said.outcome.is_certain_not_run();
        // A write that somebody said no to has been answered, wherever it is
        // asked next.
        let safe = safe
            || matches!(
                said.outcome,
                Outcome::Miss | Outcome::NotDone | Outcome::Error
            );
        if safe && *begun < children.len() {
            self.next(node, acts);
            return None;
        }
        let begun = children[..*begun].to_vec();
        match begun
            .iter()
            .all(|&child| self.nodes[child].verdict.is_some())
        {
            true => self.best(&begun),
            false => None,
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
        }
    }

    fn best(&self, children: &[usize]) -> Option<Verdict> {
        let verdicts = children
            .iter()
            .filter_map(|&child| self.nodes[child].verdict.as_ref());
        // Of equals the first.
        verdicts
            .min_by_key(|verdict| verdict.outcome.rank())
            .cloned()
    }

    fn worst(&self, children: &[usize]) -> Option<Verdict> {
        let verdicts = children
            .iter()
            .rev()
            .filter_map(|&child| self.nodes[child].verdict.as_ref());
        verdicts
            .max_by_key(|verdict| verdict.outcome.rank())
            .cloned()
    }

    /// A later one had what earlier ones had not: they get a copy.
    fn refill(&self, node: usize, verdict: &Verdict, acts: &mut Vec<Act>) {
        let What::Try {
            children,
            refill: Some(refill),
            ..
        } = &self.nodes[node].what
        else {
            return;
        };
        let Verdict {
            outcome: Outcome::Hit,
            source: Source::Leg(from),
        } = verdict
        else {
            return;
        };
        let missed: Vec<Leg> = children
            .iter()
            .filter_map(|&child| match &self.nodes[child].verdict {
                Some(Verdict {
                    outcome: Outcome::Miss,
                    source: Source::Leg(leg),
                }) => Some(*leg),
                _ => None,
            })
            .collect();
        if missed.is_empty() {
            return;
        }
        let places = match &refill.to {
            Some(plan) => plan.places(),
            None => missed
                .iter()
                .filter_map(|leg| self.place(*leg))
                .map(|(target, change)| (target, change.clone()))
                .collect(),
        };
        let own = self.place(*from).map(|(target, _)| target);
        let to: Vec<(ServerId, Change)> = places
            .into_iter()
            .filter(|(target, _)| Some(*target) != own)
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
            });
        }
    }
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
