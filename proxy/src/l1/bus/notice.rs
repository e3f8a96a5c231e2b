//! The message of the bus: version (1 byte), sender (16), and for each key the
//! length of its pool's name (2), the name, the length of the key (4), the key.
//! Numbers are big-endian.

use super::Write;
use crate::running::{Pool, Slots};

/// The format that is written and understood.
const VERSION: u8 = 1;

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice<'a> {
    pub(super) sender: u128,
    /// Name of the pool, and key.
    pub(super) keys: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Notice<'a> {
    /// `None`: it is no message of this version.
    pub(super) fn parse(message: &'a [u8]) -> Option<Notice<'a>> {
        let (version, rest) = message.split_first()?;
        let (sender, mut rest) = rest.split_first_chunk()?;
        if *version != VERSION {
            return None;
        }
        let mut keys = Vec::new();
        while !rest.is_empty() {
            let (len, behind) = rest.split_first_chunk()?;
            let (pool, behind) = behind.split_at_checked(u16::from_be_bytes(*len).into())?;
            let (len, behind) = behind.split_first_chunk()?;
            let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
            let (key, behind) = behind.split_at_checked(len)?;
            keys.push((pool, key));
            rest = behind;
        }
        let sender = u128::from_be_bytes(*sender);
        Some(Notice { sender, keys })
    }
}

/// The message that these keys have been written. Pools that are not there,
/// and whose names are longer than any is, are left out.
pub(super) fn write(sender: u128, pools: &Slots<Pool>, writes: &[Write]) -> Vec<u8> {
    let mut message = vec![VERSION];
    message.extend_from_slice(&sender.to_be_bytes());
    for (pool, key) in writes {
        let name = pools
            .get(usize::from(*pool))
            .map(|pool| pool.name.as_bytes());
        if let Some(name) = name {
            write_key(&mut message, name, key);
        }
    }
    message
}

fn write_key(message: &mut Vec<u8>, pool: &[u8], key: &[u8]) {
    if let (Ok(name_len), Ok(key_len)) = (u16::try_from(pool.len()), u32::try_from(key.len())) {
        message.extend_from_slice(&name_len.to_be_bytes());
        message.extend_from_slice(pool);
        message.extend_from_slice(&key_len.to_be_bytes());
        message.extend_from_slice(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(keys: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut message = vec![VERSION];
        message.extend_from_slice(&7u128.to_be_bytes());
        for (pool, key) in keys {
            write_key(&mut message, pool, key);
        }
        message
    }

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let check = |keys: &[(&[u8], &[u8])]| {
            let message = notice(keys);
            let parsed = Notice::parse(&message).expect("it is a message");
            assert_eq!(parsed.sender, 7);
            assert_eq!(parsed.keys, keys);
        };
        check(&[]);
        check(&[(b"pool", b"key")]);
        check(&[
            (b"", b""),
            (b"p\r\n", &[0, 255, b'\n']),
            (b"p", &[b'x'; 70_000]),
        ]);
    }

    #[test]
    fn a_message_that_breaks_off_or_goes_on_is_none() {
        let keys: &[(&[u8], &[u8])] = &[(b"pool", b"key"), (b"other", b"k2")];
        let whole = notice(keys);
        let first = notice(&keys[..1]).len();
        for len in 0..whole.len() {
            let parsed = Notice::parse(&whole[..len]);
            assert_eq!(parsed.is_some(), [17, first].contains(&len), "{len} bytes");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(Notice::parse(&longer), None);
        let mut newer = whole;
        newer[0] = 2;
        assert_eq!(Notice::parse(&newer), None);
        assert_eq!(Notice::parse(&[VERSION; 4096]), None);
        assert_eq!(Notice::parse(&[255; 4096]), None);
    }
}
