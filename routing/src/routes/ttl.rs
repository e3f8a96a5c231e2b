//! The TTL route: how long values live.

use std::sync::Arc;

use emberline_protocol::Kind;

use crate::conditions::Conditions;
use crate::plan::{Change, Plan, TtlChange};
use crate::{Ask, Route};

/// Sets, caps or floors the time to live that requests ask for.
///
/// A value without one gets it where the request has a place for it: `SET` and
/// RESTORE, every memcached command that stores, `ma` with `N`. INCR, MSET,
/// HSET, LPUSH and the like have none, and keep or make a key that lives for
/// ever; so does a script.
#[derive(Debug)]
pub struct Ttl {
    spec: TtlSpec,
}

/// What a [`Ttl`] is made of.
#[derive(Clone, Debug)]
pub struct TtlSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where requests go.
    pub child: Route,
    /// What becomes of a time to live.
    pub change: TtlChange,
}

impl From<TtlSpec> for Route {
    fn from(spec: TtlSpec) -> Route {
        let TtlChange { set, cap, floor } = spec.change;
        match set.or(cap).or(floor) {
            Some(_) => Route::Ttl(Arc::new(Ttl { spec })),
            None => spec.child,
        }
    }
}

impl Ttl {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where requests go.
    #[inline]
    pub fn child(&self) -> &Route {
        &self.spec.child
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let plan = self.spec.child.plan(ask, conditions);
        match ask.kind {
            Kind::Write | Kind::Touch => plan.edited(Change {
                ttl: Some(self.spec.change),
                ..Change::default()
            }),
            // A meta command that makes what is not there, or changes its life.
            Kind::Read | Kind::Counter if ask.lives => plan.edited(Change {
                ttl: Some(self.spec.change),
                ..Change::default()
            }),
            // A counter keeps the expiry that its key has.
            Kind::Read | Kind::Delete | Kind::Counter | Kind::Other => plan,
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.spec.child.breadth()
    }
}
