//! The split-hot route: copies of a hot key on several servers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::{MISS_OR_FAILURE, plan_forget, share_of};
use crate::conditions::Conditions;
use crate::plan::{Change, Mark, Pick, Plan, Refill, Try};
use crate::{Ask, Route};

/// Reads of a listed key ask one of its copies at random, which are the same
/// key with a suffix, and so on other servers; writes and deletes go to the key
/// itself and delete the copies, which the next readers make anew.
///
/// ```text
///   GET k     ->  k#1, and on a miss k; then k#1 gets what k has
///   SET k v   ->  SET k v, DEL k#1, DEL k#2; answered when all have answered
/// ```
///
/// A copy is deleted rather than written because that is right after every
/// command and in every order: of two clients that write at once, one may be
/// later at one copy and earlier at another, and the copies would differ from
/// then on. The tombstone keeps a copy that is being made from coming back.
///
/// The reply is that of the key itself. If a copy's server cannot be reached,
/// the copy may be read for as long as it lives: see `ttl`.
#[derive(Debug)]
pub struct SplitHot {
    spec: SplitHotSpec,
    keys: HashSet<Box<[u8]>>,
    breadth: usize,
}

/// What a [`SplitHot`] is made of.
#[derive(Clone, Debug)]
pub struct SplitHotSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where the keys are.
    pub child: Route,
    /// The keys that are split.
    pub keys: Vec<Box<[u8]>>,
    /// How many copies there are beside the key itself.
    pub copies: u16,
    /// The longest life of a copy.
    pub ttl: Option<Duration>,
    /// How writes and deletes are remembered; longer than making a copy takes.
    pub tombstone: Option<Mark>,
}

impl From<SplitHotSpec> for Route {
    fn from(spec: SplitHotSpec) -> Route {
        if spec.keys.is_empty() || spec.copies == 0 {
            return spec.child;
        }
        let breadth = spec.child.breadth();
        Route::SplitHot(Arc::new(SplitHot {
            keys: spec.keys.iter().cloned().collect(),
            breadth: breadth.saturating_mul(usize::from(spec.copies) + 1),
            spec,
        }))
    }
}

impl SplitHot {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let own = self.spec.child.plan(ask, conditions);
        match ask.kind {
            _ if !self.keys.contains(ask.key) => own,
            Kind::Read => self.read(own, ask, conditions),
            _ => self.write(own, ask, conditions),
        }
    }

    fn read(&self, own: Plan, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let chosen = conditions.states.random() % (u64::from(self.spec.copies) + 1);
        if chosen == 0 {
            return own;
        }
        let copy = self.copy(chosen as u16, ask, |ask| {
            self.spec.child.plan(ask, conditions)
        });
        let refill = Refill {
            cap: self.spec.ttl,
            ..Refill::missed(self.spec.tombstone)
        };
        Plan::Try(Box::new(Try {
            refill: Some(refill),
            ..Try::new(vec![copy, own], MISS_OR_FAILURE)
        }))
    }

    fn write(&self, own: Plan, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let forget =
            |ask: &Ask<'_>| plan_forget(&self.spec.child, self.spec.tombstone, ask, conditions);
        let copies = (1..=self.spec.copies).map(|copy| self.copy(copy, ask, forget));
        Plan::fan([own].into_iter().chain(copies).collect(), Pick::FirstOfAll)
    }

    /// The plan for copy number `copy`, from 1. A hash tag in the key would put
    /// all copies on one server, so they are placed by bytes of their own.
    fn copy(&self, copy: u16, ask: &Ask<'_>, plan: impl Fn(&Ask<'_>) -> Plan) -> Plan {
        let key = [ask.key, format!("#{copy}").as_bytes()].concat();
        let part = (share_of(ask.key, "split_hot") * (1u64 << 53) as f64) as u64;
        let part = format!("{part}-{copy}");
        let ask = Ask {
            key: &key,
            hashed: Some(part.as_bytes()),
            ..*ask
        };
        plan(&ask).edited(Change::key(key.clone()))
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
