//! Command lines of the meta protocol.
//!
//! Only what decides where the next request begins, where the request goes and
//! whether it is answered is looked at: key, length, and the flags `b`, `q` and
//! `O`. All others pass, known or not, and the server judges them: it skips
//! the value of an `ms` whose flags it refuses. A repeated flag is refused
//! here, since a second `q` would leave the server silent.

use crate::memcache::error::says;
use crate::memcache::key::key_ok;
use crate::memcache::request::{Limits, Parsed, Parser, Request};
use crate::memcache::words::Words;
use crate::memcache::{Recovery, RequestError, Verb, base64, number, tokens};

/// Command, key, length and flags may be this many words together.
const WORDS_MAX: usize = 19;

/// Any meta command.
pub(in crate::memcache) fn parse(
    parser: &mut Parser,
    line: &[u8],
    head: usize,
    verb: Verb,
    words: &Words,
    limits: &Limits,
) -> Parsed {
    let skip = |reply| Err(RequestError::new(reply, Recovery::Skip(head)));
    let start = words.range(0).start;
    if verb == Verb::MetaNoop {
        return Ok(Some(Request::plain(verb, head, words.range(0))));
    }
    if words.len() < 2 {
        return skip(if verb == Verb::MetaDebug {
            says::BAD_FORMAT
        } else {
            says::ERROR
        });
    }
    if words.range(1).len() > limits.key_max || verb == Verb::MetaSet && words.len() == 2 {
        return skip(says::BAD_FORMAT);
    }
    if words.len() > WORDS_MAX && verb != Verb::MetaDebug {
        return skip(match verb {
            Verb::MetaGet => says::FLAGS_TOO_LONG_GET,
            _ => says::FLAGS_TOO_LONG,
        });
    }
    let mut request = Request::plain(verb, head, start..words.range(words.len() - 1).end);
    let mut recovery = Recovery::Skip(head);
    if verb == Verb::MetaSet {
        let Some(len) = number::length(words.word(line, 2)) else {
            return skip(says::BAD_FORMAT);
        };
        request.body = Some(len);
        recovery = Recovery::Swallow(request.len());
    }
    let refuse = |reply| Err(RequestError::new(reply, recovery));

    if verb == Verb::MetaDebug {
        request.base64 = words.word(line, 2) == b"b";
    } else if let Err(reply) = read_flags(&mut request, line, words) {
        return refuse(reply);
    }
    let key = words.range(1);
    if request.base64 {
        parser.decoded.clear();
        if base64::decode(&mut parser.decoded, &line[key.clone()]).is_none() {
            return refuse(match verb {
                Verb::MetaGet | Verb::MetaSet => says::BAD_BASE64,
                Verb::MetaDebug => says::BAD_FORMAT,
                _ => says::INVALID_FLAG,
            });
        }
    } else if !key_ok(&line[key.clone()]) {
        return refuse(says::BAD_FORMAT);
    }
    if request.body.is_some_and(|len| len > limits.value_max) {
        return refuse(says::TOO_LARGE);
    }
    parser.keys.push((key.start as u32, key.end as u32));
    Ok(Some(request))
}

/// Notes `b`, `q` and `O`; the error is the line to answer.
fn read_flags(request: &mut Request, line: &[u8], words: &Words) -> Result<(), &'static str> {
    let mut seen = 0u128;
    let first = if request.verb == Verb::MetaSet { 3 } else { 2 };
    for i in first..words.len() {
        let at = words.range(i);
        let flag = line[at.start];
        // memcached calls a byte that cannot be a flag a duplicate, too.
        if flag >= 127 || seen & 1 << flag != 0 {
            return Err(match request.verb {
                Verb::MetaGet | Verb::MetaSet => says::DUPLICATE_FLAG,
                _ => says::INVALID_FLAG,
            });
        }
        seen |= 1 << flag;
        match flag {
            b'b' => request.base64 = true,
            b'q' => {
                request.quiet = true;
                request.cut = (words.range(i - 1).end as u32, at.end as u32);
            }
            b'O' => request.opaque = Some(at.start + 1..at.end),
            _ => {}
        }
    }
    Ok(())
}

/// The flags of a meta request with their tokens: `T30` is `(b'T', b"30")`.
/// `line` is the command line.
pub fn flags(line: &[u8], verb: Verb) -> impl Iterator<Item = (u8, &[u8])> {
    let first = if verb == Verb::MetaSet { 3 } else { 2 };
    tokens(line)
        .skip(first)
        .filter_map(|word| Some((*word.first()?, word.get(1..)?)))
}

/// The token of one flag of a meta request; empty for a flag without one.
pub fn flag(line: &[u8], verb: Verb, name: u8) -> Option<&[u8]> {
    flags(line, verb)
        .find(|&(flag, _)| flag == name)
        .map(|(_, token)| token)
}
