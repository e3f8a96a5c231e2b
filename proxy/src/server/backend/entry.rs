//! One request on a connection: whose reply it awaits, since when, and what
//! becomes of the owner when it ends, well or not.

use std::ops::Range;
use std::rc::Rc;

use crate::server::client::Client;
use crate::server::errand::Errand;
use crate::server::fault::Fault;
use crate::server::heat::Touch;
use crate::server::worker::Worker;

/// The time of a request that is still being uploaded: late enough never to
/// be over, early enough to be added to.
pub(super) const UPLOADING: u64 = u64::MAX / 4;

/// One request whose reply has not come.
#[derive(Debug)]
pub struct Entry {
    pub(super) owner: Owner,
    /// When its last byte was written, or it last made progress; until it is
    /// written, when it was queued. In the worker's nanoseconds.
    pub(super) since: u64,
    /// When its last byte was written; until then, 0. That its reply makes
    /// progress does not change it.
    pub(super) asked: u64,
    /// Where it lies in all that was ever queued on the connection.
    pub(super) bytes: Range<u64>,
    /// The owner may send nothing until this entry has ended.
    pub(super) holds: bool,
    /// The keys that it concerns.
    pub(super) touch: Touch,
}

#[derive(Debug)]
pub(super) enum Owner {
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
    /// run before `Backend::settle`.
    pub fn uploading(client: Rc<Client>, seq: u64) -> Entry {
        Entry::new(client, seq, 0, UPLOADING)
    }

    pub(super) fn deliver(&self, worker: &Worker, bytes: &[u8], done: bool) {
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
    pub(super) fn take_errand(&mut self) -> Option<(Box<Errand>, Vec<u8>)> {
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
    pub(super) fn hand_on(&mut self, worker: &Worker, errand: Errand, reply: &[u8]) {
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
    pub(super) fn seq_of(&self, client: &Rc<Client>) -> Option<u64> {
        match &self.owner {
            Owner::Client {
                client: owner, seq, ..
            } if Rc::ptr_eq(owner, client) => Some(*seq),
            _ => None,
        }
    }

    /// Whether it can be taken back, `written` being how much was written of
    /// everything: our own first words cannot, nor what nobody waits for.
    pub(super) fn may_withdraw(&self, written: u64) -> bool {
        let waited_for = matches!(self.owner, Owner::Client { .. } | Owner::Errand(..));
        waited_for && self.bytes.start >= written && !self.bytes.is_empty()
    }

    pub(super) fn fail(mut self, worker: &Rc<Worker>, fault: &Fault, text: &str) {
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
    pub(super) fn end(self) {
        if self.holds
            && let Owner::Client { client, .. } = &self.owner
        {
            client.release();
        }
    }
}
