//! Bulk copy of one pool to another, straight between their servers.
//!
//! ```text
//!   per source server           hot keys -> batches; then, all together,
//!                               walk -> page of keys -> filter -> batches
//!   per batch, a few at once    read from the source -> by target -> add to each
//!   beside it                   probe -> pace; checkpoint; what a person sees
//! ```
//!
//! It is no part of the data plane: a proxy that serves the pools knows nothing
//! of it, and both may be in use. That is safe because a copy is *added*: what
//! a target has already is newer and stays, and copying a key twice is the same
//! as copying it once, so everything may be begun again at any time.
//!
//! Everything but the probes runs on one thread.

mod batch;
mod checkpoint;
mod endpoint;
mod frontier;
pub mod hot;
mod instance;
mod item;
mod keys;
mod limit;
mod link;
mod lives;
mod memcached;
mod pace;
mod probe;
mod redis;
mod source;
mod tally;
mod walk;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use emberline_routing::{Distribution, Pool as Ring, ServerId};
use tokio::sync::{Barrier, Notify};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, timeout};

use crate::running::{Pool, Running};
use checkpoint::{Identity, State};
use endpoint::Endpoint;
use limit::Limit;
use source::Source;
pub use tally::{Copied, Tally};

/// Keys of a batch at most.
const BATCH: usize = 256;

/// How often the checkpoint is written, if anything has changed.
const SAVE_EVERY: Duration = Duration::from_millis(500);

/// How often whoever watches is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// How long batches in flight may take when a signal came.
const GRACE: Duration = Duration::from_secs(2);

/// A pool as one side of a copy.
#[derive(Clone, Debug)]
pub struct Side {
    running: Arc<Running>,
    index: usize,
    ring: Arc<Ring>,
}

/// Which keys are copied, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Overwrite what the target has.
    pub replace: bool,
    /// Also keys that the source's ring places on another server.
    pub all: bool,
    /// Names of target servers; empty: all of them.
    pub only: BTreeSet<String>,
    /// What keys must begin with.
    pub prefix: Vec<u8>,
    /// Keys that have less time left are not copied.
    pub min_ttl: Duration,
    /// Keys a second.
    pub rate: Option<u64>,
    /// Bytes a second.
    pub bandwidth: Option<u64>,
    /// Batches in flight per source server.
    pub concurrency: usize,
    /// The latency that the source's other clients may see.
    pub source_p99: Option<Duration>,
    /// Where progress is kept.
    pub checkpoint: Option<PathBuf>,
    /// Write nothing.
    pub dry_run: bool,
    /// How long a server may be silent before it is given up.
    pub retry_for: Duration,
    /// Keys that come first.
    pub hot: Vec<Vec<u8>>,
}

/// How far it is, for whoever watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sight {
    /// Keys seen.
    pub seen: u64,
    /// Keys that there are, by the servers' own count; 0 until it is known.
    pub total: u64,
    /// Copied so far.
    pub copied: Copied,
}

/// How it went.
#[derive(Debug)]
pub struct Summary {
    /// What became of the keys.
    pub tally: Tally,
    /// Servers that were given up, and why.
    pub failed: Vec<(String, String)>,
    /// A signal came before the end.
    pub interrupted: bool,
    /// A checkpoint said that there was nothing left to do.
    pub complete_before: bool,
    /// Targets that were restarted since the checkpoint, so that all began anew.
    pub restarted: Vec<String>,
    /// Why the checkpoint could not be written, if so.
    pub checkpoint_error: Option<String>,
    /// By source server.
    pub latencies: BTreeMap<String, Latency>,
    /// From the first connection to the last.
    pub took: Duration,
}

/// What probes of a source took while it was copied.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Half of them took at most this.
    pub p50: Duration,
    /// All but one of a hundred.
    pub p99: Duration,
    /// How often the copying was slowed down.
    pub halvings: u64,
}

impl Summary {
    /// Whether all that should be copied was.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
            && !self.interrupted
            && self.tally.refused == 0
            && self.checkpoint_error.is_none()
    }
}

impl Side {
    /// The pool of this name.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn named(running: &Arc<Running>, name: &str) -> Result<Side, String> {
        let index = running.pools.iter().position(|pool| pool.name == name);
        let index = index.ok_or_else(|| {
            let known: Vec<&str> = running.pools.iter().map(|pool| &pool.name[..]).collect();
            let known = known.join(", ");
            format!("there is no pool `{name}`, expected one of {known}")
        })?;
        let ring = running.rings.get(index).cloned().flatten();
        let ring = ring.ok_or_else(|| {
            format!("pool `{name}` is local: it has no servers that could be copied")
        })?;
        Ok(Side {
            running: Arc::clone(running),
            index,
            ring,
        })
    }

    fn pool(&self) -> Option<&Pool> {
        self.running.pools.get(self.index)
    }

    /// Servers with their ids; drained ones too.
    fn servers(&self) -> impl Iterator<Item = (ServerId, &crate::running::Server)> {
        let servers = self.pool().map_or(&[][..], |pool| &pool.servers);
        let server = |id: &ServerId| Some((*id, self.running.servers.get(id.0 as usize)?));
        servers.iter().filter_map(server)
    }

    /// What decides where keys are, in words that stay the same.
    fn identity(&self) -> String {
        let spec = self.ring.spec();
        let servers: Vec<String> = self
            .servers()
            .zip(&spec.members)
            .map(|((_, server), member)| {
                format!("{}={}*{}", member.name, server.name, member.weight)
            })
            .collect();
        let pool = self.pool();
        format!(
            "{} {} database {} {} {:?} {:?} salt \"{}\" tag {:?}: {}",
            spec.name,
            pool.map_or("", |pool| pool.protocol.name()),
            pool.map_or(0, |pool| pool.database),
            spec.distribution,
            spec.hash,
            spec.byte_sign,
            spec.salt.escape_ascii(),
            spec.hash_tag,
            servers.join(" ")
        )
    }
}

/// A copy that is known to make sense.
#[derive(Debug)]
pub struct Job {
    from: Side,
    to: Side,
    options: Options,
    before: State,
}

impl Job {
    /// Check that these go together, and read the checkpoint.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn new(from: Side, to: Side, options: Options) -> Result<Job, String> {
        let (Some(source), Some(target)) = (from.pool(), to.pool()) else {
            return Err("there is no such pool".to_owned());
        };
        if from.index == to.index {
            return Err(format!("`{}` cannot be copied to itself", source.name));
        }
        if source.protocol != target.protocol {
            return Err(format!(
                "`{}` speaks {} and `{}` {}: only pools of one protocol can be copied",
                source.name,
                source.protocol.name(),
                target.name,
                target.protocol.name()
            ));
        }
        for name in &options.only {
            if !to.servers().any(|(_, server)| server.name == *name) {
                let known: Vec<&str> = to.servers().map(|(_, server)| &server.name[..]).collect();
                return Err(format!(
                    "`{}` has no server `{name}`, expected one of {}",
                    target.name,
                    known.join(", ")
                ));
            }
        }
        let mut job = Job {
            from,
            to,
            options,
            before: State::default(),
        };
        if let Some(path) = &job.options.checkpoint {
            job.before = checkpoint::load(path, &job.identity())?.unwrap_or_default();
        }
        Ok(job)
    }

    fn identity(&self) -> Identity {
        let options = &self.options;
        let only: Vec<&str> = options.only.iter().map(String::as_str).collect();
        Identity {
            from: self.from.identity(),
            to: self.to.identity(),
            options: format!(
                "match \"{}\", only [{}], all {}, replace {}, min-ttl {:?}",
                options.prefix.escape_ascii(),
                only.join(" "),
                options.all,
                options.replace,
                options.min_ttl
            ),
        }
    }
}

/// What all tasks share.
struct Work {
    from: Side,
    to: Side,
    options: Options,
    identity: Identity,
    tally: RefCell<Tally>,
    keys: RefCell<Limit>,
    bytes: RefCell<Limit>,
    /// By id.
    targets: BTreeMap<u32, Endpoint>,
    sources: Vec<Rc<Source>>,
    /// Where each source waits for the others before it goes on to keys that do
    /// not come first.
    hot_copied: Barrier,
    /// Which life of each target is filled, by name.
    lives: RefCell<BTreeMap<String, String>>,
    /// Targets that have begun another life since the checkpoint.
    restarted: RefCell<Vec<String>>,
    /// There was nothing left to do.
    complete_before: Cell<bool>,
    /// A signal came: no more batches.
    stopped: Cell<bool>,
    /// All copying is over: the checkpoint is written once more.
    ended: Notify,
    total: Cell<u64>,
    saved: RefCell<String>,
    checkpoint_error: RefCell<Option<String>>,
}

/// Copy, until everything is or a signal comes. `tell` is called ten times a
/// second.
///
/// # Errors
/// When there is no runtime or no thread to be had.
pub fn run(job: Job, tell: impl Fn(Sight) + 'static) -> io::Result<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let work = Rc::new(Work::new(job));
    let probed = work.sources.iter().map(|source| Arc::clone(&source.probed));
    let probes = probe::start(Arc::clone(&work.from.running), probed.collect())?;
    let started = Instant::now();
    let local = LocalSet::new();
    local.block_on(&runtime, work.carry_out(tell));
    drop(probes);
    Ok(work.summary(started.elapsed()))
}

impl Work {
    fn new(job: Job) -> Work {
        let identity = job.identity();
        let Job {
            from,
            to,
            options,
            before,
        } = job;
        // Drained servers have no keys of their own.
        let live: Vec<ServerId> = from.ring.servers().collect();
        let mut sources = Vec::new();
        for (id, server) in from.servers() {
            if options.all || live.contains(&id) {
                let progress = before
                    .servers
                    .get(&server.name)
                    .cloned()
                    .unwrap_or_default();
                let source = Source::new(&from, id, server, &options, progress);
                sources.push(Rc::new(source));
            }
        }
        let target = |(id, server): (ServerId, &crate::running::Server)| {
            let end = Endpoint::new(&server.name, &server.address, options.retry_for);
            (id.0, end)
        };
        let targets: BTreeMap<u32, Endpoint> = to.servers().map(target).collect();
        let mut tally = Tally::default();
        for end in targets.values() {
            tally.targets.insert(end.name.clone(), Copied::default());
        }
        Work {
            tally: RefCell::new(tally),
            keys: RefCell::new(Limit::new(options.rate)),
            bytes: RefCell::new(Limit::new(options.bandwidth)),
            targets,
            hot_copied: Barrier::new(sources.len()),
            sources,
            lives: RefCell::new(before.targets),
            restarted: RefCell::default(),
            complete_before: Cell::new(false),
            stopped: Cell::new(false),
            ended: Notify::new(),
            total: Cell::new(0),
            saved: RefCell::default(),
            checkpoint_error: RefCell::default(),
            from,
            to,
            options,
            identity,
        }
    }

    async fn carry_out(self: &Rc<Work>, tell: impl Fn(Sight) + 'static) {
        let mut copies = JoinSet::new();
        let mut watching = JoinSet::new();
        let mut saving = JoinSet::new();
        let mut signal = pin!(signal());
        watching.spawn_local(Rc::clone(self).watch(tell));
        tokio::select! {
            () = self.meet_targets() => {}
            () = &mut signal => self.stopped.set(true),
        }
        let done = self.sources.iter().all(|source| source.is_done());
        self.complete_before.set(done);
        if self.options.checkpoint.is_some() && !self.options.dry_run {
            saving.spawn_local(Rc::clone(self).save_often());
        }
        if !self.stopped.get() {
            for source in &self.sources {
                copies.spawn_local(source::copy(Rc::clone(self), Rc::clone(source)));
            }
            tokio::select! {
                () = self.finish(&mut copies) => {}
                () = &mut signal => {
                    self.stopped.set(true);
                    let _ = timeout(GRACE, all(&mut copies)).await;
                }
            }
        }
        copies.shutdown().await;
        watching.shutdown().await;
        // Not cut short: two writers at a time would take each other's file away.
        self.ended.notify_one();
        all(&mut saving).await;
    }

    async fn finish(self: &Rc<Work>, copies: &mut JoinSet<()>) {
        all(copies).await;
        if !self.options.dry_run {
            self.part_from_targets().await;
        }
    }

    async fn watch(self: Rc<Work>, tell: impl Fn(Sight) + 'static) {
        loop {
            tell(self.sight());
            sleep(TELL_EVERY).await;
        }
    }

    fn sight(&self) -> Sight {
        let tally = self.tally.borrow();
        Sight {
            seen: tally.seen,
            total: self.total.get(),
            copied: tally.copied(),
        }
    }

    async fn save_often(self: Rc<Work>) {
        loop {
            self.save().await;
            if timeout(SAVE_EVERY, self.ended.notified()).await.is_ok() {
                return self.save().await;
            }
        }
    }

    /// Write the checkpoint if it has changed.
    async fn save(&self) {
        let Some(path) = self.options.checkpoint.clone() else {
            return;
        };
        let progress = |source: &Rc<Source>| (source.end.name.clone(), source.progress());
        let state = State {
            servers: self.sources.iter().map(progress).collect(),
            targets: self.lives.borrow().clone(),
        };
        let text = checkpoint::text(&self.identity, &state);
        if *self.saved.borrow() == text {
            return;
        }
        let shown = path.display().to_string();
        let written = text.clone();
        let saving = tokio::task::spawn_blocking(move || checkpoint::save(&path, &written));
        let error = match saving.await {
            Ok(Ok(())) => {
                self.saved.replace(text);
                None
            }
            Ok(Err(error)) => Some(format!("cannot write {shown}: {error}")),
            Err(error) => Some(format!("cannot write {shown}: {error}")),
        };
        self.checkpoint_error.replace(error);
    }

    fn summary(&self, took: Duration) -> Summary {
        let sources = self.sources.iter().map(|source| &source.end);
        let failed = |end: &Endpoint| Some((end.name.clone(), end.failed()?));
        let latency = |source: &Rc<Source>| {
            let latency = Latency {
                p50: source.probed.quantile(0.5)?,
                p99: source.probed.quantile(0.99)?,
                halvings: source.probed.halvings(),
            };
            Some((source.end.name.clone(), latency))
        };
        Summary {
            tally: self.tally.borrow().clone(),
            failed: sources
                .chain(self.targets.values())
                .filter_map(failed)
                .collect(),
            interrupted: self.stopped.get(),
            complete_before: self.complete_before.get(),
            restarted: self.restarted.borrow().clone(),
            checkpoint_error: self.checkpoint_error.borrow().clone(),
            latencies: self.sources.iter().filter_map(latency).collect(),
            took,
        }
    }

    /// Whether there is nobody left to copy to.
    fn is_hopeless(&self) -> bool {
        self.targets.values().all(|end| end.failed().is_some())
    }

    /// Whether the ring of the source is one whose places can be foretold.
    fn knows_owners(&self) -> bool {
        !self.options.all && self.from.ring.spec().distribution != Distribution::Random
    }
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// SIGINT or SIGTERM.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
