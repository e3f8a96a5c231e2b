//! The kinds of route, a file each: what it does in one sentence, what it is
//! made of, and the plan that it answers with.
//!
//! Every kind has a spec, and `Route::from(spec)` is the route. Where a list of
//! children decides nothing, it is less: no child is [`Route::Null`], one child
//! is that child.
//!
//! What several of them have in common:
//!
//! * A *write* is whatever is neither a read nor a delete.
//! * Where a read may look in several places, a delete reaches all of them, and
//!   a write goes to the place that is read first. Where a copy would then be
//!   wrong it is deleted rather than written: a deletion is right after every
//!   command, and a second INCR or APPEND is not.
//! * What is under way to be copied while its key is deleted must not come
//!   back: see [`Mark`] and [`Refill`](crate::Refill).

mod big_value;
mod by_client;
mod by_host;
mod error;
mod failover;
mod fault;
mod guarded;
mod gutter;
mod hash_key;
mod key;
mod l1_l2;
mod latest;
mod limit_inflight;
mod load_balance;
mod log;
mod migrate;
mod miss_failover;
mod operation;
mod pool_failover;
mod prefix;
mod random;
mod rate_limit;
mod replicas;
mod shadow;
mod size_split;
mod slow_warm_up;
mod split_hot;
mod staging;
mod ttl;
mod warm_up;

use emberline_protocol::{Kind, Outcome};

use crate::conditions::Conditions;
use crate::hash::murmur64;
use crate::plan::{Change, Mark, Outcomes, Plan};
use crate::{Ask, HashTag, Route};

pub use big_value::{BigValue, BigValueSpec};
pub use by_client::{ByClient, ByClientSpec};
pub use by_host::{ByHost, ByHostSpec};
pub use error::{Error, ErrorSpec};
pub use failover::{Causes, Failover, FailoverSpec, Rate};
pub use fault::{Fault, FaultAnswer, FaultSpec};
pub use guarded::{Guarded, GuardedSpec, OnDown};
pub use gutter::{Gutter, GutterSpec};
pub use hash_key::{HashKey, HashKeySpec, HashPart};
pub use key::{Key, KeySpec};
pub use l1_l2::{L1L2, L1L2Spec};
pub use latest::{Latest, LatestSpec};
pub use limit_inflight::{LimitInflight, LimitInflightSpec};
pub use load_balance::{LoadBalance, LoadBalanceSpec};
pub use log::{Log, LogSpec};
pub use migrate::{Migrate, MigrateSpec};
pub use miss_failover::{MissFailover, MissFailoverSpec};
pub use operation::{Operation, OperationSpec};
pub use pool_failover::{PoolFailover, PoolFailoverSpec};
pub use prefix::{Prefix, PrefixChild, PrefixError};
pub use random::{Random, RandomSpec};
pub use rate_limit::{Limit, RateLimit, RateLimitSpec};
pub use replicas::{Read, Replicas, ReplicasSpec, Wait};
pub use shadow::{Shadow, ShadowCopy, ShadowSpec, ShareBy};
pub use size_split::{SizeSplit, SizeSplitSpec};
pub use slow_warm_up::{SlowWarmUp, SlowWarmUpSpec};
pub use split_hot::{SplitHot, SplitHotSpec};
pub use staging::{Staging, StagingSpec};
pub use ttl::{Ttl, TtlSpec};
pub use warm_up::{WarmUp, WarmUpSpec};

/// A miss, and whatever is no answer.
const MISS_OR_FAILURE: Outcomes = Outcomes::FAILURES.and(Outcomes::of(&[Outcome::Miss]));

/// What leads a read to a child with older values. Where the newer one has the
/// key, and not what is asked of it, that is the answer.
fn missing(ask: &Ask<'_>) -> Outcomes {
    match ask.whole && !ask.several {
        true => MISS_OR_FAILURE,
        false => Outcomes::FAILURES,
    }
}

/// The places of several children together.
fn breadth_of_all<'a>(children: impl IntoIterator<Item = &'a Route>) -> usize {
    let each = children.into_iter().map(Route::breadth);
    each.fold(0, usize::saturating_add)
}

/// The places of the widest of several children, one of which is chosen.
fn breadth_of_one<'a>(children: impl IntoIterator<Item = &'a Route>) -> usize {
    children.into_iter().map(Route::breadth).max().unwrap_or(0)
}

/// What a route that chooses among these children is, if there is nothing to
/// choose.
fn simple(children: &[Route]) -> Option<Route> {
    match children {
        [] => Some(Route::Null),
        [child] => Some(child.clone()),
        _ => None,
    }
}

/// The plan of every child for this request.
fn plan_all<'a>(
    children: impl IntoIterator<Item = &'a Route>,
    ask: &Ask<'_>,
    conditions: &Conditions<'_>,
) -> Vec<Plan> {
    let children = children.into_iter();
    children.map(|child| child.plan(ask, conditions)).collect()
}

/// The plan of `child` for the same request with another key. It is placed by
/// that key, too, unless a part to hash is given.
fn plan_with_key(child: &Route, key: Vec<u8>, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
    let plan = child.plan(&Ask { key: &key, ..*ask }, conditions);
    plan.edited(Change::key(key))
}

/// Where a copy of a read's value is written: as a write of the same key would
/// be, without using up what limits writes.
fn plan_refill(to: &Route, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
    let ask = Ask {
        kind: Kind::Write,
        trial: true,
        ..*ask
    };
    to.plan(&ask, conditions)
}

/// Where a copy is deleted, because the request made it wrong.
fn plan_forget(
    copy: &Route,
    tombstone: Option<Mark>,
    ask: &Ask<'_>,
    conditions: &Conditions<'_>,
) -> Plan {
    let delete = Ask {
        kind: Kind::Delete,
        ..*ask
    };
    let change = match ask.kind {
        Kind::Delete => Change::tombstone(tombstone),
        _ => Change::delete(tombstone),
    };
    copy.plan(&delete, conditions).edited(change)
}

/// Where a key stands between 0 and 1, the same in every process. Another salt
/// is another order.
///
/// Keys with the same hash tag, in the braces of Redis Cluster, stand in the
/// same place, whatever tag a pool further down has: a command over both of
/// them must not find one here and the other there.
fn share_of(ask: &Ask<'_>, salt: &str) -> f64 {
    let key = HashTag::BRACES.hashed_part(ask.placed_by());
    let hash = murmur64::hash(key, murmur64::hash(salt.as_bytes(), 0));
    // 53 bits, as many as a float holds.
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// One of so many, chosen by a number whose bits mean nothing by themselves.
/// The salt keeps nested routes from choosing alike.
fn nth_of(number: u64, salt: &str, count: usize) -> usize {
    let hash = murmur64::hash(&number.to_le_bytes(), murmur64::hash(salt.as_bytes(), 0));
    (hash % count.max(1) as u64) as usize
}
