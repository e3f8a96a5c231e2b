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
    !key.is_empty() && key.len() <= KEY_MAX && key.iter().all(|&b| is_key_byte(b))
}

/// Whether a byte may stand in a key.
#[inline]
pub(super) fn is_key_byte(b: u8) -> bool {
    b > b' ' && b != 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

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
