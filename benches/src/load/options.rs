//! What the user asks for.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::keyspace::NAME_LEN;
use super::sizes::Sizes;
use super::target::Target;

/// Which protocol to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// RESP2: GET, MGET, SET.
    Redis,
    /// Memcached text: get, set.
    Memcached,
}

/// The shape of a load.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where to connect: host:port or unix:/path
    #[arg(long, default_value = "127.0.0.1:6379")]
    pub target: Target,

    /// What to speak
    #[arg(long, value_enum, default_value_t = Protocol::Redis)]
    pub protocol: Protocol,

    /// Connections over all threads
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub connections: u32,

    /// Requests in flight per connection
    #[arg(short = 'P', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pipeline: u32,

    /// Different keys
    #[arg(short, long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=999_999_999_999))]
    pub keys: u64,

    /// Skew of the keys: 0 is uniform, caches see 0.7 to 1.2
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub zipf: f64,

    /// Share of the requests that go to key 0, 0 to 1; the others follow --zipf
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub hot: f64,

    /// Value sizes: 64, 16-1024 or lognormal:MEDIAN,SIGMA
    #[arg(long, default_value = "64")]
    pub sizes: Sizes,

    /// Share of the requests that read, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub reads: f64,

    /// Keys per read: above 1 sends MGET or a multi-get
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub mget: u32,

    /// Open loop: requests per second, due at fixed times whatever the server does
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,

    /// Threads
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,

    /// Check every value that comes back: it names its key and has its size
    #[arg(long)]
    pub verify: bool,

    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    /// A uniform closed loop of single GETs of 64 bytes over 50 connections.
    pub fn new(target: Target, protocol: Protocol) -> Options {
        Options {
            target,
            protocol,
            connections: 50,
            pipeline: 1,
            keys: 100_000,
            zipf: 0.0,
            hot: 0.0,
            sizes: Sizes::Fixed(64),
            reads: 1.0,
            mget: 1,
            rate: None,
            threads: 1,
            verify: false,
            seed: 1,
        }
    }

    /// What clap's ranges cannot say.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.reads) {
            return Err(format!(
                "--reads {} is not a share: expected 0 to 1",
                self.reads
            ));
        }
        if !(0.0..=1.0).contains(&self.hot) {
            return Err(format!(
                "--hot {} is not a share: expected 0 to 1",
                self.hot
            ));
        }
        if !(0.0..=10.0).contains(&self.zipf) {
            return Err(format!(
                "--zipf {} is out of range: expected 0 to 10",
                self.zipf
            ));
        }
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e8)) {
            return Err("--rate must be above 0 and at most 100000000".to_owned());
        }
        if self.threads > self.connections {
            return Err("--threads needs at least one connection each".to_owned());
        }
        Ok(())
    }

    /// Whether values are long enough to name their key.
    pub fn values_name_keys(&self) -> bool {
        matches!(self.sizes, Sizes::Fixed(n) | Sizes::Range(n, _) if n >= NAME_LEN as u64)
    }
}

/// Read a duration such as `10`, `10s`, `500ms` or `2m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: expected 10s, 500ms or 2m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from_secs_f64(number * scale).map_err(|_| wrong())?;
    if duration.is_zero() || duration > Duration::from_secs(86_400) {
        return Err(wrong());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["", "0", "-1s", "x", "1h", "1e99s", "NaN"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
