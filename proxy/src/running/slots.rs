//! A table whose places mean the same thing before and after a reload.
//!
//! Workers, meters, hot keys and connections know pools, servers and listeners
//! by number. So that none of that has to be translated when the configuration
//! changes, what stays keeps its place, and what is new gets one of its own:
//!
//! ```text
//!   before     0 sessions   1 carts         2 pages
//!   after      0 sessions   1 carts (gone)  2 pages   3 users
//! ```
//!
//! What has gone can still be looked up: a request may be in flight that knows
//! its number. After a grace that no request survives, the place is given to
//! something else, so that a table does not grow with every reload.

use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a number still means what has gone, at least.
pub const GRACE: Duration = Duration::from_secs(60);

/// See the module's description. Iterating passes over what has gone.
#[derive(Debug)]
pub struct Slots<T>(Vec<Slot<T>>);

#[derive(Debug)]
struct Slot<T> {
    value: Arc<T>,
    /// Since when it is not in the configuration any more.
    gone: Option<Instant>,
}

impl<T> Slots<T> {
    /// The table that follows `old`: everything in it has gone, until it is
    /// [`put`](Self::put) back.
    pub fn after(old: &Slots<T>, now: Instant) -> Slots<T> {
        let gone = |slot: &Slot<T>| Slot {
            value: Arc::clone(&slot.value),
            gone: slot.gone.or(Some(now)),
        };
        Slots(old.0.iter().map(gone).collect())
    }

    /// The place for something new: where the table had the same thing, or
    /// something that has been gone for longer than `grace`, or at the end.
    pub fn place(&self, now: Instant, grace: Duration, is_same: impl Fn(&T) -> bool) -> usize {
        let gone = || {
            let slots = self.0.iter().enumerate();
            slots.filter_map(|(at, slot)| Some((at, slot, slot.gone?)))
        };
        let same = gone().find(|(_, slot, _)| is_same(&slot.value));
        let free = || gone().find(|(_, _, since)| now.duration_since(*since) > grace);
        same.or_else(free).map_or(self.0.len(), |(at, ..)| at)
    }

    /// Put something in the place that was found for it.
    pub fn put(&mut self, at: usize, value: T) {
        let slot = Slot {
            value: Arc::new(value),
            gone: None,
        };
        match self.0.get_mut(at) {
            Some(old) => *old = slot,
            None => self.0.push(slot),
        }
    }

    /// Put something behind everything else.
    pub fn push(&mut self, value: T) {
        self.put(self.0.len(), value);
    }

    /// What has this number, gone or not.
    pub fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at).map(|slot| &*slot.value)
    }

    /// The same, if it has not gone.
    pub fn present(&self, at: usize) -> Option<&T> {
        let slot = self.0.get(at)?;
        slot.gone.is_none().then_some(&*slot.value)
    }

    /// Whether what has this number has gone.
    pub fn is_gone(&self, at: usize) -> bool {
        self.present(at).is_none()
    }

    /// How long ago it has gone, if it has.
    pub fn gone_for(&self, at: usize) -> Option<Duration> {
        Some(self.0.get(at)?.gone?.elapsed())
    }

    /// Everything that has not gone.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.numbered().map(|(_, value)| value)
    }

    /// The same, with its number.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.0.iter().enumerate();
        let present = slots.filter(|(_, slot)| slot.gone.is_none());
        present.map(|(at, slot)| (at, &*slot.value))
    }

    /// Everything that can be looked up, by number.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &T> {
        self.0.iter().map(|slot| &*slot.value)
    }

    /// How much has not gone.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is nothing but what has gone.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many numbers there are.
    pub fn places(&self) -> usize {
        self.0.len()
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots(Vec::new())
    }
}

impl<T> FromIterator<T> for Slots<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Slots<T> {
        let mut slots = Slots::default();
        values.into_iter().for_each(|value| slots.push(value));
        slots
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.0[at].value
    }
}

/// What another table has, too, is copied.
impl<T: Clone> IndexMut<usize> for Slots<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        Arc::make_mut(&mut self.0[at].value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of these configurations, so many seconds apart, after
    /// another: names by number, what has gone in brackets.
    #[track_caller]
    fn check(steps: &[(u64, &str)], expected: &str) {
        let begin = Instant::now();
        let mut table: Slots<String> = Slots::default();
        for (at, names) in steps {
            let now = begin + Duration::from_secs(*at);
            let mut next = Slots::after(&table, now);
            for name in names.split_whitespace() {
                next.put(next.place(now, GRACE, |old| old == name), name.to_owned());
            }
            table = next;
        }
        let shown = table
            .all()
            .enumerate()
            .map(|(at, name)| match table.is_gone(at) {
                true => format!("({name})"),
                false => name.clone(),
            });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn what_stays_keeps_its_number() {
        check(&[(0, "a b c"), (1, "c a d b")], "a b c d");
    }

    #[test]
    fn what_has_gone_is_kept_and_gets_its_number_back() {
        check(&[(0, "a b c"), (1, "c d")], "(a) (b) c d");
        check(&[(0, "a b c"), (1, "c d"), (2, "b")], "(a) b (c) (d)");
    }

    #[test]
    fn a_number_is_given_away_after_the_grace() {
        check(&[(0, "a b"), (10, "b"), (60, "b c")], "(a) b c");
        check(&[(0, "a b"), (10, "b"), (60, "b"), (71, "b c")], "c b");
    }

    #[test]
    fn the_same_twice_has_two_numbers() {
        check(&[(0, "a a"), (1, "a a a")], "a a a");
    }

    #[test]
    fn iterating_passes_over_what_has_gone() {
        let now = Instant::now();
        let old: Slots<u8> = [1, 2, 3].into_iter().collect();
        let mut new = Slots::after(&old, now);
        new.put(new.place(now, GRACE, |value| *value == 2), 2);
        assert_eq!(new.numbered().collect::<Vec<_>>(), [(1, &2)]);
        assert_eq!((new.len(), new.places()), (1, 3));
        assert_eq!((new.present(0), new.get(0)), (None, Some(&1)));
    }
}
