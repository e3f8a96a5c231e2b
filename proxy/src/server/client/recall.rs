//! Reads of promoted keys: answered from memory, or made to wait for the one
//! who fetches.

use std::rc::Rc;
use std::sync::Arc;

use emberline_hotkey::{Access, HotKey, Item, KeyHash, Seat, Token, Value};
use emberline_routing::{Plan, PoolId, ServerId};

use super::conversation::{Conversation, Next};
use crate::l1::{Ask, encode};
use crate::metrics::{Event, Verdict};
use crate::running::{L1, Mode};
use crate::server::backend::Entry;
use crate::server::errand::Errand;
use crate::server::flight::{Detour, Flight, Waiter};
use crate::server::form::Form;
use crate::server::gather::Wire;
use crate::server::increment::{Batch, Part, Queues, may_join, touch_of};
use crate::server::pipeline::{Record, Shape, Via};
use crate::server::worker::Worker;

/// A read of one key that memory may answer.
pub(super) struct Read<'a> {
    /// Its key's pool.
    pub pool: PoolId,
    /// Its key's server.
    pub server: ServerId,
    /// Its key, base64 decoded.
    pub key: &'a [u8],
    /// The key's hash.
    pub hash: KeyHash,
    /// How the client wants the value.
    pub form: Form<'a>,
    /// Whether "there is no such key" is the answer, too.
    pub misses: bool,
}

/// Where the answer goes.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// To a slot of its own.
    Slot(Record),
    /// To a part of a slot that has been taken.
    Part {
        /// The slot.
        seq: u64,
        /// The part.
        fragment: u32,
    },
}

/// What memory says to a read.
pub(super) enum Recall {
    /// Nothing: it is the server's.
    Nothing,
    /// Its answer has been written.
    Answered,
    /// Nothing fresh: whoever fetches it holds this token.
    Fetch(Arc<HotKey>, Token),
}

impl Conversation {
    /// Whether memory may answer this read, whatever it finds there.
    pub(super) fn is_recalled(&self, worker: &Worker, read: &Read<'_>) -> bool {
        let heat = &worker.heat;
        // Nothing is fetched from a server that is never to be connected to.
        if heat.is_cold() || worker.server(read.server).down {
            return false;
        }
        let settings = heat.pool(read.pool);
        let now = worker.now();
        let promoted = |seat: &mut Seat| {
            if *seat.key.key != *read.key {
                return false;
            }
            match settings.mode {
                Mode::Off => false,
                Mode::Observe => {
                    let ttl = worker.pool(read.pool).l1.ttl;
                    observe(worker, seat, ttl, now);
                    false
                }
                Mode::Ttl | Mode::Tracking | Mode::Revalidate => {
                    let fit = now >= seat.unfit_until;
                    if !fit {
                        worker.meter.event(read.pool.0, Event::Bypass, 1);
                    }
                    fit
                }
            }
        };
        heat.with_seat(read.hash, promoted).unwrap_or(false)
    }

    /// What has to be before a plan of several places is carried out: the
    /// client's own fetches have ended, whoever must be asked has room or has
    /// been waited for, and the request has been counted; or else, what to do
    /// instead.
    pub(super) fn prepare_dispatch(
        &mut self,
        worker: &Rc<Worker>,
        access: Access,
        keys: &[&[u8]],
        plan: &Plan,
    ) -> Option<Next> {
        if self.fetch_clashes(worker, None) {
            return Some(self.wait_for_all());
        }
        let first = plan.first()?;
        for key in keys {
            self.note(worker, worker.pool_of_target(first), access, key);
        }
        let (version, id) = (self.client.wire().version(), self.client.id);
        let way = |server: ServerId| worker.backend(server, version, id).ok();
        let mut is_full = |server: ServerId| way(server).is_some_and(|way| way.is_full());
        let full = plan.waits_for(access == Access::Read, &mut is_full);
        // Who has waited long enough is sent on, and told by its course.
        match self.room(full.and_then(way)?) {
            Ok(None) => Some(Next::Wait),
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// A request is about to be planned, perhaps again.
    pub(super) fn begin_planning(&mut self, worker: &Worker) {
        self.awaits_delete = false;
        worker.states.take_up(self.receipts.take());
    }

    /// It has been, and may have to wait: then it is counted and limited no
    /// second time.
    pub(super) fn end_planning(&mut self, worker: &Worker, next: &Next) {
        self.noted = matches!(next, Next::Wait);
        match self.noted {
            true => self.receipts = Some(worker.states.put_off()),
            false => self.deleted_until = 0,
        }
    }

    /// Count a request, once however often it has to wait before it is taken
    /// up; answers its key's hash, if the pool is watched.
    pub(super) fn note(
        &self,
        worker: &Worker,
        pool: PoolId,
        access: Access,
        key: &[u8],
    ) -> Option<KeyHash> {
        match self.noted {
            false => worker.heat.note(pool, access, key, worker.now()),
            true => worker.heat.hash(pool, key),
        }
    }

    /// Answer a read from memory; `None` if it is the server's.
    pub(super) fn recall(
        &mut self,
        worker: &Rc<Worker>,
        read: &Read<'_>,
        record: Record,
    ) -> Option<Next> {
        if !self.is_recalled(worker, read) {
            return None;
        }
        let record = Record {
            via: Via::Memory,
            key: Some(read.hash),
            ..record
        };
        if worker.heat.pool(read.pool).mode == Mode::Revalidate {
            return self.revalidate(worker, read, record);
        }
        if self.read_clashes(read.hash) {
            return Some(self.wait_for_all());
        }
        self.recall_into(worker, read, Goal::Slot(record))
            .then_some(Next::Taken)
    }

    /// Ask the server whether what memory has is still the same; `None` if
    /// memory has nothing.
    ///
    /// The question takes the way that the read itself would take, so nothing
    /// that the client asked before can be overtaken.
    fn revalidate(&mut self, worker: &Rc<Worker>, read: &Read<'_>, record: Record) -> Option<Next> {
        let (heat, now) = (&worker.heat, worker.now());
        let found = heat.with_seat(read.hash, |seat| {
            let item = seat.fresh(&heat.l1.store, |server| heat.l1.pulse(server), now);
            if let Some(item) = item {
                return Some((Arc::clone(item), Arc::clone(&seat.key)));
            }
            seat.miss();
            worker.meter.event(read.pool.0, Event::Miss, 1);
            let generation = seat.key.generation();
            // How it ends is told: what failed is tried again.
            if seat.asked != generation && refresh(worker, seat, read.server, Some(worker.index)) {
                seat.asked = generation;
            }
            None
        });
        let (item, key) = found.flatten()?;
        let Some(backend) = self.way(read.server, self.client.wire().version()).ok()? else {
            return Some(Next::Wait);
        };
        let reader = self.seat_reader(read, record);
        let errand = Errand::Revalidate { reader, key, item };
        let entry = Entry::errand(errand, now);
        backend.push(worker, entry, |out| encode::revalidate(out, read.key));
        Some(Next::Taken)
    }

    /// Ask the server itself for a promoted key that may be under a lease;
    /// `None` if its reply cannot be taken for a value.
    pub(super) fn ask_leased(
        &mut self,
        worker: &Rc<Worker>,
        read: &Read<'_>,
        record: Record,
    ) -> Option<Next> {
        if worker.pool(read.pool).l1.lease.is_zero() || !read.form.is_text() {
            return None;
        }
        let key = worker.heat.key(read.hash)?;
        if self
            .way(read.server, self.client.wire().version())
            .ok()?
            .is_none()
        {
            return Some(Next::Wait);
        }
        let reader = self.seat_reader(read, record);
        worker.ask_server(reader, &key, read.server);
        Some(Next::Taken)
    }

    /// Send an increment of a promoted key, or let it wait for those in
    /// flight; `None` if it is one like any other. `write` appends it.
    #[expect(
        clippy::too_many_arguments,
        reason = "what there is to know of one increment"
    )]
    pub(super) fn combine(
        &mut self,
        worker: &Rc<Worker>,
        server: ServerId,
        hash: KeyHash,
        key: &[u8],
        delta: i64,
        record: Record,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Next> {
        if !worker.pool_of(server).hotkey.combine_increments {
            return None;
        }
        let hot = worker.heat.key(hash).filter(|hot| *hot.key == *key)?;
        let queue = |queues: &Queues| queues.get(&hash).map(|queue| may_join(queue, delta));
        let waits = queue(&worker.heat.increments.borrow());
        match waits {
            Some(false) => return None,
            // What it asked before may go another way than the others.
            Some(true) if self.read_clashes(hash) => return Some(self.wait_for_all()),
            Some(true) => {}
            None => {}
        }
        let backend = match waits {
            None => match self.way(server, self.client.wire().version()).ok()? {
                None => return Some(Next::Wait),
                backend => backend,
            },
            Some(_) => None,
        };
        let mute = self.mute();
        let owner = Waiter {
            client: Rc::clone(&self.client),
            seq: self.push(Shape::Plain, mute, record),
            fragment: 0,
            form: Form::Bulk,
            detour: None,
        };
        let mut queues = worker.heat.increments.borrow_mut();
        let queue = queues.entry(hash).or_default();
        let holds = backend.is_none();
        let part = Part {
            owner,
            delta,
            holds,
        };
        match backend {
            None => {
                self.client.hold();
                queue.push(part);
            }
            Some(backend) => {
                drop(queues);
                let touch = touch_of(worker, &hot);
                let batch = Batch {
                    key: hot,
                    server,
                    parts: vec![part],
                };
                let entry = Entry::errand(Errand::Increments(batch), worker.now());
                backend.push(worker, entry.touching(touch), write);
            }
        }
        Some(Next::Taken)
    }

    /// Answer a read that [`is_recalled`](Self::is_recalled), or let it wait;
    /// false if it has to go to its server after all.
    pub(super) fn recall_into(
        &mut self,
        worker: &Rc<Worker>,
        read: &Read<'_>,
        target: Goal,
    ) -> bool {
        match self.look(worker, read, target) {
            Recall::Nothing => false,
            Recall::Answered => true,
            Recall::Fetch(key, token) => {
                let joined = self.join(worker, read, (key, token), target, || None);
                joined.is_some()
            }
        }
    }

    pub(super) fn look(&mut self, worker: &Rc<Worker>, read: &Read<'_>, target: Goal) -> Recall {
        let (heat, now) = (&worker.heat, worker.now());
        let wire = self.client.wire();
        let found = heat.with_seat(read.hash, |seat| {
            let Some(item) = seat.fresh(&heat.l1.store, |server| heat.l1.pulse(server), now) else {
                seat.miss();
                worker.meter.event(read.pool.0, Event::Miss, 1);
                return match seat.key.begin(now) {
                    Some(token) => Recall::Fetch(Arc::clone(&seat.key), token),
                    None => Recall::Nothing,
                };
            };
            if matches!(item.value, Value::Missing) && !read.misses {
                return Recall::Nothing;
            }
            self.give(worker, read, &item.value, wire, target);
            let due = is_due(worker, item, worker.pool(read.pool).l1.early_refresh);
            let (bytes, generation) = (item.value.len(), item.generation);
            seat.hit(1, bytes);
            if due && seat.asked != generation && refresh(worker, seat, read.server, None) {
                seat.asked = generation;
            }
            Recall::Answered
        });
        found.unwrap_or(Recall::Nothing)
    }

    /// Write the answer that memory has.
    fn give(
        &mut self,
        worker: &Rc<Worker>,
        read: &Read<'_>,
        value: &Value,
        wire: Wire,
        target: Goal,
    ) {
        match target {
            Goal::Slot(record) => self.reply(record, Verdict::Ok, |out| {
                read.form.write(read.key, value, wire, out);
            }),
            Goal::Part { seq, fragment } => {
                let mut reply = worker.scratch.take();
                reply.clear();
                read.form.write(read.key, value, wire, &mut reply);
                self.client.deliver(worker, seq, fragment, &reply, true);
                worker.scratch.replace(reply);
            }
        }
    }

    /// Take a slot for a read whose reply does not come to it by itself.
    pub(super) fn seat_reader(&mut self, read: &Read<'_>, record: Record) -> Waiter {
        let mute = self.mute();
        Waiter {
            client: Rc::clone(&self.client),
            seq: self.push(read.form.shape(), mute, record),
            fragment: 0,
            form: read.form.clone().into_owned(),
            detour: None,
        }
    }

    /// Wait for whoever fetches the value, in this slot; `None` if too many wait
    /// already.
    pub(super) fn join(
        &mut self,
        worker: &Rc<Worker>,
        read: &Read<'_>,
        (key, token): (Arc<HotKey>, Token),
        target: Goal,
        detour: impl FnOnce() -> Option<Box<Detour>>,
    ) -> Option<u64> {
        let heat = &worker.heat;
        let place = (read.hash, token);
        let settings = &worker.pool(read.pool).l1;
        let epoch = worker.heat.epoch(read.server);
        let waiting = heat.flights.borrow().get(&place).map(|flight| {
            // What is fetched is as old as the question: who comes too late
            // would be told something older than the mode promises.
            let late = worker.now().saturating_sub(flight.started) >= age_max(settings);
            (flight.waiters.len(), late || flight.epoch != epoch)
        });
        if waiting.is_some_and(|(waiting, late)| waiting >= settings.waiters_max || late) {
            worker.meter.event(read.pool.0, Event::Bypass, 1);
            return None;
        }
        let (seq, fragment) = match target {
            Goal::Slot(record) => {
                let mute = self.mute();
                (self.push(read.form.shape(), mute, record), 0)
            }
            Goal::Part { seq, fragment } => (seq, fragment),
        };
        let waiter = Waiter {
            client: Rc::clone(&self.client),
            seq,
            fragment,
            form: read.form.clone().into_owned(),
            detour: detour(),
        };
        if waiting.is_none() {
            heat.ask(Ask::Fill {
                key: Arc::clone(&key),
                token,
                server: read.server,
                worker: Some(worker.index),
            });
        }
        let mut flights = heat.flights.borrow_mut();
        let flight = flights.entry(place).or_insert_with(|| Flight {
            key,
            server: read.server,
            copies: false,
            epoch,
            started: worker.now(),
            waiters: Vec::new(),
        });
        flight.waiters.push(waiter);
        Some(seq)
    }
}

/// How long ago a fetch that somebody still joins may have been asked for, in
/// nanoseconds. Whoever waits for the holder of a lease may wait longer; and
/// what may be told when the server gives no answer may as well be as old when
/// it gives one late.
fn age_max(settings: &L1) -> u64 {
    let age = match settings.mode {
        Mode::Tracking => settings.ttl.min(settings.heartbeat),
        _ => settings.ttl,
    };
    u64::try_from((age + settings.lease + settings.stale_if_error).as_nanos()).unwrap_or(u64::MAX)
}

/// Whether to ask anew although the item may still be served, so that nobody
/// has to wait when it expires.
fn is_due(worker: &Worker, item: &Item, beta: f64) -> bool {
    let now = worker.now();
    // Further from the end than ten mean advances it is not worth a logarithm.
    let near = (item.took as f64 * beta * 10.0) as u64;
    if item.expires.saturating_sub(now) > near {
        return false;
    }
    let chance = ((worker.random() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    item.is_due(now, beta, chance)
}

/// Have the value fetched although no client waits for it; `told` is the
/// worker that hears how it ended. False if nothing may be fetched just now.
fn refresh(worker: &Worker, seat: &Seat, server: ServerId, told: Option<usize>) -> bool {
    let Some(token) = seat.key.begin(worker.now()) else {
        return false;
    };
    worker.heat.ask(Ask::Fill {
        key: Arc::clone(&seat.key),
        token,
        server,
        worker: told,
    });
    true
}

/// `observe`: count what memory would have done.
fn observe(worker: &Worker, seat: &mut Seat, ttl: std::time::Duration, now: u64) {
    let generation = seat.key.generation();
    let event = if now < seat.observed_until && seat.asked == generation {
        seat.hit(1, 0);
        Event::WouldHit
    } else {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        seat.observed_until = now.saturating_add(ttl);
        seat.asked = generation;
        seat.miss();
        Event::WouldMiss
    };
    worker.meter.event(seat.key.pool, event, 1);
}
