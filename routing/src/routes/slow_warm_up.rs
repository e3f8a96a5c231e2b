//! The slow warm-up route: a cold child gets as much as it can answer.

use std::sync::Arc;

use emberline_protocol::Kind;

use super::{breadth_of_all, plan_all};
use crate::conditions::{Conditions, StateId};
use crate::plan::{Outcomes, Pick, Plan, Try};
use crate::{Ask, Route};

/// Spares a child whose hit rate has fallen: only a share of its reads goes
/// there, and more as it hits more, until it is warm again; the others go to
/// the fallback. Writes and deletes reach both, because both are read.
///
/// ```text
///            hit rate < enable_below
///   warm  ---------------------------->  warming: start + step * hit rate
///         <----------------------------           of the reads go there
///            hit rate > disable_above
/// ```
///
/// The rate is that of the last thousand reads or so (mcrouter counts from the
/// start of the process on, so that a server which loses its memory on the
/// tenth day is noticed days later).
#[derive(Debug)]
pub struct SlowWarmUp {
    spec: SlowWarmUpSpec,
    breadth: usize,
}

/// What a [`SlowWarmUp`] is made of.
#[derive(Clone, Debug)]
pub struct SlowWarmUpSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The child that may be cold.
    pub target: Route,
    /// Who gets the reads that it is spared.
    pub fallback: Route,
    /// The hit rate below which it is spared, 0 to 1.
    pub enable_below: f64,
    /// The hit rate above which it gets everything again, 0 to 1.
    pub disable_above: f64,
    /// The share of reads that it gets without any hits, 0 to 1.
    pub start: f64,
    /// How much of its hit rate is added to that.
    pub step: f64,
    /// Reads before its hit rate means anything, 1000 at the most.
    pub requests_min: u32,
    /// Where its hit rate is kept.
    pub state: StateId,
}

impl From<SlowWarmUpSpec> for Route {
    fn from(spec: SlowWarmUpSpec) -> Route {
        let breadth = breadth_of_all([&spec.target, &spec.fallback]);
        Route::SlowWarmUp(Arc::new(SlowWarmUp { spec, breadth }))
    }
}

impl SlowWarmUp {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let SlowWarmUpSpec {
            target, fallback, ..
        } = &self.spec;
        match ask.kind {
            Kind::Read if self.is_spared(conditions) => fallback.plan(ask, conditions),
            Kind::Read => {
                let target = Plan::Try(Box::new(Try {
                    learn: Some(self.spec.state),
                    ..Try::new(vec![target.plan(ask, conditions)], Outcomes::default())
                }));
                let plans = vec![target, fallback.plan(ask, conditions)];
                Plan::Try(Box::new(Try::new(plans, Outcomes::FAILURES)))
            }
            Kind::Delete => Plan::fan(plan_all([target, fallback], ask, conditions), Pick::Every),
            _ => Plan::fan(plan_all([target, fallback], ask, conditions), Pick::First),
        }
    }

    /// Whether this read does not go to the target.
    fn is_spared(&self, conditions: &Conditions<'_>) -> bool {
        let (spec, states) = (&self.spec, conditions.states);
        let (rate, seen) = states.hit_rate(spec.state);
        if seen < u64::from(spec.requests_min).min(1000) {
            return false;
        }
        let warming = match states.is_on(spec.state) {
            true => rate <= spec.disable_above,
            false => rate < spec.enable_below,
        };
        states.turn(spec.state, warming);
        warming && !states.happens(spec.start + spec.step * rate)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.target, &self.spec.fallback]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
