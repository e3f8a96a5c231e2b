//! A request line with another key or another expiry, and a reply line with
//! the key that the client knows.
//!
//! ```text
//!   client   mg user:1 v k T600          VA 3 kuser:1
//!                 | edit                       ^ restore_key
//!   server   mg eu/user:1 v k T10        VA 3 keu/user:1
//! ```
//!
//! A line is a row of words, and the verb says which of them are keys, which
//! an expiry. All others, and the spaces between them, stay as they are; the
//! data block is not touched at all. The expiry of `append` and `prepend`,
//! which memcached ignores, stays, too.
//!
//! What has no expiry has none to change: `incr`, `delete`, a plain `get`.
//! `mg` stores nothing unless it is told to by `N`; that life is the life of
//! a lease's stub and not of an item, so a rule may only shorten it.

use std::ops::Range;
use std::time::Duration;

use super::key::KEY_MAX;
use super::words::{next_word, without_end};
use super::{Dialect, Request, Verb, base64, expiry, flag, forward, key_ok};
use crate::edit::{Edit, Rename, TtlRule};

/// Why a request cannot be edited. The client's key is fine; the key that it
/// became is none that memcached takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Nothing was left of it.
    #[error("the edited key is empty, which memcached does not take")]
    KeyEmpty,
    /// In base64, if that is how it is written.
    #[error("the edited key would be written in {0} bytes, and memcached takes at most {KEY_MAX}")]
    KeyTooLong(usize),
    /// It would end the line, or the key, early.
    #[error("the edited key has a space or a control character in it, at byte {0}")]
    KeyByte(usize),
}

/// Appends the command line for a server as [`forward`] does, `noreply` and
/// `q` removed, but with the keys and the expiry that `edit` makes of them.
/// The data block is appended by the caller.
///
/// `buf` is what was given to the parser, `now` the wall clock as the time
/// since 1970 began. After an error nothing has been appended.
pub fn edit(
    buf: &[u8],
    request: &Request,
    edit: &Edit,
    now: Duration,
    out: &mut Vec<u8>,
) -> Result<(), EditError> {
    let start = out.len();
    let mut line = Vec::with_capacity(request.head);
    forward(&mut line, buf, request);
    let line = line.strip_suffix(b"\r\n").unwrap_or(&line);
    let edited = write(line, request, edit, now, out);
    match edited {
        Ok(()) => out.extend_from_slice(b"\r\n"),
        Err(_) => out.truncate(start),
    }
    edited
}

fn write(
    line: &[u8],
    request: &Request,
    edit: &Edit,
    now: Duration,
    out: &mut Vec<u8>,
) -> Result<(), EditError> {
    let (mut index, mut written) = (0, 0);
    while let Some(range) = next_word(line, written) {
        out.extend_from_slice(&line[written..range.start]);
        let word = &line[range.clone()];
        match (Part::of(request.verb, index, word), edit.key, edit.ttl) {
            (Part::Key, Some(rename), _) => key(word, request.base64, rename, out)?,
            (Part::Exptime { prefix, stub }, _, Some(rule)) if !stub || is_cap(rule) => {
                let (flag, exptime) = word.split_at(prefix);
                out.extend_from_slice(flag);
                match expiry::ruled(exptime, rule, now) {
                    Some(ruled) => super::encode::number(out, ruled),
                    None => out.extend_from_slice(exptime),
                }
            }
            _ => out.extend_from_slice(word),
        }
        written = range.end;
        index += 1;
    }
    out.extend_from_slice(&line[written..]);
    if let Some(rule) = edit.ttl.filter(|_| stores_forever(line, request.verb))
        && let Some(ruled) = expiry::ruled(b"0", rule, now)
    {
        out.extend_from_slice(b" T");
        super::encode::number(out, ruled);
    }
    Ok(())
}

fn is_cap(rule: TtlRule) -> bool {
    matches!(rule, TtlRule::Cap(_))
}

/// What a word of a command line is.
enum Part {
    Key,
    /// An expiry behind this many bytes of flag; `stub` if it is not the life
    /// of an item.
    Exptime {
        prefix: usize,
        stub: bool,
    },
    Other,
}

impl Part {
    fn of(verb: Verb, index: usize, word: &[u8]) -> Part {
        const ALL: usize = usize::MAX;
        let (keys, exptime) = match verb {
            Verb::Get | Verb::Gets => (1..ALL, 0),
            Verb::Gat | Verb::Gats => (2..ALL, 1),
            Verb::Set | Verb::Add | Verb::Replace | Verb::Cas => (1..2, 3),
            Verb::Touch => (1..2, 2),
            Verb::Append | Verb::Prepend | Verb::Delete | Verb::Incr | Verb::Decr => (1..2, 0),
            Verb::MetaGet | Verb::MetaDelete | Verb::MetaArithmetic if index > 1 => {
                return Part::of_flag(verb, word);
            }
            Verb::MetaSet if index > 2 => return Part::of_flag(verb, word),
            _ if verb.dialect() == Dialect::Meta => (1..2, 0),
            _ => (0..0, 0),
        };
        match index {
            0 => Part::Other,
            index if keys.contains(&index) => Part::Key,
            index if index == exptime => Part::Exptime {
                prefix: 0,
                stub: false,
            },
            _ => Part::Other,
        }
    }

    fn of_flag(verb: Verb, word: &[u8]) -> Part {
        match word.first() {
            Some(b'T' | b'N') => Part::Exptime {
                prefix: 1,
                stub: verb == Verb::MetaGet && word.first() == Some(&b'N'),
            },
            _ => Part::Other,
        }
    }
}

/// Whether this is an `ms` that stores an item for ever by saying nothing:
/// without `T`, and not to append or prepend to an item with a life of its own.
fn stores_forever(line: &[u8], verb: Verb) -> bool {
    verb == Verb::MetaSet
        && flag(line, verb, b'T').is_none()
        && !matches!(
            flag(line, verb, b'M').and_then(<[u8]>::first),
            Some(b'A' | b'a' | b'P' | b'p')
        )
}

/// Appends a key as it is written, in base64 if the one in the request was.
fn key(
    token: &[u8],
    in_base64: bool,
    rename: Rename<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EditError> {
    let mut decoded = Vec::new();
    let given = match in_base64 {
        // The parser has seen that it is base64.
        true if base64::decode(&mut decoded, token).is_some() => &decoded[..],
        _ => token,
    };
    let mut renamed = Vec::with_capacity(given.len() + 32);
    rename(given, &mut renamed);
    if renamed == given {
        out.extend_from_slice(token);
        return Ok(());
    }
    check(&renamed, in_base64)?;
    match in_base64 {
        true => base64::encode(out, &renamed),
        false => out.extend_from_slice(&renamed),
    }
    Ok(())
}

/// Whether memcached takes this key, written plainly or in base64.
pub(super) fn check(key: &[u8], in_base64: bool) -> Result<(), EditError> {
    let len = match in_base64 {
        true => key.len().div_ceil(3) * 4,
        false => key.len(),
    };
    match len {
        0 => return Err(EditError::KeyEmpty),
        len if len > KEY_MAX => return Err(EditError::KeyTooLong(len)),
        _ if in_base64 => return Ok(()),
        _ => {}
    }
    match super::key::key_end(key, 0) {
        end if end == key.len() => Ok(()),
        end => Err(EditError::KeyByte(end)),
    }
}

/// Appends the first line of a reply with the client's own key where a server
/// names the one that it was sent: in `VALUE`, behind the meta flag `k`, in
/// the answer to `me`. Everything else is appended as it came, also a line
/// that names no key.
///
/// `line` is the reply's first line, whole, with its line end; what follows it
/// names no key if one key was asked for. `key` is the key as the client wrote
/// it, and `in_base64` whether that is base64 ([`Request::base64`]). A server
/// answers in the encoding that the *item* was stored with (memcached 1.6.18),
/// which the line says by its flag `b`, so the key is written in that one.
pub fn restore_key(verb: Verb, line: &[u8], key: &[u8], in_base64: bool, out: &mut Vec<u8>) {
    let Some(place) = named(verb, line) else {
        return out.extend_from_slice(line);
    };
    out.extend_from_slice(&line[..place.start]);
    let line_base64 = match verb.dialect() {
        Dialect::Meta if verb != Verb::MetaDebug => super::tokens(line).any(|word| word == b"b"),
        _ => in_base64,
    };
    let mut decoded = Vec::new();
    match (in_base64, line_base64) {
        (false, true) => base64::encode(out, key),
        (true, false) if base64::decode(&mut decoded, key).is_some() && key_ok(&decoded) => {
            out.extend_from_slice(&decoded);
        }
        // A key that no line can hold plainly: say that it is not plain.
        (true, false) => {
            out.extend_from_slice(key);
            out.extend_from_slice(b" b");
        }
        _ => out.extend_from_slice(key),
    }
    out.extend_from_slice(&line[place.end..]);
}

/// Where the key stands in a reply line.
fn named(verb: Verb, line: &[u8]) -> Option<Range<usize>> {
    let text = without_end(line);
    let first = next_word(text, 0)?;
    let mut words =
        std::iter::successors(next_word(text, first.end), |word| next_word(text, word.end));
    match (verb, &text[first]) {
        (Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats, b"VALUE") => words.next(),
        (Verb::MetaDebug, b"ME") => words.next(),
        (
            Verb::MetaGet | Verb::MetaSet | Verb::MetaDelete | Verb::MetaArithmetic,
            b"VA" | b"HD" | b"EN" | b"NF" | b"NS" | b"EX",
        ) => {
            let flag = words.find(|word| text[word.start] == b'k')?;
            Some(flag.start + 1..flag.end)
        }
        _ => None,
    }
}
