//! Base64 as the meta flag `b` uses it for binary keys.

/// Appends what `text` encodes. `None`: it is not padded base64; then `out`
/// holds a part of it.
///
/// Bits that the last group does not use may be set, as memcached ignores
/// them too.
pub(super) fn decode(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text
        .iter()
        .rev()
        .take(2)
        .take_while(|&&b| b == b'=')
        .count();
    let digits = &text[..text.len() - padding];
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &b in group {
            bits = bits << 6 | u32::from(value(b)?);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(())
}

fn value(b: u8) -> Option<u8> {
    match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_base64_decodes_and_nothing_else() {
        let check = |text: &str, want: Option<&[u8]>| {
            let mut out = Vec::new();
            let got = decode(&mut out, text.as_bytes()).map(|()| out);
            assert_eq!(got.as_deref(), want, "{text}");
        };
        check("Zm9v", Some(b"foo"));
        check("Zm8=", Some(b"fo"));
        check("Zg==", Some(b"f"));
        check("Zh==", Some(b"f"));
        check("+/+/", Some(&[0xfb, 0xff, 0xbf]));
        for bad in [
            "", "Zm8", "Zg", "Zm9vZ", "!!!!", "Z===", "====", "Zg==Zg==", "Zm9\n",
        ] {
            check(bad, None);
        }
    }
}
