//! The size-split route: large values elsewhere.

use std::sync::Arc;

use emberline_protocol::{Kind, Outcome};

use super::{MISS_OR_FAILURE, breadth_of_all, plan_all, plan_forget};
use crate::conditions::Conditions;
use crate::plan::{Canned, Outcomes, Pick, Plan, Try};
use crate::{Ask, Route};

/// Stores small values in one child and large ones in another, and deletes the
/// key in the one that did not get it; reads ask the small child first.
///
/// Without the deletion an older value of the other size would come back when
/// the newer one is evicted. (mcrouter's L1L2SizeSplit leaves a mark in the
/// small pool, which others can read, and orphans in the large one.)
///
/// What does not say the size of a new value is a matter of the small child:
/// APPEND, HSET, INCR. A change of the expiry is tried there and then in the
/// large one.
///
/// A conditional write (`add`, `replace`, `cas`, SET NX, XX or GET, GETSET) is
/// refused: what it depends on may be in either child, and neither can answer
/// for the other. (To delete the other's copy whatever the one says would lose
/// the value and say that nothing was done.)
#[derive(Debug)]
pub struct SizeSplit {
    spec: SizeSplitSpec,
    message: Arc<str>,
    breadth: usize,
}

/// What a [`SizeSplit`] is made of.
#[derive(Clone, Debug)]
pub struct SizeSplitSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where small values are.
    pub small: Route,
    /// Where large values are.
    pub large: Route,
    /// From so many bytes on a value is large.
    pub threshold: usize,
}

impl From<SizeSplitSpec> for Route {
    fn from(spec: SizeSplitSpec) -> Route {
        let breadth = breadth_of_all([&spec.small, &spec.large]);
        Route::SizeSplit(Arc::new(SizeSplit {
            message: format!(
                "route \"{}\" cannot carry out a conditional write: \
                 what it depends on may be in either child",
                spec.name
            )
            .into(),
            spec,
            breadth,
        }))
    }
}

impl SizeSplit {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let SizeSplitSpec { small, large, .. } = &self.spec;
        let both = || plan_all([small, large], ask, conditions);
        match (ask.kind, ask.size) {
            (Kind::Write, _) if ask.conditional => Plan::Reply(Canned::Error(self.message.clone())),
            (Kind::Read, _) => Plan::Try(Box::new(Try::new(both(), MISS_OR_FAILURE))),
            (Kind::Delete, _) => Plan::fan(both(), Pick::Every),
            (Kind::Touch, _) => Plan::Try(Box::new(Try::new(both(), NOT_THERE))),
            (Kind::Write, Some(size)) => {
                let (to, other) = match size >= self.spec.threshold {
                    true => (large, small),
                    false => (small, large),
                };
                let write = to.plan(ask, conditions);
                let forget = plan_forget(other, None, ask, conditions);
                Plan::fan(vec![write, forget], Pick::Every)
            }
            (Kind::Write | Kind::Counter | Kind::Other, _) => small.plan(ask, conditions),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.small, &self.spec.large]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}

const NOT_THERE: Outcomes = Outcomes::of(&[Outcome::NotDone, Outcome::Miss]);
