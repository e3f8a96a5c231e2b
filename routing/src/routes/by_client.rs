//! The by-client route: the client chooses the child.

use std::sync::Arc;

use super::{breadth_of_one, nth_of, simple};
use crate::conditions::Conditions;
use crate::plan::Plan;
use crate::{Ask, Route};

/// Sends all requests of a client to the same child.
#[derive(Debug)]
pub struct ByClient {
    spec: ByClientSpec,
    breadth: usize,
}

/// What a [`ByClient`] is made of.
#[derive(Clone, Debug)]
pub struct ByClientSpec {
    /// The route's name in the configuration. Clients are spread anew when it
    /// changes.
    pub name: Arc<str>,
    /// The children to choose from.
    pub children: Vec<Route>,
}

impl From<ByClientSpec> for Route {
    fn from(spec: ByClientSpec) -> Route {
        if let Some(less) = simple(&spec.children) {
            return less;
        }
        let breadth = breadth_of_one(&spec.children);
        Route::ByClient(Arc::new(ByClient { spec, breadth }))
    }
}

impl ByClient {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let children = &self.spec.children;
        let index = nth_of(conditions.client, &self.spec.name, children.len());
        children[index].plan(ask, conditions)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
