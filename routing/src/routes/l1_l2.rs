//! The two-tier route: a near tier in front of a far one.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::{MISS_OR_FAILURE, breadth_of_all, plan_all, plan_forget, plan_refill};
use crate::conditions::Conditions;
use crate::plan::{Change, Mark, Pick, Plan, Refill, Try};
use crate::{Ask, Route};

/// Reads ask the near tier and, where it has nothing, the far one, which fills
/// the near one; writes and deletes are carried out in the far tier and delete
/// what the near one has.
///
/// The near copy is deleted, not written, so that it is right after every
/// command and no two writers can leave the tiers apart. The reply is the far
/// tier's, when both have answered: the writer's next read cannot find the old
/// copy. A near tier that is down fails nobody; what it still has when it
/// returns lives for `ttl` at the most.
///
/// Commands that read several keys at once are the far tier's alone.
///
/// With `absent`, the proxy remembers for a while that the far tier has not got
/// a key, and asks it no more. Nothing is stored in a server for that: a value
/// that means "no value" could be read by others.
#[derive(Debug)]
pub struct L1L2 {
    spec: L1L2Spec,
    breadth: usize,
}

/// What an [`L1L2`] is made of.
#[derive(Clone, Debug)]
pub struct L1L2Spec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The near tier.
    pub l1: Route,
    /// The far tier, which has everything.
    pub l2: Route,
    /// The longest life of a copy in the near tier.
    pub ttl: Duration,
    /// How it is remembered that the far tier has not got a key.
    pub absent: Option<Mark>,
    /// How writes and deletes are remembered; longer than a read and its copy
    /// can take.
    pub tombstone: Option<Mark>,
}

impl From<L1L2Spec> for Route {
    fn from(spec: L1L2Spec) -> Route {
        // A copy is planned as well.
        let breadth = breadth_of_all([&spec.l1, &spec.l2, &spec.l1]);
        Route::L1L2(Arc::new(L1L2 { spec, breadth }))
    }
}

impl L1L2 {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        let far = spec.l2.plan(ask, conditions).edited(Change {
            absent: spec.absent,
            ..Change::default()
        });
        if ask.kind != Kind::Read {
            let near = plan_forget(&spec.l1, spec.tombstone, ask, conditions);
            return Plan::fan(vec![far, near], Pick::FirstOfAll);
        }
        // The near tier may have some of several keys, and answer for all. And
        // `cas` goes to the far one, so it is that one's number that counts.
        if ask.several || ask.numbered {
            return far;
        }
        let mut plans = plan_all([&spec.l1], ask, conditions);
        plans.push(far);
        let refill = Refill {
            to: Some(plan_refill(&spec.l1, ask, conditions)),
            cap: Some(spec.ttl),
            tombstone: spec.tombstone.map(|mark| mark.state),
        };
        Plan::Try(Box::new(Try {
            refill: Some(refill),
            ..Try::new(plans, MISS_OR_FAILURE)
        }))
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.l1, &self.spec.l2]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
