//! The configuration as the data plane sees it: ids instead of names, every
//! default filled in, immutable, shared by all workers through one `Arc`.
//!
//! `config` turns text into a [`Running`] and nothing else does; after that
//! nothing is optional that must be there and nothing is looked up by name.

mod changes;
mod slots;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use emberline_routing::{PoolId, Router, ServerId};

use crate::dns::{Question, Terms};
use crate::local::LocalPool;
use crate::tls::{Acceptor, Connector};
pub use changes::Changes;
pub use slots::{GRACE, Slots};

/// Everything the process runs on.
#[derive(Debug)]
pub struct Running {
    /// Process-wide settings.
    pub proxy: Proxy,
    /// Where clients connect.
    pub listeners: Slots<Listener>,
    /// Indexed by `PoolId`.
    pub pools: Slots<Pool>,
    /// Indexed by `ServerId`.
    pub servers: Slots<Server>,
    /// What `[routes]` says: names, and what their tables are, in words that
    /// are the same exactly if the tables mean the same.
    pub routes: Vec<(String, String)>,
    /// How many routes remember something.
    pub route_states: usize,
    /// Indexed by `PoolId`: where a pool's keys are, also where no listener
    /// reaches it; none for a local pool.
    pub rings: Vec<Option<Arc<emberline_routing::Pool>>>,
    /// The full admin API.
    pub admin: Option<Bind>,
    /// The read-only status endpoint.
    pub status: Option<Bind>,
    /// Bytes that the L1 may hold, over all pools.
    pub l1_capacity: u64,
    /// Where the list of hot keys outlives the process.
    pub preload: Option<Preload>,
    /// How keys are shown to people.
    pub visibility: Visibility,
    /// Where proxies tell each other what was written.
    pub bus: Option<Bus>,
    /// The names that it depends on.
    pub dns: Dns,
}

impl Running {
    /// How long a request may still know what a reload has removed: as long as
    /// one may be in flight, and a client stay.
    pub fn grace(&self) -> Duration {
        let times = |pool: &Pool| {
            pool.health
                .timeout_queue
                .saturating_add(pool.timeout_request)
        };
        let longest = self.pools.all().map(times).max().unwrap_or_default();
        let longest = longest.max(self.proxy.timeout_drain);
        GRACE.saturating_add(longest.saturating_mul(2))
    }

    /// The pools with their ids.
    pub fn pools(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        let id = |at| PoolId(u16::try_from(at).unwrap_or(u16::MAX));
        let pools = self.pools.numbered();
        pools.map(move |(at, pool)| (id(at), pool))
    }

    /// Whether the pool with this number is the same in `new`, whatever has
    /// become of its settings.
    pub fn keeps_pool(&self, new: &Running, at: usize) -> bool {
        let pools = self.pools.get(at).zip(new.pools.get(at));
        pools.is_some_and(|(old, new)| {
            old.name == new.name
                && old.protocol == new.protocol
                && old.local.is_some() == new.local.is_some()
        })
    }

    /// The same of a server.
    pub fn keeps_server(&self, new: &Running, at: usize) -> bool {
        let servers = self.servers.get(at).zip(new.servers.get(at));
        servers.is_some_and(|(old, now)| {
            old.pool == now.pool
                && old.name == now.name
                && self.keeps_pool(new, usize::from(now.pool.0))
        })
    }

    /// Whether `new` connects to this server where it was connected to.
    pub fn keeps_place(&self, new: &Running, at: usize) -> bool {
        let servers = self.servers.get(at).zip(new.servers.get(at));
        let same = servers.is_some_and(|(old, now)| old.address.leads_where(&now.address));
        same && self.keeps_server(new, at)
    }

    /// Whether a connection that was made to this server is as one that `new`
    /// would make. What else is set in its pool holds for it from now on.
    pub fn keeps_terms(&self, new: &Running, at: usize) -> bool {
        if !self.keeps_place(new, at) || new.servers.is_gone(at) {
            return false;
        }
        let terms = |running: &Running| {
            let server = running.servers.get(at)?;
            let pool = running.pools.get(usize::from(server.pool.0))?;
            let (username, password) = (pool.username.clone(), pool.password.clone());
            let login = (username, password, pool.database);
            Some((login, pool.connections, pool.believes()))
        };
        terms(self) == terms(new)
    }

    /// The same of a listener.
    pub fn keeps_listener(&self, new: &Running, at: usize) -> bool {
        let listeners = self.listeners.get(at).zip(new.listeners.get(at));
        listeners.is_some_and(|(old, new)| {
            old.name == new.name
                && old.protocol == new.protocol
                && old.bind == new.bind
                && old.admits() == new.admits()
        })
    }

    /// The servers with their ids.
    pub fn servers(&self) -> impl Iterator<Item = (ServerId, &Server)> {
        let id = |at| ServerId(u32::try_from(at).unwrap_or(u32::MAX));
        let servers = self.servers.numbered();
        servers.map(move |(at, server)| (id(at), server))
    }
}

/// How keys are shown in `hotkeys`, `top`, logs and the admin API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// As a hash that is keyed with a secret of the process.
    #[default]
    Hash,
    /// As they are.
    Plain,
}

impl Visibility {
    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Visibility::Hash => "hash",
            Visibility::Plain => "plain",
        }
    }
}

/// `preload` of `[l1]`: what the next process begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preload {
    /// The file.
    pub path: PathBuf,
    /// Keys that are saved and fetched, over all pools.
    pub keys_max: usize,
    /// Bytes that the values may take that are fetched.
    pub bytes_max: u64,
    /// How long values are fetched, and readiness waits for it.
    pub deadline: Duration,
    /// How long its keys stay promoted though nobody asks for them.
    pub hold: Duration,
    /// How often the list is saved.
    pub save_every: Duration,
}

/// `[bus]`: a Redis server whose pub/sub carries invalidations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// The server.
    pub address: Address,
    /// Its name in logs.
    pub name: String,
    /// The channel.
    pub channel: String,
    /// User for AUTH.
    pub username: Option<String>,
    /// Password for AUTH.
    pub password: Option<Secret>,
    /// Whom to believe that it is the server, if it speaks TLS.
    pub tls: Option<Connector>,
}

/// `[hotkey]` as it is for one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Hotkey {
    /// Whether requests are counted at all.
    pub enabled: bool,
    /// The sliding window in milliseconds.
    pub window_ms: u64,
    /// Requests in the window, over all workers, from which on a key is hot.
    pub threshold: u64,
    /// Bytes of replies in the window from which on a key is hot.
    pub threshold_bytes: Option<u64>,
    /// One request of this many is counted; above 1 the bounds are no longer
    /// certain.
    pub sample: u32,
    /// A promoted key stays so for at least this long.
    pub hold: Duration,
    /// By prefix; the longest that matches a key counts.
    pub rules: Vec<HotRule>,
    /// Keys that are always promoted.
    pub always: Vec<Box<[u8]>>,
    /// A hot key that the L1 cannot carry is copied to this many further servers.
    pub copies: u16,
    /// Keys that are always copied, if `copies` is above 0.
    pub split: Vec<Box<[u8]>>,
    /// Whether `INCRBY`s of a hot key that arrive while one is in flight are
    /// added up.
    pub combine_increments: bool,
}

/// `[[hotkey.rules]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HotRule {
    /// Of the whole key.
    pub prefix: Box<[u8]>,
    /// As in [`Hotkey`].
    pub window_ms: u64,
    /// As in [`Hotkey`].
    pub threshold: u64,
    /// As in [`Hotkey`].
    pub hold: Duration,
    /// The longest time that an item is kept, if not the pool's.
    pub ttl: Option<Duration>,
    /// Whether such keys may be answered from memory.
    pub allow: bool,
}

/// What the L1 promises; see `docs/l1.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// There is no L1.
    Off,
    /// Nothing is answered from memory; what would have been is counted.
    Observe,
    /// Values are at most `ttl` old.
    Ttl,
    /// Servers push what has changed.
    Tracking,
    /// Every read asks the server whether the value is still the same.
    Revalidate,
}

impl Mode {
    /// Every mode, in the order of its definition.
    pub const ALL: [Mode; 5] = [
        Mode::Off,
        Mode::Observe,
        Mode::Ttl,
        Mode::Tracking,
        Mode::Revalidate,
    ];

    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Observe => "observe",
            Mode::Ttl => "ttl",
            Mode::Tracking => "tracking",
            Mode::Revalidate => "revalidate",
        }
    }
}

/// `[l1]` as it is for one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct L1 {
    /// What it promises.
    pub mode: Mode,
    /// The longest time that an item is kept, from when it was asked for.
    pub ttl: Duration,
    /// Larger values are not kept; bytes.
    pub max_item: usize,
    /// How long "there is no such key" is kept; zero: not at all.
    pub negative_ttl: Duration,
    /// In `tracking`: the age of the last answered ping above which nothing is
    /// served.
    pub heartbeat: Duration,
    /// How eagerly items are asked for anew before they expire; 0: never.
    pub early_refresh: f64,
    /// How long past its end an item may be served while its server gives no
    /// answer; zero: not at all.
    pub stale_if_error: Duration,
    /// Clients of one worker that may wait for one fill.
    pub waiters_max: usize,
    /// A key that is read less often than this between two invalidations is
    /// not kept.
    pub reads_per_invalidation: u32,
    /// In `tracking`: how often the server is told that a key is in use.
    pub touch_every: Duration,
    /// memcached: how long one client may take to set a missing hot key while
    /// the others wait; zero: they do not.
    pub lease: Duration,
}

impl Default for Hotkey {
    fn default() -> Hotkey {
        Hotkey {
            enabled: true,
            window_ms: 1000,
            threshold: 1000,
            threshold_bytes: Some(16 << 20),
            sample: 1,
            hold: Duration::ZERO,
            rules: Vec::new(),
            always: Vec::new(),
            copies: 0,
            split: Vec::new(),
            combine_increments: false,
        }
    }
}

impl Default for L1 {
    fn default() -> L1 {
        L1 {
            mode: Mode::Observe,
            ttl: Duration::from_secs(1),
            max_item: 256 << 10,
            negative_ttl: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            early_refresh: 1.0,
            stale_if_error: Duration::ZERO,
            waiters_max: 1024,
            reads_per_invalidation: 16,
            touch_every: Duration::from_secs(10),
            lease: Duration::ZERO,
        }
    }
}

/// `[proxy]`.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Clients admitted at once over all listeners.
    pub clients_max: usize,
    /// Bytes that buffers may hold over all workers before requests are shed.
    pub memory_max: usize,
    /// How long an unfinished request head may take.
    pub timeout_head: Duration,
    /// How long SIGTERM waits for requests in flight.
    pub timeout_drain: Duration,
}

/// Which wire format a listener or a pool speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RESP2 and RESP3.
    Redis,
    /// Text and meta, told apart by their bytes.
    Memcached,
}

impl Protocol {
    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Redis => "redis",
            Protocol::Memcached => "memcached",
        }
    }
}

/// A place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// `[listeners.NAME]`.
#[derive(Debug)]
pub struct Listener {
    /// The table's name.
    pub name: String,
    /// What its clients speak.
    pub protocol: Protocol,
    /// Where it listens.
    pub bind: Bind,
    /// Which server each key goes to.
    pub router: Router,
    /// What clients must present with AUTH, if anything.
    pub password: Option<Secret>,
    /// What they are shown, if they speak TLS.
    pub tls: Option<Acceptor>,
    /// Lower-case names of commands that are let through although they are
    /// denied by default; a subcommand as `config|set`.
    pub allow: Vec<String>,
    /// Lower-case names of commands that are refused; a subcommand as `config|set`.
    pub deny: Vec<String>,
    /// The largest memcached value that any of its pools takes, in bytes.
    pub value_max: usize,
}

/// Whom a listener talks to at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Everybody.
    All,
    /// Who speaks TLS.
    Private,
    /// Who has a certificate of these besides.
    Certified(u64),
}

impl Admits {
    /// Of a listener with this `tls`.
    pub fn with(tls: Option<&Acceptor>) -> Admits {
        match tls.map(Acceptor::admits) {
            None => Admits::All,
            Some(None) => Admits::Private,
            Some(Some(authorities)) => Admits::Certified(authorities),
        }
    }
}

impl Pool {
    /// Stands for whom it believes to be its servers, if those speak TLS.
    pub fn believes(&self) -> Option<u64> {
        self.tls.as_ref().map(Connector::believes)
    }
}

impl Listener {
    /// Whom it talks to at all. Where that is different, those whom it has let
    /// in are not its clients any more.
    pub fn admits(&self) -> Admits {
        Admits::with(self.tls.as_ref())
    }
}

/// `[pools.NAME]`.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The table's name.
    pub name: String,
    /// What its servers speak.
    pub protocol: Protocol,
    /// The in-process store, for `kind = "local"`; such a pool has no servers.
    pub local: Option<Arc<LocalPool>>,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerId>,
    /// How long a connect may take.
    pub timeout_connect: Duration,
    /// How long a request may wait for its reply.
    pub timeout_request: Duration,
    /// Connections per worker and server.
    pub connections: u16,
    /// Requests in flight per worker and server, over all its connections,
    /// before clients are made to wait.
    pub inflight_max: usize,
    /// When a server counts as down, and what then.
    pub health: HealthSettings,
    /// Where deletes wait that could not be told to their server.
    pub delete_log: Option<DeleteLog>,
    /// What a read over several servers answers when one of them fails.
    pub partial: Partial,
    /// User for AUTH towards the servers.
    pub username: Option<String>,
    /// Password for AUTH towards the servers.
    pub password: Option<Secret>,
    /// Whom to believe that they are its servers, if those speak TLS.
    pub tls: Option<Connector>,
    /// Redis database selected on connect.
    pub database: u32,
    /// The largest memcached value that clients may store, in bytes.
    pub value_max: usize,
    /// Which of its keys are hot.
    pub hotkey: Hotkey,
    /// How those are answered from memory.
    pub l1: L1,
}

/// `delete_log` of a pool.
#[derive(Clone, Debug)]
pub struct DeleteLog {
    /// The file.
    pub path: PathBuf,
    /// Bytes that it may have.
    pub bytes_max: u64,
    /// How long a delete may wait in it.
    pub age_max: Duration,
}

/// When a server counts as down, and what then.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSettings {
    /// Failures in a row, of one worker, from which on a server is down; at
    /// least 1.
    pub failures: u32,
    /// The pause before the first probe of a server that is down; doubled for
    /// each further one.
    pub probe_first: Duration,
    /// The longest pause between two probes.
    pub probe_last: Duration,
    /// From which share of a pool's servers (0 to 1) that are down none is
    /// left out any more. One alone always is.
    pub panic: f64,
    /// How long a request may wait to be written, beside what it may then wait
    /// for its reply.
    pub timeout_queue: Duration,
    /// Reads that may be sent a second time, as a share (0 to 1) of those sent
    /// for the first.
    pub retry_share: f64,
    /// Reads that may be sent a second time whatever that share, per second
    /// and worker.
    pub retry_least: u32,
}

impl Default for HealthSettings {
    fn default() -> HealthSettings {
        HealthSettings {
            failures: 3,
            probe_first: Duration::from_millis(250),
            probe_last: Duration::from_secs(10),
            panic: 0.5,
            timeout_queue: Duration::from_secs(1),
            retry_share: 0.2,
            retry_least: 10,
        }
    }
}

/// What a split read answers when one server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// One error for the whole request.
    Error,
    /// The values that could be had; the others read as missing.
    Missing,
}

/// One address in a pool.
#[derive(Clone, Debug)]
pub struct Server {
    /// The pool it belongs to.
    pub pool: PoolId,
    /// The name in logs, metrics and errors: the address as configured.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// The configuration says that it is down: whatever it does, nothing is
    /// sent to it. It keeps its place on the ring.
    pub down: bool,
}

/// Where a server is.
///
/// Two are equal if they are written alike; [`leads_where`](Address::leads_where)
/// compares what they lead to.
#[derive(Clone, Debug)]
pub enum Address {
    /// An IP address, for which nothing is looked up.
    Ip(SocketAddr),
    /// A name, and what it leads to.
    Name {
        /// The name, as it is asked for.
        host: String,
        /// Port.
        port: u16,
        /// Its addresses, never none; that which is in use stands first, the
        /// others are tried when it does not answer. Or why there are none.
        found: Result<Vec<IpAddr>, String>,
    },
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl Address {
    /// Whether a connection to the other is one to this. More addresses behind
    /// the one in use make no difference.
    pub fn leads_where(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Unix(ours), Address::Unix(theirs)) => ours == theirs,
            (Address::Unix(_), _) | (_, Address::Unix(_)) => false,
            _ => self.in_use() == other.in_use(),
        }
    }

    /// The address that is connected to first, if there is one.
    pub fn in_use(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Name { port, found, .. } => {
                let first = found.as_ref().ok()?.first()?;
                Some(SocketAddr::new(*first, *port))
            }
            Address::Unix(_) => None,
        }
    }

    /// Go on with the address that was in use `before`, if the name still leads
    /// there.
    pub fn stay(&mut self, before: &Address) {
        if let (Address::Name { found: Ok(all), .. }, Some(used)) = (self, before.in_use())
            && let Some(at) = all.iter().position(|one| *one == used.ip())
        {
            all[..=at].rotate_right(1);
        }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Ip(ours), Address::Ip(theirs)) => ours == theirs,
            (Address::Unix(ours), Address::Unix(theirs)) => ours == theirs,
            (
                Address::Name { host, port, .. },
                Address::Name {
                    host: theirs,
                    port: their_port,
                    ..
                },
            ) => (host, port) == (theirs, their_port),
            _ => false,
        }
    }
}

impl Eq for Address {}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            // A service, which has no port.
            Address::Name { host, port: 0, .. } => f.write_str(host),
            Address::Name { host, port, .. } => {
                write!(f, "{}:{port}", host.trim_end_matches('.'))
            }
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The names that a configuration depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// What is to be asked; more questions may come of the answers.
    pub questions: BTreeSet<Question>,
    /// Whom, and how often.
    pub terms: Terms,
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bind::Tcp(address) => address.fmt(f),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A credential; its `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wrap a credential.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The credential itself, for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
