//! The shadow route: a share of the requests is sent elsewhere as well.

use std::sync::Arc;

use super::{breadth_of_all, share_of};
use crate::conditions::{Conditions, States};
use crate::plan::{Mirror, Plan};
use crate::{Ask, Route};

/// Answers from one child and copies a share of the keys, or of the requests,
/// to others, whose replies are thrown away and waited for by nobody.
#[derive(Debug)]
pub struct Shadow {
    spec: ShadowSpec,
    breadth: usize,
}

/// What a [`Shadow`] is made of.
#[derive(Clone, Debug)]
pub struct ShadowSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// The child that answers.
    pub main: Route,
    /// Who gets copies.
    pub copies: Vec<ShadowCopy>,
}

/// Who gets copies, and of what.
#[derive(Clone, Debug)]
pub struct ShadowCopy {
    /// Where they go.
    pub route: Route,
    /// The share that is copied, 0 to 1.
    pub share: f64,
    /// What the share is of.
    pub by: ShareBy,
}

/// What a share is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShareBy {
    /// Of the keys: the same ones always and in every process, so that reads
    /// find what was written; keys with the same hash tag together. A greater share has the keys of a smaller one.
    Key,
    /// Of the requests, at random.
    Request,
}

impl From<ShadowSpec> for Route {
    fn from(mut spec: ShadowSpec) -> Route {
        spec.copies.retain(|copy| copy.share > 0.0);
        if spec.copies.is_empty() {
            return spec.main;
        }
        let copies = spec.copies.iter().map(|copy| &copy.route);
        let breadth = breadth_of_all(copies.chain([&spec.main]));
        Route::Shadow(Arc::new(Shadow { spec, breadth }))
    }
}

impl Shadow {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let main = self.spec.main.plan(ask, conditions);
        let copies = self.spec.copies.iter();
        let chosen = copies.filter(|copy| copy.gets(ask, conditions.states));
        let copies: Vec<Plan> = chosen
            .map(|copy| copy.route.plan(ask, conditions))
            .collect();
        match copies.is_empty() {
            true => main,
            false => Plan::Mirror(Box::new(Mirror {
                main,
                copies,
                refill: None,
            })),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        let copies = self.spec.copies.iter().map(|copy| &copy.route);
        [&self.spec.main].into_iter().chain(copies).collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}

impl ShadowCopy {
    fn gets(&self, ask: &Ask<'_>, states: &States) -> bool {
        match self.by {
            ShareBy::Key => share_of(ask, "shadow") < self.share,
            ShareBy::Request => states.happens(self.share),
        }
    }
}
