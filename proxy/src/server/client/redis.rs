//! Redis requests: what each class of command becomes.
//!
//! Those with one key are in `single`, those with several, or for every
//! server, in `several`.

mod several;
mod single;

use std::rc::Rc;

use emberline_hotkey::Access;
use emberline_protocol::Kind;
use emberline_protocol::redis::command::{self, Class, Command, FanOut, KeyError};
use emberline_protocol::redis::encode::{self, Version};
use emberline_protocol::redis::request::{Limits, Parser, Request, RequestError, Step};
use emberline_routing::{Plan, PoolId, Target};

use super::conversation::{Conversation, Dialogue, Next, Parsers, Stop};
use super::split::Splitter;
use crate::answer::{self, redis::refuse};
use crate::metrics::Verdict;
use crate::running::Listener;
use crate::server::backend::Entry;
use crate::server::dispatch::{Reader, Request as DispatchRequest};
use crate::server::gather::{Merge, Wire};
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
