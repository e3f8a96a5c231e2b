//! Copies of keys that one server has and another should have: behind the
//! readers' backs, added and never overwritten, with TTL and flags.
//!
//! ```text
//!   ask the server that has it  ->  was it deleted meanwhile?  ->  add
//!                                                                  | deleted now?
//!                                                                  v delete again
//! ```
//!
//! A delete that overtakes a refill would be undone by it. So whoever deletes
//! puts up a *tombstone* first, for all workers to see; a refill looks for it
//! before it adds, and once more after: if the delete came in between, it may
//! have reached the server before the copy did, and is done again. That second
//! delete is *owed* ([`Owed`](super::Owed)): it is sent again until its server has
//! carried it out, and nothing else about the key goes there before. There must be
//! room to owe it before a copy is sent.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use emberline_hotkey::KeyHash;
use emberline_protocol::redis::Version;
use emberline_protocol::{Fetched, Outcome, memcache, redis};
use emberline_routing::{Change, ServerId, StateId};

use super::request::Request;
use crate::nanos::nanos;
use crate::server::backend::Entry;
use crate::server::errand::Errand;
use crate::server::heat::Touch;
use crate::server::worker::Worker;

/// A larger item is not copied.
const COPIED_MAX: usize = 8 * 1024 * 1024;

/// Copies that one worker makes at the same time; beyond it they are not made,
/// and the next reader's miss tries again.
const REFILLS_MAX: usize = 1024;

/// How long "everything was deleted" is remembered.
pub const BURIED: Duration = Duration::from_secs(2);

/// A copy under way.
#[derive(Debug)]
pub struct Refilling {
    redis: bool,
    /// What the source has said so far.
    replies: RefCell<Vec<u8>>,
    /// One of them will not come.
    broken: Cell<bool>,
    to: Vec<(ServerId, Box<[u8]>)>,
    cap: Option<Duration>,
    /// Among whose marks a delete would be, and when the copy was begun.
    tombstone: Option<(StateId, u64)>,
}

/// A step of it, as an errand.
#[derive(Clone, Debug)]
pub enum Step {
    /// One of the replies of who has it; the last one of them.
    Fetch {
        /// Whether nothing follows.
        last: bool,
    },
    /// The reply of who is given it.
    Add {
        /// That server.
        server: ServerId,
        /// The key there.
        key: Box<[u8]>,
    },
}

/// Begin a copy of what `source` has under a key.
pub(super) fn begin(
    worker: &Rc<Worker>,
    request: &Request,
    (source, key): (ServerId, &[u8]),
    to: Vec<(ServerId, Change)>,
    (cap, tombstone): (Option<Duration>, Option<StateId>),
) {
    if worker.refills.get() >= REFILLS_MAX {
        return;
    }
    let Ok(backend) = worker.backend(source, Version::Resp2, 0) else {
        return;
    };
    if backend.is_full() {
        return;
    }
    let own = |change: &Change| -> Box<[u8]> {
        change.key.clone().unwrap_or_else(|| request.key().into())
    };
    let refilling = Rc::new(Refilling {
        redis: request.is_redis(),
        replies: RefCell::default(),
        broken: Cell::new(false),
        to: to
            .iter()
            .map(|(server, change)| (*server, own(change)))
            .collect(),
        cap,
        tombstone: tombstone.map(|state| (state, worker.now())),
    });
    let mut questions = Vec::new();
    match refilling.redis {
        true => {
            for name in [b"PTTL", b"DUMP"] {
                let mut question = Vec::new();
                redis::encode::command(&mut question, [name.as_slice(), key].into_iter());
                questions.push(question);
            }
        }
        false => {
            let mut question = Vec::new();
            if memcache::copy::ask(&mut question, key).is_err() {
                return;
            }
            questions.push(question);
        }
    }
    worker.refills.set(worker.refills.get() + 1);
    for (number, question) in questions.iter().enumerate() {
        let last = number + 1 == questions.len();
        let errand = Errand::Refill(Rc::clone(&refilling), Step::Fetch { last });
        backend.push(worker, Entry::errand(errand, worker.now()), |out| {
            out.extend_from_slice(question);
        });
    }
}

impl Refilling {
    /// A step's reply has come.
    pub fn answered(self: &Rc<Self>, worker: &Rc<Worker>, step: Step, reply: &[u8]) {
        match step {
            Step::Fetch { last } => {
                self.replies.borrow_mut().extend_from_slice(reply);
                if last {
                    worker.refills.set(worker.refills.get().saturating_sub(1));
                    self.add(worker);
                }
            }
            Step::Add { server, key } => {
                let refused = match self.redis {
                    true => reply.starts_with(b"-"),
                    false => !reply.starts_with(b"HD"),
                };
                self.added(worker, server, &key, !refused);
            }
        }
    }

    /// There is no reply to a step, and this is what became of it.
    pub fn failed(self: &Rc<Self>, worker: &Rc<Worker>, step: &Step, outcome: Outcome) {
        match step {
            Step::Fetch { last: true } => {
                worker.refills.set(worker.refills.get().saturating_sub(1));
            }
            Step::Fetch { last: false } => self.broken.set(true),
            Step::Add { server, key } => {
                let unsent = matches!(outcome, Outcome::Connect | Outcome::Down);
                self.added(worker, *server, key, !unsent);
            }
        }
    }

    /// A server has been given its copy, or may have. Whoever deleted the key
    /// meanwhile may have been there before it.
    fn added(&self, worker: &Rc<Worker>, server: ServerId, key: &[u8], may_be_there: bool) {
        match may_be_there && self.is_deleted(worker, key) {
            true => worker.owe_delete(server, key),
            false => worker.hub.owed.give_up(key),
        }
    }

    /// Whether more than this of a reply is too much.
    pub fn is_too_long(&self, len: usize) -> bool {
        len > COPIED_MAX
    }

    fn is_deleted(&self, worker: &Worker, key: &[u8]) -> bool {
        self.tombstone.is_some_and(|(state, since)| {
            let key = worker.mark(state, key);
            worker.hub.graves.has(key, since)
        })
    }

    fn add(self: &Rc<Self>, worker: &Rc<Worker>) {
        let replies = self.replies.take();
        if self.broken.get() {
            return;
        }
        let fetched = match self.redis {
            true => redis::copy::fetched(&replies),
            false => memcache::copy::fetched(&replies),
        };
        let Ok(Fetched::Found { copied, .. }) = fetched else {
            return;
        };
        let payload = replies.get(copied.payload.clone()).unwrap_or_default();
        for (server, key) in &self.to {
            if self.is_deleted(worker, key) || worker.awaits_delete(*server, key) {
                continue;
            }
            let mut bytes = Vec::with_capacity(payload.len() + 64);
            match self.redis {
                true => redis::copy::add(&mut bytes, key, payload, &copied, self.cap),
                false => {
                    let now = Duration::from_millis(worker.unix_millis());
                    let (cap, out) = (self.cap, &mut bytes);
                    if memcache::copy::add(out, key, payload, &copied, cap, now).is_err() {
                        continue;
                    }
                }
            }
            self.send(worker, *server, key, &bytes);
        }
    }

    /// Give a server its copy, if there is room to owe it a delete of that.
    fn send(self: &Rc<Self>, worker: &Rc<Worker>, server: ServerId, key: &[u8], bytes: &[u8]) {
        let Ok(backend) = worker.backend(server, Version::Resp2, 0) else {
            return;
        };
        if !worker.hub.owed.reserve(key) {
            return;
        }
        let step = Step::Add {
            server,
            key: key.into(),
        };
        let errand = Errand::Refill(Rc::clone(self), step);
        let pool = worker.pool_of_server(server);
        let touch = worker
            .heat
            .hash(pool, key)
            .map_or(Touch::None, Touch::Write);
        let entry = Entry::errand(errand, worker.now()).touching(touch);
        backend.push(worker, entry, |out| out.extend_from_slice(bytes));
    }
}

/// What was done to keys a moment ago, for all workers of the process: what was
/// deleted, or what is known not to be there.
#[derive(Debug, Default)]
pub struct Graves {
    dug: Mutex<Dug>,
}

#[derive(Debug, Default)]
struct Dug {
    /// When each key was last marked, and until when that counts.
    keys: HashMap<KeyHash, (u64, u64)>,
    /// When all of them were.
    all: Option<(u64, u64)>,
    /// Look for those that have passed when there are more.
    tidy_at: usize,
}

impl Graves {
    /// Mark a key, from now on and for so long; whether there was room.
    #[must_use]
    pub fn dig(&self, key: KeyHash, now: u64, life: Duration) -> bool {
        let mut dug = self.lock();
        if dug.keys.len() >= dug.tidy_at {
            dug.keys.retain(|_, (_, until)| *until > now);
            dug.tidy_at = (dug.keys.len() * 2).clamp(TIDY_MIN, MARKS_MAX);
        }
        let room = dug.keys.len() < MARKS_MAX || dug.keys.contains_key(&key);
        if room {
            dug.keys.insert(key, (now, now.saturating_add(nanos(life))));
        }
        room
    }

    /// Mark all keys.
    pub fn dig_all(&self, now: u64, life: Duration) {
        self.lock().all = Some((now, now.saturating_add(nanos(life))));
    }

    /// Forget a key's mark.
    pub fn fill_in(&self, key: KeyHash) {
        self.lock().keys.remove(&key);
    }

    /// Whether a key was marked after `since`, or before and that still counted.
    pub fn has(&self, key: KeyHash, since: u64) -> bool {
        let dug = self.lock();
        let counts = |(at, until): (u64, u64)| at >= since || until > since;
        dug.keys.get(&key).copied().is_some_and(counts) || dug.all.is_some_and(counts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Dug> {
        self.dug.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks that are kept at the same time: some 10 MiB.
const MARKS_MAX: usize = 1 << 18;

/// Marks that are kept at least before those that have passed are looked for.
const TIDY_MIN: usize = 1024;
