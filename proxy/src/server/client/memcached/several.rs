//! memcached requests with several keys, or for every server.

use std::rc::Rc;

use emberline_hotkey::Access;
use emberline_protocol::memcache::{self, Parser, Verb};
use emberline_routing::{PoolId, ServerId, Target};

use super::{Frame, NOWHERE, access_of, answer_local};
use crate::running::{Listener, Mode, Partial};
use crate::server::client::conversation::{Conversation, Next};
use crate::server::client::recall::Read;
use crate::server::client::scatter::Fragments;
use crate::server::client::split::{Place, Splitter};
use crate::server::dispatch::Request as DispatchRequest;
use crate::server::gather::{Gather, Merge};
use crate::server::heat::Touch;
use crate::server::pipeline::Via;
use crate::server::worker::Worker;

impl Conversation {
    /// A request with several keys, or with none: a `get` of some kind.
    pub(super) fn several_memcached(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        frame: &Frame<'_>,
        parser: &mut Parser,
        splitter: &mut Splitter,
    ) -> Next {
        let verb = frame.request.verb;
        let access = access_of(verb);
        if access == Access::Write && self.fetch_clashes(worker, None) {
            return self.wait_for_all();
        }
        splitter.clear();
        for (number, key) in parser.keys(frame.bytes).enumerate() {
            let plan = worker.plan(listener, self.client.origin, &frame.ask(key));
            if let Some(next) = self.wait_for_delete(worker, &plan, key) {
                return next;
            }
            let Some(plan) = plan.target() else {
                let first = plan.first().or(listener.router.targets().first().copied());
                let Some(first) = first else {
                    return self.refuse_memcached(frame.request, NOWHERE);
                };
                if let Some(next) = self.prepare_dispatch(worker, access, &[key], &plan) {
                    return next;
                }
                splitter.put_course(first, plan);
                continue;
            };
            let pool = worker.pool_of_target(plan);
            let hash = self.note(worker, pool, access, key);
            let mut place = Place::To(plan);
            if let (Some(hash), Target::Send(server), Some(form)) = (hash, plan, frame.form())
                && splitter.has_room()
                && worker.heat.pool(pool).mode != Mode::Revalidate
            {
                let read = Read {
                    pool,
                    server,
                    key,
                    hash,
                    form,
                    misses: true,
                };
                if self.is_recalled(worker, &read) {
                    if self.read_clashes(hash) {
                        return self.wait_for_all();
                    }
                    let key = u32::try_from(number).unwrap_or(u32::MAX);
                    place = Place::Memory { server, key };
                }
            }
            if !place.is_memory() && hash.is_some() && self.fetch_clashes(worker, hash) {
                return self.wait_for_all();
            }
            splitter.put(place, hash);
        }
        splitter.group();
        match *splitter.places() {
            [] => {
                self.complain("ERROR");
                Next::Taken
            }
            [Place::To(plan)] => {
                let mut record = self.memcached_record(frame.request, plan);
                let touch = match plan {
                    Target::Send(server) => {
                        let touch = touch(worker, splitter, verb, 0, server);
                        let pool = worker.pool_of_server(server);
                        worker.heat.told(pool, touch, parser.keys(frame.bytes))
                    }
                    Target::Answer(_) => Touch::None,
                };
                if access == Access::Write {
                    record.via = Via::Anywhere;
                }
                self.pass_memcached(worker, frame, parser, plan, record, touch)
            }
            _ => self.multi_get(worker, frame, parser, splitter),
        }
    }

    fn multi_get(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        parser: &Parser,
        splitter: &Splitter,
    ) -> Next {
        let partial = splitter.places().first().map_or(Partial::Error, |place| {
            worker.pool(worker.pool_of_target(place.target())).partial
        });
        let fill = |gather: &mut Gather| {
            gather.order(splitter.order());
            parser.keys(frame.bytes).for_each(|key| gather.key(key));
        };
        let write = |fragment: usize, out: &mut Vec<u8>| {
            let keys = splitter.keys(fragment).iter();
            let keys = keys.map(|&key| parser.key(frame.bytes, key as usize));
            memcache::fragment(out, frame.line(), frame.request, keys);
        };
        let how = (Merge::Values, partial);
        let recall = |number: u32, server| {
            Some(Read {
                pool: worker.pool_of_server(server),
                server,
                key: parser.key(frame.bytes, number as usize),
                hash: splitter.hash(number)?,
                form: frame.form()?,
                misses: true,
            })
        };
        let key = |number: u32| parser.key(frame.bytes, number as usize);
        self.scatter_memcached(worker, frame, splitter, how, fill, write, recall, key)
    }

    /// Hand the request to every server; OK if all of them say so.
    pub(super) fn tell_everybody(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        splitter: &Splitter,
    ) -> Next {
        let write = |_, out: &mut Vec<u8>| frame.write(out);
        let how = (Merge::First, Partial::Error);
        let (fill, recall) = (|_: &mut Gather| (), |_, _| None);
        self.scatter_memcached(worker, frame, splitter, how, fill, write, recall, |_| b"")
    }

    /// Send each fragment to its place: `write` appends it, `recall` is the
    /// read of the key with a number, `key` that key.
    #[expect(clippy::too_many_arguments, reason = "the closures say what differs")]
    fn scatter_memcached<'a>(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        splitter: &Splitter,
        (merge, partial): (Merge, Partial),
        fill: impl FnOnce(&mut Gather),
        write: impl Fn(usize, &mut Vec<u8>),
        recall: impl Fn(u32, ServerId) -> Option<Read<'a>>,
        key: impl Fn(u32) -> &'a [u8],
    ) -> Next {
        let Some(first) = splitter.places().first() else {
            return Next::Taken;
        };
        let verb = frame.request.verb;
        if verb.is_for_all() {
            worker.bury_all();
        }
        let mut record = self.memcached_record(frame.request, first.target());
        if access_of(verb) == Access::Write {
            record.via = Via::Anywhere;
        }
        let limits = &worker.memcache_limits[self.client.listener];
        let answer = |pool: PoolId, line: &[u8], reply: &mut Vec<u8>| {
            let mut parser = Parser::default();
            if let Ok(Some(request)) = parser.parse(line, limits) {
                let frame = Frame {
                    bytes: line,
                    request: &request,
                };
                let keys: Vec<&[u8]> = parser.keys(line).collect();
                answer_local(worker, pool, &frame, &keys, reply);
            }
        };
        let course = |number: u32, bytes: Vec<u8>| {
            let request = DispatchRequest::memcached(verb, key(number), bytes, limits);
            Some((splitter.course(number)?.clone(), request))
        };
        let fragments = Fragments {
            course,
            merge,
            partial,
            quiet: frame.request.quiet,
            fill,
            write,
            answer,
            touch: |fragment, server| touch(worker, splitter, verb, fragment, server),
            recall,
        };
        self.scatter(worker, splitter.places(), record, fragments)
    }
}

/// The keys of the fragment with this number.
fn touch(
    worker: &Worker,
    splitter: &Splitter,
    verb: Verb,
    fragment: usize,
    server: ServerId,
) -> Touch {
    if verb.is_for_all() {
        return worker.touch_all(server);
    }
    let keys = splitter.keys(fragment).iter();
    let mut hashes = worker.heat.lend_hashes();
    hashes.extend(keys.filter_map(|&key| splitter.hash(key)));
    let pool = worker.pool_of_server(server);
    worker.heat.touch_many(pool, access_of(verb), hashes)
}
