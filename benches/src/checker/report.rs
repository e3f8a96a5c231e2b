//! What a run found, in words.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::census::{Calls, Metrics};
use super::faults::Strike;
use super::history::{History, Read, Version, Via};
use super::options::Options;
use super::rules::{Verdict, Violation};
use super::stamp::Key;
use super::timeline::Rule;

/// How many operations on the same key are shown before a violation.
const AROUND: usize = 8;

/// Everything that is known after a run.
#[derive(Debug)]
pub struct Report {
    /// What was asked for.
    pub options: Options,
    /// Where the random choices came from.
    pub seed: u64,
    /// Which promises were broken.
    pub verdict: Verdict,
    /// What happened.
    pub history: History,
    /// What went wrong on purpose.
    pub strikes: Vec<Strike>,
    /// What the server was asked (Redis).
    pub calls: Calls,
    /// What the proxy counted.
    pub metrics: Metrics,
    /// The most connections that tracked keys at the same time, if looked for.
    pub tracking_max: u64,
    /// Writes in doubt.
    pub doubts: u64,
    /// Errors that writers were given.
    pub refusals: BTreeMap<String, u64>,
    /// Reads without an answer.
    pub failures: u64,
}

impl Report {
    /// Reads that the proxy answered from memory.
    pub fn hits(&self) -> u64 {
        self.metrics.event("hit") + self.metrics.event("negative_hit")
    }

    /// Fills that reached the server: as tracked ones, or by their `PTTL`.
    pub fn fills(&self) -> u64 {
        self.calls.caching.max(self.calls.pttl)
    }

    /// Whether there were fills at all, by what the server or the proxy says.
    pub fn served(&self) -> bool {
        self.fills() > 0 || self.hits() > 0
    }

    /// Writes of all keys.
    pub fn writes(&self) -> u64 {
        self.history
            .versions
            .values()
            .map(|versions| versions.len() as u64)
            .sum()
    }

    /// Fills per hundred writes.
    pub fn fills_per_100_writes(&self) -> u64 {
        self.fills() * 100 / self.writes().max(1)
    }

    /// Figures that are out of the bounds that were asked for.
    pub fn out_of_bounds(&self) -> Vec<String> {
        let Options {
            expect_hits_min,
            expect_fills_max,
            expect_fills_per_100_writes_max,
            expect_tracking_max,
            expect_touches_min,
            ..
        } = self.options;
        let least = |name: &str, found: u64, bound: Option<u64>| {
            let bound = bound.filter(|&bound| found < bound)?;
            Some(format!("{name}: {found}, expected at least {bound}"))
        };
        let most = |name: &str, found: u64, bound: Option<u64>| {
            let bound = bound.filter(|&bound| found > bound)?;
            Some(format!("{name}: {found}, expected at most {bound}"))
        };
        [
            least("reads answered from memory", self.hits(), expect_hits_min),
            least("TOUCH at the server", self.calls.touch, expect_touches_min),
            most("fills at the server", self.fills(), expect_fills_max),
            most(
                "fills per 100 writes",
                self.fills_per_100_writes(),
                expect_fills_per_100_writes_max,
            ),
            most(
                "tracking connections",
                self.tracking_max,
                expect_tracking_max,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether all is well.
    pub fn clean(&self) -> bool {
        self.verdict.clean() && self.out_of_bounds().is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.figures(f)?;
        for rule in Rule::ALL {
            writeln!(
                f,
                "  {}         {} violations",
                rule.code(),
                self.verdict.count(rule)
            )?;
        }
        for violation in &self.verdict.violations {
            self.violation(f, violation)?;
        }
        for figure in self.out_of_bounds() {
            writeln!(f, "out of bounds: {figure}")?;
        }
        match self.clean() {
            true => writeln!(f, "clean"),
            false => writeln!(f, "NOT CLEAN: repeat with --seed {}", self.seed),
        }
    }
}

impl Report {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        writeln!(
            f,
            "{:?} {}{}{}, {:.1?} with seed {}, bound {:?} + {:?}",
            options.protocol,
            options.mode.name(),
            if options.bus { " + bus" } else { "" },
            options
                .mutation
                .as_ref()
                .map_or(String::new(), |name| format!(" without {name}")),
            options.seconds,
            self.seed,
            options.promise(),
            if options.promise().is_zero() {
                options.promise()
            } else {
                options.allowance()
            },
        )
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |via: Via| {
            self.history
                .reads
                .iter()
                .filter(move |read| read.via == via)
                .count()
        };
        writeln!(
            f,
            "  reads      {} by the proxy ({} from memory), {} by the other, {} direct; {} failed",
            by(Via::Proxy),
            self.hits(),
            by(Via::Other),
            by(Via::Direct),
            self.failures
        )?;
        writeln!(
            f,
            "  writes     {} to {} keys, {} in doubt",
            self.writes(),
            self.history.versions.len(),
            self.doubts
        )?;
        let mut strikes: BTreeMap<&str, u32> = BTreeMap::new();
        for strike in &self.strikes {
            *strikes.entry(strike.fault.name()).or_default() += 1;
        }
        let trouble: u64 = self
            .strikes
            .iter()
            .map(|strike| strike.until - strike.from)
            .sum();
        let share = trouble as f64 / 1e9;
        writeln!(
            f,
            "  faults     {} ({share:.1} s)",
            listed(strikes.into_iter())
        )?;
        writeln!(
            f,
            "  l1         {}",
            listed(self.metrics.events().into_iter())
        )?;
        writeln!(
            f,
            "  server     {} fills ({} per 100 writes), {} touches",
            self.fills(),
            self.fills_per_100_writes(),
            self.calls.touch
        )?;
        let stale = &self.verdict.staleness;
        let ms = |micros: u64| micros as f64 / 1000.0;
        writeln!(
            f,
            "  staleness  {} of {} reads were behind: p50 {:.3} ms, p99 {:.3} ms, worst {:.3} ms",
            stale.len(),
            self.verdict.reads,
            ms(stale.value_at_quantile(0.5)),
            ms(stale.value_at_quantile(0.99)),
            ms(stale.max()),
        )?;
        for (text, count) in self.refusals.iter().take(8) {
            writeln!(f, "  refused    {count} x {text}")?;
        }
        Ok(())
    }

    /// A violation with what happened to its key before.
    fn violation(&self, f: &mut fmt::Formatter<'_>, violation: &Violation) -> fmt::Result {
        let Violation {
            rule,
            key,
            at,
            since,
            text,
        } = violation;
        writeln!(f, "{} {text}", rule.code())?;
        let mut lines = self.around(*key, *at);
        lines.extend(self.cause(*key, *since));
        lines.sort();
        lines.dedup();
        for (_, line) in lines {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }

    /// The reads that ended at this moment.
    fn cause(&self, key: Key, since: u64) -> impl Iterator<Item = (u64, String)> {
        let reads = self.history.reads.iter();
        reads
            .filter(move |read| read.key == key && read.end == since)
            .map(|read| (read.start, told(read)))
    }

    fn around(&self, key: Key, at: u64) -> Vec<(u64, String)> {
        let versions = self
            .history
            .versions
            .get(&key)
            .map_or(&[][..], Vec::as_slice);
        let mut lines: Vec<(u64, String)> = versions
            .iter()
            .zip(1..)
            .filter(|(version, _)| version.start <= at)
            .rev_take(AROUND)
            .map(|(version, seq)| (version.start, written(version, seq)))
            .collect();
        // Sorted by key and start by the judge.
        let reads = &self.history.reads;
        let from = reads.partition_point(|read| read.key < key);
        let until = reads.partition_point(|read| (read.key, read.start) <= (key, at));
        let last = &reads[from.max(until.saturating_sub(AROUND))..until];
        lines.extend(last.iter().map(|read| (read.start, told(read))));
        let mut wipes = self.history.wipes.iter().filter(|wipe| wipe.start <= at);
        if let Some(wipe) = wipes.next_back() {
            let who = wipe.via.map_or("the server's death", Via::name);
            lines.push((
                wipe.start,
                format!("{} all keys wiped by {who}", span(wipe.start, wipe.end)),
            ));
        }
        let near = |strike: &&Strike| strike.from <= at && strike.until + 1_000_000_000 >= at;
        for strike in self.strikes.iter().filter(near) {
            let line = format!(
                "{} fault {}",
                span(strike.from, strike.until),
                strike.fault.name()
            );
            lines.push((strike.from, line));
        }
        lines
    }
}

/// The last few of an iterator, in their order.
trait RevTake: Iterator + Sized {
    fn rev_take(self, count: usize) -> std::vec::IntoIter<Self::Item> {
        let mut all: Vec<_> = self.collect();
        let from = all.len().saturating_sub(count);
        all.split_off(from).into_iter()
    }
}

impl<I: Iterator> RevTake for I {}

fn written(version: &Version, seq: u32) -> String {
    let mut line = format!(
        "{} {} ",
        span(version.start, version.end),
        version.via.name()
    );
    // Writing into a String cannot fail.
    let _ = write!(
        line,
        "{} {seq}",
        if version.gone { "deleted as" } else { "wrote" }
    );
    if let Some(expiry) = version.expiry {
        let _ = write!(line, ", until {}", clock(expiry.from));
        if let Some((via, at)) = expiry.told {
            let _ = write!(line, " as {} was told at {}", via.name(), clock(at));
        }
    }
    if !version.acked {
        line += ", in doubt";
    }
    line
}

fn told(read: &Read) -> String {
    let seen = read
        .seen
        .map_or("nothing".to_owned(), |seq| seq.to_string());
    let (via, form, conn) = (read.via.name(), read.form, read.conn);
    format!(
        "{} {via} read {seen} ({form} on connection {conn})",
        span(read.start, read.end)
    )
}

fn span(from: u64, until: u64) -> String {
    format!("[{} .. {}]", clock(from), clock(until))
}

fn clock(nanos: u64) -> String {
    match nanos {
        u64::MAX => "?".to_owned(),
        nanos => format!("{:.6} s", nanos as f64 / 1e9),
    }
}

fn listed<T: fmt::Display>(items: impl Iterator<Item = (impl fmt::Display, T)>) -> String {
    let words: Vec<String> = items
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}
