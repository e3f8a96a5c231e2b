//! The numbers that stand for commands, and the names they get at the scrape.
//!
//! One `u16` covers both protocols, so that a request carries a single number
//! whatever its listener speaks.

use emberline_protocol::memcache::Verb;
use emberline_protocol::redis::command::{COMMANDS, COUNT, Command};

use crate::running::Protocol;

/// A command that no table knows. Its name came from a client, so it must not
/// become a label: all of them are counted as `other`.
pub const OTHER: u16 = u16::MAX;

/// The number of a Redis command, for `Meter::request`.
#[inline]
pub fn redis_command(command: &Command) -> u16 {
    command.id
}

/// The number of a memcached command, for `Meter::request`.
#[inline]
pub fn memcache_command(verb: Verb) -> u16 {
    COUNT as u16 + verb.id()
}

/// How many slots a listener of this protocol needs: its table, and `other`.
pub(super) fn commands(protocol: Protocol) -> usize {
    1 + match protocol {
        Protocol::Redis => COUNT,
        Protocol::Memcached => Verb::COUNT,
    }
}

/// The slot within the protocol's table; the last one is `other`.
#[inline]
pub(super) fn slot(protocol: Protocol, command: u16) -> usize {
    let (first, count) = match protocol {
        Protocol::Redis => (0, COUNT),
        Protocol::Memcached => (COUNT, Verb::COUNT),
    };
    usize::from(command)
        .checked_sub(first)
        .map_or(count, |slot| slot.min(count))
}

/// The slot of `other`.
pub(super) fn other(protocol: Protocol) -> usize {
    commands(protocol) - 1
}

/// The label's value for a slot.
pub(super) fn name(protocol: Protocol, slot: usize) -> &'static str {
    match protocol {
        Protocol::Redis => COMMANDS.get(slot).map_or("other", |command| command.name),
        Protocol::Memcached => Verb::ALL.get(slot).map_or("other", |verb| verb.name()),
    }
}
