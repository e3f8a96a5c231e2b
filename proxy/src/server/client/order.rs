//! A client's requests take effect in the order in which it sent them.
//!
//! One connection to one server keeps that order by itself. Three things do
//! not, and there a request waits until what it must not overtake has been
//! answered:
//!
//! - Memory and the server have no common order: a read that memory answers
//!   waits for the client's own earlier requests to the server about its key,
//! - and a write for earlier reads of its key that wait for a fetch.
//! - A request that is carried out in steps (the next place is asked when the
//!   one before has not got the key) may take its next step behind whatever
//!   came after it: a write of its key waits for it.
//!
//! Of two reads nothing is promised. Nor is anything of the order in which
//! requests are tried elsewhere because a server failed.

use emberline_hotkey::{Access, KeyHash};
use emberline_routing::Plan;

use super::conversation::{Conversation, Next};
use crate::server::pipeline::{Record, Via};
use crate::server::worker::Worker;

impl Conversation {
    /// Whether a read of this key that memory may answer has to wait for the
    /// client's own requests.
    pub(super) fn read_clashes(&self, hash: KeyHash) -> bool {
        let lent = self.client.pipeline.borrow();
        lent.as_ref().is_some_and(|pipeline| {
            pipeline.has_waiting(|record| match record.via {
                Via::Proxy | Via::Memory => false,
                Via::Server => record.key == Some(hash),
                Via::Steps => !record.read,
                Via::Anywhere => true,
            })
        })
    }

    /// Whether a request to the server about these keys (any, if `None`) has to
    /// wait for the client's own reads that wait for a fetch.
    pub(super) fn fetch_clashes(&self, worker: &Worker, hash: Option<KeyHash>) -> bool {
        if worker.heat.is_cold() {
            return false;
        }
        let lent = self.client.pipeline.borrow();
        lent.as_ref().is_some_and(|pipeline| {
            pipeline.may_wait_for_memory()
                && pipeline.has_waiting(|record| match record.via {
                    Via::Memory => hash.is_none() || record.key.is_none() || record.key == hash,
                    Via::Proxy | Via::Server | Via::Steps | Via::Anywhere => false,
                })
        })
    }

    /// Whether a request of this key (of any, if `None`) has to wait for one
    /// that is being carried out in steps.
    #[inline]
    pub(super) fn step_clashes(&self, worker: &Worker, access: Access, key: Option<&[u8]>) -> bool {
        let lent = self.client.pipeline.borrow();
        let Some(pipeline) = lent.as_ref().filter(|pipeline| pipeline.may_take_steps()) else {
            return false;
        };
        let own = key.map(|key| own_hash(worker, key));
        pipeline.has_waiting(|record| {
            record.via == Via::Steps
                && (access == Access::Write || !record.read)
                && (own.is_none() || record.key.is_none() || record.key == own)
        })
    }

    /// The record of a request with this plan of several places.
    pub(super) fn dispatched(
        &self,
        worker: &Worker,
        plan: &Plan,
        (access, keys): (Access, &[&[u8]]),
        record: Record,
    ) -> Record {
        let sole = match keys {
            [key] => Some(own_hash(worker, key)),
            _ => None,
        };
        let (via, key) = match access {
            _ if plan.takes_steps() => (Via::Steps, sole),
            Access::Read => (Via::Server, None),
            Access::Write => (Via::Anywhere, None),
        };
        Record { via, key, ..record }
    }

    /// Take up nothing more before everything is answered.
    pub(super) fn wait_for_all(&mut self) -> Next {
        self.barrier = true;
        Next::Wait
    }
}

/// A key as its client says it, whatever pools it is in.
fn own_hash(worker: &Worker, key: &[u8]) -> KeyHash {
    worker.heat.l1.hasher.hash(key)
}
