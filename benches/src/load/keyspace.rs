//! Which bytes a key and its value are.
//!
//! A value begins with the name of its key and goes on with a fixed pattern
//! that depends on the position, so that any reply that belongs to another
//! key, is cut short or is shifted by a byte is seen (`--verify`).

use super::sizes::Sizes;

/// Bytes of a key's name.
pub const NAME_LEN: usize = 16;

/// A prime, so that the pattern does not line up with buffer sizes.
const PATTERN_LEN: usize = 8191;

/// Names and values of the keys `0..`.
#[derive(Clone, Debug)]
pub struct Keyspace {
    sizes: Sizes,
    pattern: Vec<u8>,
}

impl Keyspace {
    /// Values of these sizes.
    pub fn new(sizes: Sizes) -> Keyspace {
        let pattern = (0..PATTERN_LEN)
            .map(|i| b'a' + (i * i % 23) as u8)
            .collect();
        Keyspace { sizes, pattern }
    }

    /// How many bytes this key's value has.
    pub fn value_len(&self, key: u64) -> u64 {
        self.sizes.of(key)
    }

    /// Append the whole value.
    pub fn append_value(&self, key: u64, out: &mut Vec<u8>) {
        let mut left = self.value_len(key) as usize;
        let head = left.min(NAME_LEN);
        out.extend_from_slice(&name(key)[..head]);
        left -= head;
        while left > 0 {
            let take = left.min(PATTERN_LEN);
            out.extend_from_slice(&self.pattern[..take]);
            left -= take;
        }
    }

    /// Whether `chunk` is what the value has at `offset`.
    pub fn matches(&self, key: u64, offset: u64, chunk: &[u8]) -> bool {
        let mut at = offset as usize;
        let mut rest = chunk;
        if at < NAME_LEN {
            let take = rest.len().min(NAME_LEN - at);
            if rest[..take] != name(key)[at..at + take] {
                return false;
            }
            rest = &rest[take..];
            at += take;
        }
        while !rest.is_empty() {
            let from = (at - NAME_LEN) % PATTERN_LEN;
            let take = rest.len().min(PATTERN_LEN - from);
            if rest[..take] != self.pattern[from..from + take] {
                return false;
            }
            rest = &rest[take..];
            at += take;
        }
        true
    }
}

/// The name of a key: fixed length, legal in both protocols, no hash tag.
pub fn name(key: u64) -> [u8; NAME_LEN] {
    let mut name = *b"key:000000000000";
    let mut left = key;
    for digit in name[4..].iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    name
}

/// The key that a name names.
pub fn parse_name(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(b"key:")?;
    if digits.len() != NAME_LEN - 4 {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!(&name(1234), b"key:000000001234");
        assert_eq!(parse_name(&name(987_654_321)), Some(987_654_321));
        assert_eq!(parse_name(b"key:1"), None);
        assert_eq!(parse_name(b"key:00000000123x"), None);
    }

    #[test]
    fn a_value_matches_itself_in_any_cut_and_no_other() {
        for size in [0, 5, 16, 17, 64, 20_000] {
            let keyspace = Keyspace::new(Sizes::Fixed(size));
            let mut value = Vec::new();
            keyspace.append_value(7, &mut value);
            assert_eq!(value.len() as u64, size);
            for cut in [0, 1, 15, 16, 17, 8191, 8207, 8208]
                .into_iter()
                .filter(|&c| c <= value.len())
            {
                assert!(keyspace.matches(7, 0, &value[..cut]), "{size} {cut}");
                assert!(
                    keyspace.matches(7, cut as u64, &value[cut..]),
                    "{size} {cut}"
                );
            }
            if size >= 16 {
                assert!(!keyspace.matches(8, 0, &value));
            }
            if size == 64 {
                assert!(!keyspace.matches(7, 20, &value[21..]));
            }
        }
    }
}
