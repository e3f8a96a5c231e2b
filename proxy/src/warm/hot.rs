//! The keys to be copied first: a list in a file, or what a running proxy says
//! is hot.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Read a list: one key a line, or the JSON of `/hotkeys`.
///
/// # Errors
/// Why it cannot be used, for a person.
pub fn file(path: &Path, pool: &str) -> Result<Vec<Vec<u8>>, String> {
    let at = path.display();
    let bytes = fs::read(path).map_err(|error| format!("cannot read {at}: {error}"))?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{at} begins like JSON and is none: {error}"))?;
        return answer(&value, pool).map_err(|error| format!("{at}: {error}"));
    }
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

/// This pool's keys in an answer of `/hotkeys`, the hottest first.
///
/// # Errors
/// When keys are shown as hashes, from which none can be had.
pub fn answer(value: &Value, pool: &str) -> Result<Vec<Vec<u8>>, String> {
    if value["key_visibility"].as_str() == Some("hash") {
        return Err(
            "keys are shown as hashes; key_visibility = \"plain\" or a list of keys is needed"
                .to_owned(),
        );
    }
    let keys = value["keys"].as_array().ok_or("it has no list of keys")?;
    let ours = keys
        .iter()
        .filter(|key| key["pool"].as_str().is_none_or(|name| name == pool));
    let texts = ours.filter_map(|key| key["key"].as_str());
    Ok(texts.filter_map(unescaped).collect())
}

/// The key that is shown like this; see `metrics::hotkeys::harmless`.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        key.extend_from_slice(before.as_bytes());
        let escape = escape.get(1..)?;
        if let Some(hex) = escape.strip_prefix('x') {
            key.push(u8::from_str_radix(hex.get(..2)?, 16).ok()?);
            rest = hex.get(2..)?;
        } else if let Some(hex) = escape.strip_prefix("u{") {
            let (hex, behind) = hex.split_once('}')?;
            let char = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
            key.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            rest = behind;
        } else {
            key.extend_from_slice(escape.strip_prefix('\\').map(|_| b"\\".as_slice())?);
            rest = escape.get(1..)?;
        }
    }
    key.extend_from_slice(rest.as_bytes());
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::hotkeys::harmless;
    use serde_json::json;

    #[test]
    fn a_shown_key_is_read_back() {
        for key in [
            &b"user:1"[..],
            b"a b\\c'\"",
            b"\x1b[2J\0\xff",
            "\u{202e}\u{fc}".as_bytes(),
        ] {
            assert_eq!(unescaped(&harmless(key)).as_deref(), Some(key));
        }
        for bad in [
            "",
            "\\",
            "\\x",
            "\\xz1",
            "\\u{",
            "\\u{d800}",
            "\\q",
            "\\x\u{fc}",
        ] {
            assert_eq!(unescaped(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_this_pools_keys_and_never_hashes() {
        let one = |key: &str, pool: &str| json!({ "key": key, "pool": pool });
        let keys = json!([one("a", "old"), one("b", "other"), json!({ "key": "c" })]);
        let plain = json!({ "key_visibility": "plain", "keys": keys });
        assert_eq!(
            answer(&plain, "old"),
            Ok(vec![b"a".to_vec(), b"c".to_vec()])
        );
        let hashed = json!({ "key_visibility": "hash", "keys": keys });
        assert!(answer(&hashed, "old").is_err());
        assert!(answer(&json!({}), "old").is_err());
    }
}
