//! The failover route: the next child when one fails.

use std::sync::Arc;

use emberline_protocol::Kind;

use super::{breadth_of_all, plan_all, simple};
use crate::conditions::{Conditions, StateId};
use crate::plan::{Outcomes, Plan, Try};
use crate::{Ask, Route};

/// Asks the first child, and the next one when it says something of `on`. The
/// answer is the first other thing that is said; if there is none, the best:
/// a miss before an error, an error before silence.
#[derive(Debug)]
pub struct Failover {
    spec: FailoverSpec,
    breadth: usize,
}

/// What a [`Failover`] is made of.
#[derive(Clone, Debug)]
pub struct FailoverSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// In the order in which they are asked.
    pub children: Vec<Route>,
    /// What leads from one to the next.
    pub on: Causes,
    /// Children that are asked at the most.
    pub tries_max: usize,
    /// A write of which it is not known whether it was carried out is tried
    /// elsewhere too.
    pub retry_writes: bool,
    /// At most this share of the requests may go on to the next child, with so
    /// many at once.
    pub rate: Option<Rate>,
}

/// A share of the requests that may do something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Where it is counted.
    pub state: StateId,
    /// From 0 to 1.
    pub share: f64,
    /// So many at once, at the least 1.
    pub burst: f64,
}

/// What leads from one to the next, by what the request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Causes {
    /// Of reads.
    pub reads: Outcomes,
    /// Of writes, and of what is none of the others.
    pub writes: Outcomes,
    /// Of deletes.
    pub deletes: Outcomes,
    /// Of counters.
    pub counters: Outcomes,
    /// Of touches.
    pub touches: Outcomes,
}

impl Causes {
    /// The same for everything.
    pub const fn all(on: Outcomes) -> Causes {
        Causes {
            reads: on,
            writes: on,
            deletes: on,
            counters: on,
            touches: on,
        }
    }

    /// Of requests of this kind.
    pub fn of(&self, kind: Kind) -> Outcomes {
        match kind {
            Kind::Read => self.reads,
            Kind::Write | Kind::Other => self.writes,
            Kind::Delete => self.deletes,
            Kind::Counter => self.counters,
            Kind::Touch => self.touches,
        }
    }
}

impl Rate {
    /// A request brings its share of a token; whoever goes on takes one.
    pub(super) fn bring(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) {
        if !ask.trial {
            let states = conditions.states;
            states.bring(self.state, self.share, self.burst);
        }
    }
}

impl From<FailoverSpec> for Route {
    fn from(spec: FailoverSpec) -> Route {
        if let Some(less) = simple(&spec.children) {
            return less;
        }
        Route::Failover(Arc::new(Failover::new(spec)))
    }
}

impl Failover {
    /// A route with these children.
    pub fn new(spec: FailoverSpec) -> Failover {
        let children = spec.children.iter().take(spec.tries_max.max(1));
        let breadth = breadth_of_all(children);
        Failover { spec, breadth }
    }

    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        if let Some(rate) = &spec.rate {
            rate.bring(ask, conditions);
        }
        let children = spec.children.iter().take(spec.tries_max.max(1));
        let plans = plan_all(children, ask, conditions);
        Plan::Try(Box::new(Try {
            retry_writes: spec.retry_writes,
            allowance: spec.rate.map(|rate| rate.state),
            ..Try::new(plans, spec.on.of(ask.kind))
        }))
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
