//! What the user asks for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::faults::Fault;
use super::relay::Weather;
use crate::load::Protocol;
use crate::load::options::parse_duration;

/// What the proxies may answer from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Nothing, and nothing is counted.
    Off,
    /// Nothing, but they say what they would have.
    Observe,
    /// Anything, for the time T.
    Ttl,
    /// What the server tells them about (Redis).
    Tracking,
    /// What the server says is still the same (memcached).
    Revalidate,
}

impl Mode {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Observe => "observe",
            Mode::Ttl => "ttl",
            Mode::Tracking => "tracking",
            Mode::Revalidate => "revalidate",
        }
    }

    /// Whether there is a memory that can answer.
    pub fn remembers(self) -> bool {
        !matches!(self, Mode::Off | Mode::Observe)
    }
}

/// Somebody who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriterKind {
    /// Through the proxy, one at a time.
    Proxy,
    /// Through the proxy, several in one piece, each followed by a read.
    Pipelined,
    /// Through the other proxy.
    Other,
    /// Straight to the server.
    Direct,
}

/// The shape of a run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The proxy's binary [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub emberline: Option<PathBuf>,

    /// Check a proxy that is running on this port before a server on --server-port
    #[arg(long, value_name = "PORT", requires = "server_port")]
    pub proxy_port: Option<u16>,

    /// The server behind --proxy-port
    #[arg(long, value_name = "PORT", requires = "proxy_port")]
    pub server_port: Option<u16>,

    /// What to speak
    #[arg(long, value_enum, default_value_t = Protocol::Redis)]
    pub protocol: Protocol,

    /// Which promise to check
    #[arg(long, value_enum, default_value_t = Mode::Tracking)]
    pub mode: Mode,

    /// Tell other proxies of writes through a redis-server of its own
    #[arg(long)]
    pub bus: bool,

    /// Do without the second proxy
    #[arg(long)]
    pub alone: bool,

    /// How long to read and write
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub seconds: Duration,

    /// Seed of all random choices [default: the time, and printed]
    #[arg(long)]
    pub seed: Option<u64>,

    /// all, none, or names separated by commas
    #[arg(long, default_value = "all", value_parser = super::faults::parse_list)]
    pub faults: Faults,

    /// l1.ttl [default: 300ms, in tracking and revalidate 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub ttl: Option<Duration>,

    /// l1.heartbeat
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_duration)]
    pub heartbeat: Duration,

    /// request_timeout of the pool
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = parse_duration)]
    pub request_timeout: Duration,

    /// hotkey.threshold
    #[arg(long, default_value_t = 20)]
    pub threshold: u32,

    /// Name the hot keys in hotkey.always, too
    #[arg(long)]
    pub always: bool,

    /// A further line of the table `[hotkey]`
    #[arg(long, value_name = "TOML")]
    pub hotkey: Vec<String>,

    /// A further line of the table `[l1]`
    #[arg(long, value_name = "TOML")]
    pub l1: Vec<String>,

    /// Leave out `[hotkey]` and `[l1]`, for a proxy that does not know them
    #[arg(long)]
    pub plain: bool,

    /// Keys that are read often
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub hot: u16,

    /// Keys that are not
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub cold: u16,

    /// Who writes
    #[arg(long, value_enum, value_delimiter = ',',
          default_values = ["proxy", "pipelined", "other", "direct"])]
    pub writers: Vec<WriterKind>,

    /// How long a writer rests between two requests, on average
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = parse_duration)]
    pub pause: Duration,

    /// Reads per second of all readers together
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(10..))]
    pub rate: u32,

    /// What is granted on top of the promise of ttl and tracking, for threads
    /// that are not scheduled (otherwise $EMBERLINE_CHECK_ALLOWANCE_MS, or 50ms)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub allowance: Option<Duration>,

    /// Switch off a rule of a proxy that was built with the feature `mutations`
    #[arg(long, value_name = "NAME")]
    pub mutation: Option<String>,

    /// At least so many reads must have been answered from memory
    #[arg(long, value_name = "N")]
    pub expect_hits_min: Option<u64>,

    /// At most so many fills may have reached the server
    #[arg(long, value_name = "N")]
    pub expect_fills_max: Option<u64>,

    /// At most so many fills may have reached the server per hundred writes
    #[arg(long, value_name = "N")]
    pub expect_fills_per_100_writes_max: Option<u64>,

    /// At most so many connections may track keys at the same time
    #[arg(long, value_name = "N")]
    pub expect_tracking_max: Option<u64>,

    /// At least so many TOUCH must have reached the server
    #[arg(long, value_name = "N")]
    pub expect_touches_min: Option<u64>,

    /// What the relay does while there is no fault.
    #[arg(skip)]
    pub weather: Weather,

    /// Hold reads that one connection sends in one piece to their order, too,
    /// which is more than is promised
    #[arg(long)]
    pub ordered: bool,

    /// No GETRANGE among the reads (it is never answered from memory)
    #[arg(long)]
    pub no_ranges: bool,
}

/// Which faults to inject. A type of its own, because clap takes a `Vec` for
/// an option that may be repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Whether this one is wanted.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }
}

impl Options {
    /// l1.ttl.
    pub fn ttl(&self) -> Duration {
        let default = match self.mode {
            Mode::Tracking | Mode::Revalidate => Duration::from_secs(60),
            Mode::Off | Mode::Observe | Mode::Ttl => Duration::from_millis(300),
        };
        self.ttl.unwrap_or(default)
    }

    /// How much older than the server a proxy may be.
    pub fn promise(&self) -> Duration {
        match self.mode {
            Mode::Off | Mode::Observe | Mode::Revalidate => Duration::ZERO,
            Mode::Ttl => self.ttl(),
            Mode::Tracking => self.heartbeat.min(self.ttl()),
        }
    }

    /// What is granted on top.
    pub fn allowance(&self) -> Duration {
        let set = || {
            std::env::var("EMBERLINE_CHECK_ALLOWANCE_MS")
                .ok()?
                .parse()
                .ok()
        };
        let default = || Duration::from_millis(set().unwrap_or(50));
        self.allowance.unwrap_or_else(default)
    }

    /// What clap's ranges cannot say.
    pub fn check(&self) -> Result<(), String> {
        let memcached = self.protocol == Protocol::Memcached;
        if memcached && self.mode == Mode::Tracking {
            return Err("memcached has no tracking: expected --mode ttl or revalidate".to_owned());
        }
        if !memcached && self.mode == Mode::Revalidate {
            return Err("revalidate is for memcached: expected --mode tracking or ttl".to_owned());
        }
        if self.writers.is_empty() || self.writers.len() > 64 {
            return Err("--writers needs 1 to 64 writers".to_owned());
        }
        Ok(())
    }
}
