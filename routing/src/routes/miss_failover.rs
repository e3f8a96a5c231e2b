//! The miss-failover route: the next child until one has it.

use std::sync::Arc;

use emberline_protocol::Kind;

use super::{breadth_of_all, missing, plan_all, plan_forget, simple};
use crate::conditions::Conditions;
use crate::plan::{Pick, Plan, Try};
use crate::{Ask, Route};

/// Reads ask one child after the other until one has the key; writes go to the
/// first, and deletes to all.
///
/// What the first child loses is therefore found again in the next as it was
/// there: older, if it has been written since. What may take a part of a value
/// away (HDEL, LPOP, a script) deletes the others' values, and who asks for a
/// part (HGET, LRANGE) hears what the first child says, because a miss there
/// does not say that it has not got the key.
#[derive(Debug)]
pub struct MissFailover {
    spec: MissFailoverSpec,
    breadth: usize,
}

/// What a [`MissFailover`] is made of.
#[derive(Clone, Debug)]
pub struct MissFailoverSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// In the order in which they are asked.
    pub children: Vec<Route>,
}

impl From<MissFailoverSpec> for Route {
    fn from(spec: MissFailoverSpec) -> Route {
        if let Some(less) = simple(&spec.children) {
            return less;
        }
        let breadth = breadth_of_all(&spec.children);
        Route::MissFailover(Arc::new(MissFailover { spec, breadth }))
    }
}

impl MissFailover {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let children = &self.spec.children;
        match ask.kind {
            Kind::Read => {
                let plans = plan_all(children, ask, conditions);
                Plan::Try(Box::new(Try::new(plans, missing(ask))))
            }
            Kind::Delete => Plan::fan(plan_all(children, ask, conditions), Pick::Every),
            _ if ask.removes => {
                let forget = |child| plan_forget(child, None, ask, conditions);
                let mut plans = vec![children[0].plan(ask, conditions)];
                plans.extend(children[1..].iter().map(forget));
                Plan::fan(plans, Pick::Every)
            }
            _ => children[0].plan(ask, conditions),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
