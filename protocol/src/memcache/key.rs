//! Which bytes may be a key.

/// The longest key memcached takes, in bytes.
pub const KEY_MAX: usize = 250;

/// Whether these bytes may be written as a key in a memcached command line.
///
/// Bytes from 0x80 up are legal, so that UTF-8 keys pass. A space or line end
/// would let one key become several, or a command of its own.
pub fn key_ok(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_MAX && key.iter().all(|&b| b > b' ' && b != 0x7f)
}
