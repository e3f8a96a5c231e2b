//! Command lines of the text protocol, checked in memcached's order.

use crate::memcache::error::says;
use crate::memcache::key::{key_end, key_ok};
use crate::memcache::number;
use crate::memcache::request::{Limits, Parsed, Parser, Request};
use crate::memcache::words::{Words, next_word};
use crate::memcache::{Recovery, RequestError, Verb};

/// `get`, `gets`, `gat`, `gats`, which may name any number of keys; the verb
/// ends at `verb_end`.
pub(in crate::memcache) fn parse_get(
    parser: &mut Parser,
    line: &[u8],
    head: usize,
    verb: Verb,
    verb_end: usize,
    limits: &Limits,
) -> Parsed {
    let refuse = |reply| Err(RequestError::new(reply, Recovery::Skip(head)));
    let mut at = verb_end;
    if matches!(verb, Verb::Gat | Verb::Gats) {
        let Some(exptime) = next_word(line, at) else {
            return refuse(says::ERROR);
        };
        at = exptime.end;
        if number::signed(&line[exptime]).is_none() {
            return refuse(says::BAD_EXPTIME);
        }
    }
    let mut sent_end = at;
    loop {
        while line.get(at) == Some(&b' ') {
            at += 1;
        }
        let start = at;
        at = key_end(line, at);
        if at == start && at == line.len() {
            break;
        }
        // Either the key ends here or a byte stands here that no key has.
        if line.get(at).is_some_and(|&b| b != b' ') || at - start > limits.key_max {
            parser.keys.clear();
            return refuse(says::BAD_FORMAT);
        }
        parser.keys.push((start as u32, at as u32));
        sent_end = at;
    }
    if parser.keys.is_empty() {
        // `gat 0` asks for no key, and is told that this is all.
        let gat = matches!(verb, Verb::Gat | Verb::Gats);
        return refuse(if gat { "END" } else { says::ERROR });
    }
    let verb_start = line.iter().position(|&b| b != b' ').unwrap_or(0);
    Ok(Some(Request::plain(verb, head, verb_start..sent_end)))
}

/// Any other text command.
pub(in crate::memcache) fn parse(
    parser: &mut Parser,
    line: &[u8],
    head: usize,
    verb: Verb,
    words: &Words,
    limits: &Limits,
) -> Parsed {
    let shape = Shape::of(verb);
    let last = words.len().saturating_sub(1);
    // A wrong number of words is an error even with `noreply`, because then
    // memcached does not look for it.
    if !(shape.words_min..=shape.words_max).contains(&words.len()) {
        return Err(RequestError::new(says::ERROR, Recovery::Skip(head)));
    }
    let quiet =
        shape.may_be_quiet && last >= shape.quiet_from && words.word(line, last) == b"noreply";
    let refuse = |reply, recovery| Err(RequestError::new(if quiet { "" } else { reply }, recovery));
    let mut kept = if quiet { last } else { words.len() };
    // An administrative line keeps no second `noreply` either.
    while quiet && verb.is_administrative() && kept > 1 && words.word(line, kept - 1) == b"noreply"
    {
        kept -= 1;
    }

    if verb.is_administrative() && kept < shape.words_min {
        return refuse(says::ERROR, Recovery::Skip(head));
    }
    if verb == Verb::Delete {
        let old_form = words.word(line, 2) == b"0";
        if !(kept == 2 || kept == 3 && old_form) {
            return refuse(says::DELETE_USAGE, Recovery::Skip(head));
        }
    }
    if shape.has_key {
        let key = words.word(line, 1);
        if key.len() > limits.key_max {
            return refuse(says::BAD_FORMAT, Recovery::Skip(head));
        }
    }

    let mut body = None;
    match verb {
        Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend | Verb::Cas => {
            let Some(len) = storage_numbers(line, words, verb) else {
                return refuse(says::BAD_FORMAT, Recovery::Skip(head));
            };
            let whole = Recovery::Swallow(head + len + 2);
            if !key_ok_within(words.word(line, 1), limits) {
                return refuse(says::BAD_FORMAT, whole);
            }
            if len > limits.value_max {
                return refuse(says::TOO_LARGE, whole);
            }
            body = Some(len);
            kept = if verb == Verb::Cas { 6 } else { 5 };
        }
        Verb::Incr | Verb::Decr => {
            if number::unsigned(words.word(line, 2)).is_none() {
                return refuse(says::BAD_DELTA, Recovery::Skip(head));
            }
            kept = 3;
        }
        Verb::Touch => {
            if number::signed(words.word(line, 2)).is_none() {
                return refuse(says::BAD_EXPTIME, Recovery::Skip(head));
            }
            kept = 3;
        }
        Verb::FlushAll if kept > 1 => {
            if number::signed(words.word(line, 1)).is_none() {
                return refuse(says::BAD_EXPTIME, Recovery::Skip(head));
            }
            kept = 2;
        }
        Verb::Verbosity => {
            if number::unsigned_32(words.word(line, 1)).is_none() {
                return refuse(says::BAD_FORMAT, Recovery::Skip(head));
            }
            kept = 2;
        }
        Verb::Version | Verb::Quit => kept = 1,
        _ => {}
    }

    if shape.has_key {
        let key = words.range(1);
        if !key_ok_within(&line[key.clone()], limits) {
            return refuse(says::BAD_FORMAT, Recovery::Skip(head));
        }
        parser.keys.push((key.start as u32, key.end as u32));
    }
    // Administrative commands may have more words than are told apart.
    let end = if shape.has_key || kept < words.len() || quiet {
        words.range(kept - 1).end
    } else {
        line.len()
    };
    let sent = words.range(0).start..end;
    Ok(Some(Request {
        body,
        quiet,
        ..Request::plain(verb, head, sent)
    }))
}

/// Flags, expiry, length and unique number of a storage command: the length,
/// if all of them are numbers.
fn storage_numbers(line: &[u8], words: &Words, verb: Verb) -> Option<usize> {
    number::unsigned_32(words.word(line, 2))?;
    number::signed(words.word(line, 3))?;
    if verb == Verb::Cas {
        number::unsigned(words.word(line, 5))?;
    }
    number::length(words.word(line, 4))
}

fn key_ok_within(key: &[u8], limits: &Limits) -> bool {
    key.len() <= limits.key_max && key_ok(key)
}

/// memcached looks for `noreply` among this many words; a longer
/// administrative line is refused so that none can hide.
const WORDS_MAX: usize = 20;

/// What is common to the lines of a text command.
struct Shape {
    words_min: usize,
    words_max: usize,
    has_key: bool,
    may_be_quiet: bool,
    /// The first word that may be `noreply`: before it the word is a key.
    quiet_from: usize,
}

impl Shape {
    fn of(verb: Verb) -> Shape {
        let keyed = |words_min, words_max| Shape {
            words_min,
            words_max,
            has_key: true,
            may_be_quiet: true,
            quiet_from: 2,
        };
        let keyless = |words_min, words_max, may_be_quiet| Shape {
            words_min,
            words_max,
            has_key: false,
            may_be_quiet,
            quiet_from: 1,
        };
        match verb {
            Verb::Set | Verb::Add | Verb::Replace | Verb::Append | Verb::Prepend => keyed(5, 6),
            Verb::Cas => keyed(6, 7),
            Verb::Incr | Verb::Decr | Verb::Touch => keyed(3, 4),
            Verb::Delete => keyed(2, 4),
            Verb::FlushAll => keyless(1, 3, true),
            Verb::Verbosity | Verb::CacheMemlimit => keyless(2, 3, true),
            Verb::Lru | Verb::Extstore => keyless(2, WORDS_MAX, true),
            Verb::Watch | Verb::Slabs | Verb::RefreshCerts => keyless(1, WORDS_MAX, true),
            _ => keyless(1, usize::MAX, false),
        }
    }
}
