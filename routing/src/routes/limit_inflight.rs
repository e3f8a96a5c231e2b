//! The in-flight limit: a queue that does not grow.

use std::sync::Arc;

use crate::conditions::Conditions;
use crate::plan::{Canned, Plan, Target};
use crate::route::targets_of;
use crate::{Ask, Route, ServerId};

/// Refuses a request at once while so many wait for the replies of the child's
/// servers. The refusal says "busy", so that a failover above goes on.
#[derive(Debug)]
pub struct LimitInflight {
    spec: LimitInflightSpec,
    servers: Vec<ServerId>,
    message: Arc<str>,
}

/// What a [`LimitInflight`] is made of.
#[derive(Clone, Debug)]
pub struct LimitInflightSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where requests go.
    pub child: Route,
    /// How many may wait at once, in all workers together.
    pub max: u32,
}

impl From<LimitInflightSpec> for Route {
    fn from(spec: LimitInflightSpec) -> Route {
        let targets = targets_of(&spec.child).into_iter();
        let servers = targets.filter_map(|target| match target {
            Target::Send(server) => Some(server),
            Target::Answer(_) => None,
        });
        Route::LimitInflight(Arc::new(LimitInflight {
            servers: servers.collect(),
            message: format!(
                "route \"{}\" has {} requests in flight, its limit",
                spec.name, spec.max
            )
            .into(),
            spec,
        }))
    }
}

impl LimitInflight {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let servers = self.servers.iter();
        let inflight = servers.fold(0u32, |sum, &server| {
            sum.saturating_add(conditions.upstream.inflight(server))
        });
        let max = conditions.states.part_of(self.spec.max);
        match inflight < max || ask.trial {
            true => self.spec.child.plan(ask, conditions),
            false => Plan::Reply(Canned::Busy(self.message.clone())),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.spec.child.breadth()
    }
}
