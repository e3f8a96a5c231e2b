//! The hash functions that pools may be configured with.
//!
//! All of them yield 32 bits and are bit-exact with twemproxy's, whatever
//! their names say: its `fnv1a_64` computes in 32 bits, its `crc16` keeps
//! more than 16 and its `crc32` keeps 15. Each file holds one family; the
//! golden vectors are at the end of this one.

use std::fmt;
use std::str::FromStr;

use crate::UnknownName;

mod crc16;
mod crc32;
mod fnv;
mod hsieh;
mod jenkins;
mod md5;
mod murmur;
pub(crate) mod murmur64;
mod one_at_a_time;
pub(crate) mod spooky;
pub mod xxhash64;

pub(crate) use self::crc16::xmodem as crc16_xmodem;
pub(crate) use self::md5::words as md5_words;

/// A hash function over key bytes.
#[allow(
    non_camel_case_types,
    reason = "the widths read as in the configuration"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, core::hash::Hash, Default)]
pub enum Hash {
    /// Jenkins' one-at-a-time.
    OneAtATime,
    /// The first four bytes of an MD5 digest, little-endian.
    Md5,
    /// A CRC-16 that is never cut to 16 bits.
    Crc16,
    /// Fifteen bits out of a CRC-32. Nearly useless with ketama.
    Crc32,
    /// A whole CRC-32.
    Crc32a,
    /// FNV-1, 32 bit.
    Fnv1_32,
    /// FNV-1a, 32 bit.
    Fnv1a_32,
    /// FNV-1 with the 64-bit seed and prime, cut to 32 bits.
    Fnv1_64,
    /// FNV-1a with the 64-bit seed and prime, cut to 32 bits.
    #[default]
    Fnv1a_64,
    /// Hsieh's SuperFastHash.
    Hsieh,
    /// Jenkins' lookup3.
    Jenkins,
    /// MurmurHash2, seeded with the length.
    Murmur,
}

/// How a hash widens bytes from 0x80 up.
///
/// twemproxy casts them to C's `char`, which is signed on x86: 0xe9 becomes
/// 0xffffffe9. Overlord, written in Go, leaves them unsigned. ASCII keys hash
/// the same either way; `md5`, the CRCs, `jenkins` and `murmur` always do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, core::hash::Hash, Default)]
pub enum ByteSign {
    /// Sign-extend, as twemproxy on x86.
    #[default]
    Signed,
    /// Zero-extend, as Overlord.
    Unsigned,
}

impl Hash {
    /// Every hash, in the order of the documentation.
    pub const ALL: [Hash; 12] = [
        Hash::OneAtATime,
        Hash::Md5,
        Hash::Crc16,
        Hash::Crc32,
        Hash::Crc32a,
        Hash::Fnv1_64,
        Hash::Fnv1a_64,
        Hash::Fnv1_32,
        Hash::Fnv1a_32,
        Hash::Hsieh,
        Hash::Murmur,
        Hash::Jenkins,
    ];

    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Hash::OneAtATime => "one_at_a_time",
            Hash::Md5 => "md5",
            Hash::Crc16 => "crc16",
            Hash::Crc32 => "crc32",
            Hash::Crc32a => "crc32a",
            Hash::Fnv1_32 => "fnv1_32",
            Hash::Fnv1a_32 => "fnv1a_32",
            Hash::Fnv1_64 => "fnv1_64",
            Hash::Fnv1a_64 => "fnv1a_64",
            Hash::Hsieh => "hsieh",
            Hash::Jenkins => "jenkins",
            Hash::Murmur => "murmur",
        }
    }

    /// The hash of `key`.
    #[inline]
    pub fn hash(self, key: &[u8], sign: ByteSign) -> u32 {
        match sign {
            ByteSign::Signed => self.hash_widened(key, |byte| byte as i8 as u32),
            ByteSign::Unsigned => self.hash_widened(key, u32::from),
        }
    }

    #[inline]
    fn hash_widened(self, key: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
        match self {
            Hash::Fnv1a_64 => fnv::fnv1a(key, fnv::BASIS_64, fnv::PRIME_64, widen),
            Hash::Fnv1_64 => fnv::fnv1(key, fnv::BASIS_64, fnv::PRIME_64, widen),
            Hash::Fnv1a_32 => fnv::fnv1a(key, fnv::BASIS_32, fnv::PRIME_32, widen),
            Hash::Fnv1_32 => fnv::fnv1(key, fnv::BASIS_32, fnv::PRIME_32, widen),
            Hash::OneAtATime => one_at_a_time::hash(key, widen),
            Hash::Hsieh => hsieh::hash(key, widen),
            Hash::Md5 => md5::hash(key),
            Hash::Crc16 => crc16::untruncated(key),
            Hash::Crc32 => (crc32::hash(key) >> 16) & 0x7fff,
            Hash::Crc32a => crc32::hash(key),
            Hash::Jenkins => jenkins::hash(key),
            Hash::Murmur => murmur::hash(key),
        }
    }
}

impl ByteSign {
    /// Both, the default first.
    pub const ALL: [ByteSign; 2] = [ByteSign::Signed, ByteSign::Unsigned];

    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            ByteSign::Signed => "signed",
            ByteSign::Unsigned => "unsigned",
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ByteSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hash {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Hash, UnknownName> {
        UnknownName::find("hash", name, &Hash::ALL, Hash::name)
    }
}

impl FromStr for ByteSign {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<ByteSign, UnknownName> {
        UnknownName::find("byte sign", name, &ByteSign::ALL, ByteSign::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: twemproxy, `src/test_all.c`.
    #[test]
    fn apple() {
        let check = |hash: Hash, value: u32| {
            for sign in ByteSign::ALL {
                assert_eq!(hash.hash(b"apple", sign), value, "{hash} {sign}");
            }
        };
        check(Hash::OneAtATime, 2297466611);
        check(Hash::Md5, 3195025439);
        check(Hash::Crc16, 3662830516);
        check(Hash::Crc32, 10542);
        check(Hash::Crc32a, 2838417488);
        check(Hash::Fnv1_32, 67176023);
        check(Hash::Fnv1a_32, 280767167);
        check(Hash::Fnv1_64, 473199127);
        check(Hash::Fnv1a_64, 1488911807);
        check(Hash::Hsieh, 3738850110);
        check(Hash::Jenkins, 1442444624);
        check(Hash::Murmur, 4142305122);
    }

    /// Source: Overlord, `lib/hashkit`.
    #[test]
    fn digits() {
        let check = |hash: Hash, value: u32| {
            assert_eq!(
                hash.hash(b"0123456789", ByteSign::Unsigned),
                value,
                "{hash}"
            );
        };
        check(Hash::Fnv1a_64, 2336436402);
        check(Hash::Md5, 610147960);
        check(Hash::Murmur, 1957635836);
    }

    #[test]
    fn bytes_from_0x80_up_differ_by_sign_where_c_casts_to_char() {
        let cafe = "café".as_bytes();
        assert_eq!(Hash::Fnv1a_64.hash(cafe, ByteSign::Signed), 3472276361);
        assert_eq!(Hash::Fnv1a_64.hash(cafe, ByteSign::Unsigned), 3483635081);
        for hash in Hash::ALL {
            let differs =
                hash.hash(b"ab\xff", ByteSign::Signed) != hash.hash(b"ab\xff", ByteSign::Unsigned);
            let casts = matches!(
                hash,
                Hash::OneAtATime
                    | Hash::Fnv1_32
                    | Hash::Fnv1a_32
                    | Hash::Fnv1_64
                    | Hash::Fnv1a_64
                    | Hash::Hsieh
            );
            assert_eq!(differs, casts, "{hash}");
        }
    }

    #[test]
    fn every_length_is_hashed() {
        let key: Vec<u8> = (0..=255).collect();
        for hash in Hash::ALL {
            for length in 0..key.len() {
                for sign in ByteSign::ALL {
                    hash.hash(&key[..length], sign);
                }
            }
        }
    }

    #[test]
    fn names_are_read_back() {
        for hash in Hash::ALL {
            assert_eq!(hash.name().parse(), Ok(hash));
        }
        let error = "fnv".parse::<Hash>().unwrap_err().to_string();
        assert!(error.starts_with("unknown hash \"fnv\", expected one of one_at_a_time, md5"));
        assert_eq!("unsigned".parse(), Ok(ByteSign::Unsigned));
    }
}
