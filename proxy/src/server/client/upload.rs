//! A request too large to be kept passes through as it arrives.
//!
//! While its bytes come, nothing else may be written on the same connection,
//! so it gets one of its own. Two connections have no common order: the upload
//! starts when everything asked before has been answered, and nothing is taken
//! up until it has been answered itself.
//!
//! Where it goes is decided before it is whole, from what is known by then: the
//! size of its value has been announced, but in Redis the options that make a
//! SET conditional stand behind that. What is not known must make no
//! difference: if routes would send the one elsewhere than the other, the
//! request is kept until it is whole, like one that goes to several places, and
//! refused if it is too large for that.

use std::rc::Rc;

use emberline_hotkey::Access;
use emberline_protocol::memcache;
use emberline_protocol::redis::command::{self, Class, Command};
use emberline_protocol::redis::request::Flow;
use emberline_protocol::{Scan, redis as resp};
use emberline_routing::{Plan, ServerId, Target};

use super::conversation::{Conversation, Dialogue, Input, Stop};
use super::memcached::{DENIED, Frame, OVERLOADED};
use crate::metrics::Verdict;
use crate::running::Listener;
use crate::server::ask::asks_of_beginning;
use crate::server::backend::{Backend, Entry, OUT_HIGH};
use crate::server::heat::Touch;
use crate::server::pipeline::{Record, Shape};
use crate::server::worker::Worker;

/// Requests above this size are not kept but passed through.
const UPLOAD_MIN: usize = 1024 * 1024;

/// Requests that must be seen whole may have this size.
pub const KEPT_MAX: usize = 32 * 1024 * 1024;

/// When memory is short, unfinished requests above this size are refused.
const SHORT_MIN: usize = 64 * 1024;

/// What a client is told whose request cannot be kept.
const FULL: &str = "the proxy's buffers are full, try again later";

/// See the module's description.
pub struct Upload {
    rest: Rest,
    /// Where it goes; nowhere if it was refused.
    sink: Option<Rc<Backend>>,
    /// Bytes that make sense only with those that follow.
    tail: Vec<u8>,
    done: bool,
}

/// How the end of the request is found.
pub enum Rest {
    /// By following RESP.
    Redis(Flow),
    /// By counting.
    Bytes(usize),
}

impl Rest {
    /// How many of `bytes` belong to the request, and whether it ends there.
    fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), String> {
        match self {
            Rest::Redis(flow) => match flow.feed(bytes).map_err(|error| error.to_string())? {
                Scan::Done(len) => Ok((len, true)),
                Scan::More(len) => Ok((len, false)),
            },
            Rest::Bytes(left) => {
                let len = bytes.len().min(*left);
                *left -= len;
                Ok((len, *left == 0))
            }
        }
    }
}

impl Upload {
    /// Throw away what is still to come of a request.
    pub fn swallow(rest: Rest) -> Upload {
        Upload {
            rest,
            sink: None,
            tail: Vec::new(),
            done: false,
        }
    }

    /// Whether more may be read from the client.
    pub fn has_room(&self) -> bool {
        !self.done
            && self
                .sink
                .as_ref()
                .is_none_or(|sink| sink.is_closed() || sink.unsent() < OUT_HIGH)
    }
}

/// The one place that a request of so many bytes can go to as it comes. What is
/// larger than can be kept goes to the first place of a plan, or nowhere.
fn place_of(plan: &Plan, coming: usize) -> Option<Target> {
    match coming > KEPT_MAX {
        true => plan.streamed(),
        false => plan.target(),
    }
}

impl Conversation {
    /// The last request is not whole: pass it through if it is large, refuse
    /// it if it can neither be passed through nor kept.
    pub(super) fn consider_upload(&mut self) {
        let Some(input) = &self.input else { return };
        let bytes = input.bytes.get(input.taken..).unwrap_or_default();
        let coming = match self.dialogue {
            Dialogue::Redis(_) => bytes.len() + input.resp.bulk_missing(),
            Dialogue::Memcached => {
                let mut parser = memcache::Parser::default();
                match parser.parse(bytes, &self.worker.memcache_limits[self.client.listener]) {
                    Ok(Some(request)) => request.len(),
                    _ => bytes.len(),
                }
            }
        };
        let short = bytes.len() > SHORT_MIN && self.worker.is_overloaded();
        if coming <= UPLOAD_MIN && !short {
            return;
        }
        if self.client.outstanding() > 0 {
            // Not before everything else is answered: see the description.
            self.barrier = true;
            if let Some(input) = &mut self.input {
                input.partial = false;
            }
            return;
        }
        let Some(input) = self.input.take() else {
            return;
        };
        match self.dialogue {
            Dialogue::Redis(_) => self.begin_redis(input, coming),
            Dialogue::Memcached => self.begin_memcached(input),
        }
    }

    fn begin_redis(&mut self, input: Box<Input>, coming: usize) {
        let bytes = input.bytes.get(input.taken..).unwrap_or_default();
        let rest = Rest::Redis(Flow::new(&resp::Limits::default()));
        if coming <= UPLOAD_MIN {
            self.worker.shed();
            return self.refuse_upload(rest, FULL, bytes);
        }
        if self.worker.is_overloaded() {
            self.worker.shed();
            return self.refuse_upload(rest, FULL, bytes);
        }
        match self.destination(&input, bytes, coming) {
            Some((server, record, touch)) => self.begin(rest, server, record, touch, bytes),
            None if coming > KEPT_MAX => {
                let text = "the request is too large to be split over servers or kept in memory";
                self.refuse_upload(rest, text, bytes);
            }
            None if !self.worker.has_room(coming.saturating_sub(self.accounted)) => {
                self.worker.shed();
                self.refuse_upload(rest, FULL, bytes);
            }
            None => self.input = Some(input),
        }
    }

    /// The one server that a request with this beginning can go to.
    ///
    /// Not all of its keys may have come yet: what a request with several may
    /// change is anything.
    fn destination(
        &mut self,
        input: &Input,
        bytes: &[u8],
        coming: usize,
    ) -> Option<(ServerId, Record, Touch)> {
        let parser = &input.resp;
        let subcommand = match parser.len() {
            0 => return None,
            1 => &b""[..],
            _ => parser.arg(bytes, 1),
        };
        if self.denies(parser.arg(bytes, 0), subcommand) {
            return None;
        }
        let worker = Rc::clone(&self.worker);
        let listener = self.listener(&worker);
        let command = command::lookup(parser.arg(bytes, 0));
        let sole = listener.router.sole();
        let sole = sole.filter(|target| !self.deletes_wait_for(*target));
        let (plan, key) = match command {
            Some(command) => match command.class {
                Class::Single => {
                    let at = command::single_key(command, parser.args_announced()).ok()?;
                    let key = (at < parser.len()).then(|| parser.arg(bytes, at))?;
                    let begun = (command, input, bytes);
                    let place = self.place_of_beginning(&worker, listener, begun, key, coming);
                    (place?, Some(key))
                }
                Class::SameShard | Class::Split(_) => (sole?, None),
                _ => return None,
            },
            None => (sole?, None),
        };
        let Target::Send(server) = plan else {
            return None;
        };
        let pool = worker.pool_of_server(server);
        let touch = match key {
            Some(key) => {
                let hash = self.note(&worker, pool, Access::Write, key);
                let touch = hash.map_or(Touch::None, Touch::Write);
                worker.heat.told(pool, touch, std::iter::once(key))
            }
            None => worker.touch_all(server),
        };
        Some((server, self.record(command, plan), touch))
    }

    /// The one place that a request with this beginning goes to, whatever the
    /// rest of it says.
    fn place_of_beginning(
        &mut self,
        worker: &Worker,
        listener: &Listener,
        (command, input, bytes): (&Command, &Input, &[u8]),
        key: &[u8],
        coming: usize,
    ) -> Option<Target> {
        let asks = asks_of_beginning(command, (&input.resp, bytes), key)?;
        self.begin_planning(worker);
        let origin = self.client.origin;
        let states = &worker.states;
        let places = states.alike(asks.len(), |number| {
            place_of(&worker.plan(listener, origin, &asks[number]), coming)
        });
        let place = places[0].filter(|_| places.iter().all(|place| *place == places[0]));
        self.end_planning_upload(worker, place);
        place
    }

    /// What has no one place is planned again when more of it has come, unless
    /// it is refused: then it is limited no second time.
    fn end_planning_upload(&mut self, worker: &Worker, place: Option<Target>) {
        match place {
            Some(Target::Send(_)) => {}
            Some(Target::Answer(_)) | None => self.receipts = Some(worker.states.put_off()),
        }
    }

    /// Whether a request of which not all keys are known might overtake a
    /// delete that waits for this place: it has to be seen whole.
    fn deletes_wait_for(&self, target: Target) -> bool {
        match target {
            Target::Send(server) => {
                let log = self.worker.delete_log(server);
                log.is_some_and(|log| !log.is_idle()) || !self.worker.hub.owed.is_empty()
            }
            Target::Answer(_) => false,
        }
    }

    fn begin_memcached(&mut self, mut input: Box<Input>) {
        let worker = Rc::clone(&self.worker);
        let listener = self.listener(&worker);
        let bytes = input.bytes.get(input.taken..).unwrap_or_default();
        let Ok(Some(request)) = input
            .memcache
            .parse(bytes, &worker.memcache_limits[self.client.listener])
        else {
            if self.worker.is_overloaded() {
                // A line whose end is not known cannot be thrown away.
                self.worker.shed();
                self.answer(Record::default(), Verdict::Refused, |out| {
                    memcache::encode::line(out, OVERLOADED);
                });
                self.closing = true;
                return;
            }
            self.input = Some(input);
            return;
        };
        let key = input.memcache.routing_key(bytes, &request, 0);
        let frame = Frame {
            bytes,
            request: &request,
        };
        self.begin_planning(&worker);
        let plan = worker.plan(listener, self.client.origin, &frame.ask(key));
        // What goes to several places has to be seen whole first, as what is
        // answered in this process; it is counted then.
        let target = place_of(&plan, request.len());
        self.end_planning_upload(&worker, target);
        let rest = Rest::Bytes(request.len() - request.head);
        let body = bytes.get(request.head..).unwrap_or_default();
        let quiet = request.quiet && request.dialect == memcache::Dialect::Text;
        if self.denies(request.verb.name().as_bytes(), b"") {
            return self.refuse_quietly(quiet, rest, DENIED, body);
        }
        if worker.is_overloaded() {
            worker.shed();
            return self.refuse_quietly(quiet, rest, OVERLOADED, body);
        }
        match target {
            Some(Target::Send(server)) => match worker.lend_backend(server, resp::Version::Resp2) {
                Ok(sink) => {
                    let record = self.memcached_record(&request, target);
                    let seq = self.push_memcached(&request, record);
                    let entry = Entry::uploading(Rc::clone(&self.client), seq);
                    let pool = worker.pool_of_server(server);
                    let hash = self.note(&worker, pool, Access::Write, key);
                    let touch = hash.map_or(Touch::None, Touch::Write);
                    let touch = worker.heat.told(pool, touch, std::iter::once(key));
                    worker.forget_all_copies(&touch, server);
                    let entry = entry.touching(touch);
                    sink.push(&worker, entry, |out| {
                        memcache::forward(out, bytes, &request)
                    });
                    self.start(rest, sink, body);
                }
                Err(fault) => {
                    let text = fault.text(worker.server_name(server));
                    self.refuse_quietly(quiet, rest, &format!("SERVER_ERROR {text}"), body);
                }
            },
            _ if request.len() > KEPT_MAX => {
                self.refuse_quietly(quiet, rest, "SERVER_ERROR object too large for cache", body);
            }
            _ if !worker.has_room(request.len().saturating_sub(self.accounted)) => {
                worker.shed();
                self.refuse_quietly(quiet, rest, OVERLOADED, body);
            }
            _ => self.input = Some(input),
        }
    }

    /// As [`refuse_upload`](Self::refuse_upload) with this line, which a quiet
    /// request's client does not want to see.
    fn refuse_quietly(&mut self, quiet: bool, rest: Rest, line: &str, bytes: &[u8]) {
        if !quiet {
            self.answer(Record::default(), Verdict::Refused, |out| {
                memcache::encode::line(out, line)
            });
        }
        self.receipts = None;
        self.upload = Some(Box::new(Upload::swallow(rest)));
        self.pump(bytes);
    }

    fn begin(&mut self, rest: Rest, server: ServerId, record: Record, touch: Touch, bytes: &[u8]) {
        let worker = Rc::clone(&self.worker);
        match worker.lend_backend(server, self.client.wire.get().version()) {
            Ok(sink) => {
                let mute = self.mute();
                let seq = self.push(Shape::Plain, mute, record);
                worker.forget_all_copies(&touch, server);
                let entry = Entry::uploading(Rc::clone(&self.client), seq);
                sink.push(&worker, entry.touching(touch), |_| ());
                self.start(rest, sink, bytes);
            }
            Err(fault) => self.refuse_upload(rest, &fault.text(worker.server_name(server)), bytes),
        }
    }

    fn start(&mut self, rest: Rest, sink: Rc<Backend>, bytes: &[u8]) {
        self.upload = Some(Box::new(Upload {
            sink: Some(sink),
            ..Upload::swallow(rest)
        }));
        self.pump(bytes);
    }

    /// Answer with an error at once and throw the request away as it comes.
    fn refuse_upload(&mut self, rest: Rest, text: &str, bytes: &[u8]) {
        let wire = self.client.wire.get();
        if !self.mute() {
            self.answer(Record::default(), Verdict::Refused, |out| {
                wire.error(text, out);
            });
        }
        self.receipts = None;
        self.upload = Some(Box::new(Upload::swallow(rest)));
        self.pump(bytes);
    }

    /// Throw away what is to come, after an answer has been given.
    pub(super) fn swallow(&mut self, count: usize) {
        self.upload = Some(Box::new(Upload::swallow(Rest::Bytes(count))));
    }

    /// Pass on what has just been read.
    pub(super) fn pump(&mut self, bytes: &[u8]) {
        let Some(upload) = &mut self.upload else {
            return;
        };
        let mut joined = std::mem::take(&mut upload.tail);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let (len, done) = match upload.rest.feed(bytes) {
            Ok(fed) => fed,
            Err(text) => {
                self.abandon_upload();
                let wire = self.client.wire.get();
                self.answer(Record::default(), Verdict::Error, |out| {
                    wire.error(&text, out)
                });
                self.closing = true;
                return;
            }
        };
        let now = self.worker.now();
        self.client.since.set(now.max(1));
        if let Some(sink) = upload.sink.as_ref().filter(|sink| !sink.is_closed()) {
            sink.extend(bytes.get(..len).unwrap_or_default());
            if done {
                sink.settle(now);
            }
        }
        upload.done = done;
        let tail = bytes.get(len..).unwrap_or_default();
        if !done {
            upload.tail = tail.to_vec();
        } else {
            self.client.since.set(0);
            if !tail.is_empty() {
                let tail = tail.to_vec();
                self.keep(&tail, Stop::Wait);
            }
        }
    }

    /// See whether the upload has been answered; true if it is over.
    pub(super) fn poll_upload(&mut self) -> bool {
        let Some(upload) = &self.upload else {
            return false;
        };
        if !upload.done {
            if let Some(sink) = upload.sink.as_ref().filter(|_| !upload.has_room()) {
                sink.wait(&self.client);
            }
            return false;
        }
        if upload.sink.is_some() && self.client.outstanding() > 0 {
            return false;
        }
        if let Some(upload) = self.upload.take()
            && let Some(sink) = upload.sink
        {
            self.worker.return_backend(sink);
        }
        true
    }

    /// The client has gone, or lost the thread, in the middle of an upload.
    pub(super) fn abandon_upload(&mut self) {
        if let Some(upload) = self.upload.take()
            && let Some(sink) = upload.sink
        {
            if upload.done {
                self.worker.return_backend(sink);
            } else {
                sink.abandon();
            }
        }
    }
}
