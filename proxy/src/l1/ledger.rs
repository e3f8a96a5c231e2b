//! What the thread remembers of every key that it has filled: whether its item
//! is still the one that was installed, and how often it was not.
//!
//! The second is the churn guard (rule 8). An invalidation costs a fetch, and
//! only if somebody then reads the key: so what is counted is not every
//! invalidation but every fetch that was made *because* of one, which is every
//! fetch whose token is not the generation that the last one left. Fetches
//! because an item has expired are none.
//!
//! ```text
//!   token 5 -> installed 6     token 6: expired     token 9: three invalidations,
//!                                                            one change
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use emberline_hotkey::{HotKey, KeyHash, Token};
use emberline_routing::ServerId;

/// A key is judged by at least so many changes, and over at least this time in
/// nanoseconds: workers report their reads a few times a second only.
const CHANGES_MIN: u64 = 8;
const WINDOW_MIN: u64 = 1_000_000_000;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: HashMap<KeyHash, Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<HotKey>,
    /// As the last fill left it.
    generation: u64,
    /// The server of the item that is kept; `None` if none was yet.
    server: Option<ServerId>,
    /// Since when changes are counted, and from which number of reads on;
    /// `None` until that number is known.
    window: Option<(u64, u64)>,
    changes: u64,
}

impl Ledger {
    /// A fetch begins.
    pub fn begin(&mut self, key: &Arc<HotKey>, token: Token) {
        let entry = self.entries.entry(key.hash);
        let entry = entry.or_insert_with(|| Entry::new(key, token));
        if !Arc::ptr_eq(&entry.key, key) {
            // Demoted and promoted again.
            *entry = Entry::new(key, token);
        }
        if entry.generation != token.generation() {
            entry.generation = token.generation();
            entry.changes += 1;
        }
    }

    /// Its item is the key's from now on.
    pub fn install(&mut self, hash: KeyHash, generation: u64, server: ServerId) {
        if let Some(entry) = self.entries.get_mut(&hash) {
            entry.generation = generation;
            entry.server = Some(server);
        }
    }

    /// Begin anew with this key.
    pub fn forget(&mut self, hash: KeyHash) {
        self.entries.remove(&hash);
    }

    /// Forget keys that are no longer promoted.
    pub fn tidy(&mut self) {
        self.entries.retain(|_, entry| !entry.key.is_retired());
    }

    /// Keys whose item from this server is, as far as is known, still true.
    pub fn present(&self, server: ServerId) -> impl Iterator<Item = &Arc<HotKey>> {
        let present = move |entry: &&Entry| {
            entry.server == Some(server) && entry.generation == entry.key.generation()
        };
        self.entries
            .values()
            .filter(present)
            .map(|entry| &entry.key)
    }

    /// Keys that changed too often since they were last judged.
    ///
    /// `reads` says how often each key has been read since it was promoted, and
    /// is called only if that matters; `least` how many reads a change must
    /// have in the pool with this index, 0 for any.
    pub fn judge(
        &mut self,
        now: u64,
        reads: impl FnOnce() -> HashMap<KeyHash, u64>,
        least: impl Fn(u16) -> u64,
    ) -> Vec<Arc<HotKey>> {
        if !self.entries.values().any(|entry| entry.is_ripe(now)) {
            return Vec::new();
        }
        let reads = reads();
        let ripe = self.entries.values_mut().filter(|entry| entry.is_ripe(now));
        let mut churning = Vec::new();
        for entry in ripe {
            let total = reads.get(&entry.key.hash).copied().unwrap_or(0);
            let before = entry.window.replace((now, total));
            let changes = std::mem::take(&mut entry.changes);
            let Some((_, before)) = before else { continue };
            let wanted = changes.saturating_mul(least(entry.key.pool));
            if total.saturating_sub(before) < wanted {
                churning.push(Arc::clone(&entry.key));
            }
        }
        churning
    }
}

impl Entry {
    fn new(key: &Arc<HotKey>, token: Token) -> Entry {
        Entry {
            key: Arc::clone(key),
            generation: token.generation(),
            server: None,
            window: None,
            changes: 0,
        }
    }

    /// Whether it is time to look at its reads.
    fn is_ripe(&self, now: u64) -> bool {
        self.window.is_none_or(|(since, _)| {
            self.changes >= CHANGES_MIN && now.saturating_sub(since) >= WINDOW_MIN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: KeyHash = KeyHash(1);
    const SERVER: ServerId = ServerId(2);

    fn fill(ledger: &mut Ledger, key: &Arc<HotKey>) {
        let token = key.begin(0).unwrap();
        ledger.begin(key, token);
        ledger.install(HASH, key.install(token).unwrap(), SERVER);
    }

    /// Judge a key with `changes` changes and `reads` reads.
    fn check(changes: u64, expiries: u64, reads: u64, churns: bool) {
        let key = Arc::new(HotKey::new(HASH, 0, b"k", 1));
        let mut ledger = Ledger::default();
        fill(&mut ledger, &key);
        let judge = |ledger: &mut Ledger, now, reads| {
            let reads = HashMap::from([(HASH, reads)]);
            !ledger.judge(now, || reads, |_| 16).is_empty()
        };
        assert!(
            !judge(&mut ledger, 0, 100),
            "the first look begins a window"
        );
        for _ in 0..changes {
            key.invalidate();
            key.invalidate();
            fill(&mut ledger, &key);
        }
        (0..expiries).for_each(|_| fill(&mut ledger, &key));
        assert!(!judge(&mut ledger, WINDOW_MIN - 1, 100 + reads), "too soon");
        let got = judge(&mut ledger, WINDOW_MIN, 100 + reads);
        assert_eq!(got, churns, "{changes} {expiries} {reads}");
    }

    #[test]
    fn a_key_churns_when_it_is_read_less_often_than_changed_times_sixteen() {
        check(8, 0, 8 * 16 - 1, true);
        check(8, 0, 8 * 16, false);
        check(7, 0, 0, false);
        check(0, 1000, 0, false);
        check(7, 1000, 0, false);
        check(100, 0, 0, true);
    }

    #[test]
    fn a_key_is_present_until_something_happens_to_it() {
        let key = Arc::new(HotKey::new(HASH, 0, b"k", 1));
        let mut ledger = Ledger::default();
        let present = |ledger: &Ledger, server| ledger.present(ServerId(server)).count();
        fill(&mut ledger, &key);
        assert_eq!([present(&ledger, 2), present(&ledger, 3)], [1, 0]);
        key.invalidate();
        assert_eq!(present(&ledger, 2), 0);
        fill(&mut ledger, &key);
        assert_eq!(present(&ledger, 2), 1);
        key.retire();
        assert_eq!(present(&ledger, 2), 0);
        ledger.tidy();
        assert!(ledger.entries.is_empty());
    }
}
