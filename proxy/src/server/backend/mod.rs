//! One live connection to a server, shared by all clients of a worker.
//!
//! Requests are appended to `out` and an [`Entry`] to `fifo`; the server
//! answers in that order, so the entry at the front says whose the next reply
//! is. Nothing else connects replies to requests: a connection whose order can
//! no longer be trusted is discarded, never repaired.
//!
//! ```text
//!              first request                handshake queued, then requests
//!   (none) ------------------> connecting ------------------> open
//!                                  | refused, timed out         |  |
//!                                  v                            |  | a reply is late, or a slow
//!                               closed <------------------------+  | reader holds up the rest
//!                                  ^    reset, garbage, silence    v
//!                                  +---------------------------- retired
//!                                         its last entry ends
//! ```
//!
//! A *retired* connection takes no new request; what is in flight may still be
//! answered. Until then its clients are held: they send nothing further, so
//! that no later request of theirs can overtake an earlier one.

mod link;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};

use emberline_protocol::redis::encode::{self, Version};
use emberline_routing::ServerId;

use super::client::Client;
use super::errand::Errand;
use super::fault::Fault;
use super::heat::Touch;
use super::worker::Worker;
use crate::running::{Pool, Protocol};

/// Requests waiting to be written above which uploads pause.
pub const OUT_HIGH: usize = 256 * 1024;

/// Requests waiting to be written above which clients have to wait.
const OUT_FULL: usize = 1024 * 1024;

/// One request whose reply has not come.
#[derive(Debug)]
pub struct Entry {
    owner: Owner,
    /// When it was sent, or last made progress, in the worker's nanoseconds.
    since: u64,
    /// The owner may send nothing until this entry has ended.
    holds: bool,
    /// The keys that it concerns.
    touch: Touch,
}

#[derive(Debug)]
enum Owner {
    /// A client's request, or a fragment of one.
    Client {
        client: Rc<Client>,
        seq: u64,
        fragment: u32,
    },
    /// A request whose reply the proxy looks at itself, and what has come of
    /// that.
    Errand(Box<Errand>, Vec<u8>),
    /// Our own first words; an error in reply ends the connection.
    Handshake(Vec<u8>),
    /// Already answered with an error: the reply is thrown away.
    Nobody,
}

impl Entry {
    /// The entry of a client's request.
    pub fn new(client: Rc<Client>, seq: u64, fragment: u32, now: u64) -> Entry {
        Entry {
            owner: Owner::Client {
                client,
                seq,
                fragment,
            },
            since: now,
            holds: false,
            touch: Touch::None,
        }
    }

    /// The entry of a request whose reply the proxy looks at itself.
    pub fn errand(errand: Errand, now: u64) -> Entry {
        Entry {
            owner: Owner::Errand(Box::new(errand), Vec::new()),
            since: now,
            holds: false,
            touch: Touch::None,
        }
    }

    /// The entry of a request whose reply nobody wants.
    pub fn unheard(now: u64) -> Entry {
        Entry {
            owner: Owner::Nobody,
            since: now,
            holds: false,
            touch: Touch::None,
        }
    }

    /// The same, of a request that concerns these keys.
    pub fn touching(mut self, touch: Touch) -> Entry {
        self.touch = touch;
        self
    }

    /// The entry of a request whose bytes are still coming: its time does not
    /// run before [`Backend::settle`].
    pub fn uploading(client: Rc<Client>, seq: u64) -> Entry {
        Entry::new(client, seq, 0, u64::MAX / 4)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Retired,
    Closed,
}

/// See the module's description.
#[derive(Debug)]
pub struct Backend {
    /// The server it leads to.
    pub server: ServerId,
    version: Version,
    phase: Cell<Phase>,
    fifo: RefCell<VecDeque<Entry>>,
    out: RefCell<Out>,
    inflight_max: usize,
    /// Clients that wait for room in `fifo` or `out`.
    waiting: RefCell<Vec<Rc<Client>>>,
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
}

#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    sent: usize,
}

impl Backend {
    /// Open a connection: its task connects, and requests may be queued at once.
    pub fn open(worker: &Rc<Worker>, server: ServerId, version: Version) -> Rc<Backend> {
        let pool = worker.pool_of(server);
        let backend = Rc::new(Backend {
            server,
            version,
            phase: Cell::new(Phase::Open),
            fifo: RefCell::default(),
            out: RefCell::default(),
            inflight_max: pool.inflight_max,
            waiting: RefCell::default(),
            waker: RefCell::default(),
            woken: Cell::new(false),
        });
        backend.queue_handshake(worker, pool);
        tokio::task::spawn_local(link::run(Rc::clone(worker), Rc::clone(&backend)));
        backend
    }

    /// Whether new requests may be sent on it.
    pub fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.phase.get() == Phase::Closed
    }

    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.fifo.borrow().is_empty() && self.out.borrow().bytes.is_empty()
    }

    /// Whether clients should wait before they send more.
    pub fn is_full(&self) -> bool {
        self.fifo.borrow().len() >= self.inflight_max || self.unsent() >= OUT_FULL
    }

    /// Requests in flight.
    pub fn inflight(&self) -> usize {
        self.fifo.borrow().len()
    }

    /// Bytes not yet written to the server.
    pub fn unsent(&self) -> usize {
        let out = self.out.borrow();
        out.bytes.len() - out.sent
    }

    /// Wake `client` when there is room again.
    pub fn wait(&self, client: &Rc<Client>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|other| Rc::ptr_eq(other, client)) {
            waiting.push(Rc::clone(client));
        }
    }

    /// Queue a request: `write` appends its bytes.
    pub fn push(&self, worker: &Worker, entry: Entry, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out.borrow_mut().bytes);
        worker.heat.sent(&entry.touch, &worker.meter);
        self.fifo.borrow_mut().push_back(entry);
        worker.meter.upstream_inflight(self.server, 1);
        self.wake();
    }

    /// Queue more bytes of the request that was pushed last.
    pub fn extend(&self, bytes: &[u8]) {
        self.out.borrow_mut().bytes.extend_from_slice(bytes);
        self.wake();
    }

    /// The request that was pushed last is whole: its time runs from here.
    pub fn settle(&self, now: u64) {
        if let Some(entry) = self.fifo.borrow_mut().back_mut() {
            entry.since = now;
        }
        self.wake();
    }

    /// The protocol version that it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Take no further requests; end when the last one in flight has ended.
    pub fn retire(&self) {
        if self.phase.get() != Phase::Open {
            return;
        }
        self.phase.set(Phase::Retired);
        for entry in self.fifo.borrow_mut().iter_mut() {
            match &entry.owner {
                Owner::Client { client, .. } => client.hold(),
                Owner::Errand(errand, _) => errand.each_client(Client::hold),
                Owner::Handshake(_) | Owner::Nobody => continue,
            }
            entry.holds = true;
        }
        self.release_waiting();
        self.wake();
    }

    /// End now: what is in flight is answered with an error.
    pub fn abandon(&self) {
        self.retire();
        self.phase.set(Phase::Closed);
        self.wake();
    }

    /// Let the connection's task run.
    pub fn wake(&self) {
        if !self.woken.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    fn queue_handshake(&self, worker: &Worker, pool: &Pool) {
        if pool.protocol == Protocol::Memcached {
            return;
        }
        let user = pool.username.as_deref().unwrap_or("default");
        let password = pool.password.as_ref().map(|secret| secret.reveal());
        let database = pool.database.to_string();
        let mut commands: Vec<Vec<&str>> = Vec::new();
        match (self.version, password) {
            (Version::Resp3, Some(password)) => {
                commands.push(vec!["HELLO", "3", "AUTH", user, password]);
            }
            (Version::Resp3, None) => commands.push(vec!["HELLO", "3"]),
            (Version::Resp2, Some(password)) if pool.username.is_none() => {
                commands.push(vec!["AUTH", password]);
            }
            (Version::Resp2, Some(password)) => commands.push(vec!["AUTH", user, password]),
            (Version::Resp2, None) => {}
        }
        if pool.database != 0 {
            commands.push(vec!["SELECT", &database]);
        }
        for words in commands {
            let entry = Entry {
                owner: Owner::Handshake(Vec::new()),
                since: worker.now(),
                holds: false,
                touch: Touch::None,
            };
            self.push(worker, entry, |out| {
                encode::command(out, words.iter().map(|word| word.as_bytes()));
            });
        }
    }

    fn release_waiting(&self) {
        for client in self.waiting.take() {
            client.wake();
        }
    }

    /// The last act: everything in flight gets `fault`.
    fn close(&self, worker: &Rc<Worker>, fault: &Fault) {
        self.phase.set(Phase::Closed);
        worker
            .heat
            .lost(worker.pool_of_server(self.server), self.server);
        let entries = self.fifo.take();
        let text = fault.text(worker.server_name(self.server));
        let inflight = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        worker.meter.upstream_inflight(self.server, -inflight);
        for entry in entries {
            worker.meter.upstream(self.server, fault.verdict());
            worker
                .heat
                .doubted(&entry.touch, worker.now(), &worker.meter);
            entry.fail(worker, fault, &text);
        }
        *self.out.borrow_mut() = Out::default();
        self.release_waiting();
    }
}

impl Entry {
    fn deliver(&self, worker: &Worker, bytes: &[u8], done: bool) {
        if let Owner::Client {
            client,
            seq,
            fragment,
        } = &self.owner
        {
            client.deliver(worker, *seq, *fragment, bytes, done);
        }
    }

    /// Take the errand and what has come of its reply out of the entry, to
    /// look at it while others may be queued.
    fn take_errand(&mut self) -> Option<(Box<Errand>, Vec<u8>)> {
        if !matches!(self.owner, Owner::Errand(..)) {
            return None;
        }
        match std::mem::replace(&mut self.owner, Owner::Nobody) {
            Owner::Errand(errand, reply) => Some((errand, reply)),
            _ => None,
        }
    }

    /// The reply is an ordinary one after all: its reader gets what has come
    /// of it, and the rest as it comes.
    fn hand_on(&mut self, worker: &Worker, errand: Errand, reply: &[u8]) {
        if let Some(reader) = errand.into_reader() {
            self.owner = Owner::Client {
                client: reader.client,
                seq: reader.seq,
                fragment: reader.fragment,
            };
            self.deliver(worker, reply, false);
        }
    }

    /// The number of the request, if it is this client's.
    fn seq_of(&self, client: &Rc<Client>) -> Option<u64> {
        match &self.owner {
            Owner::Client {
                client: owner, seq, ..
            } if Rc::ptr_eq(owner, client) => Some(*seq),
            _ => None,
        }
    }

    fn fail(mut self, worker: &Rc<Worker>, fault: &Fault, text: &str) {
        match std::mem::replace(&mut self.owner, Owner::Nobody) {
            Owner::Client {
                client,
                seq,
                fragment,
            } => {
                client.fail(worker, seq, fragment, text, fault.verdict());
                if self.holds {
                    client.release();
                }
            }
            Owner::Errand(errand, _) => {
                if self.holds {
                    errand.each_client(Client::release);
                }
                errand.failed(worker, fault, text);
            }
            Owner::Handshake(_) | Owner::Nobody => {}
        }
    }

    /// The entry leaves the queue: its client is no longer held by it.
    fn end(self) {
        if self.holds
            && let Owner::Client { client, .. } = &self.owner
        {
            client.release();
        }
    }
}

/// Keep the task's waker, cloning it only when it has changed.
pub fn remember(slot: &RefCell<Option<Waker>>, context: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    match &*slot {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => *slot = Some(context.waker().clone()),
    }
}
