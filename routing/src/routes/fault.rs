//! The fault route: what fails, on purpose.

use std::sync::Arc;
use std::time::Duration;

use crate::conditions::Conditions;
use crate::plan::{Canned, Change, Plan};
use crate::{Ask, Route};

/// Delays a share of the requests, refuses them, or lets them go unanswered.
#[derive(Debug)]
pub struct Fault {
    spec: FaultSpec,
    message: Arc<str>,
}

/// What a [`Fault`] is made of.
#[derive(Clone, Debug)]
pub struct FaultSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where requests go that are spared.
    pub child: Route,
    /// The share of the requests that is not, 0 to 1.
    pub share: f64,
    /// How long these wait first.
    pub delay: Duration,
    /// What becomes of them then.
    pub answer: FaultAnswer,
}

/// What becomes of a request that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultAnswer {
    /// It goes to the child.
    Pass,
    /// It gets an error that names the route.
    Error,
    /// It is answered with nothing.
    Null,
    /// It gets no reply, as from a server that hangs.
    Drop,
}

impl From<FaultSpec> for Route {
    fn from(spec: FaultSpec) -> Route {
        let idle = spec.delay.is_zero() && spec.answer == FaultAnswer::Pass;
        match idle || spec.share <= 0.0 {
            true => spec.child,
            false => {
                let message = format!("route \"{}\" fails on purpose", spec.name).into();
                Route::Fault(Arc::new(Fault { spec, message }))
            }
        }
    }
}

impl Fault {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        if !conditions.states.happens(spec.share) {
            return spec.child.plan(ask, conditions);
        }
        let plan = match spec.answer {
            FaultAnswer::Pass | FaultAnswer::Drop => spec.child.plan(ask, conditions),
            FaultAnswer::Error => Plan::Reply(Canned::Error(self.message.clone())),
            FaultAnswer::Null => Plan::Reply(Canned::Null),
        };
        plan.edited(Change {
            delay: Some(spec.delay).filter(|delay| !delay.is_zero()),
            withheld: spec.answer == FaultAnswer::Drop,
            ..Change::default()
        })
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.spec.child.breadth()
    }
}
