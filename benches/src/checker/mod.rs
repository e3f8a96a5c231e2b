//! Does a proxy that answers from memory keep its promises?
//!
//! ```text
//!   stage     a real server, a relay before it, one or two proxies
//!   field     readers and writers, each with a log of its own
//!   faults    what goes wrong meanwhile
//!      |
//!   history   what was done, when, and what was said
//!      |
//!   rules     which read nobody can explain          (no sockets, no clock)
//!      |
//!   report    how many, which first, and what happened around them
//! ```
//!
//! The rules are those of `docs/freshness.md`. Everything above `history` may
//! be as untidy as the world is; what is below it can be tested with histories
//! written by hand.

pub mod census;
pub mod faults;
pub mod field;
pub mod history;
pub mod mutants;
pub mod options;
pub mod reader;
pub mod relay;
pub mod report;
pub mod rules;
pub mod stage;
pub mod stamp;
pub mod timeline;
pub mod wire;
pub mod writer;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use census::{Calls, Census, Metrics};
use faults::Gremlin;
use field::Field;
use history::{Alien, Foreign, History, Via};
use options::Options;
pub use report::Report;
use stage::Stage;
use timeline::Bounds;

use crate::load::Protocol;
use crate::load::rng::Rng;

/// Start everything, read and write under faults, and judge.
///
/// # Errors
/// When a program cannot be started, ends by itself, or the run is interrupted.
pub fn run(options: &Options) -> io::Result<Report> {
    let seed = options.seed.unwrap_or_else(seed);
    let mut stage = Stage::start(options)?;
    let field = Field::new(options, &stage);
    let mut rng = Rng::new(seed);

    let readers = start_readers(&field, &mut rng);
    let writers = start_writers(&field, &mut rng);
    let mut census = Census {
        enabled: options.expect_tracking_max.is_some(),
        ..Census::default()
    };
    let mut gremlin = Gremlin::new(&field, &mut stage, &mut census, Rng::new(rng.bits()));
    let outcome = gremlin.run(options.seconds);
    let (strikes, wipes) = (gremlin.strikes, gremlin.wipes);
    field.stop();

    let mut history = History {
        wipes,
        ..History::default()
    };
    let mut gathered = Gathered::default();
    for writer in writers {
        let works = join(writer)?;
        history.versions.extend(works.versions);
        gathered.doubts += works.doubts;
        for (text, count) in works.refusals {
            *gathered.refusals.entry(text).or_default() += count;
        }
        gathered.take(works.notes, &mut history);
    }
    for reader in readers {
        gathered.take(join(reader)?, &mut history);
    }
    outcome?;
    // Counted before the sweep, which reads cold keys, too.
    let calls = match options.protocol {
        Protocol::Redis => Calls::read(stage.server).unwrap_or_default(),
        Protocol::Memcached => Calls::default(),
    };
    let metrics = stage
        .admin
        .map(Metrics::scrape)
        .transpose()?
        .unwrap_or_default();
    gathered.take(settle(&field)?, &mut history);

    let bounds = bounds(options);
    let verdict = rules::judge(&mut history, bounds);
    Ok(Report {
        options: options.clone(),
        seed,
        verdict,
        history,
        strikes,
        calls,
        metrics,
        tracking_max: census.tracking_max,
        doubts: gathered.doubts,
        refusals: gathered.refusals,
        failures: gathered.failures,
    })
}

fn bounds(options: &Options) -> Bounds {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Bounds {
        promise: nanos(options.promise()),
        allowance: nanos(options.allowance()),
        quarantine: nanos(options.request_timeout * 2),
        unordered: !options.ordered,
    }
}

/// The time, scattered.
fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007)
}

fn start_readers(field: &Arc<Field>, rng: &mut Rng) -> Vec<thread::JoinHandle<reader::Notes>> {
    let options = field.options();
    let habits = reader::habits(options.protocol, options.alone);
    let weights: u32 = habits.iter().map(|habit| habit.weight).sum();
    let per_weight = f64::from(options.rate) / f64::from(weights);
    habits
        .into_iter()
        .map(|habit| {
            let (field, rng) = (Arc::clone(field), Rng::new(rng.bits()));
            let rate = per_weight * f64::from(habit.weight);
            thread::spawn(move || reader::run(&field, habit, rate, rng))
        })
        .collect()
}

fn start_writers(field: &Arc<Field>, rng: &mut Rng) -> Vec<thread::JoinHandle<writer::Works>> {
    let kinds = field.options().writers.clone();
    kinds
        .into_iter()
        .zip(0..)
        .map(|(kind, number)| {
            let (field, rng) = (Arc::clone(field), Rng::new(rng.bits()));
            thread::spawn(move || writer::run(&field, number, kind, rng))
        })
        .collect()
}

fn join<T>(thread: thread::JoinHandle<T>) -> io::Result<T> {
    thread
        .join()
        .map_err(|_| io::Error::other("a reader or writer panicked"))
}

/// Wait until every promise is due, then read everything: the server before
/// and after the proxies.
fn settle(field: &Field) -> io::Result<reader::Notes> {
    let options = field.options();
    // What was given an end has come to it, even on memcached.
    let expiries = match options.protocol {
        Protocol::Redis => Duration::from_millis(200),
        Protocol::Memcached => Duration::from_millis(2600),
    };
    let quiet = options.promise() + options.allowance();
    thread::sleep(quiet.max(expiries).max(options.request_timeout * 2));
    let mut notes = reader::Notes::default();
    let habits = reader::habits(options.protocol, options.alone);
    let of = |wanted: Via| {
        habits
            .iter()
            .filter(move |habit| (habit.via == Via::Direct) == (wanted == Via::Direct))
    };
    for habit in of(Via::Direct).chain(of(Via::Proxy)).chain(of(Via::Direct)) {
        reader::sweep(field, *habit, 2, &mut notes)?;
    }
    Ok(notes)
}

/// What the readers and writers bring home.
#[derive(Debug, Default)]
struct Gathered {
    doubts: u64,
    refusals: BTreeMap<String, u64>,
    failures: u64,
    cas: HashMap<(stamp::Key, u32), u64>,
}

impl Gathered {
    fn take(&mut self, notes: reader::Notes, history: &mut History) {
        self.failures += notes.failures;
        history.reads.extend(notes.reads);
        history.aliens.extend(notes.aliens);
        for ((key, seq), cas) in notes.cas {
            let known = *self.cas.entry((key, seq)).or_insert(cas);
            if known != cas {
                history.aliens.push(Alien {
                    key,
                    via: Via::Proxy,
                    end: 0,
                    wrong: Foreign::Cas,
                    excerpt: format!("version {seq} was read with CAS {known} and with {cas}"),
                });
            }
        }
    }
}
