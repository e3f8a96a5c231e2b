//! A key that takes off among ordinary traffic: found in milliseconds of
//! simulated time, and forgotten in time.

#![allow(clippy::unwrap_used, missing_docs)]

mod traffic;

use emberline_hotkey::Access;
use traffic::{Dice, Pool, Zipf, settings};

/// 100,000 requests a second, 100 a millisecond.
const PER_MS: u64 = 100;

struct Flight {
    /// Milliseconds from its first request until it was promoted.
    found_after: u64,
    /// Milliseconds from its last request until it was demoted.
    forgotten_after: u64,
}

/// Two workers; from `start` on, `share` per cent of the requests are for one
/// key, for `lasts` milliseconds.
fn fly(zipf: &Zipf, share: u64, start: u64, lasts: u64, seed: u64) -> Flight {
    let mut dice = Dice(seed);
    let mut pool = Pool::new(&settings(100), 2, 0);
    let (mut found, mut forgotten) = (None, None);
    for now in 0..start + lasts + 2_000 {
        let flies = (start..start + lasts).contains(&now);
        for _ in 0..PER_MS {
            let key = match flies && dice.below(100) < share {
                true => "flash".to_owned(),
                false => zipf.draw(&mut dice).to_string(),
            };
            let worker = dice.below(2) as usize;
            pool.record(worker, Access::Read, &key, now);
        }
        // Ticks come late, as those of a busy loop do.
        if now % 100 == 37 {
            pool.tick(now);
        }
        let hot = pool.is_hot("flash");
        assert!(!hot || now >= start);
        if hot && found.is_none() {
            found = Some(now - start);
        }
        if !hot && now >= start + lasts && forgotten.is_none() {
            forgotten = Some(now - (start + lasts));
        }
        if forgotten.is_some() {
            break;
        }
    }
    Flight {
        found_after: found.expect("it was never found"),
        forgotten_after: forgotten.expect("it was never forgotten"),
    }
}

#[test]
fn a_flash_of_one_per_cent_is_found_within_150_ms() {
    let zipf = Zipf::new(1_000_000, 1.0);
    for (seed, start) in [1_200, 1_233, 1_266, 1_299].into_iter().enumerate() {
        let flight = fly(&zipf, 1, start, 300, seed as u64);
        assert!(flight.found_after <= 150, "{} ms", flight.found_after);
        assert!(
            flight.forgotten_after <= 2_000,
            "{} ms",
            flight.forgotten_after
        );
    }
}

#[test]
fn a_flash_of_five_per_cent_is_found_within_40_ms() {
    let zipf = Zipf::new(1_000_000, 1.0);
    for (seed, start) in [1_200, 1_240, 1_290, 1_299].into_iter().enumerate() {
        let flight = fly(&zipf, 5, start, 100, seed as u64);
        assert!(flight.found_after <= 40, "{} ms", flight.found_after);
        assert!(
            flight.forgotten_after <= 2_000,
            "{} ms",
            flight.forgotten_after
        );
    }
}
