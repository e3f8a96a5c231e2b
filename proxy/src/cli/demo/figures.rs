//! What the demo shows: counts of one second, as a line or as a panel.

use std::fmt::Write;
use std::time::Duration;

/// How many keys are shown.
const TOP: usize = 5;

/// What the load counted since it was last asked.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests answered, and how many of them were reads.
    pub requests: u64,
    pub reads: u64,
    pub hits: u64,
    pub errors: u64,
    /// The last error's text.
    pub error: Option<String>,
    /// Nanoseconds from when each request was due, which is what a user of
    /// the application would have waited.
    pub latencies: Vec<u64>,
    /// Reads of each key.
    pub keys: Vec<u32>,
}

impl Tally {
    pub fn new(keys: u32) -> Tally {
        Tally {
            keys: vec![0; keys as usize],
            ..Tally::default()
        }
    }
}

/// One second of the demo.
#[derive(Debug)]
pub struct Second {
    pub number: u64,
    pub length: Duration,
    /// CPU seconds of the process: the proxy and the load together.
    pub cpu: f64,
    pub connections: usize,
    /// What the proxy has found to be hot, the busiest first.
    pub hot: Vec<Hot>,
    pub tally: Tally,
}

/// A key that the proxy has found to be hot.
#[derive(Debug)]
pub struct Hot {
    pub key: String,
    pub pool: String,
    /// Bounds on its requests per second.
    pub lower: f64,
    pub upper: f64,
    /// Its part of its pool's requests, from 0 to 1.
    pub share: f64,
}

impl Second {
    /// For a log or a pipe.
    pub fn line(&self) -> String {
        let (p50, p99) = self.latency();
        let mut line = format!(
            "{} s: {:.0} requests/s, hits {:.1} %, p50 {p50} us, p99 {p99} us, errors {}, {} connections, \
             CPU {:.0} % with the load; most sent:",
            self.number,
            self.rate(),
            self.hit_share(),
            self.tally.errors,
            self.connections,
            self.cpu_share()
        );
        for (key, count) in self.top() {
            // Writing into a String cannot fail.
            let _ = write!(line, " key:{key} {count}");
        }
        line.push_str("; hot:");
        for hot in self.hot.iter().take(TOP) {
            let _ = write!(
                line,
                " {} {:.0}..{:.0}/s in {}",
                hot.key, hot.lower, hot.upper, hot.pool
            );
        }
        if self.hot.is_empty() {
            line.push_str(" none yet");
        }
        if let Some(error) = &self.tally.error {
            let _ = write!(line, "; last error: {error}");
        }
        line
    }

    /// For a terminal.
    pub fn panel(&self) -> String {
        let (p50, p99) = self.latency();
        let mut panel = String::new();
        let _ = writeln!(panel);
        let _ = writeln!(panel, "  second       {:>8}", self.number);
        let _ = writeln!(
            panel,
            "  requests/s   {:>8.0}    errors {}",
            self.rate(),
            self.tally.errors
        );
        let _ = writeln!(panel, "  hit ratio    {:>8.1} %", self.hit_share());
        let _ = writeln!(panel, "  latency      {p50:>8} us p50, {p99} us p99");
        let _ = writeln!(panel, "  connections  {:>8}", self.connections);
        let _ = writeln!(
            panel,
            "  CPU          {:>8.1} % of one processor, the load included",
            self.cpu_share()
        );
        let _ = writeln!(panel, "  keys the load sent most in this second:");
        for (key, count) in self.top() {
            let _ = writeln!(panel, "    key:{key:<10} {count:>6}");
        }
        let _ = writeln!(panel, "  hot keys that the proxy has found:");
        for hot in self.hot.iter().take(2 * TOP) {
            let _ = writeln!(
                panel,
                "    {:<14} {:>6.0} to {:.0} requests/s, {:.1} % of {}",
                hot.key,
                hot.lower,
                hot.upper,
                100.0 * hot.share,
                hot.pool
            );
        }
        if self.hot.is_empty() {
            let _ = writeln!(panel, "    none yet");
        }
        if let Some(error) = &self.tally.error {
            let _ = writeln!(panel, "  last error: {error}");
        }
        let _ = writeln!(panel, "  Ctrl-C ends the demo.");
        panel
    }

    fn rate(&self) -> f64 {
        self.tally.requests as f64 / self.length.as_secs_f64().max(1e-3)
    }

    fn cpu_share(&self) -> f64 {
        100.0 * self.cpu / self.length.as_secs_f64().max(1e-3)
    }

    fn hit_share(&self) -> f64 {
        100.0 * self.tally.hits as f64 / self.tally.reads.max(1) as f64
    }

    /// Median and 99th percentile, in microseconds.
    fn latency(&self) -> (u64, u64) {
        let mut sorted = self.tally.latencies.clone();
        sorted.sort_unstable();
        (
            quantile(&sorted, 0.5) / 1000,
            quantile(&sorted, 0.99) / 1000,
        )
    }

    /// The keys that were read most, with their counts.
    fn top(&self) -> Vec<(usize, u32)> {
        let counted = self.tally.keys.iter().copied().enumerate();
        let mut top: Vec<(usize, u32)> = counted.filter(|&(_, count)| count > 0).collect();
        top.sort_unstable_by_key(|&(key, count)| (std::cmp::Reverse(count), key));
        top.truncate(TOP);
        top
    }
}

/// The smallest number that at least this share of all numbers does not exceed; 0 without any.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_members_of_the_sample() {
        let sample: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&sample, 0.5), 50);
        assert_eq!(quantile(&sample, 0.99), 99);
        assert_eq!(quantile(&sample, 1.0), 100);
        assert_eq!(quantile(&[7], 0.5), 7);
        assert_eq!(quantile(&[], 0.99), 0);
    }

    #[test]
    fn a_second_reads_as_a_line_and_as_a_panel() {
        let mut tally = Tally::new(10);
        (tally.requests, tally.reads, tally.hits) = (100, 80, 60);
        tally.latencies = vec![1_000, 2_000, 90_000];
        (tally.keys[3], tally.keys[1]) = (9, 2);
        let second = Second {
            number: 4,
            length: Duration::from_secs(1),
            cpu: 0.05,
            connections: 8,
            hot: vec![Hot {
                key: "key:3".to_owned(),
                pool: "redis".to_owned(),
                lower: 98.0,
                upper: 101.0,
                share: 0.102,
            }],
            tally,
        };
        assert_eq!(
            second.line(),
            "4 s: 100 requests/s, hits 75.0 %, p50 2 us, p99 90 us, errors 0, 8 connections, \
             CPU 5 % with the load; most sent: key:3 9 key:1 2; hot: key:3 98..101/s in redis"
        );
        for line in [
            "    key:3               9\n",
            "    key:3              98 to 101 requests/s, 10.2 % of redis\n",
        ] {
            assert!(second.panel().contains(line), "{}", second.panel());
        }
    }
}
