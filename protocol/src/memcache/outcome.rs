//! What a reply says became of a request.
//!
//! memcached says it in the first word, which is all that is looked at: a
//! `get` of several keys that found one of them has hit. `gat`, which reads as
//! it touches, hits or misses, too. `mg` hits whatever
//! the flags `W`, `Z` and `X` tell about who is to set the item anew; a route
//! that cares reads them with [`super::got`].

use super::number;
use super::reply::is_error;
use super::{Dialect, Verb};
use crate::{Kind, Outcome};

/// The longest first word that means anything is `MEMLIMIT_ADJUST_FAILED`.
const WORD_MAX: usize = 24;

/// What became of a request, told from its reply or as much of it as has
/// come; `None` if its first word has not come whole. Bytes that are no
/// answer to this verb are an error.
pub fn outcome(verb: Verb, reply: &[u8]) -> Option<Outcome> {
    let reach = &reply[..reply.len().min(WORD_MAX + 1)];
    let Some(end) = reach.iter().position(|b| matches!(b, b' ' | b'\r' | b'\n')) else {
        return (reply.len() > WORD_MAX).then_some(Outcome::Error);
    };
    let word = &reply[..end];
    Some(match (verb, word) {
        _ if is_error(word) => Outcome::Error,
        (Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats, b"VALUE") => Outcome::Hit,
        (Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats, b"END") => Outcome::Miss,
        (Verb::MetaGet, b"VA" | b"HD") | (Verb::MetaDebug, b"ME") => Outcome::Hit,
        (Verb::MetaGet | Verb::MetaDebug, b"EN") => Outcome::Miss,
        (Verb::MetaSet | Verb::MetaDelete | Verb::MetaArithmetic, word) => match word {
            b"HD" => Outcome::Done,
            b"VA" if verb == Verb::MetaArithmetic => Outcome::Done,
            b"NS" | b"NF" | b"EX" => Outcome::NotDone,
            _ => Outcome::Error,
        },
        (Verb::MetaNoop, b"MN") => Outcome::Done,
        (_, b"STORED" | b"DELETED" | b"TOUCHED") if changes(verb) => Outcome::Done,
        (_, b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND") if changes(verb) => Outcome::NotDone,
        (Verb::Incr | Verb::Decr, word) if number::unsigned(word).is_some() => Outcome::Done,
        // The rest administers a server, and may be told that it is at it already.
        (verb, b"BUSY") if administers(verb) => Outcome::Busy,
        (verb, _) if administers(verb) => Outcome::Done,
        _ => Outcome::Error,
    })
}

/// Whether this is a text command that concerns no item.
fn administers(verb: Verb) -> bool {
    verb.kind() == Kind::Other && verb.dialect() == Dialect::Text
}

/// Whether this is a text command that changes one item.
fn changes(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Set
            | Verb::Add
            | Verb::Replace
            | Verb::Append
            | Verb::Prepend
            | Verb::Cas
            | Verb::Delete
            | Verb::Incr
            | Verb::Decr
            | Verb::Touch
    )
}
