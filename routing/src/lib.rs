//! Key placement as data: which server gets this key, and why.
//!
//! A [`Router`] holds the route tree of one listener. Its leaves are pools; a
//! [`Pool`] cuts the [`HashTag`] out of a key, and its [`ring::Ring`] turns
//! what is left into one of the pool's servers with one of the [`Hash`](enum@Hash)
//! functions. Between the root and the leaves stand the [`routes`]. The answer is
//! a [`Plan`], and a [`Course`] says what becomes of it: this crate decides and
//! never sends.
//! It opens no socket, reads no clock and depends on no async runtime.
//!
//! Placement is bit-exact with the proxies that it replaces, because a key
//! that moves to another server is a cache miss. Each file of `hash/` and
//! `ring/` therefore names its source and carries vectors from it.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod conditions;
mod course;
pub mod explain;
pub mod hash;
mod plan;
mod pool;
pub mod ring;
mod route;
pub mod routes;
mod tag;
mod together;

pub use conditions::{Calm, Conditions, Receipts, StateId, States, Upstream};
pub use course::{Act, Course, Leg, Pause, Source};
pub use hash::{ByteSign, Hash};
pub use plan::{
    Canned, Change, Fan, Home, Mark, Mirror, Outcomes, Pick, Pieces, Plan, Refill, Target, Try,
    TtlChange,
};
pub use pool::{Pool, PoolError, PoolSpec};
pub use ring::{Distribution, Member, Ring, RingError};
pub use route::{Ask, BREADTH_MAX, Explanation, Placement, Route, Router, Step, TooBroad};
pub use routes::{Prefix, PrefixChild, PrefixError};
pub use tag::{EmptyTag, HashTag};

/// Index of a pool in the running configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, core::hash::Hash, PartialOrd, Ord)]
pub struct PoolId(pub u16);

/// Index of a server in the running configuration, over all pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, core::hash::Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A name in the configuration that stands for nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{name}\", expected one of {}", expected.join(", "))]
pub struct UnknownName {
    /// What was looked for: "hash", "distribution", "byte sign".
    pub what: &'static str,
    /// The name as it was written.
    pub name: String,
    /// Every name that would have been accepted.
    pub expected: Vec<&'static str>,
}

impl UnknownName {
    /// The one of `all` that is called `name`.
    fn find<T: Copy>(
        what: &'static str,
        name: &str,
        all: &[T],
        name_of: impl Fn(T) -> &'static str,
    ) -> Result<T, UnknownName> {
        let found = all.iter().copied().find(|&one| name_of(one) == name);
        found.ok_or_else(|| UnknownName {
            what,
            name: name.to_owned(),
            expected: all.iter().map(|&one| name_of(one)).collect(),
        })
    }
}
