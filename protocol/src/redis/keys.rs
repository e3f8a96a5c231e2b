//! Where the keys of a request are.
//!
//! Redis publishes for each command how its keys are found (`COMMAND INFO`),
//! and that is what is interpreted here. Only two are cases of their own: the
//! place of `SORT ... STORE`, which Redis calls "unknown", and `MIGRATE` with an
//! empty key, which is none.

use super::command::{Args, Begin, Command, Find, KeySpec};
use super::framing;

/// Whether a request with `argc` arguments (with the name) suits the command's arity.
#[inline]
pub fn arity_ok(command: &Command, argc: usize) -> bool {
    suits(command.arity, argc)
}

fn suits(arity: i16, argc: usize) -> bool {
    let wanted = usize::from(arity.unsigned_abs());
    match arity < 0 {
        true => argc >= wanted,
        false => argc == wanted,
    }
}

/// The position of the one key of a [`Class::Single`](super::Class::Single) command.
///
/// Containers (`OBJECT ENCODING key`) have it behind the subcommand; without
/// one (`OBJECT HELP`) the error is [`KeyError::NoKey`].
#[inline]
pub fn single_key(command: &Command, argc: usize) -> Result<usize, KeyError> {
    if !arity_ok(command, argc) {
        return Err(KeyError::Arity(command.name));
    }
    match command.first_key {
        0 if argc > 2 && !command.subcommands.is_empty() => Ok(2),
        0 => Err(KeyError::NoKey(command.name)),
        at => Ok(usize::from(at.unsigned_abs())),
    }
}

/// The positions of all keys of a request, put into `out` in the order of the
/// command's key specifications. None at all is not an error: `EVAL script 0`.
pub fn keys(
    command: &Command,
    args: &(impl Args + ?Sized),
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    out.clear();
    let argc = args.len();
    if !arity_ok(command, argc) || (pairs(command) && argc.is_multiple_of(2)) {
        return Err(KeyError::Arity(command.name));
    }
    for spec in key_specs(command, args)? {
        match spec.begin {
            // An empty key says that the keys come behind `KEYS`.
            Begin::Index(3) if command.name == "migrate" && args.arg(3).is_empty() => {}
            Begin::Index(at) => find(command, spec, usize::from(at.unsigned_abs()), args, out)?,
            Begin::Keyword(word, from) => behind(command, spec, word, from, args, out)?,
            Begin::Unknown if command.name == "sort" && spec.flags.contains(&"update") => {
                out.extend(sort_destination(args));
            }
            Begin::Unknown => {}
        }
    }
    Ok(())
}

/// Commands of keys and values alternating, of which none may lack.
fn pairs(command: &Command) -> bool {
    command.step == 2
}

/// The specifications that hold for this request: the command's, or its subcommand's.
fn key_specs(
    command: &Command,
    args: &(impl Args + ?Sized),
) -> Result<&'static [KeySpec], KeyError> {
    if command.subcommands.is_empty() {
        return Ok(command.key_specs);
    }
    let found = command.subcommand(args.arg(1));
    let sub = found.ok_or(KeyError::NoKey(command.name))?;
    match suits(sub.arity, args.len()) {
        true => Ok(sub.key_specs),
        false => Err(KeyError::Arity(sub.name)),
    }
}

/// The keys that one specification finds from `first` on.
fn find(
    command: &Command,
    spec: &KeySpec,
    first: usize,
    args: &(impl Args + ?Sized),
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    let argc = args.len();
    match spec.find {
        Find::Range { last, step, limit } => {
            let back = usize::from(last.unsigned_abs());
            let last = match (last < 0, limit) {
                (false, _) => first + back,
                (true, 0 | 1) => argc.saturating_sub(back),
                (true, limit) => {
                    let share = argc.saturating_sub(first) / usize::from(limit.unsigned_abs());
                    (first + share).saturating_sub(back)
                }
            };
            let positions = first..(last + 1).min(argc);
            out.extend(positions.step_by(distance(step)));
            Ok(())
        }
        Find::Keynum {
            index,
            first: gap,
            step,
        } => {
            let from = first + usize::from(gap.unsigned_abs());
            let number = args.arg(first + usize::from(index.unsigned_abs()));
            let count = counted(command.name, number, argc.saturating_sub(from))?;
            out.extend((from..argc).step_by(distance(step)).take(count));
            Ok(())
        }
        Find::Unknown => Ok(()),
    }
}

fn distance(step: i16) -> usize {
    usize::from(step.unsigned_abs()).max(1)
}

/// The keys behind a word such as `STREAMS` or `STORE`.
fn behind(
    command: &Command,
    spec: &KeySpec,
    word: &str,
    from: i16,
    args: &(impl Args + ?Sized),
    out: &mut Vec<usize>,
) -> Result<(), KeyError> {
    let argc = args.len();
    let is_word = |at: &usize| args.arg(*at).eq_ignore_ascii_case(word.as_bytes());
    if from < 0 {
        // Counted from the end, and looked for towards the beginning.
        let last = argc.saturating_sub(usize::from(from.unsigned_abs()));
        let place = (1..=last).rev().find(is_word);
        return place.map_or(Ok(()), |at| find(command, spec, at + 1, args, out));
    }
    // The word as the last argument has no key behind it.
    let from = usize::from(from.unsigned_abs());
    let mut places = (from..argc.saturating_sub(1)).filter(is_word);
    if word != "STREAMS" {
        // Redis obeys the last of several STORE, so every one of them counts.
        return places.try_for_each(|at| find(command, spec, at + 1, args, out));
    }
    let first = places.next().ok_or(KeyError::Syntax)? + 1;
    match (argc - first).is_multiple_of(2) {
        true => find(command, spec, first, args, out),
        false => Err(KeyError::UnbalancedStreams),
    }
}

/// The destination of `SORT key ... STORE destination`: Redis obeys the last one.
fn sort_destination(args: &(impl Args + ?Sized)) -> Option<usize> {
    let mut destination = None;
    let mut at = 2;
    while at + 1 < args.len() {
        let option = args.arg(at);
        let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
        at += if is(b"store") {
            destination = Some(at + 1);
            2
        } else if is(b"limit") {
            3
        } else if is(b"get") || is(b"by") {
            2
        } else {
            1
        };
    }
    destination
}

/// The number of keys that a request announces, of which `room` arguments can be keys.
fn counted(name: &'static str, number: &[u8], room: usize) -> Result<usize, KeyError> {
    use KeyError::*;
    // Each family says it in other words: scripts, SINTERCARD, the pops, sorted sets.
    let (not_a_number, too_few, too_many, least) = match name {
        "eval" | "eval_ro" | "evalsha" | "evalsha_ro" => {
            (NotAnInteger, NegativeKeys, TooManyKeys, 0)
        }
        "fcall" | "fcall_ro" => (BadNumberOfKeys, NegativeKeys, TooManyKeys, 0),
        "sintercard" => (NoNumkeys, NoNumkeys, TooManyKeys, 1),
        "lmpop" | "blmpop" | "zmpop" | "bzmpop" => (NoNumkeys, NoNumkeys, Syntax, 1),
        _ => (NotAnInteger, AtLeastOneKey(name), Syntax, 1),
    };
    match framing::number(number) {
        None => Err(not_a_number),
        Some(count) if count < least => Err(too_few),
        Some(count) => match usize::try_from(count) {
            Ok(count) if count <= room => Ok(count),
            _ => Err(too_many),
        },
    }
}

/// Whether a request may wait at the server for data: `BLPOP`, or `XREAD` with `BLOCK`.
pub fn blocking(command: &Command, args: &(impl Args + ?Sized)) -> bool {
    if !command.flags.contains(&"blocking") {
        return false;
    }
    let options = match command.name {
        "xread" => 1,
        "xreadgroup" => 4,
        _ => return true,
    };
    (options..args.len())
        .map(|at| args.arg(at))
        .take_while(|arg| !arg.eq_ignore_ascii_case(b"streams"))
        .any(|arg| arg.eq_ignore_ascii_case(b"block"))
}

/// Why the keys of a request cannot be told. Display is what Redis says, without its `ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too many or too few arguments for the command or subcommand.
    #[error("wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// A form of the command without a key, such as `OBJECT HELP`: any server
    /// gives the same answer, except to `MEMORY`.
    #[error("this form of '{0}' names no key, so the proxy cannot tell which server is meant")]
    NoKey(&'static str),
    /// The number of keys is not a number.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The same, in the words of `FCALL`.
    #[error("Bad number of keys provided")]
    BadNumberOfKeys,
    /// A negative number of keys.
    #[error("Number of keys can't be negative")]
    NegativeKeys,
    /// More keys announced than there are arguments.
    #[error("Number of keys can't be greater than number of args")]
    TooManyKeys,
    /// No keys where at least one is needed, in the words of `LMPOP`.
    #[error("numkeys should be greater than 0")]
    NoNumkeys,
    /// The same, in the words of `ZUNION`.
    #[error("at least 1 input key is needed for '{0}' command")]
    AtLeastOneKey(&'static str),
    /// Arguments that make no sense.
    #[error("syntax error")]
    Syntax,
    /// `XREAD` or `XREADGROUP` with streams and ids that do not pair up.
    #[error(
        "Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
    )]
    UnbalancedStreams,
}
