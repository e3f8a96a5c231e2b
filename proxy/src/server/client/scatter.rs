//! One request to several places at once.

use std::rc::Rc;

use emberline_routing::{Plan, PoolId, ServerId, Target};

use super::conversation::{Conversation, Next};
use super::recall::{Goal, Read};
use super::split::Place;
use crate::running::Partial;
use crate::server::backend::{Backend, Entry};
use crate::server::dispatch::{Reader, Request};
use crate::server::fault::Fault;
use crate::server::flight::Waiter;
use crate::server::gather::{Gather, Merge};
use crate::server::heat::Touch;
use crate::server::pipeline::{Record, Shape, Via};
use crate::server::worker::Worker;

/// The way to each fragment's server; `None` where an in-process pool answers.
pub type Ways = Vec<Option<Result<Rc<Backend>, Fault>>>;

/// A request to several places: its parts, and how their replies become one.
pub struct Fragments<F, W, L, T, R, C> {
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
    /// Which keys the fragment with this number concerns on this server.
    pub touch: T,
    /// The read of the key with this number on this server.
    pub recall: R,
    /// The plan of the key with this number, and the request, of which these
    /// are the bytes, that it is for.
    pub course: C,
}

impl Conversation {
    /// Send each fragment to its place. Nothing is sent before every server
    /// has room, so that a request that must wait can be tried again.
    pub(super) fn scatter<'a, F, W, L, T, R, C>(
        &mut self,
        worker: &Rc<Worker>,
        places: &[Place],
        record: Record,
        fragments: Fragments<F, W, L, T, R, C>,
    ) -> Next
    where
        F: FnOnce(&mut Gather),
        W: Fn(usize, &mut Vec<u8>),
        L: Fn(PoolId, &[u8], &mut Vec<u8>),
        T: Fn(usize, ServerId) -> Touch,
        R: Fn(u32, ServerId) -> Option<Read<'a>>,
        C: Fn(u32, Vec<u8>) -> Option<(Plan, Request)>,
    {
        let version = self.client.wire.get().version();
        let mut ways = worker.ways.take();
        ways.clear();
        ways.extend(places.iter().map(|place| match place {
            Place::To(Target::Send(server)) => {
                Some(worker.backend(*server, version, self.client.id))
            }
            Place::To(Target::Answer(_)) | Place::Memory { .. } | Place::Course { .. } => None,
        }));
        let next = if !self.has_room(&mut ways) {
            Next::Wait
        } else {
            let mute = fragments.quiet || self.mute();
            let record = Record {
                via: via_of(places).unwrap_or(record.via),
                ..record
            };
            let Fragments {
                merge,
                partial,
                fill,
                write,
                answer,
                touch,
                recall,
                course,
                ..
            } = fragments;
            let seq = self.with_pipeline(|pipeline| {
                let mut gather = pipeline.lend_gather(merge, partial, places.len());
                fill(&mut gather);
                pipeline.push(Shape::Gather(gather), mute, record)
            });
            for (number, (place, way)) in places.iter().zip(ways.drain(..)).enumerate() {
                let fragment = u32::try_from(number).unwrap_or(u32::MAX);
                let part = Part { seq, fragment };
                let write = |out: &mut Vec<u8>| write(number, out);
                match *place {
                    Place::To(Target::Send(server)) => {
                        let touch = touch(number, server);
                        self.send_part(worker, part, server, way, touch, write);
                    }
                    Place::To(Target::Answer(pool)) => {
                        let (mut request, mut reply) = (Vec::new(), Vec::new());
                        write(&mut request);
                        answer(pool, &request, &mut reply);
                        self.client.deliver(worker, seq, fragment, &reply, true);
                    }
                    Place::Course { key, .. } => {
                        let mut request = Vec::new();
                        write(&mut request);
                        if let Some((plan, request)) = course(key, request) {
                            let reader = Reader {
                                client: Rc::clone(&self.client),
                                seq,
                                fragment,
                            };
                            worker.dispatch(plan, reader, request);
                        }
                    }
                    Place::Memory { server, key } => {
                        let read = recall(key, server);
                        let target = Goal::Part { seq, fragment };
                        let done = read.is_some_and(|read| {
                            self.recall_into(worker, &read, target)
                                || self.ask_leased_part(worker, &read, part)
                        });
                        if !done {
                            let touch = touch(number, server);
                            let way = worker.backend(server, version, self.client.id);
                            self.send_part(worker, part, server, Some(way), touch, write);
                        }
                    }
                }
            }
            Next::Taken
        };
        ways.clear();
        worker.ways.replace(ways);
        next
    }

    /// Whether all of these can be sent on, or have waited long enough: those
    /// without room are then faults.
    fn has_room(&mut self, ways: &mut Ways) -> bool {
        let is_full = |way: &Rc<Backend>| way.is_full();
        let full = ways.iter().flatten().flatten().find(|way| is_full(way));
        let Some(full) = full.or(ways.iter().flatten().flatten().next()) else {
            return true;
        };
        let fault = match self.room(Rc::clone(full)) {
            Ok(Some(_)) => return true,
            Ok(None) => return false,
            Err(fault) => fault,
        };
        for way in ways.iter_mut().flatten() {
            if way.as_ref().is_ok_and(is_full) {
                *way = Err(fault.clone());
            }
        }
        true
    }

    /// As [`ask_leased`](Self::ask_leased), for a part of a slot.
    fn ask_leased_part(&self, worker: &Rc<Worker>, read: &Read<'_>, part: Part) -> bool {
        let leased = !worker.pool(read.pool).l1.lease.is_zero() && read.form.is_text();
        let Some(key) = worker.heat.key(read.hash).filter(|_| leased) else {
            return false;
        };
        let reader = Waiter {
            client: Rc::clone(&self.client),
            seq: part.seq,
            fragment: part.fragment,
            form: read.form.clone().into_owned(),
            detour: None,
        };
        worker.ask_server(reader, &key, read.server);
        true
    }

    fn send_part(
        &self,
        worker: &Rc<Worker>,
        part: Part,
        server: ServerId,
        way: Option<Result<Rc<Backend>, Fault>>,
        touch: Touch,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Part { seq, fragment } = part;
        match way {
            Some(Ok(backend)) => {
                let entry = Entry::new(Rc::clone(&self.client), seq, fragment, worker.now());
                backend.push(worker, entry.touching(touch), write);
            }
            Some(Err(fault)) => {
                let text = fault.text(worker.server_name(server));
                self.client
                    .fail(worker, seq, fragment, &text, fault.verdict());
            }
            None => {}
        }
    }
}

/// A part of a slot.
#[derive(Clone, Copy)]
struct Part {
    seq: u64,
    fragment: u32,
}

/// Whoever goes several ways waits for what takes steps, or for memory; and
/// writes of these keys wait for it.
fn via_of(places: &[Place]) -> Option<Via> {
    if places.iter().any(Place::takes_steps) {
        return Some(Via::Steps);
    }
    places.iter().any(Place::is_memory).then_some(Via::Memory)
}
