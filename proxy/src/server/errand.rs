//! Requests whose replies are not handed on as they come: the proxy looks at
//! the reply first, and may have to ask again.
//!
//! ```text
//!   Copy         a read sent to a copy of its key:
//!                  found -> handed on      missing -> asked of the key's own server
//!   Revalidate   "is its cas still 7?":
//!                  yes -> answered from memory    no -> asked for the value
//!   Leased       a memcached read of a key that may be under a lease:
//!                  a value -> handed on   empty -> "is it only a lease?"
//!                                           yes -> missing    no -> asked again
//!   Leg          a request to one of the places of its plan: the course decides
//!   Refill       a step of a copy
//!   Replay       a delete that has waited in a log, or is owed
//!   Increments   several clients' INCRBYs in one:
//!                  a sum -> each its own part     an error -> each alone, in order
//! ```

use std::rc::Rc;
use std::sync::Arc;

use emberline_hotkey::{Held, HotKey, Value};
use emberline_protocol::redis::Version;
use emberline_protocol::{Outcome, memcache};
use emberline_routing::{Leg, ServerId};

use super::backend::Entry;
use super::client::Client;
use super::dispatch::{Dispatch, Heard, Refilling, refill};
use super::fault::Fault;
use super::flight::Waiter;
use super::heat::Touch;
use super::increment::Batch;
use super::replay::Replay;
use super::worker::Worker;
use crate::l1::encode::{self, Compared};
use crate::metrics::Event;

/// A longer reply to a question of the proxy is no honest one.
const QUESTION_MAX: usize = 64 * 1024;

/// See the module's description.
#[derive(Debug)]
pub enum Errand {
    /// A read that was sent to a copy.
    Copy {
        /// Whose read it is, and of what shape.
        reader: Waiter,
        /// The key.
        key: Arc<HotKey>,
        /// The server that the key belongs to.
        home: ServerId,
    },
    /// A question whether an item still holds.
    Revalidate {
        /// Whose read it is, and of what shape.
        reader: Waiter,
        /// The key.
        key: Arc<HotKey>,
        /// What memory has of it.
        item: Arc<Held>,
    },
    /// A read whose answer may be the empty item that stands for a lease.
    Leased {
        /// Whose read it is, and of what shape.
        reader: Waiter,
        /// The key.
        key: Arc<HotKey>,
        /// Its server.
        home: ServerId,
        /// The empty item was there: this is the question what it is.
        doubted: bool,
    },
    /// Increments that were added up.
    Increments(Batch),
    /// A request to one of the places of its plan.
    Leg {
        /// The request.
        dispatch: Rc<Dispatch>,
        /// Which of the places.
        leg: Leg,
        /// Its client waits for it, or may.
        heard: bool,
    },
    /// A delete that has waited.
    Replay(Replay),
    /// A step of a copy that is made behind the readers' backs.
    Refill(Rc<Refilling>, refill::Step),
}

impl Errand {
    /// Whether a reply that begins like this can be handed on as it comes.
    pub fn is_settled_by(&self, beginning: &[u8]) -> bool {
        match self {
            Errand::Copy { .. } => !is_missing(beginning),
            Errand::Leased { doubted, .. } => !doubted && !may_be_empty(beginning),
            Errand::Revalidate { .. }
            | Errand::Increments(_)
            | Errand::Leg { .. }
            | Errand::Replay(_)
            | Errand::Refill(..) => false,
        }
    }

    /// What is to become of a reply of which more is to come.
    pub fn hear(&self, worker: &Rc<Worker>, beginning: &[u8]) -> Heard {
        match self {
            Errand::Leg { dispatch, leg, .. } => dispatch.hear(worker, *leg, beginning),
            Errand::Refill(refilling, step) if refilling.is_too_long(beginning.len()) => {
                refilling.failed(worker, step, Outcome::Error);
                Heard::Unwanted
            }
            Errand::Refill(..) => Heard::Kept,
            _ if self.is_settled_by(beginning) => Heard::Answer,
            _ => Heard::Kept,
        }
    }

    /// The longest reply that can be an honest one.
    pub fn longest(&self) -> usize {
        match self {
            Errand::Leg { .. } | Errand::Refill(..) => usize::MAX,
            _ => QUESTION_MAX,
        }
    }

    /// Whose read it is, once it is an ordinary one.
    pub fn into_reader(self) -> Option<Waiter> {
        match self {
            Errand::Copy { reader, .. }
            | Errand::Revalidate { reader, .. }
            | Errand::Leased { reader, .. } => Some(reader),
            Errand::Leg { dispatch, .. } => Some(dispatch.waiter()),
            Errand::Increments(_) | Errand::Replay(_) | Errand::Refill(..) => None,
        }
    }

    /// Everybody who waits for the reply.
    pub fn each_client(&self, work: impl Fn(&Client)) {
        match self {
            Errand::Copy { reader, .. }
            | Errand::Revalidate { reader, .. }
            | Errand::Leased { reader, .. } => work(&reader.client),
            Errand::Increments(batch) => {
                let parts = batch.parts.iter();
                parts.for_each(|part| work(&part.owner.client));
            }
            Errand::Leg {
                dispatch,
                heard: true,
                ..
            } => work(dispatch.client()),
            Errand::Leg { .. } | Errand::Replay(_) | Errand::Refill(..) => {}
        }
    }

    /// The whole reply has come.
    pub fn answered(self, worker: &Rc<Worker>, reply: &[u8]) {
        match self {
            Errand::Copy { reader, key, home } => {
                if is_missing(reply) {
                    // The copy has gone: nobody reads copies before new ones.
                    key.invalidate();
                    worker.ask_server(reader, &key, home);
                } else {
                    let client = &reader.client;
                    client.deliver(worker, reader.seq, reader.fragment, reply, true);
                }
            }
            Errand::Revalidate { reader, key, item } => {
                revalidated(worker, reader, key, &item, reply);
            }
            Errand::Leased {
                reader,
                key,
                home,
                doubted: true,
            } => {
                if encode::is_lease(reply.trim_ascii_end()) {
                    reader.answer(worker, &key, &Value::Missing);
                } else {
                    let compared = encode::compare(reply.trim_ascii_end(), 0);
                    give_back(worker, &reader, &key, home, compared);
                    worker.ask_plainly(reader, &key, home);
                }
            }
            Errand::Leased {
                reader, key, home, ..
            } if may_be_empty(reply) && !reply.starts_with(b"END") => {
                ask_whether_leased(worker, reader, key, home);
            }
            Errand::Leased { reader, .. } => {
                let client = &reader.client;
                client.deliver(worker, reader.seq, reader.fragment, reply, true);
            }
            Errand::Increments(batch) => batch.answered(worker, reply),
            Errand::Leg { dispatch, leg, .. } => dispatch.answered(worker, leg, reply),
            Errand::Replay(replay) => replay.answered(worker, reply),
            Errand::Refill(refilling, step) => refilling.answered(worker, step, reply),
        }
    }

    /// There is no reply.
    /// `text` is what its client is told of `fault`.
    pub fn failed(self, worker: &Rc<Worker>, fault: &Fault, text: &str) {
        match self {
            Errand::Copy { reader, key, home } => {
                key.invalidate();
                worker.ask_server(reader, &key, home);
            }
            Errand::Revalidate { reader, .. } | Errand::Leased { reader, .. } => {
                let client = &reader.client;
                client.fail(worker, reader.seq, reader.fragment, text, fault.verdict());
            }
            Errand::Increments(batch) => batch.failed(worker, fault, text),
            Errand::Leg { dispatch, leg, .. } => dispatch.failed(worker, leg, fault),
            Errand::Replay(replay) => replay.failed(worker),
            Errand::Refill(refilling, step) => refilling.failed(worker, &step, fault.outcome()),
        }
    }
}

/// `$-1`, `_`, `END`, `EN`: there is no such key here. Errors count, too: a
/// copy is only worth reading when it is there.
fn is_missing(reply: &[u8]) -> bool {
    !matches!(
        reply,
        [b'$', b'0'..=b'9', ..] | [b'V', b'A', ..] | [b'H', b'D', ..]
    )
}

/// Whether this is, or may become, the reply to `get` or `gets` of an item
/// without data and with the flags 0, as the one is that stands for a lease.
fn may_be_empty(reply: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', reply) else {
        return true;
    };
    let mut words = memcache::tokens(&reply[..end]);
    words.next() == Some(b"VALUE") && words.nth(1) == Some(b"0") && words.next() == Some(b"0")
}

/// Ask what the empty item is that a `get` has found.
fn ask_whether_leased(worker: &Rc<Worker>, reader: Waiter, key: Arc<HotKey>, home: ServerId) {
    match worker.backend(home, Version::Resp2, reader.client.id) {
        Ok(backend) => {
            let name = Arc::clone(&key);
            let errand = Errand::Leased {
                reader,
                key,
                home,
                doubted: true,
            };
            let entry = Entry::errand(errand, worker.now());
            let entry = entry.touching(Touch::Look(name.hash));
            backend.push(worker, entry, |out| encode::revalidate(out, &name.key));
        }
        Err(_) => worker.ask_plainly(reader, &key, home),
    }
}

fn revalidated(worker: &Rc<Worker>, reader: Waiter, key: Arc<HotKey>, item: &Held, reply: &[u8]) {
    let Value::Memcached { cas, .. } = item.value else {
        return worker.ask_server(reader, &key, ServerId(item.server));
    };
    let home = ServerId(item.server);
    // A server that has started again counts its numbers from the beginning.
    if worker.heat.epoch(home) != item.epoch {
        return worker.ask_server(reader, &key, home);
    }
    match encode::compare(reply.trim_ascii_end(), cas) {
        Compared::Same => {
            worker.meter.event(key.pool, Event::Revalidated, 1);
            let bytes = item.value.len();
            worker.heat.with_seat(key.hash, |seat| seat.hit(1, bytes));
            reader.answer(worker, &key, &item.value);
        }
        Compared::Missing => {
            key.invalidate();
            reader.answer(worker, &key, &Value::Missing);
        }
        Compared::Changed => {
            key.invalidate();
            worker.ask_server(reader, &key, home);
        }
        won @ Compared::Won(_) => {
            key.invalidate();
            give_back(worker, &reader, &key, home, won);
            worker.ask_server(reader, &key, home);
        }
    }
}

/// If asking has made us the one who is to set a stale item anew, which is for
/// a client to be, give that back.
fn give_back(
    worker: &Rc<Worker>,
    reader: &Waiter,
    key: &HotKey,
    home: ServerId,
    compared: Compared,
) {
    let Compared::Won(won) = compared else {
        return;
    };
    if let Ok(backend) = worker.backend(home, Version::Resp2, reader.client.id) {
        let entry = Entry::unheard(worker.now());
        backend.push(worker, entry, |out| encode::give_back(out, &key.key, won));
    }
}

impl Worker {
    /// Ask the key's own server after all; its reply is handed on.
    pub fn ask_server(self: &Rc<Worker>, reader: Waiter, key: &Arc<HotKey>, home: ServerId) {
        let leased = !self.pool_of(home).l1.lease.is_zero() && reader.form.is_text();
        match self.backend(home, Version::Resp2, reader.client.id) {
            Ok(backend) if leased => {
                let form = reader.form.clone();
                let errand = Errand::Leased {
                    reader,
                    key: Arc::clone(key),
                    home,
                    doubted: false,
                };
                let entry = Entry::errand(errand, self.now());
                let entry = entry.touching(Touch::Read(key.hash));
                backend.push(self, entry, |out| form.ask(&key.key, out));
            }
            _ => self.ask_plainly(reader, key, home),
        }
    }

    /// The same, and its reply is handed on whatever it is.
    fn ask_plainly(self: &Rc<Worker>, reader: Waiter, key: &HotKey, home: ServerId) {
        let Waiter {
            client,
            seq,
            fragment,
            form,
            ..
        } = reader;
        match self.backend(home, client.wire().version(), client.id) {
            Ok(backend) => {
                let entry = Entry::new(client, seq, fragment, self.now());
                let entry = entry.touching(Touch::Read(key.hash));
                backend.push(self, entry, |out| form.ask(&key.key, out));
            }
            Err(fault) => {
                let text = fault.text(self.server_name(home));
                client.fail(self, seq, fragment, &text, fault.verdict());
            }
        }
    }
}
