//! How long a connection waits: for its server to take and to answer what was
//! asked, and for a client to read what holds up others.
//!
//! A request has `queue_timeout` to be written; when that is over it is taken
//! back and its client told. From then on it has `request_timeout`, or as long
//! from the last sign of life of its reply; when that is over its client is
//! told, the server is to blame, and the connection is retired. A client that
//! does not read makes the connection pause, because what arrives for it has no
//! place to go; if others wait behind it, it is cut off before their time is up.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::entry::{Entry, Owner};
use super::link::Link;
use super::queue::Times;
use crate::metrics::Verdict;
use crate::nanos::nanos;
use crate::running::Pool;
use crate::server::client::Client;
use crate::server::fault::Fault;
use crate::server::heat::Touch;

/// The shortest timer: long enough that the runtime looks at its sockets
/// before it ends.
const GRACE: Duration = Duration::from_millis(1);

/// A client that reads a long reply at this many bytes a second is not cut off
/// for the sake of those behind it.
const READER_RATE: u64 = 32 * 1024 * 1024;

/// How long a connection waits, since when, and the timer for it.
#[derive(Debug)]
pub(super) struct Patience {
    times: Times,
    /// Since when the server takes nothing of what is to be written.
    blocked: Option<u64>,
    /// Since when a client that does not read holds it up, if one does.
    paused_at: u64,
    /// The timer has ended once with an entry late: the next end counts.
    overdue: bool,
    /// When it fires, in the worker's nanoseconds, and the timer.
    timer: Option<(u64, Pin<Box<Sleep>>)>,
}

/// What the timer says.
enum Turn {
    /// It wakes the task.
    Wait,
    /// It has ended: to be asked again, with what is due by a new clock.
    Again,
    /// What is due is late.
    Late,
}

impl Patience {
    /// That of a new connection.
    pub(super) fn new(pool: &Pool) -> Patience {
        Patience {
            times: times(pool),
            blocked: None,
            paused_at: 0,
            overdue: false,
            timer: None,
        }
    }

    /// Wait as long as the pool says now.
    pub(super) fn follow(&mut self, pool: &Pool) {
        self.times = times(pool);
    }

    /// How long requests may take.
    pub(super) fn times(&self) -> Times {
        self.times
    }

    /// The server has taken something, or is given nothing.
    pub(super) fn took(&mut self) {
        self.blocked = None;
    }

    /// It takes nothing of what there is to be written.
    pub(super) fn blocked(&mut self, now: u64) {
        self.blocked.get_or_insert(now);
    }

    /// A client that does not read holds the connection up from here on.
    pub(super) fn paused(&mut self, now: u64) {
        self.paused_at = now;
    }

    /// When a server that takes nothing is given up.
    fn blocked_until(&self) -> Option<u64> {
        self.blocked.map(|since| since + self.times.response)
    }

    /// Wait for what is `due`; `ended` is whether the timer has ended since the
    /// task was polled.
    ///
    /// Only a timer's end says that somebody is late. A clock that jumped,
    /// because the whole process stood still, does not: the replies may have
    /// come meanwhile. So it takes a second, short timer, during which the
    /// runtime looks at its sockets.
    fn poll(
        &mut self,
        due: Option<u64>,
        now: u64,
        ended: &mut bool,
        context: &mut Context<'_>,
    ) -> Turn {
        let Some(due) = due else {
            self.timer = None;
            self.overdue = false;
            return Turn::Wait;
        };
        if due > now {
            self.overdue = false;
        } else if *ended && !std::mem::replace(&mut self.overdue, true) {
            *ended = false;
        }
        if *ended && due <= now {
            return Turn::Late;
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
                *ended = true;
                Turn::Again
            }
            Poll::Pending => Turn::Wait,
        }
    }
}

fn times(pool: &Pool) -> Times {
    Times {
        queue: nanos(pool.health.timeout_queue),
        response: nanos(pool.timeout_request),
    }
}

impl Link<'_> {
    /// Deal with entries whose time is up, and set the timer for the next.
    pub(super) fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<Arc<str>> {
        let mut ended = false;
        loop {
            let blocked = self.patience.blocked_until();
            let due = self.due().into_iter().chain(blocked).min();
            let now = self.worker.now();
            match self.patience.poll(due, now, &mut ended, context) {
                Turn::Wait => return Poll::Pending,
                Turn::Again => self.worker.tick(),
                Turn::Late => {
                    if blocked.is_some_and(|until| until <= now) {
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
                }
            }
        }
    }

    /// When the entry that waits longest runs out of time.
    fn due(&self) -> Option<u64> {
        let fifo = self.backend.fifo.borrow();
        if let Some(reader) = &self.paused {
            return self.reader_due(reader, &fifo);
        }
        // Entries stand in the order in which they were sent, but a reply that
        // is arriving renews the first one's time: the second may be older.
        let waiting = |entry: &&Entry| !matches!(entry.owner, Owner::Nobody);
        let times = self.patience.times;
        let deadline = |entry: &Entry| self.backend.deadline(entry, times);
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
    fn reader_due(&self, reader: &Rc<Client>, fifo: &VecDeque<Entry>) -> Option<u64> {
        let Patience {
            times, paused_at, ..
        } = self.patience;
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
        let end = fifo.get(ahead)?.since + times.response / 8 * 7;
        // A reply that has been delivered whole has left the queue.
        let readers = ahead as u64 + u64::from(!self.started);
        let share = end.saturating_sub(paused_at) / (readers + 1);
        let patience = paused_at + share;
        if !self.started {
            return Some(patience);
        }
        // Whoever goes on reading, and fast, is spared; what fits into the
        // sockets' buffers at once is not yet reading.
        let pace = Duration::from_millis(self.streamed.saturating_mul(1000) / READER_RATE);
        let paced = self.began + nanos(pace);
        let stalled = reader.unread_since().unwrap_or(paused_at) + share;
        Some(patience.max(paced.min(stalled)))
    }

    /// Give up those that are late; ready if all of them are.
    fn expire(&mut self, now: u64) -> Poll<Arc<str>> {
        let (backend, times) = (self.backend, self.patience.times);
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
}
