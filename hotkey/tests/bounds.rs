//! Bounds and promotions against exact sliding counts.

#![allow(clippy::unwrap_used, missing_docs)]

mod traffic;

use std::collections::{HashMap, HashSet, VecDeque};

use emberline_hotkey::{Access, KeyHash};
use traffic::{Dice, Exact, POOL, Pool, Zipf, settings};

/// Feeds several workers a stream, one of them more than the others. At every
/// end of a sub-window the bounds of every key must hold; at any moment a key
/// may be promoted only if the last second held the threshold, or the second
/// that ended with the last sub-window.
fn check(workers: u64, keys: usize, exponent: f64, threshold: u64, seed: u64) {
    const PER_SUB_WINDOW: u64 = 3_000;
    let zipf = Zipf::new(keys, exponent);
    let mut dice = Dice(seed);
    let start = 5_000 + dice.below(1_000) * 100;
    let mut pool = Pool::new(&settings(threshold), workers as usize, start);
    let hashes: Vec<KeyHash> = (0..keys as u64)
        .map(|key| pool.hasher.hash_in(POOL, &key.to_le_bytes()))
        .collect();
    let mut exact = Exact::default();
    let mut last_second: VecDeque<(u64, u64)> = VecDeque::new();
    let mut in_last_second: HashMap<u64, u64> = HashMap::new();
    // As of the end of the last sub-window.
    let mut closed: HashMap<u64, u64> = HashMap::new();
    let (mut version, mut promoted) = (0, HashSet::new());

    for window in 0..18 {
        for i in 0..PER_SUB_WINDOW {
            let now = start + window * 100 + i * 100 / PER_SUB_WINDOW;
            let key = zipf.draw(&mut dice);
            // Some workers see more of a key than others do.
            let worker = dice.below(workers).min(dice.below(workers) + key % 2);
            let access = match dice.below(4) {
                0 => Access::Write,
                _ => Access::Read,
            };
            last_second.push_back((now, key));
            *in_last_second.entry(key).or_default() += 1;
            while last_second.front().is_some_and(|(at, _)| at + 1000 < now) {
                let (_, old) = last_second.pop_front().unwrap();
                *in_last_second.get_mut(&old).unwrap() -= 1;
            }
            let (hash, name) = (hashes[key as usize], key.to_le_bytes());
            pool.watches[worker as usize].record(&pool.board, access, hash, &name, now);
            exact.record(key);
            if pool.board.version() != version {
                version = pool.board.version();
                let set = pool.board.set();
                for hot in set.keys().filter(|hot| !promoted.contains(&hot.hash)) {
                    let key = u64::from_le_bytes(hot.key[..].try_into().unwrap());
                    let counts = (in_last_second[&key], closed.get(&key));
                    let certain = counts.0.max(counts.1.copied().unwrap_or(0));
                    assert!(certain >= threshold, "{key} promoted at {counts:?}");
                }
                promoted = set.keys().map(|hot| hot.hash).collect();
            }
        }
        pool.tick(start + (window + 1) * 100);
        for key in 0..keys as u64 {
            let (count, bounds) = (
                exact.count(key),
                pool.board.bounds(POOL, hashes[key as usize]),
            );
            assert!(
                bounds.lower <= count && count <= bounds.upper,
                "{key} in window {window}: {count} is not within {bounds:?}"
            );
        }
        closed = exact.counts().collect();
        exact.close();
    }
    assert!(!promoted.is_empty());
}

#[test]
fn bounds_hold_for_one_worker() {
    check(1, 3_000, 1.0, 60, 1);
}

#[test]
fn bounds_hold_for_three_workers() {
    for seed in 0..2 {
        check(3, 3_000, 0.9, 60, seed);
    }
}

#[test]
fn bounds_hold_where_the_threshold_is_lost_in_the_noise() {
    check(2, 5_000, 0.5, 5, 1);
}

#[test]
fn bounds_hold_for_a_handful_of_keys() {
    check(2, 12, 1.2, 500, 1);
}

/// What `heat` in `benches/` does at length: of the keys with at least
/// 0.1 % of the window, which does the detector call hot? A key is, if its
/// lower bound reaches the threshold.
#[test]
fn precision_and_recall_on_zipf() {
    const PER_SUB_WINDOW: u64 = 10_000;
    let zipf = Zipf::new(200_000, 1.0);
    let mut dice = Dice(9);
    let threshold = PER_SUB_WINDOW * 10 / 1000;
    let mut pool = Pool::new(&settings(threshold), 2, 0);
    let mut exact = Exact::default();
    let (mut hot, mut found, mut wrong) = (0u64, 0u64, 0u64);
    for window in 0..25 {
        for i in 0..PER_SUB_WINDOW {
            let key = zipf.draw(&mut dice);
            let hash = pool.hasher.hash_in(POOL, &key.to_le_bytes());
            let now = window * 100 + i * 100 / PER_SUB_WINDOW;
            let watch = &mut pool.watches[(i % 2) as usize];
            watch.record(&pool.board, Access::Read, hash, &key.to_le_bytes(), now);
            exact.record(key);
        }
        pool.tick((window + 1) * 100);
        if window >= 10 {
            for (key, count) in exact.counts() {
                let hash = pool.hasher.hash_in(POOL, &key.to_le_bytes());
                let called = pool.board.bounds(POOL, hash).lower >= threshold;
                hot += u64::from(count >= threshold);
                found += u64::from(called && count >= threshold);
                wrong += u64::from(called && count < threshold);
            }
        }
        exact.close();
    }
    assert!(hot > 500, "{hot}");
    assert_eq!(wrong, 0);
    assert!(found * 100 >= hot * 99, "{found} of {hot}");
}
