//! memcached requests, text and meta: what each verb becomes.

use std::rc::Rc;

use emberline_hotkey::Access;
use emberline_protocol::Kind;
use emberline_protocol::memcache::{self, Parser, Recovery, Request, RequestError, Verb};
use emberline_protocol::redis::Version;
use emberline_routing::{Ask, Plan, PoolId, ServerId, Target};

use super::conversation::{Conversation, Next, Parsers, Stop};
use super::copies::forget;
use super::recall::Read;
use super::scatter::Fragments;
use super::split::{Place, Splitter};
use crate::answer;
use crate::l1;
use crate::metrics::{Verdict, memcache_command};
use crate::running::{Listener, Mode, Partial, Protocol};
use crate::server::backend::Entry;
use crate::server::dispatch::{Reader, Request as DispatchRequest};
use crate::server::form::Form;
use crate::server::gather::{Gather, Merge};
use crate::server::heat::Touch;
use crate::server::pipeline::{Record, Shape, Via};
use crate::server::worker::Worker;

/// What a client is told that uses a command which its listener denies.
pub const DENIED: &str = "CLIENT_ERROR the command is denied on this listener";

/// What a client is told whose route has no places.
const NOWHERE: &str = "SERVER_ERROR this listener leads to no server";

/// What a client is told when memory is short.
pub const OVERLOADED: &str = "SERVER_ERROR the proxy's buffers are full, try again later";

/// One request: its line and its data block, of which the last bytes may be
/// missing where only the line matters.
pub(super) struct Frame<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) request: &'a Request,
}

impl<'a> Frame<'a> {
    fn line(&self) -> &'a [u8] {
        self.bytes.get(..self.request.head).unwrap_or_default()
    }

    /// A copy, to be carried out step by step.
    fn kept(&self, key: &[u8], limits: &memcache::Limits) -> DispatchRequest {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        DispatchRequest::memcached(self.request.verb, key, bytes, limits)
    }

    /// As one of its keys is routed by. All of that is in the line: the data
    /// block may still be coming.
    pub(super) fn ask<'k>(&self, key: &'k [u8]) -> Ask<'k> {
        Ask {
            size: self.request.body.filter(|_| self.replaces()),
            conditional: self.is_conditional(),
            numbered: self.is_numbered(),
            lives: self.lives(),
            ..Ask::new(key, self.request.verb.kind())
        }
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

    /// How its client wants the value, if memory can answer it.
    fn form(&self) -> Option<Form<'a>> {
        match self.request.verb {
            Verb::Get => Some(Form::Text { cas: false }),
            Verb::Gets => Some(Form::Text { cas: true }),
            Verb::MetaGet if l1::encode::servable(self.line()) => {
                Some(Form::Meta(self.line().into()))
            }
            _ => None,
        }
    }

    /// What it does to its key, as far as memory is concerned: an `mg` may
    /// touch, create or claim it.
    fn access(&self) -> Access {
        let writes = |(flag, _): (u8, &[u8])| matches!(flag, b'T' | b'N' | b'E' | b'I' | b'R');
        match self.request.verb {
            Verb::MetaGet if memcache::flags(self.line(), Verb::MetaGet).any(writes) => {
                Access::Write
            }
            verb => access_of(verb),
        }
    }

    /// Whether its data block takes the place of whatever the key has.
    fn replaces(&self) -> bool {
        let joins = |(flag, mode): (u8, &[u8])| {
            flag == b'M' && matches!(mode.first(), Some(b'A' | b'a' | b'P' | b'p'))
        };
        match self.request.verb {
            Verb::Set | Verb::Add | Verb::Replace | Verb::Cas => true,
            Verb::MetaSet => !memcache::flags(self.line(), Verb::MetaSet).any(joins),
            _ => false,
        }
    }

    /// Whether it stores only if the item is, or is not, as the client says.
    fn is_conditional(&self) -> bool {
        let depends = |(flag, mode): (u8, &[u8])| match flag {
            b'C' => true,
            b'M' => !matches!(mode.first(), Some(b'S' | b's')),
            _ => false,
        };
        match self.request.verb {
            Verb::Add | Verb::Replace | Verb::Cas => true,
            Verb::MetaSet => {
                self.replaces() && memcache::flags(self.line(), Verb::MetaSet).any(depends)
            }
            _ => false,
        }
    }

    /// Whether it reads the unique number of a value to be compared later, or
    /// compares it.
    fn is_numbered(&self) -> bool {
        let says = |wanted| {
            memcache::flags(self.line(), self.request.verb).any(|(flag, _)| flag == wanted)
        };
        match self.request.verb {
            Verb::Gets | Verb::Cas => true,
            Verb::MetaGet => says(b'c'),
            Verb::MetaSet | Verb::MetaDelete | Verb::MetaArithmetic => says(b'C'),
            _ => false,
        }
    }

    /// Whether it says a time to live, and is no write: `ma` and `mg` with `N`
    /// or `T`.
    fn lives(&self) -> bool {
        let verb = self.request.verb;
        matches!(verb, Verb::MetaGet | Verb::MetaArithmetic)
            && memcache::flags(self.line(), verb).any(|(flag, _)| matches!(flag, b'N' | b'T'))
    }

    /// Whether its reply tells of the value, though memory cannot answer it.
    fn tells_value(&self) -> bool {
        let value = |(flag, _)| matches!(flag, b'v' | b'c' | b'f' | b's');
        self.request.verb == Verb::MetaGet && memcache::flags(self.line(), Verb::MetaGet).any(value)
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

    /// A request with several keys, or with none: a `get` of some kind.
    fn several_memcached(
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
    fn tell_everybody(
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
