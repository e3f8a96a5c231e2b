//! One worker: a thread with a runtime of its own, its clients and its
//! connections to the servers.
//!
//! Everything here is used by that thread alone, so it is `Rc`, `Cell` and
//! `RefCell`: no lock, no channel and no atomic read-modify-write lies on the
//! way of a request. No borrow is held across a call that can come back here.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use emberline_hotkey::KeyHash;
use emberline_protocol::memcache;
use emberline_protocol::redis::{self as resp, Version};
use emberline_routing::{
    Ask, Conditions, Plan, PoolId, ServerId, StateId, States, Target, Upstream,
};
use slab::Slab;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use super::Hub;
use super::client::{self, Client, Parsers, Ways};
use super::connections::Connections;
use super::gather::Wire;
use super::health::Health;
use super::heat::{Heat, Touch};
use super::pipeline::{Pipeline, Record};
use super::places::places;
use super::policy::Policy;
use super::replay;
use super::socket::Socket;
use crate::answer::Context;
use crate::delete_log::{DeleteLogs, ServerLog};
use crate::generation::Generation;
use crate::l1::Landed;
use crate::log::Limited;
use crate::metrics::{Class, Meter, Shed, Verdict};
use crate::nanos::nanos;
use crate::running::{Listener, Pool, Protocol, Running, Server};

/// Bytes read at once from any socket.
const READ: usize = 64 * 1024;

/// Pipelines kept for clients that become busy: enough for those of one turn,
/// few enough that their buffers do not add up to much.
const PIPELINES: usize = 64;

/// A client for which a connection waits may read nothing for this long.
const READ_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The same while others wait for the room of what it has asked for.
const READ_PAUSE_MIN: Duration = Duration::from_millis(500);

/// How often what heat is made of is looked at.
const HEAT_TICK: Duration = Duration::from_millis(100);

/// What the acceptor and the signals tell a worker.
pub enum Message {
    /// A new client of the listener with this index.
    Client(std::net::TcpStream, usize),
    /// The same over a Unix socket.
    Local(std::os::unix::net::UnixStream, usize),
    /// A fill has ended.
    Landed(Landed),
    /// From here on the process runs on this.
    Reload(Arc<Generation>),
    /// Answer what is in flight and end.
    Drain,
}

/// See the module's description.
///
/// A worker runs on one generation of the configuration and never changes its
/// mind. A reload makes the next worker of the same thread, which takes over
/// all that the thread has; tasks move on to it when they are polled the next
/// time, clients between two requests.
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What the process runs on.
    pub running: Arc<Running>,
    /// Which generation that is.
    generation: u64,
    /// Its cells.
    pub meter: Arc<Meter>,
    /// What the workers share.
    pub hub: Arc<Hub>,
    /// Which keys are hot, and what is done about it.
    pub heat: Heat,
    /// Which servers are down.
    pub health: Health,
    /// Where every socket is read into.
    pub read_buffer: Rc<RefCell<Box<[u8]>>>,
    /// For clients whose requests come whole.
    pub parsers: Rc<RefCell<Parsers>>,
    /// For replies that are made here.
    pub scratch: Rc<RefCell<Vec<u8>>>,
    /// For requests that go to several places.
    pub ways: Rc<RefCell<Ways>>,
    /// What routes remember.
    pub states: Rc<States>,
    /// How often that was all forgotten.
    era: u16,
    /// Copies that are being made behind the readers' backs.
    pub refills: Rc<Cell<usize>>,
    /// Everywhere that keys of each listener may be.
    pub places: Vec<Vec<Target>>,
    /// Which commands each listener lets through.
    pub policies: Vec<Policy>,
    /// The number of `GET` among the meter's commands.
    pub get: u16,
    /// How large a Redis request may be.
    pub limits: resp::Limits,
    /// The same for a client that has not authenticated.
    pub limits_before_auth: resp::Limits,
    /// How large a memcached request may be, by listener.
    pub memcache_limits: Vec<memcache::Limits>,
    /// What could not be deleted yet.
    deletes: Arc<DeleteLogs>,
    /// Whether some pool has a log of that.
    durable: bool,
    /// To each server.
    pub(super) connections: Box<[Rc<Connections>]>,
    thread: Rc<Thread>,
}

/// What a thread has, whatever it runs on.
struct Thread {
    /// Its newest worker; the thread's own loop keeps it alive.
    newest: RefCell<Weak<Worker>>,
    epoch: Instant,
    clock: Cell<u64>,
    /// What the wall clock is ahead of `clock`, in milliseconds, as of the last
    /// second.
    wall_ahead: Cell<u64>,
    #[expect(
        clippy::vec_box,
        reason = "lent as they are, so that lending moves a pointer"
    )]
    pipelines: RefCell<Vec<Box<Pipeline>>>,
    clients: RefCell<Slab<Rc<Client>>>,
    held: Cell<usize>,
    held_max: usize,
    draining: Cell<bool>,
    /// Deletes that wait are being sent.
    replaying: Cell<bool>,
    random: Cell<u64>,
    /// A server that answers once and hangs up must not fill the log.
    losses: Limited,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker without clients.
    pub fn new(index: usize, hub: Arc<Hub>, meter: Arc<Meter>) -> Rc<Worker> {
        let generation = hub.state.current().load();
        let running = Arc::clone(&generation.running);
        let thread = Thread {
            newest: RefCell::default(),
            held_max: running.proxy.memory_max / running.proxy.workers.max(1),
            epoch: hub.l1.epoch,
            clock: Cell::new(0),
            wall_ahead: Cell::new(0),
            pipelines: RefCell::default(),
            clients: RefCell::default(),
            held: Cell::new(0),
            draining: Cell::new(false),
            replaying: Cell::new(false),
            random: Cell::new(seed()),
            losses: Limited::new(5),
        };
        let worker = Rc::new(Worker {
            index,
            generation: generation.number,
            connections: running.servers.all().map(|_| Rc::default()).collect(),
            meter,
            health: Health::new(&running, Arc::clone(&hub.state.health)),
            heat: Heat::new(index, Arc::clone(&hub.l1), &generation),
            hub,
            read_buffer: Rc::new(RefCell::new(vec![0; READ].into_boxed_slice())),
            parsers: Rc::default(),
            scratch: Rc::default(),
            ways: Rc::default(),
            states: Rc::new(route_states(&running)),
            era: 0,
            refills: Rc::default(),
            places: everywhere(&running),
            policies: running.listeners.all().map(Policy::new).collect(),
            get: resp::command::lookup(b"get").map_or(crate::metrics::OTHER, |get| get.id),
            limits: resp::Limits::default(),
            limits_before_auth: resp::Limits::unauthenticated(),
            memcache_limits: running.listeners.all().map(memcache_limits).collect(),
            deletes: Arc::clone(&generation.deletes),
            durable: !generation.deletes.is_empty(),
            thread: Rc::new(thread),
            running,
        });
        worker.thread.newest.replace(Rc::downgrade(&worker));
        worker
    }

    /// The same thread's next worker, which takes over everything.
    fn next(&self, generation: &Generation) -> Rc<Worker> {
        let old = &self.running;
        let running = Arc::clone(&generation.running);
        let connections = |at| match old.keeps_server(&running, at) {
            true => self.connections.get(at).map_or_else(Rc::default, Rc::clone),
            false => Rc::default(),
        };
        // Routes that remember something are numbered: when there are others, a
        // number would mean another one.
        let (states, era) = match old.routes == running.routes {
            true => (Rc::clone(&self.states), self.era),
            false => {
                self.bury_all();
                (Rc::new(route_states(&running)), self.era.wrapping_add(1))
            }
        };
        let meter = generation.meters.get(self.index);
        let worker = Rc::new(Worker {
            index: self.index,
            generation: generation.number,
            connections: (0..running.servers.places()).map(connections).collect(),
            meter: Arc::clone(meter.unwrap_or(&self.meter)),
            health: self.health.next(old, &running),
            heat: self.heat.next(generation),
            hub: Arc::clone(&self.hub),
            read_buffer: Rc::clone(&self.read_buffer),
            parsers: Rc::clone(&self.parsers),
            scratch: Rc::clone(&self.scratch),
            ways: Rc::clone(&self.ways),
            states,
            era,
            refills: Rc::clone(&self.refills),
            places: everywhere(&running),
            policies: running.listeners.all().map(Policy::new).collect(),
            get: self.get,
            limits: self.limits,
            limits_before_auth: self.limits_before_auth,
            memcache_limits: running.listeners.all().map(memcache_limits).collect(),
            deletes: Arc::clone(&generation.deletes),
            durable: !generation.deletes.is_empty(),
            thread: Rc::clone(&self.thread),
            running,
        });
        self.thread.newest.replace(Rc::downgrade(&worker));
        worker.retire_strangers(self);
        worker.wake_all();
        worker
    }

    /// Connections that were made for other servers, or under other terms than
    /// now, take no new requests.
    fn retire_strangers(&self, before: &Worker) {
        for (at, own) in before.connections.iter().enumerate() {
            let kept = self
                .connections
                .get(at)
                .is_some_and(|kept| Rc::ptr_eq(kept, own));
            if !kept || !before.running.keeps_terms(&self.running, at) {
                own.retire();
            }
        }
    }

    /// A request may have opened a connection to a server that has gone, if it
    /// was in flight when that happened.
    fn retire_gone(&self) {
        for (at, own) in self.connections.iter().enumerate() {
            if self.running.servers.is_gone(at) {
                own.retire();
            }
        }
    }

    /// Have every task look which worker is the newest.
    fn wake_all(&self) {
        for (_, client) in self.thread.clients.borrow().iter() {
            client.wake();
        }
        self.connections.iter().for_each(|own| own.wake());
    }

    /// The worker of the same thread that has taken over, if one has.
    pub fn successor(&self) -> Option<Rc<Worker>> {
        let newest = self.thread.newest.borrow().upgrade()?;
        (newest.generation != self.generation).then_some(newest)
    }

    /// Whether this listener is not there any more.
    pub fn has_lost(&self, listener: usize) -> bool {
        self.running.listeners.is_gone(listener)
    }

    /// Serve until told to drain and the last client has gone.
    pub async fn run(mut self: Rc<Worker>, mut messages: mpsc::UnboundedReceiver<Message>) {
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.replay_deletes();
        let mut heat = tokio::time::interval(HEAT_TICK);
        heat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The time of day is known before the first request is planned.
        self.sweep();
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Message::Client(stream, listener)) => self.admit_tcp(stream, listener),
                    Some(Message::Local(stream, listener)) => self.admit_unix(stream, listener),
                    Some(Message::Landed(landed)) => self.land(landed),
                    Some(Message::Reload(generation)) => {
                        self = self.next(&generation);
                        self.replay_deletes();
                    }
                    Some(Message::Drain) | None => break,
                },
                _ = sweep.tick() => self.sweep(),
                _ = heat.tick() => self.sweep_heat(),
            }
        }
        self.thread.draining.set(true);
        while !self.thread.clients.borrow().is_empty() {
            for (_, client) in self.thread.clients.borrow().iter() {
                client.wake();
            }
            self.sweep_heat();
            let pause = Duration::from_millis(5);
            if let Ok(Some(Message::Landed(landed))) = timeout(pause, messages.recv()).await {
                self.land(landed);
            }
        }
    }

    fn admit_tcp(self: &Rc<Worker>, stream: std::net::TcpStream, listener: usize) {
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => self.admit(Socket::Tcp(stream), listener),
            Err(error) => self.refuse(listener, &error),
        }
    }

    fn admit_unix(self: &Rc<Worker>, stream: std::os::unix::net::UnixStream, listener: usize) {
        match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => self.admit(Socket::Unix(stream), listener),
            Err(error) => self.refuse(listener, &error),
        }
    }

    fn admit(self: &Rc<Worker>, socket: Socket, listener: usize) {
        self.meter.clients(listener, 1);
        let client = {
            let mut clients = self.thread.clients.borrow_mut();
            let seat = clients.vacant_entry();
            let wire = match self.running.listeners[listener].protocol {
                Protocol::Redis => Wire::Redis(Version::Resp2),
                Protocol::Memcached => Wire::Memcached,
            };
            let id = self.hub.client_ids.fetch_add(1, Ordering::Relaxed);
            let client = Rc::new(Client::new(id, socket.origin(), seat.key(), listener, wire));
            seat.insert(Rc::clone(&client));
            client
        };
        tokio::task::spawn_local(client::run(Rc::clone(self), client, socket));
    }

    fn refuse(&self, listener: usize, error: &std::io::Error) {
        warn!(listener = self.running.listeners[listener].name, %error, "a new client was lost");
        self.hub.leave(self.index);
    }

    /// A client has gone.
    pub fn dismiss(&self, client: &Client) {
        self.thread.clients.borrow_mut().try_remove(client.seat);
        self.meter.clients(client.listener, -1);
        self.hub.leave(self.index);
    }

    /// Once a second: clients that have started a request and do not go on.
    fn sweep(&self) {
        self.tick();
        let ahead = self.unix_millis().saturating_sub(self.now() / 1_000_000);
        self.thread.wall_ahead.set(ahead);
        self.hub.report(self.index, self.thread.held.get());
        self.retire_gone();
        let limit = nanos(self.running.proxy.timeout_head);
        let patience = self.running.proxy.timeout_drain;
        for (_, client) in self.thread.clients.borrow().iter() {
            let listeners = &self.running.listeners;
            if listeners
                .gone_for(client.listener)
                .is_some_and(|gone| gone > patience)
            {
                client.kill("its listener is not there any more");
            }
            if client
                .waits_since()
                .is_some_and(|since| since + limit < self.now())
            {
                client.kill("it began a request and did not finish it in time");
            }
            // Whoever reads nothing must not keep others from being served,
            // nor a connection to a server for ever.
            let unread = |limit: u64| {
                let since = client.unread_since();
                since.is_some_and(|since| since + limit < self.now())
            };
            if self.is_overloaded() && unread(limit) {
                client.kill("it does not read its replies, and memory is short");
            } else if client.takes_room() && unread(nanos(READ_PAUSE_MIN)) {
                client.kill("it does not read its replies and takes the room of others");
            } else if client.is_waited_for() && unread(nanos(READ_PAUSE_MAX)) {
                client.kill("it has not read its replies for a long time");
            }
        }
    }

    /// A few times a second: what heat is made of grows old by itself.
    fn sweep_heat(self: &Rc<Worker>) {
        self.tick();
        self.heat.tick(self.now(), &self.meter);
        self.sweep_flights();
        self.replay_debts();
    }

    /// Have deletes that wait be sent, if this is the worker that does so.
    fn replay_deletes(self: &Rc<Worker>) {
        if self.durable && self.index == 0 && !self.thread.replaying.replace(true) {
            tokio::task::spawn_local(replay::run(Rc::clone(self)));
        }
    }

    /// No pool has a delete log any more.
    pub fn end_replay(&self) {
        self.thread.replaying.set(false);
    }

    /// What this server could not be told, if its pool has a log of that.
    #[inline]
    pub fn delete_log(&self, server: ServerId) -> Option<&ServerLog> {
        self.deletes.of(server)
    }

    /// Whether some pool has a delete log.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether deletes may wait: some pool has a log of them, or one has been
    /// owed since the process began.
    #[inline]
    pub fn may_await_deletes(&self) -> bool {
        self.durable || self.hub.owed.is_used()
    }

    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.thread.draining.get()
    }

    /// Whether a lost connection may be logged, and how many were not.
    pub(super) fn may_log_loss(&self) -> Option<u64> {
        self.thread.losses.admit()
    }

    /// Read the clock; every task does so when it is polled.
    pub fn tick(&self) {
        self.thread.clock.set(nanos(self.thread.epoch.elapsed()));
        self.heat.follow();
    }

    /// Nanoseconds of the process's clock, as of the last [`tick`](Self::tick).
    pub fn now(&self) -> u64 {
        self.thread.clock.get()
    }

    /// A cheap random number, for jitter and for choices that need no secret.
    pub fn random(&self) -> u64 {
        // xorshift64, Marsaglia 2003.
        let mut x = self.thread.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.thread.random.set(x);
        x
    }

    /// A key as it is marked for one route: for that one alone, and not for one
    /// that has its number after a reload.
    pub fn mark(&self, state: StateId, key: &[u8]) -> KeyHash {
        let salt = self.era.wrapping_mul(0x9e37);
        self.heat.l1.hasher.hash_in(state.0 ^ salt, key)
    }

    /// A server's settings.
    pub fn server(&self, server: ServerId) -> &Server {
        &self.running.servers[server.0 as usize]
    }

    /// A server's name in errors, logs and metrics.
    pub fn server_name(&self, server: ServerId) -> &str {
        &self.server(server).name
    }

    /// What a request touches of which it is not known what it changes.
    pub fn touch_all(&self, server: ServerId) -> Touch {
        let heat = self.heat.pool(self.server(server).pool);
        match heat.remembers() || heat.copies > 0 {
            true => Touch::All(server.0),
            false => Touch::None,
        }
    }

    /// The number of the pool that a server belongs to.
    pub fn pool_of_server(&self, server: ServerId) -> PoolId {
        self.server(server).pool
    }

    /// The pool that a server belongs to.
    pub fn pool_of(&self, server: ServerId) -> &Pool {
        self.pool(self.server(server).pool)
    }

    /// A pool's settings.
    pub fn pool(&self, pool: PoolId) -> &Pool {
        &self.running.pools[usize::from(pool.0)]
    }

    /// What to do with a request of this client.
    #[inline]
    pub fn plan(&self, listener: &Listener, client: u64, ask: &Ask<'_>) -> Plan {
        let plan = listener.router.plan(ask, &self.conditions(client));
        match self.may_await_deletes() {
            false => plan,
            true => self.mind_deletes(plan, ask),
        }
    }

    /// What plans for this client depend on now.
    pub fn conditions(&self, client: u64) -> Conditions<'_> {
        let now_ms = self.now() / 1_000_000;
        Conditions {
            upstream: self,
            states: &self.states,
            now_ms,
            unix_ms: now_ms + self.thread.wall_ahead.get(),
            client,
        }
    }

    /// The pool that a plan leads to.
    pub fn pool_of_target(&self, plan: Target) -> PoolId {
        match plan {
            Target::Send(server) => self.server(server).pool,
            Target::Answer(pool) => pool,
        }
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }

    /// Let `work` see what the proxy's own answers may need to know.
    pub fn with_context<T>(&self, listener: usize, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let figures = || self.hub.figures();
        let hotkeys = || self.hub.hotkeys(listener);
        work(&Context {
            running: &self.running,
            listener: &self.running.listeners[listener],
            now: self.unix_millis(),
            figures: &figures,
            hotkeys: &hotkeys,
        })
    }

    /// A pipeline for a client that becomes busy.
    ///
    /// Its requests are numbered from `first` on.
    pub fn lend_pipeline(&self, first: u64) -> Box<Pipeline> {
        let mut pipeline = self.thread.pipelines.borrow_mut().pop().unwrap_or_default();
        pipeline.number_from(first);
        pipeline
    }

    /// Take back a client's idle pipeline.
    pub fn return_pipeline(&self, pipeline: Box<Pipeline>) {
        let mut pipelines = self.thread.pipelines.borrow_mut();
        if pipelines.len() < PIPELINES {
            pipelines.push(pipeline);
        }
    }

    /// Account for buffers that have grown or shrunk.
    pub fn account(&self, before: usize, after: usize) {
        self.thread
            .held
            .set((self.thread.held.get() + after).saturating_sub(before));
    }

    /// Whether buffers hold so much that new requests are shed.
    pub fn is_overloaded(&self) -> bool {
        self.thread.held.get() > self.thread.held_max
    }

    /// Whether buffers may hold this much more.
    pub fn has_room(&self, more: usize) -> bool {
        self.thread.held.get().saturating_add(more) <= self.thread.held_max
    }

    /// Count a request.
    pub fn count(&self, listener: usize, record: Record, verdict: Verdict) {
        let pool = record.pool.map(PoolId);
        self.meter.request(listener, pool, record.command, verdict);
        if let Some(pool) = pool {
            let class = if record.read {
                Class::Read
            } else {
                Class::Write
            };
            self.meter
                .latency(pool, class, self.now().saturating_sub(record.started));
        }
    }

    /// Count `GET`s of a pool that were answered as soon as they were read.
    pub fn count_gets(&self, listener: usize, pool: PoolId, times: u64) {
        self.meter.gets_at_once(listener, pool, self.get, times);
    }

    /// Say that a request was refused for want of memory.
    pub fn shed(&self) {
        self.meter.shed(Shed::Memory);
    }
}

impl Upstream for Worker {
    fn is_ejected(&self, server: ServerId) -> bool {
        self.health.is_ejected(server)
    }

    fn inflight(&self, server: ServerId) -> u32 {
        self.health.inflight(server)
    }
}

/// What routes remember: nothing yet.
fn route_states(running: &Running) -> States {
    States::new(running.route_states, seed()).shared_by(running.proxy.workers)
}

/// Everywhere that keys of each listener may be.
fn everywhere(running: &Running) -> Vec<Vec<Target>> {
    let listeners = running.listeners.all();
    listeners
        .map(|listener| places(running, listener))
        .collect()
}

fn memcache_limits(listener: &Listener) -> memcache::Limits {
    memcache::Limits {
        value_max: listener.value_max,
        ..memcache::Limits::default()
    }
}

/// Different in every process, or all of them would reconnect in step; never 0.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}
