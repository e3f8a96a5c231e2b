//! The detector against an exact sliding count.

use std::collections::VecDeque;

use super::*;
use crate::KeyHasher;

/// Keys by rank, drawn with a probability of `1 / rank^exponent`.
struct Zipf {
    hashes: Vec<KeyHash>,
    /// Where each rank's stretch of the unit interval ends.
    ends: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(keys: usize, exponent: f64) -> Zipf {
        let hasher = KeyHasher::fixed(1);
        let mut sum = 0.0;
        let ends: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        Zipf {
            hashes: (0..keys).map(|i| hasher.hash(&i.to_le_bytes())).collect(),
            ends: ends.iter().map(|end| end / sum).collect(),
            state: 7,
        }
    }

    fn next(&mut self) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let fraction = (self.state >> 11) as f64 / (1u64 << 53) as f64;
        self.ends
            .partition_point(|&end| end < fraction)
            .min(self.ends.len() - 1)
    }
}

/// The same window, counted exactly: one count per key and sub-window.
struct Exact {
    windows: VecDeque<Vec<u64>>,
}

impl Exact {
    fn new(keys: usize) -> Exact {
        Exact {
            windows: vec![vec![0; keys]; SUB_WINDOWS].into(),
        }
    }

    fn record(&mut self, key: usize, weight: u64) {
        self.windows[SUB_WINDOWS - 1][key] += weight;
    }

    fn rotate(&mut self) {
        self.windows.rotate_left(1);
        self.windows[SUB_WINDOWS - 1].fill(0);
    }

    fn count(&self, key: usize) -> u64 {
        self.windows.iter().map(|window| window[key]).sum()
    }
}

/// Feeds `per_window` requests a sub-window; bounds must hold at any moment,
/// promotions must be certain, and every key well above the threshold hot.
fn check_zipf(exponent: f64, weigh: fn(usize) -> u32) {
    const KEYS: usize = 10_000;
    const PER_WINDOW: usize = 2_500;
    let mut zipf = Zipf::new(KEYS, exponent);
    let mut exact = Exact::new(KEYS);
    let weight_mean = (0..64).map(|i| u64::from(weigh(i))).sum::<u64>() / 64;
    // Hot is 0.2 % of the window.
    let threshold = (PER_WINDOW * SUB_WINDOWS) as u64 * weight_mean / 500;
    let settings = Settings {
        window_ms: 1000,
        threshold,
    };
    let mut detector = Detector::new(settings, 0);

    for window in 0..18u64 {
        for i in 0..PER_WINDOW {
            let key = zipf.next();
            let weight = weigh(i);
            detector.record(
                zipf.hashes[key],
                weight,
                window * 100 + (i * 100 / PER_WINDOW) as u64,
            );
            exact.record(key, weight.into());
            let bounds = detector.bounds(zipf.hashes[key]);
            let count = exact.count(key);
            assert!(
                bounds.lower <= count && count <= bounds.upper,
                "{key}: {count} {bounds:?}"
            );
            for change in detector.changes() {
                if change == Heat::Promoted(zipf.hashes[key]) {
                    assert!(count >= threshold, "{key} promoted at {count}");
                }
            }
        }
        for key in 0..KEYS {
            let (bounds, count) = (detector.bounds(zipf.hashes[key]), exact.count(key));
            assert!(
                bounds.lower <= count && count <= bounds.upper,
                "{key}: {count} {bounds:?}"
            );
        }
        if window > SUB_WINDOWS as u64 {
            detector.tick((window + 1) * 100);
            let missed = (0..KEYS).filter(|&key| {
                exact.count(key) >= threshold + threshold / 10 && !detector.is_hot(zipf.hashes[key])
            });
            assert_eq!(missed.count(), 0, "in window {window}");
        }
        exact.rotate();
    }
    assert!(
        detector.hot().len() >= 10,
        "{} keys are hot",
        detector.hot().len()
    );
}

#[test]
fn bounds_hold_on_zipf_0_9() {
    check_zipf(0.9, |_| 1);
}

#[test]
fn bounds_hold_on_zipf_1_2() {
    check_zipf(1.2, |_| 1);
}

#[test]
fn bounds_hold_with_weights() {
    check_zipf(1.0, |i| 1 + (i as u32 * 37) % 1000);
}

fn detector(threshold: u64) -> Detector {
    let settings = Settings {
        window_ms: 1000,
        threshold,
    };
    Detector::new(settings, 5_000)
}

fn changes(detector: &mut Detector) -> Vec<Heat> {
    detector.changes().collect()
}

#[test]
fn a_flash_key_is_found_inside_the_sub_window() {
    let key = KeyHash(u64::MAX);
    let mut detector = detector(1000);
    for i in 1..=1100u64 {
        detector.record(key, 1, 5_000);
        if detector.changed() {
            assert!((1000..1000 + 1000 / 16).contains(&i), "{i}");
            break;
        }
    }
    assert_eq!(changes(&mut detector), [Heat::Promoted(key)]);
}

#[test]
fn the_window_slides() {
    // 60 at the end of one second and 60 at the start of the next are 120 in
    // one window; a tumbling window would see 60.
    let key = KeyHash(3);
    let mut detector = detector(100);
    for i in 0..60 {
        detector.record(key, 1, 5_900 + i);
    }
    for i in 0..60 {
        detector.record(key, 1, 6_000 + i);
    }
    assert!(detector.is_hot(key));
    assert_eq!(
        detector.bounds(key),
        Bounds {
            lower: 120,
            upper: 120
        }
    );
    detector.tick(6_999);
    assert_eq!(detector.bounds(key).lower, 60);
    detector.tick(7_000);
    assert_eq!(detector.bounds(key).lower, 0);
}

#[test]
fn a_key_cools_down_for_two_rotations() {
    let key = KeyHash(9);
    let mut detector = detector(100);
    for _ in 0..100 {
        detector.record(key, 1, 5_050);
    }
    assert_eq!(changes(&mut detector), [Heat::Promoted(key)]);
    // Half the threshold keeps it hot.
    for _ in 0..50 {
        detector.record(key, 1, 5_950);
    }
    detector.tick(6_800);
    assert_eq!(changes(&mut detector), []);
    // The 50 leave the window at 6.9 s; the window that closes at 7.0 s is
    // the first without them, the one at 7.1 s the second.
    detector.tick(7_099);
    assert!(detector.is_hot(key));
    detector.tick(7_100);
    assert_eq!(changes(&mut detector), [Heat::Demoted(key)]);
    assert!(!detector.is_hot(key));
}

#[test]
fn silence_demotes_everything_at_once() {
    let mut detector = detector(10);
    for key in 0..20u64 {
        for _ in 0..10 {
            detector.record(KeyHash(key << 56 | key), 1, 5_000);
        }
    }
    assert_eq!(changes(&mut detector).len(), 20);
    detector.tick(u64::MAX);
    let demoted = changes(&mut detector);
    assert_eq!(demoted.len(), 20);
    assert!(
        demoted
            .iter()
            .all(|change| matches!(change, Heat::Demoted(_)))
    );
    detector.record(KeyHash(1), 1, u64::MAX);
    assert_eq!(detector.bounds(KeyHash(1)).lower, 1);
}

#[test]
fn a_full_bucket_inherits_the_minimum_as_error() {
    let mut detector = detector(1000);
    for key in 0..8u64 {
        detector.record(KeyHash(key), key as u32 + 3, 5_000);
    }
    detector.record(KeyHash(100), 1, 5_000);
    assert_eq!(detector.bounds(KeyHash(100)), Bounds { lower: 1, upper: 4 });
    // The one that was replaced may still have been there 4 times: the new
    // minimum.
    assert_eq!(detector.bounds(KeyHash(0)), Bounds { lower: 0, upper: 4 });
    assert_eq!(
        detector.bounds(KeyHash(7)),
        Bounds {
            lower: 10,
            upper: 10
        }
    );
    let found = detector.at_least(9);
    assert_eq!(found.len(), 2);
    assert!(found.contains(&(KeyHash(6), Bounds { lower: 9, upper: 9 })));
}

#[test]
fn the_smallest_settings_work() {
    let settings = Settings {
        window_ms: 0,
        threshold: 0,
    };
    let mut detector = Detector::new(settings, u64::MAX);
    detector.record(KeyHash(0), 1, u64::MAX);
    assert!(detector.is_hot(KeyHash(0)));
    let mut weighty = Detector::new(settings, 0);
    weighty.record(KeyHash(0), u32::MAX, 0);
    weighty.record(KeyHash(0), u32::MAX, 0);
    assert_eq!(weighty.bounds(KeyHash(0)).lower, u32::MAX.into());
}

#[test]
fn time_that_goes_back_is_counted_as_now() {
    let mut detector = detector(1000);
    detector.record(KeyHash(1), 1, 5_500);
    detector.record(KeyHash(1), 1, 5_000);
    assert_eq!(detector.bounds(KeyHash(1)).lower, 2);
}
