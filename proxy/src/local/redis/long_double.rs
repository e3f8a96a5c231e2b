//! The 80-bit floating-point number in which Redis computes `INCRBYFLOAT`.
//!
//! Rust has no such type, and an `f64` gives other digits: 0.1 + 0.2 is 0.3
//! in 64 bits of mantissa, and 0.30000000000000004 in 53. So the three steps
//! that the command needs are done here, each rounded to nearest, ties to
//! even: read a decimal (or, as C's `strtold` does, a hexadecimal) text, add,
//! and write with 17 digits behind the point. Subnormal numbers are kept as
//! normal ones: 17 digits do not reach down to them.

use std::cmp::Ordering;

/// The longest text Redis reads a number from, in bytes.
const TEXT_MAX: usize = 5 * 1024;

/// Finite values are below two to this power.
const EXPONENT_MAX: i64 = 16_384;

/// Positive values below two to this power are zero.
const EXPONENT_MIN: i64 = -16_445;

/// A number as an x87 register holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    /// `mantissa * 2^exponent`; the mantissa's top bit is set, or it is zero.
    Finite {
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
}

const NOTHING: Magnitude = Magnitude::Finite {
    mantissa: 0,
    exponent: 0,
};

impl LongDouble {
    /// Zero.
    pub const ZERO: LongDouble = LongDouble {
        negative: false,
        magnitude: NOTHING,
    };

    /// Read the whole text as a number; `None` if it is none, or is out of range.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let magnitude = match text {
            _ if text.eq_ignore_ascii_case(b"inf") => Magnitude::Infinite,
            _ if text.eq_ignore_ascii_case(b"infinity") => Magnitude::Infinite,
            [b'0', b'x' | b'X', rest @ ..] => hexadecimal(rest)?,
            _ => decimal(text)?,
        };
        Some(LongDouble {
            negative,
            magnitude,
        })
    }

    /// The sum. One that is no number at all, infinity less infinity, is
    /// told as infinite: neither has a text.
    pub fn add(self, other: LongDouble) -> LongDouble {
        use Magnitude::{Finite, Infinite};
        match (self.magnitude, other.magnitude) {
            (Infinite, _) | (_, Finite { mantissa: 0, .. }) => self,
            (_, Infinite) | (Finite { mantissa: 0, .. }, _) => other,
            (
                Finite {
                    exponent: a,
                    mantissa: x,
                },
                Finite {
                    exponent: b,
                    mantissa: y,
                },
            ) => {
                if (a, x) >= (b, y) {
                    add_finite(self, other)
                } else {
                    add_finite(other, self)
                }
            }
        }
    }

    /// As `%.17Lf` prints it, without trailing zeros; `None` if it is not finite.
    pub fn to_text(self) -> Option<String> {
        let Magnitude::Finite { mantissa, exponent } = self.magnitude else {
            return None;
        };
        let mut text = if exponent >= 0 {
            Natural::from(mantissa)
                .shifted(exponent.unsigned_abs() as usize)
                .to_decimal()
        } else {
            // Below 2^121, so the product cannot overflow.
            let scaled = u128::from(mantissa) * POINT;
            let scaled = shift_right(scaled, exponent.unsigned_abs());
            let text = format!("{}.{:017}", scaled / POINT, scaled % POINT);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        if self.negative && text != "0" {
            text.insert(0, '-');
        }
        Some(text)
    }
}

/// Ten to the number of digits behind the point.
const POINT: u128 = 100_000_000_000_000_000;

/// Add two finite numbers of which neither is zero; `high` is the larger.
fn add_finite(high: LongDouble, low: LongDouble) -> LongDouble {
    let (
        Magnitude::Finite {
            mantissa: x,
            exponent: a,
        },
        Magnitude::Finite {
            mantissa: y,
            exponent: b,
        },
    ) = (high.magnitude, low.magnitude)
    else {
        return high;
    };
    // Sixty-two bits of room below the larger mantissa. What of the smaller
    // lies lower still cannot decide a digit, only a tie: one bit stands for it.
    let gap = (a - b).unsigned_abs();
    let lift = gap.min(62);
    let x = u128::from(x) << lift;
    let y = sticky_right(u128::from(y), gap - lift);
    let same = high.negative == low.negative;
    let sum = if same { x + y } else { x - y };
    if sum == 0 {
        return LongDouble::ZERO;
    }
    let magnitude = round(sum, a - lift as i64);
    LongDouble {
        negative: high.negative,
        magnitude: magnitude.unwrap_or(Magnitude::Infinite),
    }
}

/// Shift right; any one that falls out is kept as the lowest bit.
fn sticky_right(value: u128, by: u64) -> u128 {
    match u32::try_from(by).ok().and_then(|by| value.checked_shr(by)) {
        Some(kept) => kept | u128::from(kept << by != value),
        None => u128::from(value != 0),
    }
}

/// Shift right, rounding to nearest, ties to even.
fn shift_right(value: u128, by: u64) -> u128 {
    if by == 0 {
        return value;
    }
    let half = sticky_right(value, by - 1);
    // The last bit of `half` is the first that falls out; what is below it
    // was folded in, so look at the exact value for a tie.
    let kept = half >> 1;
    let exact_half = u32::try_from(by - 1)
        .ok()
        .and_then(|s| value.checked_shr(s));
    let (first, rest) = match exact_half {
        Some(exact) => (exact & 1 == 1, exact << (by - 1) != value),
        None => (false, true),
    };
    kept + u128::from(first && (rest || kept & 1 == 1))
}

/// `value * 2^exponent` with 64 bits of mantissa; `None` when it is too large.
fn round(value: u128, exponent: i64) -> Option<Magnitude> {
    let width = i64::from(u128::BITS - value.leading_zeros());
    let (mut mantissa, mut exponent) = (value, exponent);
    let surplus = width - 64;
    match surplus.cmp(&0) {
        Ordering::Greater => mantissa = shift_right(value, surplus.unsigned_abs()),
        _ => mantissa <<= surplus.unsigned_abs(),
    }
    exponent += surplus;
    if mantissa >> 64 != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    let mantissa = u64::try_from(mantissa).ok()?;
    (exponent + 64 <= EXPONENT_MAX).then_some(Magnitude::Finite { mantissa, exponent })
}

/// The digits of a number's text, its point taken out.
struct Digits {
    /// Values of the digits, leading zeros left out.
    values: Vec<u8>,
    /// How many of them stand behind the point.
    fraction: i64,
    exponent: i64,
}

impl Digits {
    fn parse(text: &[u8], radix: u32, marker: u8) -> Option<Digits> {
        let end = text.iter().position(|b| b.to_ascii_lowercase() == marker);
        let (number, exponent) = match end {
            Some(end) => (&text[..end], signed(&text[end + 1..])?),
            None => (text, 0),
        };
        let point = number.iter().position(|&b| b == b'.');
        let fraction = point.map_or(0, |at| number.len() - at - 1) as i64;
        let mut values = Vec::with_capacity(number.len());
        for (at, &byte) in number.iter().enumerate() {
            if Some(at) != point {
                values.push(char::from(byte).to_digit(radix)? as u8);
            }
        }
        if values.is_empty() {
            return None;
        }
        let zeros = values.iter().take_while(|&&v| v == 0).count();
        values.drain(..zeros);
        Some(Digits {
            values,
            fraction,
            exponent,
        })
    }
}

/// An exponent; one with too many digits is as good as one million.
fn signed(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_i64, |v, d| (v * 10 + i64::from(d - b'0')).min(1_000_000));
    Some(if negative { -value } else { value })
}

fn decimal(text: &[u8]) -> Option<Magnitude> {
    let digits = Digits::parse(text, 10, b'e')?;
    if digits.values.is_empty() {
        return Some(NOTHING);
    }
    let scale = digits.exponent - digits.fraction;
    // Ten to the power of `order` is above the number, and a tenth of it not.
    let order = digits.values.len() as i64 + scale;
    if !(-4_960..=4_940).contains(&order) {
        return None;
    }
    let mut natural = Natural::default();
    for &value in &digits.values {
        natural.multiply_add(10, u32::from(value));
    }
    if scale >= 0 {
        for _ in 0..scale {
            natural.multiply_add(10, 0);
        }
        return natural.round(0, false);
    }
    // Room for 66 bits in the quotient: ten to the k has at most 10k/3 + 1 bits.
    let power = scale.unsigned_abs() as usize;
    let lift = (power * 10 / 3 + 68).saturating_sub(natural.width());
    natural = natural.shifted(lift);
    let mut inexact = false;
    for _ in 0..power / 9 {
        inexact |= natural.divide(1_000_000_000) != 0;
    }
    for _ in 0..power % 9 {
        inexact |= natural.divide(10) != 0;
    }
    natural.round(-(lift as i64), inexact)
}

fn hexadecimal(text: &[u8]) -> Option<Magnitude> {
    let digits = Digits::parse(text, 16, b'p')?;
    if digits.values.is_empty() {
        return Some(NOTHING);
    }
    let mut natural = Natural::default();
    for &value in &digits.values {
        natural.multiply_add(16, u32::from(value));
    }
    natural.round(digits.exponent - 4 * digits.fraction, false)
}

/// A natural number of any size, in base 2^32, lowest digit first.
#[derive(Default)]
struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(value: u64) -> Natural {
        Natural(vec![value as u32, (value >> 32) as u32])
    }
}

impl Natural {
    fn multiply_add(&mut self, factor: u32, term: u32) {
        let mut carry = u64::from(term);
        for digit in &mut self.0 {
            carry += u64::from(*digit) * u64::from(factor);
            *digit = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divide in place; the remainder.
    fn divide(&mut self, by: u32) -> u32 {
        let mut rest = 0_u64;
        for digit in self.0.iter_mut().rev() {
            let value = rest << 32 | u64::from(*digit);
            *digit = (value / u64::from(by)) as u32;
            rest = value % u64::from(by);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        rest as u32
    }

    fn shifted(&self, by: usize) -> Natural {
        let mut digits = vec![0; by / 32];
        let mut carry = 0_u64;
        for &digit in &self.0 {
            carry |= u64::from(digit) << (by % 32);
            digits.push(carry as u32);
            carry >>= 32;
        }
        digits.push(carry as u32);
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Natural(digits)
    }

    /// How many bits it has.
    fn width(&self) -> usize {
        self.0
            .last()
            .map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    /// This times `2^exponent`, and a little more if `inexact`, as a mantissa
    /// of 64 bits; `None` when it is out of range.
    fn round(&self, exponent: i64, inexact: bool) -> Option<Magnitude> {
        // The highest 97 bits or more, and one bit for all that are below.
        let skipped = self.0.len().saturating_sub(4);
        let below = inexact || self.0[..skipped].iter().any(|&d| d != 0);
        let top = self.0[skipped..]
            .iter()
            .rev()
            .fold(0_u128, |v, &d| v << 32 | u128::from(d));
        let top = if top >> 126 == 0 {
            (top << 1 | u128::from(below), exponent - 1)
        } else {
            (top | u128::from(below), exponent)
        };
        let width = self.width() as i64;
        if width + exponent <= EXPONENT_MIN {
            return None;
        }
        round(top.0, top.1 + 32 * skipped as i64)
    }

    fn to_decimal(&self) -> String {
        let mut rest = Natural(self.0.clone());
        let mut groups = Vec::new();
        while !rest.0.is_empty() {
            groups.push(rest.divide(1_000_000_000));
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::LongDouble;

    fn sum(a: &str, b: &str) -> Option<String> {
        LongDouble::parse(a.as_bytes())?
            .add(LongDouble::parse(b.as_bytes())?)
            .to_text()
    }

    #[test]
    fn adds_like_redis() {
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("-0", "0", "0"),
            ("1", "-1", "0"),
            ("3", "-5.5", "-2.5"),
            ("0x10", "0x.8", "16.5"),
            ("1e-30", "0", "0"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("1e20", "1", "100000000000000000000"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_finite_number_is_refused() {
        for bad in [
            "", "-", ".", "1e", " 1", "1 ", "nan", "1.2.3", "0x", "1e99999", "1e-99999",
        ] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("inf", "-inf"), None);
    }
}
