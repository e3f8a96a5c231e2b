//! The replicas route: several copies of the same keys.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::{Kind, Outcome};

use super::{breadth_of_all, simple};
use crate::conditions::Conditions;
use crate::plan::{Canned, Change, Mark, Outcomes, Pick, Plan, Refill, Target, Try};
use crate::{Ask, Route};

/// Reads one of several copies, and another if it does not answer; writes all.
///
/// A write that depends on a value's unique number (`cas`) is refused: every
/// server counts its own, so the one that the client has seen the number of
/// would do it, and the others not.
#[derive(Debug)]
pub struct Replicas {
    spec: ReplicasSpec,
    /// The refusal.
    message: Arc<str>,
    breadth: usize,
}

/// An error, too, leads to the next copy: it may be of that server alone.
const UNANSWERED: Outcomes = Outcomes::FAILURES.and(Outcomes::of(&[Outcome::Error]));

/// What a [`Replicas`] is made of.
#[derive(Clone, Debug)]
pub struct ReplicasSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The copies, and whether each is in this proxy's zone.
    pub children: Vec<(Route, bool)>,
    /// Which copy is read.
    pub read: Read,
    /// Whom a write waits for.
    pub wait: Wait,
    /// A copy that has not got a key that another has gets it from there; so a
    /// miss leads to the next copy.
    pub read_repair: bool,
    /// How deletes are remembered, so that no repair that is under way brings
    /// back what was deleted; longer than a repair can take.
    pub tombstone: Option<Mark>,
    /// Another copy is asked as well if there is no answer for so long.
    pub hedge_after: Option<Duration>,
}

/// Which copy is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    /// The first.
    First,
    /// Any.
    Random,
    /// All of them: the first that has it answers.
    Fastest,
    /// Any in this zone, then any other.
    Near,
    /// Of two at random the one with fewer requests in flight.
    LeastLoaded,
}

/// Whom a write waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// All: the worst reply is the answer, or of a delete the worst failure, and
    /// without one the best.
    All,
    /// More than half.
    Majority,
    /// The first that has done it.
    One,
    /// Nobody: the client is told at once that it is being done.
    None,
}

impl From<ReplicasSpec> for Route {
    fn from(spec: ReplicasSpec) -> Route {
        let children: Vec<Route> = spec
            .children
            .iter()
            .map(|(child, _)| child.clone())
            .collect();
        // Whoever waits for nobody waits for one child neither.
        let waits = children.is_empty() || spec.wait != Wait::None;
        match simple(&children).filter(|_| waits) {
            Some(less) => less,
            None => Route::Replicas(Arc::new(Replicas::new(spec))),
        }
    }
}

impl Replicas {
    /// A route with these copies.
    pub fn new(spec: ReplicasSpec) -> Replicas {
        let breadth = breadth_of_all(spec.children.iter().map(|(child, _)| child));
        let message = format!(
            "route \"{}\" cannot compare a value's unique number: every replica counts its own",
            spec.name
        );
        Replicas {
            message: message.into(),
            spec,
            breadth,
        }
    }

    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        if ask.numbered && ask.kind != Kind::Read {
            return Plan::Reply(Canned::Error(self.message.clone()));
        }
        let children = self.spec.children.iter();
        let plans: Vec<(Plan, bool)> = children
            .map(|(child, near)| (child.plan(ask, conditions), *near))
            .collect();
        match ask.kind {
            Kind::Read => self.read(plans, conditions),
            Kind::Delete => {
                let tombstone = self.spec.tombstone.filter(|_| self.spec.read_repair);
                let plans = plans.into_iter();
                let plans = plans.map(|(plan, _)| plan.edited(Change::tombstone(tombstone)));
                self.write(plans, ask)
            }
            _ => self.write(plans.into_iter().map(|(plan, _)| plan), ask),
        }
    }

    fn read(&self, mut plans: Vec<(Plan, bool)>, conditions: &Conditions<'_>) -> Plan {
        let upstream = conditions.upstream;
        let target = |plan: &Plan| match plan.first() {
            Some(Target::Send(server)) => Some(server),
            _ => None,
        };
        let (read, states) = (self.spec.read, conditions.states);
        if matches!(read, Read::Random | Read::Near | Read::LeastLoaded) {
            for last in (1..plans.len()).rev() {
                plans.swap(last, (states.random() % (last as u64 + 1)) as usize);
            }
        }
        match read {
            Read::Near => plans.sort_by_key(|(_, near)| !near),
            Read::LeastLoaded if plans.len() > 1 => {
                let load = |plan: &Plan| target(plan).map_or(0, |id| upstream.inflight(id));
                if load(&plans[1].0) < load(&plans[0].0) {
                    plans.swap(0, 1);
                }
            }
            Read::LeastLoaded | Read::First | Read::Random | Read::Fastest => {}
        }
        // Who is known to be down comes last, and keeps its place among those.
        plans.sort_by_key(|(plan, _)| plan.is_down(upstream));

        let plans: Vec<Plan> = plans.into_iter().map(|(plan, _)| plan).collect();
        if read == Read::Fastest {
            return Plan::fan(plans, Pick::Fastest);
        }
        let misses = Outcomes::of(&[Outcome::Miss]);
        let on = match self.spec.read_repair {
            true => UNANSWERED.and(misses),
            false => UNANSWERED,
        };
        let refill = Refill::missed(self.spec.tombstone);
        Plan::Try(Box::new(Try {
            hedge_after: self.spec.hedge_after,
            refill: self.spec.read_repair.then_some(refill),
            ..Try::new(plans, on)
        }))
    }

    fn write(&self, plans: impl Iterator<Item = Plan>, ask: &Ask<'_>) -> Plan {
        // What one copy did not have was removed all the same where it was.
        let counts = ask.removes || matches!(ask.kind, Kind::Delete | Kind::Touch);
        let answer = match self.spec.wait {
            Wait::All if counts => Pick::Every,
            Wait::All => Pick::Worst,
            Wait::Majority => Pick::Majority,
            Wait::One => Pick::Fastest,
            Wait::None => Pick::Nobody,
        };
        Plan::fan(plans.collect(), answer)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().map(|(child, _)| child).collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
