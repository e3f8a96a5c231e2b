//! A pool whose servers may be down: `on_down` of its configuration.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::gutter::spare;
use crate::conditions::Conditions;
use crate::plan::{Outcomes, Pick, Plan};
use crate::{Ask, Pool, Route, ServerId};

/// Hashes over the servers of a pool; a key whose server is known to be down
/// goes to a spare pool, or to another server of the same pool.
///
/// A pool with `on_down = "error"` is a plain [`Route::Pool`], and whoever
/// sends finds out.
#[derive(Debug)]
pub struct Guarded {
    spec: GuardedSpec,
    breadth: usize,
}

/// What a [`Guarded`] is made of.
#[derive(Clone, Debug)]
pub struct GuardedSpec {
    /// The pool.
    pub pool: Arc<Pool>,
    /// What becomes of keys whose server is down.
    pub on_down: OnDown,
}

/// What becomes of keys whose server is down.
#[derive(Clone, Debug)]
pub enum OnDown {
    /// They go to another live server of the pool, found by hashing the key
    /// with a salt. What was written there stays behind when their own server
    /// returns: prefer a gutter.
    Rehash {
        /// How often another salt is tried, before the next live server of the
        /// list takes the key.
        tries: u32,
    },
    /// They go to another pool, where they live for `ttl` at the most, also
    /// when the server is found to be down while it is asked.
    Gutter {
        /// The spare.
        route: Route,
        /// The longest life of a value there.
        ttl: Duration,
    },
}

impl From<GuardedSpec> for Route {
    fn from(spec: GuardedSpec) -> Route {
        let breadth = match &spec.on_down {
            OnDown::Rehash { .. } => 2,
            OnDown::Gutter { route, .. } => route.breadth().saturating_add(1),
        };
        Route::Guarded(Arc::new(Guarded { spec, breadth }))
    }
}

impl Guarded {
    /// The pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.spec.pool
    }

    /// The pool's name in the configuration.
    pub fn name(&self) -> &str {
        self.spec.pool.name()
    }

    /// What to do with this request.
    #[inline]
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let own = self.spec.pool.server(ask.placed_by());
        match &self.spec.on_down {
            OnDown::Rehash { .. } if !conditions.upstream.is_ejected(own) => Plan::Send(own),
            OnDown::Rehash { tries } => self.rehash(own, *tries, ask, conditions),
            OnDown::Gutter { route, ttl } => {
                let own = Plan::Send(own);
                match ask.kind {
                    Kind::Counter | Kind::Other => own,
                    _ => spare(own, route, *ttl, Outcomes::FAILURES, ask, conditions),
                }
            }
        }
    }

    fn rehash(
        &self,
        own: ServerId,
        tries: u32,
        ask: &Ask<'_>,
        conditions: &Conditions<'_>,
    ) -> Plan {
        let pool = &self.spec.pool;
        let up = |server: &ServerId| !conditions.upstream.is_ejected(*server);
        let mut salted = (1..=tries).map(|salt| pool.server_salted(ask.placed_by(), salt));
        let next = || {
            let (before, after): (Vec<_>, Vec<_>) = pool.servers().partition(|id| *id < own);
            after.into_iter().chain(before).find(up)
        };
        let Some(server) = salted.find(up).or_else(next) else {
            return Plan::Send(own);
        };
        match ask.kind {
            // Its own server has the value, and the reply must not say that it
            // has not; the other has what was written meanwhile.
            Kind::Delete => Plan::fan(vec![Plan::Send(own), Plan::Send(server)], Pick::First),
            _ => Plan::Send(server),
        }
    }

    /// The spare pool, if there is one.
    pub(crate) fn children(&self) -> Vec<&Route> {
        match &self.spec.on_down {
            OnDown::Rehash { .. } => Vec::new(),
            OnDown::Gutter { route, .. } => vec![route],
        }
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }

    /// Whether no other pool answers for it.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.spec.on_down, OnDown::Rehash { .. })
    }
}
