//! Hash tags: the part of a key that decides its server.
//!
//! With the tag `{}` the keys `{user:1}:cart` and `{user:1}:seen` hash the
//! same bytes, `user:1`, and so live on one server, where commands over both
//! of them work.

use memchr::memchr;

/// The two bytes that enclose the part of a key to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashTag {
    /// The byte in front of the tag.
    pub open: u8,
    /// The byte behind it; may equal `open`.
    pub close: u8,
    /// What to hash when nothing stands between the two.
    pub empty: EmptyTag,
}

/// What a key such as `a{}b` hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EmptyTag {
    /// The whole key, as Redis Cluster, twemproxy and Envoy do.
    #[default]
    WholeKey,
    /// The empty string, as Overlord does: all such keys share one server.
    Nothing,
}

impl HashTag {
    /// The tag of Redis Cluster, `{}`.
    pub const BRACES: HashTag = HashTag::new(b'{', b'}');

    /// A tag between two bytes; an empty one hashes the whole key.
    pub const fn new(open: u8, close: u8) -> HashTag {
        HashTag {
            open,
            close,
            empty: EmptyTag::WholeKey,
        }
    }

    /// The part of `key` to hash: from behind the first `open` to the first
    /// `close` after it, or all of it where either is missing.
    #[inline]
    pub fn hashed_part<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        let Some(open) = memchr(self.open, key) else {
            return key;
        };
        let inside = &key[open + 1..];
        match memchr(self.close, inside) {
            None => key,
            Some(0) if self.empty == EmptyTag::WholeKey => key,
            Some(close) => &inside[..close],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tag: HashTag, key: &str, part: &str) {
        assert_eq!(
            tag.hashed_part(key.as_bytes()),
            part.as_bytes(),
            "{tag:?} {key}"
        );
    }

    #[test]
    fn cuts_the_first_tag_out() {
        let braces = HashTag::BRACES;
        check(braces, "user:1", "user:1");
        check(braces, "{user:1}:cart", "user:1");
        check(braces, "cart:{user:1}", "user:1");
        check(braces, "a{b}c{d}", "b");
        check(braces, "a{{b}}c", "{b");
        check(braces, "a}b{c", "a}b{c");
        check(braces, "a}b{c}", "c");
        check(braces, "a{b", "a{b");
        check(braces, "", "");
    }

    #[test]
    fn equal_bytes_enclose_too() {
        check(HashTag::new(b'$', b'$'), "a$b$c", "b");
        check(HashTag::new(b'$', b'$'), "a$b", "a$b");
    }

    #[test]
    fn an_empty_tag_hashes_the_key_or_nothing() {
        check(HashTag::BRACES, "a{}b", "a{}b");
        check(HashTag::BRACES, "a{}b{c}", "a{}b{c}");
        let overlord = HashTag {
            empty: EmptyTag::Nothing,
            ..HashTag::BRACES
        };
        check(overlord, "a{}b", "");
        check(overlord, "a{b}c", "b");
    }
}
