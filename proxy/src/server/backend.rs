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

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use emberline_protocol::redis::encode::{self, Version};
use emberline_protocol::{Scan, memcache, redis};
use emberline_routing::ServerId;
use tokio::time::{Sleep, timeout};

use super::client::Client;
use super::fault::Fault;
use super::socket::Socket;
use super::worker::Worker;
use crate::metrics::Verdict;
use crate::running::{Pool, Protocol};

/// Requests waiting to be written above which uploads pause.
pub const OUT_HIGH: usize = 256 * 1024;

/// The reply to our own first words may have this size. HELLO's is below 1 KiB.
const HANDSHAKE_MAX: usize = 64 * 1024;

/// Requests waiting to be written above which clients have to wait.
const OUT_FULL: usize = 1024 * 1024;

/// The shortest timer: long enough that the runtime looks at its sockets
/// before it ends.
const GRACE: Duration = Duration::from_millis(1);

/// A client with more queued than this stops a reply that is still arriving.
const CLIENT_HIGH: usize = 1024 * 1024;

/// A client that reads a long reply at this many bytes a second is not cut off
/// for the sake of those behind it.
const READER_RATE: u64 = 32 * 1024 * 1024;

/// A client with more queued than this stops even whole replies.
const CLIENT_FULL: usize = 8 * 1024 * 1024;

/// One request whose reply has not come.
#[derive(Debug)]
pub struct Entry {
    owner: Owner,
    /// When it was sent, or last made progress, in the worker's nanoseconds.
    since: u64,
    /// The owner may send nothing until this entry has ended.
    holds: bool,
}

#[derive(Debug)]
enum Owner {
    /// A client's request, or a fragment of one.
    Client {
        client: Rc<Client>,
        seq: u64,
        fragment: u32,
    },
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
        }
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
        tokio::task::spawn_local(run(Rc::clone(worker), Rc::clone(&backend)));
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
            if let Owner::Client { client, .. } = &entry.owner {
                entry.holds = true;
                client.hold();
            }
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
    fn close(&self, worker: &Worker, fault: &Fault) {
        self.phase.set(Phase::Closed);
        let entries = self.fifo.take();
        let text = fault.text(worker.server_name(self.server));
        let inflight = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        worker.meter.upstream_inflight(self.server, -inflight);
        for entry in entries {
            worker.meter.upstream(self.server, fault.verdict());
            entry.fail(worker, &text, fault.verdict());
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

    /// The number of the request, if it is this client's.
    fn seq_of(&self, client: &Rc<Client>) -> Option<u64> {
        match &self.owner {
            Owner::Client {
                client: owner, seq, ..
            } if Rc::ptr_eq(owner, client) => Some(*seq),
            _ => None,
        }
    }

    fn fail(self, worker: &Worker, text: &str, verdict: Verdict) {
        if let Owner::Client {
            client,
            seq,
            fragment,
        } = &self.owner
        {
            client.fail(worker, *seq, *fragment, text, verdict);
        }
        self.end();
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

/// The connection's whole life.
async fn run(worker: Rc<Worker>, backend: Rc<Backend>) {
    let pool = worker.pool_of(backend.server);
    let address = &worker.server(backend.server).address;
    let connected = match timeout(pool.timeout_connect, Socket::connect(address)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(Fault::Down(error.to_string().into())),
        Err(_) => Err(Fault::Down("connecting timed out".into())),
    };
    worker.tick();
    worker
        .meter
        .upstream_connect(backend.server, connected.is_ok());
    let fault = match connected {
        Ok(socket) => {
            let mut link = Link::new(&worker, &backend, socket);
            let end = std::future::poll_fn(|context| link.poll(context)).await;
            let answered = link.answered;
            link.account(0);
            drop(link);
            worker.tick();
            match end {
                End::Finished => Fault::Lost("the connection was retired".into()),
                End::Failed(why) if answered => {
                    worker.lost(backend.server, &why);
                    Fault::Lost(why)
                }
                // A server that accepts and hangs up is as good as down:
                // without the pause, clients would make a storm of connects.
                End::Failed(why) => {
                    worker.failed(backend.server, &why);
                    Fault::Lost(why)
                }
            }
        }
        Err(fault) => {
            if let Fault::Down(why) = &fault {
                worker.failed(backend.server, why);
            }
            fault
        }
    };
    worker.forget(&backend);
    backend.close(&worker, &fault);
}

enum End {
    /// It was retired and has nothing left to do.
    Finished,
    /// The server, the network or the protocol failed.
    Failed(Arc<str>),
}

#[derive(Debug)]
enum Scanner {
    Redis(redis::reply::Scanner),
    Memcached(memcache::Scanner),
}

impl Scanner {
    fn feed(&mut self, bytes: &[u8]) -> Result<Scan, String> {
        match self {
            Scanner::Redis(scanner) => scanner.feed(bytes).map_err(|error| error.to_string()),
            Scanner::Memcached(scanner) => scanner.feed(bytes).map_err(|error| error.to_string()),
        }
    }
}

/// The connection's socket and what its task alone needs.
struct Link<'a> {
    worker: &'a Rc<Worker>,
    backend: &'a Rc<Backend>,
    socket: Socket,
    scanner: Scanner,
    /// The end of what was read, when it does not end with a reply.
    rest: Vec<u8>,
    /// The item being received is a push, which answers nothing.
    push: bool,
    /// Part of the front entry's reply has been delivered, the first at `began`.
    started: bool,
    began: u64,
    /// Bytes of it so far.
    streamed: u64,
    /// At least one reply has come.
    answered: bool,
    /// The client that must read before this connection does.
    paused: Option<Rc<Client>>,
    timeout: Duration,
    /// Since when the server takes nothing of what is to be written.
    blocked: Option<u64>,
    /// Bytes last reported to the worker's account.
    accounted: usize,
    /// The timer has ended once with an entry late: the next end counts.
    overdue: bool,
    /// When it fires, in the worker's nanoseconds, and the timer.
    timer: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<'a> Link<'a> {
    fn new(worker: &'a Rc<Worker>, backend: &'a Rc<Backend>, socket: Socket) -> Link<'a> {
        let pool = worker.pool_of(backend.server);
        Link {
            worker,
            backend,
            socket,
            scanner: match pool.protocol {
                Protocol::Redis => Scanner::Redis(redis::reply::Scanner::default()),
                Protocol::Memcached => Scanner::Memcached(memcache::Scanner::default()),
            },
            rest: Vec::new(),
            push: false,
            started: false,
            began: 0,
            streamed: 0,
            blocked: None,
            accounted: 0,
            answered: false,
            paused: None,
            timeout: pool.timeout_request,
            overdue: false,
            timer: None,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let backend = self.backend;
        backend.woken.set(false);
        remember(&backend.waker, context);
        self.worker.tick();
        if let Err(error) = self.flush(context) {
            return Poll::Ready(End::Failed(error.to_string().into()));
        }
        match self.receive(context) {
            Ok(()) => {}
            Err(why) => return Poll::Ready(End::Failed(why)),
        }
        // Behind both, as each makes room: replies may have emptied the queue,
        // and then nothing else would wake those who wait for it.
        if backend.unsent() < OUT_HIGH && !backend.is_full() {
            backend.release_waiting();
        }
        if let Poll::Ready(why) = self.poll_timeout(context) {
            return Poll::Ready(End::Failed(why));
        }
        // Writing and reading both make room.
        if !backend.is_full() && backend.unsent() < OUT_HIGH {
            backend.release_waiting();
        }
        self.account(backend.unsent() + self.rest.len());
        match backend.phase.get() {
            Phase::Closed => Poll::Ready(End::Finished),
            Phase::Retired if backend.fifo.borrow().is_empty() => Poll::Ready(End::Finished),
            _ => Poll::Pending,
        }
    }

    /// Tell the worker how much this connection's buffers hold.
    fn account(&mut self, now: usize) {
        if now != self.accounted {
            self.worker.account(self.accounted, now);
            self.accounted = now;
        }
    }

    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let backend = self.backend;
        let mut out = backend.out.borrow_mut();
        while out.sent < out.bytes.len() {
            match self.socket.poll_write(context, &out.bytes[out.sent..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    out.sent += written;
                    self.blocked = None;
                }
                Poll::Pending => break,
            }
        }
        // A server whose replies we do not read may well take nothing either.
        self.blocked = match out.sent < out.bytes.len() && self.paused.is_none() {
            true => self.blocked.or(Some(self.worker.now())),
            false => None,
        };
        if out.sent == out.bytes.len() {
            out.bytes.clear();
            out.sent = 0;
            if out.bytes.capacity() > OUT_HIGH {
                out.bytes.shrink_to(OUT_HIGH);
            }
        } else if out.sent > OUT_HIGH {
            let sent = std::mem::take(&mut out.sent);
            out.bytes.drain(..sent);
        }
        Ok(())
    }

    /// Read what there is, a few buffers at the most, and hand it out.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<(), Arc<str>> {
        for _ in 0..8 {
            if !self.may_read() {
                return Ok(());
            }
            if !self.rest.is_empty() {
                // Bytes that were left when a slow client made us stop.
                let rest = std::mem::take(&mut self.rest);
                let taken = self.distribute(&rest)?;
                self.rest = rest;
                self.rest.drain(..taken);
                if self.paused.is_some() {
                    return Ok(());
                }
            }
            let worker = self.worker;
            let mut buffer = worker.read_buffer.borrow_mut();
            match self.socket.poll_read(context, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(error.to_string().into()),
                Poll::Ready(Ok(0)) => return Err("the server closed the connection".into()),
                Poll::Ready(Ok(count)) => {
                    let bytes = &buffer[..count];
                    if self.rest.is_empty() {
                        let taken = self.distribute(bytes)?;
                        self.rest.extend_from_slice(&bytes[taken..]);
                    } else {
                        self.rest.extend_from_slice(bytes);
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Ok(())
    }

    /// Whether the client that held us up has caught up.
    fn may_read(&mut self) -> bool {
        let Some(client) = self.paused.take() else {
            return true;
        };
        let fifo = self.backend.fifo.borrow();
        let next = fifo
            .iter()
            .find_map(|entry| entry.seq_of(&client))
            .unwrap_or(0);
        if client.is_congested(next, CLIENT_HIGH / 4) && client.pausing(self.backend) {
            self.paused = Some(client);
            return false;
        }
        drop(fifo);
        self.forgive(&client);
        true
    }

    /// What this client asked for behind a long reply of its own had to wait
    /// for itself, not for the server. Others go on counting.
    fn forgive(&self, client: &Rc<Client>) {
        let now = self.worker.now();
        let mut fifo = self.backend.fifo.borrow_mut();
        let own = fifo
            .iter_mut()
            .filter(|entry| entry.seq_of(client).is_some());
        own.for_each(|entry| entry.since = entry.since.max(now));
    }

    /// Hand out the replies in `bytes`; answers how many bytes were used.
    fn distribute(&mut self, bytes: &[u8]) -> Result<usize, Arc<str>> {
        let backend = self.backend;
        let mut at = 0;
        while at < bytes.len() && self.paused.is_none() {
            let fresh = &bytes[at..];
            if !self.started && !self.push {
                self.push = backend.version == Version::Resp3 && fresh[0] == b'>';
                if !self.push && backend.fifo.borrow().is_empty() {
                    return Err("it sent a reply that nobody asked for".into());
                }
            }
            match self.scanner.feed(fresh)? {
                Scan::Done(len) => {
                    at += len;
                    if !std::mem::take(&mut self.push) {
                        self.finish(&fresh[..len])?;
                    }
                    self.started = false;
                }
                Scan::More(0) => break,
                Scan::More(len) => {
                    at += len;
                    if !self.push {
                        if !std::mem::replace(&mut self.started, true) {
                            self.began = self.worker.now();
                            self.streamed = 0;
                        }
                        self.streamed += len as u64;
                        self.pass(&fresh[..len])?;
                    }
                }
            }
        }
        Ok(at)
    }

    /// The front entry's reply ends with `bytes`.
    fn finish(&mut self, bytes: &[u8]) -> Result<(), Arc<str>> {
        let Some(mut entry) = self.backend.fifo.borrow_mut().pop_front() else {
            return Ok(());
        };
        self.worker.meter.upstream_inflight(self.backend.server, -1);
        match &mut entry.owner {
            Owner::Handshake(reply) => {
                reply.extend_from_slice(bytes);
                if matches!(reply.first(), Some(b'-' | b'!')) {
                    let reply = String::from_utf8_lossy(&reply[1..]);
                    return Err(format!("it refused the handshake: {}", reply.trim_end()).into());
                }
                return Ok(());
            }
            Owner::Client {
                client,
                seq,
                fragment,
            } => {
                client.deliver(self.worker, *seq, *fragment, bytes, true);
                self.worker.meter.upstream(self.backend.server, Verdict::Ok);
                if !std::mem::replace(&mut self.answered, true) {
                    self.worker.succeeded(self.backend.server);
                }
                let long = self.timeout.as_nanos() / 8;
                if self.started && u128::from(self.worker.now() - self.began) > long {
                    self.forgive(client);
                }
                if client.is_congested(*seq, CLIENT_FULL) {
                    let client = Rc::clone(client);
                    self.pause(&client);
                }
            }
            Owner::Nobody => {}
        }
        entry.end();
        Ok(())
    }

    /// More of the front entry's reply, which does not end yet.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), Arc<str>> {
        let now = self.worker.now();
        let mut slow = None;
        if let Some(entry) = self.backend.fifo.borrow_mut().front_mut() {
            entry.since = now;
            match &mut entry.owner {
                Owner::Handshake(reply) if reply.len() > HANDSHAKE_MAX => {
                    return Err("its reply to the handshake is too long".into());
                }
                Owner::Handshake(reply) => reply.extend_from_slice(bytes),
                Owner::Client { client, seq, .. } if client.is_congested(*seq, CLIENT_HIGH) => {
                    slow = Some(Rc::clone(client));
                }
                _ => {}
            }
            entry.deliver(self.worker, bytes, false);
        }
        if let Some(client) = slow {
            self.pause(&client);
        }
        Ok(())
    }

    /// Stop reading until `client` has read. Nobody else shall wait for it:
    /// new requests get a new connection.
    fn pause(&mut self, client: &Rc<Client>) {
        if client.pausing(self.backend) {
            self.backend.retire();
            self.worker.forget(self.backend);
            self.paused = Some(Rc::clone(client));
        }
    }

    /// Deal with entries whose time is up, and set the timer for the next.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<Arc<str>> {
        // Only a timer's end says that somebody is late. A clock that jumped,
        // because the whole process stood still, does not: the replies may
        // have come meanwhile. So it takes a second, short timer, during which
        // the runtime looks at its sockets.
        let mut ended = false;
        loop {
            let due = self.due().into_iter().chain(self.blocked_until()).min();
            let Some(due) = due else {
                self.timer = None;
                self.overdue = false;
                return Poll::Pending;
            };
            let now = self.worker.now();
            if due > now {
                self.overdue = false;
            } else if ended && !std::mem::replace(&mut self.overdue, true) {
                ended = false;
            }
            if ended && due <= now {
                if self.blocked_until().is_some_and(|until| until <= now) {
                    return Poll::Ready("it did not take its requests in time".into());
                }
                if let Some(client) = self.paused.take() {
                    client.kill("it does not read its replies and holds up others");
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if let Poll::Ready(why) = self.expire(now) {
                    return Poll::Ready(why);
                }
                continue;
            }
            let wait = Duration::from_nanos(due.saturating_sub(now)).max(GRACE);
            // A timer for an older entry that was answered only fires early.
            if self.timer.as_ref().is_some_and(|(at, _)| *at > due) {
                self.timer = None;
            }
            let (_, timer) = self
                .timer
                .get_or_insert_with(|| (due, Box::pin(tokio::time::sleep(wait))));
            match timer.as_mut().poll(context) {
                // Set for an older entry that has been answered: set it anew.
                Poll::Ready(()) => {
                    self.timer = None;
                    ended = true;
                    self.worker.tick();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// When a server that takes nothing is given up.
    fn blocked_until(&self) -> Option<u64> {
        let timeout = u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX / 2);
        self.blocked.map(|since| since + timeout)
    }

    /// When the entry that waits longest runs out of time.
    fn due(&self) -> Option<u64> {
        let fifo = self.backend.fifo.borrow();
        let timeout = u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX / 2);
        if let Some(reader) = &self.paused {
            // Whoever waits behind a client that does not read shall still
            // have its answer in time: the reader is cut off before that.
            let other = |entry: &&Entry| match &entry.owner {
                Owner::Client { client, .. } => !Rc::ptr_eq(client, reader),
                Owner::Handshake(_) | Owner::Nobody => false,
            };
            let patience = fifo.iter().find(other)?.since + timeout / 2;
            let pace = Duration::from_millis(self.streamed.saturating_mul(1000) / READER_RATE);
            let paced = self.began + u64::try_from(pace.as_nanos()).unwrap_or(u64::MAX / 2);
            return Some(if self.started {
                patience.max(paced)
            } else {
                patience
            });
        }
        let waiting = |entry: &&Entry| !matches!(entry.owner, Owner::Nobody);
        let longest = fifo.iter().find(waiting).or(fifo.front())?;
        Some(longest.since + timeout)
    }

    fn expire(&mut self, now: u64) -> Poll<Arc<str>> {
        let timeout = u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX / 2);
        self.backend.retire();
        self.worker.forget(self.backend);
        let text = Fault::Timeout.text(self.worker.server_name(self.backend.server));
        let mut late = Vec::new();
        let mut waiting = 0;
        for entry in self.backend.fifo.borrow_mut().iter_mut() {
            if entry.since + timeout > now {
                waiting += 1;
            } else if !matches!(entry.owner, Owner::Nobody) {
                let owner = std::mem::replace(&mut entry.owner, Owner::Nobody);
                late.push(Entry {
                    owner,
                    since: entry.since,
                    holds: entry.holds,
                });
                entry.holds = false;
            }
        }
        for entry in late {
            self.worker
                .meter
                .upstream(self.backend.server, Verdict::Timeout);
            entry.fail(self.worker, &text, Verdict::Timeout);
        }
        if waiting == 0 {
            let why: Arc<str> = "it did not answer in time".into();
            self.worker.lost(self.backend.server, &why);
            return Poll::Ready(why);
        }
        Poll::Pending
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
