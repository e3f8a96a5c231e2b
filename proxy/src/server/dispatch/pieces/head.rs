//! What stands at a key whose value is in pieces: which ones, and what they
//! make together.
//!
//! ```text
//!   bytes   0..8     8..24     24..28   28..32   32..40
//!           magic    version   length   chunk    xxHash64 of the value
//! ```
//!
//! Numbers are little-endian. Every write has a version of its own, by chance,
//! and the keys of its pieces have it in them: a piece is never overwritten, so
//! that whoever has read a head reads the value that it was written with, or
//! finds that a piece is gone.
//!
//! Whatever begins like a head and comes from a client is put in pieces itself,
//! however short it is. So what begins like a head and comes from a server is
//! one, or it is none of ours.

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::ops::Range;

use emberline_protocol::memcache;
use emberline_routing::Pieces;
use emberline_routing::hash::xxhash64;

use super::super::KEPT_MAX;

/// How every head begins.
pub const MAGIC: [u8; 8] = *b"\0pieces\x01";

/// The smallest chunk that a configuration may ask for.
const CHUNK_MIN: usize = 1024;

/// Bytes of an item's key that the keys of its pieces begin with: memcached's
/// keys end at 250, and routes below may want to add to them.
const KEY_KEPT: usize = 160;

/// A value in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    version: [u8; 16],
    len: usize,
    chunk: usize,
    checksum: u64,
}

/// What a value from a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The value.
    Value,
    /// The head of one.
    Head(Head),
    /// It begins like a head, and is none that was ever written.
    Nonsense,
}

impl Head {
    /// For a value that is about to be written in pieces.
    pub fn new(value: &[u8], chunk: usize) -> Head {
        // What std seeds its maps with, by the system's chance.
        let chance = || RandomState::new().hash_one(value.len());
        let mut version = [0; 16];
        version[..8].copy_from_slice(&chance().to_le_bytes());
        version[8..].copy_from_slice(&chance().to_le_bytes());
        Head {
            version,
            len: value.len(),
            chunk,
            checksum: xxhash64::hash(value),
        }
    }

    /// As it is stored.
    pub fn encode(&self) -> [u8; Pieces::HEAD_LEN] {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = [0; Pieces::HEAD_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.version);
        bytes[24..28].copy_from_slice(&small(self.len));
        bytes[28..32].copy_from_slice(&small(self.chunk));
        bytes[32..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; Pieces::HEAD_LEN]) -> Option<Head> {
        let (_, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<16>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (chunk, rest) = rest.split_first_chunk::<4>()?;
        let checksum = rest.first_chunk::<8>()?;
        let small = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
        let head = Head {
            version: *version,
            len: small(len)?,
            chunk: small(chunk)?,
            checksum: u64::from_le_bytes(*checksum),
        };
        // It says how much is to be kept in memory: not more than is written.
        let possible = (1..=KEPT_MAX).contains(&head.len) && head.chunk >= CHUNK_MIN;
        possible.then_some(head)
    }

    /// Bytes of the value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many pieces there are; at least one.
    pub fn count(&self) -> usize {
        self.len.div_ceil(self.chunk)
    }

    /// Which bytes of the value a piece is.
    pub fn range(&self, number: usize) -> Range<usize> {
        let start = number.saturating_mul(self.chunk).min(self.len);
        start..start.saturating_add(self.chunk).min(self.len)
    }

    /// Whether this is the value that was written.
    pub fn is_of(&self, value: &[u8]) -> bool {
        value.len() == self.len && xxhash64::hash(value) == self.checksum
    }

    /// A piece's key: the beginning of the item's, so that routes and tools see
    /// what it belongs to, the piece's number and the version. `plain` keys have
    /// no bytes that a line of memcached cannot hold.
    ///
    /// The number is not the end: keys that differ in their last byte alone are
    /// neighbours on a ring of FNV hashes, and all pieces would be on one server.
    pub fn key(&self, item: &[u8], number: usize, plain: bool) -> Vec<u8> {
        let kept = item.get(..KEY_KEPT).unwrap_or(item);
        let line_holds = |byte: &u8| memcache::key_ok(std::slice::from_ref(byte));
        let each = kept.iter().map(|byte| match plain && !line_holds(byte) {
            true => b'_',
            false => *byte,
        });
        let mut name = String::with_capacity(48);
        let version = u128::from_be_bytes(self.version);
        // Writing to a text cannot fail.
        let _ = write!(name, "~{number}~{version:032x}");
        each.chain(name.into_bytes()).collect()
    }
}

impl Found {
    /// What this value is.
    pub fn of(value: &[u8]) -> Found {
        if !value.starts_with(&MAGIC) {
            return Found::Value;
        }
        let head = <&[u8; Pieces::HEAD_LEN]>::try_from(value).ok();
        head.and_then(Head::decode)
            .map_or(Found::Nonsense, Found::Head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(len: usize, chunk: usize) -> Head {
        Head::new(&vec![7; len], chunk)
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for (len, count) in [
            (1, 1),
            (1024, 1),
            (1025, 2),
            (10_240, 10),
            (KEPT_MAX, 32_768),
        ] {
            let head = head(len, 1024);
            assert_eq!(Found::of(&head.encode()), Found::Head(head));
            assert_eq!(head.count(), count);
            let sizes = (0..count).map(|number| head.range(number).len());
            assert_eq!(sizes.sum::<usize>(), len);
            assert_eq!(head.range(count), len..len);
        }
        let value = vec![7; 5000];
        assert!(head(5000, 1024).is_of(&value));
        assert!(!head(5000, 1024).is_of(&value[1..]));
        assert!(!head(5000, 1024).is_of(&[&value[1..], b"x"].concat()));
        assert_ne!(head(5000, 1024), head(5000, 1024), "a version each");
    }

    #[test]
    fn a_hostile_head_is_nonsense() {
        let good = head(5000, 1024).encode();
        let with = |at: usize, bytes: &[u8]| {
            let mut head = good;
            head[at..at + bytes.len()].copy_from_slice(bytes);
            Found::of(&head)
        };
        for (at, bytes) in [
            (24, [0; 4]),
            (24, [0xff; 4]),
            (24, (KEPT_MAX as u32 + 1).to_le_bytes()),
            (28, [0; 4]),
            (28, 1023u32.to_le_bytes()),
        ] {
            assert_eq!(with(at, &bytes), Found::Nonsense, "{at} {bytes:?}");
        }
        assert!(matches!(with(28, &[0xff; 4]), Found::Head(head) if head.count() == 1));
        for len in 0..good.len() {
            let short = Found::of(&good[..len]);
            let wanted = match len < MAGIC.len() {
                true => Found::Value,
                false => Found::Nonsense,
            };
            assert_eq!(short, wanted, "{len}");
        }
        let long = [&good[..], b"x"].concat();
        assert_eq!(Found::of(&long), Found::Nonsense);
        assert_eq!(with(0, b"x"), Found::Value);
    }

    #[test]
    fn no_head_promises_more_than_there_may_be() {
        let good = head(5000, 1024).encode();
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut head = good;
                head[at] = byte;
                let Found::Head(head) = Found::of(&head) else {
                    continue;
                };
                assert!(head.len() <= KEPT_MAX && head.count() <= 32_768, "{head:?}");
                let last = head.range(head.count() - 1);
                assert!(!last.is_empty() && last.end == head.len(), "{head:?}");
            }
        }
    }

    #[test]
    fn keys_of_pieces_fit_a_line_and_tell_pieces_apart() {
        let head = head(KEPT_MAX, 1024);
        let long = head.key(&[b'k'; 250], 32_767, true);
        assert!(
            memcache::key_ok(&long) && long.len() <= 250 - 48,
            "{}",
            long.len()
        );
        let binary = head.key(b"a b\0\x7f\xff", 1, true);
        assert!(memcache::key_ok(&binary), "{binary:?}");
        assert!(binary.starts_with(b"a_b__\xff~"));
        assert!(head.key(b"a b", 1, false).starts_with(b"a b~"));
        assert_ne!(head.key(b"k", 1, true), head.key(b"k", 11, true));
        assert_ne!(
            head.key(b"k", 1, true),
            self::head(9, 1024).key(b"k", 1, true)
        );
    }
}
