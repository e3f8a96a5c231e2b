//! One request to several places at once.

use std::rc::Rc;

use emberline_protocol::redis::Version;
use emberline_routing::{Plan, PoolId};

use super::{Conversation, Next};
use crate::server::backend::{Backend, Entry};
use crate::server::fault::Fault;
use crate::server::gather::Wire;
use crate::server::pipeline::{Record, Shape};
use crate::server::worker::Worker;

/// The way to each fragment's server; `None` where an in-process pool answers.
pub type Ways = Vec<Option<Result<Rc<Backend>, Fault>>>;

/// How fragments are written and, in process, answered.
pub struct Fragments<W, L> {
    /// Appends the request of the fragment with this number.
    pub write: W,
    /// Answers such a request in process.
    pub answer: L,
}

impl Conversation {
    /// Send one fragment to each of `plans`. Nothing is sent before every
    /// server has room, so that a request that must wait can be tried again.
    pub(super) fn scatter<W, L>(
        &mut self,
        worker: &Rc<Worker>,
        plans: &[Plan],
        shape: Shape,
        record: Record,
        fragments: &Fragments<W, L>,
    ) -> Next
    where
        W: Fn(usize, &mut Vec<u8>),
        L: Fn(PoolId, &[u8], &mut Vec<u8>),
    {
        let version = match self.client.wire.get() {
            Wire::Redis(version) => version,
            Wire::Memcached => Version::Resp2,
        };
        let mut ways = worker.ways.take();
        ways.clear();
        ways.extend(plans.iter().map(|plan| match plan {
            Plan::Send(server) => Some(worker.backend(*server, version, self.client.id)),
            Plan::Answer(_) => None,
        }));
        let next = match ways.iter().flatten().flatten().find(|way| way.is_full()) {
            Some(full) => {
                self.parked = Some(Rc::clone(full));
                Next::Wait
            }
            None => {
                let seq = self.push(shape, record);
                for (number, (plan, way)) in plans.iter().zip(ways.drain(..)).enumerate() {
                    self.send_fragment(worker, seq, number, *plan, way, fragments);
                }
                Next::Taken
            }
        };
        ways.clear();
        worker.ways.replace(ways);
        next
    }

    fn send_fragment<W, L>(
        &self,
        worker: &Rc<Worker>,
        seq: u64,
        number: usize,
        plan: Plan,
        way: Option<Result<Rc<Backend>, Fault>>,
        fragments: &Fragments<W, L>,
    ) where
        W: Fn(usize, &mut Vec<u8>),
        L: Fn(PoolId, &[u8], &mut Vec<u8>),
    {
        let fragment = u32::try_from(number).unwrap_or(u32::MAX);
        match (plan, way) {
            (Plan::Send(_), Some(Ok(backend))) => {
                let entry = Entry::new(Rc::clone(&self.client), seq, fragment, worker.now());
                backend.push(worker, entry, |out| (fragments.write)(number, out));
            }
            (Plan::Send(server), Some(Err(fault))) => {
                let text = fault.text(worker.server_name(server));
                self.client
                    .fail(worker, seq, fragment, &text, fault.verdict());
            }
            (Plan::Send(_), None) => {}
            (Plan::Answer(pool), _) => {
                let (mut request, mut reply) = (Vec::new(), Vec::new());
                (fragments.write)(number, &mut request);
                (fragments.answer)(pool, &request, &mut reply);
                self.client.deliver(worker, seq, fragment, &reply, true);
            }
        }
    }
}
