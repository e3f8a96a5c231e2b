//! What was done, when, and what came of it.
//!
//! Times are nanoseconds of one monotonic clock, read before the first byte of
//! a request is written and after the last byte of its reply was read. So the
//! moment at which an operation took effect lies between the two.

use super::stamp::{Key, Wrong};

/// Through whom an operation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// The proxy whose promises are checked.
    Proxy,
    /// Another proxy before the same server, with the same settings.
    Other,
    /// Nobody: straight to the server.
    Direct,
}

impl Via {
    /// All of them.
    pub const ALL: [Via; 3] = [Via::Proxy, Via::Other, Via::Direct];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Via::Proxy => "proxy",
            Via::Other => "other proxy",
            Via::Direct => "direct",
        }
    }
}

/// One write of a key. The first of a key has the number 1, and each is sent
/// after the one before it has ended, or behind it on the same connection.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// Through whom.
    pub via: Via,
    /// Before it was sent.
    pub start: u64,
    /// When its outcome was known, or given up.
    pub end: u64,
    /// Whether it certainly took effect. If not it may have, or may yet.
    pub acked: bool,
    /// Whether it deleted the key.
    pub gone: bool,
    /// When the server will forget it.
    pub expiry: Option<Expiry>,
}

/// When a server forgets a version.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Not before this time.
    pub from: u64,
    /// By this time; `u64::MAX` if it is not certain that the server knows.
    pub by: u64,
    /// Who said so, and when that was acknowledged; `None` if it came with
    /// the value.
    pub told: Option<(Via, u64)>,
}

/// Every key may have gone.
#[derive(Clone, Copy, Debug)]
pub struct Wipe {
    /// Through whom; `None` when the server itself died.
    pub via: Option<Via>,
    /// Before it was asked for.
    pub start: u64,
    /// When it was acknowledged; `u64::MAX` if it never was.
    pub end: u64,
}

/// One key that was read. Reads of one connection stand in its program order.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Which key.
    pub key: Key,
    /// Through whom.
    pub via: Via,
    /// Which connection: one that is opened anew has another number.
    pub conn: u32,
    /// Before it was sent.
    pub start: u64,
    /// After its answer.
    pub end: u64,
    /// The number of the write that was read; `None` if there was no value.
    pub seen: Option<u32>,
    /// The number of the last write of this key that was acknowledged on the
    /// same connection before this read in program order; 0 if there is none.
    pub after: u32,
    /// Whether it belongs to the last sweep, after everything has come to rest.
    pub settled: bool,
    /// The command.
    pub form: &'static str,
}

/// A value that nobody can have written.
#[derive(Clone, Debug)]
pub struct Alien {
    /// The key that was asked for.
    pub key: Key,
    /// Through whom.
    pub via: Via,
    /// After the answer.
    pub end: u64,
    /// What is wrong.
    pub wrong: Foreign,
    /// How it begins.
    pub excerpt: String,
}

/// Why a value cannot have been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Its bytes.
    Value(Wrong),
    /// Its memcached flags are another value's.
    Flags,
    /// The same write was read before with another CAS.
    Cas,
}

/// Everything that happened in a run.
#[derive(Debug, Default)]
pub struct History {
    /// By key, in the order of their numbers.
    pub versions: std::collections::HashMap<Key, Vec<Version>>,
    /// In the order of their starts.
    pub wipes: Vec<Wipe>,
    /// In any order, but those of one connection in its own.
    pub reads: Vec<Read>,
    /// Values nobody wrote.
    pub aliens: Vec<Alien>,
}
