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

mod link;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use emberline_protocol::redis::encode::{self, Version};
use emberline_routing::ServerId;

use super::client::Client;
use super::errand::Errand;
use super::fault::Fault;
use super::health::{Load, wait};
use super::heat::Touch;
use super::worker::Worker;
use crate::running::{Pool, Protocol};

/// Requests waiting to be written above which uploads pause.
pub const OUT_HIGH: usize = 256 * 1024;

/// Requests waiting to be written above which clients have to wait.
const OUT_FULL: usize = 1024 * 1024;

/// The time of a request that is still being uploaded: late enough never to
/// be over, early enough to be added to.
const UPLOADING: u64 = u64::MAX / 4;

/// One request whose reply has not come.
#[derive(Debug)]
pub struct Entry {
    owner: Owner,
    /// When its last byte was written, or it last made progress; until it is
    /// written, when it was queued. In the worker's nanoseconds.
    since: u64,
    /// When its last byte was written; until then, 0. That its reply makes
    /// progress does not change it.
    asked: u64,
    /// Where it lies in all that was ever queued on the connection.
    bytes: Range<u64>,
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
            asked: 0,
            bytes: 0..0,
            holds: false,
            touch: Touch::None,
        }
    }

    /// The entry of a request whose reply the proxy looks at itself.
    pub fn errand(errand: Errand, now: u64) -> Entry {
        Entry {
            owner: Owner::Errand(Box::new(errand), Vec::new()),
            since: now,
            asked: 0,
            bytes: 0..0,
            holds: false,
            touch: Touch::None,
        }
    }

    /// The entry of a request whose reply nobody wants.
    pub fn unheard(now: u64) -> Entry {
        Entry {
            owner: Owner::Nobody,
            since: now,
            asked: 0,
            bytes: 0..0,
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
        Entry::new(client, seq, 0, UPLOADING)
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
    /// Entries at the end of `fifo` that have not been written whole.
    unwritten: Cell<usize>,
    /// What all connections to this server have in flight.
    load: Rc<Load>,
    /// Clients that wait for room in `out`.
    waiting: RefCell<Vec<Rc<Client>>>,
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
}

#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    sent: usize,
    /// What was queued before `bytes`.
    before: u64,
}

impl Out {
    /// Where the next byte will lie in all that was ever queued.
    fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// How much of all that was ever queued has been written.
    fn written(&self) -> u64 {
        self.before + self.sent as u64
    }

    /// Let go of what was written.
    fn forget(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        self.before += sent as u64;
        self.bytes.drain(..sent);
    }
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
        for words in first_words(pool, self.version) {
            let entry = Entry {
                owner: Owner::Handshake(Vec::new()),
                ..Entry::unheard(worker.now())
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

    /// What was written lies on the server's side from now on: the time of
    /// requests that are whole there begins.
    fn note_written(&self, now: u64) {
        let written = self.out.borrow().written();
        let mut fifo = self.fifo.borrow_mut();
        let (len, mut unwritten) = (fifo.len(), self.unwritten.get());
        while let Some(entry) = len.checked_sub(unwritten).and_then(|at| fifo.get_mut(at))
            && entry.bytes.end <= written
        {
            entry.asked = now;
            if entry.since != UPLOADING {
                entry.since = now;
            }
            unwritten -= 1;
        }
        self.unwritten.set(unwritten);
    }

    /// When this entry has run out of time.
    fn deadline(&self, entry: &Entry, times: Times) -> u64 {
        let written = self.out.borrow().written();
        let wait = if entry.bytes.end <= written {
            times.response
        } else if entry.may_withdraw(written) {
            times.queue
        } else {
            times.queue + times.response
        };
        entry.since + wait
    }

    /// Take back the requests that were not written in time: as if they had
    /// never been queued.
    fn withdraw(&self, now: u64, times: Times) -> Vec<Entry> {
        let mut out = self.out.borrow_mut();
        let mut fifo = self.fifo.borrow_mut();
        let (written, before) = (out.written(), out.before);
        let first = fifo.len().saturating_sub(self.unwritten.get());
        let late = |entry: &Entry| entry.may_withdraw(written) && entry.since + times.queue <= now;
        if !fifo.range(first..).any(late) {
            return Vec::new();
        }
        // Of these at most the first has been written in part; the rest of it
        // and all of the others is what is left in `out`.
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for mut entry in fifo.split_off(first) {
            if late(&entry) {
                gone.push(entry);
                continue;
            }
            let start = entry.bytes.start.max(written);
            let place = |at: u64| usize::try_from(at - before).unwrap_or(usize::MAX);
            let rest = out.bytes.get(place(start)..place(entry.bytes.end));
            let moved = written + kept.len() as u64;
            if entry.bytes.start >= written {
                entry.bytes.start = moved;
            }
            entry.bytes.end = moved + (entry.bytes.end - start);
            kept.extend_from_slice(rest.unwrap_or_default());
            fifo.push_back(entry);
        }
        let sent = out.sent;
        out.bytes.truncate(sent);
        out.bytes.extend_from_slice(&kept);
        self.unwritten.set(fifo.len() - first);
        gone
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
        self.load.end(1);
        self.load.release();
        worker.meter.upstream_inflight(self.server, -1);
        worker.meter.upstream(self.server, fault.verdict());
        let now = worker.now();
        worker.heat.doubted(&entry.touch, now, &worker.meter);
        entry.fail(worker, fault, &fault.text(worker.server_name(self.server)));
    }
}

/// How long a request may wait to be written, and then for its reply; in
/// nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    queue: u64,
    response: u64,
}

/// What is said on a new connection before anything else.
pub fn first_words(pool: &Pool, version: Version) -> Vec<Vec<String>> {
    if pool.protocol == Protocol::Memcached {
        return Vec::new();
    }
    let user = pool.username.as_deref().unwrap_or("default");
    let password = pool.password.as_ref().map(|secret| secret.reveal());
    let database = pool.database.to_string();
    let mut commands: Vec<Vec<&str>> = Vec::new();
    match (version, password) {
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
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    commands.into_iter().map(owned).collect()
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

    /// Whether it can be taken back, `written` being how much was written of
    /// everything: our own first words cannot, nor what nobody waits for.
    fn may_withdraw(&self, written: u64) -> bool {
        let waited_for = matches!(self.owner, Owner::Client { .. } | Owner::Errand(..));
        waited_for && self.bytes.start >= written && !self.bytes.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::gather::Wire;

    const TIMES: Times = Times {
        queue: 100,
        response: 1000,
    };

    /// A connection with these requests, queued a nanosecond apart from 0 on;
    /// what begins with `#` are our own first words.
    fn connection(requests: &[&str]) -> Backend {
        let backend = Backend {
            server: ServerId(0),
            version: Version::Resp2,
            phase: Cell::new(Phase::Open),
            fifo: RefCell::default(),
            out: RefCell::default(),
            unwritten: Cell::new(0),
            load: Rc::new(Load::new(1024)),
            waiting: RefCell::default(),
            waker: RefCell::default(),
            woken: Cell::new(false),
        };
        let client = Rc::new(Client::new(0, 0, 0, 0, Wire::Redis(Version::Resp2)));
        for (seq, request) in (0..).zip(requests) {
            let mut entry = Entry::new(Rc::clone(&client), seq, 0, seq);
            if request.starts_with('#') {
                entry.owner = Owner::Handshake(Vec::new());
            }
            backend.append(entry, |out| out.extend_from_slice(request.as_bytes()));
        }
        backend
    }

    fn write(backend: &Backend, count: usize, now: u64) {
        backend.out.borrow_mut().sent += count;
        backend.note_written(now);
    }

    fn left(backend: &Backend) -> String {
        let out = backend.out.borrow();
        String::from_utf8_lossy(&out.bytes[out.sent..]).into_owned()
    }

    /// Of `requests`, of which so many bytes are written at 50, so many are
    /// taken back at `now`, and these bytes are left to be written.
    #[track_caller]
    fn check(requests: &[&str], written: usize, now: u64, gone: usize, expected: &str) {
        for forgotten in [false, true] {
            let backend = connection(requests);
            write(&backend, written, 50);
            if forgotten {
                backend.out.borrow_mut().forget();
            }
            assert_eq!(backend.withdraw(now, TIMES).len(), gone);
            assert_eq!(left(&backend), expected);
            assert_eq!(backend.fifo.borrow().len(), requests.len() - gone);
            // Whatever is left is still known to be written when it is.
            write(&backend, expected.len(), 200);
            assert_eq!(backend.unwritten.get(), 0);
            let fifo = backend.fifo.borrow();
            let ends = fifo.iter().map(|entry| entry.bytes.end);
            assert_eq!(ends.max(), Some(backend.out.borrow().written()));
        }
    }

    #[test]
    fn what_was_not_written_in_time_is_taken_back() {
        let three = ["aaaa", "bb", "cccc"];
        check(&three, 0, 99, 0, "aaaabbcccc");
        check(&three[..2], 4, 99, 0, "bb");
        check(&three, 4, 101, 1, "cccc");
        check(&three, 6, 101, 0, "cccc");
        check(&three, 10, 500, 0, "");
    }

    #[test]
    fn what_is_partly_written_goes_on() {
        check(&["aaaa", "bb", "cccc"], 2, 101, 1, "aacccc");
        check(&["aaaa", "bb", "cccc"], 2, 102, 2, "aa");
        check(&["aaaa", "bb", "cccc"], 5, 102, 1, "b");
    }

    #[test]
    fn our_own_first_words_stay() {
        check(&["#hello", "bb", "cccc"], 0, 102, 2, "#hello");
        check(&["#hello", "#x", "cc", "d"], 3, 102, 1, "llo#xd");
    }

    #[test]
    fn time_runs_from_the_last_byte_written() {
        let backend = connection(&["aaaa", "bb"]);
        let deadline = |at: usize| backend.deadline(&backend.fifo.borrow()[at], TIMES);
        assert_eq!((deadline(0), deadline(1)), (100, 101));
        write(&backend, 3, 40);
        assert_eq!((deadline(0), deadline(1)), (1100, 101));
        write(&backend, 1, 60);
        assert_eq!((deadline(0), deadline(1)), (1060, 101));
        write(&backend, 2, 80);
        assert_eq!((deadline(0), deadline(1)), (1060, 1080));
    }

    #[test]
    fn an_upload_has_all_the_time_until_it_is_whole() {
        let backend = connection(&[]);
        let client = Rc::new(Client::new(0, 0, 0, 0, Wire::Redis(Version::Resp2)));
        backend.append(Entry::uploading(client, 0), |_| ());
        for now in [10, 20] {
            backend.extend(b"xxxx");
            write(&backend, 4, now);
            assert!(backend.deadline(&backend.fifo.borrow()[0], TIMES) > 1 << 60);
        }
        backend.extend(b"x");
        backend.settle(30);
        write(&backend, 1, 40);
        assert_eq!(backend.deadline(&backend.fifo.borrow()[0], TIMES), 1040);
    }
}
