//! Which bytes may be a key.

/// The longest key memcached takes, in bytes.
pub const KEY_MAX: usize = 250;

/// Whether these bytes may be written as a key in a memcached command line.
///
/// Whatever path a key comes from (a Redis client, a refill, a config), it
/// passes here before it is written: a space or line end would let one key
/// become several, or a command of its own, and memcached cuts a line at a
/// NUL. protocol.txt forbids all control characters and white space; bytes
/// from 0x80 up are legal, so that UTF-8 keys pass.
pub fn key_ok(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_MAX && key_end(key, 0) == key.len()
}

/// Whether a byte may stand in a key.
#[inline]
fn is_key_byte(b: u8) -> bool {
    b > b' ' && b != 0x7f
}

/// Where the first byte at or behind `at` stands that no key has, or the end.
///
/// Eight bytes at a time, since this reads every key there is. The last few
/// are taken from the last eight of the line, shifted so that zeros, which
/// end a key, stand behind them.
#[inline]
pub(super) fn key_end(line: &[u8], mut at: usize) -> usize {
    while let Some(&eight) = line.get(at..).and_then(|rest| rest.first_chunk()) {
        let marks = marks(u64::from_le_bytes(eight));
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let left = line.len().saturating_sub(at);
    if let (1..8, Some(&eight)) = (left, line.last_chunk()) {
        let marks = marks(u64::from_le_bytes(eight) >> (8 * (8 - left)));
        return at + (marks.trailing_zeros() / 8) as usize;
    }
    while line.get(at).is_some_and(|&b| is_key_byte(b)) {
        at += 1;
    }
    at
}

/// Sets the top bit of the first byte, in memory order, that no key has.
///
/// A byte below n borrows from its top bit when n is subtracted from it. A
/// borrow can mark bytes behind the first one by mistake, never before it.
#[inline]
fn marks(bytes: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let delete = bytes ^ (ONES * 0x7f);
    let low = bytes.wrapping_sub(ONES * 0x21) & !bytes;
    (low | delete.wrapping_sub(ONES) & !delete) & (ONES * 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_ends_a_key_wherever_it_stands_or_nowhere() {
        for b in 0..=255 {
            for neighbour in [b'k', 0x80, 0xff, b'!', b'~'] {
                for at in 0..20 {
                    let mut line = [neighbour; 20];
                    line[at] = b;
                    let want = if is_key_byte(b) { 20 } else { at };
                    assert_eq!(
                        key_end(&line, 0),
                        want,
                        "{b:#x} at {at} among {neighbour:#x}"
                    );
                    assert_eq!(key_end(&line, at), want);
                    assert_eq!(key_end(&line[..=at], 0), want.min(at + 1));
                }
            }
        }
    }

    #[test]
    fn keys_that_could_become_a_command_are_refused() {
        for bad in [
            &b""[..],
            b"a b",
            b"a\r\nflush_all",
            b"a\n",
            b"a\0",
            b"\ta",
            b"a\x7f",
            &[b'k'; 251],
        ] {
            assert!(!key_ok(bad), "{bad:?}");
        }
        for good in [
            &b"a"[..],
            "schl\u{fc}ssel".as_bytes(),
            &[0x80, 0xff],
            &[b'k'; 250],
        ] {
            assert!(key_ok(good), "{good:?}");
        }
    }
}
