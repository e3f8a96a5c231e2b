//! The failover route: the next child when one fails.

use std::sync::Arc;

use emberline_protocol::Kind;

use super::breadth_of_all;
use crate::conditions::{Conditions, StateId};
use crate::plan::{Outcomes, Plan, Try};
use crate::{Ask, Route};

/// Asks the first child, and the next one when it says something of `on`. The
/// answer is the first other thing that is said; if there is none, the best:
/// a miss before an error, an error before silence.
#[derive(Debug)]
pub struct Failover {
    spec: FailoverSpec,
}

/// What a [`Failover`] is made of.
#[derive(Clone, Debug)]
pub struct FailoverSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// In the order in which they are asked.
    pub children: Vec<Route>,
    /// What leads from one to the next, for reads.
    pub on_reads: Outcomes,
    /// The same for everything else.
    pub on_writes: Outcomes,
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

impl Failover {
    /// A route with these children.
    pub fn new(spec: FailoverSpec) -> Failover {
        Failover { spec }
    }

    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        let allowed = spec.rate.is_none_or(|rate| {
            let states = conditions.states;
            states.bring(rate.state, rate.share, rate.burst)
        });
        let tries = match allowed {
            true => spec.tries_max.max(1),
            false => 1,
        };
        let children = spec.children.iter().take(tries);
        let plans = children.map(|child| child.plan(ask, conditions));
        let on = match ask.kind {
            Kind::Read => spec.on_reads,
            _ => spec.on_writes,
        };
        Plan::Try(Box::new(Try {
            retry_writes: spec.retry_writes,
            allowance: spec.rate.map(|rate| rate.state),
            ..Try::new(plans.collect(), on)
        }))
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        breadth_of_all(&self.spec.children)
    }
}
