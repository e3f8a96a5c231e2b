//! Replies of the text protocol.

use crate::memcache::number;
use crate::memcache::reply::Shape;

/// What a reply line that begins with `word` looks like.
pub(in crate::memcache) fn shape(word: &[u8]) -> Option<Shape> {
    Some(match word {
        b"VALUE" => Shape::Value,
        b"STAT" | b"ITEM" | b"PREFIX" => Shape::Item,
        b"END"
        | b"STORED"
        | b"NOT_STORED"
        | b"EXISTS"
        | b"NOT_FOUND"
        | b"DELETED"
        | b"TOUCHED"
        | b"OK"
        | b"RESET"
        | b"VERSION"
        | b"BUSY"
        | b"BADCLASS"
        | b"NOSPARE"
        | b"NOTFULL"
        | b"UNSAFE"
        | b"SAME"
        | b"NOTSTARTED"
        | b"MEMLIMIT_TOO_SMALL"
        | b"MEMLIMIT_ADJUST_FAILED"
        | b"WATCHER_TOO_MANY"
        | b"WATCHER_FAILED"
        | b"Error" => Shape::Line,
        // What `incr` and `decr` answer.
        _ if number::unsigned(word).is_some() => Shape::Line,
        _ => return None,
    })
}

/// The size of the data block that a `VALUE` line announces.
pub(in crate::memcache) fn data_len(line: &[u8]) -> Option<usize> {
    let mut words = super::super::tokens(line).skip(2);
    number::unsigned(words.next()?)?;
    number::length(words.next()?)
}
