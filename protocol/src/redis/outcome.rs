//! What a reply says became of a command.
//!
//! A read misses if its reply is *the one that a key would give that is not
//! there*: null, an empty collection, a length of 0. That is deliberately
//! generous: an empty string's `STRLEN` looks like a missing key's, and who
//! asks elsewhere because of it loses a request, while who takes an emptied
//! replica's 0 for a fact loses data. A write says no if its reply says that
//! nothing was changed. GETEX, which reads as it touches, hits or misses. XINFO
//! and XPENDING say by an error that there is nothing.
//!
//! Three things cannot be told from a reply without its request, and are
//! taken as said here: the null of `SET .. GET` is taken for that of `SET ..
//! NX` (not done), the 0 of `BITPOS` for a position (hit), and the last, empty
//! page of `HSCAN` for a missing key.

use super::command::Command;
use super::framing::{self, line_end};
use super::reply;
use crate::{Kind, Outcome};

/// What became of a command, told from its reply or as much of it as has
/// come; `None` if that is not enough.
///
/// `kind` decides by which rules the reply is read; `command`, where it is
/// known, brings its exceptions. An out-of-band push is no reply and must not
/// be given. Bytes that are no reply are an error.
pub fn outcome(command: Option<&Command>, kind: Kind, reply: &[u8]) -> Option<Outcome> {
    let name = command.map_or("", |command| command.name);
    let reply = match reply::described(reply) {
        Ok(described) => described?,
        Err(_) => return Some(Outcome::Error),
    };
    if kind == Kind::Read && no_such_key(name, reply)? {
        return Some(Outcome::Miss);
    }
    if let Some(refused) = refusal(reply)? {
        return Some(refused);
    }
    if let Some(missing) = whole_miss(name) {
        return match missing.starts_with(reply) {
            true if reply.len() < missing.len() => None,
            true => Some(Outcome::Miss),
            false => Some(Outcome::Hit),
        };
    }
    let said = said(name, reply)?;
    Some(match (kind, name) {
        _ if said == Said::Nonsense => Outcome::Error,
        (Kind::Other, _) => Outcome::Done,
        (Kind::Read, _) | (_, "getex") => read(name, said),
        // Without STORE these are reads, and answer with a list.
        (_, "sort" | "georadius" | "georadiusbymember") if !matches!(said, Said::Number(_)) => {
            read(name, said)
        }
        _ => changed(name, kind, said),
    })
}

/// What a reply that is no error says, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Null, an empty collection, or a collection of nothing but nulls.
    Nothing,
    /// A string of no bytes.
    Blank,
    Number(i64),
    Something,
    /// This is no reply.
    Nonsense,
}

fn read(name: &str, said: Said) -> Outcome {
    let missed = match said {
        Said::Nothing => true,
        Said::Blank => matches!(name, "getrange" | "substr" | "lcs"),
        Said::Number(number) => Some(number) == number_of_missing(name),
        Said::Something | Said::Nonsense => false,
    };
    if missed { Outcome::Miss } else { Outcome::Hit }
}

/// The number that a read gives for a key that is not there.
fn number_of_missing(name: &str) -> Option<i64> {
    match name {
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => Some(-2),
        "bitpos" => Some(-1),
        // Theirs are positions, idle times, or a script's own.
        "zrank" | "zrevrank" | "lpos" | "object" | "memory" => None,
        "eval_ro" | "evalsha_ro" | "fcall_ro" => None,
        _ => Some(0),
    }
}

/// Whole replies for a key that is not there which no other rule covers.
fn whole_miss(name: &str) -> Option<&'static [u8]> {
    match name {
        "type" => Some(b"+none\r\n"),
        "hscan" | "sscan" | "zscan" => Some(b"*2\r\n$1\r\n0\r\n*0\r\n"),
        _ => None,
    }
}

fn changed(name: &str, kind: Kind, said: Said) -> Outcome {
    let refused = match said {
        // GETSET answers with what was there; a script with what it likes.
        Said::Nothing => !matches!(name, "getset" | "eval" | "evalsha" | "fcall"),
        Said::Number(0) => zero_is_no(name, kind),
        Said::Number(-1) => name == "linsert",
        _ => false,
    };
    if refused {
        Outcome::NotDone
    } else {
        Outcome::Done
    }
}

/// Whether the 0 that a command answers says that nothing was changed. HSET,
/// ZADD and GEOADD count what is new, so that 0 may be an update; `*STORE`
/// commands have stored an empty result.
fn zero_is_no(name: &str, kind: Kind) -> bool {
    matches!(kind, Kind::Delete | Kind::Touch)
        || matches!(
            name,
            "setnx" | "msetnx" | "hsetnx" | "renamenx" | "copy" | "move" | "smove"
        )
        || matches!(
            name,
            "hdel" | "srem" | "zrem" | "lrem" | "xdel" | "xack" | "xtrim"
        )
        || matches!(
            name,
            "zremrangebylex" | "zremrangebyrank" | "zremrangebyscore"
        )
        || matches!(name, "sadd" | "pfadd" | "lpushx" | "rpushx" | "linsert")
}

/// Whether a read was refused because there is no such key, or no such group of
/// consumers in it; `None` asks for more.
fn no_such_key(name: &str, reply: &[u8]) -> Option<bool> {
    if !matches!(name, "xinfo" | "xpending") {
        return Some(false);
    }
    let said = |text: &[u8]| match reply.len() < text.len() {
        true => text.starts_with(reply).then_some(None),
        false => reply.starts_with(text).then_some(Some(true)),
    };
    let texts: [&[u8]; 2] = [b"-NOGROUP ", b"-ERR no such key\r\n"];
    texts.into_iter().find_map(said).unwrap_or(Some(false))
}

/// Whether a reply is an error, and which; the outer `None` asks for more.
fn refusal(reply: &[u8]) -> Option<Option<Outcome>> {
    let text = match reply.first()? {
        b'-' => &reply[1..],
        // `!21\r\nBUSY ...`
        b'!' => match line_end(&reply[..reply.len().min(NUMBER_LINE_MAX)], 1) {
            Some(end) => &reply[end + 2..],
            None => return more_or_nonsense(reply).map(|_| Some(Outcome::Error)),
        },
        _ => return Some(None),
    };
    let Some(end) = text.iter().position(|b| matches!(b, b' ' | b'\r' | b'\n')) else {
        return (text.len() > CODE_MAX).then_some(Some(Outcome::Error));
    };
    Some(Some(match &text[..end] {
        b"LOADING" | b"BUSY" | b"MASTERDOWN" | b"CLUSTERDOWN" | b"TRYAGAIN" | b"READONLY" => {
            Outcome::Busy
        }
        // RESTORE without REPLACE: there is something already.
        b"BUSYKEY" => Outcome::NotDone,
        _ => Outcome::Error,
    }))
}

/// Bytes of the longest code that means anything here.
const CODE_MAX: usize = b"CLUSTERDOWN".len();

/// Bytes of a line with a number.
const NUMBER_LINE_MAX: usize = 32;

fn more_or_nonsense(line: &[u8]) -> Option<Said> {
    (line.len() >= NUMBER_LINE_MAX).then_some(Said::Nonsense)
}

fn said(name: &str, reply: &[u8]) -> Option<Said> {
    let second = || reply.get(1).copied();
    Some(match reply.first()? {
        b'_' => Said::Nothing,
        b'$' | b'=' => match second()? {
            b'-' => Said::Nothing,
            b'0' => Said::Blank,
            _ => Said::Something,
        },
        b'%' | b'~' | b'>' => match second()? {
            b'0' => Said::Nothing,
            _ => Said::Something,
        },
        b'*' => match second()? {
            b'-' | b'0' => Said::Nothing,
            b'?' => Said::Something,
            _ => return array(name, reply),
        },
        b':' => return number(reply),
        b'#' => match second()? {
            b'f' => Said::Number(0),
            _ => Said::Number(1),
        },
        b'+' | b',' | b'(' => Said::Something,
        _ => Said::Nonsense,
    })
}

fn number(reply: &[u8]) -> Option<Said> {
    let Some(end) = line_end(reply, 1) else {
        return more_or_nonsense(reply);
    };
    let number = reply::integer(&reply[..end + 2]);
    Some(number.map_or(Said::Nonsense, Said::Number))
}

/// Whether every element is null: `MGET` of one key, `HMGET` of a hash that is
/// not there. The first one that is something ends the search.
fn array(name: &str, reply: &[u8]) -> Option<Said> {
    let Some(end) = line_end(reply, 1) else {
        return more_or_nonsense(reply);
    };
    let Some(count) = framing::number(&reply[1..end]) else {
        return Some(Said::Nonsense);
    };
    let zero: &[&[u8]] = match name {
        "smismember" | "bitfield_ro" => &[b":0\r\n"],
        _ => &[],
    };
    let nulls: [&[u8]; 3] = [b"$-1\r\n", b"_\r\n", b"*-1\r\n"];
    let nothings = || nulls.iter().chain(zero);
    let mut rest = &reply[end + 2..];
    for _ in 0..count {
        if let Some(nothing) = nothings().find(|nothing| rest.starts_with(nothing)) {
            rest = &rest[nothing.len()..];
        } else if nothings().any(|nothing| nothing.starts_with(rest)) {
            return None;
        } else {
            return Some(Said::Something);
        }
    }
    Some(Said::Nothing)
}
