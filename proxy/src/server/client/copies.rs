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
use emberline_protocol::memcache::{self, Verb};
use emberline_protocol::redis::command::lookup;
use emberline_protocol::redis::{self, encode};
use emberline_protocol::{Kind, Outcome};
use emberline_routing::{PoolId, ServerId, Target};

use super::Client;
use super::conversation::{Conversation, Next};
use super::recall::Read;
use super::scatter::Fragments;
use super::split::Place;
use crate::l1::Ask;
use crate::metrics::Event;
use crate::running::{Partial, Protocol};
use crate::server::backend::{Backend, Entry};
use crate::server::errand::Errand;
use crate::server::flight::{Flight, Waiter};
use crate::server::gather::{Gather, Merge};
use crate::server::heat::Touch;
use crate::server::pipeline::{Record, Via};
use crate::server::worker::Worker;

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
        let record = Record {
            via: Via::Memory,
            key: Some(read.hash),
            ..record
        };
        if !key.is_copied(worker.now()) {
            return self.wait_for_copies(worker, read, key, record);
        }
        if self.read_clashes(read.hash) {
            return Some(self.wait_for_all());
        }
        let backend = worker.less_busy(&self.client, &worker.copies(read.pool, read.server))?;
        let backend = match self.room(backend) {
            Ok(Some(backend)) => backend,
            Ok(None) => return Some(Next::Wait),
            // Its own server is not read while there are copies.
            Err(fault) => {
                let reader = self.seat_reader(read, record);
                let text = fault.text(worker.server_name(read.server));
                let Waiter { client, seq, .. } = reader;
                client.fail(worker, seq, reader.fragment, &text, fault.verdict());
                return Some(Next::Taken);
            }
        };
        let reader = self.seat_reader(read, record);
        worker.push_copy(&backend, reader, &key, read.server);
        Some(Next::Taken)
    }

    /// Wait until there are copies. Reads that went to the key's own server
    /// meanwhile might see what is newer than the copies that are being made;
    /// `None` if none can be made just now.
    fn wait_for_copies(
        &mut self,
        worker: &Rc<Worker>,
        read: &Read<'_>,
        key: Arc<HotKey>,
        record: Record,
    ) -> Option<Next> {
        let now = worker.now();
        let after = worker.heat.with_seat(read.hash, |seat| seat.copies_after)?;
        if now < after {
            return None;
        }
        let token = key.begin(now)?;
        let place = (read.hash, token);
        let waiting = worker.heat.flights.borrow().get(&place).map(|flight| {
            let full = flight.waiters.len() >= worker.pool(read.pool).l1.waiters_max;
            full || !flight.copies
        });
        match waiting {
            Some(true) => return None,
            _ if self.read_clashes(read.hash) => return Some(self.wait_for_all()),
            _ => {}
        }
        if waiting.is_none() {
            worker.heat.ask(Ask::Copy {
                key: Arc::clone(&key),
                token,
                home: read.server,
                copies: worker.copies(read.pool, read.server),
                worker: worker.index,
            });
        }
        let waiter = self.seat_reader(read, record);
        let mut flights = worker.heat.flights.borrow_mut();
        let flight = flights.entry(place).or_insert_with(|| Flight {
            key,
            server: read.server,
            copies: true,
            epoch: worker.heat.epoch(read.server),
            started: now,
            waiters: Vec::new(),
        });
        flight.waiters.push(waiter);
        Some(Next::Taken)
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
            .map(|server| Place::To(Target::Send(server)))
            .collect();
        let touch = std::cell::Cell::new(Some(touch));
        let fragments = Fragments {
            course: |_, _| None,
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

    /// Send a read to a copy of its key, or to the key's own server if there
    /// are none any more.
    pub fn ask_copy(self: &Rc<Worker>, reader: Waiter, key: &Arc<HotKey>, home: ServerId) {
        let backend = match key.is_copied(self.now()) {
            true => self.less_busy(&reader.client, &self.copies(PoolId(key.pool), home)),
            false => None,
        };
        match backend {
            Some(backend) => self.push_copy(&backend, reader, key, home),
            None => self.ask_server(reader, key, home),
        }
    }

    fn push_copy(
        self: &Rc<Worker>,
        backend: &Rc<Backend>,
        reader: Waiter,
        key: &Arc<HotKey>,
        home: ServerId,
    ) {
        self.meter.event(key.pool, Event::SplitRead, 1);
        let form = reader.form.clone();
        let name = Arc::clone(key);
        let key = Arc::clone(key);
        let errand = Errand::Copy { reader, key, home };
        let entry = Entry::errand(errand, self.now()).touching(Touch::Look(name.hash));
        backend.push(self, entry, |out| form.ask(&name.key, out));
    }

    /// The less busy of two connections to these servers.
    fn less_busy(self: &Rc<Worker>, client: &Client, servers: &[ServerId]) -> Option<Rc<Backend>> {
        let count = servers.len() as u64;
        let first = self.random().checked_rem(count)?;
        let second = (first + 1 + self.random() % (count - 1).max(1)) % count;
        let version = client.wire().version();
        let open = |at: u64| {
            let server = *servers.get(usize::try_from(at).ok()?)?;
            self.backend(server, version, client.id).ok()
        };
        match (open(first), open(second)) {
            (Some(a), Some(b)) if b.inflight() < a.inflight() => Some(b),
            (a, b) => a.or(b),
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
            Touch::Told(told) => self.forget_all_copies(told.touch(), home),
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
            let version = redis::Version::Resp2;
            if let Ok(backend) = self.backend(server, version, 0) {
                let entry = Entry::unheard(self.now());
                backend.push(self, entry, |out| forget(protocol, &key.key, out));
            }
        }
    }
}

/// Append the request that deletes a copy.
pub fn forget(protocol: Protocol, key: &[u8], out: &mut Vec<u8>) {
    match protocol {
        Protocol::Redis => encode::command(out, [b"DEL".as_slice(), key].into_iter()),
        // It came in base64, and would not be one word.
        Protocol::Memcached if !memcache::key_ok(key) => {
            out.extend_from_slice(b"md ");
            memcache::base64::encode(out, key);
            out.extend_from_slice(b" b\r\n");
        }
        Protocol::Memcached => {
            out.extend_from_slice(b"delete ");
            out.extend_from_slice(key);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Append one request that deletes all of these, which are on one server; in
/// memcached there is only one.
pub fn forget_all<'k>(
    protocol: Protocol,
    keys: impl Iterator<Item = &'k [u8]> + Clone,
    out: &mut Vec<u8>,
) {
    match protocol {
        Protocol::Redis => {
            encode::array(out, 1 + keys.clone().count());
            std::iter::once(b"DEL".as_slice())
                .chain(keys)
                .for_each(|argument| encode::bulk(out, argument));
        }
        Protocol::Memcached => keys.for_each(|key| forget(protocol, key, out)),
    }
}

/// What a reply, or its beginning, to such a request says; `None` if more is
/// needed.
pub fn forgotten(protocol: Protocol, key: &[u8], reply: &[u8]) -> Option<Outcome> {
    match protocol {
        Protocol::Redis => redis::outcome(lookup(b"del"), Kind::Delete, reply),
        Protocol::Memcached if !memcache::key_ok(key) => memcache::outcome(Verb::MetaDelete, reply),
        Protocol::Memcached => memcache::outcome(Verb::Delete, reply),
    }
}
