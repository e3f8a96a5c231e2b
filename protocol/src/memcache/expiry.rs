//! Expiry as memcached's commands write it: 0 is never, a negative number at
//! once, up to 30 days are seconds from now, and anything above is a moment,
//! in seconds since 1970 (protocol.txt, "Expiration times").

use std::time::Duration;

use super::number;
use crate::edit::TtlRule;

/// The last number that is read as seconds from now.
const RELATIVE_MAX: u64 = 30 * 86_400;

/// memcached 1.6.18 reads an expiry into 32 bits and refuses a larger one.
const EXPTIME_MAX: u64 = i32::MAX as u64;

/// A life in whole seconds, as it is written at the moment `now`. Rounded up,
/// and at least a second, as 0 would be for ever; what ends after 2038 ends
/// at the last moment that memcached can read.
pub(super) fn written(life: Duration, now: Duration) -> u64 {
    let seconds = life
        .as_secs()
        .saturating_add(u64::from(life.subsec_nanos() > 0));
    match seconds.max(1) {
        seconds if seconds <= RELATIVE_MAX => seconds,
        seconds => now.as_secs().saturating_add(seconds).min(EXPTIME_MAX),
    }
}

/// The expiry that an item gets in place of the one in a request; `None` if
/// that one stays: the rule does not touch it, it is at once, or no number.
pub(super) fn ruled(exptime: &[u8], rule: TtlRule, now: Duration) -> Option<u64> {
    let life = match u64::try_from(number::signed(exptime)?).ok()? {
        0 => None,
        seconds if seconds <= RELATIVE_MAX => Some(seconds),
        moment => Some(moment.checked_sub(now.as_secs()).filter(|left| *left > 0)?),
    };
    let life = rule.apply(life.map(Duration::from_secs), Duration::from_secs(1))?;
    Some(written(life, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn a_life_is_written_as_memcached_will_read_it() {
        let check = |life, want| assert_eq!(written(life, NOW), want, "{life:?}");
        check(Duration::ZERO, 1);
        check(Duration::from_millis(1), 1);
        check(Duration::from_millis(1001), 2);
        check(Duration::from_secs(RELATIVE_MAX), 2_592_000);
        check(Duration::from_secs(RELATIVE_MAX + 1), 1_802_592_001);
        check(Duration::from_secs(1 << 40), EXPTIME_MAX);
        check(Duration::MAX, EXPTIME_MAX);
    }
}
