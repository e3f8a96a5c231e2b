//! One stream through watches and board, with the exact count beside them.

use emberline_hotkey::{Access, Board, KeyHash, KeyHasher, SUB_WINDOWS, Watch, WatchSettings};

use super::exact::Exact;

const POOL: u16 = 1;
const SUB_WINDOW_MS: u64 = 100;

/// What became of it, summed over the ends of all sub-windows with a whole
/// window behind them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judgement {
    /// Keys that were hot.
    pub hot: u64,
    /// Keys that were hot and called so.
    pub found: u64,
    /// Keys that were called hot and were not.
    pub wrong: u64,
    /// Keys whose count was outside the bounds.
    pub violations: u64,
    /// Keys asked about.
    pub asked: u64,
    /// The largest difference of upper and lower bound of a hot key, as a
    /// share of its count.
    pub width_max: f64,
    /// Bytes that one worker's watch took in the end.
    pub memory: usize,
}

impl Judgement {
    /// Of the keys that were called hot, how many were.
    pub fn precision(&self) -> f64 {
        ratio(self.found, self.found + self.wrong)
    }

    /// Of the keys that were hot, how many were called so.
    pub fn recall(&self) -> f64 {
        ratio(self.found, self.hot)
    }

    fn ask(&mut self, board: &Board, hash: KeyHash, count: u64, threshold: u64) {
        let bounds = board.bounds(POOL, hash);
        let (is_hot, is_called) = (count >= threshold, bounds.lower >= threshold);
        self.asked += 1;
        self.violations += u64::from(count < bounds.lower || count > bounds.upper);
        self.hot += u64::from(is_hot);
        self.found += u64::from(is_hot && is_called);
        self.wrong += u64::from(!is_hot && is_called);
        if is_hot {
            let width = (bounds.upper - bounds.lower) as f64 / count as f64;
            self.width_max = self.width_max.max(width);
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 1.0,
        _ => part as f64 / whole as f64,
    }
}

/// Deal `keys` to `workers` in turn, in sub-windows of `per_sub_window`
/// requests; hot is who has at least `share` of the window.
pub fn judge(
    keys: impl Iterator<Item = u32>,
    per_sub_window: u64,
    share: f64,
    workers: usize,
) -> Judgement {
    let threshold = ((per_sub_window * SUB_WINDOWS as u64) as f64 * share).ceil() as u64;
    let settings = settings(threshold);
    let (board, hasher) = (Board::default(), KeyHasher::fixed(7));
    let watch = |worker| Watch::new(&settings, POOL, worker, workers, 0);
    let mut watches: Vec<Watch> = (0..workers).map(watch).collect();
    let mut exact = Exact::default();
    let mut judgement = Judgement::default();

    for (i, key) in (0u64..).zip(keys) {
        let (window, place) = (i / per_sub_window, i % per_sub_window);
        let now = window * SUB_WINDOW_MS + place * SUB_WINDOW_MS / per_sub_window;
        let bytes = key.to_be_bytes();
        let watch = &mut watches[i as usize % workers];
        watch.record(
            &board,
            Access::Read,
            hasher.hash_in(POOL, &bytes),
            &bytes,
            now,
        );
        exact.record(key);
        if place + 1 < per_sub_window {
            continue;
        }
        for watch in &mut watches {
            watch.tick(&board, (window + 1) * SUB_WINDOW_MS);
        }
        if window + 1 >= SUB_WINDOWS as u64 {
            for (key, count) in exact.counts() {
                let hash = hasher.hash_in(POOL, &key.to_be_bytes());
                judgement.ask(&board, hash, count, threshold);
            }
        }
        exact.close();
    }
    judgement.memory = watches[0].memory();
    judgement
}

fn settings(threshold: u64) -> WatchSettings {
    WatchSettings {
        window_ms: SUB_WINDOW_MS * SUB_WINDOWS as u64,
        threshold,
        threshold_bytes: None,
        sample: 1,
        hold_ms: 0,
        rules: Vec::new(),
        always: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::stream;

    #[test]
    fn a_small_stream_is_judged_well() {
        let judgement = judge(stream::zipf(5_000, 1.0, 60_000), 2_000, 0.005, 2);
        assert_eq!(judgement.violations, 0);
        assert!(
            judgement.hot > 100 && judgement.asked > 10_000,
            "{judgement:?}"
        );
        assert!(
            judgement.recall() > 0.99 && judgement.precision() == 1.0,
            "{judgement:?}"
        );
        assert!(judgement.memory > 320 << 10);
    }

    #[test]
    fn a_detector_that_errs_is_caught() {
        let mut judgement = Judgement::default();
        let board = Board::default();
        judgement.ask(&board, KeyHash(1), 100, 50);
        assert_eq!(
            (judgement.violations, judgement.hot, judgement.found),
            (1, 1, 0)
        );
        assert_eq!(judgement.recall(), 0.0);
    }
}
