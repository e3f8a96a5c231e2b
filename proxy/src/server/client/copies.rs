//! Keys that are too hot for one server and cannot be kept in memory: further
//! servers have copies of them.
//!
//! ```text
//!   read    one of the copies, the less busy of two (power of two choices);
//!           missing there -> the key's own server, and no more copies are read
//!   write   own server and every copy's deletion; acknowledged when all are done
//! ```
//!
//! While copies are good, the key's own server is not read: all copies were
//! made of one answer, and a reader could otherwise see the newer value first.

use std::rc::Rc;
use std::sync::Arc;

use emberline_hotkey::{Access, HotKey, KeyHash, Seat};
use emberline_protocol::redis::encode;
use emberline_routing::{Plan, PoolId, ServerId};

use super::conversation::{Conversation, Next};
use super::recall::Read;
use super::scatter::Fragments;
use super::split::Place;
use crate::l1::Ask;
use crate::metrics::Event;
use crate::running::{Partial, Protocol};
use crate::server::backend::{Backend, Entry};
use crate::server::errand::Errand;
use crate::server::flight::Waiter;
use crate::server::gather::{Gather, Merge};
use crate::server::heat::Touch;
use crate::server::pipeline::{Record, Via};
use crate::server::worker::Worker;

/// How long a worker waits before it asks for copies again, in nanoseconds.
const ASK_PAUSE: u64 = 20_000_000;

impl Conversation {
    /// Send a read to a copy of its key; `None` if there is none to be read.
    pub(super) fn read_copy(
        &mut self,
        worker: &Rc<Worker>,
        read: &Read<'_>,
        record: Record,
    ) -> Option<Next> {
        let settings = worker.heat.pool(read.pool);
        if settings.copies == 0 || worker.heat.is_cold() || !read.form.is_copied() {
            return None;
        }
        let key = worker.splittable(read)?;
        if !key.is_copied(worker.now()) {
            worker.ask_for_copies(&key, read);
            return None;
        }
        if self.read_clashes(read.hash) {
            return Some(self.wait_for_all());
        }
        let backend = self.less_busy(worker, &worker.copies(read.pool, read.server))?;
        if backend.is_full() {
            self.parked = Some(backend);
            return Some(Next::Wait);
        }
        worker.meter.event(read.pool.0, Event::SplitRead, 1);
        let record = Record {
            via: Via::Memory,
            key: Some(read.hash),
            ..record
        };
        let mute = self.mute();
        let reader = Waiter {
            client: Rc::clone(&self.client),
            seq: self.push(read.form.shape(), mute, record),
            fragment: 0,
            form: read.form.clone().into_owned(),
        };
        let errand = Errand::Copy {
            reader,
            key,
            home: read.server,
        };
        let entry = Entry::errand(errand, worker.now()).touching(Touch::Look(read.hash));
        backend.push(worker, entry, |out| read.form.ask(read.key, out));
        Some(Next::Taken)
    }

    /// The less busy of two connections to these servers.
    fn less_busy(&self, worker: &Rc<Worker>, servers: &[ServerId]) -> Option<Rc<Backend>> {
        let count = servers.len() as u64;
        let first = worker.random().checked_rem(count)?;
        let second = (first + 1 + worker.random() % (count - 1).max(1)) % count;
        let version = self.client.wire().version();
        let open = |at: u64| {
            let server = *servers.get(usize::try_from(at).ok()?)?;
            worker.backend(server, version, self.client.id).ok()
        };
        match (open(first), open(second)) {
            (Some(a), Some(b)) if b.inflight() < a.inflight() => Some(b),
            (a, b) => a.or(b),
        }
    }

    /// Where copies of this key may be, if there are any.
    pub(super) fn copies_of(
        &self,
        worker: &Worker,
        hash: KeyHash,
        home: ServerId,
    ) -> Option<Vec<ServerId>> {
        let key = worker.heat.key(hash)?;
        key.has_copies(worker.now())
            .then(|| worker.copies(PoolId(key.pool), home))
    }

    /// Send a write to its server and deletions to the copies' servers; it is
    /// answered when all of them have answered.
    pub(super) fn write_copied(
        &mut self,
        worker: &Rc<Worker>,
        (home, copies): (ServerId, &[ServerId]),
        record: Record,
        touch: Touch,
        write: impl Fn(&mut Vec<u8>),
        forget: impl Fn(&mut Vec<u8>),
    ) -> Next {
        let servers = std::iter::once(home).chain(copies.iter().copied());
        let places: Vec<Place> = servers
            .map(|server| Place::Plan(Plan::Send(server)))
            .collect();
        let touch = std::cell::Cell::new(Some(touch));
        let fragments = Fragments {
            merge: Merge::Main,
            partial: Partial::Error,
            quiet: false,
            fill: |_: &mut Gather| (),
            write: |fragment: usize, out: &mut Vec<u8>| match fragment {
                0 => write(out),
                _ => forget(out),
            },
            answer: |_: PoolId, _: &[u8], _: &mut Vec<u8>| (),
            touch: |fragment: usize, _: ServerId| match fragment {
                0 => touch.take().unwrap_or_default(),
                _ => Touch::None,
            },
            recall: |_: u32, _: ServerId| None,
        };
        self.scatter(worker, &places, record, fragments)
    }
}

impl Worker {
    /// The key, if it is one that further servers may have copies of.
    fn splittable(&self, read: &Read<'_>) -> Option<Arc<HotKey>> {
        let pool = self.pool(read.pool);
        let answers = self.heat.pool(read.pool).answers();
        let listed = || pool.hotkey.split.iter().any(|key| **key == *read.key);
        let seat = |seat: &mut Seat| {
            let carried = answers && !seat.large;
            (*seat.key.key == *read.key && (!carried || listed())).then(|| Arc::clone(&seat.key))
        };
        self.heat.with_seat(read.hash, seat).flatten()
    }

    /// The servers that copies of a key live on whose own server is `home`.
    fn copies(&self, pool: PoolId, home: ServerId) -> Vec<ServerId> {
        let count = usize::from(self.heat.pool(pool).copies);
        let live = self.heat.live(pool);
        let at = live.iter().position(|server| *server == home).unwrap_or(0);
        let others = live.iter().cycle().skip(at).take(live.len());
        let others = others.filter(|server| **server != home);
        others.take(count).copied().collect()
    }

    fn ask_for_copies(&self, key: &Arc<HotKey>, read: &Read<'_>) {
        let now = self.now();
        let asks = |seat: &mut Seat| {
            let asks = now >= seat.copies_asked.saturating_add(ASK_PAUSE);
            if asks {
                seat.copies_asked = now;
            }
            asks
        };
        let asks = self.heat.with_seat(read.hash, asks).unwrap_or(false);
        if let (true, Some(token)) = (asks, key.begin(now)) {
            self.heat.l1.ask(Ask::Copy {
                key: Arc::clone(key),
                token,
                home: read.server,
                copies: self.copies(read.pool, read.server),
            });
        }
    }

    /// The same for each key that a request writes to this server.
    pub fn forget_all_copies(self: &Rc<Worker>, touch: &Touch, home: ServerId) {
        if self.heat.is_cold() {
            return;
        }
        match touch {
            Touch::Write(hash) => self.forget_copies(*hash, home),
            Touch::Many(Access::Write, hashes) => {
                let each = hashes.iter();
                each.for_each(|hash| self.forget_copies(*hash, home));
            }
            _ => {}
        }
    }

    /// Delete whatever copies there are of a key whose server is `home`;
    /// nobody waits for it.
    pub fn forget_copies(self: &Rc<Worker>, hash: KeyHash, home: ServerId) {
        let Some(key) = self.heat.key(hash).filter(|key| key.has_copies(self.now())) else {
            return;
        };
        let protocol = self.pool_of(home).protocol;
        for server in self.copies(PoolId(key.pool), home) {
            let version = emberline_protocol::redis::Version::Resp2;
            if let Ok(backend) = self.backend(server, version, 0) {
                let entry = Entry::unheard(self.now());
                backend.push(self, entry, |out| forget(protocol, &key.key, out));
            }
        }
    }
}

/// Append the request that deletes a copy.
pub(super) fn forget(protocol: Protocol, key: &[u8], out: &mut Vec<u8>) {
    match protocol {
        Protocol::Redis => encode::command(out, [b"DEL".as_slice(), key].into_iter()),
        Protocol::Memcached => {
            out.extend_from_slice(b"delete ");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\r\n");
        }
    }
}
