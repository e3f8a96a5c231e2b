//! The staging route: a new child gets what the old one gets, and nobody hears
//! what it says.

use std::sync::Arc;

use emberline_protocol::Kind;

use super::{breadth_of_all, plan_forget, plan_refill};
use crate::conditions::Conditions;
use crate::plan::{Mark, Mirror, Plan, Refill};
use crate::{Ask, Route};

/// Answers from the warm child and mirrors everything into the staging child,
/// which can neither delay nor fail a client; what is read and staging has not
/// got is added there.
///
/// A delete that only staging failed is therefore not an error (with mcrouter's
/// StagingRoute it is): before staging takes over, its pool needs a delete log,
/// or the time for its values to expire.
#[derive(Debug)]
pub struct Staging {
    spec: StagingSpec,
    breadth: usize,
}

/// What a [`Staging`] is made of.
#[derive(Clone, Debug)]
pub struct StagingSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The child that answers.
    pub warm: Route,
    /// The child that is being tried.
    pub staging: Route,
    /// How deletes are remembered, so that no value that is on its way to
    /// staging comes back.
    pub tombstone: Option<Mark>,
}

impl From<StagingSpec> for Route {
    fn from(spec: StagingSpec) -> Route {
        // A copy is planned as well.
        let breadth = breadth_of_all([&spec.warm, &spec.staging, &spec.staging]);
        Route::Staging(Arc::new(Staging { spec, breadth }))
    }
}

impl Staging {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let StagingSpec {
            warm,
            staging,
            tombstone,
            ..
        } = &self.spec;
        let main = warm.plan(ask, conditions);
        let (copy, refill) = match ask.kind {
            Kind::Read => {
                let refill = Refill {
                    to: Some(plan_refill(staging, ask, conditions)),
                    ..Refill::missed(*tombstone)
                };
                (staging.plan(ask, conditions), Some(refill))
            }
            Kind::Delete => (plan_forget(staging, *tombstone, ask, conditions), None),
            _ => (staging.plan(ask, conditions), None),
        };
        Plan::Mirror(Box::new(Mirror {
            main,
            copies: vec![copy],
            refill,
        }))
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.warm, &self.spec.staging]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
