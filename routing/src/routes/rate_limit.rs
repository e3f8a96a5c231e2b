//! The rate-limit route: so many requests a second, and no more.

use std::sync::Arc;

use emberline_protocol::Kind;

use super::breadth_of_one;
use crate::conditions::{Conditions, StateId};
use crate::plan::{Canned, Plan};
use crate::{Ask, Route};

/// Lets so many requests a second through, by what they do; the others get the
/// fallback, or an error that names the route.
#[derive(Debug)]
pub struct RateLimit {
    spec: RateLimitSpec,
    message: Arc<str>,
    breadth: usize,
}

/// What a [`RateLimit`] is made of.
#[derive(Clone, Debug)]
pub struct RateLimitSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where requests go that are within the rate.
    pub child: Route,
    /// Where the others go; none: they get an error.
    pub over: Option<Route>,
    /// Of reads.
    pub reads: Option<Limit>,
    /// Of writes.
    pub writes: Option<Limit>,
    /// Of deletes.
    pub deletes: Option<Limit>,
    /// Of counters.
    pub counters: Option<Limit>,
    /// Of touches.
    pub touches: Option<Limit>,
    /// Of everything, beside what its own kind allows.
    pub all: Option<Limit>,
}

/// A bucket of tokens, one for each request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Where they are counted. Nobody else may count there.
    pub state: StateId,
    /// Tokens a second, for all workers together.
    pub rate: f64,
    /// Tokens that the bucket holds, at least 1.
    pub burst: f64,
}

impl From<RateLimitSpec> for Route {
    fn from(spec: RateLimitSpec) -> Route {
        let kinds = [
            spec.reads,
            spec.writes,
            spec.deletes,
            spec.counters,
            spec.touches,
        ];
        if spec.all.is_none() && kinds.iter().all(Option::is_none) {
            return spec.child;
        }
        let message = format!("route \"{}\" is over its rate limit", spec.name).into();
        let breadth = breadth_of_one(spec.over.iter().chain([&spec.child]));
        Route::RateLimit(Arc::new(RateLimit {
            spec,
            message,
            breadth,
        }))
    }
}

impl RateLimit {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        match (
            ask.trial || self.allows(ask.kind, conditions),
            &self.spec.over,
        ) {
            (true, _) => self.spec.child.plan(ask, conditions),
            (false, Some(over)) => over.plan(ask, conditions),
            (false, None) => Plan::Reply(Canned::Error(self.message.clone())),
        }
    }

    /// Takes a token of its kind, and then one of all.
    fn allows(&self, kind: Kind, conditions: &Conditions<'_>) -> bool {
        let spec = &self.spec;
        let own = match kind {
            Kind::Read => spec.reads,
            Kind::Write => spec.writes,
            Kind::Delete => spec.deletes,
            Kind::Counter => spec.counters,
            Kind::Touch => spec.touches,
            Kind::Other => None,
        };
        let mut limits = own.into_iter().chain(spec.all);
        limits.all(|limit| {
            let Limit { state, rate, burst } = limit;
            let states = conditions.states;
            states.take(state, rate, burst, conditions.now_ms)
        })
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        let over = self.spec.over.iter();
        [&self.spec.child].into_iter().chain(over).collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
