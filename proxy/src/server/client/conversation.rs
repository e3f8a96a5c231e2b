//! A client's task: read, take up requests, write replies.
//!
//! A turn is always the same:
//!
//! ```text
//!   write what is ready -> take up what was left -> read -> take up -> again
//! ```
//!
//! and it ends when reading or writing would block, or when the client has so
//! much outstanding that it must wait for its replies first. An idle client
//! holds no buffer: the read goes into the worker's, bytes are kept only while
//! a request is unfinished, and the pipeline is lent.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use emberline_protocol::redis::Version;
use emberline_protocol::{memcache, redis as resp};
use emberline_routing::{PoolId, Receipts, ServerId};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::greeting::greet;
use super::split::Splitter;
use super::upload::Upload;
use super::{ASKED_MAX, Client};
use crate::answer::redis::Session;
use crate::metrics::Verdict;
use crate::running::{Listener, Protocol};
use crate::server::backend::{Backend, remember};
use crate::server::fault::Fault;
use crate::server::pipeline::{Pipeline, Record, Shape};
use crate::server::socket::Socket;
use crate::server::worker::Worker;

/// Requests of one client that may be unanswered before it has to wait.
const INFLIGHT_MAX: usize = 1024;

/// Bytes queued for a client above which its requests have to wait.
const QUEUED_MAX: usize = 1024 * 1024;

/// Serve one client until it leaves.
pub async fn run(worker: Rc<Worker>, client: Rc<Client>, socket: Socket) {
    let Some(socket) = greet(&worker, &client, socket).await else {
        client.gone.set(true);
        worker.dismiss(&client);
        return;
    };
    let mut conversation = Conversation::new(worker, client, socket);
    std::future::poll_fn(|context| conversation.poll(context)).await;
    conversation.end();
}

/// The client's task.
pub(super) struct Conversation {
    pub(super) worker: Rc<Worker>,
    pub(super) client: Rc<Client>,
    pub(super) socket: Socket,
    pub(super) dialogue: Dialogue,
    /// Bytes that were read and not taken up.
    pub(super) input: Option<Box<Input>>,
    /// A request too large to be kept, on its way to a server.
    pub(super) upload: Option<Box<Upload>>,
    /// Waits for room on this connection.
    pub(super) parked: Option<Rc<Backend>>,
    /// Until when, or 0: what was read together has waited together.
    parked_until: u64,
    /// The next request waits for an earlier delete of its key, and is woken
    /// when that has been applied.
    pub(super) awaits_delete: bool,
    /// Until when it does, or 0; it may have other reasons to wait after that.
    pub(super) deleted_until: u64,
    /// Ends then, or earlier.
    patience: Option<Pin<Box<Sleep>>>,
    /// The next request must not be taken up before the last is answered.
    pub(super) barrier: bool,
    /// The client has finished, or the process is on its way out: no more is
    /// read, but what was read is still taken up.
    pub(super) finished: bool,
    /// The next request has been counted: it was here before and had to wait.
    pub(super) noted: bool,
    /// What limits requests has decided for that one.
    pub(super) receipts: Option<Receipts>,
    /// `GET`s of a pool that were answered at once and are not counted yet.
    pub(super) served: (PoolId, u64),
    /// Nothing more is taken up: answer what was asked, then hang up.
    pub(super) closing: bool,
    /// Bytes of `input` last reported to the worker's account.
    pub(super) accounted: usize,
}

/// What a protocol remembers of its client.
pub(super) enum Dialogue {
    Redis(Box<Session>),
    Memcached,
}

/// Bytes kept between turns.
#[derive(Default)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    /// What was taken up of `bytes`.
    pub(super) taken: usize,
    /// More bytes must come before anything can be done.
    pub(super) partial: bool,
    pub(super) resp: resp::Parser,
    pub(super) memcache: memcache::Parser,
}

/// What became of a request.
pub(super) enum Next {
    /// It was taken up: go on behind it.
    Taken,
    /// It has to wait: try it again later.
    Wait,
    /// The connection ends when what was asked has been answered.
    Close,
}

/// Why taking up requests stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Everything has been taken up.
    Dry,
    /// The last request is not whole.
    Partial,
    /// The next request has to wait.
    Wait,
    /// Nothing more is wanted.
    Close,
}

impl Conversation {
    fn new(worker: Rc<Worker>, client: Rc<Client>, socket: Socket) -> Conversation {
        let listener = &worker.running.listeners[client.listener];
        let dialogue = match listener.protocol {
            Protocol::Redis => {
                let (peer, now) = (socket.peer(), worker.unix_millis());
                let password = listener.password.is_some();
                Dialogue::Redis(Box::new(Session::new(client.id, peer, now, password)))
            }
            Protocol::Memcached => Dialogue::Memcached,
        };
        Conversation {
            worker,
            client,
            socket,
            dialogue,
            input: None,
            upload: None,
            parked: None,
            parked_until: 0,
            awaits_delete: false,
            deleted_until: 0,
            patience: None,
            barrier: false,
            finished: false,
            noted: false,
            receipts: None,
            served: (PoolId(0), 0),
            closing: false,
            accounted: 0,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.client.woken.set(false);
        remember(&self.client.waker, context);
        self.follow();
        self.worker.tick();
        for _ in 0..8 {
            if let Some(why) = self.client.killed.get() {
                debug!(client = self.client.id, why, "client cut off");
                return Poll::Ready(());
            }
            if self.flush(context).is_err() {
                return Poll::Ready(());
            }
            if self.take_up_rest() {
                continue;
            }
            if self.finished && self.upload.is_none() && self.nothing_left() {
                self.closing = true;
            }
            if self.closing {
                return self.poll_goodbye(context);
            }
            if self.finished || !self.may_read() {
                // It is not the client that is waited for.
                self.client.since.set(0);
                self.account();
                self.poll_patience(context);
                return Poll::Pending;
            }
            match self.read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending if self.is_leaving() && self.upload.is_none() => {
                    self.finished = true;
                }
                Poll::Pending => {
                    let partial = self.input.as_ref().is_some_and(|input| input.partial);
                    self.mark(partial || self.upload.is_some());
                    self.account();
                    return Poll::Pending;
                }
            }
        }
        // Others want their turn too.
        self.account();
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Go on under the newest configuration, between two requests. What is in
    /// flight is answered first: its keys may have moved, and the next request
    /// shall not overtake it.
    fn follow(&mut self) {
        if self.upload.is_some() {
            return;
        }
        let Some(worker) = self.worker.successor() else {
            return;
        };
        self.barrier |= self.client.outstanding() > 0;
        let (old, new) = (self.listener(&self.worker), self.listener(&worker));
        if let Dialogue::Redis(session) = &mut self.dialogue
            && old.password != new.password
        {
            session.authenticated = new.password.is_none();
        }
        self.worker = worker;
    }

    /// Whether no new requests are wanted of this client.
    fn is_leaving(&self) -> bool {
        self.worker.is_draining() || self.worker.has_lost(self.client.listener)
    }

    /// Everything was asked: leave when everything is answered.
    fn poll_goodbye(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle = self
            .client
            .pipeline
            .borrow()
            .as_ref()
            .is_none_or(|pipeline| pipeline.is_idle());
        if !idle {
            return Poll::Pending;
        }
        match self.socket.poll_shutdown(context) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Write what is ready for the client, as far as it goes.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.write(context)?;
        match self.socket.poll_flush(context) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let mut lent = self.client.pipeline.borrow_mut();
        let Some(pipeline) = &mut *lent else {
            return Ok(());
        };
        while !pipeline.ready().is_empty() {
            match self.socket.poll_write(context, pipeline.ready())? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    self.worker.meter.bytes_out(self.client.listener, count);
                    pipeline.written(count);
                    self.client.unread.set(0);
                }
                Poll::Pending => break,
            }
        }
        if pipeline.ready().is_empty() {
            self.client.unread.set(0);
        } else if self.client.unread.get() == 0 {
            self.client.unread.set(self.worker.now().max(1));
        }
        let unread = pipeline.ready().len();
        if pipeline.is_idle()
            && let Some(pipeline) = lent.take()
        {
            self.client.next.set(pipeline.next());
            self.worker.return_pipeline(pipeline);
        }
        drop(lent);
        self.client.account(&self.worker);
        if unread < QUEUED_MAX / 4 {
            for backend in self.client.pausers.take() {
                backend.wake();
            }
        }
        Ok(())
    }

    /// Whether the next request may be taken up.
    pub(super) fn admitted(&mut self) -> bool {
        if self.closing || self.client.holds.get() > 0 {
            return false;
        }
        let (outstanding, queued) = match &*self.client.pipeline.borrow() {
            Some(pipeline) => (pipeline.len(), pipeline.queued()),
            None => (0, 0),
        };
        if self.barrier && outstanding > 0
            || outstanding >= INFLIGHT_MAX
            || queued > QUEUED_MAX
            || outstanding.saturating_mul(self.client.reply_size.get()) > ASKED_MAX
        {
            return false;
        }
        self.barrier = false;
        match &self.parked {
            Some(backend)
                if backend.is_open()
                    && backend.is_full()
                    && self.worker.now() < self.parked_until =>
            {
                backend.wait_for_room(&self.client);
                false
            }
            _ => {
                self.parked = None;
                true
            }
        }
    }

    /// The connection to `server` for the next request, which has to wait if
    /// there is `None`.
    ///
    /// # Errors
    /// When there is none, or when it has waited for room long enough.
    pub(super) fn way(
        &mut self,
        server: ServerId,
        version: Version,
    ) -> Result<Option<Rc<Backend>>, Fault> {
        let backend = self.worker.backend(server, version, self.client.id)?;
        self.room(backend)
    }

    /// The same, of a connection that was found already.
    pub(super) fn room(&mut self, backend: Rc<Backend>) -> Result<Option<Rc<Backend>>, Fault> {
        if !backend.is_full() {
            self.parked_until = 0;
            return Ok(Some(backend));
        }
        let now = self.worker.now();
        if self.parked_until == 0 {
            let patience = self.worker.pool_of(backend.server).health.timeout_queue;
            let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX / 4);
            self.parked_until = now + nanos.min(u64::MAX / 4);
        }
        if now >= self.parked_until {
            return Err(Fault::Queued(backend.load().inflight()));
        }
        self.parked = Some(backend);
        Ok(None)
    }

    /// Be woken when the request that waits for room, or for an earlier delete,
    /// has waited long enough.
    fn poll_patience(&mut self, context: &mut Context<'_>) {
        let until = match (&self.parked, self.awaits_delete) {
            (Some(_), _) => self.parked_until,
            (None, true) => self.deleted_until,
            (None, false) => return,
        };
        let left = until.saturating_sub(self.worker.now());
        // The clock may lag behind the timer's by as much as a turn takes.
        let left = Duration::from_nanos(left) + Duration::from_millis(1);
        let end = Instant::now() + left;
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if patience.deadline() > end {
            patience.as_mut().reset(end);
        }
        if patience.as_mut().poll(context).is_ready() {
            self.patience = None;
            context.waker().wake_by_ref();
        }
    }

    /// Whether reading makes sense: nothing that was read waits for its turn.
    fn may_read(&mut self) -> bool {
        match (&self.upload, &self.input) {
            (Some(upload), _) => upload.has_room(),
            (None, Some(input)) if !input.partial => false,
            _ => self.admitted(),
        }
    }

    /// Whether no whole request waits to be taken up.
    fn nothing_left(&self) -> bool {
        self.input.as_ref().is_none_or(|input| input.partial)
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let worker = Rc::clone(&self.worker);
        let mut buffer = worker.read_buffer.borrow_mut();
        let count = match self.socket.poll_read(context, &mut buffer) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        if count == 0 {
            self.finished = true;
            self.abandon_upload();
            return Poll::Ready(Ok(()));
        }
        worker.meter.bytes_in(self.client.listener, count);
        let bytes = &buffer[..count];
        if self.parked.is_none() {
            self.parked_until = 0;
        }
        if self.upload.is_some() {
            self.pump(bytes);
        } else if let Some(input) = &mut self.input {
            input.bytes.extend_from_slice(bytes);
            input.partial = false;
        } else {
            let mut parsers = worker.parsers.borrow_mut();
            let (taken, stop) = self.take_up(bytes, &mut parsers);
            if stop == Stop::Partial {
                // The next client's bytes do not continue this one's.
                parsers.resp.reset();
                parsers.memcache.reset();
            }
            drop(parsers);
            self.keep(&bytes[taken..], stop);
        }
        Poll::Ready(Ok(()))
    }

    /// Take up what is left of earlier reads; true if that moved something.
    pub(super) fn take_up_rest(&mut self) -> bool {
        if self.upload.is_some() {
            return self.poll_upload();
        }
        if self.input.as_ref().is_none_or(|input| input.partial) || !self.admitted() {
            return false;
        }
        let Some(mut input) = self.input.take() else {
            return false;
        };
        let bytes = std::mem::take(&mut input.bytes);
        let mut parsers = Parsers {
            resp: std::mem::take(&mut input.resp),
            memcache: std::mem::take(&mut input.memcache),
            splitter: Splitter::default(),
        };
        let (taken, stop) =
            self.take_up(bytes.get(input.taken..).unwrap_or_default(), &mut parsers);
        input.bytes = bytes;
        input.taken += taken;
        input.resp = parsers.resp;
        input.memcache = parsers.memcache;
        match stop {
            Stop::Dry | Stop::Close => self.client.since.set(0),
            Stop::Partial | Stop::Wait => {
                if input.taken * 2 >= input.bytes.len() {
                    input.bytes.drain(..input.taken);
                    input.taken = 0;
                }
                input.partial = stop == Stop::Partial;
                self.mark(input.partial);
                let rest = input.bytes.get(input.taken..).unwrap_or_default();
                let in_value = match self.dialogue {
                    Dialogue::Redis(_) => input.resp.bulk_missing() > 0,
                    Dialogue::Memcached => memchr::memchr(b'\n', rest).is_some(),
                };
                if input.partial && in_value {
                    // A value needs progress only, not haste.
                    self.client.since.set(self.worker.now().max(1));
                }
                self.input = Some(input);
            }
        }
        if stop == Stop::Partial {
            self.consider_upload();
        }
        // Whoever has to wait must be on the list of those who are woken.
        let room = stop == Stop::Wait && !self.awaits_delete && self.admitted();
        taken > 0 || room || stop == Stop::Close || self.upload.is_some()
    }

    /// Keep the bytes of a read that were not taken up.
    pub(super) fn keep(&mut self, rest: &[u8], stop: Stop) {
        match stop {
            Stop::Dry | Stop::Close => self.client.since.set(0),
            Stop::Partial | Stop::Wait => {
                self.mark(stop == Stop::Partial);
                self.input = Some(Box::new(Input {
                    bytes: rest.to_vec(),
                    // A parser of its own must see these bytes once before it
                    // can say that more are needed.
                    partial: false,
                    ..Input::default()
                }));
            }
        }
    }

    /// Note since when the rest of a request is missing.
    fn mark(&self, partial: bool) {
        let since = &self.client.since;
        if !partial {
            since.set(0);
        } else if since.get() == 0 {
            since.set(self.worker.now().max(1));
        }
    }

    /// Take up the requests in `bytes`; answers how many bytes they were.
    fn take_up(&mut self, bytes: &[u8], parsers: &mut Parsers) -> (usize, Stop) {
        match self.dialogue {
            Dialogue::Redis(_) => self.take_up_redis(bytes, parsers),
            Dialogue::Memcached => self.take_up_memcached(bytes, parsers),
        }
    }

    pub(super) fn listener<'w>(&self, worker: &'w Worker) -> &'w Listener {
        &worker.running.listeners[self.client.listener]
    }

    /// Work on the client's pipeline, lending it one if it has none.
    pub(super) fn with_pipeline<T>(&self, work: impl FnOnce(&mut Pipeline) -> T) -> T {
        let mut lent = self.client.pipeline.borrow_mut();
        work(lent.get_or_insert_with(|| self.worker.lend_pipeline(self.client.next.get())))
    }

    /// Answer on the spot; `write` appends the reply.
    pub(super) fn answer(
        &self,
        record: Record,
        verdict: Verdict,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.with_pipeline(|pipeline| pipeline.answer(write));
        self.worker.count(self.client.listener, record, verdict);
    }

    /// Take a slot for a request that a server answers.
    pub(super) fn push(&self, shape: Shape, mute: bool, record: Record) -> u64 {
        self.with_pipeline(|pipeline| pipeline.push(shape, mute, record))
    }

    /// Tell the worker how much of this client's requests is kept.
    fn account(&mut self) {
        let now = self
            .input
            .as_ref()
            .map_or(0, |input| input.bytes.capacity());
        if now != self.accounted {
            self.worker.account(self.accounted, now);
            self.accounted = now;
        }
    }

    fn end(&mut self) {
        self.client.gone.set(true);
        self.abandon_upload();
        self.client.pipeline.take();
        for backend in self.client.pausers.take() {
            backend.wake();
        }
        self.input = None;
        self.account();
        self.client.account(&self.worker);
        self.worker.dismiss(&self.client);
    }
}

/// Parsers and scratch space: the worker's, or those of a client whose request
/// has not come whole.
#[derive(Default)]
pub struct Parsers {
    pub(super) resp: resp::Parser,
    pub(super) memcache: memcache::Parser,
    pub(super) splitter: Splitter,
}
