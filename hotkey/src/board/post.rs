//! What a worker tells the board, and what it hears back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::detector::Sighting;
use crate::rules::Rules;
use crate::{Bounds, KeyHash};

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Place {
    pub pool: u16,
    pub worker: usize,
    /// At least 1.
    pub workers: usize,
    /// When the watch was made: the youngest knows the settings best.
    pub made_ms: u64,
    pub rules: Arc<Rules>,
}

impl Place {
    /// A worker names the keys with a quarter of its share of the threshold.
    pub fn limit(&self, window: usize, view: View) -> u64 {
        let threshold = match view {
            View::Reads | View::Writes => self.rules.threshold_min(window),
            View::Bytes => self.rules.threshold_bytes.unwrap_or(0),
        };
        threshold / (4 * self.workers as u64)
    }
}

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Reads,
    Writes,
    Bytes,
}

impl View {
    pub const ALL: [View; 3] = [View::Reads, View::Writes, View::Bytes];
}

/// One worker's window, as it was when a sub-window ended.
#[derive(Debug, Default)]
pub struct Post {
    pub closed_ms: u64,
    /// By [`View`].
    pub sheets: [Sheet; 3],
}

/// One view of a post.
#[derive(Debug, Default)]
pub struct Sheet {
    pub notes: HashMap<KeyHash, Note, RandomState>,
    /// A key without a note was seen at most this often.
    pub rest: u64,
    /// All keys together.
    pub total: u64,
}

impl Sheet {
    /// What this sheet says of a key, named or not.
    pub fn note(&self, hash: KeyHash) -> Note {
        let rest = Note {
            lower: 0,
            upper: self.rest,
            recent: 0,
        };
        self.notes.get(&hash).copied().unwrap_or(rest)
    }

    /// The named keys, the busiest first.
    pub fn expected(&self) -> Vec<KeyHash> {
        let notes = self.notes.iter();
        let mut busy: Vec<_> = notes.map(|(&hash, note)| (note.lower, hash)).collect();
        busy.sort_unstable_by_key(|&key| std::cmp::Reverse(key));
        busy.into_iter().map(|(_, hash)| hash).collect()
    }
}

/// One key on a sheet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Note {
    /// Bounds on the window that ended when the sub-window did.
    pub lower: u64,
    pub upper: u64,
    /// At least this often in the nine youngest sub-windows, the running one
    /// included: part of any window that ends from now on.
    pub recent: u64,
}

impl Note {
    pub fn of(sighting: &Sighting, scale: u64) -> Note {
        Note {
            lower: sighting.bounds.lower * scale,
            upper: sighting.bounds.upper * scale,
            recent: sighting.recent * scale,
        }
    }

    pub fn bounds(self) -> Bounds {
        Bounds {
            lower: self.lower.max(self.recent),
            upper: self.upper.max(self.lower).max(self.recent),
        }
    }
}

impl std::ops::Add for Note {
    type Output = Note;

    fn add(self, other: Note) -> Note {
        Note {
            lower: self.lower.saturating_add(other.lower),
            upper: self.upper.saturating_add(other.upper),
            recent: self.recent.saturating_add(other.recent),
        }
    }
}

/// What became of a key that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is promoted, or cannot be: no need to report it again.
    Settled,
    /// It is hot, but its name is not known.
    Wanted,
    /// Not hot yet.
    Cool,
}

/// What a worker hears after a post.
#[derive(Debug, Default)]
pub struct Answer {
    /// Keys of the post that need not be reported.
    pub settled: Vec<KeyHash>,
    /// Keys that are hot, but nameless.
    pub wanted: HashSet<KeyHash, RandomState>,
}

impl Answer {
    /// What became of one of the keys.
    pub fn outcome(&self, hash: KeyHash) -> Outcome {
        if self.settled.contains(&hash) {
            Outcome::Settled
        } else if self.wanted.contains(&hash) {
            Outcome::Wanted
        } else {
            Outcome::Cool
        }
    }
}
