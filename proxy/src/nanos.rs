//! Time as the process counts it: nanoseconds in a word.

use std::time::Duration;

/// Nanoseconds, so few that a few of such numbers can be added.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(u64::MAX / 4, |nanos| nanos.min(u64::MAX / 4))
}
