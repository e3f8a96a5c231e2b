//! Base64 with padding, as the meta flag `b` uses it for binary keys.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the text of these bytes.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..4 {
            // As many digits as hold the group's bits, then padding.
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= group.len() { digit } else { b'=' });
        }
    }
}

/// Appends what `text` encodes. `None`: it is not padded base64; then `out`
/// holds a part of it.
///
/// Bits that the last group does not use may be set, as memcached ignores
/// them too.
pub fn decode(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
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
            // Unused bits aside, what was decoded is written the same way.
            if let Some(bytes) = got.filter(|_| text != "Zh==") {
                let mut again = Vec::new();
                encode(&mut again, &bytes);
                assert_eq!(again, text.as_bytes());
            }
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
