//! What one worker counts.
//!
//! A worker owns its meter and is the only thread that writes it; the admin
//! thread reads it now and then. So a counter needs no read-modify-write and
//! no lock: the writer loads, adds and stores with relaxed ordering, which on
//! every machine we run on is the price of a plain `u64`. A reader may be a
//! few requests behind and never sees a torn number. (The same counter in the
//! `prometheus` crate, looked up by its labels, costs about thirty times as
//! much.)
//!
//! A meter knows indexes alone. Names are put to them when `scrape` sums the
//! meters of all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use emberline_protocol::Kind;
use emberline_routing::{PoolId, ServerId};

use super::duration::{BUCKETS, bucket};
use super::requests::Requests;
use crate::running::Running;

/// How a request ended, as label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A reply that is not an error.
    Ok,
    /// The server answered with an error, or a merged reply became one.
    Error,
    /// No reply came in time.
    Timeout,
    /// There was no connection to send it on, or it broke.
    Unavailable,
    /// The proxy turned it down: unsupported, denied, malformed or shed.
    Refused,
}

impl Verdict {
    /// Every verdict, in the order of its cells.
    pub const ALL: [Verdict; 5] = [
        Verdict::Ok,
        Verdict::Error,
        Verdict::Timeout,
        Verdict::Unavailable,
        Verdict::Refused,
    ];

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Error => "error",
            Verdict::Timeout => "timeout",
            Verdict::Unavailable => "unavailable",
            Verdict::Refused => "refused",
        }
    }
}

/// What a request does, as label `class`: coarse, because each value costs a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Leaves its keys as they are.
    Read,
    /// Changes something.
    Write,
    /// Concerns no single key.
    Other,
}

impl Class {
    /// Every class, in the order of its cells.
    pub const ALL: [Class; 3] = [Class::Read, Class::Write, Class::Other];

    /// The class of a request of this kind.
    pub fn of(kind: Kind) -> Class {
        match kind {
            Kind::Read => Class::Read,
            Kind::Write | Kind::Delete | Kind::Counter | Kind::Touch => Class::Write,
            Kind::Other => Class::Other,
        }
    }

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Write => "write",
            Class::Other => "other",
        }
    }
}

/// Why something was turned away to protect the process, as label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shed {
    /// A connection beyond `clients_max`.
    Clients,
    /// A request while the buffers were beyond `memory_max`.
    Memory,
}

impl Shed {
    /// Every reason, in the order of its cells.
    pub const ALL: [Shed; 2] = [Shed::Clients, Shed::Memory];

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Shed::Clients => "clients",
            Shed::Memory => "memory",
        }
    }
}

/// What one worker knows of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// No connection was tried yet: they are opened when first needed.
    Unused,
    /// The last connection attempt succeeded.
    Up,
    /// The last connection attempt failed, or the last connection broke.
    Down,
}

impl Health {
    /// The word in `/pools`.
    pub fn name(self) -> &'static str {
        match self {
            Health::Unused => "unused",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// Something that happened to promoted keys, as label `event` of
/// `emberline_l1_events_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A read was answered from memory, if only with "there is no such key";
    /// counted a few times a second.
    Hit,
    /// A read of a promoted key found nothing fresh and asked for it, or
    /// joined those who had.
    Miss,
    /// A read of a promoted key went to its server all the same: too many
    /// were waiting, the fill failed, or the value cannot be kept.
    Bypass,
    /// `observe`: a read that would have been answered from memory.
    WouldHit,
    /// `observe`: a read that would have had to be asked.
    WouldMiss,
    /// A fill was sent to a server.
    Fill,
    /// A fill was sent before its item expired.
    Refresh,
    /// What a fill brought was kept.
    Installed,
    /// Something happened to the key before the fill was back.
    Poisoned,
    /// What a fill brought cannot be kept.
    Unfit,
    /// A fill had no answer.
    Failed,
    /// A server pushed that a key had changed.
    Push,
    /// A server pushed that all keys had gone, or its connection was lost.
    Turn,
    /// A write through this proxy concerned a promoted key.
    Write,
    /// Another proxy said that a key had been written.
    Bus,
    /// A write's outcome is not known: no fills for a while.
    Quarantine,
    /// A key was dropped because it changes too often.
    Churn,
    /// A server was told that a key is in use.
    Touch,
    /// An item was served past its end because its server gave no answer.
    Stale,
    /// `revalidate`: the server said that the value is still the same.
    Revalidated,
    /// A read went to a copy of its key.
    SplitRead,
    /// A key was copied to further servers.
    Split,
    /// An increment was added to others.
    Combined,
    /// memcached: a client was given the lease of a missing key.
    Lease,
}

impl Event {
    /// Every event, in the order of its cells.
    pub const ALL: [Event; 24] = [
        Event::Hit,
        Event::Miss,
        Event::Bypass,
        Event::WouldHit,
        Event::WouldMiss,
        Event::Fill,
        Event::Refresh,
        Event::Installed,
        Event::Poisoned,
        Event::Unfit,
        Event::Failed,
        Event::Push,
        Event::Turn,
        Event::Write,
        Event::Bus,
        Event::Quarantine,
        Event::Churn,
        Event::Touch,
        Event::Stale,
        Event::Revalidated,
        Event::SplitRead,
        Event::Split,
        Event::Combined,
        Event::Lease,
    ];

    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Event::Hit => "hit",
            Event::Miss => "miss",
            Event::Bypass => "bypass",
            Event::WouldHit => "would_hit",
            Event::WouldMiss => "would_miss",
            Event::Fill => "fill",
            Event::Refresh => "refresh",
            Event::Installed => "installed",
            Event::Poisoned => "poisoned",
            Event::Unfit => "unfit",
            Event::Failed => "failed",
            Event::Push => "push",
            Event::Turn => "turn",
            Event::Write => "write",
            Event::Bus => "bus",
            Event::Quarantine => "quarantine",
            Event::Churn => "churn",
            Event::Touch => "touch",
            Event::Stale => "stale",
            Event::Revalidated => "revalidated",
            Event::SplitRead => "split_read",
            Event::Split => "split",
            Event::Combined => "combined",
            Event::Lease => "lease",
        }
    }
}

/// One worker's figures. Written by that worker's thread alone, readable from any.
#[derive(Debug)]
pub struct Meter {
    requests: Requests,
    pools: Box<[Arc<PoolCells>]>,
    /// By `ServerId`.
    upstreams: Box<[Arc<Upstream>]>,
    /// By listener.
    clients: Box<[Arc<Clients>]>,
    sheds: Arc<[Counter; Shed::ALL.len()]>,
}

/// One pool on one worker.
#[derive(Debug, Default)]
struct PoolCells {
    /// By class.
    durations: [Histogram; Class::ALL.len()],
    events: [Counter; Event::ALL.len()],
}

impl Meter {
    /// A meter with room for everything that `running` names.
    pub fn new(running: &Running) -> Meter {
        Meter {
            requests: Requests::new(running, None),
            pools: fill(running.pools.places(), |_| None),
            upstreams: fill(running.servers.places(), |_| None),
            clients: fill(running.listeners.places(), |_| None),
            sheds: Arc::default(),
        }
    }

    /// The meter of the same thread when it runs on something else. What stays
    /// is counted on in the same cells, whichever of the two counts it.
    pub fn after(&self, old: &Running, running: &Running) -> Meter {
        Meter {
            requests: Requests::new(running, Some((&self.requests, old))),
            pools: fill(running.pools.places(), |at| {
                self.pools.get(at).filter(|_| old.keeps_pool(running, at))
            }),
            upstreams: fill(running.servers.places(), |at| {
                self.upstreams
                    .get(at)
                    .filter(|_| old.keeps_server(running, at))
            }),
            clients: fill(running.listeners.places(), |at| {
                self.clients
                    .get(at)
                    .filter(|_| old.keeps_listener(running, at))
            }),
            sheds: Arc::clone(&self.sheds),
        }
    }

    /// Count a client's request, once, when its reply is known.
    ///
    /// `pool` is `None` for what the proxy answered itself. `command` is
    /// `metrics::redis_command`, `metrics::memcache_command` or
    /// `metrics::OTHER`.
    #[inline]
    pub fn request(&self, listener: usize, pool: Option<PoolId>, command: u16, result: Verdict) {
        if let Some(cells) = self.requests.cells(listener, pool, command)
            && let Some(counter) = cells.get(result as usize)
        {
            counter.add(1);
        }
    }

    /// Count reads of a pool that were answered, and well, as soon as they
    /// were read.
    #[inline]
    pub fn gets_at_once(&self, listener: usize, pool: PoolId, command: u16, times: u64) {
        if let Some(cells) = self.requests.cells(listener, Some(pool), command)
            && let Some(requests) = cells.get(Verdict::Ok as usize)
        {
            requests.add(times);
        }
        if let Some(cells) = self.pools.get(usize::from(pool.0)) {
            cells.durations[Class::Read as usize].buckets[bucket(0)].add(times);
        }
    }

    /// Record how long a request to `pool` took, from its last byte read to its reply known.
    #[inline]
    pub fn latency(&self, pool: PoolId, class: Class, nanos: u64) {
        if let Some(cells) = self.pools.get(usize::from(pool.0)) {
            let histogram = &cells.durations[class as usize];
            histogram.buckets[bucket(nanos)].add(1);
            histogram.nanos.add(nanos);
        }
    }

    /// Count a request that was sent to a server, or could not be.
    #[inline]
    pub fn upstream(&self, server: ServerId, result: Verdict) {
        if let Some(upstream) = self.upstreams.get(server.0 as usize) {
            upstream.requests[result as usize].add(1);
        }
    }

    /// Change the number of requests that wait for this server's reply.
    #[inline]
    pub fn upstream_inflight(&self, server: ServerId, delta: i64) {
        if let Some(upstream) = self.upstreams.get(server.0 as usize) {
            shift(&upstream.inflight, delta);
        }
    }

    /// Count a connection attempt; its outcome also is the server's health.
    pub fn upstream_connect(&self, server: ServerId, ok: bool) {
        if let Some(upstream) = self.upstreams.get(server.0 as usize) {
            upstream.connects[usize::from(!ok)].add(1);
        }
        self.upstream_health(server, if ok { Health::Up } else { Health::Down });
    }

    /// Count that a server was found to be down.
    pub fn ejection(&self, server: ServerId) {
        if let Some(upstream) = self.upstreams.get(server.0 as usize) {
            upstream.ejections.add(1);
        }
    }

    /// Count a probe of a server that is down.
    pub fn probe(&self, server: ServerId, ok: bool) {
        if let Some(upstream) = self.upstreams.get(server.0 as usize) {
            upstream.probes[usize::from(!ok)].add(1);
        }
    }

    /// Say what became of a server when no connection attempt says it.
    pub fn upstream_health(&self, server: ServerId, health: Health) {
        if let Some(upstream) = self.upstreams.get(server.0 as usize) {
            upstream.health.store(health as u8, Ordering::Relaxed);
        }
    }

    /// Change the number of a listener's connected clients.
    pub fn clients(&self, listener: usize, delta: i64) {
        if let Some(clients) = self.clients.get(listener) {
            shift(&clients.connected, delta);
            if delta > 0 {
                clients.accepted.add(delta.unsigned_abs());
            }
        }
    }

    /// Count a connection that came to nothing: whoever it was does not speak
    /// TLS as the listener does.
    pub fn strange(&self, listener: usize) {
        if let Some(clients) = self.clients.get(listener) {
            clients.strange.add(1);
        }
    }

    /// Count bytes read from a listener's clients.
    #[inline]
    pub fn bytes_in(&self, listener: usize, bytes: usize) {
        if let Some(clients) = self.clients.get(listener) {
            clients.received.add(bytes as u64);
        }
    }

    /// Count bytes written to a listener's clients.
    #[inline]
    pub fn bytes_out(&self, listener: usize, bytes: usize) {
        if let Some(clients) = self.clients.get(listener) {
            clients.sent.add(bytes as u64);
        }
    }

    /// Count something turned away.
    pub fn shed(&self, reason: Shed) {
        self.sheds[reason as usize].add(1);
    }

    /// Count what happened to promoted keys of a pool.
    #[inline]
    pub fn event(&self, pool: u16, event: Event, times: u64) {
        if let Some(cells) = self.pools.get(usize::from(pool)) {
            cells.events[event as usize].add(times);
        }
    }

    /// What was counted of a pool's promoted keys so far.
    pub fn events(&self, pool: u16, event: Event) -> u64 {
        let cells = self.pools.get(usize::from(pool));
        cells.map_or(0, |cells| cells.events[event as usize].value())
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(super) fn duration(&self, pool: usize, class: Class) -> Option<&Histogram> {
        let cells = self.pools.get(pool)?;
        Some(&cells.durations[class as usize])
    }

    pub(super) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    pub(super) fn listeners(&self) -> &[Arc<Clients>] {
        &self.clients
    }

    pub(super) fn sheds(&self) -> &[Counter] {
        &*self.sheds
    }
}

/// A number that only grows, written by one thread.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    fn add(&self, n: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(sum, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Observations by bucket, each counted in one bucket alone; `scrape` cumulates them.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) buckets: [Counter; BUCKETS],
    pub(super) nanos: Counter,
}

/// One server as one worker sees it.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) requests: [Counter; Verdict::ALL.len()],
    /// Succeeded, failed.
    pub(super) connects: [Counter; 2],
    pub(super) ejections: Counter,
    /// Answered, failed.
    pub(super) probes: [Counter; 2],
    inflight: AtomicI64,
    health: AtomicU8,
}

impl Upstream {
    pub(super) fn inflight(&self) -> i64 {
        self.inflight.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Unused,
            1 => Health::Up,
            _ => Health::Down,
        }
    }
}

/// One listener's clients on one worker.
#[derive(Debug, Default)]
pub(super) struct Clients {
    connected: AtomicI64,
    pub(super) accepted: Counter,
    pub(super) strange: Counter,
    pub(super) received: Counter,
    pub(super) sent: Counter,
}

impl Clients {
    pub(super) fn connected(&self) -> i64 {
        self.connected.load(Ordering::Relaxed)
    }
}

#[inline]
fn shift(gauge: &AtomicI64, delta: i64) {
    let sum = gauge.load(Ordering::Relaxed).wrapping_add(delta);
    gauge.store(sum, Ordering::Relaxed);
}

/// So many cells, each the one that is kept or a new one.
fn fill<'k, T: Default + 'k>(
    count: usize,
    kept: impl Fn(usize) -> Option<&'k Arc<T>>,
) -> Box<[Arc<T>]> {
    let cell = |at| kept(at).map_or_else(Arc::default, Arc::clone);
    (0..count).map(cell).collect()
}
