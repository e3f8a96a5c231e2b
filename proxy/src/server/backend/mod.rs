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
//! A request waits here twice: until it is written, for `timeout_queue`, and
//! then for its reply, for `timeout_request`. One that was not written in time
//! is taken back, as if it had never been queued; nobody is to blame for that.
//!
//! A *retired* connection takes no new request; what is in flight may still be
//! answered. Until then its clients are held: they send nothing further, so
//! that no later request of theirs can overtake an earlier one.

mod entry;
mod handshake;
mod link;
mod patience;
mod queue;
mod replies;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use emberline_protocol::redis::Version;
use emberline_routing::ServerId;

use super::client::Client;
use super::fault::Fault;
use super::health::{Load, wait};
use super::worker::Worker;
pub use entry::Entry;
use entry::Owner;
pub use handshake::first_words;
use queue::Out;

/// Requests waiting to be written above which uploads pause.
pub const OUT_HIGH: usize = 256 * 1024;

/// Requests waiting to be written above which clients have to wait.
const OUT_FULL: usize = 1024 * 1024;

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
    /// Entries at the end of `fifo` that have not been written whole.
    unwritten: Cell<usize>,
    /// What all connections to this server have in flight.
    load: Rc<Load>,
    /// What is in flight here is no part of it.
    aside: Cell<bool>,
    /// Clients that wait for room in `out`.
    waiting: RefCell<Vec<Rc<Client>>>,
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
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
            unwritten: Cell::new(0),
            load: Rc::clone(worker.health.load(server)),
            aside: Cell::new(false),
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
        self.load.is_full() || self.unsent() >= OUT_FULL
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

    /// Wake `client` when it [`is_full`](Self::is_full) no longer.
    pub fn wait_for_room(&self, client: &Rc<Client>) {
        match self.load.is_full() {
            true => self.load.wait(client),
            false => self.wait(client),
        }
    }

    /// Wake `client` when most of what is queued here has been written.
    pub fn wait(&self, client: &Rc<Client>) {
        wait(&self.waiting, client);
    }

    /// The requests in flight over all connections to its server.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Queue a request: `write` appends its bytes.
    pub fn push(&self, worker: &Worker, entry: Entry, write: impl FnOnce(&mut Vec<u8>)) {
        worker.heat.sent(&entry.touch, &worker.meter);
        self.append(entry, write);
        worker.meter.upstream_inflight(self.server, 1);
        self.wake();
    }

    fn append(&self, mut entry: Entry, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = self.out.borrow_mut();
        let start = out.end();
        write(&mut out.bytes);
        entry.bytes = start..out.end();
        self.fifo.borrow_mut().push_back(entry);
        self.unwritten.set(self.unwritten.get() + 1);
        self.load.begin();
    }

    /// Queue more bytes of the request that was pushed last.
    pub fn extend(&self, bytes: &[u8]) {
        self.out.borrow_mut().bytes.extend_from_slice(bytes);
        if let Some(entry) = self.fifo.borrow_mut().back_mut() {
            entry.bytes.end += bytes.len() as u64;
            self.unwritten.set(self.unwritten.get().max(1));
        }
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

    /// What is in flight waits for a client that does not read: it shall take
    /// nobody's room. To be called on what takes no further requests.
    fn set_aside(&self) {
        if !self.aside.get() && self.load.set_aside(self.inflight()) {
            self.aside.set(true);
            self.load.release();
        }
    }

    /// Whether others wait for the room that it takes.
    pub fn is_waited_for(&self) -> bool {
        !self.aside.get() && self.load.has_waiting()
    }

    /// A request has left the queue.
    fn end_one(&self) {
        match self.aside.get() {
            true => self.load.end_aside(1),
            false => self.load.end(1),
        }
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

    fn release_waiting(&self) {
        for client in self.waiting.take() {
            client.wake();
        }
    }

    /// The last act: everything in flight gets `fault`, or if none of it was
    /// written, what makes sure that it was not carried out.
    fn close(&self, worker: &Rc<Worker>, fault: &Fault) {
        self.phase.set(Phase::Closed);
        worker
            .heat
            .lost(worker.pool_of_server(self.server), self.server);
        let entries = self.fifo.take();
        let out = self.out.take();
        self.unwritten.set(0);
        let unsent = match fault {
            Fault::Lost(why) => Fault::Connect(Arc::clone(why)),
            other => other.clone(),
        };
        for entry in entries {
            let begun = entry.bytes.start < out.written();
            self.give_up(worker, entry, if begun { fault } else { &unsent });
        }
        self.release_waiting();
    }

    /// There is no reply to this request, which has left the queue.
    fn give_up(&self, worker: &Rc<Worker>, entry: Entry, fault: &Fault) {
        self.end_one();
        self.load.release();
        worker.meter.upstream_inflight(self.server, -1);
        worker.meter.upstream(self.server, fault.verdict());
        let now = worker.now();
        worker.heat.doubted(&entry.touch, now, &worker.meter);
        entry.fail(worker, fault, &fault.text(worker.server_name(self.server)));
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
