//! What counting costs, beside floors taken in the same moments.
//!
//! On a machine with other work, a second-long measurement is mostly about the
//! neighbours. So everything is timed in turns of one sub-window (20,000
//! requests, less than half a millisecond), one after the other, and the median
//! over some hundred turns is told: a turn that was interrupted is an outlier.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use emberline_hotkey::{Access, Board, KeyHash, KeyHasher, Watch, WatchSettings};
use foldhash::fast::RandomState;

use super::stream;

const POOL: u16 = 1;
const PER_SUB_WINDOW: usize = 20_000;
const TURNS: usize = 400;

/// Nanoseconds a request, medians over the turns.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Hashing a key of 16 bytes.
    pub hash: f64,
    /// `Watch::record`.
    pub record: f64,
    /// The end of the sub-window, spread over its requests.
    pub close: f64,
    /// `Watch::reply` with 300 bytes.
    pub reply: f64,
    /// Floor: add 1 somewhere in 32 KiB.
    pub add: f64,
    /// Floor: add 1 in a `HashMap` that is emptied for each sub-window.
    pub map: f64,
}

/// One worker of two, at 200,000 requests a second with Zipf over 1M keys.
pub fn cost(exponent: f64, threshold: u64) -> Cost {
    let hasher = KeyHasher::random();
    let requests = PER_SUB_WINDOW * 50;
    let keys: Vec<[u8; 16]> = stream::zipf(1_000_000, exponent, requests as u64)
        .map(|key| u128::from(key).to_be_bytes())
        .collect();
    let hashes: Vec<KeyHash> = keys.iter().map(|key| hasher.hash_in(POOL, key)).collect();
    let (board, mut watch) = (Board::default(), watch(threshold));
    let mut table = vec![0u32; 8192];
    let mut counts: HashMap<u64, u32, RandomState> = HashMap::default();
    let mut turns: [Vec<f64>; 6] = Default::default();

    for turn in 0..TURNS {
        let from = turn % 50 * PER_SUB_WINDOW;
        let keys = &keys[from..from + PER_SUB_WINDOW];
        let hashes = &hashes[from..from + PER_SUB_WINDOW];
        let opened = turn as u64 * 100;
        let now = |i: usize| opened + (i / 200) as u64;
        let hash = time(|| {
            for key in keys {
                black_box(hasher.hash_in(POOL, key));
            }
        });
        let record = time(|| {
            for (i, (&hash, key)) in hashes.iter().zip(keys).enumerate() {
                watch.record(&board, Access::Read, hash, key, now(i));
            }
        });
        let reply = time(|| {
            for (i, &hash) in hashes.iter().enumerate() {
                watch.reply(&board, hash, 300, now(i));
            }
        });
        let close = time(|| watch.tick(&board, opened + 100));
        let add = time(|| {
            for hash in hashes {
                table[(hash.0 >> 51) as usize] += 1;
            }
            black_box(&mut table);
        });
        let map = time(|| {
            counts.clear();
            for hash in hashes {
                *counts.entry(hash.0).or_default() += 1;
            }
        });
        // The window fills during the first turns.
        if turn > 20 {
            let times = [hash, record, close, reply, add, map];
            turns.iter_mut().zip(times).for_each(|(t, ns)| t.push(ns));
        }
    }
    let [hash, record, close, reply, add, map] = turns.map(median);
    Cost {
        hash,
        record,
        close,
        reply,
        add,
        map,
    }
}

fn watch(threshold: u64) -> Watch {
    let settings = WatchSettings {
        window_ms: 1000,
        threshold,
        threshold_bytes: Some(16 << 20),
        sample: 1,
        hold_ms: 0,
        rules: Vec::new(),
        always: Vec::new(),
    };
    Watch::new(&settings, POOL, 0, 2, 0)
}

/// Nanoseconds for each request of a turn.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / PER_SUB_WINDOW as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}
