//! Carries plans out: sends a request to the places that its plan says, and
//! answers the client with the reply that counts.
//!
//! ```text
//!   Plan -> Course --Send--> backend, as an errand --reply or fault--> Course
//!                 --Answer-> the client's slot        (once)
//!                 --Refill-> a copy, behind everybody's back
//!                 --Wait---> a timer
//! ```
//!
//! What to do next is decided by the [`Course`] alone; here is nothing but
//! sending, keeping replies until one is chosen, and passing it on. Where what
//! is sent depends on the value, a leg is an [`Assembly`] of [`pieces`]. A request
//! whose plan is one place as it came never gets here.

mod durable;
mod owed;
mod pieces;
pub mod refill;
mod request;
mod tab;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use emberline_hotkey::{Access, KeyHash};
use emberline_protocol::{Kind, Outcome};
use emberline_routing::{
    Act, Canned, Change, Course, Leg, Plan, ServerId, Source, StateId, Target,
};
use tracing::info;

use super::Hub;
use super::backend::Entry;
use super::client::Client;
use super::errand::Errand;
use super::fault::Fault;
use super::flight::Waiter;
use super::form::Form;
use super::heat::Touch;
use super::worker::Worker;

use crate::metrics::Verdict;
use pieces::{Assembly, Part, Said};

pub use owed::Owed;
pub use refill::{Graves, Refilling};
pub use request::Request;
use tab::Tab;

/// A reply that is kept because it may be the answer: more of it is not.
const KEPT_MAX: usize = 32 * 1024 * 1024;

/// The same for a part of something: a request of that size was kept, and its
/// reply may say more of it.
const PART_MAX: usize = KEPT_MAX + 64 * 1024;

/// From here on it is decided by a reply's beginning whether it is the answer,
/// so that it can be passed on as it comes.
const DECIDED_FROM: usize = 64 * 1024;

/// A slot, or a part of one, that waits for its answer.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Whose it is.
    pub client: Rc<Client>,
    /// Its slot.
    pub seq: u64,
    /// Which part of it.
    pub fragment: u32,
}

/// One request under way.
#[derive(Debug)]
pub struct Dispatch {
    reader: Reader,
    /// Who is answered instead, if this is a part of something.
    part: Option<Part>,
    request: Request,
    course: RefCell<Course>,
    replies: RefCell<Vec<Reply>>,
    /// When it began, in the worker's nanoseconds.
    since: u64,
    /// What it has cost so far to ask others as well.
    tab: Tab,
    /// Whose reply is the answer, once that is known and it has not come whole.
    chosen: Cell<Option<Leg>>,
}

/// What has come of one leg.
#[derive(Debug, Default)]
struct Reply {
    leg: u16,
    bytes: Vec<u8>,
    whole: bool,
    /// Why there is none.
    fault: Option<(String, Verdict)>,
    /// It is the proxy's own: a delete that the server has not heard of yet.
    owed: bool,
}

/// What is to become of a reply of which more is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is kept until it is whole.
    Kept,
    /// It is the answer: the rest goes straight to the client.
    Answer,
    /// Nobody wants it.
    Unwanted,
}

impl Worker {
    /// Carry a plan out, and answer `reader`.
    pub fn dispatch(self: &Rc<Worker>, plan: Plan, reader: Reader, request: Request) {
        self.carry_out(plan, reader, None, request);
    }

    /// The same for `reader`, but it is answered by who asked for this part.
    fn carry_out(
        self: &Rc<Worker>,
        mut plan: Plan,
        reader: Reader,
        part: Option<Part>,
        request: Request,
    ) {
        plan.leave_pieces(&|route| request.concerns_pieces(route));
        let tab = Tab::open(self, &plan, request.kind() == Kind::Read);
        // What nobody waits for is answered by the proxy, if it can be.
        if plan.is_unheard() && !request.is_acceptable() {
            plan = plan.heard();
        }
        let course = Course::new(plan, request.kind());
        let dispatch = Rc::new(Dispatch {
            reader,
            part,
            request,
            course: RefCell::new(course),
            replies: RefCell::default(),
            since: self.now(),
            tab,
            chosen: Cell::new(None),
        });
        dispatch.advance(self, Course::start);
    }
}

impl Dispatch {
    /// The whole reply of a leg.
    pub fn answered(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg, reply: &[u8]) {
        let change = self.change(leg).unwrap_or_default();
        let outcome = self.request.outcome(&change, reply);
        let outcome = outcome.unwrap_or(Outcome::Error);
        let absent = outcome == Outcome::Miss && self.request.proves_absence(reply);
        self.remember(worker, &change, absent);
        if self.chosen.get() == Some(leg) {
            self.chosen.set(None);
            return self.tell(worker, reply);
        }
        if self.course.borrow().may_answer(leg) {
            self.keep(leg, |kept| {
                kept.bytes.clear();
                kept.bytes.extend_from_slice(reply);
                kept.whole = true;
            });
        }
        self.settle(worker, leg, outcome);
    }

    /// A leg has no reply.
    pub fn failed(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg, fault: &Fault) {
        let server = match self.course.borrow().place(leg) {
            Some((Target::Send(server), _)) => Some(server),
            _ => None,
        };
        let name = server.map_or("", |server| worker.server_name(server));
        let (text, verdict) = (fault.text(name), fault.verdict());
        if self.chosen.get() == Some(leg) {
            self.chosen.set(None);
            return self.tell_failed(worker, &text, verdict);
        }
        if self.write_down(worker, leg, server, fault) {
            return;
        }
        let change = self.change(leg).unwrap_or_default();
        self.settle_failed(worker, leg, &change, (text, verdict), fault.outcome());
    }

    fn settle_failed(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        leg: Leg,
        change: &Change,
        said: (String, Verdict),
        outcome: Outcome,
    ) {
        self.keep(leg, |kept| kept.fault = Some(said));
        self.remember(worker, change, false);
        self.settle(worker, leg, outcome);
    }

    /// More of a leg's reply has come, and it is not whole: `reply` is all of
    /// it so far.
    pub fn hear(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg, reply: &[u8]) -> Heard {
        if reply.len() < DECIDED_FROM {
            return Heard::Kept;
        }
        if self.part.is_some() {
            return self.hear_part(worker, leg, reply.len());
        }
        if self.chosen.get().is_none()
            && self.course.borrow().may_answer(leg)
            && !self.request.is_edited_back(self.change(leg).as_ref())
            && let Some(change) = self.change(leg)
            && let Some(outcome) = self.request.outcome(&change, reply)
        {
            self.settle(worker, leg, outcome);
        }
        match self.chosen.get() {
            Some(chosen) if chosen == leg => {
                self.chosen.set(None);
                Heard::Answer
            }
            _ if !self.course.borrow().may_answer(leg) => {
                self.settle(worker, leg, Outcome::Error);
                Heard::Unwanted
            }
            _ if reply.len() > KEPT_MAX => {
                let text = format!("the reply is longer than {KEPT_MAX} bytes, and would be kept");
                self.keep(leg, |kept| kept.fault = Some((text, Verdict::Unavailable)));
                self.settle(worker, leg, Outcome::Error);
                Heard::Unwanted
            }
            _ => Heard::Kept,
        }
    }

    /// A part of something is looked at when it is whole.
    fn hear_part(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg, len: usize) -> Heard {
        if len <= PART_MAX && self.course.borrow().may_answer(leg) {
            return Heard::Kept;
        }
        let text = "the value is larger than what the proxy puts together".to_owned();
        self.keep(leg, |kept| kept.fault = Some((text, Verdict::Refused)));
        self.settle(worker, leg, Outcome::Error);
        Heard::Unwanted
    }

    /// The client that waits for a leg, and may send nothing while a
    /// connection that is being given up owes it the reply.
    pub fn client(&self) -> &Rc<Client> {
        &self.reader.client
    }

    /// The same, for a reply that is passed on as it comes.
    pub fn waiter(&self) -> Waiter {
        let Reader {
            client,
            seq,
            fragment,
        } = self.reader.clone();
        Waiter {
            client,
            seq,
            fragment,
            form: Form::Bulk,
            detour: None,
        }
    }

    fn settle(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg, outcome: Outcome) {
        // Who is known to be down costs nobody anything.
        if matches!(outcome, Outcome::Timeout | Outcome::Lost) {
            self.tab.pay_from_here();
        }
        self.advance(worker, |course, acts| course.settle(leg, outcome, acts));
    }

    fn advance(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        step: impl FnOnce(&mut Course, &mut Vec<Act>),
    ) {
        let mut acts = Vec::new();
        step(&mut self.course.borrow_mut(), &mut acts);
        for act in acts {
            self.perform(worker, act);
        }
    }

    fn perform(self: &Rc<Self>, worker: &Rc<Worker>, act: Act) {
        match act {
            Act::Send(leg) => self.send(worker, leg),
            Act::Answer(source) => self.answer(worker, source),
            Act::Spend(pause, state) => {
                let paid = worker.states.spend(state);
                self.advance(worker, |course, acts| course.paid(pause, paid, acts));
            }
            Act::Wait(pause, after) => self.wait(worker, pause, after),
            Act::Learn { state, hit } => worker.states.learn(state, hit),
            Act::Refill {
                from,
                to,
                cap,
                tombstone,
            } => self.refill(worker, from, to, (cap, tombstone)),
        }
    }

    /// Whether a client waits for a leg, or may.
    fn is_heard(&self, leg: Leg) -> bool {
        let whole = self.part.as_ref().is_none_or(Part::is_heard);
        whole && self.course.borrow().may_answer(leg)
    }

    fn change(&self, leg: Leg) -> Option<Change> {
        let course = self.course.borrow();
        course.place(leg).map(|(_, change)| change.clone())
    }

    fn send(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg) {
        let Some(change) = self.change(leg) else {
            return;
        };
        if let Some(name) = &change.log {
            self.log(worker, name, change.log_keys);
        }
        match change.delay {
            None => self.send_now(worker, leg),
            Some(delay) => {
                let (this, worker) = (Rc::clone(self), Rc::clone(worker));
                later(delay, move || {
                    worker.tick();
                    this.send_now(&worker, leg);
                });
            }
        }
    }

    fn send_now(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg) {
        let place = self.course.borrow();
        let Some((target, change)) = place.place(leg) else {
            return;
        };
        let change = change.clone();
        let pieces = place.pieces(leg).cloned();
        drop(place);
        let heard = self.is_heard(leg);
        if change.withheld {
            return self.withhold(worker, leg, target);
        }
        if self.is_absent(worker, &change) {
            self.keep(leg, |kept| {
                let wire = self.reader.client.wire();
                self.request.canned(&Canned::Null, wire, &mut kept.bytes);
                kept.whole = true;
            });
            return self.settle(worker, leg, Outcome::Miss);
        }
        self.bury(worker, &change);
        if !self.tab.charge(worker, leg, target) {
            let text = "too many requests are being tried again".to_owned();
            self.keep(leg, |kept| kept.fault = Some((text, Verdict::Unavailable)));
            return self.settle(worker, leg, Outcome::Down);
        }
        if let Some(pieces) = pieces {
            return Assembly::begin(worker, Rc::clone(self), leg, pieces, &change);
        }
        let mut bytes = worker.scratch.take();
        bytes.clear();
        let written = self
            .request
            .write(&change, worker.unix_millis(), &mut bytes);
        match (written, target) {
            (Err(text), _) => {
                self.keep(leg, |kept| kept.fault = Some((text, Verdict::Refused)));
                self.settle(worker, leg, Outcome::Error);
            }
            (Ok(()), Target::Answer(pool)) => {
                let mut reply = Vec::new();
                let version = self.reader.client.wire().version();
                self.request
                    .answer_local(worker, pool, &bytes, version, &mut reply);
                self.answered(worker, leg, &reply);
            }
            (Ok(()), Target::Send(server)) => {
                self.push(worker, leg, server, &change, heard, &bytes);
            }
        }
        worker.scratch.replace(bytes);
    }

    fn push(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        leg: Leg,
        server: ServerId,
        change: &Change,
        heard: bool,
        bytes: &[u8],
    ) {
        let client = &self.reader.client;
        let backend = match worker.backend(server, client.wire().version(), client.id) {
            Ok(backend) if !backend.is_full() => backend,
            Ok(_) => {
                let text = format!(
                    "server {} has too many requests in flight",
                    worker.server_name(server)
                );
                self.unsent(worker, server, change);
                self.keep(leg, |kept| kept.fault = Some((text, Verdict::Unavailable)));
                return self.settle(worker, leg, Outcome::Busy);
            }
            Err(fault) => {
                self.unsent(worker, server, change);
                return self.failed(worker, leg, &fault);
            }
        };
        if self.keys(change).any(|key| worker.withholds(server, key)) {
            return self.failed(worker, leg, &Fault::Pending);
        }
        worker.pay_first(&backend, self.keys(change));
        let touch = self.touch(worker, server, change);
        let errand = Errand::Leg {
            dispatch: Rc::clone(self),
            leg,
            heard,
        };
        let entry = Entry::errand(errand, worker.now()).touching(touch);
        backend.push(worker, entry, |out| out.extend_from_slice(bytes));
    }

    /// What the L1 has to know of a leg.
    fn touch(&self, worker: &Rc<Worker>, server: ServerId, change: &Change) -> Touch {
        let (pool, keys) = (worker.pool_of_server(server), self.keys(change));
        let mut hashes = worker.heat.lend_hashes();
        hashes.extend(keys.clone().filter_map(|key| worker.heat.hash(pool, key)));
        let touch = match (self.request.kind(), hashes.as_slice()) {
            (_, []) => Touch::None,
            (Kind::Read, [hash]) => worker.heat.touch_read(pool, *hash),
            (Kind::Read, _) => worker.heat.touch_many(pool, Access::Read, hashes),
            (_, [hash]) => Touch::Write(*hash),
            (..) => worker.heat.touch_many(pool, Access::Write, hashes),
        };
        worker.forget_all_copies(&touch, server);
        worker.heat.told(pool, touch, keys)
    }

    /// The keys that are sent with this change.
    fn keys<'a>(&'a self, change: &'a Change) -> impl Iterator<Item = &'a [u8]> + Clone {
        change.keys(self.request.key())
    }

    /// This is what the client is told.
    fn answer(self: &Rc<Self>, worker: &Rc<Worker>, source: Source) {
        let leg = match source {
            Source::Leg(leg) => leg,
            Source::Canned(canned) => return self.tell_canned(worker, &canned),
        };
        let mut replies = self.replies.borrow_mut();
        let found = replies.iter_mut().find(|reply| reply.leg == leg.0);
        let mut reply = found.map(std::mem::take).unwrap_or_default();
        drop(replies);
        if reply.owed {
            reply.fault = self.unwritten();
        }
        self.replies.borrow_mut().clear();
        self.tab.give_back(worker, leg);
        match reply {
            Reply {
                fault: Some((text, verdict)),
                ..
            } => self.tell_failed(worker, &text, verdict),
            Reply {
                whole: true, bytes, ..
            } => {
                let change = self.change(leg).unwrap_or_default();
                self.tell(worker, &self.request.restore(&change, bytes));
            }
            // It was decided by its beginning; the rest is still coming.
            Reply { .. } => self.chosen.set(Some(leg)),
        }
    }

    fn tell(&self, worker: &Rc<Worker>, reply: &[u8]) {
        if let Some(part) = &self.part {
            return part.heard(worker, Said::Reply(reply, self.outcome()));
        }
        let Reader {
            client,
            seq,
            fragment,
        } = &self.reader;
        client.deliver(worker, *seq, *fragment, reply, true);
    }

    fn tell_failed(&self, worker: &Rc<Worker>, text: &str, verdict: Verdict) {
        if let Some(part) = &self.part {
            let said = (text.to_owned(), verdict);
            return part.heard(worker, Said::Failed(said, self.outcome()));
        }
        let Reader {
            client,
            seq,
            fragment,
        } = &self.reader;
        client.fail(worker, *seq, *fragment, text, verdict);
    }

    /// What became of the whole.
    fn outcome(&self) -> Outcome {
        self.course.borrow().outcome().unwrap_or(Outcome::Error)
    }

    fn tell_canned(&self, worker: &Rc<Worker>, canned: &Canned) {
        if let Canned::Error(text) | Canned::Busy(text) = canned {
            return self.tell_failed(worker, text, Verdict::Refused);
        }
        let mut reply = Vec::new();
        let wire = self.reader.client.wire();
        self.request.canned(canned, wire, &mut reply);
        self.tell(worker, &reply);
    }

    fn keep(&self, leg: Leg, write: impl FnOnce(&mut Reply)) {
        let mut replies = self.replies.borrow_mut();
        let at = replies.iter().position(|reply| reply.leg == leg.0);
        let at = at.unwrap_or_else(|| {
            replies.push(Reply {
                leg: leg.0,
                ..Reply::default()
            });
            replies.len() - 1
        });
        write(&mut replies[at]);
    }

    fn refill(
        &self,
        worker: &Rc<Worker>,
        from: Leg,
        to: Vec<(ServerId, Change)>,
        how: (Option<Duration>, Option<StateId>),
    ) {
        let course = self.course.borrow();
        let Some((Target::Send(source), change)) = course.place(from) else {
            return;
        };
        let key = change.key.as_deref().unwrap_or(self.request.key());
        refill::begin(worker, &self.request, (source, key), to, how);
    }
}

/// What is remembered of keys beyond one request.
impl Dispatch {
    /// The keys that are sent, as they are marked for one route.
    fn marks(&self, worker: &Worker, change: &Change, state: StateId) -> Vec<KeyHash> {
        let keys = self.keys(change);
        keys.map(|key| worker.mark(state, key)).collect()
    }

    /// A leg is about to be sent: what it changes is not brought back by copies
    /// that are under way, and is not absent any more.
    fn bury(&self, worker: &Worker, change: &Change) {
        for mark in &change.tombstones {
            for key in self.marks(worker, change, mark.state) {
                worker.hub.bury(key, worker.now(), mark.life);
            }
        }
        self.remember(worker, change, false);
    }

    /// Whether it is known that a read would find nothing. Of several keys it
    /// is not asked: what is found without one of them depends on the command.
    fn is_absent(&self, worker: &Worker, change: &Change) -> bool {
        let read = self.request.kind() == Kind::Read;
        change.absent.filter(|_| read).is_some_and(|absent| {
            match self.marks(worker, change, absent.state)[..] {
                [key] => worker.hub.absences.has(key, worker.now()),
                _ => false,
            }
        })
    }

    /// A read has found that there is no such key (not: nothing of what it
    /// looked for in it), or something else has been done to the key.
    fn remember(&self, worker: &Worker, change: &Change, is_absent: bool) {
        let Some(absent) = change.absent else { return };
        let (keys, now) = (self.marks(worker, change, absent.state), worker.now());
        match (self.request.kind(), is_absent) {
            (Kind::Read, true) => {
                // Unless somebody has written it since this was asked.
                if let [key] = keys[..]
                    && !worker.hub.graves.has(key, self.since)
                {
                    // Where there is no room, the far tier is asked again.
                    let _ = worker.hub.absences.dig(key, now, absent.life);
                }
            }
            (Kind::Read, _) => {}
            _ => keys.into_iter().for_each(|key| {
                worker.hub.bury(key, now, absent.life);
                worker.hub.absences.fill_in(key);
            }),
        }
    }

    /// It is not sent; nobody answers in time.
    fn withhold(self: &Rc<Self>, worker: &Rc<Worker>, leg: Leg, target: Target) {
        let timeout = worker.pool(worker.pool_of_target(target)).timeout_request;
        let (this, worker) = (Rc::clone(self), Rc::clone(worker));
        later(timeout, move || {
            worker.tick();
            this.failed(&worker, leg, &Fault::Timeout);
        });
    }

    fn log(&self, worker: &Worker, route: &str, plain: bool) {
        let key = match plain {
            true => self.request.key().escape_ascii().to_string(),
            false => format!("{:016x}", worker.heat.l1.hasher.hash(self.request.key()).0),
        };
        info!(route, key, command = self.request.name(), "request");
    }
}

impl Hub {
    /// Copies of this key that are under way are not made; where there is no
    /// room to remember it, none are.
    fn bury(&self, key: KeyHash, now: u64, life: Duration) {
        if !self.graves.dig(key, now, life) {
            self.graves.dig_all(now, life);
        }
    }
}

impl Worker {
    /// Everything is about to be deleted: no copy that is under way brings
    /// anything back.
    pub fn bury_all(&self) {
        self.hub.graves.dig_all(self.now(), refill::BURIED);
    }
}

/// Do something after a while, on this thread.
pub fn later(after: Duration, work: impl FnOnce() + 'static) {
    tokio::task::spawn_local(async move {
        tokio::time::sleep(after).await;
        work();
    });
}
