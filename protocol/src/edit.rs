//! What may be changed in a request on its way to a server: its key and how
//! long its item lives.
//!
//! The rules are said here once; [`crate::redis::edit`] and
//! [`crate::memcache::edit`] know where key and expiry stand in a request and
//! write it anew. An edit that changes nothing gives the bytes that came.

use std::fmt;
use std::time::Duration;

/// What becomes of a request. The default changes nothing.
#[derive(Clone, Copy, Default)]
pub struct Edit<'a> {
    /// Appends the key that is to stand in place of the given one. Asked once
    /// for every key of the request; keys are as they are routed by, so that
    /// a base64 key of memcached is decoded before and encoded again after.
    pub key: Option<Rename<'a>>,
    /// How the item's life changes, if the request says one.
    pub ttl: Option<TtlRule>,
}

/// Appends another key to the second argument in place of the first.
pub type Rename<'a> = &'a dyn Fn(&[u8], &mut Vec<u8>);

impl fmt::Debug for Edit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit")
            .field("key", &self.key.map(|_| "renamed"))
            .field("ttl", &self.ttl)
            .finish()
    }
}

/// How long an item is to live instead of what the request says.
///
/// Redis counts milliseconds and memcached seconds. What lies between is
/// rounded down for a cap, up for the others; never to nothing, as 0 means an
/// error to one of them and "for ever" to the other. What expires at once (a
/// negative expiry, a moment in the past) is a deletion in other words and
/// stays one under every rule. An expiry that is no number is the server's to
/// refuse and stays, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlRule {
    /// Always this long.
    Set(Duration),
    /// Never longer; what would live for ever gets this life.
    Cap(Duration),
    /// Never shorter; what lives for ever goes on doing so.
    Floor(Duration),
}

/// A thousand years: what no server's arithmetic overflows at.
const LIFE_MAX: Duration = Duration::from_secs(1000 * 365 * 86_400);

impl TtlRule {
    /// The life that an item gets instead of its own, in whole units of
    /// `unit`; `None` if it keeps its own. A life of `None` is for ever.
    pub(crate) fn apply(self, life: Option<Duration>, unit: Duration) -> Option<Duration> {
        let (TtlRule::Set(said) | TtlRule::Cap(said) | TtlRule::Floor(said)) = self;
        let ruled = whole(said, unit, matches!(self, TtlRule::Cap(_)));
        let changes = match (self, life) {
            (TtlRule::Set(_), life) => life != Some(ruled),
            (TtlRule::Cap(_), life) => life.is_none_or(|life| life > ruled),
            (TtlRule::Floor(_), life) => life.is_some_and(|life| life < ruled),
        };
        changes.then_some(ruled)
    }
}

/// A life in whole units, at least one of them.
fn whole(life: Duration, unit: Duration, down: bool) -> Duration {
    let life = life.clamp(unit, LIFE_MAX);
    let nanos = life.as_nanos();
    let above = nanos % unit.as_nanos();
    let missing = match (above, down) {
        (0, _) => return life,
        (_, true) => return life.saturating_sub(nanoseconds(above)),
        (_, false) => unit.as_nanos() - above,
    };
    life.saturating_add(nanoseconds(missing))
}

/// `nanos` is less than one unit, so that it fits.
fn nanoseconds(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(rule: TtlRule, life: Option<u64>, want: Option<u64>) {
        let life = life.map(Duration::from_millis);
        let want = want.map(Duration::from_millis);
        assert_eq!(rule.apply(life, SECOND), want, "{rule:?} of {life:?}");
    }

    #[test]
    fn a_rule_says_the_new_life_or_leaves_the_old_one() {
        let ten = Duration::from_secs(10);
        check(TtlRule::Set(ten), None, Some(10_000));
        check(TtlRule::Set(ten), Some(10_000), None);
        check(TtlRule::Set(ten), Some(1), Some(10_000));
        check(TtlRule::Cap(ten), None, Some(10_000));
        check(TtlRule::Cap(ten), Some(11_000), Some(10_000));
        check(TtlRule::Cap(ten), Some(10_000), None);
        check(TtlRule::Floor(ten), None, None);
        check(TtlRule::Floor(ten), Some(9_000), Some(10_000));
        check(TtlRule::Floor(ten), Some(11_000), None);
    }

    #[test]
    fn lives_are_whole_units_and_neither_nothing_nor_endless() {
        let short = Duration::from_millis(1500);
        check(TtlRule::Cap(short), None, Some(1000));
        check(TtlRule::Set(short), None, Some(2000));
        check(TtlRule::Floor(short), Some(1000), Some(2000));
        for rule in [TtlRule::Set, TtlRule::Cap] {
            check(rule(Duration::ZERO), None, Some(1000));
            let most = rule(Duration::MAX).apply(None, SECOND);
            assert_eq!(most, Some(LIFE_MAX));
        }
    }
}
