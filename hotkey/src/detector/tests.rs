//! The detector against what was fed to it.

use super::*;
use crate::KeyHash;

fn bounds(lower: u64, upper: u64) -> Bounds {
    Bounds { lower, upper }
}

fn fed(keys: &[(u64, u32)]) -> Detector {
    let mut detector = Detector::default();
    for &(key, weight) in keys {
        detector.record(KeyHash(key), weight);
    }
    detector
}

#[test]
fn the_window_slides() {
    let mut detector = fed(&[(3, 60)]);
    detector.close(&[]);
    assert_eq!(detector.record(KeyHash(3), 50), 50);
    assert_eq!(detector.bounds(KeyHash(3)), bounds(110, 110));
    for _ in 0..8 {
        detector.close(&[]);
    }
    assert_eq!(detector.bounds(KeyHash(3)), bounds(110, 110));
    assert_eq!(detector.sighting(KeyHash(3)).recent, 50);
    detector.close(&[]);
    assert_eq!(detector.bounds(KeyHash(3)), bounds(50, 50));
    detector.close(&[]);
    assert_eq!(detector.bounds(KeyHash(3)), bounds(0, 0));
}

#[test]
fn a_full_bucket_inherits_the_minimum_as_error() {
    let mut detector = Detector::default();
    for key in 0..8u64 {
        detector.record(KeyHash(key), key as u32 + 3);
    }
    assert_eq!(detector.record(KeyHash(100), 1), 1);
    assert_eq!(detector.bounds(KeyHash(100)), bounds(1, 4));
    // The one that was replaced may still have been there 4 times: the new
    // minimum.
    assert_eq!(detector.bounds(KeyHash(0)), bounds(0, 4));
    assert_eq!(detector.bounds(KeyHash(7)), bounds(10, 10));
}

#[test]
fn heavy_keys_are_named_and_the_rest_is_bounded() {
    let mut detector = Detector::default();
    for key in 0..3000u64 {
        let spread = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        detector.record(KeyHash(spread), 1 + (key % 50) as u32);
    }
    for limit in [0, 1, 10, 45] {
        let heavy = detector.heavy(limit);
        assert_eq!(heavy.total, 3000 / 50 * (1..=50).sum::<u64>());
        assert!(heavy.rest >= limit);
        for key in 0..3000u64 {
            let hash = KeyHash(key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let named = heavy.keys.iter().filter(|named| named.hash == hash);
            let count = 1 + key % 50;
            match named.count() {
                0 => assert!(count <= heavy.rest, "{key} of {}", heavy.rest),
                times => assert_eq!(times, 1),
            }
        }
    }
    assert!(!detector.heavy(45).keys.is_empty());
}

#[test]
fn silence_costs_no_memory() {
    let mut detector = Detector::default();
    let empty = detector.memory();
    assert_eq!(detector.heavy(0).total, 0);
    for _ in 0..30 {
        detector.record(KeyHash(1), 1);
        detector.close(&[]);
    }
    let busy = SUB_WINDOWS * 35 * 1024;
    assert_eq!(detector.memory() - empty, busy);
    for _ in 0..SUB_WINDOWS {
        detector.close(&[]);
    }
    assert_eq!(detector.memory(), empty);
}

#[test]
fn an_expected_key_is_counted_exactly() {
    let mut detector = fed(&[(1, 1)]);
    detector.close(&[KeyHash(100), KeyHash(101)]);
    // 100 comes last of all to a crowded bucket.
    for key in 1..50u64 {
        detector.record(KeyHash(key), 9);
    }
    assert_eq!(detector.record(KeyHash(100), 2), 2);
    assert_eq!(detector.bounds(KeyHash(100)), bounds(2, 2));
    assert_eq!(detector.bounds(KeyHash(101)), bounds(0, 0));
    assert!(detector.bounds(KeyHash(3)).upper >= 9);
    assert_eq!(detector.heavy(1).total, 1 + 49 * 9 + 2);
}

#[test]
fn expected_keys_leave_room_for_others() {
    let mut detector = fed(&[(1, 1)]);
    let expected: Vec<KeyHash> = (100..120).map(KeyHash).collect();
    detector.close(&expected);
    for key in 0..8u64 {
        detector.record(KeyHash(key), 5);
    }
    // The first four have ways, the others are as everybody else.
    let upper = |key: u64| detector.bounds(KeyHash(key)).upper;
    assert_eq!([100, 101, 102, 103].map(upper), [0; 4]);
    assert_eq!(upper(104), 10);
    // All that was expected has stayed away: nothing to keep.
    detector.close(&expected);
    detector.close(&expected);
    for _ in 0..SUB_WINDOWS {
        detector.close(&expected);
    }
    assert_eq!(detector.heavy(0).total, 0);
}
