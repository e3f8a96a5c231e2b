//! What it costs to count a request: hash, count, merge.
//!
//! The stream is Zipf over a million keys at 200,000 requests a second, so
//! that a sub-window of 100 ms holds 20,000 and its end is part of the cost.
//! The floors are taken in the same run: machines and their neighbours differ.

#![allow(missing_docs)]

use std::collections::HashMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use emberline_benches::load::rng::Rng;
use emberline_benches::load::zipf::Zipf;
use emberline_hotkey::{Access, Board, KeyHash, KeyHasher, Watch, WatchSettings};

const POOL: u16 = 1;
const REQUESTS: usize = 1 << 20;
const PER_MS: usize = 200;

struct Stream {
    keys: Vec<[u8; 16]>,
    hashes: Vec<KeyHash>,
}

impl Stream {
    fn new(exponent: f64, hasher: &KeyHasher) -> Stream {
        let zipf = Zipf::new(1_000_000, exponent);
        let mut rng = Rng::new(1);
        let draw = |_| {
            let mut key = *b"user:00000000000";
            let digits = format!("{:011}", zipf.sample(&mut rng));
            key[5..].copy_from_slice(digits.as_bytes());
            key
        };
        let keys: Vec<[u8; 16]> = (0..REQUESTS).map(draw).collect();
        let hashes = keys.iter().map(|key| hasher.hash_in(POOL, key)).collect();
        Stream { keys, hashes }
    }
}

fn settings() -> WatchSettings {
    WatchSettings {
        window_ms: 1000,
        threshold: 1000,
        threshold_bytes: Some(16 << 20),
        sample: 1,
        hold_ms: 0,
        rules: Vec::new(),
        always: Vec::new(),
    }
}

fn counting(criterion: &mut Criterion) {
    let hasher = KeyHasher::random();
    for exponent in [0.9, 1.0, 1.2] {
        let stream = Stream::new(exponent, &hasher);
        let mut group = criterion.benchmark_group(format!("zipf {exponent}"));
        let mut at = 0;
        let mut next = move || {
            at += 1;
            (at, at % REQUESTS)
        };

        let board = Board::default();
        let mut watch = Watch::new(&settings(), POOL, 0, 2, 0);
        group.bench_function("record", |bencher| {
            bencher.iter(|| {
                let (at, i) = next();
                let (hash, now) = (stream.hashes[i], (at / PER_MS) as u64);
                watch.record(&board, Access::Read, hash, &stream.keys[i], now);
            });
        });
        group.bench_function("hash and record", |bencher| {
            bencher.iter(|| {
                let (at, i) = next();
                let (key, now) = (&stream.keys[i], (at / PER_MS) as u64);
                let hash = hasher.hash_in(POOL, key);
                watch.record(&board, Access::Read, hash, key, now);
            });
        });
        group.bench_function("record and reply", |bencher| {
            bencher.iter(|| {
                let (at, i) = next();
                let (hash, now) = (stream.hashes[i], (at / PER_MS) as u64);
                watch.record(&board, Access::Read, hash, &stream.keys[i], now);
                watch.reply(&board, hash, 300, now);
            });
        });
        let sampled = WatchSettings {
            sample: 10,
            ..settings()
        };
        let mut watch = Watch::new(&sampled, POOL, 0, 2, 0);
        group.bench_function("record 1 of 10", |bencher| {
            bencher.iter(|| {
                let (at, i) = next();
                let (hash, now) = (stream.hashes[i], (at / PER_MS) as u64);
                watch.record(&board, Access::Read, hash, &stream.keys[i], now);
            });
        });
        group.bench_function("hash alone", |bencher| {
            bencher.iter(|| hasher.hash_in(POOL, &stream.keys[next().1]));
        });
        group.bench_function("floor: add to 32 KiB", |bencher| {
            let mut table = vec![0u32; 8192];
            bencher.iter(|| {
                let hash = stream.hashes[next().1].0;
                table[(hash >> 51) as usize] += 1;
                black_box(&mut table);
            });
        });
        group.bench_function("floor: HashMap of 20,000", |bencher| {
            let mut counts: HashMap<u64, u32, foldhash::fast::RandomState> = HashMap::default();
            bencher.iter(|| {
                let (at, i) = next();
                if at % 20_000 == 0 {
                    counts.clear();
                }
                *counts.entry(stream.hashes[i].0).or_default() += 1;
            });
        });
        group.finish();
    }
}

/// What the end of a sub-window costs, once a tenth of the window.
fn closing(criterion: &mut Criterion) {
    let hasher = KeyHasher::random();
    let stream = Stream::new(1.0, &hasher);
    let board = Board::default();
    let mut watch = Watch::new(&settings(), POOL, 0, 2, 0);
    let (mut now, mut at) = (0, 0);
    criterion.bench_function("end of a sub-window of 2,000 requests", |bencher| {
        bencher.iter_batched(
            || (),
            |()| {
                for _ in 0..2_000 {
                    at = (at + 1) % REQUESTS;
                    watch.record(&board, Access::Read, stream.hashes[at], b"", now);
                }
                now += 100;
                watch.tick(&board, now);
            },
            criterion::BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, counting, closing);
criterion_main!(benches);
