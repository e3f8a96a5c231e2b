//! The latest route: a few targets of many, always the same on one host.

use std::sync::Arc;

use super::simple;
use crate::conditions::Conditions;
use crate::hash::murmur64;
use crate::plan::{Outcomes, Plan, Try};
use crate::{Ask, Route};

/// Uses only a few of its children, which depend on the host alone: the first,
/// and the next one when one does not answer. So each child hears from a few
/// hosts, and each host connects to a few children.
///
/// (mcrouter's LatestRoute.) Every host orders the children by numbers that it
/// draws for them, so that one more child takes its share of the hosts and
/// leaves the others where they are.
#[derive(Debug)]
pub struct Latest {
    name: Arc<str>,
    /// All children; the chosen ones stand in front.
    children: Vec<Route>,
    count: usize,
    breadth: usize,
}

/// What a [`Latest`] is made of.
#[derive(Clone, Debug)]
pub struct LatestSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The children to choose from. A child is its place in the list: new ones
    /// belong to the end.
    pub children: Vec<Route>,
    /// How many are used, at least 1.
    pub count: usize,
    /// Stands for the host: a hash of its name.
    pub host: u64,
}

impl From<LatestSpec> for Route {
    fn from(spec: LatestSpec) -> Route {
        if let Some(less) = simple(&spec.children) {
            return less;
        }
        Route::Latest(Arc::new(Latest::new(spec)))
    }
}

impl Latest {
    fn new(spec: LatestSpec) -> Latest {
        let mut drawn: Vec<(u64, Route)> = spec
            .children
            .into_iter()
            .enumerate()
            .map(|(i, child)| (murmur64::hash(&(i as u64).to_le_bytes(), spec.host), child))
            .collect();
        drawn.sort_by_key(|(draw, _)| *draw);
        let children: Vec<Route> = drawn.into_iter().map(|(_, child)| child).collect();
        let count = spec.count.clamp(1, children.len().max(1));
        Latest {
            name: spec.name,
            breadth: super::breadth_of_all(children.iter().take(count)),
            children,
            count,
        }
    }

    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let used = &self.children[..self.count];
        let mut plans = super::plan_all(used, ask, conditions);
        match plans.len() {
            1 => plans.swap_remove(0),
            _ => Plan::Try(Box::new(Try::new(plans, Outcomes::FAILURES))),
        }
    }

    /// Those that are used: nothing is ever sent to the others.
    pub(crate) fn children(&self) -> Vec<&Route> {
        self.children[..self.count].iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
