//! The numbers that stand for commands, and the names they get at the scrape.
//!
//! One `u16` covers both protocols, so that a request carries a single number
//! whatever its listener speaks.

use crate::running::Protocol;

/// A command that no table knows. Its name came from a client, so it must not
/// become a label: all of them are counted as `other`.
pub const OTHER: u16 = u16::MAX;

const REDIS: usize = 240;
const MEMCACHE: usize = 40;

/// How many slots a listener of this protocol needs: its table, and `other`.
pub(super) fn commands(protocol: Protocol) -> usize {
    1 + match protocol {
        Protocol::Redis => REDIS,
        Protocol::Memcached => MEMCACHE,
    }
}

/// The slot within the protocol's table; the last one is `other`.
#[inline]
pub(super) fn slot(protocol: Protocol, command: u16) -> usize {
    let (first, count) = match protocol {
        Protocol::Redis => (0, REDIS),
        Protocol::Memcached => (REDIS, MEMCACHE),
    };
    usize::from(command)
        .checked_sub(first)
        .map_or(count, |slot| slot.min(count))
}
