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
//! Replaying twice does no harm; that is why a process may die anywhere. What
//! is *not* here: who sends the deletes (`server/replay.rs`), and which ones
//! are written down (`server/dispatch/durable.rs`).

mod file;
mod index;
mod record;
mod writer;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use emberline_routing::{PoolId, ServerId};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::running::{self, Running};
use file::{Found, LogFile};
pub use index::Claim;
use index::Index;
use record::KEY_MAX;
use writer::{Job, Writer};

/// The logs of all pools that have one.
#[derive(Debug, Default)]
pub struct DeleteLogs {
    /// By pool.
    logs: Box<[Option<Arc<DeleteLog>>]>,
}

/// One pool's log. Shared by all threads.
#[derive(Debug)]
pub struct DeleteLog {
    /// The pool's name.
    pub pool: String,
    /// Of all logs.
    number: usize,
    /// The pool's first server; others follow.
    first: u32,
    settings: running::DeleteLog,
    figures: Arc<Figures>,
    /// How many wait; read before the index is.
    waiting: AtomicUsize,
    index: Mutex<Index>,
    /// Servers by their numbers in the index: the pool's own, then those that
    /// are known from the file alone.
    names: Vec<Arc<str>>,
    jobs: mpsc::Sender<Job>,
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
    /// Open the logs of these pools and start the thread that writes them.
    /// `figures` are by pool.
    ///
    /// # Errors
    /// When a log cannot be used, or the thread not be started; the text names
    /// the pool.
    pub fn open(running: &Running, figures: &[Arc<Figures>]) -> io::Result<DeleteLogs> {
        let (jobs, queue) = mpsc::channel();
        let (mut logs, mut files) = (Vec::new(), Vec::new());
        for (pool, figures) in running.pools.iter().zip(figures) {
            let Some(settings) = &pool.delete_log else {
                logs.push(None);
                continue;
            };
            let opened = open_one(running, pool, settings, (figures, files.len()), &jobs);
            let (log, file, next) = opened.map_err(|error| {
                let path = settings.path.display();
                let message = format!("pool \"{}\": delete log {path}: {error}", pool.name);
                io::Error::new(error.kind(), message)
            })?;
            files.push((Arc::clone(&log), file, next));
            logs.push(Some(log));
        }
        if !files.is_empty() {
            let writer = Writer::new(files);
            let thread = std::thread::Builder::new().name("delete-log".to_owned());
            thread.spawn(move || writer.run(&queue))?;
        }
        Ok(DeleteLogs { logs: logs.into() })
    }

    /// Whether no pool has one.
    pub fn is_empty(&self) -> bool {
        self.logs.iter().all(Option::is_none)
    }

    /// A pool's.
    pub fn of(&self, pool: PoolId) -> Option<&Arc<DeleteLog>> {
        self.logs.get(usize::from(pool.0))?.as_ref()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DeleteLog>> {
        self.logs.iter().flatten()
    }
}

fn open_one(
    running: &Running,
    pool: &running::Pool,
    settings: &running::DeleteLog,
    (figures, number): (&Arc<Figures>, usize),
    jobs: &mpsc::Sender<Job>,
) -> io::Result<(Arc<DeleteLog>, LogFile, u64)> {
    let servers = pool.servers.clone();
    let own = servers.filter_map(|id| running.servers.get(id as usize));
    let mut names: Vec<Arc<str>> = own.map(|server| server.name.as_str().into()).collect();
    let own = names.len();
    let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
    for (number, name) in (0..).zip(&names) {
        known.entry(name.as_bytes().to_vec()).or_insert(number);
    }
    let (file, found) = LogFile::open(&settings.path, |name| {
        let next = u32::try_from(names.len()).unwrap_or(u32::MAX);
        *known.entry(name.to_vec()).or_insert_with(|| {
            names.push(String::from_utf8_lossy(name).into());
            next
        })
    })?;
    let Found { index, next, torn } = found;
    if torn > 0 {
        warn!(
            pool = pool.name,
            bytes = torn,
            "the delete log's last record was not written whole: it was left out"
        );
    }
    if index.len() > 0 {
        info!(
            pool = pool.name,
            deletes = index.len(),
            unknown_servers = names.len() - own,
            "deletes of an earlier process wait to be applied"
        );
    }
    let log = DeleteLog {
        pool: pool.name.clone(),
        number,
        first: pool.servers.start,
        settings: settings.clone(),
        figures: Arc::clone(figures),
        waiting: AtomicUsize::new(index.len()),
        index: Mutex::new(index),
        names,
        jobs: jobs.clone(),
    };
    log.show(file.len());
    Ok((Arc::new(log), file, next))
}

impl DeleteLog {
    /// Whether nothing waits.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Whether this key of a server is pending.
    #[inline]
    pub fn has(&self, server: ServerId, key: &[u8]) -> bool {
        !self.is_idle() && self.index().has(self.number_of(server), &key.into())
    }

    /// Whether deletes wait for this server that nobody is sending.
    pub fn waits_for(&self, server: ServerId) -> bool {
        !self.is_idle() && self.index().waits_for(self.number_of(server))
    }

    /// Claim the delete of this key, to send it.
    pub fn claim(&self, server: ServerId, key: &Arc<[u8]>) -> Claim {
        self.index().claim(self.number_of(server), key)
    }

    /// Claim the first that wait for a server.
    pub fn claim_first(&self, server: ServerId, max: usize) -> Vec<(u64, Arc<[u8]>)> {
        self.index().claim_first(self.number_of(server), max)
    }

    /// What was claimed could not be sent: it waits on.
    pub fn release(&self, server: ServerId, key: &Arc<[u8]>) {
        self.index().release(self.number_of(server), key);
    }

    /// What was claimed has been applied. It is pending until that has been
    /// written.
    pub fn gone(&self, server: ServerId, seq: u64, key: Arc<[u8]>) {
        let job = Job::Gone {
            log: self.number,
            server: self.number_of(server),
            seq,
            key,
        };
        // Without the thread the delete would be replayed by the next process,
        // and the key is pending in this one.
        let _ = self.jobs.send(job);
    }

    /// Write a delete down. The answer comes when it is on the disk, or cannot
    /// be.
    pub fn append(
        &self,
        server: ServerId,
        key: &[u8],
        unix_ms: u64,
    ) -> oneshot::Receiver<Result<(), Refused>> {
        let (answer, answered) = oneshot::channel();
        if key.len() > KEY_MAX {
            self.figures.dropped.fetch_add(1, Ordering::Relaxed);
            let _ = answer.send(Err("the key is too long for the delete log".into()));
            return answered;
        }
        let job = Job::Append {
            log: self.number,
            server: self.number_of(server),
            key: key.into(),
            unix_ms,
            answer,
        };
        // If the thread has gone, so has the sender, which is an answer too.
        let _ = self.jobs.send(job);
        answered
    }

    /// A server's number in the index.
    fn number_of(&self, server: ServerId) -> u32 {
        server.0.saturating_sub(self.first)
    }

    /// Whoever panicked here has left an index that is still true.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
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
