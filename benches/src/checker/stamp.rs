//! Keys, and values that say which write they come from.
//!
//! A value is `key|writer|seq|padding`. Its length and every byte of its
//! padding follow from the key and the number, so that a value which is cut
//! short, or sewn together from two, cannot pass for either.

use std::fmt;

use crate::load::rng::mix;

/// The relay can be told to hold the connection on which this passes.
pub const HOLD: &str = "#hold#";

/// The writer that no key has: what it writes must never be read.
pub const STRANGER: u8 = 99;

/// One key: the place it takes among the keys of a run, and how many keys
/// have been given up in that place before.
///
/// A key is given up when a write to it ends in doubt. The write may take
/// effect at any later time, even after a later write that was acknowledged,
/// and then nobody could say any more which value is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its place.
    pub slot: u16,
    /// How many were in this place before it.
    pub turn: u16,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check:{}:{}", self.slot, self.turn)
    }
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is nobody's, or parts of it are missing or another's.
    Torn,
    /// It belongs to another key.
    OtherKey,
    /// It is from somebody who does not write this key.
    OtherWriter,
}

/// The value of the write with this number; `held` lets the relay know it.
pub fn value(key: Key, writer: u8, seq: u32, held: bool) -> Vec<u8> {
    let mark = if held { HOLD } else { "" };
    let mut value = format!("{key}|{writer}|{seq}|{mark}").into_bytes();
    value.extend(padding(key, seq));
    value
}

/// The number of the write that this value of `key` comes from.
///
/// # Errors
/// When it is not a value that `writer` wrote to `key`.
pub fn parse(key: Key, writer: u8, value: &[u8]) -> Result<u32, Wrong> {
    let mut parts = value.splitn(4, |&byte| byte == b'|');
    let name = parts.next().unwrap_or_default();
    let by = number(parts.next()).ok_or(Wrong::Torn)?;
    let seq = number(parts.next()).ok_or(Wrong::Torn)?;
    let rest = parts.next().ok_or(Wrong::Torn)?;
    if name != key.to_string().as_bytes() {
        return Err(Wrong::OtherKey);
    }
    if by != u32::from(writer) {
        return Err(Wrong::OtherWriter);
    }
    let rest = rest.strip_prefix(HOLD.as_bytes()).unwrap_or(rest);
    match rest.iter().copied().eq(padding(key, seq)) {
        true => Ok(seq),
        false => Err(Wrong::Torn),
    }
}

/// The memcached flags of a write: others than its neighbours'.
pub fn flags(key: Key, seq: u32) -> u32 {
    (u32::from(key.slot) << 16) | (seq & 0xFFFF)
}

fn number(text: Option<&[u8]>) -> Option<u32> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}

/// Mostly short. In one slot of eight, one in 32 is larger than what the
/// proxies are told to keep: not in all, for they leave such keys alone.
fn padding(key: Key, seq: u32) -> impl Iterator<Item = u8> {
    let random = mix((u64::from(key.slot) << 48) | (u64::from(key.turn) << 32) | u64::from(seq));
    let len = match random % 32 {
        0 if key.slot % 8 == 5 => 6000,
        0..8 => 1000,
        _ => random >> 8 & 0x7F,
    };
    (0..len).map(move |at| b'a' + ((random >> 16).wrapping_add(at * 7) % 26) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { slot: 3, turn: 1 };

    #[test]
    fn a_value_says_which_write_it_comes_from() {
        for seq in 0..200 {
            for held in [false, true] {
                assert_eq!(parse(KEY, 2, &value(KEY, 2, seq, held)), Ok(seq));
            }
        }
    }

    #[test]
    fn anything_else_is_wrong() {
        let whole = value(KEY, 2, 7, false);
        let other = Key { slot: 4, turn: 1 };
        assert_eq!(
            parse(KEY, 2, &value(other, 2, 7, false)),
            Err(Wrong::OtherKey)
        );
        assert_eq!(parse(KEY, 3, &whole), Err(Wrong::OtherWriter));
        let mut longer = whole.clone();
        longer.push(b'a');
        let mut swapped = whole.clone();
        if let Some(last) = swapped.last_mut() {
            *last ^= 1;
        }
        let renumbered = String::from_utf8_lossy(&whole).replacen("|7|", "|8|", 1);
        for torn in [
            &longer[..],
            &swapped,
            b"",
            b"check:3:1|2|7",
            renumbered.as_bytes(),
        ] {
            assert_eq!(parse(KEY, 2, torn), Err(Wrong::Torn));
        }
        for cut in 0..whole.len() {
            assert!(parse(KEY, 2, &whole[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn neighbours_have_other_flags() {
        assert_ne!(flags(KEY, 7), flags(KEY, 8));
    }
}
