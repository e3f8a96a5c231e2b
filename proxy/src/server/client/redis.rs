//! Redis requests: what each class of command becomes.

use std::rc::Rc;

use emberline_hotkey::{Access, KeyHash};
use emberline_protocol::Kind;
use emberline_protocol::redis::command::{self, Class, Command, FanOut, KeyError, Split};
use emberline_protocol::redis::encode::{self, Version};
use emberline_protocol::redis::request::{Limits, Parser, Request, RequestError, Step};
use emberline_routing::{Ask, Plan, PoolId, ServerId, Target};

use super::conversation::{Conversation, Dialogue, Next, Parsers, Stop};
use super::copies::forget;
use super::recall::Read;
use super::scatter::Fragments;
use super::split::{Place, Splitter};
use crate::answer::{self, redis::refuse};
use crate::metrics::Verdict;
use crate::running::{Listener, Partial, Protocol};
use crate::server::ask::ask_of;
use crate::server::backend::Entry;
use crate::server::dispatch::{Reader, Request as DispatchRequest};
use crate::server::form::Form;
use crate::server::gather::{Gather, Merge, Wire};
use crate::server::heat::Touch;
use crate::server::pipeline::{Record, Shape, Via};
use crate::server::worker::Worker;

/// One whole request.
#[derive(Clone, Copy)]
struct Frame<'a> {
    bytes: &'a [u8],
    parser: &'a Parser,
    inline: bool,
}

impl<'a> Frame<'a> {
    fn arg(&self, index: usize) -> &'a [u8] {
        self.parser.arg(self.bytes, index)
    }

    fn request(&self) -> Request<'a> {
        self.parser.request(self.bytes)
    }

    fn args(&self) -> Vec<&'a [u8]> {
        self.parser.args(self.bytes).collect()
    }

    /// A copy, to be carried out step by step.
    fn kept(&self, command: &'static Command, keys: &[&[u8]]) -> DispatchRequest {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        let first = keys.first().copied().unwrap_or_default();
        DispatchRequest::redis(command, first, bytes)
    }

    /// Append it as a server takes it: the bytes that came, except that a
    /// plain line becomes an array.
    fn write(&self, out: &mut Vec<u8>) {
        if self.inline {
            encode::command(out, self.parser.args(self.bytes));
        } else {
            out.extend_from_slice(self.bytes);
        }
    }
}

/// Why a client may not have a command at all.
enum Refusal {
    Unauthenticated,
    Denied,
    Overloaded,
}

impl Refusal {
    fn write(&self, name: &[u8], out: &mut Vec<u8>) {
        match self {
            Refusal::Unauthenticated => refuse::unauthenticated(out),
            Refusal::Denied => {
                refuse::denied(&String::from_utf8_lossy(name).to_ascii_lowercase(), out);
            }
            Refusal::Overloaded => encode::error(out, "ERR the proxy's buffers are full"),
        }
    }
}

impl Conversation {
    pub(super) fn take_up_redis(&mut self, bytes: &[u8], parsers: &mut Parsers) -> (usize, Stop) {
        let taken = self.take_up_commands(bytes, parsers);
        self.count_served();
        self.worker.heat.end_run(self.worker.now());
        taken
    }

    fn take_up_commands(&mut self, bytes: &[u8], parsers: &mut Parsers) -> (usize, Stop) {
        let worker = Rc::clone(&self.worker);
        let listener = self.listener(&worker);
        let Parsers {
            resp: parser,
            splitter,
            ..
        } = parsers;
        let mut at = 0;
        let mut ready = self.may_serve_hot(&worker);
        while at < bytes.len() {
            if !self.admitted() {
                return (at, Stop::Wait);
            }
            let limits = self.limits(&worker);
            match parser.parse(&bytes[at..], limits) {
                Ok(Step::Frame { len, inline }) => {
                    let frame = Frame {
                        bytes: &bytes[at..at + len],
                        parser,
                        inline,
                    };
                    if ready
                        && parser.len() == 2
                        && self.serve_hot(&worker, listener, frame.arg(0), frame.arg(1))
                    {
                        at += len;
                        continue;
                    }
                    self.begin_planning(&worker);
                    let next = self.take_up_command(&worker, listener, frame, splitter);
                    self.end_planning(&worker, &next);
                    ready = self.may_serve_hot(&worker);
                    match next {
                        Next::Taken => at += len,
                        Next::Wait => {
                            parser.reset();
                            return (at, Stop::Wait);
                        }
                        Next::Close => {
                            self.closing = true;
                            return (bytes.len(), Stop::Close);
                        }
                    }
                }
                Ok(Step::Empty { len }) => at += len,
                Ok(Step::Partial) => return (at, Stop::Partial),
                Err(error) => {
                    parser.reset();
                    self.protest(&error);
                    return (bytes.len(), Stop::Close);
                }
            }
        }
        (at, Stop::Dry)
    }

    fn limits<'w>(&self, worker: &'w Worker) -> &'w Limits {
        match &self.dialogue {
            Dialogue::Redis(session) if !session.authenticated => &worker.limits_before_auth,
            _ => &worker.limits,
        }
    }

    /// The stream cannot be followed any further.
    fn protest(&mut self, error: &RequestError) {
        // A browser or a stray health check shall not be answered at all:
        // what it sends next could be taken for commands.
        if !matches!(error, RequestError::HttpRequest) {
            self.answer(Record::default(), Verdict::Error, |out| {
                encode::error(out, &format!("ERR {error}"));
            });
        }
        self.closing = true;
    }

    fn take_up_command(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        frame: Frame<'_>,
        splitter: &mut Splitter,
    ) -> Next {
        let name = frame.arg(0);
        let known = command::lookup(name);
        if let Some(refusal) = self.refusal(known, &frame) {
            return self.refuse_with(known, |out| refusal.write(name, out));
        }
        let Some(command) = known else {
            return match listener.router.sole() {
                Some(plan) => self.pass_unknown(worker, None, plan, frame),
                None => self.refuse_with(None, |out| refuse::unknown(&frame.request(), out)),
            };
        };
        let key = match command.class {
            Class::Single => command::single_key(command, frame.parser.len()).ok(),
            _ => None,
        };
        if self.step_clashes(worker, access_of(command), key.map(|at| frame.arg(at))) {
            return self.wait_for_all();
        }
        let sole = listener.router.sole();
        match command.class {
            Class::Single => match command::single_key(command, frame.parser.len()) {
                Ok(at) => self.single(worker, listener, command, frame, frame.arg(at)),
                // `XINFO HELP` and the like: any server says the same.
                Err(KeyError::NoKey(_)) => self.pass_anywhere(worker, listener, command, frame),
                Err(error) => self.refuse(known, &format!("ERR {error}")),
            },
            Class::Local => self.answer_redis(worker, command, frame),
            Class::Refused(_) => match sole {
                Some(plan)
                    if worker.policies[self.client.listener].allows(command, frame.arg(1)) =>
                {
                    self.pass_unknown(worker, known, plan, frame)
                }
                _ => self.refuse_with(known, |out| refuse::by_class(command, out)),
            },
            Class::Later(_) => self.refuse_with(known, |out| refuse::by_class(command, out)),
            _ if !command::arity_ok(command, frame.parser.len()) => {
                self.refuse_with(known, |out| refuse::arity(command.name, out))
            }
            _ if command::blocking(command, &frame.request()) => self.refuse(
                known,
                "ERR blocking commands are not supported by this proxy",
            ),
            Class::FanOut(FanOut::PubSub) => self.refuse(
                known,
                "ERR publish and subscribe are not supported by this proxy",
            ),
            Class::FanOut(FanOut::FlushAll | FanOut::Sum)
                if worker.places[self.client.listener].len() > 1 =>
            {
                let merge = match command.class {
                    Class::FanOut(FanOut::Sum) => Merge::Sum,
                    _ => Merge::First,
                };
                let places = &worker.places[self.client.listener];
                self.tell_all(
                    worker,
                    command,
                    places.iter().copied(),
                    merge,
                    frame,
                    splitter,
                )
            }
            Class::FanOut(_) if sole.is_some() => match sole {
                Some(plan) => self.pass_unknown(worker, known, plan, frame),
                None => Next::Taken,
            },
            Class::SameShard => self.same_shard(worker, listener, command, frame),
            Class::Split(split) => self.split(worker, listener, command, split, frame, splitter),
            Class::FanOut(fan_out) => {
                self.fan_out(worker, listener, command, fan_out, frame, splitter)
            }
        }
    }

    /// Why this client may not have this command, if it may not.
    fn refusal(&self, command: Option<&'static Command>, frame: &Frame<'_>) -> Option<Refusal> {
        let Dialogue::Redis(session) = &self.dialogue else {
            return None;
        };
        if !session.authenticated && !command.is_some_and(answer::redis::permitted_before_auth) {
            return Some(Refusal::Unauthenticated);
        }
        if self.denies(frame.arg(0), frame.arg(1)) {
            return Some(Refusal::Denied);
        }
        let local = command.is_some_and(|command| command.class == Class::Local);
        if self.worker.is_overloaded() && !local {
            self.worker.shed();
            return Some(Refusal::Overloaded);
        }
        None
    }

    /// Whether the listener refuses this command.
    pub(super) fn denies(&self, name: &[u8], subcommand: &[u8]) -> bool {
        self.worker.policies[self.client.listener].denies(name, subcommand)
    }

    /// Answer with an error of the proxy's own; `text` begins with its code.
    fn refuse(&mut self, command: Option<&'static Command>, text: &str) -> Next {
        self.refuse_with(command, |out| encode::error(out, text))
    }

    /// Answer with an error of the proxy's own, which `write` appends.
    fn refuse_with(
        &mut self,
        command: Option<&'static Command>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Next {
        let record = self.record(command, None);
        self.reply(record, Verdict::Refused, write);
        Next::Taken
    }

    /// Answer on the spot, unless the client has asked for silence.
    pub(super) fn reply(
        &mut self,
        record: Record,
        verdict: Verdict,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.mute() {
            self.worker.count(self.client.listener, record, verdict);
        } else {
            self.answer(record, verdict, write);
        }
    }

    /// Whether the client wants no reply to this request; asked once for each.
    pub(super) fn mute(&mut self) -> bool {
        match &mut self.dialogue {
            Dialogue::Redis(session) => session.mute(),
            Dialogue::Memcached => false,
        }
    }

    fn version(&self) -> Version {
        self.client.wire.get().version()
    }

    pub(super) fn record(
        &self,
        command: Option<&'static Command>,
        plan: impl Into<Option<Target>>,
    ) -> Record {
        Record {
            command: command.map_or(crate::metrics::OTHER, |command| command.id),
            pool: plan.into().map(|plan| self.worker.pool_of_target(plan).0),
            read: command.is_some_and(|command| command.kind == Kind::Read),
            started: self.worker.now(),
            via: Via::Server,
            key: None,
        }
    }

    /// A request with one key.
    fn single(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        frame: Frame<'_>,
        key: &[u8],
    ) -> Next {
        let ask = ask_of(command, &frame.request(), key);
        let plan = worker.plan(listener, self.client.origin, &ask);
        if let Some(next) = self.wait_for_delete(worker, &plan, key) {
            return next;
        }
        let Some(plan) = plan.target() else {
            if is_get(command) {
                let record = self.record(Some(command), None);
                let request = || frame.kept(command, &[key]);
                let read = (key, Form::Bulk);
                if let Some(next) = self.recall_home(worker, &plan, read, record, request) {
                    return next;
                }
            }
            return self.dispatch_redis(worker, command, frame, &[key], plan);
        };
        let pool = worker.pool_of_target(plan);
        let access = access_of(command);
        let hash = self.note(worker, pool, access, key);
        let mut record = self.record(Some(command), plan);
        record.key = hash;
        let (Some(hash), Target::Send(server)) = (hash, plan) else {
            return self.pass(worker, record, Touch::None, plan, frame);
        };
        let touch = match access {
            Access::Write if self.fetch_clashes(worker, Some(hash)) => return self.wait_for_all(),
            Access::Write => {
                let copies = self.copies_of(worker, hash, server);
                if let Some(delta) = delta_of(command, frame)
                    && copies.is_none()
                    && let Some(next) =
                        self.combine(worker, server, hash, key, delta, record, |out| {
                            frame.write(out);
                        })
                {
                    return next;
                }
                let touch = Touch::Write(hash);
                let touch = worker.heat.told(pool, touch, std::iter::once(key));
                if let Some(copies) = copies {
                    let forget = |out: &mut Vec<u8>| forget(Protocol::Redis, key, out);
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
                touch
            }
            // Nothing is promoted: there is nothing to be looked up.
            Access::Read if worker.heat.is_cold() => match tells_value(command) {
                true => worker.heat.touch_read(pool, hash),
                false => Touch::Look(hash),
            },
            Access::Read if is_get(command) => {
                let read = Read {
                    pool,
                    server,
                    key,
                    hash,
                    form: Form::Bulk,
                    misses: true,
                };
                if let Some(next) = self.recall(worker, &read, record) {
                    return next;
                }
                if !worker.heat.pool(pool).may_stand_in() {
                    return self.pass(worker, record, Touch::Look(hash), plan, frame);
                }
                if let Some(next) = self.read_copy(worker, &read, record) {
                    return next;
                }
                if self.fetch_clashes(worker, Some(hash)) {
                    return self.wait_for_all();
                }
                worker.heat.touch_read(pool, hash)
            }
            Access::Read if self.fetch_clashes(worker, Some(hash)) => return self.wait_for_all(),
            Access::Read if tells_value(command) => worker.heat.touch_read(pool, hash),
            Access::Read => Touch::Look(hash),
        };
        self.pass(worker, record, touch, plan, frame)
    }

    /// Hand over a request of which it is not known what it changes.
    fn pass_unknown(
        &mut self,
        worker: &Rc<Worker>,
        command: Option<&'static Command>,
        plan: Target,
        frame: Frame<'_>,
    ) -> Next {
        let mut record = self.record(command, plan);
        let harmless = command.is_some_and(is_harmless);
        let touch = match plan {
            Target::Send(server) if !harmless => {
                if self.fetch_clashes(worker, None) {
                    return self.wait_for_all();
                }
                record.via = Via::Anywhere;
                worker.touch_all(server)
            }
            _ => Touch::None,
        };
        self.pass(worker, record, touch, plan, frame)
    }

    /// Hand the request, as it came, to the one place that it goes to.
    fn pass(
        &mut self,
        worker: &Rc<Worker>,
        record: Record,
        touch: Touch,
        plan: Target,
        frame: Frame<'_>,
    ) -> Next {
        let server = match plan {
            Target::Send(server) => server,
            Target::Answer(pool) => {
                let (version, now) = (self.version(), worker.unix_millis());
                let args = frame.args();
                let mut reply = worker.scratch.take();
                reply.clear();
                answer_local(worker, pool, &args, version, now, &mut reply);
                let verdict = verdict_of(&reply);
                self.reply(record, verdict, |out| out.extend_from_slice(&reply));
                worker.scratch.replace(reply);
                return Next::Taken;
            }
        };
        match self.way(server, self.version()) {
            Ok(None) => Next::Wait,
            Ok(Some(backend)) => {
                let mute = self.mute();
                let seq = self.push(Shape::Plain, mute, record);
                let entry = Entry::new(Rc::clone(&self.client), seq, 0, worker.now());
                backend.push(worker, entry.touching(touch), |out| frame.write(out));
                Next::Taken
            }
            Err(fault) => {
                let text = format!("ERR {}", fault.text(worker.server_name(server)));
                self.reply(record, fault.verdict(), |out| encode::error(out, &text));
                Next::Taken
            }
        }
    }

    /// Hand a request without keys to the first place of the route.
    fn pass_anywhere(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        frame: Frame<'_>,
    ) -> Next {
        match listener.router.targets().first() {
            Some(&plan) => self.pass_unknown(worker, Some(command), plan, frame),
            None => self.refuse(Some(command), "ERR this listener leads to no server"),
        }
    }

    fn same_shard(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        frame: Frame<'_>,
    ) -> Next {
        let mut keys = Vec::new();
        if let Err(error) = command::keys(command, &frame.request(), &mut keys) {
            return self.refuse(Some(command), &format!("ERR {error}"));
        }
        let keys: Vec<&[u8]> = keys.iter().map(|&at| frame.arg(at)).collect();
        if keys.is_empty() {
            // A script without keys runs where all such scripts run.
            return self.pass_anywhere(worker, listener, command, frame);
        }
        let plans = worker.states.alike(keys.len(), |number| {
            let ask = Ask {
                several: keys.len() > 1,
                ..ask_of(command, &frame.request(), keys[number])
            };
            worker.plan(listener, self.client.origin, &ask)
        });
        for (plan, key) in plans.iter().zip(&keys) {
            if let Some(next) = self.wait_for_delete(worker, plan, key) {
                return next;
            }
        }
        if let Some(target) = plans[0].target()
            && plans.iter().all(|plan| *plan == plans[0])
        {
            return self.pass_keys(worker, command, target, keys.iter().copied(), frame);
        }
        // A pending key has a plan of its own, to the same place.
        let changed = |plan: &&Plan| matches!(plan, Plan::Edit(change, _) if change.is_nothing());
        let pending = plans.iter().find(changed).is_some_and(|pending| {
            plans
                .iter()
                .any(|other| other.target().is_some() && other.target() == pending.first())
        });
        if pending {
            let text = "TRYAGAIN an earlier delete of one of the keys is not carried out yet";
            return self.refuse(Some(command), text);
        }
        match Plan::together(&plans, &keys, access_of(command) == Access::Write) {
            Some(plan) => self.dispatch_redis(worker, command, frame, &keys, plan),
            None => {
                let text = "CROSSSLOT Keys in request don't hash to the same slot";
                self.refuse(Some(command), text)
            }
        }
    }

    /// Have a plan of more than one place carried out.
    fn dispatch_redis(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        frame: Frame<'_>,
        keys: &[&[u8]],
        plan: Plan,
    ) -> Next {
        let first = plan.first();
        if let Some(next) = self.prepare_dispatch(worker, access_of(command), keys, &plan) {
            return next;
        }
        let record = self.record(Some(command), first);
        let record = self.dispatched(worker, &plan, (access_of(command), keys), record);
        let mute = self.mute();
        let seq = self.push(Shape::Plain, mute, record);
        let reader = Reader {
            client: Rc::clone(&self.client),
            seq,
            fragment: 0,
        };
        worker.dispatch(plan, reader, frame.kept(command, keys));
        Next::Taken
    }

    /// Hand a request with several keys to the one place that has them all.
    fn pass_keys<'a>(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        plan: Target,
        keys: impl Iterator<Item = &'a [u8]> + Clone,
        frame: Frame<'_>,
    ) -> Next {
        let (pool, access) = (worker.pool_of_target(plan), access_of(command));
        let mut hashes = worker.heat.lend_hashes();
        for key in keys.clone() {
            hashes.extend(self.note(worker, pool, access, key));
        }
        let mut record = self.record(Some(command), plan);
        let touch = worker.heat.touch_many(pool, access, hashes);
        if matches!(touch, Touch::Many(Access::Write, _)) {
            if self.fetch_clashes(worker, None) {
                return self.wait_for_all();
            }
            record.via = Via::Anywhere;
        }
        if let Target::Send(server) = plan {
            worker.forget_all_copies(&touch, server);
        }
        let touch = worker.heat.told(pool, touch, keys);
        self.pass(worker, record, touch, plan, frame)
    }

    fn split(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        split: Split,
        frame: Frame<'_>,
        splitter: &mut Splitter,
    ) -> Next {
        let step = if split == Split::Mset { 2 } else { 1 };
        if !(frame.parser.len() - 1).is_multiple_of(step) {
            return self.refuse_with(Some(command), |out| refuse::arity(command.name, out));
        }
        let access = access_of(command);
        if access == Access::Write && self.fetch_clashes(worker, None) {
            return self.wait_for_all();
        }
        splitter.clear();
        for (number, at) in (1..frame.parser.len()).step_by(step).enumerate() {
            let key = frame.arg(at);
            // A part of MSET is a SET: its size is known, too.
            let size = (split == Split::Mset).then(|| frame.arg(at + 1).len());
            let ask = Ask {
                size,
                ..ask_of(command, &frame.request(), key)
            };
            let plan = worker.plan(listener, self.client.origin, &ask);
            if let Some(next) = self.wait_for_delete(worker, &plan, key) {
                return next;
            }
            let Some(plan) = plan.target() else {
                let Some(first) = plan.first().or(listener.router.targets().first().copied())
                else {
                    return self.refuse(Some(command), "ERR this listener leads to no server");
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
            if let (Some(hash), Target::Send(server), Split::Mget) = (hash, plan, split)
                && splitter.has_room()
                && self.is_recalled(worker, &element(pool, server, key, hash))
            {
                if self.read_clashes(hash) {
                    return self.wait_for_all();
                }
                let key = u32::try_from(number).unwrap_or(u32::MAX);
                place = Place::Memory { server, key };
            } else if hash.is_some() && self.fetch_clashes(worker, hash) {
                return self.wait_for_all();
            }
            splitter.put(place, hash);
        }
        splitter.group();
        if let Some(plan) = splitter.sole() {
            let keys = (1..frame.parser.len()).step_by(step);
            let keys = keys.map(|at| frame.arg(at));
            self.noted = true;
            return self.pass_keys(worker, command, plan, keys, frame);
        }
        let merge = match split {
            Split::Mget => Merge::Mget,
            Split::Mset => Merge::First,
            Split::Sum => Merge::Sum,
        };
        let order = (split == Split::Mget).then(|| splitter.order());
        let fragment = |fragment: usize, out: &mut Vec<u8>| {
            let keys = splitter.keys(fragment);
            encode::array(out, 1 + keys.len() * step);
            encode::bulk(out, frame.arg(0));
            for &key in keys {
                let at = 1 + key as usize * step;
                (at..at + step).for_each(|at| encode::bulk(out, frame.arg(at)));
            }
        };
        let recall = |key: u32| frame.arg(1 + key as usize * step);
        self.scatter_redis(worker, command, splitter, merge, order, fragment, recall)
    }

    fn fan_out(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        fan_out: FanOut,
        frame: Frame<'_>,
        splitter: &mut Splitter,
    ) -> Next {
        let targets = listener.router.targets();
        if targets.is_empty() {
            return self.refuse(Some(command), "ERR this listener leads to no server");
        }
        let subcommand = frame
            .arg(1.min(frame.parser.len() - 1))
            .to_ascii_lowercase();
        let merge = match (fan_out, subcommand.as_slice()) {
            (FanOut::FlushAll, _) => Merge::First,
            (FanOut::Sum, _) => Merge::Sum,
            (FanOut::Concat, _) => Merge::Concat,
            (FanOut::RandomKey, _) => Merge::Any,
            (FanOut::Publish, _) => {
                let ask = Ask::new(frame.arg(1), Kind::Other);
                let plan = worker.plan(listener, self.client.origin, &ask).first();
                let Some(plan) = plan.or(targets.first().copied()) else {
                    return self.refuse(Some(command), "ERR this listener leads to no server");
                };
                return self.pass(
                    worker,
                    self.record(Some(command), plan),
                    Touch::None,
                    plan,
                    frame,
                );
            }
            (FanOut::Script, b"exists") => Merge::And,
            (FanOut::Script, b"load" | b"flush" | b"kill") => Merge::First,
            (FanOut::Function, b"load" | b"delete" | b"flush" | b"restore" | b"kill") => {
                Merge::First
            }
            (FanOut::Function, b"list" | b"dump" | b"stats" | b"help")
            | (FanOut::Script, b"help") => {
                return self.pass_anywhere(worker, listener, command, frame);
            }
            (FanOut::Scan, _) => {
                let text = "ERR SCAN over several servers is not supported by this proxy";
                return self.refuse(Some(command), text);
            }
            _ => {
                let text = "ERR this subcommand cannot be sent to several servers";
                return self.refuse(Some(command), text);
            }
        };
        let places = worker.places[self.client.listener].iter().copied();
        let live = places.filter(|place| targets.contains(place));
        self.tell_all(worker, command, live, merge, frame, splitter)
    }

    /// Send the request, as it came, to several places.
    fn tell_all(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        places: impl Iterator<Item = Target>,
        merge: Merge,
        frame: Frame<'_>,
        splitter: &mut Splitter,
    ) -> Next {
        if !is_harmless(command) && self.fetch_clashes(worker, None) {
            return self.wait_for_all();
        }
        splitter.assign(places);
        let first = worker.random() % splitter.places().len().max(1) as u64;
        let order = [u32::try_from(first).unwrap_or(0)];
        let order = (merge == Merge::Any).then_some(&order[..]);
        let fragment = |_, out: &mut Vec<u8>| frame.write(out);
        let nothing = |_| &b""[..];
        self.scatter_redis(worker, command, splitter, merge, order, fragment, nothing)
    }

    /// Send each fragment to its place: `write` appends it, `key` is the key
    /// with a number.
    #[expect(
        clippy::too_many_arguments,
        reason = "the three closures say what differs"
    )]
    fn scatter_redis<'a>(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        splitter: &Splitter,
        merge: Merge,
        order: Option<&[u32]>,
        write: impl Fn(usize, &mut Vec<u8>),
        key: impl Fn(u32) -> &'a [u8],
    ) -> Next {
        let first = splitter.places().first().map(Place::target);
        // A write that reached only some of its servers is never called a success.
        let partial = match first {
            Some(plan) if command.kind == Kind::Read => {
                worker.pool(worker.pool_of_target(plan)).partial
            }
            _ => Partial::Error,
        };
        let mut record = self.record(Some(command), first);
        if !is_harmless(command) {
            record.via = Via::Anywhere;
        }
        let version = self.version();
        let answer = |pool: PoolId, request: &[u8], reply: &mut Vec<u8>| {
            let mut parser = Parser::default();
            if let Ok(Step::Frame { .. }) = parser.parse(request, &worker.limits) {
                let args: Vec<&[u8]> = parser.args(request).collect();
                answer_local(worker, pool, &args, version, worker.unix_millis(), reply);
            }
        };
        if matches!(command.class, Class::FanOut(FanOut::FlushAll)) {
            worker.bury_all();
        }
        let access = access_of(command);
        let touch = |fragment: usize, server: ServerId| {
            let keys = splitter.keys(fragment).iter();
            let mut hashes = worker.heat.lend_hashes();
            hashes.extend(keys.filter_map(|&key| splitter.hash(key)));
            if hashes.is_empty() && !is_harmless(command) {
                return worker.touch_all(server);
            }
            let pool = worker.pool_of_server(server);
            let touch = worker.heat.touch_many(pool, access, hashes);
            worker.forget_all_copies(&touch, server);
            let keys = splitter.keys(fragment).iter().map(|&number| key(number));
            worker.heat.told(pool, touch, keys)
        };
        let recall = |number: u32, server: ServerId| {
            let hash = splitter.hash(number)?;
            Some(element(
                worker.pool_of_server(server),
                server,
                key(number),
                hash,
            ))
        };
        let course = |number: u32, bytes: Vec<u8>| {
            let request = DispatchRequest::redis(command, key(number), bytes);
            Some((splitter.course(number)?.clone(), request))
        };
        let fragments = Fragments {
            course,
            merge,
            partial,
            quiet: false,
            fill: |gather: &mut Gather| gather.order(order.unwrap_or_default()),
            write,
            answer,
            touch,
            recall,
        };
        self.scatter(worker, splitter.places(), record, fragments)
    }

    /// A command that the proxy answers itself.
    fn answer_redis(
        &mut self,
        worker: &Rc<Worker>,
        command: &'static Command,
        frame: Frame<'_>,
    ) -> Next {
        // The protocol version decides which connections requests go through:
        // it changes only between requests, never under one in flight.
        if matches!(command.name, "hello" | "reset") && self.client.outstanding() > 0 {
            self.barrier = true;
            return Next::Wait;
        }
        let record = self.record(Some(command), None);
        let Dialogue::Redis(session) = &mut self.dialogue else {
            return Next::Taken;
        };
        let mut reply = worker.scratch.take();
        reply.clear();
        let then = worker.with_context(self.client.listener, |context| {
            answer::redis::answer(command, &frame.request(), session, context, &mut reply)
        });
        self.client.wire.set(Wire::Redis(session.version));
        let verdict = verdict_of(&reply);
        self.answer(record, verdict, |out| out.extend_from_slice(&reply));
        worker.scratch.replace(reply);
        match then {
            answer::Then::Continue => Next::Taken,
            answer::Then::Close => Next::Close,
        }
    }
}

/// What a command does to its keys, as far as memory is concerned.
fn access_of(command: &Command) -> Access {
    match command.write {
        true => Access::Write,
        false => Access::Read,
    }
}

/// Whether a command without keys leaves every key as it is.
fn is_harmless(command: &Command) -> bool {
    !command.write && !matches!(command.class, Class::FanOut(FanOut::FlushAll))
        || matches!(
            command.class,
            Class::FanOut(FanOut::Script | FanOut::Publish)
        )
}

/// Whether its reply says something of a string's value, so that a reader who
/// has had it must not be given an older one from memory.
fn tells_value(command: &Command) -> bool {
    matches!(command.group, "string" | "bitmap") || command.name == "dump"
}

/// Whether it is the command that memory answers.
fn is_get(command: &Command) -> bool {
    command.name == "get"
}

/// By how much a command increments, if it does nothing else.
fn delta_of(command: &Command, frame: Frame<'_>) -> Option<i64> {
    let given = || integer(frame.arg(2));
    match (command.name, frame.parser.len()) {
        ("incr", 2) => Some(1),
        ("decr", 2) => Some(-1),
        ("incrby", 3) => given(),
        ("decrby", 3) => given()?.checked_neg(),
        _ => None,
    }
}

/// An integer in the one way of writing it that a server takes: `+1` and `01`
/// are none.
fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let canonical = itoa::Buffer::new().format(number).as_bytes() == text;
    canonical.then_some(number)
}

/// One key of an `MGET`.
fn element(pool: PoolId, server: ServerId, key: &[u8], hash: KeyHash) -> Read<'_> {
    Read {
        pool,
        server,
        key,
        hash,
        form: Form::Element,
        misses: true,
    }
}

/// How a reply of the proxy's own is counted.
fn verdict_of(reply: &[u8]) -> Verdict {
    match reply.first() {
        Some(b'-') => Verdict::Error,
        _ => Verdict::Ok,
    }
}

fn answer_local(
    worker: &Worker,
    pool: PoolId,
    args: &[&[u8]],
    version: Version,
    now: u64,
    out: &mut Vec<u8>,
) {
    match &worker.pool(pool).local {
        Some(local) => local.redis(args, version, now, out),
        None => encode::error(out, "ERR this pool has no servers"),
    }
}
