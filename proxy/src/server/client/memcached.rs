//! memcached requests, text and meta: what each verb becomes.
//!
//! What can be told from a request's line is in `frame`; those with several
//! keys, or for every server, are in `several`.

mod frame;
mod several;

use std::rc::Rc;

use emberline_hotkey::Access;
use emberline_protocol::Kind;
use emberline_protocol::memcache::{self, Parser, Recovery, Request, RequestError, Verb};
use emberline_protocol::redis::Version;
use emberline_routing::{Plan, PoolId, Target};

use super::conversation::{Conversation, Next, Parsers, Stop};
use super::copies::forget;
use super::recall::Read;
use super::split::Splitter;
use crate::answer;
use crate::metrics::{Verdict, memcache_command};
use crate::running::{Listener, Protocol};
use crate::server::backend::Entry;
use crate::server::dispatch::Reader;
use crate::server::heat::Touch;
use crate::server::pipeline::{Record, Shape, Via};
use crate::server::worker::Worker;
pub use frame::Frame;

/// What a client is told that uses a command which its listener denies.
pub const DENIED: &str = "CLIENT_ERROR the command is denied on this listener";

/// What a client is told whose route has no places.
const NOWHERE: &str = "SERVER_ERROR this listener leads to no server";

/// What a client is told when memory is short.
pub const OVERLOADED: &str = "SERVER_ERROR the proxy's buffers are full, try again later";

impl Conversation {
    pub(super) fn take_up_memcached(
        &mut self,
        bytes: &[u8],
        parsers: &mut Parsers,
    ) -> (usize, Stop) {
        let worker = Rc::clone(&self.worker);
        let listener = self.listener(&worker);
        let Parsers {
            memcache: parser,
            splitter,
            ..
        } = parsers;
        let mut at = 0;
        while at < bytes.len() {
            if self.upload.is_some() || !self.admitted() {
                return (at, Stop::Wait);
            }
            let rest = &bytes[at..];
            let request = match parser.parse(rest, &worker.memcache_limits[self.client.listener]) {
                Ok(Some(request)) => request,
                Ok(None) => return (at, Stop::Partial),
                Err(error) => match self.object(&error, rest) {
                    Some(skipped) => {
                        at += skipped;
                        continue;
                    }
                    None => return (bytes.len(), Stop::Close),
                },
            };
            let Some(whole) = rest.get(..request.len()) else {
                return (at, Stop::Partial);
            };
            at += request.len();
            if !memcache::body_terminated(rest, &request) {
                self.receipts = None;
                if !request.quiet || request.dialect == memcache::Dialect::Meta {
                    self.complain("CLIENT_ERROR bad data chunk");
                }
                continue;
            }
            let frame = Frame {
                bytes: whole,
                request: &request,
            };
            self.begin_planning(&worker);
            let next = self.take_up_verb(&worker, listener, &frame, parser, splitter);
            self.end_planning(&worker, &next);
            match next {
                Next::Taken => {}
                Next::Wait => {
                    parser.reset();
                    return (at - request.len(), Stop::Wait);
                }
                Next::Close => {
                    self.closing = true;
                    return (bytes.len(), Stop::Close);
                }
            }
        }
        (at, Stop::Dry)
    }

    /// Answer a line that is no request; answers how many bytes to skip, or
    /// `None` when the stream cannot be followed any further.
    fn object(&mut self, error: &RequestError, rest: &[u8]) -> Option<usize> {
        if !error.reply.is_empty() {
            self.complain(&error.reply);
        }
        match error.recovery {
            Recovery::Skip(count) => Some(count.clamp(1, rest.len())),
            Recovery::Swallow(count) => {
                let here = count.min(rest.len());
                if count > here {
                    self.swallow(count - here);
                }
                Some(here)
            }
            Recovery::Close => {
                self.closing = true;
                None
            }
        }
    }

    fn complain(&mut self, text: &str) {
        self.answer(Record::default(), Verdict::Error, |out| {
            memcache::encode::line(out, text);
        });
    }

    /// Answer a request with an error, unless its client asked not to be told.
    fn refuse_memcached(&mut self, request: &Request, text: &str) -> Next {
        let record = Record {
            command: memcache_command(request.verb),
            ..Record::default()
        };
        if request.quiet && request.dialect == memcache::Dialect::Text {
            self.worker
                .count(self.client.listener, record, Verdict::Refused);
        } else {
            self.answer(record, Verdict::Refused, |out| {
                memcache::encode::line(out, text)
            });
        }
        Next::Taken
    }

    fn take_up_verb(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        frame: &Frame<'_>,
        parser: &mut Parser,
        splitter: &mut Splitter,
    ) -> Next {
        let request = frame.request;
        let verb = request.verb;
        if worker.policies[self.client.listener].denies(verb.name().as_bytes(), b"") {
            return self.refuse_memcached(request, DENIED);
        }
        if answer::memcache::is_local(verb) {
            return self.answer_memcached(worker, frame);
        }
        if worker.is_overloaded() {
            worker.shed();
            return self.refuse_memcached(request, OVERLOADED);
        }
        let key = (parser.key_count() == 1).then(|| parser.routing_key(frame.bytes, request, 0));
        if self.step_clashes(worker, frame.access(), key) {
            return self.wait_for_all();
        }
        if verb.is_for_all() {
            if self.fetch_clashes(worker, None) {
                return self.wait_for_all();
            }
            splitter.assign(worker.places[self.client.listener].iter().copied());
            return match splitter.sole() {
                Some(plan) => {
                    let mut record = self.memcached_record(request, plan);
                    record.via = Via::Anywhere;
                    let touch = match plan {
                        Target::Send(server) => worker.touch_all(server),
                        Target::Answer(_) => Touch::None,
                    };
                    self.pass_memcached(worker, frame, parser, plan, record, touch)
                }
                None => self.tell_everybody(worker, frame, splitter),
            };
        }
        if parser.key_count() == 1 {
            return self.single_memcached(worker, listener, frame, parser);
        }
        self.several_memcached(worker, listener, frame, parser, splitter)
    }

    /// A request with one key.
    fn single_memcached(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        frame: &Frame<'_>,
        parser: &mut Parser,
    ) -> Next {
        let request = frame.request;
        let key = parser.routing_key(frame.bytes, request, 0);
        let plan = worker.plan(listener, self.client.origin, &frame.ask(key));
        if let Some(next) = self.wait_for_delete(worker, &plan, key) {
            return next;
        }
        let Some(plan) = plan.target() else {
            if let (Access::Read, Some(form)) = (frame.access(), frame.form()) {
                let record = self.memcached_record(request, None);
                let limits = &worker.memcache_limits[self.client.listener];
                let kept = || frame.kept(key, limits);
                let read = (key, form);
                if let Some(next) = self.recall_home(worker, &plan, read, record, kept) {
                    return next;
                }
            }
            return self.dispatch_memcached(worker, frame, key, plan);
        };
        let (pool, access) = (worker.pool_of_target(plan), frame.access());
        let hash = self.note(worker, pool, access, key);
        let mut record = self.memcached_record(request, plan);
        record.key = hash;
        let (Some(hash), Target::Send(server)) = (hash, plan) else {
            return self.pass_memcached(worker, frame, parser, plan, record, Touch::None);
        };
        let touch = match (access, frame.form()) {
            (Access::Write, _) if self.fetch_clashes(worker, Some(hash)) => {
                return self.wait_for_all();
            }
            (Access::Write, _) => {
                let touch = Touch::Write(hash);
                let touch = worker.heat.told(pool, touch, std::iter::once(key));
                if let Some(copies) = self.copies_of(worker, hash, server) {
                    if request.quiet {
                        // Nobody waits to hear that the copies are gone.
                        worker.forget_copies(hash, server);
                    } else {
                        let forget = |out: &mut Vec<u8>| forget(Protocol::Memcached, key, out);
                        let write = |out: &mut Vec<u8>| frame.write(out);
                        return self.write_copied(
                            worker,
                            (server, &copies),
                            record,
                            touch,
                            write,
                            forget,
                        );
                    }
                }
                touch
            }
            // Nothing is promoted: there is nothing to be looked up.
            (Access::Read, Some(_)) if worker.heat.is_cold() => worker.heat.touch_read(pool, hash),
            (Access::Read, Some(form)) => {
                let read = Read {
                    pool,
                    server,
                    key,
                    hash,
                    form,
                    misses: true,
                };
                if let Some(next) = self.recall(worker, &read, record) {
                    return next;
                }
                if let Some(next) = self.read_copy(worker, &read, record) {
                    return next;
                }
                if self.fetch_clashes(worker, Some(hash)) {
                    return self.wait_for_all();
                }
                if let Some(next) = self.ask_leased(worker, &read, record) {
                    return next;
                }
                worker.heat.touch_read(pool, hash)
            }
            (Access::Read, None) if self.fetch_clashes(worker, Some(hash)) => {
                return self.wait_for_all();
            }
            (Access::Read, None) if frame.tells_value() => worker.heat.touch_read(pool, hash),
            (Access::Read, None) => Touch::Look(hash),
        };
        self.pass_memcached(worker, frame, parser, plan, record, touch)
    }

    /// Have a plan of more than one place carried out.
    fn dispatch_memcached(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        key: &[u8],
        plan: Plan,
    ) -> Next {
        let first = plan.first();
        if let Some(next) = self.prepare_dispatch(worker, frame.access(), &[key], &plan) {
            return next;
        }
        let record = self.memcached_record(frame.request, first);
        let record = self.dispatched(worker, &plan, (frame.access(), &[key]), record);
        let seq = self.push_memcached(frame.request, record);
        let reader = Reader {
            client: Rc::clone(&self.client),
            seq,
            fragment: 0,
        };
        let limits = &worker.memcache_limits[self.client.listener];
        worker.dispatch(plan, reader, frame.kept(key, limits));
        Next::Taken
    }

    pub(super) fn memcached_record(
        &self,
        request: &Request,
        target: impl Into<Option<Target>>,
    ) -> Record {
        Record {
            command: memcache_command(request.verb),
            pool: target
                .into()
                .map(|target| self.worker.pool_of_target(target).0),
            read: request.verb.kind() == Kind::Read,
            started: self.worker.now(),
            via: Via::Server,
            key: None,
        }
    }

    /// Take a slot for a request that one server answers. Its client sees all
    /// of the reply, nothing (`noreply`), or what is of interest (meta `q`).
    pub(super) fn push_memcached(&self, request: &Request, record: Record) -> u64 {
        match (request.quiet, request.dialect) {
            (false, _) => self.push(Shape::Plain, false, record),
            (true, memcache::Dialect::Text) => self.push(Shape::Plain, true, record),
            (true, memcache::Dialect::Meta) => self.push(Shape::Quiet(request.verb), false, record),
        }
    }

    /// Hand the request to the one place that it goes to.
    fn pass_memcached(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        parser: &Parser,
        plan: Target,
        record: Record,
        touch: Touch,
    ) -> Next {
        let server = match plan {
            Target::Send(server) => server,
            Target::Answer(pool) => {
                let keys: Vec<&[u8]> = parser.keys(frame.bytes).collect();
                let mut reply = worker.scratch.take();
                reply.clear();
                answer_local(worker, pool, frame, &keys, &mut reply);
                let verdict = match memcache::is_error(&reply) {
                    true => Verdict::Error,
                    false => Verdict::Ok,
                };
                self.answer(record, verdict, |out| out.extend_from_slice(&reply));
                worker.scratch.replace(reply);
                return Next::Taken;
            }
        };
        match self.way(server, Version::Resp2) {
            Ok(None) => Next::Wait,
            Ok(Some(backend)) => {
                let seq = self.push_memcached(frame.request, record);
                let entry = Entry::new(Rc::clone(&self.client), seq, 0, worker.now());
                backend.push(worker, entry.touching(touch), |out| frame.write(out));
                Next::Taken
            }
            Err(fault) => {
                let seq = self.push_memcached(frame.request, record);
                let text = fault.text(worker.server_name(server));
                self.client.fail(worker, seq, 0, &text, fault.verdict());
                Next::Taken
            }
        }
    }

    /// A verb that the proxy answers itself.
    fn answer_memcached(&mut self, worker: &Rc<Worker>, frame: &Frame<'_>) -> Next {
        let request = frame.request;
        let mut reply = worker.scratch.take();
        reply.clear();
        let then = worker.with_context(self.client.listener, |context| {
            answer::memcache::answer(
                request.verb,
                frame.line(),
                request.quiet,
                context,
                &mut reply,
            )
        });
        let record = Record {
            command: memcache_command(request.verb),
            ..Record::default()
        };
        self.answer(record, Verdict::Ok, |out| out.extend_from_slice(&reply));
        worker.scratch.replace(reply);
        match then {
            answer::Then::Continue => Next::Taken,
            answer::Then::Close => Next::Close,
        }
    }
}

/// What a verb does to its keys, as far as memory is concerned.
fn access_of(verb: Verb) -> Access {
    match verb.kind() {
        Kind::Read => Access::Read,
        Kind::Other if !verb.is_for_all() => Access::Read,
        _ => Access::Write,
    }
}

fn answer_local(
    worker: &Worker,
    pool: PoolId,
    frame: &Frame<'_>,
    keys: &[&[u8]],
    out: &mut Vec<u8>,
) {
    match &worker.pool(pool).local {
        Some(local) => {
            let now = worker.unix_millis();
            local.memcache(frame.request, keys, frame.line(), frame.body(), now, out);
        }
        None => memcache::encode::line(out, "SERVER_ERROR this pool has no servers"),
    }
}
