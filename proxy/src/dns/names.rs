//! The thread that asks, and its handle.
//!
//! It begins with the first name: who configures addresses has no such thread.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::memory::{Found, Memory};
use super::resolver::{Resolver, Workshop};
use super::{Answer, Known, Question, Terms};
use crate::log::Limited;

/// Questions that are under way at once.
const LOOKUPS_MAX: usize = 64;

static TROUBLE: Limited = Limited::new(2);

/// Names that are followed; dropping it ends its thread.
#[derive(Debug, Default)]
pub struct Names {
    shared: Arc<Shared>,
}

/// What the thread and everybody else look at.
#[derive(Default)]
struct Shared {
    memory: Mutex<Memory>,
    /// A lookup has ended.
    learnt: Condvar,
    /// The memory has other questions, or the end has come.
    wake: Notify,
    stopped: AtomicBool,
    has_thread: AtomicBool,
    /// Called on the thread when an answer is another one.
    changed: OnceLock<Box<dyn Fn() + Send + Sync>>,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// For metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Lookups that brought a good answer.
    pub answered: u64,
    /// Those that did not.
    pub failed: u64,
    /// Names that have no answer.
    pub unanswered: usize,
}

impl Names {
    /// Follow these names from now on, and no others.
    pub fn follow(&self, questions: &BTreeSet<Question>, terms: &Terms) {
        self.shared
            .memory()
            .follow(questions, terms, Instant::now());
        self.wake(!questions.is_empty());
    }

    /// Follow these names as well, and wait until each has been asked for once,
    /// but not beyond `until`. Whether anything came of it that was not known
    /// when this was called.
    pub fn settle(&self, questions: &BTreeSet<Question>, terms: &Terms, until: Instant) -> bool {
        let mut memory = self.shared.memory();
        if memory.tried(questions) && memory.terms() == terms {
            return false;
        }
        memory.follow_too(questions, terms, Instant::now());
        let before = memory.known();
        self.wake(!questions.is_empty());
        while !memory.tried(questions) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.learnt.wait_timeout(memory, left);
            (memory, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        memory.known() != before
    }

    /// What is known now.
    pub fn known(&self) -> Known {
        self.shared.memory().known()
    }

    /// Nobody can run on what is `refused`: go back to what was known `before`.
    pub fn refuse(&self, refused: &Known, before: &Known, why: &str) {
        self.shared.memory().refuse(refused, before, why);
    }

    /// Be told when an answer is another one. The first who asks for it is.
    pub fn on_change(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.changed.set(Box::new(tell));
    }

    /// How it goes.
    pub fn figures(&self) -> Figures {
        Figures {
            answered: self.shared.answered.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            unanswered: self.shared.memory().unanswered(),
        }
    }

    fn wake(&self, has_work: bool) {
        if has_work && !self.shared.has_thread.swap(true, Ordering::Relaxed) {
            let shared = Arc::clone(&self.shared);
            if let Err(error) = spawn(shared) {
                error!(%error, "names are not followed: their thread cannot be started");
            }
        }
        self.shared.wake.notify_one();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

fn spawn(shared: Arc<Shared>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("dns".to_owned());
    thread.spawn(move || runtime.block_on(run(&shared)))?;
    Ok(())
}

/// A question and how its lookup ended.
type Ended = (Question, Result<Found, String>);

async fn run(shared: &Shared) {
    let mut workshop = Workshop::default();
    let mut lookups: JoinSet<Ended> = JoinSet::new();
    while !shared.stopped.load(Ordering::Acquire) {
        let (due, terms) = shared.due(LOOKUPS_MAX - lookups.len());
        if !due.is_empty() {
            let resolver = workshop.resolver(&terms.servers);
            for (question, last) in due {
                lookups.spawn(lookup(resolver.clone(), question, last));
            }
        }
        let next = match lookups.len() {
            LOOKUPS_MAX => None,
            _ => shared.memory().next(),
        };
        let next_is_due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(Ok((question, outcome))) = lookups.join_next() => shared.learn(&question, outcome),
            () = next_is_due => {}
            () = shared.wake.notified() => {}
        }
    }
}

/// On a task of its own, so that a lookup that panics has merely failed.
async fn lookup(
    resolver: Result<Arc<Resolver>, String>,
    question: Question,
    last: Option<Answer>,
) -> Ended {
    let resolver = match resolver {
        Ok(resolver) => resolver,
        Err(why) => return (question, Err(why)),
    };
    let asked = question.clone();
    let task = tokio::spawn(async move { resolver.ask(&asked, last).await });
    let failed = |_| Err("the lookup ended unexpectedly".to_owned());
    (question, task.await.unwrap_or_else(failed))
}

impl Shared {
    fn due(&self, most: usize) -> (Vec<(Question, Option<Answer>)>, Terms) {
        let mut memory = self.memory();
        (memory.ask(Instant::now(), most), memory.terms().clone())
    }

    fn learn(&self, question: &Question, outcome: Result<Found, String>) {
        let mut memory = self.memory();
        let is_new = memory.learn(question, outcome, Instant::now(), chance());
        let failure = memory.failure(question).map(str::to_owned);
        drop(memory);
        let counter = match failure {
            None => &self.answered,
            Some(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.learnt.notify_all();
        if let Some(why) = failure
            && let Some(skipped) = TROUBLE.admit()
        {
            warn!(
                name = question.name(),
                why, skipped, "a name was not resolved"
            );
        }
        if is_new && let Some(tell) = self.changed.get() {
            tell();
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    // Seeded by the system's randomness.
    RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
}
