//! Replies of the meta protocol.

use crate::memcache::number;
use crate::memcache::reply::Shape;

/// What a reply line that begins with `word` looks like.
pub(in crate::memcache) fn shape(word: &[u8]) -> Option<Shape> {
    Some(match word {
        b"VA" => Shape::MetaValue,
        b"HD" | b"EN" | b"NF" | b"NS" | b"EX" | b"ME" | b"MN" => Shape::Line,
        _ => return None,
    })
}

/// The size of the data block that a `VA` line announces.
pub(in crate::memcache) fn data_len(line: &[u8]) -> Option<usize> {
    number::length(super::super::tokens(line).nth(1)?)
}
