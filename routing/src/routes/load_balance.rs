//! The load-balance route: the less busy of two.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{breadth_of_one, simple};
use crate::conditions::Conditions;
use crate::plan::{Plan, Target};
use crate::{Ask, Route};

/// Takes two children at random and sends the request to the one whose server
/// has fewer requests in flight, or is up where the other is down.
///
/// Two choices are nearly as good as knowing all of them, and do not send
/// everybody to the same one (Mitzenmacher 2001).
#[derive(Debug)]
pub struct LoadBalance {
    spec: LoadBalanceSpec,
    breadth: usize,
}

/// What a [`LoadBalance`] is made of.
#[derive(Clone, Debug)]
pub struct LoadBalanceSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The children to choose from.
    pub children: Vec<Route>,
}

impl From<LoadBalanceSpec> for Route {
    fn from(spec: LoadBalanceSpec) -> Route {
        if let Some(less) = simple(&spec.children) {
            return less;
        }
        // Two are tried, and one is taken.
        let breadth = breadth_of_one(&spec.children).saturating_mul(3);
        Route::LoadBalance(Arc::new(LoadBalance { spec, breadth }))
    }
}

impl LoadBalance {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let children = &self.spec.children;
        let (upstream, states) = (conditions.upstream, conditions.states);
        let count = children.len() as u64;
        let one = states.random() % count;
        // Any but the first.
        let other = (one + 1 + states.random() % (count - 1).max(1)) % count;

        // Where they would go; only the chosen one uses up what limits it.
        let trial = Ask {
            trial: true,
            ..*ask
        };
        let load = |index: u64| {
            let plan = children[index as usize].plan(&trial, conditions);
            let inflight = match plan.first() {
                Some(Target::Send(server)) => upstream.inflight(server),
                _ => 0,
            };
            (Reverse(!plan.is_down(upstream)), inflight)
        };
        let chosen = match load(other) < load(one) {
            true => other,
            false => one,
        };
        children[chosen as usize].plan(ask, conditions)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
