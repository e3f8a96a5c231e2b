//! Failover inside one pool: the next server of the key's own order.

use std::sync::Arc;

use crate::conditions::Conditions;
use crate::plan::{Plan, Try};
use crate::ring::Order;
use crate::routes::failover::{Causes, Rate};
use crate::{Ask, Pool, Route, ServerId};

/// Asks the server of a key, and then others of the same pool in an order that
/// is the key's own, so that the keys of a server that fails spread over all
/// others.
///
/// The order is that of rendezvous hashing, whatever the pool's distribution
/// is: the pool chooses the first, every other server draws a number for the
/// key, and the highest is next. Servers that are known to be down are asked
/// last.
#[derive(Debug)]
pub struct PoolFailover {
    spec: PoolFailoverSpec,
    order: Order,
    breadth: usize,
}

/// What a [`PoolFailover`] is made of.
#[derive(Clone, Debug)]
pub struct PoolFailoverSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The pool.
    pub pool: Arc<Pool>,
    /// What leads from one to the next.
    pub on: Causes,
    /// Servers that are asked at the most, at least 1.
    pub tries_max: usize,
    /// A write of which it is not known whether it was carried out is tried
    /// elsewhere too.
    pub retry_writes: bool,
    /// The share of the requests that may go on.
    pub rate: Option<Rate>,
}

impl From<PoolFailoverSpec> for Route {
    fn from(spec: PoolFailoverSpec) -> Route {
        let live = spec.pool.servers().count();
        if live == 1 || spec.tries_max <= 1 {
            return Route::Pool(spec.pool);
        }
        Route::PoolFailover(Arc::new(PoolFailover {
            order: Order::new(&spec.pool.spec().members),
            breadth: live.min(spec.tries_max),
            spec,
        }))
    }
}

impl PoolFailover {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.spec.pool
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        if let Some(rate) = &spec.rate {
            rate.bring(ask, conditions);
        }
        let plans = self.servers(ask.placed_by(), conditions);
        Plan::Try(Box::new(Try {
            retry_writes: spec.retry_writes,
            allowance: spec.rate.map(|rate| rate.state),
            ..Try::new(
                plans.into_iter().map(Plan::Send).collect(),
                spec.on.of(ask.kind),
            )
        }))
    }

    fn servers(&self, placed_by: &[u8], conditions: &Conditions<'_>) -> Vec<ServerId> {
        let mut servers = self.spec.pool.servers_in_order(&self.order, placed_by);
        servers.sort_by_key(|&server| conditions.upstream.is_ejected(server));
        servers.truncate(self.breadth);
        servers
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        Vec::new()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
