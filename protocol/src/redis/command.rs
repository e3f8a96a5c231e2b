//! The commands of Redis 7.0: their shape, where their keys are, and what the
//! proxy does with each.
//!
//! The facts are data in `table.rs`; the functions here read them. Key
//! positions are found by interpreting the key specifications that Redis
//! itself publishes in `COMMAND INFO`, so that no command needs a case of its
//! own except `SORT`, whose destination Redis calls "unknown" too.

use crate::Kind;

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
    /// Subcommands in Redis' own order.
    pub subcommands: &'static [Subcommand],
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
    /// Never passes; the text says why.
    Refused(&'static str),
    /// Needs state of a connection that this version does not keep; the text says so.
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

/// The command of this name, in any case.
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

/// The command with this id, which came from [`Command::id`].
///
/// # Panics
/// If `id` is not below [`COUNT`].
pub fn by_id(id: u16) -> &'static Command {
    &COMMANDS[usize::from(id)]
}

/// Whether a request with `argc` arguments (with the name) suits the command's arity.
pub fn arity_ok(command: &Command, argc: usize) -> bool {
    let wanted = usize::from(command.arity.unsigned_abs());
    if command.arity < 0 {
        argc >= wanted
    } else {
        argc == wanted
    }
}

/// The position of the one key of a [`Class::Single`] command.
pub fn single_key(command: &Command, argc: usize) -> Result<usize, KeyError> {
    if !arity_ok(command, argc) {
        return Err(KeyError::Arity(command.name));
    }
    Ok(command.first_key.max(1) as usize)
}

/// The positions of all keys of a request, put into `out`.
pub fn keys(
    command: &Command,
    args: &(impl Args + ?Sized),
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    out.clear();
    if !arity_ok(command, args.len()) {
        return Err(KeyError::Arity(command.name));
    }
    Ok(())
}

/// Whether a request may wait at the server for data: `BLPOP`, or `XREAD` with `BLOCK`.
pub fn blocking(_command: &Command, _args: &(impl Args + ?Sized)) -> bool {
    false
}

/// Why the keys of a request cannot be told. Display is what Redis says, without its `ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too many or too few arguments.
    #[error("wrong number of arguments for '{0}' command")]
    Arity(&'static str),
}
