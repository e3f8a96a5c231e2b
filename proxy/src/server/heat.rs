//! What one worker knows of heat: it counts requests by key, follows what is
//! promoted in the process, and tells promoted keys when they are touched.
//!
//! Every request that a server answers carries a [`Touch`]: which keys it
//! concerns, and how. It is looked at three times,
//!
//! ```text
//!   sent       a write: what is kept of its keys is not served any more
//!   answered   a write: the same again, before its client hears of it;
//!              a read: what is kept may be older than this answer
//!   in doubt   a write that may still take effect: no fills for a while
//! ```
//!
//! and each time costs a load and a branch unless keys are promoted. The order
//! matters: the reply is there before the set of promoted keys is looked at, so
//! a key that is not in it can only be filled later, and then sees the write.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use emberline_hotkey::mutation::{Mutation, breaks};
use emberline_hotkey::{
    Access, Front, Held, HotKey, KeyHash, Pulse, Rule, Seat, Token, Value, Watch, WatchSettings,
};
use emberline_routing::{PoolId, ServerId, Target};

use super::flight::Flight;
use super::increment::Queues;
use crate::generation::Generation;
use crate::l1::{Ask, L1};
use crate::metrics::{Event, Meter};
use crate::nanos::nanos;
use crate::running::{Hotkey, Mode, Pool, Running};

/// An early refresh comes earlier than so many times the mean only once in
/// 2^53.
const NEAR: f64 = 37.0;

/// Lists of hashes kept for requests with several keys.
const SPARES: usize = 64;

/// Which keys a request to a server concerns.
#[derive(Debug, Default)]
pub enum Touch {
    /// None that are watched.
    #[default]
    None,
    /// It reads this key's value.
    Read(KeyHash),
    /// It reads something of this key, but not the value as memory keeps it.
    Look(KeyHash),
    /// It may change this key.
    Write(KeyHash),
    /// It does so to several.
    #[expect(
        clippy::box_collection,
        reason = "an entry holds it: it shall be small"
    )]
    Many(Access, Box<Vec<KeyHash>>),
    /// It may change any key of this server.
    All(u32),
    /// One of these, and other proxies shall know of it.
    Told(Box<Told>),
}

/// A write of which other proxies shall know.
#[derive(Debug)]
pub struct Told {
    touch: Touch,
    pool: u16,
    keys: Vec<Box<[u8]>>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Heat {
    /// What the workers share.
    pub l1: Arc<L1>,
    running: Arc<Running>,
    /// Which generation that is.
    generation: u64,
    /// By pool. One that has gone keeps what it was: requests may be in flight
    /// that know it.
    pools: Box<[PoolHeat]>,
    /// Memory answers for one of them, asking nobody.
    serves: bool,
    /// By pool, the servers that requests go to.
    live: Box<[Vec<ServerId>]>,
    watches: RefCell<Box<[Option<Watch>]>>,
    front: Rc<RefCell<Front>>,
    /// The version of the promoted keys that `front` follows.
    version: Rc<Cell<u64>>,
    /// What is being served at once, and not counted yet.
    run: Rc<RefCell<Run>>,
    /// Fills that clients of this worker wait for.
    pub flights: Rc<RefCell<HashMap<(KeyHash, Token), Flight>>>,
    /// Increments that wait for others in flight.
    pub increments: Rc<RefCell<Queues>>,
    #[expect(clippy::vec_box, reason = "lent as they are")]
    spares: RefCell<Vec<Box<Vec<KeyHash>>>>,
    worker: usize,
    workers: usize,
}

/// Reads of one key, one behind the other, that were answered at the same
/// time: they are counted together.
#[derive(Debug)]
struct Run {
    pool: PoolId,
    hash: KeyHash,
    key: Vec<u8>,
    times: u32,
    /// Bytes of its value.
    bytes: usize,
    /// What has been served twice: it is likely to be served again.
    held: Option<(Arc<HotKey>, Arc<Held>)>,
}

impl Default for Run {
    fn default() -> Run {
        Run {
            pool: PoolId(0),
            hash: KeyHash(0),
            key: Vec::new(),
            times: 0,
            bytes: 0,
            held: None,
        }
    }
}

impl Run {
    fn begin(&mut self, pool: PoolId, hash: KeyHash, key: &[u8], bytes: usize) {
        self.bytes = bytes;
        self.pool = pool;
        self.hash = hash;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.times = 1;
    }
}

impl Told {
    /// What it touches.
    pub fn touch(&self) -> &Touch {
        &self.touch
    }
}

/// What the configuration says of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolHeat {
    /// Its requests are counted.
    pub watched: bool,
    /// How its promoted keys are answered.
    pub mode: Mode,
    /// An item is near its end when it has less left than so many times what
    /// its fetch took: an early refresh may be due.
    calm: u64,
    /// Copies that a key too hot for one server has on others.
    pub copies: u16,
    /// How long no fill may begin after a write in doubt, in nanoseconds.
    quarantine: u64,
    /// Other proxies are told of its writes.
    pub published: bool,
}

impl PoolHeat {
    fn new(pool: &Pool, running: &Running) -> PoolHeat {
        let promotes = pool.hotkey.enabled || !pool.hotkey.always.is_empty();
        let mode = match promotes && pool.local.is_none() {
            true => pool.l1.mode,
            false => Mode::Off,
        };
        PoolHeat {
            watched: pool.hotkey.enabled,
            mode,
            quarantine: nanos(pool.timeout_request).saturating_mul(2),
            calm: (pool.l1.early_refresh * NEAR).ceil() as u64,
            copies: match pool.servers.len() {
                0 | 1 => 0,
                servers => pool
                    .hotkey
                    .copies
                    .min(u16::try_from(servers - 1).unwrap_or(u16::MAX)),
            },
            published: running.bus.is_some() && mode == Mode::Ttl,
        }
    }

    /// Whether anything is remembered of promoted keys, if only what would
    /// have been.
    pub fn remembers(&self) -> bool {
        self.mode != Mode::Off
    }

    /// Whether anything but its own server may answer a promoted key.
    fn is_kept(&self) -> bool {
        self.serves() || self.copies > 0
    }

    /// Whether promoted keys of this pool may be answered from memory.
    pub fn answers(&self) -> bool {
        self.serves() || self.mode == Mode::Revalidate
    }

    /// Whether memory answers alone, as long as what it has is fresh.
    fn serves(&self) -> bool {
        matches!(self.mode, Mode::Ttl | Mode::Tracking)
    }

    /// Whether any but its own server may have a part in what a reader of this
    /// pool is told.
    pub fn may_stand_in(&self) -> bool {
        self.answers() || self.copies > 0
    }
}

impl Heat {
    /// A worker that has seen nothing.
    pub fn new(worker: usize, l1: Arc<L1>, generation: &Generation) -> Heat {
        let running = Arc::clone(&generation.running);
        let pools = pools(&running);
        Heat {
            l1,
            generation: generation.number,
            serves: pools.iter().any(PoolHeat::serves),
            pools,
            live: live(&running),
            watches: RefCell::new(running.pools.all().map(|_| None).collect()),
            front: Rc::default(),
            version: Rc::default(),
            run: Rc::default(),
            flights: Rc::default(),
            increments: Rc::default(),
            spares: RefCell::default(),
            worker,
            workers: running.proxy.workers.max(1),
            running,
        }
    }

    /// The same thread's heat when it runs on something else. Eyes on pools that
    /// look for the same stay open.
    pub fn next(&self, generation: &Generation) -> Heat {
        let running = Arc::clone(&generation.running);
        let pools = pools(&running);
        let mut before = self.watches.borrow_mut();
        let watches = running.pools.all().enumerate().map(|(at, pool)| {
            let same = |old: &Pool| old.name == pool.name && old.hotkey == pool.hotkey;
            // What counts keys is large: none is kept for a pool that has gone.
            let stays = self.running.pools.get(at).is_some_and(same) && !running.pools.is_gone(at);
            before.get_mut(at).filter(|_| stays)?.take()
        });
        Heat {
            l1: Arc::clone(&self.l1),
            generation: generation.number,
            serves: pools.iter().any(PoolHeat::serves),
            pools,
            live: live(&running),
            watches: RefCell::new(watches.collect()),
            front: Rc::clone(&self.front),
            version: Rc::clone(&self.version),
            run: Rc::clone(&self.run),
            flights: Rc::clone(&self.flights),
            increments: Rc::clone(&self.increments),
            spares: RefCell::new(self.spares.take()),
            worker: self.worker,
            workers: self.workers,
            running,
        }
    }

    /// Ask the L1's thread for what this configuration has led to.
    pub fn ask(&self, ask: Ask) {
        self.l1.ask_under(self.generation, ask);
    }

    /// What the configuration says of a pool.
    #[inline]
    pub fn pool(&self, pool: PoolId) -> &PoolHeat {
        &self.pools[usize::from(pool.0)]
    }

    /// The servers of a pool that requests go to.
    pub fn live(&self, pool: PoolId) -> &[ServerId] {
        self.live
            .get(usize::from(pool.0))
            .map_or(&[], Vec::as_slice)
    }

    /// Count a request; answers the key's hash, if the pool is watched.
    #[inline]
    pub fn note(&self, pool: PoolId, access: Access, key: &[u8], now: u64) -> Option<KeyHash> {
        let hash = self.hash(pool, key)?;
        if self.pool(pool).watched {
            self.count(pool, access, hash, key, 1, now);
        }
        Some(hash)
    }

    /// How a request that tells its client the value of this key touches it.
    /// Where nothing is kept, nothing can be older than what it tells.
    #[inline]
    pub fn touch_read(&self, pool: PoolId, hash: KeyHash) -> Touch {
        match self.pool(pool).is_kept() {
            true => Touch::Read(hash),
            false => Touch::Look(hash),
        }
    }

    fn count(&self, pool: PoolId, access: Access, hash: KeyHash, key: &[u8], times: u32, now: u64) {
        let mut watches = self.watches.borrow_mut();
        let now_ms = now / 1_000_000;
        let watch = watches[usize::from(pool.0)].get_or_insert_with(|| self.watch(pool, now_ms));
        let board = &self.l1.board;
        match times {
            1 => watch.record(board, access, hash, key, now_ms),
            _ => watch.record_many(board, access, hash, key, times, now_ms),
        }
    }

    /// Eyes on a pool that has its first request.
    #[cold]
    fn watch(&self, pool: PoolId, now_ms: u64) -> Watch {
        let settings = settings(&self.running.pools[usize::from(pool.0)].hotkey);
        let (worker, workers) = (self.worker, self.workers);
        Watch::new(&settings, pool.0, worker, workers, now_ms)
    }

    /// The key's hash, if the pool may have promoted keys, without counting
    /// anything.
    #[inline]
    pub fn hash(&self, pool: PoolId, key: &[u8]) -> Option<KeyHash> {
        let settings = self.pool(pool);
        (settings.watched || settings.mode != Mode::Off)
            .then(|| self.l1.hasher.hash_in(pool.0, key))
    }

    /// Whether [`serve`](Self::serve) may find anything.
    #[inline]
    pub fn may_serve(&self) -> bool {
        self.serves && !self.is_cold()
    }

    /// Whether nothing is promoted, as of the last look.
    #[inline]
    pub fn is_cold(&self) -> bool {
        self.front.borrow().is_empty()
    }

    /// Work on what is known of a promoted key, if it is one.
    #[inline]
    pub fn with_seat<T>(&self, hash: KeyHash, work: impl FnOnce(&mut Seat) -> T) -> Option<T> {
        self.front.borrow_mut().seat(hash).map(work)
    }

    /// Answer a promoted key from its server until this time.
    pub fn rest(&self, hash: KeyHash, until: u64) {
        self.with_seat(hash, |seat| seat.unfit_until = until);
    }

    /// The promoted key with this hash.
    pub fn key(&self, hash: KeyHash) -> Option<Arc<HotKey>> {
        self.front.borrow().key(hash).cloned()
    }

    /// Look whether keys were promoted or demoted.
    #[inline]
    pub fn follow(&self) {
        if self.l1.board.version() != self.version.get() {
            self.catch_up();
        }
    }

    #[cold]
    fn catch_up(&self) {
        // Read before the set: a change in between is seen next time.
        self.version.set(self.l1.board.version());
        let set = self.l1.board.set();
        self.front.borrow_mut().follow(&set);
        self.l1.quarantine_doubtful(&set);
    }

    /// Answer a read of a promoted key at once, if memory has something fresh:
    /// what is asked most often goes the shortest way. Everything else, such as
    /// an item near its end, is left to the long one.
    #[inline]
    pub fn serve(&self, pool: PoolId, key: &[u8], now: u64, write: impl FnOnce(&Value)) -> bool {
        let settings = self.pool(pool);
        if !settings.serves() {
            return false;
        }
        let mut run = self.run.borrow_mut();
        let goes_on = run.times > 0 && run.pool == pool && *run.key == *key;
        if goes_on
            && let Some((hot, item)) = &run.held
            && let Some(pulse) = self.l1.pulse(item.server)
            && item.is_fresh(hot, pulse, now)
        {
            write(&item.value);
            run.times += 1;
            return true;
        }
        let hash = match goes_on {
            true => run.hash,
            false => self.l1.hasher.hash_in(pool.0, key),
        };
        let mut front = self.front.borrow_mut();
        let seat = front.seat(hash);
        let Some(seat) = seat.filter(|seat| goes_on || *seat.key.key == *key) else {
            return false;
        };
        let item = seat.fresh(&self.l1.store, |server| self.l1.pulse(server), now);
        let calm = |item: &Held| item.expires - now > item.took.saturating_mul(settings.calm);
        let Some(item) = item.filter(|item| calm(item)) else {
            return false;
        };
        write(&item.value);
        if goes_on {
            run.times += 1;
            let item = Arc::clone(item);
            run.held = Some((Arc::clone(&seat.key), item));
        } else {
            let bytes = item.value.len();
            drop(front);
            self.count_run(&mut run, now);
            run.begin(pool, hash, key, bytes);
        }
        true
    }

    /// Count what [`serve`](Self::serve) has served and not counted yet. To be
    /// called before the clock is read again.
    #[inline]
    pub fn end_run(&self, now: u64) {
        let mut run = self.run.borrow_mut();
        if run.times > 0 {
            self.count_run(&mut run, now);
        }
    }

    fn count_run(&self, run: &mut Run, now: u64) {
        let times = std::mem::take(&mut run.times);
        run.held = None;
        if times > 0 {
            let bytes = run.bytes.saturating_mul(times as usize);
            self.with_seat(run.hash, |seat| seat.hit(times.into(), bytes));
        }
        if times > 0 && self.pool(run.pool).watched {
            let Run {
                pool, hash, key, ..
            } = run;
            self.count(*pool, Access::Read, *hash, key, times, now);
        }
    }

    /// A few times a second: windows that end without requests, memory that
    /// can be given back, and counts for those who look.
    pub fn tick(&self, now: u64, meter: &Meter) {
        for watch in self.watches.borrow_mut().iter_mut().flatten() {
            watch.tick(&self.l1.board, now / 1_000_000);
        }
        self.follow();
        let mut front = self.front.borrow_mut();
        front.tidy(&self.l1.store, |server| self.l1.pulse(server));
        for (key, counts) in front.take_counts() {
            self.l1.board.count(key.hash, counts);
            let pool = PoolId(key.pool);
            if self.pool(pool).answers() {
                meter.event(key.pool, Event::Hit, counts.hits);
                let bytes = usize::try_from(counts.bytes).unwrap_or(usize::MAX);
                self.weigh(pool, key.hash, bytes, now);
            }
        }
    }

    /// A server's epoch.
    pub fn epoch(&self, server: ServerId) -> u64 {
        self.l1.pulse(server.0).map_or(0, Pulse::epoch)
    }

    /// A list for the hashes of a request with several keys.
    #[expect(clippy::box_collection, reason = "lent as they are")]
    pub fn lend_hashes(&self) -> Box<Vec<KeyHash>> {
        self.spares.borrow_mut().pop().unwrap_or_default()
    }

    /// A request to one server with several keys that have these hashes.
    #[expect(clippy::box_collection, reason = "lent as they are")]
    pub fn touch_many(&self, pool: PoolId, access: Access, mut hashes: Box<Vec<KeyHash>>) -> Touch {
        let settings = self.pool(pool);
        let wanted = match access {
            Access::Read => settings.is_kept(),
            Access::Write => settings.remembers() || settings.copies > 0,
        };
        if !wanted || hashes.is_empty() {
            hashes.clear();
            self.spare(&mut Touch::Many(access, hashes));
            return Touch::None;
        }
        Touch::Many(access, hashes)
    }

    fn spare(&self, touch: &mut Touch) {
        if let Touch::Many(_, hashes) = touch {
            let mut hashes = std::mem::take(hashes);
            let mut spares = self.spares.borrow_mut();
            if spares.len() < SPARES && hashes.capacity() <= 1024 {
                hashes.clear();
                spares.push(hashes);
            }
        }
        *touch = Touch::None;
    }

    /// A request is on its way to its server.
    #[inline]
    pub fn sent(&self, touch: &Touch, meter: &Meter) {
        if breaks(Mutation::NoWriteInvalidation) {
            return;
        }
        match touch {
            Touch::None | Touch::Read(_) | Touch::Look(_) | Touch::Many(Access::Read, _) => {}
            Touch::Write(hash) => self.invalidate(*hash, meter),
            Touch::Many(Access::Write, _) if breaks(Mutation::NoScriptKeys) => {}
            Touch::Many(Access::Write, hashes) => {
                hashes.iter().for_each(|hash| self.invalidate(*hash, meter));
            }
            Touch::All(server) => self.turn_all(*server),
            Touch::Told(told) => self.sent(&told.touch, meter),
        }
    }

    /// Have other proxies told, when it is done, that these keys of a pool
    /// were written.
    pub fn told<'k>(
        &self,
        pool: PoolId,
        touch: Touch,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Touch {
        let write = matches!(touch, Touch::Write(_) | Touch::Many(Access::Write, _));
        if !write || !self.pool(pool).published {
            return touch;
        }
        Touch::Told(Box::new(Told {
            touch,
            pool: pool.0,
            keys: keys.map(Box::from).collect(),
        }))
    }

    fn tell(&self, told: &mut Told) {
        for key in told.keys.drain(..) {
            let pool = told.pool;
            self.l1.ask(Ask::Publish { pool, key });
        }
    }

    /// A request to `pool` has been answered with `bytes` bytes; its client
    /// has not heard of it yet.
    #[inline]
    pub fn answered(&self, touch: &mut Touch, pool: PoolId, bytes: usize, now: u64, meter: &Meter) {
        match touch {
            Touch::None => return,
            Touch::Look(hash) => return self.weigh(pool, *hash, bytes, now),
            Touch::Read(hash) => {
                self.weigh(pool, *hash, bytes, now);
                self.follow();
                self.supersede(*hash);
            }
            Touch::Many(Access::Read, hashes) => {
                self.follow();
                hashes.iter().for_each(|hash| self.supersede(*hash));
            }
            Touch::Told(told) => {
                self.answered(&mut told.touch, pool, bytes, now, meter);
                self.tell(told);
            }
            _ if breaks(Mutation::NoReplyInvalidation) => {}
            _ => {
                self.follow();
                self.sent(touch, meter);
            }
        }
        self.spare(touch);
    }

    /// Count the bytes of a reply.
    pub fn weigh(&self, pool: PoolId, hash: KeyHash, bytes: usize, now: u64) {
        if let Some(Some(watch)) = self.watches.borrow_mut().get_mut(usize::from(pool.0)) {
            watch.reply(&self.l1.board, hash, bytes, now / 1_000_000);
        }
    }

    /// It is not known whether the server has carried out a request, or will.
    pub fn doubted(&self, touch: &Touch, now: u64, meter: &Meter) {
        if breaks(Mutation::NoQuarantine) || breaks(Mutation::NoWriteInvalidation) {
            return;
        }
        self.follow();
        match touch {
            Touch::None | Touch::Read(_) | Touch::Look(_) | Touch::Many(Access::Read, _) => {}
            Touch::Write(hash) => self.quarantine(*hash, now, meter),
            Touch::Many(Access::Write, hashes) => {
                let each = hashes.iter();
                each.for_each(|hash| self.quarantine(*hash, now, meter));
            }
            Touch::All(server) => self.turn_all(*server),
            Touch::Told(told) => {
                self.doubted(&told.touch, now, meter);
                told.keys.iter().for_each(|key| {
                    let (pool, key) = (told.pool, key.clone());
                    self.l1.ask(Ask::Publish { pool, key });
                });
            }
        }
    }

    /// A connection to a server has ended. A server that starts again begins
    /// anew with its unique numbers, so none that it gave before may be compared.
    pub fn lost(&self, pool: PoolId, server: ServerId) {
        if self.pool(pool).mode == Mode::Revalidate {
            self.turn(server.0);
        }
    }

    #[inline]
    fn invalidate(&self, hash: KeyHash, meter: &Meter) {
        if let Some(key) = self.front.borrow().key(hash) {
            key.invalidate();
            meter.event(key.pool, Event::Write, 1);
        }
    }

    /// The server itself has been heard on a promoted key: what is kept, or
    /// being fetched, may be older than what this reader is about to see.
    #[inline]
    fn supersede(&self, hash: KeyHash) {
        let mut front = self.front.borrow_mut();
        if front.is_empty() || breaks(Mutation::NoDirectReadRule) {
            return;
        }
        // Also when this worker leaves the key alone: another may not.
        if let Some(seat) = front.seat(hash)
            && self.pool(PoolId(seat.key.pool)).is_kept()
        {
            seat.key.invalidate();
        }
    }

    fn quarantine(&self, hash: KeyHash, now: u64, meter: &Meter) {
        let longest = self.pools.iter().map(|pool| pool.quarantine).max();
        let Some(key) = self.key(hash) else {
            let until = now.saturating_add(longest.unwrap_or(0));
            return self.l1.doubt(hash, until, now);
        };
        key.quarantine(now.saturating_add(self.pool(PoolId(key.pool)).quarantine));
        meter.event(key.pool, Event::Quarantine, 1);
    }

    /// Any key of this server may have changed. Copies know nothing of the
    /// server's pulse: keys that may have some are told one by one.
    fn turn_all(&self, server: u32) {
        self.turn(server);
        let front = self.front.borrow();
        let split = front
            .keys()
            .filter(|key| self.pool(PoolId(key.pool)).copies > 0);
        split.for_each(|key| key.invalidate());
    }

    fn turn(&self, server: u32) {
        if let Some(pulse) = self.l1.pulse(server) {
            pulse.turn();
        }
    }
}

fn pools(running: &Running) -> Box<[PoolHeat]> {
    let pools = running.pools.all();
    pools.map(|pool| PoolHeat::new(pool, running)).collect()
}

fn live(running: &Running) -> Box<[Vec<ServerId>]> {
    let mut live = vec![Vec::new(); running.pools.places()];
    let routers = running.listeners.iter().map(|listener| &listener.router);
    for plan in routers.flat_map(|router| router.targets()) {
        if let Target::Send(server) = *plan {
            let (pool, down) = match running.servers.get(server.0 as usize) {
                Some(server) => (server.pool, server.down),
                None => continue,
            };
            if down {
                continue;
            }
            let servers: &mut Vec<ServerId> = &mut live[usize::from(pool.0)];
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    live.into_boxed_slice()
}

fn settings(hotkey: &Hotkey) -> WatchSettings {
    let millis =
        |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let rule = |rule: &crate::running::HotRule| Rule {
        prefix: rule.prefix.clone(),
        window_ms: rule.window_ms,
        threshold: rule.threshold,
        hold_ms: millis(rule.hold),
    };
    WatchSettings {
        window_ms: hotkey.window_ms,
        threshold: hotkey.threshold,
        threshold_bytes: hotkey.threshold_bytes,
        sample: hotkey.sample,
        hold_ms: millis(hotkey.hold),
        rules: hotkey.rules.iter().map(rule).collect(),
        always: hotkey.always.clone(),
    }
}
