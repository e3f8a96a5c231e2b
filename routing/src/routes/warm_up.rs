//! The warm-up route: a new child is filled from an old one by what is read.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::{breadth_of_all, missing, plan_all, plan_forget, plan_refill};
use crate::conditions::Conditions;
use crate::plan::{Mark, Pick, Plan, Refill, Try};
use crate::{Ask, Route};

/// Reads ask the cold child and, where it has nothing, the warm one, and what
/// is found there is added to the cold one; writes go to the cold child, and
/// deletes to both.
///
/// A delete must reach the warm child too: the next read would bring the value
/// back from there. And it marks the key, because a value may already be on its
/// way: what was read from the warm child before the delete is not added after
/// it.
///
/// A command that builds on the old value (INCR, APPEND, HSET) finds what the
/// cold child has, which may be nothing. One that may take something away (HDEL,
/// LPOP, RENAME, a script) also deletes the warm child's value, which would
/// otherwise bring back what was taken.
///
/// A read that asks for a part (HGET, LRANGE, GETBIT) and misses in the cold
/// child is answered so, because the key may be there without that part; the
/// warm child is asked all the same, and what it has is added if there is no
/// such key: the next read finds it. A command over several keys sees what the
/// cold child has. What expires in the cold child, by EXPIRE or by its own time
/// to live, may be found in the warm one again.
#[derive(Debug)]
pub struct WarmUp {
    spec: WarmUpSpec,
    breadth: usize,
}

/// What a [`WarmUp`] is made of.
#[derive(Clone, Debug)]
pub struct WarmUpSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The child that is being filled.
    pub cold: Route,
    /// The child that has the values.
    pub warm: Route,
    /// How deletes are remembered; longer than a read and its copy can take.
    pub tombstone: Option<Mark>,
    /// The longest life of a copy, never longer than the value has left.
    pub ttl: Option<Duration>,
}

impl From<WarmUpSpec> for Route {
    fn from(spec: WarmUpSpec) -> Route {
        // A copy is planned as well.
        let breadth = breadth_of_all([&spec.cold, &spec.warm, &spec.cold]);
        Route::WarmUp(Arc::new(WarmUp { spec, breadth }))
    }
}

impl WarmUp {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let WarmUpSpec { cold, warm, .. } = &self.spec;
        match ask.kind {
            Kind::Read => {
                let plans = plan_all([cold, warm], ask, conditions);
                let refill = Refill {
                    to: Some(plan_refill(cold, ask, conditions)),
                    cap: self.spec.ttl,
                    tombstone: self.spec.tombstone.map(|mark| mark.state),
                };
                Plan::Try(Box::new(Try {
                    refill: Some(refill).filter(|_| !ask.several),
                    copies_missed: !ask.whole && !ask.several,
                    ..Try::new(plans, missing(ask))
                }))
            }
            Kind::Delete => {
                let cold = plan_forget(cold, self.spec.tombstone, ask, conditions);
                Plan::fan(vec![cold, warm.plan(ask, conditions)], Pick::Every)
            }
            _ if ask.removes => {
                let forget = plan_forget(warm, self.spec.tombstone, ask, conditions);
                Plan::fan(vec![cold.plan(ask, conditions), forget], Pick::Every)
            }
            _ => cold.plan(ask, conditions),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.cold, &self.spec.warm]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
