//! Durations, sizes and moments as people write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::value::{Datetime, Offset};

/// A length of time: `"250ms"`, `"1s"`, `"2m"`, `"1h"`, `"1.5s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A number of bytes: `"64MiB"`, `"1GB"`, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A moment of the calendar: `"2027-01-01T00:00:00Z"`, as a string or as a
/// TOML date. The offset from UTC must be there: proxies in different places
/// would otherwise mean different moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub SystemTime);

impl Time {
    /// This many milliseconds.
    pub const fn millis(n: u64) -> Time {
        Time(Duration::from_millis(n))
    }

    /// This many seconds.
    pub const fn secs(n: u64) -> Time {
        Time(Duration::from_secs(n))
    }
}

impl ByteSize {
    /// This many times 1024 × 1024 bytes.
    pub const fn mib(n: u64) -> ByteSize {
        ByteSize(n << 20)
    }
}

const TIMES: [(&str, f64); 5] = [
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Time, String> {
        let (number, unit) = split(text);
        let found = TIMES.iter().find(|(name, _)| *name == unit);
        match (number.parse::<f64>(), found) {
            (Ok(number), Some((_, seconds))) => Duration::try_from_secs_f64(number * seconds)
                .map(|exact| Time(Duration::from_micros(exact.as_micros() as u64)))
                .map_err(|_| format!("\"{text}\" is too long a time")),
            (Ok(_), None) if unit.is_empty() => Err(format!(
                "\"{text}\" has no unit: write us, ms, s, m or h behind it"
            )),
            _ => Err(format!(
                "\"{text}\" is not a time: write a number and us, ms, s, m or h, as in \"250ms\""
            )),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let (number, unit) = split(text);
        let same = |(name, _): &&(&str, u64)| name.eq_ignore_ascii_case(unit);
        let scale = match unit {
            "" => Some(1),
            _ => SIZES.iter().find(same).map(|(_, scale)| *scale),
        };
        let whole = number.parse::<u64>().ok();
        match (whole, scale) {
            (Some(whole), Some(scale)) => whole
                .checked_mul(scale)
                .map(ByteSize)
                .ok_or_else(|| format!("\"{text}\" is more bytes than can be counted")),
            _ => Err(format!(
                "\"{text}\" is not a size: write a whole number and KB, MB, GB, KiB, MiB or GiB, \
                 as in \"64MiB\""
            )),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        let shown: String = text.chars().take(64).collect();
        let parsed = text.parse::<Datetime>().map_err(|_| {
            format!("\"{shown}\" is not a moment: write it as in \"2027-01-01T00:00:00Z\"")
        });
        Moment::new(&parsed?)
    }
}

impl Moment {
    /// A date, a time and an offset that were parsed.
    pub fn new(written: &Datetime) -> Result<Moment, String> {
        let (Some(date), Some(time), Some(offset)) = (written.date, written.time, written.offset)
        else {
            return Err(format!(
                "\"{written}\" is not a moment: write the date, the time and the offset from \
                 UTC, as in \"2027-01-01T00:00:00Z\""
            ));
        };
        let minutes = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes),
        };
        let days = days_since_1970(date.year.into(), date.month.into(), date.day.into());
        let of_day = i64::from(time.hour) * 60 + i64::from(time.minute) - minutes;
        let seconds = days * 86_400 + of_day * 60 + i64::from(time.second.unwrap_or(0));
        u64::try_from(seconds)
            .map(|seconds| Moment(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
            .map_err(|_| format!("\"{written}\" is before 1970"))
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, by Howard
/// Hinnant's `days_from_civil`: years begin in March, so that the leap day is
/// their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The number in front and the unit behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim_start())
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            n if n % 1_000 != 0 => write!(f, "{n}us"),
            n if n % 1_000_000 != 0 => write!(f, "{}ms", n / 1_000),
            n => write!(f, "{}s", n / 1_000_000),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n != 0 && n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n != 0 && n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n != 0 && n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: a number and us, ms, s, m or h.",
            "type": "string",
            "examples": ["250ms", "1s", "2m"],
        })
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A date, a time and an offset from UTC.",
            "type": "string",
            "examples": ["2027-01-01T00:00:00Z"],
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes, or a number and KB, MB, GB, KiB, MiB or GiB.",
            "type": ["string", "integer"],
            "minimum": 0,
            "examples": ["64MiB", "1GB", 65536],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |text: &str, micros: u64| {
            assert_eq!(
                text.parse(),
                Ok(Time(Duration::from_micros(micros))),
                "{text}"
            );
        };
        check("250ms", 250_000);
        check("1s", 1_000_000);
        check("1.5 s", 1_500_000);
        check("2m", 120_000_000);
        check("1h", 3_600_000_000);
        check("7us", 7);
        for bad in [
            "", "s", "1", "-1s", "1d", "1e5s", "1.2.3s", "inf", "NaNs", "9e99h",
        ] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
        assert!("99999999999999999999999h".parse::<Time>().is_err());
    }

    #[test]
    fn sizes() {
        let check = |text: &str, bytes| assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        check("64MiB", 64 << 20);
        check("1GB", 1_000_000_000);
        check("1 gb", 1_000_000_000);
        check("5", 5);
        check("5B", 5);
        for bad in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "1PB",
            "99999999999999GiB",
            "0x10",
        ] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn moments() {
        let check = |text: &str, seconds: u64| {
            let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(text.parse(), Ok(Moment(moment)), "{text}");
        };
        check("1970-01-01T00:00:00Z", 0);
        check("2027-01-01T00:00:00Z", 1_798_761_600);
        check("2027-01-01T01:30:00+01:30", 1_798_761_600);
        check("2026-12-31T19:00:00-05:00", 1_798_761_600);
        check("2024-02-29T12:34:56Z", 1_709_210_096);
        check("2000-03-01T00:00:00Z", 951_868_800);
        check("9999-12-31T23:59:59Z", 253_402_300_799);
        for bad in [
            "",
            "soon",
            "2027-01-01",
            "00:00:00",
            "2027-01-01T00:00:00",
            "2027-02-30T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "99999-01-01T00:00:00Z",
        ] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for time in [
            Time::millis(250),
            Time::secs(10),
            Time(Duration::from_micros(7)),
        ] {
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for size in [
            ByteSize::mib(64),
            ByteSize(1000),
            ByteSize(1 << 30),
            ByteSize(0),
        ] {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
