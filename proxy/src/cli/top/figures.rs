//! What `top` shows: two answers of the admin API, and what lies between them.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::ask::encoded;
use crate::cli::seen::{Seen, ask_json, count, list, number, text};
use crate::metrics::hotkeys::{Sort, ratio};

/// Hot keys that are asked for.
const KEYS: usize = 500;

/// Everything that was known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub at: Instant,
    pub seen: Seen,
    pub version: String,
    pub uptime_ms: u64,
    pub workers: u64,
    pub cpu_seconds: f64,
    pub memory: f64,
    pub clients: u64,
    pub requests: u64,
    pub errors: u64,
    /// Upper bounds of the buckets of `Pool::latencies`, in milliseconds.
    bounds_ms: Vec<f64>,
    pub pools: Vec<Pool>,
}

/// A pool's counters.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub name: String,
    pub requests: u64,
    pub errors: u64,
    latencies: Vec<u64>,
    pub servers: Vec<Server>,
}

/// A server's state.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    /// `up`, `down` or `unused`.
    pub state: String,
}

impl Snapshot {
    /// Ask for all of it, the hot keys in this order.
    ///
    /// # Errors
    /// When one of the answers cannot be had.
    pub fn ask(admin: &str, sort: Sort, timeout: Duration) -> io::Result<Snapshot> {
        let hot = format!("/hotkeys?limit={KEYS}&sort={}", encoded(sort.name()));
        let hot = ask_json(admin, &hot, timeout)?;
        let stats = ask_json(admin, "/stats", timeout)?;
        let pools = ask_json(admin, "/pools", timeout)?;
        Ok(Snapshot::read(&hot, &stats, &pools, Instant::now()))
    }

    /// Read the answers to `/hotkeys`, `/stats` and `/pools`.
    pub fn read(hot: &Value, stats: &Value, pools: &Value, at: Instant) -> Snapshot {
        let verdicts = stats["requests"].as_object().into_iter().flatten();
        let requests: u64 = verdicts.map(|(_, sum)| count(sum)).sum();
        let clients = list(&stats["listeners"]).map(|listener| count(&listener["clients"]));
        Snapshot {
            at,
            seen: Seen::read(hot),
            version: text(&stats["version"]),
            uptime_ms: count(&stats["uptime_seconds"]).saturating_mul(1000),
            workers: count(&stats["workers"]),
            cpu_seconds: number(&stats["cpu_seconds"]),
            memory: number(&stats["memory_bytes"]),
            clients: clients.sum(),
            requests,
            errors: requests.saturating_sub(count(&stats["requests"]["ok"])),
            bounds_ms: list(&pools["latency_bounds_ms"]).map(number).collect(),
            pools: list(&pools["pools"]).map(pool).collect(),
        }
    }
}

fn pool(value: &Value) -> Pool {
    let server = |value: &Value| Server {
        name: text(&value["name"]),
        state: text(&value["state"]),
    };
    Pool {
        name: text(&value["name"]),
        requests: count(&value["requests"]),
        errors: count(&value["errors"]),
        latencies: list(&value["latency_counts"]).map(count).collect(),
        servers: list(&value["servers"]).map(server).collect(),
    }
}

/// The newest answer, and the one before it if there is one.
#[derive(Clone, Debug)]
pub struct Figures {
    pub now: Snapshot,
    before: Option<Snapshot>,
}

/// What happened in a pool between the two answers. `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Between {
    pub requests: Option<f64>,
    pub errors: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub hit_ratio: Option<f64>,
}

impl Figures {
    pub fn new(now: Snapshot) -> Figures {
        Figures { now, before: None }
    }

    /// Take up a newer answer.
    pub fn advance(&mut self, now: Snapshot) {
        self.before = Some(std::mem::replace(&mut self.now, now));
    }

    /// A counter's growth per second; `None` before the second answer.
    pub fn per_second(&self, counter: impl Fn(&Snapshot) -> f64) -> Option<f64> {
        let before = self.before.as_ref()?;
        let seconds = self.now.at.saturating_duration_since(before.at);
        let seconds = seconds.as_secs_f64();
        // A process that was started anew counts from 0.
        let grown = (counter(&self.now) - counter(before)).max(0.0);
        (seconds > 0.0).then(|| grown / seconds)
    }

    /// What happened in the pool of this name.
    pub fn between(&self, name: &str) -> Between {
        let of = |snapshot: &Snapshot| {
            let mut pools = snapshot.pools.iter();
            pools.find(|pool| pool.name == name).cloned()
        };
        let rate = |counter: fn(&Pool) -> u64| {
            self.per_second(|snapshot| of(snapshot).map_or(0.0, |pool| counter(&pool) as f64))
        };
        let latencies = self.latencies(name);
        let quantile = |share| quantile(&self.now.bounds_ms, &latencies, share);
        Between {
            requests: rate(|pool| pool.requests),
            errors: rate(|pool| pool.errors),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            hit_ratio: self.hit_ratio(name),
        }
    }

    fn latencies(&self, name: &str) -> Vec<u64> {
        let of = |snapshot: &Snapshot| {
            let pool = snapshot.pools.iter().find(|pool| pool.name == name);
            pool.map(|pool| pool.latencies.clone()).unwrap_or_default()
        };
        let before = self.before.as_ref().map(of).unwrap_or_default();
        let before = before.into_iter().chain(std::iter::repeat(0));
        let now = of(&self.now).into_iter().zip(before);
        now.map(|(now, before)| now.saturating_sub(before))
            .collect()
    }

    /// Of the time between the answers, or if nothing was read in it, of all.
    fn hit_ratio(&self, name: &str) -> Option<f64> {
        let of = |snapshot: &Snapshot| {
            let mut pools = snapshot.seen.pools.iter();
            let pool = pools.find(|pool| pool.name == name)?;
            Some((pool.hits, pool.misses))
        };
        let now = of(&self.now)?;
        let before = self.before.as_ref().and_then(of).unwrap_or_default();
        let (hits, misses) = (
            now.0.saturating_sub(before.0),
            now.1.saturating_sub(before.1),
        );
        ratio(hits, misses).or_else(|| ratio(now.0, now.1))
    }
}

/// The upper bound of the bucket that holds this share of all; beyond the last
/// bound, that bound.
fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let rank = (all as f64 * share).ceil().max(1.0) as u64;
    let mut below = 0;
    let at = counts.iter().position(|n| {
        below += n;
        below >= rank
    })?;
    bounds.get(at).or(bounds.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn snapshot(at: Instant, n: u64) -> Snapshot {
        let hot = json!({ "pools": [
            { "pool": "a", "mode": "ttl", "hits": 90 * n, "misses": 10 * n * n },
        ] });
        let stats = json!({ "requests": { "ok": 100 * n, "timeout": 1 } });
        let pools = json!({ "latency_bounds_ms": [1.0, 2.0], "pools": [
            { "name": "a", "requests": 100 * n, "errors": 1, "latency_counts": [10, 30 * n, n] },
        ] });
        Snapshot::read(&hot, &stats, &pools, at)
    }

    #[test]
    fn the_second_answer_makes_rates() {
        let start = Instant::now();
        let mut figures = Figures::new(snapshot(start, 1));
        let first = figures.between("a");
        assert_eq!((first.requests, first.hit_ratio), (None, Some(0.9)));
        assert_eq!(figures.now.errors, 1);
        figures.advance(snapshot(start + Duration::from_secs(2), 3));
        let between = Between {
            requests: Some(100.0),
            errors: Some(0.0),
            p50_ms: Some(2.0),
            p99_ms: Some(2.0),
            hit_ratio: Some(180.0 / 260.0),
        };
        assert_eq!(figures.between("a"), between);
        // Started anew: nothing is negative.
        figures.advance(snapshot(start + Duration::from_secs(4), 1));
        assert_eq!(figures.between("a").requests, Some(0.0));
        assert_eq!(
            figures.between("nobody"),
            Between {
                requests: Some(0.0),
                errors: Some(0.0),
                ..Between::default()
            }
        );
    }
}
