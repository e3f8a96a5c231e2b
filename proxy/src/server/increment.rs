//! Increments of one hot key, added up while one is in flight.
//!
//! A counter that everybody increments costs its server one command per
//! increment. While one is on its way, those that come later wait and then
//! travel together:
//!
//! ```text
//!   A: INCR k -------> sent            :8        -> A gets 8
//!   B: INCR k     waits \
//!   C: INCRBY k 5 waits  > INCRBY k 7  :15       -> B 9, C 14, D 15
//!   D: INCR k     waits /
//! ```
//!
//! That is what the server would have said had they come one after the other:
//! all have the same sign, so that no sum on the way is beyond the last one's
//! bounds. If the server refuses the sum, each is sent alone. Until it has its
//! answer, a client that waits here sends nothing else.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use emberline_hotkey::{HotKey, KeyHash};
use emberline_protocol::redis::{encode, reply};
use emberline_routing::{PoolId, ServerId};

use super::backend::Entry;
use super::errand::Errand;
use super::fault::Fault;
use super::flight::Waiter;
use super::heat::Touch;
use super::worker::Worker;
use crate::metrics::Event;

/// Increments that travel together at most.
const PARTS_MAX: usize = 1024;

/// What waits for the increments in flight, by key.
pub type Queues = HashMap<KeyHash, Vec<Part>>;

/// One client's increment.
#[derive(Debug)]
pub struct Part {
    /// Whose it is.
    pub owner: Waiter,
    /// How much.
    pub delta: i64,
    /// The client sends nothing else until it has its answer.
    pub holds: bool,
}

/// Increments of one key that went to its server as one.
#[derive(Debug)]
pub struct Batch {
    /// The key.
    pub key: Arc<HotKey>,
    /// Its server.
    pub server: ServerId,
    /// In their order.
    pub parts: Vec<Part>,
}

/// Whether an increment can wait for others.
pub fn may_join(queue: &[Part], delta: i64) -> bool {
    let sum: i64 = queue.iter().map(|part| part.delta).sum();
    let same_sign = queue
        .first()
        .is_none_or(|part| (part.delta < 0) == (delta < 0));
    queue.len() < PARTS_MAX && same_sign && sum.checked_add(delta).is_some()
}

impl Part {
    fn deliver(self, worker: &Worker, reply: &[u8]) {
        let Waiter {
            client,
            seq,
            fragment,
            ..
        } = &self.owner;
        client.deliver(worker, *seq, *fragment, reply, true);
        self.release();
    }

    fn release(&self) {
        if self.holds {
            self.owner.client.release();
        }
    }
}

impl Batch {
    /// The server has answered.
    pub fn answered(mut self, worker: &Rc<Worker>, reply: &[u8]) {
        let (key, server) = (Arc::clone(&self.key), self.server);
        match (reply::integer(reply), self.parts.len()) {
            (_, 1) => {
                if let Some(part) = self.parts.pop() {
                    part.deliver(worker, reply);
                }
            }
            (Some(total), _) => self.share(worker, total),
            (None, _) => self.replay(worker),
        }
        send_next(worker, key, server);
    }

    /// Every part gets what the sum was when its own had been added.
    fn share(self, worker: &Worker, total: i64) {
        let sum: i64 = self.parts.iter().map(|part| part.delta).sum();
        let mut value = total.wrapping_sub(sum);
        let mut answer = Vec::new();
        for part in self.parts {
            value = value.wrapping_add(part.delta);
            answer.clear();
            encode::integer(&mut answer, value);
            part.deliver(worker, &answer);
        }
    }

    /// The server has refused the sum: it may take some of the parts.
    fn replay(self, worker: &Rc<Worker>) {
        for part in self.parts {
            let (client, seq) = (Rc::clone(&part.owner.client), part.owner.seq);
            match worker.backend(self.server, client.wire().version(), client.id) {
                Ok(backend) => {
                    let entry = Entry::new(client, seq, 0, worker.now());
                    let entry = entry.touching(touch_of(worker, &self.key));
                    let (key, delta) = (&self.key.key, part.delta);
                    backend.push(worker, entry, |out| ask(key, delta, out));
                }
                Err(fault) => {
                    let text = fault.text(worker.server_name(self.server));
                    client.fail(worker, seq, 0, &text, fault.verdict());
                }
            }
            part.release();
        }
    }

    /// There is no answer: whether the sum was added may not be known.
    pub fn failed(self, worker: &Rc<Worker>, fault: &Fault, text: &str) {
        let (key, server) = (Arc::clone(&self.key), self.server);
        for part in self.parts {
            let Waiter {
                client,
                seq,
                fragment,
                ..
            } = &part.owner;
            client.fail(worker, *seq, *fragment, text, fault.verdict());
            part.release();
        }
        send_next(worker, key, server);
    }
}

/// Send what has come while the last ones were in flight.
fn send_next(worker: &Rc<Worker>, key: Arc<HotKey>, server: ServerId) {
    let mut queues = worker.heat.increments.borrow_mut();
    let parts = match queues.get_mut(&key.hash) {
        Some(parts) if !parts.is_empty() => std::mem::take(parts),
        _ => {
            queues.remove(&key.hash);
            return;
        }
    };
    drop(queues);
    let Some(first) = parts.first() else { return };
    let client = &first.owner.client;
    let sum: i64 = parts.iter().map(|part| part.delta).sum();
    worker
        .meter
        .event(key.pool, Event::Combined, parts.len() as u64 - 1);
    match worker.backend(server, client.wire().version(), client.id) {
        Ok(backend) => {
            let touch = touch_of(worker, &key);
            let name = Arc::clone(&key);
            let batch = Batch { key, server, parts };
            let entry = Entry::errand(Errand::Increments(batch), worker.now());
            backend.push(worker, entry.touching(touch), |out| {
                ask(&name.key, sum, out);
            });
        }
        Err(fault) => {
            let text = fault.text(worker.server_name(server));
            let batch = Batch { key, server, parts };
            batch.failed(worker, &fault, &text);
        }
    }
}

/// What an increment of this key touches.
pub fn touch_of(worker: &Worker, key: &HotKey) -> Touch {
    let (pool, touch) = (PoolId(key.pool), Touch::Write(key.hash));
    worker.heat.told(pool, touch, std::iter::once(&*key.key))
}

fn ask(key: &[u8], delta: i64, out: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    let delta = number.format(delta).as_bytes();
    encode::command(out, [b"INCRBY".as_slice(), key, delta].into_iter());
}
