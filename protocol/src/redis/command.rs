//! The commands of Redis 7.0: their shape, where their keys are, and what the
//! proxy does with each.
//!
//! The facts are data in `table.rs`; [`lookup`] finds a command by its name
//! and [`keys`] the keys of a request.

use crate::Kind;

pub use super::keys::{KeyError, arity_ok, blocking, keys, single_key};

pub use super::table::{COMMANDS, COUNT};

/// One command of Redis 7.0.
#[derive(Debug)]
pub struct Command {
    /// Dense index, for metrics: `by_id(command.id)` is this command.
    pub id: u16,
    /// Lower case.
    pub name: &'static str,
    /// Number of arguments including the name; negative: at least that many.
    pub arity: i16,
    /// Position of the first key, 0 if the command has none at a fixed place.
    pub first_key: i16,
    /// Position of the last key; negative counts from the end.
    pub last_key: i16,
    /// Distance from one key to the next.
    pub step: i16,
    /// Whether the positions above do not tell all keys (`EVAL`, `SORT`).
    pub movable: bool,
    /// What the proxy does with it.
    pub class: Class,
    /// What it does to its key, for routes.
    pub kind: Kind,
    /// Whether it may change data. Scripts count, as nothing says what they do.
    pub write: bool,
    /// Flags as `COMMAND INFO` gives them.
    pub flags: &'static [&'static str],
    /// Access-control categories as `COMMAND INFO` gives them.
    pub categories: &'static [&'static str],
    /// Tips as `COMMAND INFO` gives them.
    pub tips: &'static [&'static str],
    /// Where the keys are.
    pub key_specs: &'static [KeySpec],
    /// Subcommands of a container, in alphabetical order.
    pub subcommands: &'static [Subcommand],
    /// One line for `COMMAND DOCS`.
    pub summary: &'static str,
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// The group that Redis' manual lists it under.
    pub group: &'static str,
}

/// One subcommand of a container such as `CLIENT` or `XGROUP`.
#[derive(Debug)]
pub struct Subcommand {
    /// Both words in lower case: `client|list`.
    pub name: &'static str,
    /// As in [`Command`], counting both words.
    pub arity: i16,
    /// As in [`Command`].
    pub first_key: i16,
    /// As in [`Command`].
    pub last_key: i16,
    /// As in [`Command`].
    pub step: i16,
    /// As in [`Command`].
    pub flags: &'static [&'static str],
    /// As in [`Command`].
    pub categories: &'static [&'static str],
    /// As in [`Command`].
    pub tips: &'static [&'static str],
    /// As in [`Command`].
    pub key_specs: &'static [KeySpec],
}

/// Where some of a command's keys are, and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// A remark of Redis' authors; empty for most.
    pub notes: &'static str,
    /// `RO`, `RW`, `OW`, `RM`, `access`, `update` ...
    pub flags: &'static [&'static str],
    /// Where the search begins.
    pub begin: Begin,
    /// How the keys lie from there.
    pub find: Find,
}

/// The argument at which the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this position.
    Index(i16),
    /// Behind this word, looked for from a position on; a negative position
    /// looks backwards from the end.
    Keyword(&'static str, i16),
    /// Redis cannot say.
    Unknown,
}

/// How keys lie from the beginning of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (relative; negative from the end), every `step` arguments;
    /// `limit` 2 means the first half of what is left, and so on.
    Range {
        /// The last key.
        last: i16,
        /// Distance between keys.
        step: i16,
        /// Divisor of the arguments that are left, if above 1.
        limit: i16,
    },
    /// An argument tells their number.
    Keynum {
        /// Where that argument is.
        index: i16,
        /// Where the first key is.
        first: i16,
        /// Distance between keys.
        step: i16,
    },
    /// Redis cannot say.
    Unknown,
}

/// What the proxy does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One key: goes to its server.
    Single,
    /// Several keys, or none at a fixed place: passes if all are on one server, else `-CROSSSLOT`.
    SameShard,
    /// Several keys, taken apart by server and merged.
    Split(Split),
    /// The proxy answers.
    Local,
    /// Goes to every server; the replies are merged.
    FanOut(FanOut),
    /// Never passes. The text is the whole error, without its `ERR`.
    Refused(&'static str),
    /// Needs state of a connection that this version does not keep. The text is
    /// the whole error, without its `ERR`.
    Later(&'static str),
}

/// How a command with several keys is taken apart and merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// An array in argument order.
    Mget,
    /// OK if all are OK.
    Mset,
    /// The sum of integers: DEL UNLINK EXISTS TOUCH.
    Sum,
}

/// How the replies of all servers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanOut {
    /// OK if all are OK.
    FlushAll,
    /// The sum of integers.
    Sum,
    /// One array behind the other.
    Concat,
    /// The sum of receivers.
    Publish,
    /// Any server that has a key.
    RandomKey,
    /// Depends on the subcommand of `SCRIPT`.
    Script,
    /// Depends on the subcommand of `FUNCTION`.
    Function,
    /// Depends on the subcommand of `PUBSUB`.
    PubSub,
    /// One server after the other, the cursor telling which.
    Scan,
}

/// The arguments of a request, wherever they are; argument 0 is the command's name.
pub trait Args {
    /// How many there are, with the name.
    fn len(&self) -> usize;
    /// Argument `i`; empty if there are not that many.
    fn arg(&self, i: usize) -> &[u8];
    /// Whether not even a name is there.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Args for [&[u8]] {
    fn len(&self) -> usize {
        <[&[u8]]>::len(self)
    }
    fn arg(&self, i: usize) -> &[u8] {
        self.get(i).copied().unwrap_or_default()
    }
}

impl Args for Vec<&[u8]> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }
    fn arg(&self, i: usize) -> &[u8] {
        self.as_slice().arg(i)
    }
}

impl<T: Args + ?Sized> Args for &T {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn arg(&self, i: usize) -> &[u8] {
        (**self).arg(i)
    }
}

impl Command {
    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Subcommand> {
        let subcommands: &'static [Subcommand] = self.subcommands;
        subcommands.iter().find(|sub| {
            let (_, own) = sub.name.split_once('|').unwrap_or(("", sub.name));
            own.as_bytes().eq_ignore_ascii_case(name)
        })
    }
}

/// The command of this name, in any case. Allocation free.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    let mut slot = hash(name);
    loop {
        let command = COMMANDS.get(usize::from(INDEX[slot]))?;
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// The command with this id, which came from [`Command::id`].
///
/// # Panics
/// If `id` is not below [`COUNT`].
pub fn by_id(id: u16) -> &'static Command {
    &COMMANDS[usize::from(id)]
}

/// A hash table of ids, built by the compiler: open addressing, a quarter full.
static INDEX: [u8; SLOTS] = index();
const SLOTS: usize = 1024;
const EMPTY: u8 = u8::MAX;

const fn index() -> [u8; SLOTS] {
    assert!(COUNT < EMPTY as usize);
    let mut index = [EMPTY; SLOTS];
    let mut id = 0;
    while id < COUNT {
        let mut slot = hash(COMMANDS[id].name.as_bytes());
        while index[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = id as u8;
        id += 1;
    }
    index
}

/// The slot of a name: its first and last bytes, in lower case, and its length.
/// Setting the bit 0x20 is no exact lower case, but the comparison is exact.
const fn hash(name: &[u8]) -> usize {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(first), Some(last)) => (
                u32::from_le_bytes(*first) as u64,
                u32::from_le_bytes(*last) as u64,
            ),
            _ => match name {
                [a, .., b] => (*a as u64, (*b as u64) << 8 | name[1] as u64),
                [a] => (*a as u64, 0),
                [] => (0, 0),
            },
        },
    };
    let mixed = (first | LOWER)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        ^ (last | LOWER)
        ^ name.len() as u64;
    (mixed.wrapping_mul(0xff51_afd7_ed55_8ccd) >> (u64::BITS - SLOTS.ilog2())) as usize
}
