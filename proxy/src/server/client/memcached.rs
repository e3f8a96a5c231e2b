//! memcached requests, text and meta: what each verb becomes.

use std::rc::Rc;

use emberline_protocol::Kind;
use emberline_protocol::memcache::{self, Parser, Recovery, Request, RequestError};
use emberline_protocol::redis::Version;
use emberline_routing::{Ask, Plan, PoolId};

use super::scatter::Fragments;
use super::split::Splitter;
use super::{Conversation, Next, Parsers, Stop};
use crate::answer;
use crate::metrics::{Verdict, memcache_command};
use crate::running::{Listener, Partial};
use crate::server::backend::Entry;
use crate::server::gather::{Gather, Merge};
use crate::server::pipeline::{Record, Shape};
use crate::server::worker::Worker;

/// One whole request: its line and its data block.
struct Frame<'a> {
    bytes: &'a [u8],
    request: &'a Request,
}

impl<'a> Frame<'a> {
    fn line(&self) -> &'a [u8] {
        self.bytes.get(..self.request.head).unwrap_or_default()
    }

    /// The data block with its line end.
    fn block(&self) -> &'a [u8] {
        self.bytes.get(self.request.head..).unwrap_or_default()
    }

    /// The data block without its line end.
    fn body(&self) -> &'a [u8] {
        let body = self.request.body.unwrap_or(0);
        self.block().get(..body).unwrap_or_default()
    }

    /// Append it as a server takes it: the bytes that came, but never quiet,
    /// because a connection pairs every request with one reply.
    fn write(&self, out: &mut Vec<u8>) {
        if self.request.quiet {
            memcache::forward(out, self.bytes, self.request);
            out.extend_from_slice(self.block());
        } else {
            out.extend_from_slice(self.bytes);
        }
    }
}

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
                if !request.quiet || request.dialect == memcache::Dialect::Meta {
                    self.complain("CLIENT_ERROR bad data chunk");
                }
                continue;
            }
            let frame = Frame {
                bytes: whole,
                request: &request,
            };
            match self.take_up_verb(&worker, listener, &frame, parser, splitter) {
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
        let record = Record {
            command: crate::metrics::OTHER,
            ..Record::default()
        };
        self.answer(record, Verdict::Error, |out| {
            memcache::encode::line(out, text)
        });
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
            self.complain("CLIENT_ERROR the command is denied on this listener");
            return Next::Taken;
        }
        if answer::memcache::is_local(verb) {
            return self.answer_memcached(worker, frame);
        }
        if worker.is_overloaded() {
            worker.shed();
            self.complain("SERVER_ERROR the proxy's buffers are full, try again later");
            return Next::Taken;
        }
        if verb.is_for_all() {
            splitter.assign(listener.router.targets().iter().copied());
            return match *splitter.plans() {
                [plan] => self.pass_memcached(worker, frame, parser, plan),
                _ => self.tell_everybody(worker, frame, splitter),
            };
        }
        let kind = verb.kind();
        if parser.key_count() == 1 {
            let key = parser.routing_key(frame.bytes, request, 0);
            let plan = listener.router.plan(&Ask { key, kind });
            return self.pass_memcached(worker, frame, parser, plan);
        }
        splitter.assign(
            parser
                .keys(frame.bytes)
                .map(|key| listener.router.plan(&Ask { key, kind })),
        );
        match *splitter.plans() {
            [] => {
                self.complain("ERROR");
                Next::Taken
            }
            [plan] => self.pass_memcached(worker, frame, parser, plan),
            _ => self.multi_get(worker, frame, parser, splitter),
        }
    }

    pub(super) fn memcached_record(&self, request: &Request, plan: Plan) -> Record {
        Record {
            command: memcache_command(request.verb),
            pool: Some(self.worker.pool_of_plan(plan).0),
            read: request.verb.kind() == Kind::Read,
            started: self.worker.now(),
        }
    }

    /// What of the reply a quiet request's client is to see.
    pub(super) fn memcached_shape(request: &Request) -> Shape {
        match (request.quiet, request.dialect) {
            (false, _) => Shape::Plain,
            (true, memcache::Dialect::Text) => Shape::Mute,
            (true, memcache::Dialect::Meta) => Shape::Quiet(request.verb),
        }
    }

    /// Hand the request to the one place that it goes to.
    fn pass_memcached(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        parser: &Parser,
        plan: Plan,
    ) -> Next {
        let record = self.memcached_record(frame.request, plan);
        let server = match plan {
            Plan::Send(server) => server,
            Plan::Answer(pool) => {
                let keys: Vec<&[u8]> = parser.keys(frame.bytes).collect();
                self.answer(record, Verdict::Ok, |out| {
                    answer_local(worker, pool, frame, &keys, out);
                });
                return Next::Taken;
            }
        };
        match worker.backend(server, Version::Resp2, self.client.id) {
            Ok(backend) if backend.is_full() => {
                self.parked = Some(backend);
                Next::Wait
            }
            Ok(backend) => {
                let seq = self.push(Self::memcached_shape(frame.request), record);
                let entry = Entry::new(Rc::clone(&self.client), seq, 0, worker.now());
                backend.push(worker, entry, |out| frame.write(out));
                Next::Taken
            }
            Err(fault) => {
                if !frame.request.quiet {
                    let wire = self.client.wire.get();
                    let text = fault.text(worker.server_name(server));
                    self.answer(record, fault.verdict(), |out| wire.error(&text, out));
                }
                Next::Taken
            }
        }
    }

    fn multi_get(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        parser: &Parser,
        splitter: &Splitter,
    ) -> Next {
        let partial = splitter.plans().first().map_or(Partial::Error, |plan| {
            worker.pool(worker.pool_of_plan(*plan)).partial
        });
        let mut gather = self.with_pipeline(|pipeline| {
            pipeline.lend_gather(Merge::Values, partial, splitter.plans().len())
        });
        gather.order(splitter.order());
        parser.keys(frame.bytes).for_each(|key| gather.key(key));
        self.scatter_memcached(worker, frame, splitter.plans(), gather, |fragment, out| {
            let keys = splitter.keys(fragment).iter();
            let keys = keys.map(|&key| parser.key(frame.bytes, key as usize));
            memcache::fragment(out, frame.line(), frame.request, keys);
        })
    }

    /// Hand the request to every server; OK if all of them say so.
    fn tell_everybody(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        splitter: &Splitter,
    ) -> Next {
        let gather = self.with_pipeline(|pipeline| {
            pipeline.lend_gather(Merge::First, Partial::Error, splitter.plans().len())
        });
        self.scatter_memcached(worker, frame, splitter.plans(), gather, |_, out| {
            frame.write(out);
        })
    }

    /// Send one fragment to each of `plans`: `write` appends it.
    fn scatter_memcached(
        &mut self,
        worker: &Rc<Worker>,
        frame: &Frame<'_>,
        plans: &[Plan],
        gather: Box<Gather>,
        write: impl Fn(usize, &mut Vec<u8>),
    ) -> Next {
        let Some(&first) = plans.first() else {
            return Next::Taken;
        };
        let record = self.memcached_record(frame.request, first);
        let shape = if frame.request.quiet {
            Shape::Mute
        } else {
            Shape::Gather(gather)
        };
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
        self.scatter(worker, plans, shape, record, &Fragments { write, answer })
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
