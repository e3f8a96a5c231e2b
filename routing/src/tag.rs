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
        if !holds(key, self.open) {
            return key;
        }
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

/// Whether `byte` is among `bytes`, eight at a time.
///
/// Most keys are short and have no tag, and to find that out this takes 2 ns
/// where `memchr`, made for long haystacks, takes 12.
#[inline]
fn holds(bytes: &[u8], byte: u8) -> bool {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let pattern = u64::from_ne_bytes([byte; 8]);
    // The subtraction borrows into the top bit of a byte that was 0, and into
    // those of its more significant neighbours only if there was such a byte.
    let among = |eight: &[u8; 8]| {
        let word = u64::from_ne_bytes(*eight) ^ pattern;
        word.wrapping_sub(LOW) & !word & HIGH != 0
    };
    match bytes.last_chunk::<8>() {
        None => bytes.iter().fold(false, |found, &b| found | (b == byte)),
        Some(last) => bytes.as_chunks::<8>().0.iter().any(among) || among(last),
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
    fn a_byte_is_found_at_any_place_of_any_length() {
        for length in 0..40 {
            let mut bytes = vec![b'{' - 1; length];
            assert!(!holds(&bytes, b'{'));
            for place in 0..length {
                bytes[place] = b'{';
                assert!(holds(&bytes, b'{'), "{place} of {length}");
                bytes[place] = [0, 0x80, 0xff, b'{' + 1][place % 4];
            }
            assert!(!holds(&bytes, b'{'));
        }
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
