//! Integers as Redis reads them.

use super::Fault;

/// A signed 64-bit integer written the one way Redis takes: no sign but `-`,
/// no leading zero, no space, no `-0`.
pub fn parse(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => digits.len() <= 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The integer in an argument.
pub fn integer(text: &[u8]) -> Result<i64, Fault> {
    parse(text).ok_or(Fault::NotInteger)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn takes_only_the_canonical_form() {
        assert_eq!(parse(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse(b"0"), Some(0));
        for bad in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "0x1",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
