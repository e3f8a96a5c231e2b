//! Replies in the place of a server's: that a key is not there, and that a
//! write is being done. The same as `redis/unsaid.rs` says in Redis' words.
//!
//! A meta reply brings back the opaque token and the key where the request
//! asks for them, or a client could not tell whose reply it is.

use super::meta::request::flags;
use super::verb::{Dialect, Verb};
use super::words::tokens;
use crate::Kind;

/// Append what a request is answered if its key is not there. `line` is the
/// request's command line.
pub fn missing(verb: Verb, line: &[u8], out: &mut Vec<u8>) {
    let word = match (verb, verb.kind()) {
        (Verb::MetaGet, _) => "EN",
        (Verb::MetaSet, _) => "NS",
        (Verb::MetaDelete | Verb::MetaArithmetic, _) => "NF",
        (Verb::Gat | Verb::Gats, _) | (_, Kind::Read | Kind::Other) => "END",
        (Verb::Cas, _) | (_, Kind::Delete | Kind::Touch | Kind::Counter) => "NOT_FOUND",
        (_, Kind::Write) => "NOT_STORED",
    };
    say(verb, word, line, out);
}

/// Append what a request is answered if it has been done, where that is one
/// thing for all keys and values; whether it is.
pub fn accepted(verb: Verb, line: &[u8], out: &mut Vec<u8>) -> bool {
    let word = match verb {
        Verb::Set => "STORED",
        Verb::Delete => "DELETED",
        Verb::Touch => "TOUCHED",
        Verb::MetaDelete => "HD",
        // Another flag asks for something of the item, or makes the write
        // depend on it.
        Verb::MetaSet if flags(line, verb).all(|(flag, _)| b"OkbqTFS".contains(&flag)) => "HD",
        _ => return false,
    };
    say(verb, word, line, out);
    true
}

fn say(verb: Verb, word: &str, line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(word.as_bytes());
    if verb.dialect() == Dialect::Meta {
        let base64 = flags(line, verb).any(|(flag, _)| flag == b'b');
        for (flag, token) in flags(line, verb) {
            match flag {
                b'O' => {
                    out.extend_from_slice(b" O");
                    out.extend_from_slice(token);
                }
                b'k' => {
                    out.extend_from_slice(b" k");
                    out.extend_from_slice(tokens(line).nth(1).unwrap_or_default());
                    // Said of the key that is told, and only then.
                    out.extend_from_slice(if base64 { b" b" } else { b"" });
                }
                _ => {}
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}
