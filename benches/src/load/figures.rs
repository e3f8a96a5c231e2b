//! What a run counted.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies above a minute are counted as a minute.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Counters of a run, added up over threads.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Requests answered, with an error or not.
    pub requests: u64,
    /// Of those, reads.
    pub reads: u64,
    /// Keys that were asked for in reads without an error.
    pub keys: u64,
    /// Of those, keys that had a value.
    pub hits: u64,
    /// Error replies, and errors in place of an element.
    pub errors: u64,
    /// The first error's text.
    pub first_error: Option<String>,
    /// Replies that are wrong: another key's value, another size, another kind of reply.
    pub mismatches: u64,
    /// What the first of them was.
    pub first_mismatch: Option<String>,
    /// Requests whose connection ended before the reply.
    pub lost: u64,
    /// Open loop: requests that were due and never sent, since the server was too slow.
    pub unsent: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Nanoseconds per request.
    pub latency: Histogram<u64>,
}

impl Default for Figures {
    fn default() -> Figures {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX, 3);
        Figures {
            requests: 0,
            reads: 0,
            keys: 0,
            hits: 0,
            errors: 0,
            first_error: None,
            mismatches: 0,
            first_mismatch: None,
            lost: 0,
            unsent: 0,
            bytes_out: 0,
            bytes_in: 0,
            elapsed: Duration::ZERO,
            latency: latency.expect("the bounds are constants that the histogram accepts"),
        }
    }
}

impl Figures {
    /// Count an error reply.
    pub fn error(&mut self, text: &[u8]) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(text[..text.len().min(200)].escape_ascii().to_string());
        }
    }

    /// Count a wrong reply; `what` is only asked for the first.
    pub fn mismatch(&mut self, what: impl FnOnce() -> String) {
        self.mismatches += 1;
        if self.first_mismatch.is_none() {
            self.first_mismatch = Some(what());
        }
    }

    /// Record one latency.
    pub fn latency(&mut self, nanos: u64) {
        self.latency.saturating_record(nanos.max(1));
    }

    /// Add another thread's figures.
    pub fn add(&mut self, other: Figures) {
        self.requests += other.requests;
        self.reads += other.reads;
        self.keys += other.keys;
        self.hits += other.hits;
        self.errors += other.errors;
        self.mismatches += other.mismatches;
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.first_error = self.first_error.take().or(other.first_error);
        self.first_mismatch = self.first_mismatch.take().or(other.first_mismatch);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same bounds");
    }

    /// Keys without a value.
    pub fn misses(&self) -> u64 {
        self.keys.saturating_sub(self.hits)
    }

    /// Whether every request had a right answer.
    pub fn clean(&self) -> bool {
        self.errors == 0 && self.mismatches == 0 && self.lost == 0
    }

    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency below which this share (0 to 1) of the requests stayed, in microseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{} requests in {:.2} s: {:.0} per second",
            self.requests,
            self.elapsed.as_secs_f64(),
            self.rate()
        );
        let _ = write!(out, "latency (us):");
        for (label, share) in QUANTILES {
            let _ = write!(out, " {label} {:.0}", self.quantile(share));
        }
        let _ = writeln!(out, " max {:.0}", self.latency.max() as f64 / 1e3);
        if self.keys > 0 {
            let share = 100.0 * self.hits as f64 / self.keys as f64;
            let _ = writeln!(
                out,
                "keys read: {}, hits {} ({share:.1} %), misses {}",
                self.keys,
                self.hits,
                self.misses()
            );
        }
        let _ = writeln!(
            out,
            "errors {}, wrong replies {}, lost {}; {:.1} MB out, {:.1} MB in",
            self.errors,
            self.mismatches,
            self.lost,
            self.bytes_out as f64 / 1e6,
            self.bytes_in as f64 / 1e6
        );
        if self.unsent > 0 {
            let _ = writeln!(
                out,
                "too slow for the rate: {} requests never sent",
                self.unsent
            );
        }
        if let Some(text) = &self.first_error {
            let _ = writeln!(out, "first error: {text}");
        }
        if let Some(text) = &self.first_mismatch {
            let _ = writeln!(out, "first wrong reply: {text}");
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> String {
        let report = Report {
            requests: self.requests,
            reads: self.reads,
            writes: self.requests.saturating_sub(self.reads),
            keys_read: self.keys,
            hits: self.hits,
            misses: self.misses(),
            errors: self.errors,
            first_error: self.first_error.as_deref(),
            wrong_replies: self.mismatches,
            lost: self.lost,
            unsent: self.unsent,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            seconds: self.elapsed.as_secs_f64(),
            requests_per_second: self.rate(),
            latency_us: Latency {
                p50: self.quantile(0.5),
                p90: self.quantile(0.9),
                p99: self.quantile(0.99),
                p999: self.quantile(0.999),
                max: self.latency.max() as f64 / 1e3,
                mean: self.latency.mean() / 1e3,
            },
        };
        serde_json::to_string_pretty(&report).expect("a struct of numbers and texts serialises")
    }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

#[derive(Serialize)]
struct Report<'a> {
    requests: u64,
    reads: u64,
    writes: u64,
    keys_read: u64,
    hits: u64,
    misses: u64,
    errors: u64,
    first_error: Option<&'a str>,
    wrong_replies: u64,
    lost: u64,
    unsent: u64,
    bytes_out: u64,
    bytes_in: u64,
    seconds: f64,
    requests_per_second: f64,
    latency_us: Latency,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    mean: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_microseconds_within_a_thousandth() {
        let mut figures = Figures::default();
        (1..=1000).for_each(|us| figures.latency(us * 1000));
        for (share, us) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = figures.quantile(share);
            assert!((got - us).abs() <= us / 500.0, "{share}: {got}");
        }
        figures.latency(u64::MAX);
        assert!(figures.quantile(1.0) >= 59e6);
    }

    #[test]
    fn threads_add_up() {
        let mut sum = Figures::default();
        for keys in [1, 2] {
            let mut one = Figures {
                requests: 1,
                keys,
                hits: 1,
                ..Figures::default()
            };
            one.latency(1000);
            one.error(b"ERR a\r");
            sum.add(one);
        }
        assert_eq!((sum.requests, sum.misses(), sum.errors), (2, 1, 2));
        assert_eq!(sum.latency.len(), 2);
        assert_eq!(sum.first_error.as_deref(), Some("ERR a\\r"));
        assert!(!sum.clean());
        assert!(sum.json().contains("\"misses\": 1"));
        assert!(sum.text().contains("errors 2"));
    }
}
