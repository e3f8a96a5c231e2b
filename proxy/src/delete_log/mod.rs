//! Durable deletes: what could not be told to a server is written down, and
//! told when the server is back.
//!
//! ```text
//!   worker: a delete has failed                 thread `delete-log`
//!     | append(server, key) --------------------> | a batch: write, fsync
//!     |                        <-- Ok or why not -|   then it is in the index
//!     | Ok: the client hears "deleted"            |
//!     | Err: the client hears the server's error  |
//!     |                                           |
//!   the server is up again                        |
//!     | claim, in order; DEL key --> server       |
//!     | its reply; gone(seq) -------------------> | a batch: write, fsync
//!     |                                    <------|   then out of the index
//! ```
//!
//! A key whose delete waits is *pending*, until the thread has written that it
//! was applied. Nothing about a pending key is sent to its server but the
//! delete, by one worker at a time: so no read finds what was deleted, and no
//! replay, not even one by the next process, undoes what was written since.
//! That order is this process's own: writes by other ways, through another
//! proxy or straight to the server, may be undone by a replay.
//!
//! Replaying twice does no harm; that is why a process may die anywhere. A log
//! is known by its path and its servers by their names, so that a reload, which
//! may number and order everything anew, changes nothing about what waits. What
//! is *not* here: who sends the deletes (`server/replay.rs`), and which ones
//! are written down (`server/dispatch/durable.rs`).

mod disk;
mod file;
mod index;
mod names;
mod record;
mod writer;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::task::Waker;
use std::time::Duration;

use emberline_routing::{PoolId, ServerId};
use tokio::sync::oneshot;
use tracing::warn;

use crate::running::{self, Pool, Running};
pub use index::Claim;
use index::Index;
use names::Names;
use record::KEY_MAX;
use writer::{Job, Writer};

/// The logs of all pools that have one, as one generation of the configuration
/// knows them.
#[derive(Debug, Default)]
pub struct DeleteLogs {
    /// By pool.
    logs: Box<[Option<Arc<DeleteLog>>]>,
    /// By server.
    servers: Box<[Option<ServerLog>]>,
    /// Every log that may still be open.
    open: HashMap<PathBuf, Weak<DeleteLog>>,
    /// The way to the thread, once there is one.
    jobs: Option<mpsc::Sender<Job>>,
}

/// One pool's log, open for as long as anybody has it. Shared by all threads.
#[derive(Debug)]
pub struct DeleteLog {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What cannot be told to one server, in its pool's log.
#[derive(Clone, Debug)]
pub struct ServerLog {
    log: Arc<DeleteLog>,
    /// The server's number in the index.
    server: u32,
}

/// What the thread knows of a log too.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// The thread's number for it.
    number: usize,
    /// Bytes that it may have.
    bytes_max: AtomicU64,
    /// How long a delete may wait in it, in milliseconds.
    age_max: AtomicU64,
    figures: Figures,
    /// How many wait; read before the index is.
    waiting: AtomicUsize,
    index: Mutex<Index>,
    /// Of its servers; after the index, where both are locked.
    names: Mutex<Names>,
}

/// What metrics show of a log.
#[derive(Debug, Default)]
pub struct Figures {
    /// Deletes that were written.
    pub appended: AtomicU64,
    /// Deletes that were applied later.
    pub replayed: AtomicU64,
    /// Deletes that were refused because the log was full or could not be
    /// written, and those that became too old.
    pub dropped: AtomicU64,
    /// Bytes of the file.
    pub bytes: AtomicU64,
    /// How many wait.
    pub waiting: AtomicU64,
    /// When the oldest of those was asked for, in milliseconds since 1970, or
    /// 0.
    pub oldest_unix_ms: AtomicU64,
}

/// Why a delete is not in the log.
pub type Refused = Arc<str>;

impl DeleteLogs {
    /// Open the logs of these pools, and start the thread that writes them.
    ///
    /// # Errors
    /// When a log cannot be used, or the thread not be started; the text names
    /// the pool.
    pub fn open(running: &Running) -> io::Result<DeleteLogs> {
        DeleteLogs::default().next(running)
    }

    /// The logs of the next generation. What is open in both stays so.
    ///
    /// # Errors
    /// As for [`open`](Self::open); nothing has changed then.
    pub fn next(&self, running: &Running) -> io::Result<DeleteLogs> {
        let mut next = DeleteLogs {
            logs: running.pools.all().map(|_| None).collect(),
            servers: running.servers.all().map(|_| None).collect(),
            open: self.open.clone(),
            jobs: self.jobs.clone(),
        };
        for (id, pool) in running.pools() {
            let Some(settings) = &pool.delete_log else {
                continue;
            };
            let log = next.open_one(running, pool, settings).map_err(|error| {
                let path = settings.path.display();
                let message = format!("pool \"{}\": delete log {path}: {error}", pool.name);
                io::Error::new(error.kind(), message)
            })?;
            for id in &pool.servers {
                if let Some(place) = next.servers.get_mut(id.0 as usize) {
                    *place = Some(log.of(&running.servers[id.0 as usize].name));
                }
            }
            next.logs[usize::from(id.0)] = Some(log);
        }
        next.open.retain(|_, log| log.strong_count() > 0);
        self.warn_of_orphans(&next);
        Ok(next)
    }

    /// A log that is open, or was until a moment ago, or is opened now.
    fn open_one(
        &mut self,
        running: &Running,
        pool: &Pool,
        settings: &running::DeleteLog,
    ) -> io::Result<Arc<DeleteLog>> {
        let open = self.open.get(&settings.path).and_then(Weak::upgrade);
        if let Some(log) = open {
            log.shared.follow(settings);
            return Ok(log);
        }
        let jobs = self.jobs()?;
        let servers = pool.servers.iter();
        let servers = servers.filter_map(|id| running.servers.get(id.0 as usize));
        let names = servers.map(|server| server.name.as_str()).collect();
        let (answer, answered) = mpsc::channel();
        let job = Job::Open {
            settings: settings.clone(),
            names,
            answer,
        };
        let ended = || io::Error::other("the thread that writes it has ended");
        jobs.send(job).map_err(|_| ended())?;
        let shared = answered.recv().map_err(|_| ended())??;
        let log = Arc::new(DeleteLog { shared, jobs });
        self.open
            .insert(settings.path.clone(), Arc::downgrade(&log));
        Ok(log)
    }

    fn jobs(&mut self) -> io::Result<mpsc::Sender<Job>> {
        if let Some(jobs) = &self.jobs {
            return Ok(jobs.clone());
        }
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new().name("delete-log".to_owned());
        thread.spawn(move || Writer::default().run(&queue))?;
        self.jobs = Some(jobs.clone());
        Ok(jobs)
    }

    /// Deletes may wait in a log that no pool has any more.
    fn warn_of_orphans(&self, next: &DeleteLogs) {
        for log in self.logs.iter().flatten() {
            let mut kept = next.logs.iter().flatten();
            if !log.is_idle() && !kept.any(|other| Arc::ptr_eq(other, log)) {
                warn!(
                    path = %log.shared.path.display(),
                    deletes = log.shared.waiting.load(Ordering::Acquire),
                    "no pool has this delete log any more: what waits in it is not applied \
                     before one has it again"
                );
            }
        }
    }

    /// Whether no pool has one.
    pub fn is_empty(&self) -> bool {
        self.logs.iter().all(Option::is_none)
    }

    /// What this server could not be told, if its pool has a log.
    #[inline]
    pub fn of(&self, server: ServerId) -> Option<&ServerLog> {
        self.servers.get(server.0 as usize)?.as_ref()
    }

    /// All pools that have one, and what metrics show of it.
    pub fn figures(&self) -> impl Iterator<Item = (PoolId, &Figures)> {
        let logs = (0..).map(PoolId).zip(&self.logs);
        logs.filter_map(|(pool, log)| Some((pool, &log.as_ref()?.shared.figures)))
    }
}

impl DeleteLog {
    /// Whether nothing waits.
    #[inline]
    fn is_idle(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) == 0
    }

    fn of(self: &Arc<Self>, server: &str) -> ServerLog {
        ServerLog {
            log: Arc::clone(self),
            server: self.shared.names().number(server.as_bytes()),
        }
    }

    fn tell(&self, job: Job) {
        // Without the thread a delete is not answered, which is an answer too,
        // and one that was applied is replayed by the next process.
        let _ = self.jobs.send(job);
    }
}

impl Drop for DeleteLog {
    fn drop(&mut self) {
        self.tell(Job::Close {
            log: self.shared.number,
        });
    }
}

impl ServerLog {
    /// Whether this key is pending.
    #[inline]
    pub fn has(&self, key: &[u8]) -> bool {
        !self.log.is_idle() && self.index().has(self.server, &key.into())
    }

    /// Whether nothing waits in it, for this server or another.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.log.is_idle()
    }

    /// Whether deletes wait that nobody is sending.
    pub fn waits(&self) -> bool {
        !self.log.is_idle() && self.index().waits_for(self.server)
    }

    /// Claim the delete of this key, to send it. If it waits, the task of this
    /// waker is woken when nobody is sending it any more: it has been applied
    /// and that is written, or it waits on.
    pub fn claim(&self, key: &Arc<[u8]>, waker: &Waker) -> Claim {
        match self.log.is_idle() {
            true => Claim::Nothing,
            false => self.index().claim_and_wait(self.server, key, waker),
        }
    }

    /// Claim the first that wait.
    pub fn claim_first(&self, max: usize) -> Vec<(u64, Arc<[u8]>)> {
        self.index().claim_first(self.server, max)
    }

    /// What was claimed could not be sent: it waits on.
    pub fn release(&self, key: &Arc<[u8]>) {
        let woken = self.index().release(self.server, key);
        woken.into_iter().for_each(Waker::wake);
    }

    /// What was claimed has been applied. It is pending until that has been
    /// written.
    pub fn gone(&self, seq: u64, key: Arc<[u8]>) {
        self.log.tell(Job::Gone {
            log: self.log.shared.number,
            server: self.server,
            seq,
            key,
        });
    }

    /// Write a delete down. The answer comes when it is on the disk, or cannot
    /// be.
    pub fn append(&self, key: &[u8], unix_ms: u64) -> oneshot::Receiver<Result<(), Refused>> {
        let (answer, answered) = oneshot::channel();
        let shared = &self.log.shared;
        if key.len() > KEY_MAX {
            shared.figures.dropped.fetch_add(1, Ordering::Relaxed);
            let _ = answer.send(Err("the key is too long for the delete log".into()));
            return answered;
        }
        self.log.tell(Job::Append {
            log: shared.number,
            server: self.server,
            key: key.into(),
            unix_ms,
            answer,
        });
        answered
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.log.shared.index()
    }
}

impl Shared {
    fn new(path: PathBuf, number: usize, index: Index, names: Names) -> Shared {
        Shared {
            path,
            number,
            bytes_max: AtomicU64::new(0),
            age_max: AtomicU64::new(0),
            figures: Figures::default(),
            waiting: AtomicUsize::new(index.len()),
            index: Mutex::new(index),
            names: Mutex::new(names),
        }
    }

    /// Be bound by these settings from here on.
    fn follow(&self, settings: &running::DeleteLog) {
        self.bytes_max.store(settings.bytes_max, Ordering::Relaxed);
        let age = u64::try_from(settings.age_max.as_millis());
        self.age_max
            .store(age.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    fn age_max(&self) -> Duration {
        Duration::from_millis(self.age_max.load(Ordering::Relaxed))
    }

    /// Whoever panicked here has left an index that is still true.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bring the figures up to date with a file of so many bytes.
    fn show(&self, bytes: u64) {
        let index = self.index();
        self.waiting.store(index.len(), Ordering::Release);
        let figures = &self.figures;
        figures.bytes.store(bytes, Ordering::Relaxed);
        figures.waiting.store(index.len() as u64, Ordering::Relaxed);
        let oldest = index.oldest().unwrap_or(0);
        figures.oldest_unix_ms.store(oldest, Ordering::Relaxed);
    }
}
