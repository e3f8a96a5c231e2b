//! What requests and replies share: the number in a header line, and the
//! bytes that such a number announces.
//!
//! The numbers are as strict as Redis' own `string2ll`: no plus sign, no
//! leading zero, no space. A header that two readers could understand
//! differently is how requests get smuggled past a proxy.

use memchr::memchr;

/// The number of a header line such as `$5\r\n` that starts with `kind`, and
/// how long the line is.
///
/// The hot path: knows whole lines with plain digits only. For everything
/// else, also for a line that is not whole, the answer is `None` and the
/// caller takes its slow path.
#[inline(always)]
pub(super) fn plain(kind: u8, line: &[u8]) -> Option<(usize, usize)> {
    // One and two digits are nearly all that there is; one digit is one comparison.
    let word = u32::from_le_bytes(*line.first_chunk()?);
    if word & 0xffff_00ff == u32::from_le_bytes([kind, 0, b'\r', b'\n']) {
        let digit = (word >> 8 & 0xff).wrapping_sub(u32::from(b'0'));
        return (digit <= 9).then_some((digit as usize, 4));
    }
    match *line {
        [first, ..] if first != kind => None,
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Some((digit(a) * 10 + digit(b), 5))
        }
        [_, a @ b'1'..=b'9', ref rest @ ..] => longer(digit(a), rest),
        _ => None,
    }
}

#[inline]
fn longer(first: usize, rest: &[u8]) -> Option<(usize, usize)> {
    let mut value = first;
    for (at, byte) in rest.iter().take(10).enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + digit(*byte),
            b'\r' if rest.get(at + 1) == Some(&b'\n') => return Some((value, at + 4)),
            _ => return None,
        }
    }
    None
}

#[inline(always)]
fn digit(byte: u8) -> usize {
    usize::from(byte - b'0')
}

/// A decimal number, exactly as `string2ll` of Redis takes it.
pub(super) fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        b"0" if text.len() == 1 => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let negative = digits.len() < text.len();
    digits.iter().try_fold(0i64, |value, byte| {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        let value = value.checked_mul(10)?;
        if negative {
            value.checked_sub(digit)
        } else {
            value.checked_add(digit)
        }
    })
}

/// Where the first `\r\n` at or behind `from` begins.
#[inline]
pub(super) fn line_end(buf: &[u8], from: usize) -> Option<usize> {
    // Most lines are `+OK` or a small number; a call to memchr costs more than those.
    let near = buf.len().min(from.saturating_add(16));
    let mut before = 0;
    for (at, byte) in buf.get(from..near)?.iter().enumerate() {
        if *byte == b'\n' && before == b'\r' {
            return Some(from + at - 1);
        }
        before = *byte;
    }
    let mut at = near;
    while let Some(found) = memchr(b'\n', buf.get(at..)?) {
        let newline = at + found;
        if newline > from && buf[newline - 1] == b'\r' {
            return Some(newline - 1);
        }
        at = newline + 1;
    }
    None
}

/// An announced number of bytes and the `\r\n` behind them, as they come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Body {
    /// Bytes still to come, the line break included.
    pub(super) left: u64,
}

/// Something else than `\r\n` stood behind a body.
#[derive(Debug)]
pub(super) struct Unterminated;

impl Body {
    pub(super) fn of(len: u64) -> Body {
        Body {
            left: len.saturating_add(2),
        }
    }

    /// Takes what it can from the start of `buf` and says how many bytes that was.
    pub(super) fn feed(&mut self, buf: &[u8]) -> Result<usize, Unterminated> {
        let taken = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let data = usize::try_from(self.left.saturating_sub(2)).unwrap_or(usize::MAX);
        for (at, byte) in buf.iter().enumerate().take(taken).skip(data) {
            let expected = match self.left - at as u64 {
                2 => b'\r',
                _ => b'\n',
            };
            if *byte != expected {
                return Err(Unterminated);
            }
        }
        self.left -= taken as u64;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_strict_as_string2ll() {
        let check = |text: &str, expected| assert_eq!(number(text.as_bytes()), expected, "{text}");
        check("0", Some(0));
        check("-1", Some(-1));
        check("42", Some(42));
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        for bad in [
            "",
            "-",
            "-0",
            "+3",
            "03",
            " 3",
            "3 ",
            "1a",
            "9223372036854775808",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn plain_lines_are_read_and_all_others_left_to_the_slow_path() {
        assert_eq!(plain(b'$', b"$0\r\n"), Some((0, 4)));
        assert_eq!(plain(b'$', b"$5\r\nhello"), Some((5, 4)));
        assert_eq!(plain(b'*', b"*536870912\r\n"), Some((536_870_912, 12)));
        for other in [
            "",
            "$",
            "$1",
            "$1\r",
            "$-1\r\n",
            "$03\r\n",
            "$1\rx",
            "$12345678901\r\n",
        ] {
            assert_eq!(plain(b'$', other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn a_line_ends_at_the_pair_and_not_at_half_of_it() {
        assert_eq!(line_end(b"+OK\r\n", 1), Some(3));
        assert_eq!(line_end(b"+a\nb\rc\r\n", 1), Some(6));
        assert_eq!(
            line_end(b"+a far longer line than sixteen\n\r\n", 1),
            Some(32)
        );
        assert_eq!(line_end(b"+OK\r", 1), None);
        assert_eq!(line_end(b"\n", 0), None);
        assert_eq!(line_end(b"", 1), None);
    }
}
