//! The task of a connection: it connects, writes what is queued, and hands out
//! the replies as they arrive.
//!
//! It also keeps time. A request has `queue_timeout` to be written; when that is
//! over it is taken back and its client told. From then on it has
//! `request_timeout`, or as long from the last sign of life of its reply; when
//! that is over its client is told, the server is to blame, and the connection
//! is retired. A client that does not read makes the
//! connection pause, because what arrives for it has no place to go; if others
//! wait behind it, it is cut off before their time is up.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use emberline_protocol::redis::encode::Version;
use emberline_protocol::{Scan, memcache, redis};
use emberline_routing::ServerId;
use tokio::time::{Sleep, timeout};

use super::{
    Backend, Client, Entry, Fault, OUT_HIGH, Owner, Phase, Times, Touch, Worker, remember,
};
use crate::metrics::{Health as Shown, Verdict};
use crate::running::{Pool, Protocol};
use crate::server::dispatch::Heard;
use crate::server::errand::Errand;
use crate::server::health::Failure;
use crate::server::socket::Socket;

/// The reply to our own first words may have this size. HELLO's is below 1 KiB.
const HANDSHAKE_MAX: usize = 64 * 1024;

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

/// A connection that ends before this is as good as none: the next may fare no
/// better, so it waits.
const LIFE_MIN: Duration = Duration::from_secs(1);

/// The connection's whole life.
pub(super) async fn run(mut worker: Rc<Worker>, backend: Rc<Backend>) {
    let patience = worker.pool_of(backend.server).timeout_connect;
    let address = &worker.server(backend.server).address;
    let connected = match timeout(patience, Socket::connect(address)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err((failure_of(&error), error.to_string().into())),
        Err(_) => Err((Some(Failure::Poor), "connecting timed out".into())),
    };
    worker = worker.successor().unwrap_or(worker);
    worker.tick();
    let fault = match connected {
        Ok(socket) => {
            worker.meter.upstream_connect(backend.server, true);
            let mut link = Link::new(worker, &backend, socket);
            let end = std::future::poll_fn(|context| link.poll(context)).await;
            link.worker.tick();
            link.end(&end);
            link.account(0);
            worker = link.worker;
            match end {
                End::Finished => Fault::Lost("the connection was retired".into()),
                End::Failed(why) | End::Late(why) => Fault::Lost(why),
                End::Full(why) => Fault::Connect(why),
            }
        }
        Err((failure, why)) => {
            let fault = missed(&worker, backend.server, failure, why);
            worker.failed(backend.server, backend.version, fault.clone());
            fault
        }
    };
    worker.forget(&backend);
    backend.close(&worker, &fault);
}

/// There is no connection. Where the proxy itself is to blame, the server is
/// not.
fn missed(worker: &Rc<Worker>, server: ServerId, failure: Option<Failure>, why: Arc<str>) -> Fault {
    let Some(failure) = failure else {
        worker.ran_short(server, &why);
        return Fault::Ours(why);
    };
    worker.meter.upstream_connect(server, false);
    worker.blame(server, failure, &why);
    Fault::Connect(why)
}

/// What a connect that failed like this says about the server, if anything.
fn failure_of(error: &io::Error) -> Option<Failure> {
    /// No file descriptor is left, of those of the process or of the system;
    /// the numbers are the same on every Unix.
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    match (error.kind(), error.raw_os_error()) {
        (_, Some(EMFILE | ENFILE)) => None,
        // No port of our own is left for another connection there.
        (io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory, _) => None,
        // The second is what the absence of a Unix socket looks like.
        (io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _) => Some(Failure::Refused),
        _ => Some(Failure::Poor),
    }
}

fn times(pool: &Pool) -> Times {
    Times {
        queue: nanos(pool.health.timeout_queue),
        response: nanos(pool.timeout_request),
    }
}

enum End {
    /// It was retired and has nothing left to do.
    Finished,
    /// The server, the network or the protocol failed.
    Failed(Arc<str>),
    /// The server took too long.
    Late(Arc<str>),
    /// The server has as many clients as it lets in: it carried nothing out.
    Full(Arc<str>),
}

impl From<&str> for End {
    fn from(why: &str) -> End {
        End::Failed(why.into())
    }
}

impl From<String> for End {
    fn from(why: String) -> End {
        End::Failed(why.into())
    }
}

/// What the server has shown on this connection so far, each more than the one
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proof {
    Nothing,
    /// It has said something.
    Voice,
    /// It has answered a request.
    Answer,
    /// It has done so after [`LIFE_MIN`].
    Life,
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

    /// Whether this, said before anything else, means that the server has as
    /// many clients as it lets in. It hangs up then, and has read nothing.
    fn turns_away(&self, said: &[u8]) -> bool {
        said.starts_with(match self {
            Scanner::Redis(_) => b"-ERR max number of clients",
            Scanner::Memcached(_) => b"ERROR Too many open connections",
        })
    }
}

/// The connection's socket and what its task alone needs.
struct Link<'a> {
    worker: Rc<Worker>,
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
    /// Since when there is a connection.
    opened: u64,
    proof: Proof,
    /// The client that must read before this connection does.
    paused: Option<Rc<Client>>,
    /// Since when.
    paused_at: u64,
    times: Times,
    /// The server has been blamed for what happened here, or is not to be.
    blamed: bool,
    /// It does not speak this version, which says nothing about its health.
    unspoken: bool,
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
    fn new(worker: Rc<Worker>, backend: &'a Rc<Backend>, socket: Socket) -> Link<'a> {
        let pool = worker.pool_of(backend.server);
        Link {
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
            opened: worker.now(),
            proof: Proof::Nothing,
            paused: None,
            paused_at: 0,
            times: times(pool),
            blamed: false,
            unspoken: false,
            overdue: false,
            timer: None,
            worker,
        }
    }

    /// Go on under the newest configuration. The server is the same there; the
    /// terms under which the connection was made are, too, or it is retired.
    fn follow(&mut self) {
        if let Some(worker) = self.worker.successor() {
            self.times = times(worker.pool_of(self.backend.server));
            self.worker = worker;
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let backend = self.backend;
        backend.woken.set(false);
        remember(&backend.waker, context);
        self.follow();
        self.worker.tick();
        let flushed = self.flush(context);
        // What a server said before it hung up is heard, although it takes
        // nothing more.
        if let Err(end) = self.receive(context) {
            return Poll::Ready(end);
        }
        if let Err(error) = flushed {
            return Poll::Ready(End::from(error.to_string()));
        }
        // Behind both, as each makes room: replies may have emptied the queue,
        // and then nothing else would wake those who wait for it.
        backend.load.release();
        if backend.unsent() < OUT_HIGH {
            backend.release_waiting();
        }
        if let Poll::Ready(why) = self.poll_timeout(context) {
            return Poll::Ready(End::Late(why));
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
        let before = out.written();
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
            out.forget();
            if out.bytes.capacity() > OUT_HIGH {
                out.bytes.shrink_to(OUT_HIGH);
            }
        } else if out.sent > OUT_HIGH && out.sent * 2 > out.bytes.len() {
            out.forget();
        }
        let written = out.written();
        drop(out);
        if written != before {
            backend.note_written(self.worker.now());
        }
        Ok(())
    }

    /// Read what there is, a few buffers at the most, and hand it out.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<(), End> {
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
            let worker = Rc::clone(&self.worker);
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
    fn distribute(&mut self, bytes: &[u8]) -> Result<usize, End> {
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
    fn finish(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.proof == Proof::Nothing {
            self.listen(bytes)?;
        }
        let Some(mut entry) = self.backend.fifo.borrow_mut().pop_front() else {
            return Ok(());
        };
        let left = self.backend.fifo.borrow().len();
        let unwritten = self.backend.unwritten.get();
        self.backend.unwritten.set(unwritten.min(left));
        self.backend.load.end(1);
        self.worker.meter.upstream_inflight(self.backend.server, -1);
        self.settle(&mut entry.touch, bytes.len());
        match &mut entry.owner {
            Owner::Handshake(reply) => {
                reply.extend_from_slice(bytes);
                if matches!(reply.first(), Some(b'-' | b'!')) {
                    // An old server has no RESP3. It is well all the same, and
                    // no client shall be able to eject it by asking for that.
                    self.unspoken = self.backend.version == Version::Resp3;
                    self.blamed |= self.unspoken;
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
                client.deliver(&self.worker, *seq, *fragment, bytes, true);
                self.worker.meter.upstream(self.backend.server, Verdict::Ok);
                self.worker.heard(self.backend.server, entry.asked);
                if self.proof != Proof::Life {
                    self.prove();
                }
                let long = self.times.response / 8;
                if self.started && self.worker.now() - self.began > long {
                    self.forgive(client);
                }
                if client.is_congested(*seq, CLIENT_FULL) {
                    let client = Rc::clone(client);
                    self.pause(&client);
                }
            }
            Owner::Errand(..) => self.finish_errand(&mut entry, bytes),
            Owner::Nobody => {}
        }
        entry.end();
        Ok(())
    }

    /// The first that the server says may be that it does not let us in: that
    /// is nobody's reply.
    #[cold]
    fn listen(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.proof = Proof::Voice;
        match self.scanner.turns_away(bytes) {
            true => {
                let said = String::from_utf8_lossy(bytes);
                Err(End::Full(format!("it said {}", said.trim_end()).into()))
            }
            false => Ok(()),
        }
    }

    /// A request has been answered. That does not prove much: a server may
    /// answer once and hang up.
    #[cold]
    fn prove(&mut self) {
        let (server, version) = (self.backend.server, self.backend.version);
        if self.proof < Proof::Answer {
            self.proof = Proof::Answer;
            self.worker.meter.upstream_health(server, Shown::Up);
        }
        if self.has_lived() {
            self.proof = Proof::Life;
            self.worker.succeeded(server, version);
        }
    }

    fn has_lived(&self) -> bool {
        self.worker.now() >= self.opened + nanos(LIFE_MIN)
    }

    /// The reply to a request of the proxy's own making ends with `bytes`.
    fn finish_errand(&mut self, entry: &mut Entry, bytes: &[u8]) {
        let holds = std::mem::take(&mut entry.holds);
        if let Owner::Errand(errand, mut reply) = std::mem::replace(&mut entry.owner, Owner::Nobody)
        {
            if holds {
                errand.each_client(Client::release);
            }
            self.worker.meter.upstream(self.backend.server, Verdict::Ok);
            self.worker.heard(self.backend.server, entry.asked);
            if self.proof != Proof::Life {
                self.prove();
            }
            if reply.is_empty() {
                errand.answered(&self.worker, bytes);
            } else {
                reply.extend_from_slice(bytes);
                errand.answered(&self.worker, &reply);
            }
        }
    }

    /// What the L1 knows of these keys may be out of date, and nobody may see
    /// it after the reply of which `bytes` are the end.
    fn settle(&self, touch: &mut Touch, bytes: usize) {
        let worker = Rc::clone(&self.worker);
        let streamed = match self.started {
            true => usize::try_from(self.streamed).unwrap_or(usize::MAX),
            false => 0,
        };
        let bytes = bytes.saturating_add(streamed);
        let pool = worker.pool_of_server(self.backend.server);
        worker
            .heat
            .answered(touch, pool, bytes, worker.now(), &worker.meter);
    }

    /// More of the front entry's reply, which does not end yet.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), End> {
        let now = self.worker.now();
        let (mut slow, mut taken) = (None, None);
        if let Some(entry) = self.backend.fifo.borrow_mut().front_mut() {
            entry.since = now;
            if let Some(errand) = entry.take_errand() {
                taken = Some(errand);
            }
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
            entry.deliver(&self.worker, bytes, false);
        }
        if let Some((errand, mut reply)) = taken {
            reply.extend_from_slice(bytes);
            return self.hear(errand, reply);
        }
        if let Some(client) = slow {
            self.pause(&client);
        }
        Ok(())
    }

    /// More of the reply to the front entry's errand, which may have others
    /// queued because of it.
    fn hear(&mut self, errand: Box<Errand>, reply: Vec<u8>) -> Result<(), End> {
        let heard = errand.hear(&self.worker, &reply);
        if heard == Heard::Kept && reply.len() > errand.longest() {
            return Err("its reply to a question of the proxy is too long".into());
        }
        let mut fifo = self.backend.fifo.borrow_mut();
        let Some(entry) = fifo.front_mut() else {
            return Ok(());
        };
        match heard {
            Heard::Kept => entry.owner = Owner::Errand(errand, reply),
            Heard::Answer => entry.hand_on(&self.worker, *errand, &reply),
            Heard::Unwanted => {
                if std::mem::take(&mut entry.holds) {
                    errand.each_client(Client::release);
                }
            }
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
            self.paused_at = self.worker.now();
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
        self.blocked.map(|since| since + self.times.response)
    }

    /// When the entry that waits longest runs out of time.
    fn due(&self) -> Option<u64> {
        let fifo = self.backend.fifo.borrow();
        if let Some(reader) = &self.paused {
            return self.reader_due(reader, &fifo, self.times.response);
        }
        // Entries stand in the order in which they were sent, but a reply that
        // is arriving renews the first one's time: the second may be older.
        let waiting = |entry: &&Entry| !matches!(entry.owner, Owner::Nobody);
        let deadline = |entry: &Entry| self.backend.deadline(entry, self.times);
        let oldest = fifo.iter().filter(waiting).take(2).map(deadline).min();
        // Behind those, others may run out of time before they are written.
        // Two handshakes and one that is partly written may stand before them.
        let unwritten = fifo.len().saturating_sub(self.backend.unwritten.get());
        let queued = fifo.range(unwritten..).filter(waiting).take(4);
        let oldest = queued.map(deadline).chain(oldest).min();
        oldest.or_else(|| fifo.front().map(deadline))
    }

    /// When a client that does not read is cut off for the sake of the first
    /// who waits behind it.
    ///
    /// That one shall have its answer in time, however many such clients stand
    /// before it: they share what is left of its time, so that the last of
    /// them is cut off before it runs out.
    fn reader_due(&self, reader: &Rc<Client>, fifo: &VecDeque<Entry>, timeout: u64) -> Option<u64> {
        let other = |entry: &Entry| match &entry.owner {
            Owner::Client { client, .. } => !Rc::ptr_eq(client, reader),
            Owner::Errand(errand, _) => {
                let others = Cell::new(false);
                errand.each_client(|client| {
                    others.set(others.get() || !std::ptr::eq(client, &**reader));
                });
                others.get()
            }
            Owner::Handshake(_) | Owner::Nobody => false,
        };
        let ahead = fifo.iter().position(other)?;
        let end = fifo.get(ahead)?.since + timeout / 8 * 7;
        // A reply that has been delivered whole has left the queue.
        let readers = ahead as u64 + u64::from(!self.started);
        let share = end.saturating_sub(self.paused_at) / (readers + 1);
        let patience = self.paused_at + share;
        if !self.started {
            return Some(patience);
        }
        // Whoever goes on reading, and fast, is spared; what fits into the
        // sockets' buffers at once is not yet reading.
        let pace = Duration::from_millis(self.streamed.saturating_mul(1000) / READER_RATE);
        let paced = self.began + nanos(pace);
        let stalled = reader.unread_since().unwrap_or(self.paused_at) + share;
        Some(patience.max(paced.min(stalled)))
    }

    /// Give up those that are late; ready if all of them are.
    fn expire(&mut self, now: u64) -> Poll<Arc<str>> {
        let (backend, times) = (self.backend, self.times);
        for entry in backend.withdraw(now, times) {
            let fault = Fault::Queued(backend.load.inflight());
            backend.give_up(&self.worker, entry, &fault);
        }
        let is_late = |entry: &Entry| backend.deadline(entry, times) <= now;
        if !backend.fifo.borrow().iter().any(is_late) {
            return Poll::Pending;
        }
        backend.retire();
        self.worker.forget(self.backend);
        let text = Fault::Timeout.text(self.worker.server_name(self.backend.server));
        let mut late = Vec::new();
        let mut waiting = 0;
        for entry in self.backend.fifo.borrow_mut().iter_mut() {
            if backend.deadline(entry, times) > now {
                waiting += 1;
            } else if !matches!(entry.owner, Owner::Nobody) {
                let owner = std::mem::replace(&mut entry.owner, Owner::Nobody);
                // What it does to its keys it may still do.
                let worker = Rc::clone(&self.worker);
                worker.heat.doubted(&entry.touch, now, &worker.meter);
                late.push(Entry {
                    owner,
                    since: entry.since,
                    asked: entry.asked,
                    bytes: 0..0,
                    holds: entry.holds,
                    touch: Touch::None,
                });
                entry.holds = false;
            }
        }
        let why: Arc<str> = "it did not answer in time".into();
        if !late.is_empty() {
            self.blame(&why);
        }
        for entry in late {
            self.worker
                .meter
                .upstream(self.backend.server, Verdict::Timeout);
            entry.fail(&self.worker, &Fault::Timeout, &text);
        }
        match waiting {
            0 => Poll::Ready(why),
            _ => Poll::Pending,
        }
    }

    /// What happened here speaks against the server: once per connection,
    /// whatever else happens on it.
    fn blame(&mut self, why: &Arc<str>) {
        if !std::mem::replace(&mut self.blamed, true) {
            self.worker.blame(self.backend.server, Failure::Poor, why);
        }
    }

    /// The connection has ended. Who has nothing in flight may hang up.
    fn end(&mut self, end: &End) {
        let why = match end {
            End::Finished => return,
            End::Failed(why) | End::Late(why) | End::Full(why) => why,
        };
        let (server, version) = (self.backend.server, self.backend.version);
        let is_full = matches!(end, End::Full(_));
        let answered = self.proof >= Proof::Answer;
        // A server that is full serves those whom it has let in.
        if !is_full && (!answered || !self.backend.fifo.borrow().is_empty()) {
            self.blame(why);
        }
        if answered {
            self.worker.lost(server, why);
        }
        if answered && self.has_lived() {
            self.worker.succeeded(server, version);
        } else if !answered || !matches!(end, End::Late(_)) {
            // Without the pause, clients would make a storm of connects.
            let fault = Fault::Connect(Arc::clone(why));
            self.worker.failed(server, version, fault);
            if !self.unspoken {
                self.worker.meter.upstream_health(server, Shown::Down);
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_proxy_runs_out_of_is_not_held_against_a_server() {
        let check = |code: i32, expected: Option<Failure>| {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(failure_of(&error), expected, "{error}");
        };
        check(24, None);
        check(23, None);
        let kinds = [
            (io::ErrorKind::AddrNotAvailable, None),
            (io::ErrorKind::ConnectionRefused, Some(Failure::Refused)),
            (io::ErrorKind::NotFound, Some(Failure::Refused)),
            (io::ErrorKind::HostUnreachable, Some(Failure::Poor)),
        ];
        for (kind, expected) in kinds {
            assert_eq!(failure_of(&kind.into()), expected, "{kind}");
        }
    }
}
