//! What waits in a log, by number and by key.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::task::Waker;

/// A delete that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its server, by its place among the log's.
    pub server: u32,
    /// The key as the server knows it.
    pub key: Arc<[u8]>,
    /// When it was asked for, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// A key of a server.
type Place = (u32, Arc<[u8]>);

/// What waits. Of several deletes of one key the last is all of them.
#[derive(Debug, Default)]
pub struct Index {
    pending: BTreeMap<u64, Pending>,
    by_key: HashMap<Place, u64>,
    by_server: HashMap<u32, BTreeSet<u64>>,
    /// Bytes that its records take in a file.
    bytes: u64,
    /// Being sent to their server: by one at a time, or a delete could arrive
    /// behind what was written after another.
    claimed: HashSet<Place>,
    /// Tasks that wait until nobody is sending it any more. Whoever ends a
    /// claim wakes them, so there are none without one.
    waiting: HashMap<Place, Vec<Waker>>,
}

/// Whether a delete that waits may be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// None of this key waits.
    Nothing,
    /// By who asked: this one.
    Yours(u64),
    /// Somebody is sending it.
    Taken,
}

impl Index {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Bytes that they take in a file, about: the names of servers are short.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One more waits; it takes the place of an earlier one of the same key.
    /// Answers that one's number.
    pub fn insert(&mut self, seq: u64, pending: Pending) -> Option<u64> {
        let place = (pending.server, Arc::clone(&pending.key));
        let before = self.by_key.insert(place, seq).filter(|one| *one != seq);
        self.by_server
            .entry(pending.server)
            .or_default()
            .insert(seq);
        self.bytes += weight(&pending);
        self.pending.insert(seq, pending);
        if let Some(before) = before {
            self.take(before);
        }
        before
    }

    /// It waits no more.
    pub fn remove(&mut self, seq: u64) -> Option<Pending> {
        let pending = self.take(seq)?;
        let place = (pending.server, Arc::clone(&pending.key));
        if self.by_key.get(&place) == Some(&seq) {
            self.by_key.remove(&place);
        }
        Some(pending)
    }

    fn take(&mut self, seq: u64) -> Option<Pending> {
        let pending = self.pending.remove(&seq)?;
        if let Some(own) = self.by_server.get_mut(&pending.server) {
            own.remove(&seq);
        }
        self.bytes = self.bytes.saturating_sub(weight(&pending));
        Some(pending)
    }

    /// Whether a delete of this key waits, or is being sent.
    pub fn has(&self, server: u32, key: &Arc<[u8]>) -> bool {
        let place = (server, Arc::clone(key));
        self.by_key.contains_key(&place) || self.claimed.contains(&place)
    }

    /// Whether one waits for this server that nobody is sending.
    pub fn waits_for(&self, server: u32) -> bool {
        let own = self.by_server.get(&server).into_iter().flatten();
        let mut own = own.filter_map(|seq| self.pending.get(seq));
        own.any(|one| !self.claimed.contains(&(server, Arc::clone(&one.key))))
    }

    /// Claim the delete of this key.
    pub fn claim(&mut self, server: u32, key: &Arc<[u8]>) -> Claim {
        let place = (server, Arc::clone(key));
        if self.claimed.contains(&place) {
            return Claim::Taken;
        }
        match self.by_key.get(&place) {
            Some(&seq) => {
                self.claimed.insert(place);
                Claim::Yours(seq)
            }
            None => Claim::Nothing,
        }
    }

    /// As [`claim`](Self::claim). If there is a claim then, its end wakes this
    /// task.
    pub fn claim_and_wait(&mut self, server: u32, key: &Arc<[u8]>, waker: &Waker) -> Claim {
        let claim = self.claim(server, key);
        if claim != Claim::Nothing {
            let place = (server, Arc::clone(key));
            let waiting = self.waiting.entry(place).or_default();
            if !waiting.iter().any(|other| other.will_wake(waker)) {
                waiting.push(waker.clone());
            }
        }
        claim
    }

    /// Claim the first `max` that wait for a server, in their order.
    pub fn claim_first(&mut self, server: u32, max: usize) -> Vec<(u64, Arc<[u8]>)> {
        let mut found = Vec::new();
        for seq in self.by_server.get(&server).into_iter().flatten() {
            let Some(one) = self.pending.get(seq).filter(|_| found.len() < max) else {
                break;
            };
            if self.claimed.insert((server, Arc::clone(&one.key))) {
                found.push((*seq, Arc::clone(&one.key)));
            }
        }
        found
    }

    /// Who claimed the delete of this key does not send it any more. Answers
    /// whom to wake, once the index is not locked any more.
    #[must_use]
    pub fn release(&mut self, server: u32, key: &Arc<[u8]>) -> Vec<Waker> {
        let place = (server, Arc::clone(key));
        self.claimed.remove(&place);
        self.waiting.remove(&place).unwrap_or_default()
    }

    /// What was asked for before this time. Numbers grow with time; where the
    /// clock went back, what is behind the first newer one waits a little
    /// longer.
    pub fn before(&self, unix_ms: u64) -> Vec<u64> {
        let mut old = Vec::new();
        for (seq, one) in &self.pending {
            if one.unix_ms >= unix_ms {
                break;
            }
            old.push(*seq);
        }
        old
    }

    /// When the first was asked for.
    pub fn oldest(&self) -> Option<u64> {
        self.pending.values().next().map(|one| one.unix_ms)
    }

    /// All that waits, in its order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Pending)> {
        self.pending.iter().map(|(seq, pending)| (*seq, pending))
    }
}

/// Beside the key: what a record has, the server's name, and the record of its
/// end.
fn weight(pending: &Pending) -> u64 {
    const BESIDE: u64 = 8 + 19 + 32 + super::record::GONE_LEN;
    pending.key.len() as u64 + BESIDE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn index(keys: &[(u32, &str)]) -> Index {
        let mut index = Index::default();
        for (seq, &(server, text)) in (1..).zip(keys) {
            let unix_ms = seq * 10;
            let key = key(text);
            index.insert(
                seq,
                Pending {
                    server,
                    key,
                    unix_ms,
                },
            );
        }
        index
    }

    #[test]
    fn the_last_delete_of_a_key_is_all_of_them() {
        let index = index(&[(0, "a"), (1, "a"), (0, "a")]);
        let left: Vec<u64> = index.iter().map(|(seq, _)| seq).collect();
        assert_eq!(left, [2, 3]);
        assert_eq!(index.oldest(), Some(20));
        assert_eq!(index.before(30), [2]);
    }

    #[test]
    fn one_sends_at_a_time() {
        let mut index = index(&[(0, "a"), (0, "b"), (1, "c")]);
        assert_eq!(index.claim(0, &key("a")), Claim::Yours(1));
        assert_eq!(index.claim(0, &key("a")), Claim::Taken);
        assert_eq!(index.claim(1, &key("a")), Claim::Nothing);
        assert_eq!(index.claim_first(0, 10), [(2, key("b"))]);
        assert!(!index.waits_for(0));
        assert!(index.release(0, &key("a")).is_empty());
        assert!(index.waits_for(0));
        assert_eq!(index.claim_first(0, 10), [(1, key("a"))]);
    }

    #[test]
    fn what_is_being_sent_is_there_until_it_is_released() {
        let mut index = index(&[(0, "a")]);
        index.claim(0, &key("a"));
        index.remove(1);
        assert!(index.has(0, &key("a")));
        assert!(index.release(0, &key("a")).is_empty());
        assert!(!index.has(0, &key("a")));
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn the_end_of_a_claim_wakes_who_waits_for_it() {
        let mut index = index(&[(0, "a"), (1, "a")]);
        let waker = Waker::noop();
        let mut wait = |key: &str| index.claim_and_wait(0, &self::key(key), waker);
        assert_eq!(wait("none"), Claim::Nothing);
        assert_eq!(wait("a"), Claim::Yours(1));
        assert_eq!(wait("a"), Claim::Taken);
        assert_eq!(index.claim(1, &key("a")), Claim::Yours(2));
        assert!(index.release(1, &key("a")).is_empty());
        assert!(!index.release(0, &key("a")).is_empty());
        assert!(index.waiting.is_empty());
    }
}
