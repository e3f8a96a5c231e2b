//! How large values are.
//!
//! A key's size is a fixed property of the key, not of the request: a value
//! read back can then be checked to its last byte, and a run does not slowly
//! change what is stored.

use std::fmt;
use std::str::FromStr;

use super::rng::mix;

/// The largest value that is ever generated: Redis' own limit.
const SIZE_MAX: u64 = 512 << 20;

/// A distribution of value sizes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// All the same.
    Fixed(u64),
    /// Uniform, both ends included.
    Range(u64, u64),
    /// Lognormal, as cache traces are: most values small, a long tail.
    LogNormal {
        /// Half of all values are smaller.
        median: f64,
        /// Standard deviation of the logarithm; traces show about 1 to 2.
        sigma: f64,
    },
}

impl Sizes {
    /// The size of this key's value.
    pub fn of(&self, key: u64) -> u64 {
        let size = match *self {
            Sizes::Fixed(n) => n,
            Sizes::Range(min, max) => {
                let span = u128::from(max - min) + 1;
                min + ((u128::from(mix(key)) * span) >> 64) as u64
            }
            Sizes::LogNormal { median, sigma } => (median * (sigma * normal(key)).exp()) as u64,
        };
        size.min(SIZE_MAX)
    }
}

/// A standard normal number that is a property of the key (Box-Muller).
fn normal(key: u64) -> f64 {
    let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let radius = (-2.0 * unit(mix(key)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(mix(!key))).cos()
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let wrong =
            || format!("{text:?} is not a size: expected 64, 16-1024 or lognormal:MEDIAN,SIGMA");
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, sigma) = rest.split_once(',').ok_or_else(wrong)?;
            let median: f64 = median.parse().map_err(|_| wrong())?;
            let sigma: f64 = sigma.parse().map_err(|_| wrong())?;
            if !(median.is_finite() && median >= 0.0 && sigma.is_finite() && sigma >= 0.0) {
                return Err(wrong());
            }
            return Ok(Sizes::LogNormal { median, sigma });
        }
        let number = |text: &str| text.parse::<u64>().ok().filter(|&n| n <= SIZE_MAX);
        match text.split_once('-') {
            None => number(text).map(Sizes::Fixed).ok_or_else(wrong),
            Some((min, max)) => match (number(min), number(max)) {
                (Some(min), Some(max)) if min <= max => Ok(Sizes::Range(min, max)),
                _ => Err(wrong()),
            },
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(n) => write!(f, "{n}"),
            Sizes::Range(min, max) => write!(f, "{min}-{max}"),
            Sizes::LogNormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back() {
        for text in ["64", "0", "16-1024", "lognormal:100,1.5"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "x",
            "5-2",
            "-1",
            "lognormal:1",
            "lognormal:1,nan",
            "99999999999",
        ] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_follow_their_distribution() {
        let range = Sizes::Range(10, 12);
        let mut seen = [0; 3];
        (0..3000).for_each(|key| seen[range.of(key) as usize - 10] += 1);
        assert!(seen.iter().all(|&n| n > 800), "{seen:?}");

        let sizes = Sizes::LogNormal {
            median: 1000.0,
            sigma: 1.0,
        };
        let below = (0..10_000).filter(|&key| sizes.of(key) < 1000).count();
        assert!((4_800..5_200).contains(&below), "{below}");
        assert_eq!(sizes.of(5), sizes.of(5));
    }
}
