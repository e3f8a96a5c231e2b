//! The split-hot route: copies of a hot key on several servers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::{MISS_OR_FAILURE, plan_forget};
use crate::conditions::{Calm, Conditions, States};
use crate::hash::murmur64;
use crate::plan::{Change, Mark, Pick, Plan, Refill, Try};
use crate::{Ask, BREADTH_MAX, Route};

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
    /// For each key its copies, and what each is placed by.
    keys: HashMap<Box<[u8]>, Vec<Box<[u8]>>>,
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
        let keys = spec.keys.iter();
        Route::SplitHot(Arc::new(SplitHot {
            keys: keys.map(|key| (key.clone(), parts(key, &spec))).collect(),
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
        match (self.keys.get(ask.key), ask.kind) {
            (None, _) => own,
            // One copy cannot stand in for all keys.
            (Some(_), Kind::Read) if ask.several => own,
            (Some(parts), Kind::Read) => self.read(own, parts, ask, conditions),
            (Some(parts), _) => self.write(own, parts, ask, conditions),
        }
    }

    fn read(
        &self,
        own: Plan,
        parts: &[Box<[u8]>],
        ask: &Ask<'_>,
        conditions: &Conditions<'_>,
    ) -> Plan {
        let chosen = conditions.states.random() % (parts.len() as u64 + 1);
        if chosen == 0 {
            return own;
        }
        let copy = copy(chosen as usize, parts, ask, |ask| {
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

    fn write(
        &self,
        own: Plan,
        parts: &[Box<[u8]>],
        ask: &Ask<'_>,
        conditions: &Conditions<'_>,
    ) -> Plan {
        let forget =
            |ask: &Ask<'_>| plan_forget(&self.spec.child, self.spec.tombstone, ask, conditions);
        let copies = (1..=parts.len()).map(|number| copy(number, parts, ask, forget));
        Plan::fan([own].into_iter().chain(copies).collect(), Pick::FirstOfAll)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}

/// The plan for copy number `number`, from 1.
fn copy(
    number: usize,
    parts: &[Box<[u8]>],
    ask: &Ask<'_>,
    plan: impl Fn(&Ask<'_>) -> Plan,
) -> Plan {
    let key = [ask.key, format!("#{number}").as_bytes()].concat();
    let ask = Ask {
        key: &key,
        hashed: Some(&parts[number - 1]),
        ..*ask
    };
    plan(&ask).edited(Change::key(key.clone()))
}

/// What the copies of a key are placed by: bytes of their own, because a hash
/// tag in the key would put all of them on one server, and such bytes that each
/// is somewhere else, as long as there are servers.
fn parts(key: &[u8], spec: &SplitHotSpec) -> Vec<Box<[u8]>> {
    const TRIES: u32 = 64;
    let states = States::new(0, 0);
    let conditions = Conditions {
        upstream: &Calm,
        states: &states,
        now_ms: 0,
        unix_ms: 0,
        client: 0,
    };
    let place = |hashed: Option<&[u8]>| {
        let ask = Ask {
            hashed,
            trial: true,
            ..Ask::new(key, Kind::Read)
        };
        spec.child.plan(&ask, &conditions).first()
    };
    let hash = murmur64::hash(key, 0);
    let copies = 1..=spec.copies;
    let part = |number: u16, salt: u32| format!("{hash:x}-{number}-{salt}").into_bytes();
    // Such a tree is refused as soon as it is whole, and never planned with.
    if spec.child.breadth() > BREADTH_MAX {
        return copies.map(|number| part(number, 0).into()).collect();
    }
    let mut used = vec![place(None)];
    copies
        .map(|number| {
            let parts = (0..TRIES).map(|salt| part(number, salt));
            let elsewhere = parts
                .into_iter()
                .find(|part| !used.contains(&place(Some(part))));
            let chosen = elsewhere.unwrap_or_else(|| part(number, 0));
            used.push(place(Some(&chosen)));
            chosen.into()
        })
        .collect()
}
