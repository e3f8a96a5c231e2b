//! Numbers and times as memcached reads them: with C's `strtoull` and
//! `strtol`, whose leniency shows on the wire.

use crate::local::store::NEVER;

/// Offsets up to this many seconds count from now, larger ones from 1970.
const RELATIVE_MAX: u64 = 60 * 60 * 24 * 30;

/// An unsigned number, perhaps after white space and a sign, that ends with
/// the text or at white space. A minus wraps around as in C, and is refused
/// only where the result looks negative.
pub fn unsigned(text: &[u8]) -> Option<u64> {
    let (negative, magnitude) = signed_magnitude(text)?;
    let value = if negative {
        magnitude.wrapping_neg()
    } else {
        magnitude
    };
    (!negative || value <= i64::MAX as u64).then_some(value)
}

/// Client flags: an unsigned number cut to 32 bits.
pub fn client_flags(text: &[u8]) -> Option<u32> {
    unsigned(text).map(|value| value as u32)
}

/// A signed number, cut to 32 bits: memcached keeps times so.
pub fn signed(text: &[u8]) -> Option<i32> {
    let (negative, magnitude) = signed_magnitude(text)?;
    let value = i64::try_from(i128::from(magnitude) * if negative { -1 } else { 1 }).ok()?;
    Some(value as i32)
}

fn signed_magnitude(text: &[u8]) -> Option<(bool, u64)> {
    let is_space = |b: &u8| b.is_ascii_whitespace() || *b == 0x0b;
    let start = text.iter().position(|b| !is_space(b))?;
    let (negative, digits) = match &text[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let end = digits
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(digits.len());
    if end == 0 || digits.get(end).is_some_and(|b| !is_space(b)) {
        return None;
    }
    let value = digits[..end].iter().try_fold(0_u64, |v, d| {
        v.checked_mul(10)?.checked_add(u64::from(d - b'0'))
    })?;
    Some((negative, value))
}

/// The last millisecond at which an item with this expiry is alive: 0 means
/// never to expire, less than 0 that it is expired already.
pub fn expiry(seconds: i32, now: u64) -> u64 {
    match u64::try_from(seconds) {
        Ok(0) => NEVER,
        Ok(seconds) if seconds <= RELATIVE_MAX => now + seconds * 1000 - 1,
        Ok(seconds) => seconds * 1000 - 1,
        Err(_) => 0,
    }
}

/// Whole seconds that are left, the one under way included.
pub fn seconds_left(expires: u64, now: u64) -> u64 {
    expires.saturating_add(1).saturating_sub(now).div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_c_does() {
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned(b" +12 x"), Some(12));
        assert_eq!(unsigned(b"-18446744073709551615"), Some(1));
        for bad in ["", " ", "-", "-1", "1x", "x", "18446744073709551616"] {
            assert_eq!(unsigned(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(signed(b"2147483648"), Some(i32::MIN));
        assert_eq!(signed(b"-9223372036854775808"), Some(0));
        assert_eq!(signed(b"9223372036854775808"), None);
    }

    #[test]
    fn an_expiry_is_relative_up_to_thirty_days() {
        assert_eq!(seconds_left(expiry(30, 5_000), 5_000), 30);
        assert_eq!(seconds_left(expiry(30, 5_000), 5_001), 30);
        assert_eq!(expiry(2_592_001, 5_000), 2_592_000_999);
        assert_eq!(expiry(-1, 5_000), 0);
        assert_eq!(expiry(0, 5_000), NEVER);
    }
}
