//! Large values: taken apart when they are written, put together when they are
//! read.
//!
//! ```text
//!   write   piece, piece, ...  --all stored-->  head, in the value's place  --> its reply
//!                              --one is not-->                              --> its error
//!   read    the key  --a value-->                                           --> its reply
//!                    --a head-->   piece, piece, ...  --all there-->        --> the value
//!                                                     --one is not-->       --> a miss
//! ```
//!
//! The request itself is sent once, to the key itself: its conditions (NX, cas)
//! are decided there, and what it says of the old value (GETSET) is put
//! together like any other. Each piece is a small dispatch of its own through
//! the route's child, with failovers and whatever else stands there; for the
//! course above, all of it is one leg.
//!
//! Nothing is deleted here. Pieces of a value that has been overwritten, and of
//! one whose head was refused, end with their life.

mod head;
mod memcached;
mod redis;
mod role;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Outcome;
use emberline_routing::routes::BigValue;
use emberline_routing::{Change, Leg, Pieces, Plan};

use self::head::{Found, Head};
use self::role::Role;
use super::request::What;
use super::{Dispatch, Request, later};
use crate::metrics::Verdict;
use crate::server::worker::Worker;

/// Pieces of one value that are under way at the same time.
const AT_ONCE: usize = 16;

/// How long a piece waits for a server that has too much to do, and how often it
/// is looked whether it still has. It is longer than what clients wait before
/// their requests are taken up: this one has been, and whoever shares the server
/// with other large values comes late. A server that does not answer at all is
/// given up by its own timeouts, and has room then.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);

/// What a client is told whose value cannot be put together.
const FULL: &str = "the proxy's buffers are full, try again later";

/// What became of a part.
#[derive(Clone, Debug)]
pub enum Said<'a> {
    /// This was the reply.
    Reply(&'a [u8], Outcome),
    /// There is none, and why.
    Failed((String, Verdict), Outcome),
}

/// A dispatch that answers no client, but whoever puts a value together.
#[derive(Clone, Debug)]
pub struct Part {
    assembly: Rc<Assembly>,
    /// The piece's number; none for the request itself.
    piece: Option<usize>,
}

impl Part {
    /// It has ended.
    pub fn heard(&self, worker: &Rc<Worker>, said: Said<'_>) {
        match self.piece {
            None => self.assembly.asked(worker, said),
            Some(number) => self.assembly.piece(worker, number, said),
        }
    }

    /// Whether a client waits for it, or may.
    pub fn is_heard(&self) -> bool {
        self.assembly.is_heard()
    }
}

/// One value being taken apart or put together: a leg of a course.
#[derive(Debug)]
pub struct Assembly {
    dispatch: Rc<Dispatch>,
    leg: Leg,
    route: Arc<BigValue>,
    /// Where the key itself is, until it has been asked.
    way: RefCell<Option<Plan>>,
    /// What the tree above changes.
    change: Change,
    work: RefCell<Work>,
    /// The next piece to be sent, and its plan if that waits for room, since when.
    next: Cell<usize>,
    waiting: RefCell<Option<(Plan, u64)>>,
    pausing: Cell<bool>,
    out: Cell<usize>,
    sending: Cell<bool>,
    /// The client waits with what it asks next.
    holds: Cell<bool>,
    /// Bytes that are accounted for.
    held: Cell<usize>,
}

/// What is being done.
#[derive(Debug)]
enum Work {
    /// Pieces are being written; where in the request the value is.
    Store(Head, Range<usize>),
    /// The request itself is under way; the size of the value if it has gone
    /// into pieces.
    Ask(Option<usize>),
    /// Pieces are being read; the reply that had the head, and those that have
    /// come.
    Fetch(Head, Vec<u8>, Vec<Vec<u8>>),
    /// Nothing more.
    Over,
}

impl Assembly {
    /// Carry a leg out.
    pub fn begin(
        worker: &Rc<Worker>,
        dispatch: Rc<Dispatch>,
        leg: Leg,
        pieces: Pieces,
        change: &Change,
    ) {
        let role = dispatch.request.role();
        let assembly = Rc::new(Assembly {
            dispatch,
            leg,
            route: pieces.route,
            way: RefCell::new(Some(pieces.head)),
            // All else has been done where the leg was sent.
            change: Change {
                key: change.key.clone(),
                ttl: change.ttl,
                ..Change::default()
            },
            work: RefCell::new(Work::Ask(None)),
            next: Cell::new(0),
            waiting: RefCell::new(None),
            pausing: Cell::new(false),
            out: Cell::new(0),
            sending: Cell::new(false),
            holds: Cell::new(false),
            held: Cell::new(0),
        });
        let request = &assembly.dispatch.request;
        match role {
            Role::Refused => assembly.refuse(worker),
            Role::Writes { value, .. } if request.is_taken_apart(&value, &assembly.route) => {
                assembly.store(worker, value);
            }
            Role::Nothing | Role::Reads | Role::Writes { .. } => {
                let (plan, request) = (assembly.way.take(), request.asking());
                assembly.ask(worker, plan, request, None);
            }
        }
    }

    fn is_heard(&self) -> bool {
        self.dispatch.is_heard(self.leg)
    }

    fn refuse(self: &Rc<Self>, worker: &Rc<Worker>) {
        let text = format!(
            "route `{}` keeps large values in pieces, where {} cannot work",
            self.route.name(),
            self.dispatch.request.name().to_ascii_uppercase()
        );
        self.fail(worker, (text, Verdict::Refused), Outcome::Error);
    }

    fn store(self: &Rc<Self>, worker: &Rc<Worker>, value: Range<usize>) {
        let head = Head::new(self.dispatch.request.part(&value), self.route.chunk());
        self.hold(worker, head.len());
        // What the client asks next may be this key, whose head comes late. But
        // nobody waits for a shadow.
        if self.is_heard() {
            self.dispatch.reader.client.hold();
            self.holds.set(true);
        }
        self.work.replace(Work::Store(head, value));
        self.pump(worker);
    }

    /// Send the request itself.
    fn ask(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        plan: Option<Plan>,
        request: Option<Request>,
        in_pieces: Option<usize>,
    ) {
        let (Some(request), Some(plan)) = (request, plan) else {
            let text = "the request cannot be read again".to_owned();
            return self.fail(worker, (text, Verdict::Refused), Outcome::Error);
        };
        // A head lives no longer than its pieces.
        let change = match in_pieces {
            Some(_) => self.change.then(&Change::cap(self.route.ttl())),
            None => self.change.clone(),
        };
        self.work.replace(Work::Ask(in_pieces));
        self.send(worker, plan.edited(change), None, request);
        self.release();
    }

    /// The request itself has been answered.
    fn asked(self: &Rc<Self>, worker: &Rc<Worker>, said: Said<'_>) {
        let reply = match said {
            Said::Reply(reply, _) => reply,
            Said::Failed(why, outcome) => return self.fail(worker, why, outcome),
        };
        let found = match self.dispatch.request.value_in(reply) {
            Some(value) => Found::of(reply.get(value).unwrap_or_default()),
            None => Found::Value,
        };
        match found {
            Found::Value => self.tell(worker, reply.to_vec(), None),
            Found::Nonsense => self.tell(worker, reply.to_vec(), Some(None)),
            Found::Head(head) if !worker.has_room(head.len()) => {
                worker.shed();
                let why = (FULL.to_owned(), Verdict::Refused);
                self.fail(worker, why, Outcome::Error);
            }
            Found::Head(head) => {
                self.hold(worker, head.len());
                self.next.set(0);
                self.out.set(0);
                self.work
                    .replace(Work::Fetch(head, reply.to_vec(), Vec::new()));
                self.pump(worker);
            }
        }
    }

    /// Send as many pieces as may be under way.
    fn pump(self: &Rc<Self>, worker: &Rc<Worker>) {
        // Who answers at once must not be answered deeper and deeper.
        if self.sending.replace(true) {
            return;
        }
        while self.out.get() < AT_ONCE && self.send_next(worker) {}
        self.sending.set(false);
        if self.out.get() == 0 && self.has_sent_all() {
            self.complete(worker);
        }
    }

    fn has_sent_all(&self) -> bool {
        match &*self.work.borrow() {
            Work::Store(head, _) | Work::Fetch(head, ..) => self.next.get() >= head.count(),
            Work::Ask(_) | Work::Over => false,
        }
    }

    /// Send the next piece; false if there is none, or it has to wait.
    fn send_next(self: &Rc<Self>, worker: &Rc<Worker>) -> bool {
        let number = self.next.get();
        let (head, from) = match &*self.work.borrow() {
            Work::Store(head, value) if number < head.count() => (*head, Some(value.start)),
            Work::Fetch(head, ..) if number < head.count() => (*head, None),
            _ => return false,
        };
        let request = &self.dispatch.request;
        let item = self.change.key.as_deref().unwrap_or(request.key());
        let key = head.key(item, number, !request.is_redis());
        let range = head.range(number);
        let plan = self.plan(worker, &key, from.map(|_| range.len()));
        let Some(plan) = self.has_room(worker, plan, from.is_none()) else {
            return false;
        };
        let made = match from {
            Some(start) => request.storing(&key, &(start + range.start..start + range.end)),
            None => request.fetching(&key),
        };
        let Some(made) = made else {
            let text = "the request cannot be read again".to_owned();
            self.fail(worker, (text, Verdict::Refused), Outcome::Error);
            return false;
        };
        let change = Change {
            ttl: self.change.then(&Change::cap(self.route.ttl())).ttl,
            ..Change::default()
        };
        self.next.set(number + 1);
        self.out.set(self.out.get() + 1);
        let plan = match from {
            Some(_) => plan.edited(change),
            None => plan,
        };
        self.send(worker, plan, Some(number), made);
        true
    }

    /// The plan for a piece, and since when it waits.
    fn plan(&self, worker: &Worker, key: &[u8], size: Option<usize>) -> (Plan, u64) {
        if let Some(waited) = self.waiting.take() {
            return waited;
        }
        let client = self.dispatch.reader.client.origin;
        let plan = self.route.plan_piece(key, size, &worker.conditions(client));
        (plan, worker.now())
    }

    /// The plan, if its servers have room or have had their time; or else it
    /// waits.
    fn has_room(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        (plan, since): (Plan, u64),
        read: bool,
    ) -> Option<Plan> {
        let client = &self.dispatch.reader.client;
        let (version, id) = (client.wire().version(), client.id);
        let full = plan.waits_for(read, &mut |server| {
            let backend = worker.backend(server, version, id);
            backend.is_ok_and(|backend| backend.is_full())
        });
        let waited = Duration::from_nanos(worker.now().saturating_sub(since));
        // Whoever has waited long enough is sent on, and told by its course.
        if full.is_none() || waited >= PATIENCE {
            return Some(plan);
        }
        self.waiting.replace(Some((plan, since)));
        if !self.pausing.replace(true) {
            let (this, worker) = (Rc::clone(self), Rc::clone(worker));
            later(PAUSE, move || {
                worker.tick();
                this.pausing.set(false);
                this.pump(&worker);
            });
        }
        None
    }

    fn send(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        plan: Plan,
        piece: Option<usize>,
        request: Request,
    ) {
        let part = Part {
            assembly: Rc::clone(self),
            piece,
        };
        let reader = self.dispatch.reader.clone();
        worker.carry_out(plan, reader, Some(part), request);
    }

    /// A piece has been written, or read.
    fn piece(self: &Rc<Self>, worker: &Rc<Worker>, number: usize, said: Said<'_>) {
        let ended = match &mut *self.work.borrow_mut() {
            Work::Store(..) => unstored(said),
            Work::Fetch(head, _, parts) => {
                let wanted = head.range(number).len();
                unfetched(&self.dispatch.request, said, wanted, number, parts)
            }
            Work::Ask(_) | Work::Over => return,
        };
        self.out.set(self.out.get().saturating_sub(1));
        match ended {
            None => self.pump(worker),
            Some(Ended::Failed(why, outcome)) => self.fail(worker, why, outcome),
            Some(Ended::Refused(reply)) => self.conclude(worker, &reply),
            Some(Ended::Gone) => self.gone(worker),
        }
    }

    /// A piece is missing: so is the value.
    fn gone(self: &Rc<Self>, worker: &Rc<Worker>) {
        if let Work::Fetch(_, reply, _) = self.work.replace(Work::Over) {
            self.tell(worker, reply, Some(None));
        }
    }

    /// All pieces have been sent and answered.
    fn complete(self: &Rc<Self>, worker: &Rc<Worker>) {
        let stored = match &*self.work.borrow() {
            Work::Store(head, _) => Some(*head),
            _ => None,
        };
        if let Some(head) = stored {
            return self.write_head(worker, &head);
        }
        if let Work::Fetch(head, reply, parts) = self.work.replace(Work::Over) {
            let value = parts.concat();
            let whole = head.is_of(&value).then_some(value);
            self.tell(worker, reply, Some(whole));
        }
    }

    /// The head waits for room as pieces do.
    fn write_head(self: &Rc<Self>, worker: &Rc<Worker>, head: &Head) {
        let begun = || Some((self.way.take()?, worker.now()));
        let Some(plan) = self.waiting.take().or_else(begun) else {
            return;
        };
        if let Some(plan) = self.has_room(worker, plan, false) {
            let request = self.dispatch.request.headed(&head.encode());
            self.ask(worker, Some(plan), request, Some(head.len()));
        }
    }

    /// Answer with the reply of the request itself, in which the value takes
    /// its head's place.
    fn tell(self: &Rc<Self>, worker: &Rc<Worker>, reply: Vec<u8>, whole: Option<Option<Vec<u8>>>) {
        let size = match &*self.work.borrow() {
            Work::Ask(size) => *size,
            _ => None,
        };
        let version = self.dispatch.reader.client.wire().version();
        let request = &self.dispatch.request;
        let told = match (&request.what, size) {
            (What::Redis(command), _) => {
                redis::told(command, &request.bytes, reply, whole, version)
            }
            (What::Memcached { verb, .. }, Some(size)) => memcached::stored(*verb, reply, size),
            (What::Memcached { verb, .. }, None) => {
                memcached::told(*verb, &request.bytes, reply, whole)
            }
        };
        self.conclude(worker, &told);
    }

    fn conclude(self: &Rc<Self>, worker: &Rc<Worker>, reply: &[u8]) {
        self.end(worker);
        self.dispatch.answered(worker, self.leg, reply);
    }

    fn fail(self: &Rc<Self>, worker: &Rc<Worker>, why: (String, Verdict), outcome: Outcome) {
        self.end(worker);
        let change = self.dispatch.change(self.leg).unwrap_or_default();
        self.dispatch
            .settle_failed(worker, self.leg, &change, why, outcome);
    }

    fn end(&self, worker: &Worker) {
        self.work.replace(Work::Over);
        self.waiting.take();
        self.release();
        worker.account(self.held.take(), 0);
    }

    fn hold(&self, worker: &Worker, len: usize) {
        worker.account(self.held.replace(len), len);
    }

    fn release(&self) {
        if self.holds.take() {
            self.dispatch.reader.client.release();
        }
    }
}

/// How a piece ends it all.
enum Ended {
    Failed((String, Verdict), Outcome),
    /// This is what the server said.
    Refused(Vec<u8>),
    Gone,
}

/// Why a piece has not been stored; `None` if it has.
fn unstored(said: Said<'_>) -> Option<Ended> {
    match said {
        Said::Reply(_, Outcome::Done) => None,
        Said::Reply(reply, Outcome::Error | Outcome::Busy) => Some(Ended::Refused(reply.to_vec())),
        Said::Reply(_, outcome) => {
            let text = "a piece of the value has not been stored".to_owned();
            Some(Ended::Failed((text, Verdict::Error), outcome))
        }
        Said::Failed(why, outcome) => Some(Ended::Failed(why, outcome)),
    }
}

/// Why a piece has not been read; `None` if it has, and is kept in `parts`.
fn unfetched(
    request: &Request,
    said: Said<'_>,
    wanted: usize,
    number: usize,
    parts: &mut Vec<Vec<u8>>,
) -> Option<Ended> {
    let reply = match said {
        Said::Reply(reply, Outcome::Error | Outcome::Busy) => {
            return Some(Ended::Refused(reply.to_vec()));
        }
        Said::Reply(reply, _) => reply,
        Said::Failed(why, outcome) => return Some(Ended::Failed(why, outcome)),
    };
    let range = request
        .value_in(reply)
        .filter(|value| value.len() == wanted);
    let Some(piece) = range.and_then(|range| reply.get(range)) else {
        return Some(Ended::Gone);
    };
    if parts.len() <= number {
        parts.resize_with(number + 1, Vec::new);
    }
    parts[number] = piece.to_vec();
    None
}
