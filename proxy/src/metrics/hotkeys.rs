//! What is known of the hot keys, in the form that people see it.
//!
//! The board has the facts; here they get a name, a state and a rate. Everybody
//! who shows hot keys (`/hotkeys`, `HOTKEYS`, `stats hotkeys`, the demo) asks
//! this module, so that a key looks the same wherever it is shown.
//!
//! A key is data of the application's, and may hold anything: somebody's mail
//! address, a terminal's control sequence, markup. Unless the configuration
//! says `key_visibility = "plain"` it is shown as its hash, which is keyed with
//! a secret of the process. Where it is shown plain, what could be more than
//! text to a terminal is escaped, and what is long is cut.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use emberline_hotkey::{Bounds, Counts, Held, HotKey, KeyHash, Row};
use emberline_routing::PoolId;

use super::{Event, Meter};
use crate::l1::L1;
use crate::running::{Mode, Pool, Running, Visibility};

/// Characters of a plain key that are shown.
const SHOWN_MAX: usize = 200;

/// A hot key as it is shown.
#[derive(Clone, Debug)]
pub struct Hot {
    /// What stands for the key: 16 hexadecimal digits, or its text made harmless.
    pub key: String,
    /// The hash, whatever is shown.
    pub hash: KeyHash,
    /// The pool it belongs to.
    pub pool: PoolId,
    /// What becomes of its reads.
    pub state: State,
    /// Requests for it, reads and writes together.
    pub requests: PerSecond,
    /// Reads of it.
    pub reads: PerSecond,
    /// Writes to it.
    pub writes: PerSecond,
    /// Bytes of the replies to its reads.
    pub bytes: PerSecond,
    /// Its part of its pool's requests, from 0 to 1.
    pub share: f64,
    /// Requests in the window: what the bounds were before they were rates.
    pub in_window: Bounds,
    /// Reply bytes in the window.
    pub bytes_in_window: Bounds,
    /// The window in milliseconds.
    pub window_ms: u64,
    /// Whether the bounds are certain; not so when requests are sampled.
    pub certain: bool,
    /// What the workers did with it since it was promoted.
    pub counts: Counts,
    /// How long it has been promoted, in milliseconds.
    pub hot_ms: u64,
}

impl Hot {
    /// Which part of its reads was answered from memory since it was promoted
    /// (in `observe`: would have been); `None` before the first.
    pub fn hit_ratio(&self) -> Option<f64> {
        ratio(self.counts.hits, self.counts.misses)
    }
}

/// Hits as a part of hits and misses; `None` if there was neither.
pub fn ratio(hits: u64, misses: u64) -> Option<f64> {
    let all = hits.saturating_add(misses);
    (all > 0).then(|| hits as f64 / all as f64)
}

/// What becomes of the reads of a hot key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Its pool has no L1: it is seen and nothing more.
    Seen,
    /// Its pool only observes what the L1 would do.
    Observed,
    /// A rule says that such keys are not answered from memory.
    Excluded,
    /// A write to it ended in doubt a moment ago; its reads go to the server.
    Quarantined,
    /// Promoted, with nothing in memory that could be served.
    Promoted,
    /// Promoted, with an item of its current generation in memory.
    Cached,
}

impl State {
    /// The word that is shown.
    pub const fn name(self) -> &'static str {
        match self {
            State::Seen => "seen",
            State::Observed => "observed",
            State::Excluded => "excluded",
            State::Quarantined => "quarantined",
            State::Promoted => "promoted",
            State::Cached => "cached",
        }
    }
}

/// A rate with certified bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSecond {
    /// It is at least this.
    pub lower: f64,
    /// It is at most this.
    pub upper: f64,
}

impl PerSecond {
    fn new(bounds: Bounds, window_ms: u64) -> PerSecond {
        let seconds = window_ms.max(1) as f64 / 1000.0;
        PerSecond {
            lower: bounds.lower as f64 / seconds,
            upper: bounds.upper as f64 / seconds,
        }
    }

    /// The middle of the bounds, for where one number must do.
    pub fn middle(self) -> f64 {
        f64::midpoint(self.lower, self.upper)
    }
}

/// By what hot keys are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Requests per second.
    #[default]
    Rate,
    /// Reply bytes per second.
    Bytes,
    /// Writes per second.
    Writes,
}

impl Sort {
    /// Every order.
    pub const ALL: [Sort; 3] = [Sort::Rate, Sort::Bytes, Sort::Writes];

    /// The word in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::Bytes => "bytes",
            Sort::Writes => "writes",
        }
    }

    /// The order that this word stands for.
    pub fn named(word: &str) -> Option<Sort> {
        Sort::ALL.into_iter().find(|sort| sort.name() == word)
    }

    /// Put the keys in this order, the largest first; equal ones by their hash,
    /// so that a table that is drawn anew does not jump.
    pub fn sort(self, hot: &mut [Hot]) {
        let by = |hot: &Hot| match self {
            Sort::Rate => hot.requests.middle(),
            Sort::Bytes => hot.bytes.middle(),
            Sort::Writes => hot.writes.middle(),
        };
        hot.sort_by(|a, b| descending(by(a), by(b)).then(a.hash.cmp(&b.hash)));
    }
}

fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

/// The hot keys of the pools that `wanted` accepts, in no order.
pub fn list(l1: &L1, running: &Running, wanted: impl Fn(PoolId) -> bool) -> Vec<Hot> {
    let rows = l1.board.rows();
    if rows.is_empty() {
        return Vec::new();
    }
    let items = items(l1);
    let now = l1.now();
    rows.iter()
        .filter(|row| wanted(PoolId(row.key.pool)))
        .filter_map(|row| {
            let pool = running.pools.get(usize::from(row.key.pool))?;
            let item = items.get(&row.key.hash);
            let state = state(&row.key, pool, item, now);
            Some(hot(row, state, running.visibility, now / 1_000_000))
        })
        .collect()
}

fn items(l1: &L1) -> HashMap<KeyHash, Arc<Held>> {
    l1.store.items().map(|item| (item.hash, item)).collect()
}

fn hot(row: &Row, state: State, visibility: Visibility, now_ms: u64) -> Hot {
    let in_window = sum(row.reads, row.writes);
    let rate = |bounds| PerSecond::new(bounds, row.window_ms);
    let middle = in_window.lower.midpoint(in_window.upper) as f64;
    Hot {
        key: shown(&row.key, visibility),
        hash: row.key.hash,
        pool: PoolId(row.key.pool),
        state,
        requests: rate(in_window),
        reads: rate(row.reads),
        writes: rate(row.writes),
        bytes: rate(row.bytes),
        share: (middle / row.total.max(1) as f64).min(1.0),
        in_window,
        bytes_in_window: row.bytes,
        window_ms: row.window_ms,
        certain: row.certain,
        counts: row.counts,
        hot_ms: now_ms.saturating_sub(row.since_ms),
    }
}

fn sum(a: Bounds, b: Bounds) -> Bounds {
    Bounds {
        lower: a.lower.saturating_add(b.lower),
        upper: a.upper.saturating_add(b.upper),
    }
}

fn state(key: &HotKey, pool: &Pool, item: Option<&Arc<Held>>, now: u64) -> State {
    let current = |item: &Arc<Held>| item.generation == key.generation() && now < item.expires;
    match pool.l1.mode {
        Mode::Off => State::Seen,
        Mode::Observe => State::Observed,
        _ if is_excluded(pool, &key.key) => State::Excluded,
        _ if item.is_some_and(current) => State::Cached,
        _ if !key.is_retired() && key.begin(now).is_none() => State::Quarantined,
        _ => State::Promoted,
    }
}

/// Whether the longest prefix among the pool's rules that fits says so.
fn is_excluded(pool: &Pool, key: &[u8]) -> bool {
    let fitting = pool.hotkey.rules.iter();
    let fitting = fitting.filter(|rule| key.starts_with(&rule.prefix));
    fitting
        .max_by_key(|rule| rule.prefix.len())
        .is_some_and(|rule| !rule.allow)
}

fn shown(key: &HotKey, visibility: Visibility) -> String {
    match visibility {
        Visibility::Hash => format!("{:016x}", key.hash.0),
        Visibility::Plain => harmless(&key.key),
    }
}

/// A key's text that is nothing but text on any terminal: letters, digits and
/// signs as they are; `\` doubled; spaces (which would hide at an end),
/// control and format characters (which could clear a screen, or turn the
/// direction of what follows) and what is not UTF-8 as `\u{202e}` or `\xff`.
pub fn harmless(key: &[u8]) -> String {
    let mut text = String::new();
    let mut left = SHOWN_MAX;
    for chunk in key.utf8_chunks() {
        let valid = chunk.valid().chars().map(escaped);
        let broken = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for piece in valid.chain(broken) {
            if left == 0 {
                text.push_str("...");
                return text;
            }
            left -= 1;
            text.push_str(&piece);
        }
    }
    text
}

fn escaped(char: char) -> String {
    match char {
        // Printable, and nothing that could end a text that is quoted nowhere.
        '\'' | '"' => char.to_string(),
        ' ' => "\\x20".to_owned(),
        '\0'..='\x1f' | '\x7f' => format!("\\x{:02x}", u32::from(char)),
        _ => char.escape_debug().to_string(),
    }
}

/// One pool's L1 in figures.
#[derive(Clone, Debug)]
pub struct Warmth {
    /// Whose these are.
    pub pool: PoolId,
    /// What it promises.
    pub mode: Mode,
    /// Keys that are promoted now.
    pub promoted: u64,
    /// Items of its promoted keys in memory.
    pub items: u64,
    /// Bytes that those take.
    pub bytes: u64,
    /// What happened so far, in the order of `Event::ALL`.
    events: [u64; Event::ALL.len()],
    /// What memory would save now.
    pub saving: Saving,
}

impl Warmth {
    /// How often this happened so far.
    pub fn event(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Reads that were answered from memory, those of missing keys included.
    pub fn hits(&self) -> u64 {
        self.event(Event::Hit)
    }

    /// Reads of promoted keys that had to be asked.
    pub fn misses(&self) -> u64 {
        self.event(Event::Miss)
    }

    /// Which part of the reads of promoted keys was answered from memory; in
    /// `observe`, which would have been.
    pub fn hit_ratio(&self) -> Option<f64> {
        match self.mode {
            Mode::Observe => ratio(self.event(Event::WouldHit), self.event(Event::WouldMiss)),
            _ => ratio(self.hits(), self.misses()),
        }
    }
}

/// What answering the hot keys from memory would take off the servers now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Saving {
    /// Requests per second.
    pub requests: f64,
    /// Reply bytes per second.
    pub bytes: f64,
    /// The part of the pool's requests that those are, from 0 to 1.
    pub share: f64,
}

impl Saving {
    /// Of each key's reads now, the part that was hits since it was promoted.
    fn of<'h>(hot: impl Iterator<Item = &'h Hot>) -> Saving {
        let mut saving = Saving::default();
        for one in hot {
            let part = one.hit_ratio().unwrap_or(0.0);
            let reads = one.reads.middle() * part;
            saving.requests += reads;
            saving.bytes += one.bytes.middle() * part;
            let all = one.requests.middle();
            if all > 0.0 {
                saving.share += one.share * reads / all;
            }
        }
        saving.share = saving.share.min(1.0);
        saving
    }

    /// The same for people; `keys` is how many keys are hot.
    pub fn sentence(&self, keys: u64) -> String {
        match keys {
            0 => "no key is hot: memory would save nothing now".to_owned(),
            _ => format!(
                "memory would answer {:.0} requests/s ({:.0} % of the pool's) and {}/s for {keys} hot key{}",
                self.requests,
                100.0 * self.share,
                bytes(self.bytes),
                if keys == 1 { "" } else { "s" }
            ),
        }
    }
}

/// An amount of bytes for people: `812 B`, `3.1 MiB`.
pub fn bytes(amount: f64) -> String {
    let (mut amount, mut unit) = (amount, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{amount:.0} B"),
        _ => format!("{amount:.1} {unit}"),
    }
}

/// Every pool's figures. `hot` are the keys of all pools.
pub fn pools(l1: &L1, running: &Running, meters: &[impl AsRef<Meter>], hot: &[Hot]) -> Vec<Warmth> {
    let items = items(l1);
    let pools = running.pools();
    pools
        .map(|(id, pool)| {
            let own = || hot.iter().filter(|hot| hot.pool == id);
            let kept = own().filter_map(|hot| items.get(&hot.hash));
            let (count, bytes) = kept.fold((0, 0), |(count, bytes), item| {
                (count + 1, bytes + u64::from(item.weight()))
            });
            Warmth {
                pool: id,
                mode: pool.l1.mode,
                promoted: own().count() as u64,
                items: count,
                bytes,
                events: events(meters, id.0),
                saving: Saving::of(own()),
            }
        })
        .collect()
}

/// What happened to a pool's promoted keys so far, over all threads, in the
/// order of `Event::ALL`.
pub fn events(meters: &[impl AsRef<Meter>], pool: u16) -> [u64; Event::ALL.len()] {
    let sum = |event| {
        let counted = meters
            .iter()
            .map(|meter| meter.as_ref().events(pool, event));
        counted.fold(0, u64::saturating_add)
    };
    Event::ALL.map(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &[u8], reads: (u64, u64), writes: (u64, u64)) -> Row {
        let bounds = |(lower, upper)| Bounds { lower, upper };
        Row {
            reason: emberline_hotkey::Reason::Reads,
            key: Arc::new(HotKey::new(KeyHash(0xfeed), 0, key, 1)),
            reads: bounds(reads),
            writes: bounds(writes),
            bytes: bounds((1000, 3000)),
            total: 1000,
            certain: true,
            window_ms: 500,
            since_ms: 40,
            counts: Counts {
                hits: 3,
                misses: 1,
                bytes: 0,
            },
        }
    }

    #[test]
    fn a_row_becomes_rates_with_bounds() {
        let hot = hot(
            &row(b"k", (80, 100), (10, 10)),
            State::Promoted,
            Visibility::Hash,
            100,
        );
        assert_eq!(hot.key, "000000000000feed");
        let pair = |rate: PerSecond| (rate.lower, rate.upper);
        assert_eq!(pair(hot.requests), (180.0, 220.0));
        assert_eq!(pair(hot.writes), (20.0, 20.0));
        assert_eq!(pair(hot.bytes), (2000.0, 6000.0));
        assert_eq!((hot.share, hot.hit_ratio()), (0.1, Some(0.75)));
        assert_eq!(hot.hot_ms, 60);
    }

    #[test]
    fn a_saving_is_the_part_of_the_reads_that_were_hits() {
        let seen = |counts| {
            let mut row = row(b"k", (80, 100), (10, 10));
            row.counts = counts;
            hot(&row, State::Observed, Visibility::Hash, 100)
        };
        let never = seen(Counts::default());
        let always = seen(Counts {
            hits: 9,
            ..Counts::default()
        });
        let saving = Saving::of([never, always].iter());
        assert_eq!((saving.requests, saving.bytes), (180.0, 4000.0));
        assert!((saving.share - 0.09).abs() < 1e-9, "{}", saving.share);
        assert_eq!(
            saving.sentence(2),
            "memory would answer 180 requests/s (9 % of the pool's) and 3.9 KiB/s for 2 hot keys"
        );
    }

    #[test]
    fn a_plain_key_can_do_nothing_to_a_terminal() {
        let check = |key: &[u8], text: &str| assert_eq!(harmless(key), text);
        check(b"user:1", "user:1");
        check("schl\u{fc}ssel".as_bytes(), "schl\u{fc}ssel");
        check(b"a b\\", "a\\x20b\\\\");
        check(
            b"\x1b[2J\x07\r\n\0\x7f",
            "\\x1b[2J\\x07\\x0d\\x0a\\x00\\x7f",
        );
        check(
            "\u{9b}2J\u{202e}\u{200b}".as_bytes(),
            "\\u{9b}2J\\u{202e}\\u{200b}",
        );
        check(b"\xff\xfe", "\\xff\\xfe");
        check(b"<b>'\"", "<b>'\"");
        let long = harmless(&[b'x'; 1000]);
        assert_eq!(long.len(), SHOWN_MAX + 3);
        assert!(long.ends_with("x..."));
    }

    #[test]
    fn an_order_does_not_depend_on_the_order_before() {
        let mut hot: Vec<Hot> = [(b"a", 5), (b"b", 9), (b"c", 7)]
            .map(|(key, n)| {
                hot(
                    &row(key, (n, n), (20 - n, 20 - n)),
                    State::Promoted,
                    Visibility::Plain,
                    0,
                )
            })
            .to_vec();
        Sort::Writes.sort(&mut hot);
        let keys: Vec<&str> = hot.iter().map(|hot| &*hot.key).collect();
        assert_eq!(keys, ["a", "c", "b"]);
    }
}
