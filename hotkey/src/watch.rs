//! One worker's eyes on one pool.
//!
//! A [`Watch`] counts alone: a request costs one look at a table that no other
//! worker touches. It talks to the [`Board`], which takes a lock, in two cases:
//!
//! * When a sub-window ends it *posts* what it has seen: every key with at
//!   least a quarter of its share of the threshold.
//! * When a key's count in the running sub-window passes a *step* (at most as
//!   much again), and the window holds enough of it, the key is *reported* at
//!   once. So a flash key waits for no clock.
//!
//! Reads and writes are counted apart, by request. Replies are counted by
//! bytes, and there sampling makes it cheap: a reply counts one *quantum* for
//! each whole quantum in it, and the rest is left to chance, in proportion to
//! its size. A regular sample would be cheaper by nothing and wrong: of two
//! keys that take turns with replies of half a quantum, it would see one only.

mod bytes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::board::{Note, Outcome, Place, Post, Sheet, View};
use crate::rules::Rules;
use crate::{Board, Detector, HotSet, KeyHash, SUB_WINDOWS};
use bytes::Quanta;

/// What a request does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Leaves it as it is.
    Read,
    /// Changes it.
    Write,
}

/// What counts as hot in a pool.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// The sliding window in milliseconds.
    pub window_ms: u64,
    /// Requests in the window, over all workers, from which on a key is hot.
    pub threshold: u64,
    /// Bytes of replies in the window from which on a key is hot.
    pub threshold_bytes: Option<u64>,
    /// One request of this many is counted.
    pub sample: u32,
    /// A promoted key stays so for at least this long, in milliseconds.
    pub hold_ms: u64,
    /// By prefix; the longest that matches a key counts.
    pub rules: Vec<Rule>,
    /// Keys that are always promoted. Their hashes are the hasher's business:
    /// hand them to [`Board::always`]; a watch leaves them alone.
    pub always: Vec<Box<[u8]>>,
}

/// What counts as hot among the keys with a prefix.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Of the whole key.
    pub prefix: Box<[u8]>,
    /// As in [`WatchSettings`]. Each distinct window has tables of its own,
    /// and then every request is matched against the prefixes.
    pub window_ms: u64,
    /// As in [`WatchSettings`].
    pub threshold: u64,
    /// As in [`WatchSettings`].
    pub hold_ms: u64,
}

/// See the module's description.
///
/// Times are milliseconds of any clock that does not go back and is the same
/// for all workers; a time before one already seen counts as that one.
#[derive(Debug)]
pub struct Watch {
    place: Place,
    /// By window; the pool's own first.
    sights: Box<[Sight]>,
    sample: Sample,
    quanta: Option<Quanta>,
    /// The promoted keys as of `version`, whose counts are always posted.
    set: Arc<HotSet>,
    version: u64,
}

impl Watch {
    /// Worker `worker` of `workers` looks at `pool`. Takes next to no memory
    /// until there is traffic.
    pub fn new(
        settings: &WatchSettings,
        pool: u16,
        worker: usize,
        workers: usize,
        now_ms: u64,
    ) -> Watch {
        let rules = Rules::new(settings);
        let place = Place {
            pool,
            worker,
            workers: workers.max(1),
            made_ms: now_ms,
            rules: Arc::new(rules),
        };
        let rules = &place.rules;
        let seed = u64::from(pool) << 32 | worker as u64;
        let sight = |window| Sight::new(&place, window, now_ms);
        Watch {
            sights: (0..rules.windows.len()).map(sight).collect(),
            sample: Sample::new(rules.sample, seed),
            quanta: rules.threshold_bytes.map(|bytes| Quanta::new(bytes, seed)),
            set: Arc::default(),
            version: 0,
            place,
        }
    }

    /// Count a request.
    #[inline]
    pub fn record(
        &mut self,
        board: &Board,
        access: Access,
        hash: KeyHash,
        key: &[u8],
        now_ms: u64,
    ) {
        if !self.sample.passes_over() {
            self.see(board, access, hash, key, 1, now_ms);
        }
    }

    /// Count this many requests that came at the same time.
    pub fn record_many(
        &mut self,
        board: &Board,
        access: Access,
        hash: KeyHash,
        key: &[u8],
        times: u32,
        now_ms: u64,
    ) {
        let seen = (0..times).filter(|_| !self.sample.passes_over()).count();
        if seen > 0 {
            self.see(board, access, hash, key, seen as u32, now_ms);
        }
    }

    #[inline]
    fn see(
        &mut self,
        board: &Board,
        access: Access,
        hash: KeyHash,
        key: &[u8],
        times: u32,
        now_ms: u64,
    ) {
        let window = match self.sights.len() {
            1 => 0,
            _ => self.place.rules.line(key).window,
        };
        if now_ms >= self.sights[window].closes_ms {
            self.close(board, window, now_ms);
        }
        let sight = &mut self.sights[window];
        let view = match access {
            Access::Read => View::Reads,
            Access::Write => View::Writes,
        };
        let certain = sight.views[view as usize].record(hash, times);
        let before = certain.saturating_sub(times);
        if before & !(sight.step - 1) != certain & !(sight.step - 1) {
            self.look(board, window, view, hash, Some(key), certain, now_ms);
        }
        if !self.sights[window].wanted.is_empty() {
            self.name(board, window, hash, key, now_ms);
        }
    }

    /// Count the bytes of a reply to a read of this key. What is counted is a
    /// sample, so bounds by bytes are never certain: a key that drew `n`
    /// quanta may be off by about the square root of `n`. The quantum is a
    /// 1024th of the threshold, at most 4 KiB.
    #[inline]
    pub fn reply(&mut self, board: &Board, hash: KeyHash, bytes: usize, now_ms: u64) {
        if let Some(quanta) = &mut self.quanta {
            let drawn = quanta.draw(bytes);
            if drawn > 0 {
                self.weigh(board, hash, drawn, now_ms);
            }
        }
    }

    /// To be called a few times a second, requests or none: as often as a
    /// sub-window ends is best.
    pub fn tick(&mut self, board: &Board, now_ms: u64) {
        for window in 0..self.sights.len() {
            if now_ms >= self.sights[window].closes_ms {
                self.close(board, window, now_ms);
            }
        }
    }

    /// Bytes of memory in use, for the tables.
    pub fn memory(&self) -> usize {
        let detectors = self.sights.iter().flat_map(|sight| &sight.views);
        detectors.map(Detector::memory).sum()
    }

    /// Counts quanta. The key is not known here: should it be hot, the next
    /// request for it will tell.
    #[inline(never)]
    fn weigh(&mut self, board: &Board, hash: KeyHash, drawn: u32, now_ms: u64) {
        // Bytes have no rules of their own: they count in the pool's window.
        if now_ms >= self.sights[0].closes_ms {
            self.close(board, 0, now_ms);
        }
        let sight = &mut self.sights[0];
        let certain = sight.views[View::Bytes as usize].record(hash, drawn);
        let before = certain.saturating_sub(drawn);
        if before / sight.step_bytes != certain / sight.step_bytes {
            self.look(board, 0, View::Bytes, hash, None, certain, now_ms);
        }
    }

    /// A key's count in the sub-window has passed a step: is it worth a report?
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "all that a request is")]
    fn look(
        &mut self,
        board: &Board,
        window: usize,
        view: View,
        hash: KeyHash,
        key: Option<&[u8]>,
        certain: u32,
        now_ms: u64,
    ) {
        let scales = View::ALL.map(|view| self.scale(view));
        let limit = self.place.limit(window, view) / scales[view as usize];
        let sight = &mut self.sights[window];
        let detector = &sight.views[view as usize];
        let known = sight.known[view as usize].entry(hash).or_insert_with(|| {
            let recent = detector.sighting(hash).recent;
            Known {
                before: recent - u64::from(certain).min(recent),
                report_at: limit,
            }
        });
        let lower = known.before + u64::from(certain);
        if lower < known.report_at {
            return;
        }
        let opened_ms = sight.closes_ms - sight.sub_window_ms;
        let note = |view: View| {
            Note::of(
                &sight.views[view as usize].sighting(hash),
                scales[view as usize],
            )
        };
        let notes = View::ALL.map(note);
        match board.report(&self.place, window, opened_ms, (hash, key), notes, now_ms) {
            Outcome::Settled => known.report_at = u64::MAX,
            Outcome::Cool => known.report_at = lower + 1,
            Outcome::Wanted => {
                known.report_at = lower + 1;
                sight.wanted.insert(hash);
            }
        }
    }

    /// The board may have been waiting for this key's name.
    #[cold]
    fn name(&mut self, board: &Board, window: usize, hash: KeyHash, key: &[u8], now_ms: u64) {
        if self.sights[window].wanted.remove(&hash) {
            board.name(&self.place, (hash, key), now_ms);
        }
    }

    /// Ends the sub-windows up to `now_ms`. While the last of them is being
    /// closed the tables hold ten whole ones: the window exactly.
    #[cold]
    fn close(&mut self, board: &Board, window: usize, now_ms: u64) {
        if board.version() != self.version {
            self.version = board.version();
            self.set = board.set();
        }
        let sight = &mut self.sights[window];
        let more = (now_ms - sight.closes_ms) / sight.sub_window_ms;
        // After so many all tables are empty.
        for _ in 0..more.min(SUB_WINDOWS as u64) {
            sight.views.iter_mut().for_each(|view| view.close(&[]));
        }
        let behind = more.saturating_mul(sight.sub_window_ms);
        let closed_ms = sight.closes_ms.saturating_add(behind);
        sight.closes_ms = closed_ms.saturating_add(sight.sub_window_ms);

        let post = self.post(window, closed_ms);
        let expected = post.sheets.each_ref().map(Sheet::expected);
        let answer = board.post(&self.place, window, post, now_ms);
        let sight = &mut self.sights[window];
        for (view, expected) in sight.views.iter_mut().zip(&expected) {
            view.close(expected);
        }
        for known in &mut sight.known {
            known.clear();
            known.extend(answer.settled.iter().map(|&hash| (hash, Known::SETTLED)));
        }
        sight.wanted = answer.wanted;
        if window == 0 && self.sights.len() > 1 {
            self.spread_wanted();
        }
    }

    /// A key wanted for its bytes may be counted by request in any window.
    fn spread_wanted(&mut self) {
        let wanted: Vec<KeyHash> = self.sights[0].wanted.iter().copied().collect();
        for sight in &mut self.sights[1..] {
            sight.wanted.extend(&wanted);
        }
    }

    fn post(&mut self, window: usize, closed_ms: u64) -> Post {
        Post {
            closed_ms,
            sheets: View::ALL.map(|view| self.sheet(window, view)),
        }
    }

    /// The busy keys, and those that are promoted, busy or not.
    fn sheet(&mut self, window: usize, view: View) -> Sheet {
        let scale = self.scale(view);
        let detector = &mut self.sights[window].views[view as usize];
        let heavy = detector.heavy(self.place.limit(window, view) / scale);
        let mut sheet = Sheet {
            rest: heavy.rest * scale,
            total: heavy.total * scale,
            notes: HashMap::with_capacity_and_hasher(heavy.keys.len(), RandomState::default()),
        };
        let busy = heavy.keys.iter();
        sheet
            .notes
            .extend(busy.map(|key| (key.hash, Note::of(key, scale))));
        if heavy.total > 0 && self.set.len() <= PROMOTED_POSTED_MAX {
            for key in self.set.keys().filter(|key| key.pool == self.place.pool) {
                let note = || Note::of(&detector.sighting(key.hash), scale);
                sheet.notes.entry(key.hash).or_insert_with(note);
            }
        }
        sheet
    }

    /// What a count of 1 stands for.
    fn scale(&self, view: View) -> u64 {
        match view {
            View::Reads | View::Writes => self.place.rules.sample.into(),
            View::Bytes => self.quanta.as_ref().map_or(1, Quanta::size),
        }
    }
}

/// With more promoted keys than this only the busy ones are posted; the others
/// have wider bounds.
const PROMOTED_POSTED_MAX: usize = 4096;

/// What one window of a pool looks like.
#[derive(Debug)]
struct Sight {
    /// By [`View`].
    views: [Detector; 3],
    /// By [`View`]: the keys that were looked at in this sub-window.
    known: [HashMap<KeyHash, Known, RandomState>; 3],
    /// Hot keys whose names the board does not know.
    wanted: HashSet<KeyHash, RandomState>,
    /// When the sub-window ends.
    closes_ms: u64,
    sub_window_ms: u64,
    /// A power of two; see the module's description.
    step: u32,
    step_bytes: u32,
}

impl Sight {
    fn new(place: &Place, window: usize, now_ms: u64) -> Sight {
        let sub_window_ms = place.rules.sub_window_ms(window);
        let step = place.limit(window, View::Reads) / u64::from(place.rules.sample);
        let quantum = place.rules.threshold_bytes.map_or(1, bytes::quantum);
        let step_bytes = place.limit(window, View::Bytes) / quantum;
        Sight {
            views: Default::default(),
            known: Default::default(),
            wanted: HashSet::default(),
            // All workers close at the same times.
            closes_ms: (now_ms / sub_window_ms + 1).saturating_mul(sub_window_ms),
            sub_window_ms,
            step: power_of_two(step),
            step_bytes: power_of_two(step_bytes),
        }
    }
}

/// Cold keys must not pass steps all the time.
const STEP_MIN: u64 = 8;

/// At most this step, if that is not too small.
fn power_of_two(step: u64) -> u32 {
    1 << step.clamp(STEP_MIN, 1 << 30).ilog2()
}

/// A key that was looked at in this sub-window.
#[derive(Debug)]
struct Known {
    /// Its certain count in the nine sub-windows before.
    before: u64,
    /// The certain count at which the board is told (again).
    report_at: u64,
}

impl Known {
    const SETTLED: Known = Known {
        before: 0,
        report_at: u64::MAX,
    };
}

/// One request of `every`, at uneven distances, so that no rhythm of the
/// clients can hide a key.
#[derive(Debug)]
struct Sample {
    every: u32,
    left: u32,
    dice: bytes::Dice,
}

impl Sample {
    fn new(every: u32, seed: u64) -> Sample {
        Sample {
            every,
            left: every,
            dice: bytes::Dice::new(seed),
        }
    }

    #[inline]
    fn passes_over(&mut self) -> bool {
        if self.every <= 1 {
            return false;
        }
        self.left -= 1;
        if self.left > 0 {
            return true;
        }
        // 1 ..= 2 * every - 1: `every` on average.
        self.left = 1 + self.dice.below(2 * self.every - 1);
        false
    }
}
