//! The verdict: every read against every promise, in O(n log n).
//!
//! Reads of a key are looked at in the order of their starts. A promise waits
//! in a heap until a read starts after it has become due; from then on it is a
//! floor below which no read may be. What a read was told becomes a promise
//! itself: at once to those who read through the same proxy (R2), and after
//! the bound to everybody else, for the server cannot have been older (R3).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use hdrhistogram::Histogram;

use super::history::{Alien, History, Read, Via};
use super::stamp::Key;
use super::timeline::{Bounds, Demand, Point, Rule, Timeline};

/// So many violations of each rule, of different keys, are kept with their
/// circumstances.
const KEPT: usize = 3;

/// What became of it all.
#[derive(Debug)]
pub struct Verdict {
    /// How many reads broke a rule, by rule.
    pub broken: [u64; Rule::ALL.len()],
    /// The first of each rule.
    pub violations: Vec<Violation>,
    /// How old what the proxy under test said was, in microseconds; reads
    /// that were up to date are not in it.
    pub staleness: Histogram<u64>,
    /// Reads through the proxy under test.
    pub reads: u64,
}

/// A read that cannot be explained.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which rule it breaks.
    pub rule: Rule,
    /// Of which key.
    pub key: Key,
    /// When it ended.
    pub at: u64,
    /// When what it contradicts happened.
    pub since: u64,
    /// What was read and what should have been.
    pub text: String,
}

impl Verdict {
    fn new() -> Verdict {
        // Fails for more than five digits only.
        let staleness = Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits"));
        Verdict {
            broken: [0; Rule::ALL.len()],
            violations: Vec::new(),
            staleness,
            reads: 0,
        }
    }

    /// Whether no rule was broken.
    pub fn clean(&self) -> bool {
        self.broken.iter().all(|&count| count == 0)
    }

    /// How often a rule was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.broken[rule as usize]
    }

    fn note(&mut self, rule: Rule, key: Key, at: u64, since: u64, text: impl FnOnce() -> String) {
        self.broken[rule as usize] += 1;
        let known = || self.violations.iter().filter(|known| known.rule == rule);
        // One key's story is told once.
        if known().count() < KEPT && known().all(|known| known.key != key) {
            let text = text();
            self.violations.push(Violation {
                rule,
                key,
                at,
                since,
                text,
            });
        }
    }
}

/// Judge a history. Its reads are sorted on the way, by key and start.
pub fn judge(history: &mut History, bounds: Bounds) -> Verdict {
    let mut verdict = Verdict::new();
    for alien in &history.aliens {
        verdict.note(Rule::Written, alien.key, alien.end, alien.end, || {
            describe(alien)
        });
    }
    // Stable, so that a connection's reads stay in its program order.
    history.reads.sort_by_key(|read| (read.key, read.start));
    for reads in history.reads.chunk_by(|one, next| one.key == next.key) {
        let versions = history.versions.get(&reads[0].key);
        let timeline = Timeline::new(versions.map_or(&[], Vec::as_slice), &history.wipes);
        Trial::new(timeline, bounds, reads).hear(reads, &mut verdict);
        converge(reads, &mut verdict);
    }
    verdict
}

fn describe(alien: &Alien) -> String {
    let Alien {
        key,
        via,
        wrong,
        excerpt,
        ..
    } = alien;
    format!("{key} read by {}: {wrong:?}: {excerpt}", via.name())
}

/// All reads of one key.
struct Trial<'a> {
    timeline: Timeline<'a>,
    bounds: Bounds,
    /// By `Via`.
    readers: [Reader; Via::ALL.len()],
    /// What each connection was told last.
    told: HashMap<u32, Point>,
}

/// Those who read through the same.
#[derive(Default)]
struct Reader {
    /// Demands that are not due yet.
    waiting: BinaryHeap<Reverse<Demand>>,
    /// The highest that is due, by rule.
    floors: [Option<Demand>; Rule::ALL.len()],
}

impl Reader {
    fn advance(&mut self, start: u64) {
        while let Some(Reverse(demand)) = self.waiting.peek().copied() {
            if demand.at >= start {
                break;
            }
            self.waiting.pop();
            let floor = &mut self.floors[demand.rule as usize];
            if floor.is_none_or(|floor| floor.point < demand.point) {
                *floor = Some(demand);
            }
        }
    }

    /// Nothing is gained by a demand for what is demanded already.
    fn expect(&mut self, demand: Demand) {
        let floor = self.floors[demand.rule as usize];
        if floor.is_none_or(|floor| floor.point < demand.point) {
            self.waiting.push(Reverse(demand));
        }
    }
}

impl<'a> Trial<'a> {
    fn new(timeline: Timeline<'a>, bounds: Bounds, reads: &[Read]) -> Trial<'a> {
        let readers = Via::ALL.map(|via| Reader {
            waiting: timeline
                .demands(via, bounds, reads)
                .into_iter()
                .map(Reverse)
                .collect(),
            ..Reader::default()
        });
        Trial {
            timeline,
            bounds,
            readers,
            told: HashMap::new(),
        }
    }

    fn hear(mut self, reads: &[Read], verdict: &mut Verdict) {
        for read in reads {
            let floors = self.floors(read);
            let highest = floors.iter().flatten().map(|floor| floor.point).max();
            let point = match read.seen {
                Some(seq) => match self.timeline.present(seq, read.end) {
                    Ok(point) => Some(point),
                    Err(why) => {
                        verdict.note(Rule::Written, read.key, read.end, read.start, || {
                            format!("{}: {why}", said(read))
                        });
                        continue;
                    }
                },
                None => self.timeline.absent(highest.unwrap_or_default(), read.end),
            };
            let bounded = verdict.count(Rule::Bounded);
            self.compare(read, point, &floors, verdict);
            if verdict.count(Rule::Bounded) == bounded {
                self.expire(read, verdict);
            }
            if let Some(point) = point {
                self.measure(read, point, verdict);
                self.learn(read, point);
            }
            verdict.reads += u64::from(read.via == Via::Proxy);
        }
    }

    /// Everything this read must not be older than.
    fn floors(&mut self, read: &Read) -> [Option<Demand>; Rule::ALL.len() + 2] {
        let reader = &mut self.readers[read.via as usize];
        reader.advance(read.start);
        let [a, b, c, d, e] = reader.floors;
        let here = |rule, point, why| Demand {
            at: read.start,
            since: read.start,
            point,
            rule,
            why,
        };
        let ordered = self.told.get(&read.conn).filter(|_| !self.bounds.unordered);
        let told = ordered.map(|&point| {
            let why = "read before on the same connection";
            here(Rule::Monotonic, point, why)
        });
        let written = (read.after > 0).then(|| {
            let why = "written before on the same connection";
            here(Rule::OwnWrites, self.timeline.written(read.after), why)
        });
        [a, b, c, d, e, told, written]
    }

    /// Each rule is broken at most once by a read.
    fn compare(
        &self,
        read: &Read,
        point: Option<Point>,
        floors: &[Option<Demand>],
        verdict: &mut Verdict,
    ) {
        let older = |floor: &&Demand| match point {
            Some(point) => point < floor.point,
            None => self.timeline.absent(floor.point, read.end).is_none(),
        };
        for rule in Rule::ALL {
            let of_rule = floors.iter().flatten().filter(|floor| floor.rule == rule);
            if let Some(floor) = of_rule.filter(older).max_by_key(|floor| floor.point) {
                verdict.note(rule, read.key, read.end, floor.since, || {
                    let Demand { why, since, .. } = floor;
                    let gap = read.start.saturating_sub(*since) as f64 / 1e6;
                    format!(
                        "{}, but {} was {why} {gap:.3} ms before it began",
                        said(read),
                        floor.point
                    )
                });
            }
        }
    }

    fn expire(&self, read: &Read, verdict: &mut Verdict) {
        let outlived = |seq| {
            self.timeline
                .outlived(seq, read.via, self.bounds, read.start)
        };
        if let Some(by) = read.seen.and_then(outlived) {
            verdict.note(Rule::Bounded, read.key, read.end, by, || {
                let gap = (read.start - by) as f64 / 1e6;
                format!(
                    "{}, which had expired {gap:.3} ms before it began",
                    said(read)
                )
            });
        }
    }

    fn learn(&mut self, read: &Read, point: Point) {
        let told = self.told.entry(read.conn).or_default();
        *told = point.max(*told);
        for via in Via::ALL {
            let own = via == read.via;
            self.readers[via as usize].expect(Demand {
                at: read.end + if own { 0 } else { self.bounds.lag(via) },
                point,
                rule: if own { Rule::Monotonic } else { Rule::Bounded },
                since: read.end,
                why: if own { "read by the same" } else { "read" },
            });
        }
    }

    fn measure(&self, read: &Read, point: Point, verdict: &mut Verdict) {
        // Nothing may be explained in several ways: it has no age.
        if read.via != Via::Proxy || read.seen.is_none() {
            return;
        }
        let next = self.timeline.successor(point);
        if let Some(next) = next.filter(|next| next.end < read.start) {
            // Fails only above the histogram's range, which grows by itself.
            let _ = verdict.staleness.record((read.start - next.end) / 1000);
        }
    }
}

/// R5: what is read when all is quiet is what the server says before and after.
fn converge(reads: &[Read], verdict: &mut Verdict) {
    let settled = || reads.iter().filter(|read| read.settled);
    let mut server = settled().filter(|read| read.via == Via::Direct);
    let Some(first) = server.next() else { return };
    if server.any(|read| read.seen != first.seen) {
        return;
    }
    for read in settled().filter(|read| read.seen != first.seen) {
        verdict.note(Rule::Converges, read.key, read.end, first.end, || {
            let server = first
                .seen
                .map_or("nothing".to_owned(), |seq| seq.to_string());
            format!(
                "{} when all was quiet, but the server had {server}",
                said(read)
            )
        });
    }
}

/// A read in words.
fn said(read: &Read) -> String {
    let seen = read
        .seen
        .map_or("nothing".to_owned(), |seq| seq.to_string());
    let Read { key, form, via, .. } = read;
    format!("{form} {key} by {} was told {seen}", via.name())
}

#[cfg(test)]
mod tests;
