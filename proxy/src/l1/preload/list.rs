//! The hot list as bytes in a file. Pure: nothing here opens one.
//!
//! ```text
//!   emberline hot keys 1
//!   sessions user:1
//!   sessions caf\xc3\xa9\x20\x5c
//!   feed front-page
//! ```
//!
//! A line is a pool's name and a key, the hottest key of all pools first. What
//! of a key is not visible ASCII, and `\`, is written `\xNN`, so that any key
//! is one line and a person can read, cut and write lists.
//!
//! There is no checksum. The file takes its place whole, so it is never half
//! written; and nothing in it has to be believed: a key that is not hot, or
//! does not exist, costs one fetch.

/// What every list begins with, whatever its version.
const TITLE: &[u8] = b"emberline hot keys ";
/// The version that is written.
const VERSION: &[u8] = b"1";

/// Lists that are longer are cut, when they are written and when they are read.
pub const BYTES_MAX: usize = 64 << 20;

/// What was found in a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Names of pools, and keys; the hottest first.
    pub keys: Vec<(String, Vec<u8>)>,
    /// Lines that mean nothing.
    pub unsound: usize,
    /// Lines that were not looked at, since enough keys had been found.
    pub beyond: usize,
}

/// Why nothing of a file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Somebody else's file: it must not be written over.
    #[error("it is no list of hot keys")]
    Foreign,
    /// Another version's list.
    #[error("it is the list of another version of emberline")]
    Version,
}

/// The list of these keys, by the names of their pools.
pub fn encode<'k>(keys: impl Iterator<Item = (&'k str, &'k [u8])>) -> Vec<u8> {
    let mut bytes = [TITLE, VERSION, b"\n"].concat();
    for (pool, key) in keys {
        let before = bytes.len();
        bytes.extend_from_slice(pool.as_bytes());
        bytes.push(b' ');
        for &byte in key {
            match byte {
                b'\\' => bytes.extend_from_slice(b"\\x5c"),
                b'!'..=b'~' => bytes.push(byte),
                _ => bytes.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            }
        }
        bytes.push(b'\n');
        if bytes.len() > BYTES_MAX {
            bytes.truncate(before);
            break;
        }
    }
    bytes
}

/// Read a list, or as much of it as is sound, up to so many keys.
///
/// # Errors
/// When it is no list, or none of this version.
pub fn parse(bytes: &[u8], keys_max: usize) -> Result<Found, Unusable> {
    let mut found = Found::default();
    // A process may have died before it had written even that.
    if TITLE.starts_with(bytes) {
        return Ok(found);
    }
    let rest = bytes.strip_prefix(TITLE).ok_or(Unusable::Foreign)?;
    let mut lines = rest.split_inclusive(|&byte| byte == b'\n');
    if lines.next().and_then(|line| line.strip_suffix(b"\n")) != Some(VERSION) {
        return Err(Unusable::Version);
    }
    for line in lines {
        if found.keys.len() >= keys_max {
            found.beyond += 1;
            continue;
        }
        match entry(line) {
            Some(entry) => found.keys.push(entry),
            None => found.unsound += 1,
        }
    }
    Ok(found)
}

/// One line; one without an end is torn.
fn entry(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let line = line.strip_suffix(b"\n")?;
    let space = line.iter().position(|&byte| byte == b' ')?;
    let (pool, key) = (&line[..space], &line[space + 1..]);
    let pool = std::str::from_utf8(pool).ok()?;
    (!pool.is_empty()).then_some((pool.to_owned(), unescape(key)?))
}

fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        text = match byte {
            b'\\' => {
                let hex = rest.strip_prefix(b"x")?;
                let (digits, rest) = hex.split_at_checked(2)?;
                key.push(digit(digits[0])? << 4 | digit(digits[1])?);
                rest
            }
            b'!'..=b'~' => {
                key.push(byte);
                rest
            }
            _ => return None,
        };
    }
    Some(key)
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Keys = Vec<(String, Vec<u8>)>;

    fn written(keys: &Keys) -> Vec<u8> {
        encode(keys.iter().map(|(pool, key)| (&**pool, &**key)))
    }

    fn keys() -> impl Strategy<Value = Keys> {
        vec(("[a-zA-Z0-9_.-]{1,64}", vec(any::<u8>(), 0..40)), 0..20)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(keys in keys()) {
            let found = parse(&written(&keys), usize::MAX).unwrap();
            prop_assert_eq!(found, Found { keys, ..Found::default() });
        }

        #[test]
        fn of_a_list_torn_anywhere_the_beginning_is_used(keys in keys(), at in any::<prop::sample::Index>()) {
            let whole = written(&keys);
            let cut = at.index(whole.len() + 1);
            match parse(&whole[..cut], usize::MAX) {
                Ok(found) => {
                    prop_assert!(found.unsound <= 1);
                    prop_assert_eq!(&found.keys[..], &keys[..found.keys.len()]);
                    let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
                    prop_assert_eq!(found.keys.len(), lines.saturating_sub(1));
                }
                // Between the version and the end of its line.
                Err(why) => prop_assert_eq!((why, cut <= TITLE.len() + 1), (Unusable::Version, true)),
            }
        }

        #[test]
        fn no_bytes_are_too_much(bytes in vec(any::<u8>(), 0..300), titled: bool, keys_max in 0..10usize) {
            let title: &[u8] = if titled { b"emberline hot keys 1\n" } else { b"" };
            let bytes = [title, &bytes].concat();
            if let Ok(found) = parse(&bytes, keys_max) {
                prop_assert!(found.keys.len() <= keys_max);
                // What was understood is what would be written of it.
                let again = parse(&written(&found.keys), usize::MAX).unwrap();
                prop_assert_eq!(again.keys, found.keys);
            }
        }
    }

    #[test]
    fn a_list_is_a_text_for_people() {
        let keys = [("sessions", &b"user:1"[..]), ("feed", b"caf\xc3\xa9 \\")];
        let text = "emberline hot keys 1\nsessions user:1\nfeed caf\\xc3\\xa9\\x20\\x5c\n";
        assert_eq!(encode(keys.into_iter()).escape_ascii().to_string(), {
            text.as_bytes().escape_ascii().to_string()
        });
    }

    #[test]
    fn lines_that_mean_nothing_are_passed_over() {
        let bad = [
            "", "nokey", " key", "p \\", "p \\x", "p \\x4", "p \\xg0", "p \\n", "p a b", "p \r",
            "p \u{e9}",
        ];
        for line in bad {
            let text = format!("emberline hot keys 1\np a\n{line}\np b\n");
            let found = parse(text.as_bytes(), 9).unwrap();
            assert_eq!((found.keys.len(), found.unsound), (2, 1), "{line:?}");
        }
        let empty = parse(b"emberline hot keys 1\np \n", 9).unwrap();
        assert_eq!(empty.keys, [("p".to_owned(), Vec::new())]);
    }

    #[test]
    fn other_files_are_told_apart() {
        let check = |text: &str, expected| {
            assert_eq!(parse(text.as_bytes(), 9).map(|_| ()), expected, "{text:?}");
        };
        check("", Ok(()));
        check("emberline h", Ok(()));
        check("emberline hot keys 1\n", Ok(()));
        check("emberline hot keys 2\np a\n", Err(Unusable::Version));
        check("emberline hot keys 1", Err(Unusable::Version));
        check("[listeners.main]\n", Err(Unusable::Foreign));
        check("\0", Err(Unusable::Foreign));
    }

    #[test]
    fn enough_is_enough() {
        let text = "emberline hot keys 1\np a\np b\np c\np d";
        let found = parse(text.as_bytes(), 2).unwrap();
        assert_eq!((found.keys.len(), found.beyond, found.unsound), (2, 2, 0));
        let long = [("p", &[0; 1 << 20][..])];
        let cut = encode(long.into_iter().cycle().take(100));
        assert!(cut.len() <= BYTES_MAX && cut.ends_with(b"\n"));
    }
}
