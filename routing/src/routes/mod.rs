//! The kinds of route, a file each: what it does in one sentence, what it is
//! made of, and the plan that it answers with.

mod failover;
mod operation;
mod prefix;
mod replicas;

pub use failover::{Failover, FailoverSpec};
pub use operation::{Operation, OperationSpec};
pub use prefix::{Prefix, PrefixError};
pub use replicas::{Read, Replicas, ReplicasSpec, Wait};

/// The places of several children together.
fn breadth_of_all<'a>(children: impl IntoIterator<Item = &'a crate::Route>) -> usize {
    let each = children.into_iter().map(crate::Route::breadth);
    each.fold(0, usize::saturating_add)
}
