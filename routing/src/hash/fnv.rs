//! Fowler-Noll-Vo, as twemproxy computes it: always in 32 bits.
//!
//! The `_64` forms have the seed and the prime of the 64-bit function. Only
//! the low half of a product is ever looked at, and it depends on nothing but
//! the low halves of its factors, so 32 bits of each are enough.

pub const BASIS_32: u32 = 0x811c_9dc5;
pub const PRIME_32: u32 = 0x0100_0193;
/// The low half of 0xcbf29ce484222325.
pub const BASIS_64: u32 = 0x8422_2325;
/// The low half of 0x100000001b3.
pub const PRIME_64: u32 = 0x0000_01b3;

/// Multiply, then mix the byte in.
#[inline]
pub fn fnv1(key: &[u8], basis: u32, prime: u32, widen: impl Fn(u8) -> u32) -> u32 {
    key.iter()
        .fold(basis, |hash, &byte| hash.wrapping_mul(prime) ^ widen(byte))
}

/// Mix the byte in, then multiply.
#[inline]
pub fn fnv1a(key: &[u8], basis: u32, prime: u32, widen: impl Fn(u8) -> u32) -> u32 {
    key.iter().fold(basis, |hash, &byte| {
        (hash ^ widen(byte)).wrapping_mul(prime)
    })
}
