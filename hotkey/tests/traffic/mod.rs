//! Traffic with a hand-turned clock, and the exact count of it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{HashMap, VecDeque};

use emberline_hotkey::{Access, Board, KeyHash, KeyHasher, SUB_WINDOWS, Watch, WatchSettings};

/// The same in every test.
pub const POOL: u16 = 3;

/// A pool's settings with a window of 1 s and nothing special.
pub fn settings(threshold: u64) -> WatchSettings {
    WatchSettings {
        window_ms: 1000,
        threshold,
        threshold_bytes: None,
        sample: 1,
        hold_ms: 0,
        rules: Vec::new(),
        always: Vec::new(),
    }
}

/// A stream of random numbers (SplitMix64).
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Keys by rank, drawn with a probability of `1 / rank^exponent`.
pub struct Zipf {
    /// Where each rank's stretch of the unit interval ends.
    ends: Vec<f64>,
}

impl Zipf {
    pub fn new(keys: usize, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let end = |rank: usize| {
            sum += (rank as f64).powf(-exponent);
            sum
        };
        let ends: Vec<f64> = (1..=keys).map(end).collect();
        Zipf {
            ends: ends.iter().map(|end| end / sum).collect(),
        }
    }

    pub fn draw(&self, dice: &mut Dice) -> u64 {
        let fraction = dice.unit();
        let rank = self.ends.partition_point(|&end| end < fraction);
        rank.min(self.ends.len() - 1) as u64
    }
}

/// One pool, seen by several workers, and their board.
pub struct Pool {
    pub board: Board,
    pub watches: Vec<Watch>,
    pub hasher: KeyHasher,
}

impl Pool {
    pub fn new(settings: &WatchSettings, workers: usize, now_ms: u64) -> Pool {
        Pool {
            board: Board::default(),
            watches: watches(settings, workers, now_ms),
            hasher: KeyHasher::fixed(1),
        }
    }

    pub fn hash(&self, key: &str) -> KeyHash {
        self.hasher.hash_in(POOL, key.as_bytes())
    }

    pub fn record(&mut self, worker: usize, access: Access, key: &str, now_ms: u64) {
        let hash = self.hash(key);
        self.watches[worker].record(&self.board, access, hash, key.as_bytes(), now_ms);
    }

    /// So many reads by worker 0.
    pub fn reads(&mut self, key: &str, times: u64, now_ms: u64) {
        for _ in 0..times {
            self.record(0, Access::Read, key, now_ms);
        }
    }

    pub fn tick(&mut self, now_ms: u64) {
        for watch in &mut self.watches {
            watch.tick(&self.board, now_ms);
        }
    }

    /// Ticks of all workers, every 100 ms.
    pub fn ticks(&mut self, from_ms: u64, until_ms: u64) {
        for now_ms in (from_ms..=until_ms).step_by(100) {
            self.tick(now_ms);
        }
    }

    pub fn is_hot(&self, key: &str) -> bool {
        self.board.set().get(self.hash(key)).is_some()
    }
}

pub fn watches(settings: &WatchSettings, workers: usize, now_ms: u64) -> Vec<Watch> {
    let watch = |worker| Watch::new(settings, POOL, worker, workers, now_ms);
    (0..workers).map(watch).collect()
}

/// The window, counted exactly: one count per key and sub-window.
#[derive(Default)]
pub struct Exact {
    /// The youngest last.
    windows: VecDeque<HashMap<u64, u64>>,
    sums: HashMap<u64, u64>,
}

impl Exact {
    pub fn record(&mut self, key: u64) {
        if self.windows.is_empty() {
            self.windows.push_back(HashMap::new());
        }
        if let Some(youngest) = self.windows.back_mut() {
            *youngest.entry(key).or_default() += 1;
        }
        *self.sums.entry(key).or_default() += 1;
    }

    /// The sub-window ends; the counts are of the last ten.
    pub fn close(&mut self) {
        self.windows.push_back(HashMap::new());
        if self.windows.len() > SUB_WINDOWS {
            for (key, count) in self.windows.pop_front().unwrap_or_default() {
                if let Some(sum) = self.sums.get_mut(&key) {
                    *sum -= count;
                }
            }
            self.sums.retain(|_, &mut sum| sum > 0);
        }
    }

    pub fn count(&self, key: u64) -> u64 {
        self.sums.get(&key).copied().unwrap_or(0)
    }

    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.sums.iter().map(|(&key, &sum)| (key, sum))
    }
}
