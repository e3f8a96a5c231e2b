//! One pool on the board: what its workers see, and what is promoted.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::post::{Answer, Note, Place, Post, View};
use super::round::Round;
use super::{Reason, Row};
use crate::rules::{Line, Rules};
use crate::{Bounds, Counts, HotKey, KeyHash, SUB_WINDOWS};

/// Rounds in a row that a key must be cool before it is demoted.
const COOL_ROUNDS: u32 = 2;
/// Rounds in a row that a key must be faint. Fewer than a window has: the key
/// is to be forgotten two windows after it fell silent.
const FAINT_ROUNDS: u32 = SUB_WINDOWS as u32 - 2;
/// Longer keys are not promoted: their names would be all the memory.
pub const KEY_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Ledger {
    rules: Option<Arc<Rules>>,
    /// When the watch was made that brought the rules.
    rules_ms: u64,
    /// By window of the rules.
    rounds: Vec<Round>,
    /// Of keys that workers name and that are not promoted, where known.
    names: HashMap<KeyHash, Box<[u8]>, RandomState>,
    pub promoted: HashMap<KeyHash, Promoted, RandomState>,
}

/// A promoted key.
#[derive(Debug)]
pub struct Promoted {
    pub key: Arc<HotKey>,
    pub reason: Reason,
    pub since_ms: u64,
    pub counts: Counts,
    line: Line,
    /// Not demoted before.
    held_until_ms: u64,
    cool: u32,
    faint: u32,
}

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    reads: Note,
    writes: Note,
    bytes: Note,
}

impl Tally {
    fn requests(&self) -> Note {
        self.reads + self.writes
    }
}

/// A key that is hot and not promoted yet.
#[derive(Debug)]
pub struct Candidate {
    pub hash: KeyHash,
    /// For comparison with others: a thousandth of the threshold.
    pub heat: u64,
    pub reason: Reason,
    /// `None` if the name is not known.
    line: Option<Line>,
}

impl Ledger {
    /// Whether this watch may speak: its settings are the last ones.
    pub fn hears(&mut self, place: &Place, now_ms: u64) -> bool {
        let known = self
            .rules
            .as_ref()
            .is_some_and(|rules| **rules == *place.rules);
        if !known && self.rules.is_some() && place.made_ms < self.rules_ms {
            return false;
        }
        if !known {
            self.adopt(place, now_ms);
        }
        true
    }

    /// Whether no watch has spoken yet.
    pub fn is_unheard(&self) -> bool {
        self.rules.is_none()
    }

    /// New settings begin with empty tables everywhere, so what is promoted is
    /// left alone for a window.
    fn adopt(&mut self, place: &Place, now_ms: u64) {
        let rules = &place.rules;
        let round = |window| Round::new(rules.sub_window_ms(window));
        self.rounds = (0..rules.windows.len()).map(round).collect();
        for promoted in self.promoted.values_mut() {
            promoted.line = rules.line(&promoted.key.key);
            let window_ms = rules.windows[promoted.line.window];
            let until_ms = now_ms.saturating_add(window_ms);
            promoted.held_until_ms = promoted.held_until_ms.max(until_ms);
        }
        self.rules = Some(Arc::clone(rules));
        self.rules_ms = place.made_ms;
    }

    /// Take a post. The keys to demote, because a new round has begun and the
    /// last one is complete.
    pub fn post(&mut self, worker: usize, window: usize, post: Post, now_ms: u64) -> Vec<KeyHash> {
        let cooled = match self.rounds.get(window) {
            Some(round) if round.is_new(post.closed_ms) => {
                self.turn(window, post.closed_ms, now_ms)
            }
            _ => Vec::new(),
        };
        if let Some(round) = self.rounds.get_mut(window) {
            round.put(worker, post);
        }
        cooled
    }

    fn turn(&mut self, window: usize, closed_ms: u64, now_ms: u64) -> Vec<KeyHash> {
        let cooled = self.cooled(window, now_ms);
        self.rounds[window].advance(closed_ms);
        let rounds = &self.rounds;
        self.names
            .retain(|&hash, _| rounds.iter().any(|round| round.names(hash)));
        cooled
    }

    /// Judge the promoted keys of a window by its last round.
    fn cooled(&mut self, window: usize, now_ms: u64) -> Vec<KeyHash> {
        let mut promoted = std::mem::take(&mut self.promoted);
        let threshold_bytes = self.threshold_bytes();
        let mut cooled = Vec::new();
        for (&hash, key) in &mut promoted {
            let judged = match key.reason {
                Reason::Reads | Reason::Writes | Reason::Bytes | Reason::Preload => true,
                Reason::Always | Reason::Hand => false,
            };
            if judged && key.line.window == window {
                let tally = self.tally(hash, window);
                key.judge(&tally, threshold_bytes);
                if key.is_over(now_ms) {
                    cooled.push(hash);
                }
            }
        }
        self.promoted = promoted;
        cooled
    }

    /// Note what a worker has reported between two posts.
    pub fn note(
        &mut self,
        worker: usize,
        window: usize,
        opened_ms: u64,
        hash: KeyHash,
        notes: [Note; 3],
    ) {
        if let Some(round) = self.rounds.get_mut(window) {
            if round.is_new(opened_ms) {
                round.advance(opened_ms);
            }
            round.note(worker, opened_ms, hash, notes);
        }
    }

    /// Remember the name of a key that somebody will ask for.
    pub fn name(&mut self, hash: KeyHash, key: &[u8]) {
        if key.len() <= KEY_MAX && !self.promoted.contains_key(&hash) {
            self.names.entry(hash).or_insert_with(|| key.into());
        }
    }

    /// Whether the key is hot in this window, or may be if it has no name.
    pub fn candidate(&self, hash: KeyHash, window: usize) -> Option<Candidate> {
        let rules = self.rules.as_ref()?;
        let line = self.names.get(&hash).map(|name| rules.line(name));
        let window = line.map_or(window, |line| line.window);
        let threshold = match line {
            Some(line) => line.threshold,
            None => rules.threshold_min(window),
        };
        let tally = self.tally(hash, window);
        let (by_requests, by_bytes) = (
            heat(tally.requests(), threshold),
            heat(tally.bytes, self.threshold_bytes()),
        );
        let reason = if by_requests < 1000 {
            Reason::Bytes
        } else if tally.reads.bounds().lower >= tally.writes.bounds().lower {
            Reason::Reads
        } else {
            Reason::Writes
        };
        let heat = by_requests.max(by_bytes);
        (heat >= 1000).then_some(Candidate {
            hash,
            heat,
            reason,
            line,
        })
    }

    /// Promote a candidate, if its name is known.
    pub fn promote(&mut self, candidate: &Candidate, pool: u16, serial: u64, now_ms: u64) -> bool {
        let (Some(line), Some(name)) = (candidate.line, self.names.remove(&candidate.hash)) else {
            return false;
        };
        let key = HotKey::new(candidate.hash, pool, &name, serial);
        self.promoted.insert(
            candidate.hash,
            Promoted {
                key: Arc::new(key),
                reason: candidate.reason,
                since_ms: now_ms,
                counts: Counts::default(),
                line,
                held_until_ms: now_ms.saturating_add(line.hold_ms),
                cool: 0,
                faint: 0,
            },
        );
        true
    }

    /// Promote a key whatever its counts say.
    pub fn promote_by_hand(&mut self, key: HotKey, reason: Reason, now_ms: u64) {
        let line = self.rules.as_ref().map(|rules| rules.line(&key.key));
        self.names.remove(&key.hash);
        self.promoted.insert(
            key.hash,
            Promoted {
                since_ms: now_ms,
                reason,
                counts: Counts::default(),
                // Until a watch has spoken; `adopt` knows better.
                line: line.unwrap_or(Line {
                    window: 0,
                    threshold: u64::MAX,
                    hold_ms: 0,
                }),
                held_until_ms: now_ms,
                cool: 0,
                faint: 0,
                key: Arc::new(key),
            },
        );
    }

    /// What is known of a promoted key.
    pub fn row(&self, promoted: &Promoted) -> Row {
        let window = promoted.line.window;
        let tally = self.tally(promoted.key.hash, window);
        let round = self.rounds.get(window);
        let total = |view| round.map_or(0, |round| round.total(view));
        let rules = self.rules.as_ref();
        let window_ms = rules.and_then(|rules| rules.windows.get(window).copied());
        Row {
            key: Arc::clone(&promoted.key),
            reason: promoted.reason,
            reads: tally.reads.bounds(),
            writes: tally.writes.bounds(),
            bytes: tally.bytes.bounds(),
            total: total(View::Reads) + total(View::Writes),
            certain: rules.is_none_or(|rules| rules.sample == 1),
            window_ms: window_ms.unwrap_or(0),
            since_ms: promoted.since_ms,
            counts: promoted.counts,
        }
    }

    /// Requests for a key in the pool's own window.
    pub fn bounds(&self, hash: KeyHash) -> Bounds {
        self.tally(hash, 0).requests().bounds()
    }

    /// The keys that workers name in the pool's own window.
    pub fn named(&self) -> Vec<KeyHash> {
        let named = self.rounds.first().into_iter().flat_map(Round::named);
        let mut named: Vec<KeyHash> = named.collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// What a worker is to know after its post of these keys.
    pub fn answer(&self, hashes: &[KeyHash]) -> Answer {
        let promoted = hashes.iter().copied();
        let promoted = promoted.filter(|hash| self.promoted.contains_key(hash));
        Answer {
            settled: promoted.collect(),
            ..Answer::default()
        }
    }

    /// Requests in this window, bytes in the pool's own.
    fn tally(&self, hash: KeyHash, window: usize) -> Tally {
        let sum = |window: usize, view| {
            let round = self.rounds.get(window);
            round.map_or(Note::default(), |round| round.sum(view, hash))
        };
        Tally {
            reads: sum(window, View::Reads),
            writes: sum(window, View::Writes),
            bytes: sum(0, View::Bytes),
        }
    }

    fn threshold_bytes(&self) -> u64 {
        let rules = self.rules.as_ref();
        rules
            .and_then(|rules| rules.threshold_bytes)
            .unwrap_or(u64::MAX)
    }
}

impl Promoted {
    /// By the bounds of a whole round.
    ///
    /// A key is *cool* when its upper bounds are below half the thresholds. A
    /// pool so busy that errors alone come to that much would never let a key
    /// go; there it is let go when hardly any of its requests are certain any
    /// more (it is *faint*) for most of a window.
    fn judge(&mut self, tally: &Tally, threshold_bytes: u64) {
        let (requests, bytes) = (tally.requests().bounds(), tally.bytes.bounds());
        let threshold = self.line.threshold;
        let below = |count: u64, part: u64, of: u64| count.saturating_mul(part) < of;
        let is_cool = below(requests.upper, 2, threshold) && below(bytes.upper, 2, threshold_bytes);
        let is_faint =
            below(requests.lower, 4, threshold) && below(bytes.lower, 4, threshold_bytes);
        self.cool = if is_cool { self.cool + 1 } else { 0 };
        self.faint = if is_faint { self.faint + 1 } else { 0 };
    }

    /// Not to be demoted for being cool before this time.
    pub fn hold(&mut self, until_ms: u64) {
        self.held_until_ms = self.held_until_ms.max(until_ms);
    }

    fn is_over(&self, now_ms: u64) -> bool {
        let silent = self.cool >= COOL_ROUNDS || self.faint >= FAINT_ROUNDS;
        silent && now_ms >= self.held_until_ms
    }
}

/// How close a key certainly is to the threshold, which is 1000.
///
/// What is certain of the window that ended, or of the one that ends now.
fn heat(note: Note, threshold: u64) -> u64 {
    let certain = note.lower.max(note.recent);
    let heat = u128::from(certain) * 1000 / u128::from(threshold.max(1));
    heat.min(u128::from(u64::MAX)) as u64
}
