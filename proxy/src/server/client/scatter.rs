//! One request to several places at once.

use std::rc::Rc;

use emberline_routing::{Plan, PoolId};

use super::conversation::{Conversation, Next};
use crate::running::Partial;
use crate::server::backend::{Backend, Entry};
use crate::server::fault::Fault;
use crate::server::gather::{Gather, Merge};
use crate::server::pipeline::{Record, Shape};
use crate::server::worker::Worker;

/// The way to each fragment's server; `None` where an in-process pool answers.
pub type Ways = Vec<Option<Result<Rc<Backend>, Fault>>>;

/// A request to several places: its parts, and how their replies become one.
pub struct Fragments<F, W, L> {
    /// How the replies become one.
    pub merge: Merge,
    /// What a read answers when one of the places fails.
    pub partial: Partial,
    /// The client does not want to hear the reply.
    pub quiet: bool,
    /// Tells the gatherer the order of the keys.
    pub fill: F,
    /// Appends the request of the fragment with this number.
    pub write: W,
    /// Answers such a request in process.
    pub answer: L,
}

impl Conversation {
    /// Send one fragment to each of `plans`. Nothing is sent before every
    /// server has room, so that a request that must wait can be tried again.
    pub(super) fn scatter<F, W, L>(
        &mut self,
        worker: &Rc<Worker>,
        plans: &[Plan],
        record: Record,
        fragments: Fragments<F, W, L>,
    ) -> Next
    where
        F: FnOnce(&mut Gather),
        W: Fn(usize, &mut Vec<u8>),
        L: Fn(PoolId, &[u8], &mut Vec<u8>),
    {
        let version = self.client.wire.get().version();
        let mut ways = worker.ways.take();
        ways.clear();
        ways.extend(plans.iter().map(|plan| match plan {
            Plan::Send(server) => Some(worker.backend(*server, version, self.client.id)),
            Plan::Answer(_) => None,
        }));
        let full = ways.iter().flatten().flatten().find(|way| way.is_full());
        let next = if let Some(full) = full {
            self.parked = Some(Rc::clone(full));
            Next::Wait
        } else {
            let mute = fragments.quiet || self.mute();
            let Fragments {
                merge,
                partial,
                fill,
                write,
                answer,
                ..
            } = fragments;
            let seq = self.with_pipeline(|pipeline| {
                let mut gather = pipeline.lend_gather(merge, partial, plans.len());
                fill(&mut gather);
                pipeline.push(Shape::Gather(gather), mute, record)
            });
            for (number, (plan, way)) in plans.iter().zip(ways.drain(..)).enumerate() {
                self.send_fragment(worker, seq, number, *plan, way, &write, &answer);
            }
            Next::Taken
        };
        ways.clear();
        worker.ways.replace(ways);
        next
    }

    #[expect(clippy::too_many_arguments, reason = "the body of the loop above")]
    fn send_fragment<W, L>(
        &self,
        worker: &Rc<Worker>,
        seq: u64,
        number: usize,
        plan: Plan,
        way: Option<Result<Rc<Backend>, Fault>>,
        write: &W,
        answer: &L,
    ) where
        W: Fn(usize, &mut Vec<u8>),
        L: Fn(PoolId, &[u8], &mut Vec<u8>),
    {
        let fragment = u32::try_from(number).unwrap_or(u32::MAX);
        match (plan, way) {
            (Plan::Send(_), Some(Ok(backend))) => {
                let entry = Entry::new(Rc::clone(&self.client), seq, fragment, worker.now());
                backend.push(worker, entry, |out| write(number, out));
            }
            (Plan::Send(server), Some(Err(fault))) => {
                let text = fault.text(worker.server_name(server));
                self.client
                    .fail(worker, seq, fragment, &text, fault.verdict());
            }
            (Plan::Send(_), None) => {}
            (Plan::Answer(pool), _) => {
                let (mut request, mut reply) = (Vec::new(), Vec::new());
                write(number, &mut request);
                answer(pool, &request, &mut reply);
                self.client.deliver(worker, seq, fragment, &reply, true);
            }
        }
    }
}
