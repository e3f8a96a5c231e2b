//! Preload: the hot keys of the last process are hot in the next one, and in
//! its memory, before it says that it is ready.
//!
//! ```text
//!   thread `preload`                                   everybody else
//!     | read the list, promote its keys ------------> workers count their reads,
//!     | Ask::Fill, as worker PRELOAD ----> `l1` ----> as of any promoted key
//!     | <------------ Told::Landed ------/
//!     | all landed, or the deadline ----------------> /readyz: 200
//!     |
//!     | now and then: is another set of keys hot? save it
//!     | <------------ Told::Freeze ------------------ draining: the list as it was
//!     | save that, and no other
//!     | <------------ Told::Stop -------------------- the end: wait until it is saved
//! ```
//!
//! A fill is one like any other, of the same thread, on the same connection,
//! with the same rules: the list says which keys to ask for and nothing about
//! their values. A key stays promoted for a while and is then judged as all
//! are, so that the list of a day ago is gone a moment after the start.
//!
//! Keys cool while a process drains, so the list is taken when that begins, by
//! whoever says so, and not when it ends.
//!
//! What is *not* here: any part of a request's way.

mod file;
mod fill;
mod list;
mod places;
mod queue;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use emberline_hotkey::{HotKey, KeyHash};
use tracing::{info, warn};

use super::{L1, Landed};
use crate::generation::Generation;
use crate::running::{self, Running};
use fill::Fill;
use list::Unusable;
use places::Places;

/// The number by which the thread asks for fills: no worker has it, and it is
/// never given the lease of a missing key.
pub const PRELOAD: usize = usize::MAX;

/// How long the end of the process waits for the list to be saved.
const SAVE_PATIENCE: Duration = Duration::from_secs(3);

/// What became of a key of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its value was fetched.
    Filled,
    /// There is no such key any more.
    Missing,
    /// Its value cannot be kept.
    Unfit,
    /// There was no answer before the deadline, or something overtook it.
    Failed,
    /// It was not asked for: no such pool, no one server, no room.
    Skipped,
}

impl Fate {
    /// Every fate, in the order of its definition.
    pub const ALL: [Fate; 5] = [
        Fate::Filled,
        Fate::Missing,
        Fate::Unfit,
        Fate::Failed,
        Fate::Skipped,
    ];

    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Fate::Filled => "filled",
            Fate::Missing => "missing",
            Fate::Unfit => "unfit",
            Fate::Failed => "failed",
            Fate::Skipped => "skipped",
        }
    }
}

/// What all threads share of the preload; part of the [`L1`].
#[derive(Debug)]
pub struct Preload {
    settings: running::Preload,
    told: Sender<Told>,
    /// Until the thread takes it.
    heard: Mutex<Option<Receiver<Told>>>,
    /// Until when readiness waits, while it does.
    waits_until: Mutex<Option<Instant>>,
    /// The old list's keys are promoted: what is promoted from now on may take
    /// its place.
    is_loaded: AtomicBool,
    /// What metrics show.
    pub figures: Figures,
}

/// What metrics show of the preload.
#[derive(Debug, Default)]
pub struct Figures {
    /// Keys of the list, by [`Fate`].
    pub keys: [AtomicU64; Fate::ALL.len()],
    /// How long it took, in milliseconds.
    pub took_ms: AtomicU64,
    /// Lists that were saved.
    pub saved: AtomicU64,
    /// Lists that could not be.
    pub unsaved: AtomicU64,
}

/// What the thread is told.
#[derive(Debug)]
enum Told {
    Landed(Landed),
    /// Save this list, and none after it.
    Freeze(Snapshot),
    /// The process ends: answer when everything is saved.
    Stop(Sender<()>),
}

impl Preload {
    /// Nothing is read yet; readiness waits for nothing.
    pub fn new(settings: &running::Preload) -> Preload {
        let (told, heard) = mpsc::channel();
        Preload {
            settings: settings.clone(),
            told,
            heard: Mutex::new(Some(heard)),
            waits_until: Mutex::new(None),
            is_loaded: AtomicBool::new(false),
            figures: Figures::default(),
        }
    }

    /// Whether readiness is to wait still. Never longer than the deadline,
    /// whatever the thread is stuck in.
    pub fn is_under_way(&self) -> bool {
        let until = self.waits_until.lock();
        let until = *until.unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// A fill that the thread asked for has ended.
    pub fn land(&self, landed: Landed) {
        self.tell(Told::Landed(landed));
    }

    /// The process begins to drain: what is hot now is what the next one shall
    /// begin with.
    pub fn freeze(&self, l1: &L1, running: &Running) {
        if self.is_loaded.load(Ordering::Acquire) {
            let snapshot = Snapshot::take(l1, running, self.settings.keys_max);
            self.tell(Told::Freeze(snapshot));
        }
    }

    /// The process ends: wait until the list is saved, but not for long.
    pub fn finish(&self) {
        let (done, saved) = mpsc::channel();
        self.tell(Told::Stop(done));
        if saved.recv_timeout(SAVE_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            warn!("the list of hot keys is not saved yet: leaving without it");
        }
    }

    fn tell(&self, told: Told) {
        // Without the thread there is nobody to be told.
        let _ = self.told.send(told);
    }

    fn wait_until(&self, until: Option<Instant>) {
        let waits = self.waits_until.lock();
        *waits.unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Start the thread, if there is a list to be kept. `current` is the newest
/// configuration.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(
    l1: Arc<L1>,
    current: impl Fn() -> Arc<Generation> + Send + 'static,
) -> io::Result<()> {
    let Some(preload) = &l1.preload else {
        return Ok(());
    };
    let heard = preload.heard.lock();
    let Some(heard) = heard.unwrap_or_else(PoisonError::into_inner).take() else {
        return Ok(());
    };
    let settings = preload.settings.clone();
    let began = Instant::now();
    preload.wait_until(Some(began + settings.deadline));
    let keeper = Keeper {
        l1: Arc::clone(&l1),
        current: Box::new(current),
        settings,
        began,
        heard,
        frozen: None,
        stop: None,
        is_foreign: false,
        saved: None,
        complained: false,
    };
    let thread = std::thread::Builder::new().name("preload".to_owned());
    thread.spawn(move || keeper.run())?;
    Ok(())
}

/// The hot keys at one moment, as they are saved.
#[derive(Debug)]
struct Snapshot {
    bytes: Vec<u8>,
    keys: usize,
    /// The same for the same keys, in whatever order.
    print: u64,
}

impl Snapshot {
    /// The hottest keys of all pools that memory answers for.
    fn take(l1: &L1, running: &Running, keys_max: usize) -> Snapshot {
        let rows = l1.board.rows();
        let named = rows.iter().filter_map(|row| {
            let pool = running.pools.present(usize::from(row.key.pool))?;
            places::serves(pool).then_some((&*pool.name, &row.key))
        });
        let kept: Vec<(&str, &Arc<HotKey>)> = named.take(keys_max).collect();
        let print = kept.iter().map(|(_, key)| key.hash.0);
        Snapshot {
            bytes: list::encode(kept.iter().map(|(pool, key)| (*pool, &*key.key))),
            keys: kept.len(),
            print: print.fold(0, |sum, hash| sum ^ hash),
        }
    }
}

/// The thread.
struct Keeper {
    l1: Arc<L1>,
    current: Box<dyn Fn() -> Arc<Generation> + Send>,
    settings: running::Preload,
    began: Instant,
    heard: Receiver<Told>,
    /// The last list, once the process drains, until it is saved.
    frozen: Option<Snapshot>,
    /// Who waits for the end.
    stop: Option<Sender<()>>,
    /// The file is somebody else's: it is not written over.
    is_foreign: bool,
    /// What was saved last.
    saved: Option<(usize, u64)>,
    /// That it could not be was said.
    complained: bool,
}

impl Keeper {
    fn run(mut self) {
        let l1 = Arc::clone(&self.l1);
        let Some(preload) = &l1.preload else { return };
        {
            let _done = Done(preload);
            self.load(preload);
        }
        self.keep(preload);
    }

    /// Begin with what was hot in the last process.
    fn load(&mut self, preload: &Preload) {
        let found = self.read();
        let generation = (self.current)();
        let keys = self.promote(&generation.running, &found);
        preload.is_loaded.store(true, Ordering::Release);
        if found.is_empty() {
            return;
        }
        let l1 = Arc::clone(&self.l1);
        let mut fill = Fill::new(&l1, &generation, self.settings.bytes_max);
        fill.note(Fate::Skipped, found.len() - keys.len());
        let places = Places::new(&generation.running);
        for key in keys {
            fill.add(&places, key);
        }
        let deadline = self.began + self.settings.deadline;
        while let Some(wait) = fill.go_on(Instant::now(), deadline) {
            // A reload may have given the keys other servers.
            let is_over = self.frozen.is_some() || self.stop.is_some();
            if is_over || (self.current)().number != generation.number {
                break;
            }
            match self.heard.recv_timeout(wait) {
                Ok(Told::Landed(landed)) => fill.land(&landed, Instant::now()),
                Ok(other) => self.hear(other),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        fill.finish(&preload.figures, self.began.elapsed());
    }

    /// The old list, or nothing.
    fn read(&mut self) -> Vec<(String, Vec<u8>)> {
        let path = self.settings.path.display();
        let bytes = match file::load(&self.settings.path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                info!(%path, "no list of hot keys was left: none is preloaded");
                return Vec::new();
            }
            Err(error) => {
                warn!(%path, %error, "the list of hot keys cannot be read: none is preloaded");
                return Vec::new();
            }
        };
        match list::parse(&bytes, self.settings.keys_max) {
            Ok(found) => {
                let (unsound, beyond) = (found.unsound, found.beyond);
                if unsound > 0 {
                    warn!(%path, unsound, "lines of the list of hot keys mean nothing: passed over");
                }
                if beyond > 0 {
                    info!(%path, beyond, "the list of hot keys is longer than `keys_max`");
                }
                found.keys
            }
            Err(why) => {
                self.is_foreign = why == Unusable::Foreign;
                let saved = match self.is_foreign {
                    true => "and none is saved",
                    false => "until a new list is saved",
                };
                warn!(%path, %why, "no hot key is preloaded, {saved}");
                Vec::new()
            }
        }
    }

    /// Promote what is there to be promoted, the hottest first.
    fn promote(&self, running: &Running, found: &[(String, Vec<u8>)]) -> Vec<Arc<HotKey>> {
        let mut pools = HashMap::new();
        let mut seen = HashSet::new();
        let named = found.iter().filter_map(|(name, key)| {
            let pool = pools.entry(name);
            let pool = (*pool.or_insert_with(|| places::pool(running, name)))?;
            let hash = self.l1.hasher.hash_in(pool.0, key);
            seen.insert(hash).then_some((hash, pool.0, &**key))
        });
        let named: Vec<(KeyHash, u16, &[u8])> = named.collect();
        let held_until = self.l1.now() / 1_000_000;
        let hold = u64::try_from(self.settings.hold.as_millis()).unwrap_or(u64::MAX);
        let board = &self.l1.board;
        board.preload(named.iter().copied(), held_until.saturating_add(hold));
        let set = board.set();
        // As a worker does before it asks for what was promoted just now.
        self.l1.quarantine_doubtful(&set);
        let promoted = named.iter().filter_map(|(hash, ..)| set.get(*hash));
        promoted.map(Arc::clone).collect()
    }

    /// Save the list now and then, until the process ends.
    fn keep(&mut self, preload: &Preload) {
        let mut next_save = Some(self.began + self.settings.save_every);
        let mut let_go = Some(self.began + self.settings.hold);
        loop {
            if let Some(frozen) = self.frozen.take() {
                next_save = None;
                self.save(preload, &frozen);
            }
            if let Some(stop) = self.stop.take() {
                // Whoever asked may have left.
                let _ = stop.send(());
                return;
            }
            let now = Instant::now();
            if let_go.is_some_and(|at| at <= now) {
                let_go = None;
                self.l1.board.forget_unheard();
            }
            if next_save.is_some_and(|at| at <= now) {
                self.save_if_different(preload);
                next_save = Some(Instant::now() + self.settings.save_every);
            }
            let next = [next_save, let_go].into_iter().flatten().min();
            let wait = next.map_or(Duration::from_secs(3600), |at| {
                at.saturating_duration_since(Instant::now())
            });
            match self.heard.recv_timeout(wait) {
                Ok(told) => self.hear(told),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            // It comes too late to be counted; its item is as good as any.
            Told::Landed(_) => {}
            Told::Freeze(snapshot) => self.frozen = Some(snapshot),
            Told::Stop(done) => self.stop = Some(done),
        }
    }

    fn save_if_different(&mut self, preload: &Preload) {
        let running = Arc::clone(&(self.current)().running);
        let snapshot = Snapshot::take(&self.l1, &running, self.settings.keys_max);
        if self.saved != Some((snapshot.keys, snapshot.print)) {
            self.save(preload, &snapshot);
        }
    }

    /// An empty list is not worth the one that it would replace: a process
    /// without traffic would leave nothing to the next one with some.
    fn save(&mut self, preload: &Preload, snapshot: &Snapshot) {
        if self.is_foreign || snapshot.keys == 0 {
            return;
        }
        match file::save(&self.settings.path, &snapshot.bytes) {
            Ok(()) => {
                self.saved = Some((snapshot.keys, snapshot.print));
                self.complained = false;
                preload.figures.saved.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                preload.figures.unsaved.fetch_add(1, Ordering::Relaxed);
                let path = self.settings.path.display();
                if !std::mem::replace(&mut self.complained, true) {
                    warn!(%path, %error, "the list of hot keys cannot be saved");
                }
            }
        }
    }
}

/// Says that readiness need not wait any more, however its scope ends.
struct Done<'p>(&'p Preload);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.wait_until(None);
    }
}
