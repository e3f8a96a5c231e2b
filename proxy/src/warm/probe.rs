//! What other clients of a source see: one small question at a time, on a
//! connection and a thread of their own.
//!
//! On a thread of their own, because the copying thread is busy with the copying:
//! its own delays are not the server's.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::time::sleep;

use super::link::{Fault, Link};
use super::pace::Pace;
use crate::running::{Address, Protocol, Running};

/// Pause between two probes where nothing depends on them, and where the pace does.
const SELDOM: Duration = Duration::from_millis(20);
const OFTEN: Duration = Duration::from_millis(2);

/// Pause before a lost server is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// How long a source that is slow anyway holds up what it would notice.
const CALM_MAX: Duration = Duration::from_secs(30);

/// Longer than this is as good as never; microseconds.
const LONGEST: u64 = 60_000_000;

/// What is known of one source.
#[derive(Debug)]
pub struct Probed {
    address: Address,
    /// Index of its pool in the configuration.
    pool: usize,
    often: bool,
    allowed: AtomicUsize,
    calms: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Microseconds.
    took: Option<Histogram<u64>>,
}

impl Probed {
    /// A source that may be asked for at most `most` keys at once.
    pub fn new(address: &Address, pool: usize, limit: Option<Duration>, most: usize) -> Probed {
        let pace = Pace::new(limit, most);
        Probed {
            address: address.clone(),
            pool,
            often: limit.is_some(),
            allowed: AtomicUsize::new(pace.allowed()),
            calms: AtomicU64::new(0),
            state: Mutex::new(State {
                pace,
                took: Histogram::new_with_max(LONGEST, 3).ok(),
            }),
        }
    }

    /// Keys that may be asked for at once.
    pub fn allowed(&self) -> usize {
        self.allowed.load(Ordering::Relaxed)
    }

    /// How often it was slowed down.
    pub fn halvings(&self) -> u64 {
        self.state().pace.halvings
    }

    /// This quantile of the probes, from 0 to 1; `None` before the first.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let state = self.state();
        let took = state.took.as_ref().filter(|took| !took.is_empty())?;
        Some(Duration::from_micros(took.value_at_quantile(quantile)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait until other clients have been served well for a while, if anybody
    /// minds: something comes that they will notice. It comes some time, however
    /// they are served.
    pub async fn calm(&self) {
        let calms = || self.calms.load(Ordering::Relaxed);
        let (before, started) = (calms(), Instant::now());
        while self.often && calms() == before && started.elapsed() < CALM_MAX {
            sleep(SELDOM).await;
        }
    }

    fn record(&self, took: Duration) {
        self.note(took, Pace::probed);
    }

    /// There was no answer for this long.
    fn missed(&self, waited: Duration) {
        self.note(waited, Pace::missed);
    }

    fn note(&self, took: Duration, tell: impl FnOnce(&mut Pace, Duration)) {
        let mut state = self.state();
        tell(&mut state.pace, took);
        self.allowed.store(state.pace.allowed(), Ordering::Relaxed);
        self.calms.store(state.pace.calms, Ordering::Relaxed);
        if let Some(histogram) = &mut state.took {
            histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST));
        }
    }
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Probes {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Ask these servers until the answer is dropped.
///
/// # Errors
/// When there is no thread or no runtime to be had.
pub fn start(running: Arc<Running>, probed: Vec<Arc<Probed>>) -> std::io::Result<Probes> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let probe = move || {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for one in probed {
                tasks.spawn(watch(Arc::clone(&running), one));
            }
            while !stopped.load(Ordering::Relaxed) {
                sleep(SELDOM).await;
            }
        });
    };
    let thread = thread::Builder::new()
        .name("probe".to_owned())
        .spawn(probe)?;
    Ok(Probes {
        stop,
        thread: Some(thread),
    })
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn watch(running: Arc<Running>, one: Arc<Probed>) {
    loop {
        // A server that is lost is the copying's to report.
        let _ = ask_on(&running, &one).await;
        sleep(RETRY).await;
    }
}

async fn ask_on(running: &Running, one: &Probed) -> Result<(), Fault> {
    let Some(pool) = running.pools.get(one.pool) else {
        return Ok(());
    };
    let mut link = Link::open(&one.address, pool).await?;
    for number in 0_u64.. {
        // `version` takes none of the locks that a memcached's clients wait for:
        // so keys that are not there are asked for, each behind another lock.
        let question = match pool.protocol {
            Protocol::Redis => "PING\r\n".to_owned(),
            Protocol::Memcached => format!("mg emberline:probe:{number} u v\r\n"),
        };
        link.output.extend_from_slice(question.as_bytes());
        let asked = Instant::now();
        match link.ask(1).await {
            Ok(_) => one.record(asked.elapsed()),
            Err(fault) => {
                one.missed(asked.elapsed());
                return Err(fault);
            }
        }
        sleep(if one.often { OFTEN } else { SELDOM }).await;
    }
    Ok(())
}
