//! The thread that watches the configuration file and the names in it, and has
//! the process go on under what they say.
//!
//! ```text
//!   file changed --+
//!   SIGHUP --------+--> read --> check, build --> Adopt::adopt --> every thread
//!   POST /reload --+               ^      |
//!   a name leads elsewhere --------'      '--> a mistake anywhere: refused
//!     (the text that runs)                     whole, and the old goes on
//! ```
//!
//! A name is followed on the text that runs, whatever the file says meanwhile:
//! a file that was refused does not keep names from being followed, nor a bad
//! answer a file from being loaded. So it is with the files that the text names:
//! what was in them when it was loaded is kept.
//!
//! The file is read every two seconds and compared by what it holds, and so are
//! those that it takes passwords and certificates from. A ConfigMap is
//! changed by pointing the symlink `..data` elsewhere, which a watch on the file
//! would not see; and a file system that many machines share tells nobody. A
//! text that is still being written is waited for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info, warn};

use crate::config::{self, Files, Recipe, Report};
use crate::dns::{Known, Names};
use crate::running::{Bind, Changes, Running};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(2);

/// A file that was changed must stay as it is for this long to be believed.
const SETTLED: Duration = Duration::from_millis(100);

/// How often it is waited for that.
const LOOKS_MAX: usize = 20;

/// How long the start waits for names.
pub const NAMES_AT_START: Duration = Duration::from_secs(2);

/// How long a reload waits for names that are new.
const NAMES_AT_RELOAD: Duration = Duration::from_secs(1);

/// Where the configuration that runs came from, and what the command line said
/// of it.
#[derive(Debug)]
pub struct Origin {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// What it held, or what stands in its place.
    pub recipe: Recipe,
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--admin-bind`; `Some(None)` is "off".
    pub admin: Option<Option<Bind>>,
    /// What its names lead to.
    pub names: Arc<Names>,
    /// What was known of them when it was built.
    pub known: Known,
    /// What was in the files that it names.
    pub files: Arc<Files>,
}

impl Origin {
    /// A configuration that has not run yet.
    pub fn new(path: Option<PathBuf>, recipe: Recipe) -> Origin {
        Origin {
            path,
            recipe,
            workers: None,
            admin: None,
            names: Arc::default(),
            known: Known::default(),
            files: Arc::default(),
        }
    }

    /// Look up its names and build it. Names that have no answer in time do not
    /// keep it from running.
    pub fn start(&mut self) -> (Option<Running>, Report) {
        let built = self.build(&self.recipe, None, &self.files, NAMES_AT_START);
        self.known = built.known;
        (built.running, built.report)
    }

    /// Build, look up what is new in it, and build again: answers may lead to
    /// further questions.
    fn build(
        &self,
        recipe: &Recipe,
        old: Option<&Running>,
        files: &Arc<Files>,
        patience: Duration,
    ) -> Built {
        let until = Instant::now() + patience;
        loop {
            let known = self.names.known();
            let (mut running, report) = recipe.build(old, &known, files);
            let has_more = running.as_ref().is_some_and(|running| {
                let dns = &running.dns;
                self.names.settle(&dns.questions, &dns.terms, until)
            });
            if !has_more {
                if let Some(running) = &mut running {
                    self.overrule(running);
                }
                return Built {
                    running,
                    report,
                    known,
                };
            }
        }
    }

    /// What the file holds, if there is one.
    fn print(&self) -> Option<Print> {
        match (&self.path, &self.recipe) {
            (Some(_), Recipe::Text(source)) => Some(Print::of(source.text.as_bytes())),
            _ => None,
        }
    }

    /// Let the command line have its way.
    fn overrule(&self, running: &mut Running) {
        if let Some(workers) = self.workers {
            running.proxy.workers = workers;
        }
        if let Some(admin) = &self.admin {
            running.admin.clone_from(admin);
        }
    }
}

/// What came of a recipe.
struct Built {
    running: Option<Running>,
    report: Report,
    /// What was known of names.
    known: Known,
}

/// What a file holds, in a number: FNV-1a, of which 48 bits are shown, as many
/// as a metric can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(u64);

impl Print {
    /// The print of these bytes.
    pub fn of(bytes: &[u8]) -> Print {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Print(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }

    /// As it is shown.
    pub fn shown(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }
}

/// What became of a reload, in words for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The process runs on the file now.
    Done(String),
    /// The process goes on as it was.
    Refused(String),
}

/// Whoever can have the process run on something else.
pub trait Adopt: Send + 'static {
    /// What it runs on.
    fn running(&self) -> Arc<Running>;

    /// Go on under another configuration, made to follow the one that runs.
    ///
    /// # Errors
    /// When that cannot be, and then nothing has changed.
    fn adopt(&self, next: Running) -> io::Result<Adopted>;
}

/// What is different now.
#[derive(Debug)]
pub struct Adopted {
    /// Between the two configurations.
    pub changes: Changes,
    /// Keys that have no effect before the process is started again.
    pub restart: Vec<&'static str>,
}

/// How the last reload went, for metrics; and the way to ask for one.
#[derive(Debug)]
pub struct Reloads {
    /// When the configuration that runs was loaded; milliseconds since the Unix
    /// epoch.
    loaded: AtomicU64,
    /// When the last attempt was made, good or not.
    tried: AtomicU64,
    /// 1 if that succeeded.
    successful: AtomicU64,
    print: AtomicU64,
    names: OnceLock<Arc<Names>>,
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
}

/// What the thread is told.
enum Ask {
    /// Reload, whether the file is different or not.
    Reload(Option<mpsc::Sender<Outcome>>),
    /// A name leads elsewhere.
    Names,
    Stop,
}

/// What is answered where there is no file.
const NO_FILE: &str =
    "nothing to reload: the process was started without a configuration file (-c FILE)";

impl Reloads {
    /// Nothing was reloaded since the start.
    pub fn new(started: SystemTime) -> Reloads {
        Reloads {
            loaded: AtomicU64::new(millis(started)),
            tried: AtomicU64::new(millis(started)),
            successful: AtomicU64::new(1),
            print: AtomicU64::new(0),
            names: OnceLock::new(),
            asks: Mutex::new(None),
        }
    }

    /// Reload now, and wait for what becomes of it.
    pub fn reload(&self) -> Outcome {
        let (answer, answered) = mpsc::channel();
        self.ask(Ask::Reload(Some(answer)));
        let refused = || Outcome::Refused(NO_FILE.to_owned());
        answered.recv().unwrap_or_else(|_| refused())
    }

    /// Reload soon.
    pub fn reload_soon(&self) {
        if !self.ask(Ask::Reload(None)) {
            warn!("{NO_FILE}");
        }
    }

    /// No further reload begins; one that has begun is waited for.
    pub fn stop(&self, thread: Option<JoinHandle<()>>) {
        self.ask(Ask::Stop);
        self.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// When the configuration that runs was loaded, in seconds since the Unix epoch.
    pub fn loaded(&self) -> f64 {
        self.loaded.load(Ordering::Relaxed) as f64 / 1e3
    }

    /// When a reload was last tried, in the same seconds.
    pub fn tried(&self) -> f64 {
        self.tried.load(Ordering::Relaxed) as f64 / 1e3
    }

    /// Whether that succeeded.
    pub fn successful(&self) -> bool {
        self.successful.load(Ordering::Relaxed) == 1
    }

    /// The print of the file that runs; 0 without one.
    pub fn print(&self) -> u64 {
        self.print.load(Ordering::Relaxed)
    }

    /// The names that are followed, if any can be.
    pub fn names(&self) -> Option<&Names> {
        self.names.get().map(Arc::as_ref)
    }

    fn note(&self, outcome: &Outcome, print: Print) {
        let now = millis(SystemTime::now());
        self.tried.store(now, Ordering::Relaxed);
        let done = matches!(outcome, Outcome::Done(_));
        self.successful.store(u64::from(done), Ordering::Relaxed);
        if done {
            self.loaded.store(now, Ordering::Relaxed);
            self.print.store(print.shown(), Ordering::Relaxed);
        }
    }

    fn ask(&self, ask: Ask) -> bool {
        let asks = self.lock();
        asks.as_ref().is_some_and(|asks| asks.send(ask).is_ok())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Ask>>> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Start the thread.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(
    origin: Origin,
    reloads: Arc<Reloads>,
    process: impl Adopt,
) -> io::Result<JoinHandle<()>> {
    let (asks, asked) = mpsc::channel();
    let print = origin.print();
    let shown = print.map_or(0, Print::shown);
    reloads.print.store(shown, Ordering::Relaxed);
    *reloads.lock() = Some(asks);
    let _ = reloads.names.set(Arc::clone(&origin.names));
    let told = Arc::downgrade(&reloads);
    origin.names.on_change(move || {
        if let Some(reloads) = told.upgrade() {
            reloads.ask(Ask::Names);
        }
    });
    let named = origin.files.print();
    let watch = Watch {
        seen: print.map(|file| Seen { file, named }),
        named: Arc::clone(&origin.files),
        origin,
        reloads,
        process,
    };
    std::thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || watch.run(&asked))
}

/// What the thread knows.
struct Watch<P> {
    origin: Origin,
    /// What the file held when it was last looked at.
    seen: Option<Seen>,
    /// The files that it named then, also if that was refused.
    named: Arc<Files>,
    reloads: Arc<Reloads>,
    process: P,
}

/// What files held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// The configuration's.
    file: Print,
    /// Those that it names.
    named: u64,
}

impl<P: Adopt> Watch<P> {
    fn run(mut self, asked: &mpsc::Receiver<Ask>) {
        loop {
            match asked.recv_timeout(POLL) {
                Ok(Ask::Reload(answer)) => {
                    let outcome = self.reload();
                    // Whoever asked may have gone.
                    let _ = answer.map(|answer| answer.send(outcome));
                }
                Ok(Ask::Names) => self.follow_names(),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    self.follow_names();
                }
                Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reload if the file holds something else than when it was last seen.
    fn look(&mut self) {
        if self.print() != self.seen {
            for _ in 0..LOOKS_MAX {
                let before = self.print();
                std::thread::sleep(SETTLED);
                if self.print() == before {
                    break;
                }
            }
            self.reload();
        }
    }

    fn print(&self) -> Option<Seen> {
        let path = self.origin.path.as_ref()?;
        Some(Seen {
            file: held(path),
            named: self.named.print_now(),
        })
    }

    fn reload(&mut self) -> Outcome {
        let Some(path) = &self.origin.path else {
            warn!("{NO_FILE}");
            return Outcome::Refused(NO_FILE.to_owned());
        };
        let files = Arc::default();
        let (outcome, print) = match config::open(path) {
            Ok(source) => {
                let print = Print::of(source.text.as_bytes());
                (self.adopt(Recipe::Text(source), &files), print)
            }
            Err(error) => {
                let text = format!("cannot read {}: {error}\n", path.display());
                (Outcome::Refused(text), held(path))
            }
        };
        self.seen = Some(Seen {
            file: print,
            named: files.print(),
        });
        self.named = files;
        if let Outcome::Refused(why) = &outcome {
            error!(
                "the configuration was refused, the old one goes on:\n{}",
                why.trim_end()
            );
        }
        self.reloads.note(&outcome, print);
        outcome
    }

    fn adopt(&mut self, recipe: Recipe, files: &Arc<Files>) -> Outcome {
        let old = self.process.running();
        let built = self
            .origin
            .build(&recipe, Some(&old), files, NAMES_AT_RELOAD);
        let report = recipe.render(&built.report);
        match self.run_on(built.running, built.known) {
            Some(Ok(adopted)) => {
                self.origin.recipe = recipe;
                self.origin.files = Arc::clone(files);
                Outcome::Done(report + &told(&adopted))
            }
            Some(Err(error)) => Outcome::Refused(format!("{error}\n")),
            None => Outcome::Refused(report),
        }
    }

    /// Build what runs once more if names lead elsewhere now. What nobody can
    /// run on is no answer.
    fn follow_names(&mut self) {
        let before = self.origin.known.clone();
        if self.origin.names.known().since(&before).next().is_none() {
            return;
        }
        let old = self.process.running();
        let origin = &self.origin;
        let built = origin.build(&origin.recipe, Some(&old), &origin.files, NAMES_AT_RELOAD);
        let known = built.known.clone();
        let why = match self.run_on(built.running, built.known) {
            Some(Ok(adopted)) => {
                known.since(&before).for_each(|line| info!("{line}"));
                let changes = adopted.changes.lines().iter();
                return changes.for_each(|change| info!("{change}"));
            }
            Some(Err(error)) => error.to_string(),
            None => self.origin.recipe.render(&built.report),
        };
        let lines: Vec<String> = known.since(&before).collect();
        let (lines, why) = (lines.join("\n"), why.trim_end());
        error!("what names lead to now was refused, the last good answers stay:\n{lines}\n{why}");
        self.origin.names.refuse(&known, &before, why);
    }

    /// Have the process run on this, and follow its names; or those of what it
    /// runs on, if that cannot be.
    fn run_on(&mut self, next: Option<Running>, known: Known) -> Option<io::Result<Adopted>> {
        let outcome = next.map(|next| self.process.adopt(next));
        if let Some(Ok(_)) = &outcome {
            self.origin.known = known;
        }
        let dns = &self.process.running().dns;
        self.origin.names.follow(&dns.questions, &dns.terms);
        outcome
    }
}

/// What a file holds. One that cannot be read is told apart from one that can,
/// so that the log hears of it once.
fn held(path: &Path) -> Print {
    match std::fs::read(path) {
        Ok(bytes) => Print::of(&bytes),
        Err(error) => Print::of(error.to_string().as_bytes()),
    }
}

/// What is different, to the log and to whoever asked.
fn told(adopted: &Adopted) -> String {
    let mut text = String::new();
    for change in adopted.changes.lines() {
        info!("{change}");
        text.push_str(&format!("{change}\n"));
    }
    for key in &adopted.restart {
        warn!("needs a restart: {key}");
        text.push_str(&format!("needs a restart: {key}\n"));
    }
    if text.is_empty() {
        text.push_str("nothing is different\n");
    }
    info!("the configuration was reloaded");
    text
}

/// What cannot change while the process runs stays as it is; the keys that
/// `next` would have changed.
pub fn keep_what_is_fixed(old: &Running, next: &mut Running) -> Vec<&'static str> {
    let mut keys = Vec::new();
    fn fix<T: Clone + PartialEq>(
        keys: &mut Vec<&'static str>,
        key: &'static str,
        old: &T,
        next: &mut T,
    ) {
        if old != next {
            next.clone_from(old);
            keys.push(key);
        }
    }
    let (was, is) = (&old.proxy, &mut next.proxy);
    fix(&mut keys, "proxy.workers", &was.workers, &mut is.workers);
    fix(
        &mut keys,
        "proxy.memory_max",
        &was.memory_max,
        &mut is.memory_max,
    );
    fix(&mut keys, "admin.bind", &old.admin, &mut next.admin);
    fix(&mut keys, "status.bind", &old.status, &mut next.status);
    fix(
        &mut keys,
        "l1.capacity",
        &old.l1_capacity,
        &mut next.l1_capacity,
    );
    fix(&mut keys, "l1.preload", &old.preload, &mut next.preload);
    let mut bus = old.bus.clone();
    if let (Some(was), Some(is)) = (&mut bus, &next.bus)
        && was.tls.is_some() == is.tls.is_some()
    {
        // Whom to believe is asked whenever it is connected to.
        was.tls.clone_from(&is.tls);
    }
    fix(&mut keys, "bus", &bus, &mut next.bus);
    keys
}
