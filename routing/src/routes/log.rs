//! The log route: what goes through a part of the tree.

use std::sync::Arc;

use crate::conditions::Conditions;
use crate::plan::{Change, Plan};
use crate::{Ask, Route};

/// Logs a share of the requests that pass, with the keys' hashes unless the
/// keys themselves are asked for.
#[derive(Debug)]
pub struct Log {
    spec: LogSpec,
}

/// What a [`Log`] is made of.
#[derive(Clone, Debug)]
pub struct LogSpec {
    /// The route's name in the configuration, and what the log says.
    pub name: Arc<str>,
    /// Where requests go.
    pub child: Route,
    /// The share that is logged, 0 to 1.
    pub share: f64,
    /// Keys are shown as they are.
    pub keys: bool,
}

impl From<LogSpec> for Route {
    fn from(spec: LogSpec) -> Route {
        match spec.share > 0.0 {
            true => Route::Log(Arc::new(Log { spec })),
            false => spec.child,
        }
    }
}

impl Log {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        let plan = spec.child.plan(ask, conditions);
        match conditions.states.happens(spec.share) {
            true => plan.edited(Change {
                log: Some(spec.name.clone()),
                log_keys: spec.keys,
                ..Change::default()
            }),
            false => plan,
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.spec.child.breadth()
    }
}
