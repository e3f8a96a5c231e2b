//! `l1memory`: what an L1 takes, beside what it says that it takes.
//!
//! It runs the store and the fronts of the library by themselves, with the
//! proxy's allocator: keys of random sizes are filled, served from two fronts,
//! invalidated and filled anew with another size, for many times the store's
//! capacity. What counts is the largest value ever seen of
//!
//! * `live`: the bytes that the store counts, fronts included;
//! * RSS: how far the process has grown since before the store was made.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use emberline_benches::load::rng::Rng;
use emberline_benches::procfs;
use emberline_hotkey::{Board, Front, HotKey, Item, KeyHash, Pulse, Store, Value};

/// The proxy's, or its memory would be measured with another allocator's habits.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the L1 may take, over its capacity.
const GATE: f64 = 1.10;

/// Fills between two tidies: at four tidies a second, about 1,000 fills a second.
const TIDY_EVERY: u64 = 250;

/// Fill an L1 with random sizes and see how much memory it takes
#[derive(Parser, Debug)]
#[command(name = "l1memory", version)]
struct Arguments {
    /// Capacity in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    capacity: u64,

    /// Smallest value in bytes
    #[arg(long, default_value_t = 8)]
    min: u64,

    /// Largest value in bytes; sizes are log-uniform between the two
    #[arg(long, default_value_t = 256 << 10)]
    max: u64,

    /// Different keys [default: enough for three times the capacity]
    #[arg(long)]
    keys: Option<u64>,

    /// How many of the keys two fronts hold
    #[arg(long, default_value_t = 2000)]
    fronted: u64,

    /// Fill this many times the capacity
    #[arg(long, default_value_t = 40)]
    turns: u64,

    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.min == 0 || arguments.min > arguments.max {
        eprintln!("l1memory: --min must be at least 1 and at most --max");
        return ExitCode::from(2);
    }
    match Trial::new(&arguments).and_then(|mut trial| trial.run(&arguments)) {
        Ok(peaks) => report(&arguments, &peaks),
        Err(error) => {
            eprintln!("l1memory: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The largest values seen, in bytes, and how often there was no room.
#[derive(Debug, Default)]
struct Peaks {
    live: u64,
    rss: u64,
    /// RSS at the samples that were taken with a full store, and their number.
    rss_sum: u64,
    samples: u64,
    fills: u64,
    refused: u64,
    items: u64,
}

struct Trial {
    rng: Rng,
    /// What a server said, in the link's input buffer.
    input: Vec<u8>,
    keys: Vec<Arc<HotKey>>,
    fronts: [Front; 2],
    pulse: Pulse,
    rss_before: u64,
    store: Store,
    peaks: Peaks,
}

impl Trial {
    fn new(arguments: &Arguments) -> io::Result<Trial> {
        let capacity = arguments.capacity << 20;
        // An entry's cost beside its value is a few hundred bytes.
        let enough = 3 * capacity / (mean(arguments) as u64 + 400);
        let count = arguments.keys.unwrap_or(enough).max(1);
        let board = Board::default();
        let keys: Vec<_> = (0..count)
            .map(|key| {
                let hash = KeyHash(emberline_benches::load::rng::mix(key + 1));
                let name = format!("key:{key:012}");
                if key < arguments.fronted {
                    board.promote(hash, 0, name.as_bytes());
                }
                let promoted = board.set().get(hash).cloned();
                promoted.unwrap_or_else(|| Arc::new(HotKey::new(hash, 0, name.as_bytes(), key + 1)))
            })
            .collect();
        let mut fronts = [Front::default(), Front::default()];
        fronts
            .iter_mut()
            .for_each(|front| front.follow(&board.set()));
        let pulse = Pulse::default();
        pulse.beat(u64::MAX);
        Ok(Trial {
            rng: Rng::new(arguments.seed),
            input: vec![b'x'; arguments.max as usize],
            keys,
            fronts,
            pulse,
            rss_before: procfs::rss(std::process::id())?,
            store: Store::new(capacity),
            peaks: Peaks::default(),
        })
    }

    fn run(&mut self, arguments: &Arguments) -> io::Result<Peaks> {
        let target = (arguments.capacity << 20) * arguments.turns;
        let sample_every = (target / 400).max(1);
        let (mut filled, mut sampled) = (0, 0);
        while filled < target {
            let len = log_uniform(arguments, self.rng.unit());
            filled += self.fill(len);
            for _ in 0..4 {
                self.read();
            }
            if self.peaks.fills.is_multiple_of(TIDY_EVERY) {
                self.tidy();
            }
            if filled - sampled > sample_every {
                sampled = filled;
                self.sample(filled > 2 * self.store.capacity())?;
            }
        }
        self.peaks.items = self.store.len();
        Ok(std::mem::take(&mut self.peaks))
    }

    /// Fill any key with a value of this length, as the L1's thread does.
    fn fill(&mut self, len: usize) -> u64 {
        let key = &self.keys[self.rng.below(self.keys.len() as u64) as usize];
        key.invalidate();
        let generation = key.begin(1).and_then(|token| key.install(token));
        let held = self.store.hold(Item {
            hash: key.hash,
            generation: generation.unwrap_or(0),
            server: 0,
            epoch: self.pulse.epoch(),
            sent: 0,
            took: 200_000,
            expires: u64::MAX,
            value: Value::Redis(self.input[..len].into()),
        });
        self.peaks.fills += 1;
        self.peaks.refused += u64::from(!self.store.insert(&held));
        self.peaks.live = self.peaks.live.max(self.store.live());
        u64::from(held.weight())
    }

    /// Serve any key from both fronts, if they have it.
    fn read(&mut self) {
        let hash = self.keys[self.rng.below(self.keys.len() as u64) as usize].hash;
        for front in &mut self.fronts {
            if let Some(seat) = front.seat(hash) {
                seat.fresh(&self.store, |_| Some(&self.pulse), 1);
            }
        }
    }

    fn tidy(&mut self) {
        self.store.tidy();
        for front in &mut self.fronts {
            front.tidy(&self.store, |_| Some(&self.pulse));
        }
    }

    fn sample(&mut self, full: bool) -> io::Result<()> {
        let rss = procfs::rss(std::process::id())?.saturating_sub(self.rss_before);
        self.peaks.rss = self.peaks.rss.max(rss);
        if full {
            self.peaks.rss_sum += rss;
            self.peaks.samples += 1;
        }
        Ok(())
    }
}

/// The length at this share of a log-uniform distribution.
fn log_uniform(arguments: &Arguments, share: f64) -> usize {
    let (min, max) = (arguments.min as f64, arguments.max as f64);
    (min * (max / min).powf(share)) as usize
}

fn mean(arguments: &Arguments) -> f64 {
    let (min, max) = (arguments.min as f64, arguments.max as f64);
    if min == max {
        return min;
    }
    (max - min) / (max / min).ln()
}

fn report(arguments: &Arguments, peaks: &Peaks) -> ExitCode {
    let capacity = (arguments.capacity << 20) as f64;
    let live = peaks.live as f64 / capacity;
    let rss = peaks.rss as f64 / capacity;
    let rss_mean = peaks.rss_sum as f64 / peaks.samples.max(1) as f64 / capacity;
    println!(
        "{} MiB, values {} - {} bytes: {} fills, {} refused ({:.2} %), {} items at the end",
        arguments.capacity,
        arguments.min,
        arguments.max,
        peaks.fills,
        peaks.refused,
        100.0 * peaks.refused as f64 / peaks.fills.max(1) as f64,
        peaks.items,
    );
    println!("over the capacity: live {live:.3}, RSS {rss:.3} at most, {rss_mean:.3} on average");
    let met = live <= GATE && rss <= GATE;
    println!("at most {GATE:.2}: {}", if met { "met" } else { "missed" });
    match met {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
