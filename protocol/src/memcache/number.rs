//! Numbers as memcached's commands write them.
//!
//! memcached reads them with `strtol`, which also takes leading white space, a
//! plus sign and values that are then cut to 32 bits: `4294967296` becomes a
//! length of 0. Only plain decimal digits within range pass here, because
//! proxy and server must never disagree about a length.

/// An unsigned decimal number.
pub(super) fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = b.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A decimal number that may be negative.
pub(super) fn signed(digits: &[u8]) -> Option<i64> {
    match digits.strip_prefix(b"-") {
        Some(magnitude) => 0i64.checked_sub_unsigned(unsigned(magnitude)?),
        None => i64::try_from(unsigned(digits)?).ok(),
    }
}

/// An unsigned decimal number of 32 bits.
pub(super) fn unsigned_32(digits: &[u8]) -> Option<u32> {
    u32::try_from(unsigned(digits)?).ok()
}

/// The length of a data block: what fits a C `int` with its line end.
pub(super) fn length(digits: &[u8]) -> Option<usize> {
    let n = unsigned(digits)?;
    (n <= (i32::MAX - 2) as u64).then_some(n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_digits_within_range_are_numbers() {
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "18446744073709551616",
            "+1",
            "-1",
            "1x",
            " 1",
            "1\r",
            "99999999999999999999999",
        ] {
            assert_eq!(unsigned(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"-9223372036854775809"), None);
        assert_eq!(signed(b"--1"), None);
        assert_eq!(unsigned_32(b"4294967296"), None);
        assert_eq!(length(b"2147483645"), Some(2_147_483_645));
        assert_eq!(length(b"2147483646"), None);
        assert_eq!(length(b"4294967296"), None);
    }
}
