//! The random route: chance chooses the child.

use std::sync::Arc;

use super::{breadth_of_one, simple};
use crate::conditions::Conditions;
use crate::plan::Plan;
use crate::{Ask, Route};

/// Sends each request to any child. What is written to one is not read from
/// another, so they must hold the same, or be proxies.
#[derive(Debug)]
pub struct Random {
    spec: RandomSpec,
    breadth: usize,
}

/// What a [`Random`] is made of.
#[derive(Clone, Debug)]
pub struct RandomSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The children to choose from.
    pub children: Vec<Route>,
}

impl From<RandomSpec> for Route {
    fn from(spec: RandomSpec) -> Route {
        if let Some(less) = simple(&spec.children) {
            return less;
        }
        let breadth = breadth_of_one(&spec.children);
        Route::Random(Arc::new(Random { spec, breadth }))
    }
}

impl Random {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let children = &self.spec.children;
        let index = conditions.states.random() % children.len() as u64;
        children[index as usize].plan(ask, conditions)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
