//! The big-value route: large values in pieces.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use crate::conditions::Conditions;
use crate::plan::{Pieces, Plan};
use crate::{Ask, Route};

/// Keeps a value that is longer than a chunk as several pieces, each under a
/// key of its own, and under the key itself a *head* that says which they are.
///
/// Only who sees the request and its reply knows whether a value is in pieces.
/// So this route answers with the way of the key itself, [`Plan::Pieces`], and
/// is asked for the way of every piece when there are any. What never has to do
/// with a large value, a counter, takes the way of its child.
#[derive(Debug)]
pub struct BigValue {
    spec: BigValueSpec,
}

/// What a [`BigValue`] is made of.
#[derive(Clone, Debug)]
pub struct BigValueSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where heads and pieces go.
    pub child: Route,
    /// The longest value that is kept whole, and the size of a piece, in bytes.
    pub chunk: usize,
    /// The longest life of what is kept in pieces.
    pub ttl: Duration,
}

impl From<BigValueSpec> for Route {
    fn from(spec: BigValueSpec) -> Route {
        Route::BigValue(Arc::new(BigValue { spec }))
    }
}

impl BigValue {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The longest value that is kept whole, and the size of a piece, in bytes.
    pub fn chunk(&self) -> usize {
        self.spec.chunk
    }

    /// The longest life of what is kept in pieces.
    pub fn ttl(&self) -> Duration {
        self.spec.ttl
    }

    /// What to do with this request.
    pub fn plan(self: &Arc<Self>, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let size = match ask.size {
            Some(size) if size > self.spec.chunk => Some(Pieces::HEAD_LEN),
            size => size,
        };
        let head = self.spec.child.plan(&Ask { size, ..*ask }, conditions);
        match ask.kind {
            Kind::Counter | Kind::Other => head,
            // It goes nowhere, nor would its pieces.
            _ if head.first().is_none() => head,
            _ => Plan::Pieces(Box::new(Pieces {
                route: Arc::clone(self),
                head,
            })),
        }
    }

    /// Where a piece goes: it is placed by its own key.
    pub fn plan_piece(&self, key: &[u8], size: Option<usize>, conditions: &Conditions<'_>) -> Plan {
        let kind = match size {
            Some(_) => Kind::Write,
            None => Kind::Read,
        };
        let ask = Ask {
            size,
            ..Ask::new(key, kind)
        };
        self.spec.child.plan(&ask, conditions)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.spec.child.breadth()
    }
}
