//! One client: what its task and the connections to the servers share.
//!
//! The task itself is in `conversation`, what TLS says before it in `greeting`; what it does with a request of either
//! protocol in `redis` and `memcached`; reads that memory may answer in
//! `recall`, the plainest of them in `shortcut`, and those that have copies in
//! `copies`; requests to several places in `split` and `scatter`; requests too
//! large to keep in `upload`.

mod conversation;
mod copies;
mod greeting;
mod home;
mod memcached;
mod order;
mod pending;
mod recall;
mod redis;
mod scatter;
mod shortcut;
mod split;
mod upload;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use super::backend::Backend;
use super::gather::Wire;
use super::pipeline::{Delivered, Pipeline};
use super::worker::Worker;
use crate::metrics::Verdict;
pub use conversation::{Parsers, run};
pub use copies::{forget, forget_all, forgotten};
pub use scatter::Ways;

/// Bytes of replies that a client may have asked for, going by the size of its
/// last ones. A thousand requests for large values would keep their server,
/// and whoever shares it, busy for seconds.
const ASKED_MAX: usize = 8 * 1024 * 1024;

/// The size of a reply of which nothing is known: enough for 64 requests.
const REPLY_SIZE: usize = ASKED_MAX / 64;

/// What the client's task and the connections to the servers share.
#[derive(Debug)]
pub struct Client {
    /// Unique in the process; what `CLIENT ID` answers.
    pub id: u64,
    /// Stands for the address that it comes from, in every process alike; its
    /// port is no part of it.
    pub origin: u64,
    /// Its place in the worker's list.
    pub seat: usize,
    /// Index of its listener.
    pub listener: usize,
    wire: Cell<Wire>,
    pipeline: RefCell<Option<Box<Pipeline>>>,
    /// The number of the next request, while there is no pipeline.
    next: Cell<u64>,
    /// Bytes of replies last reported to the worker's account.
    accounted: Cell<usize>,
    /// The mean size of its last replies.
    reply_size: Cell<usize>,
    /// Its requests in flight over connections that take no new ones.
    holds: Cell<u32>,
    /// Connections that do not read until this client does.
    pausers: RefCell<Vec<Rc<Backend>>>,
    waker: RefCell<Option<Waker>>,
    woken: Cell<bool>,
    /// Set when the connection must end without another word.
    killed: Cell<Option<&'static str>>,
    /// When it sent the last bytes of a request that is not whole, or 0.
    since: Cell<u64>,
    /// When it last took bytes while there are more for it to read, or 0.
    unread: Cell<u64>,
    gone: Cell<bool>,
}

impl Client {
    /// A client that has said nothing.
    pub fn new(id: u64, origin: u64, seat: usize, listener: usize, wire: Wire) -> Client {
        Client {
            id,
            origin,
            seat,
            listener,
            wire: Cell::new(wire),
            pipeline: RefCell::default(),
            next: Cell::new(0),
            accounted: Cell::new(0),
            reply_size: Cell::new(REPLY_SIZE),
            holds: Cell::new(0),
            pausers: RefCell::default(),
            waker: RefCell::default(),
            woken: Cell::new(false),
            killed: Cell::new(None),
            since: Cell::new(0),
            unread: Cell::new(0),
            gone: Cell::new(false),
        }
    }

    /// The wire format that it speaks now.
    pub fn wire(&self) -> Wire {
        self.wire.get()
    }

    /// Let the client's task run.
    pub fn wake(&self) {
        if !self.woken.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// End the connection without another word.
    pub fn kill(&self, why: &'static str) {
        self.killed.set(Some(why));
        self.wake();
    }

    /// Take bytes of the reply to request `seq`.
    pub fn deliver(&self, worker: &Worker, seq: u64, fragment: u32, bytes: &[u8], done: bool) {
        let delivered = match &mut *self.pipeline.borrow_mut() {
            Some(pipeline) => pipeline.deliver(seq, fragment, bytes, done, self.wire.get()),
            None => return,
        };
        let size = self.reply_size.get();
        let ended = if done { size / 16 } else { 0 };
        self.reply_size.set(size - ended + bytes.len() / 16);
        self.settle(worker, delivered);
    }

    /// Answer request `seq`, or a fragment of it, with an error of the proxy's own.
    pub fn fail(&self, worker: &Worker, seq: u64, fragment: u32, text: &str, verdict: Verdict) {
        let wire = self.wire.get();
        let mut error = Vec::with_capacity(text.len() + 16);
        wire.error(text, &mut error);
        let delivered = match &mut *self.pipeline.borrow_mut() {
            Some(pipeline) => pipeline.fail(seq, fragment, &error, verdict, wire),
            None => return,
        };
        match delivered {
            Some(delivered) => self.settle(worker, delivered),
            None => self.kill("its reply broke off in the middle"),
        }
    }

    fn settle(&self, worker: &Worker, delivered: Delivered) {
        self.account(worker);
        if let Some((record, verdict)) = delivered.complete {
            worker.count(self.listener, record, verdict);
        }
        if delivered.ready {
            self.wake();
        }
    }

    /// Tell the worker how much is queued for this client.
    fn account(&self, worker: &Worker) {
        let queued = self.queued();
        let before = self.accounted.replace(queued);
        if before != queued {
            worker.account(before, queued);
        }
    }

    /// Bytes queued for it.
    fn queued(&self) -> usize {
        self.pipeline
            .borrow()
            .as_ref()
            .map_or(0, |pipeline| pipeline.queued())
    }

    /// Whether it has more than `limit` bytes to read before the server that
    /// answers its request `seq` should go on.
    pub fn is_congested(&self, seq: u64, limit: usize) -> bool {
        self.pipeline
            .borrow()
            .as_ref()
            .is_some_and(|pipeline| pipeline.is_congested(seq, limit))
    }

    /// `backend` stops reading until this client has read; false if there is
    /// nobody to wait for.
    pub fn pausing(&self, backend: &Rc<Backend>) -> bool {
        if self.gone.get() || self.killed.get().is_some() {
            return false;
        }
        let mut pausers = self.pausers.borrow_mut();
        if !pausers.iter().any(|other| Rc::ptr_eq(other, backend)) {
            pausers.push(Rc::clone(backend));
        }
        true
    }

    /// One more request in flight on a connection that takes no new ones.
    pub fn hold(&self) {
        self.holds.set(self.holds.get() + 1);
    }

    /// That request has ended.
    pub fn release(&self) {
        self.holds.set(self.holds.get().saturating_sub(1));
        if self.holds.get() == 0 {
            self.wake();
        }
    }

    /// Whether nobody is there any more to be answered.
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Since when the rest of a request is missing.
    pub fn waits_since(&self) -> Option<u64> {
        Some(self.since.get()).filter(|since| *since != 0)
    }

    /// Since when it has not read what there is for it.
    pub fn unread_since(&self) -> Option<u64> {
        Some(self.unread.get()).filter(|since| *since != 0)
    }

    /// Whether a connection to a server waits for it to read.
    pub fn is_waited_for(&self) -> bool {
        !self.pausers.borrow().is_empty()
    }

    /// Whether others wait for what such a connection has in flight.
    pub fn takes_room(&self) -> bool {
        let pausers = self.pausers.borrow();
        pausers.iter().any(|backend| backend.is_waited_for())
    }

    fn outstanding(&self) -> usize {
        self.pipeline
            .borrow()
            .as_ref()
            .map_or(0, |pipeline| pipeline.len())
    }
}
