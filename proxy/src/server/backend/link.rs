//! The task of a connection: it connects, writes what is queued, and hands out
//! the replies as they arrive.
//!
//! Whose a reply is, and what becomes of it, is in `replies`; how long the task
//! waits for what, in `patience`.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use emberline_routing::ServerId;
use tokio::time::timeout;

use super::patience::Patience;
use super::queue::Out;
use super::{Backend, OUT_HIGH, Phase, remember};
use crate::metrics::Health as Shown;
use crate::scanner::Scanner;
use crate::server::client::Client;
use crate::server::fault::Fault;
use crate::server::health::Failure;
use crate::server::socket::Socket;
use crate::server::worker::Worker;

/// A connection that ends before this is as good as none: the next may fare no
/// better, so it waits.
pub(super) const LIFE_MIN: Duration = Duration::from_secs(1);

/// The connection's whole life.
pub(super) async fn run(mut worker: Rc<Worker>, backend: Rc<Backend>) {
    let pool = worker.pool_of(backend.server);
    let address = &worker.server(backend.server).address;
    let connecting = Socket::connect(address, pool.tls.as_ref());
    let connected = match timeout(pool.timeout_connect, connecting).await {
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

pub(super) enum End {
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
pub(super) enum Proof {
    Nothing,
    /// It has said something.
    Voice,
    /// It has answered a request.
    Answer,
    /// It has done so after [`LIFE_MIN`].
    Life,
}

/// The connection's socket and what its task alone needs.
pub(super) struct Link<'a> {
    pub(super) worker: Rc<Worker>,
    pub(super) backend: &'a Rc<Backend>,
    pub(super) socket: Socket,
    pub(super) scanner: Scanner,
    /// The end of what was read, when it does not end with a reply.
    pub(super) rest: Vec<u8>,
    /// The item being received is a push, which answers nothing.
    pub(super) push: bool,
    /// Part of the front entry's reply has been delivered, the first at `began`.
    pub(super) started: bool,
    pub(super) began: u64,
    /// Bytes of it so far.
    pub(super) streamed: u64,
    /// Since when there is a connection.
    pub(super) opened: u64,
    pub(super) proof: Proof,
    /// The client that must read before this connection does.
    pub(super) paused: Option<Rc<Client>>,
    pub(super) patience: Patience,
    /// The server has been blamed for what happened here, or is not to be.
    pub(super) blamed: bool,
    /// It does not speak this version, which says nothing about its health.
    pub(super) unspoken: bool,
    /// Bytes last reported to the worker's account.
    pub(super) accounted: usize,
}

impl<'a> Link<'a> {
    fn new(worker: Rc<Worker>, backend: &'a Rc<Backend>, socket: Socket) -> Link<'a> {
        let pool = worker.pool_of(backend.server);
        Link {
            backend,
            socket,
            scanner: Scanner::new(pool.protocol),
            rest: Vec::new(),
            push: false,
            started: false,
            began: 0,
            streamed: 0,
            accounted: 0,
            opened: worker.now(),
            proof: Proof::Nothing,
            paused: None,
            patience: Patience::new(pool),
            blamed: false,
            unspoken: false,
            worker,
        }
    }

    /// Go on under the newest configuration. The server is the same there; the
    /// terms under which the connection was made are, too, or it is retired.
    fn follow(&mut self) {
        if let Some(worker) = self.worker.successor() {
            self.patience.follow(worker.pool_of(self.backend.server));
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
        let Out { bytes, sent, .. } = &mut *out;
        if let Poll::Ready(done) = self.socket.poll_write_all(context, bytes, sent) {
            done?;
        }
        if out.written() != before {
            self.patience.took();
        }
        // A server whose replies we do not read may well take nothing either.
        match out.sent < out.bytes.len() && self.paused.is_none() {
            true => self.patience.blocked(self.worker.now()),
            false => self.patience.took(),
        }
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

    /// What happened here speaks against the server: once per connection,
    /// whatever else happens on it.
    pub(super) fn blame(&mut self, why: &Arc<str>) {
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
        // Without a pause, clients would make a storm of connects.
        let fault = Fault::Connect(Arc::clone(why));
        match end {
            _ if answered && self.has_lived() => self.worker.succeeded(server, version),
            End::Late(_) if answered => {}
            _ if answered => self.worker.cut_short(server, version, fault),
            _ => {
                self.worker.failed(server, version, fault);
                if !self.unspoken {
                    self.worker.meter.upstream_health(server, Shown::Down);
                }
            }
        }
    }
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
