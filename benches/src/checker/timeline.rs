//! The life of one key as its writer knows it.
//!
//! One writer per key makes the order of its writes total, so its life is a
//! line of *points*: version 1 is there, version 1 has gone, version 2 is
//! there, ... Whatever a reader is told is one of these points, and every
//! promise is about points: "no read that starts after this time may be told
//! an earlier point than this one". That is a [`Demand`].
//!
//! ```text
//!   point:   1          2     3           4     5       7
//!         (never     v1 is  v1 has     v2 is  v2 has  v3 was
//!         written)   there  expired    there  gone    a DEL
//! ```
//!
//! A write in doubt ends its key's line (the writer goes on with another key).
//! What was sent behind it on the same connection may take effect before it or
//! after, so from the first write in doubt on, all points are one.

use std::fmt;

use super::history::{Read, Version, Via, Wipe};

/// A point in a key's life; later ones are larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(u64);

impl Point {
    fn new(seq: u32, gone: bool) -> Point {
        Point(2 * u64::from(seq) + u64::from(gone))
    }

    /// The number of its version, or of the first of several that it stands for.
    pub fn seq(self) -> u32 {
        // Twice a u32 and one more, by construction.
        (self.0 / 2) as u32
    }

    fn is_gone(self) -> bool {
        self.0 % 2 == 1
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_gone() {
            true => write!(f, "the end of {}", self.seq()),
            false => write!(f, "{}", self.seq()),
        }
    }
}

/// What is promised, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// How much older than the server a proxy may be; 0 where it may not.
    pub promise: u64,
    /// What is granted on top, because threads are not always scheduled.
    /// Not granted where `promise` is 0.
    pub allowance: u64,
    /// How long nothing is filled after a write in doubt.
    pub quarantine: u64,
    /// Whether reads in one pipeline have no order among themselves.
    pub unordered: bool,
}

impl Bounds {
    /// How far `via` may be behind what others wrote.
    pub fn lag(self, via: Via) -> u64 {
        match via {
            Via::Direct => 0,
            _ if self.promise == 0 => 0,
            _ => self.promise + self.allowance,
        }
    }

    fn slack(self, via: Via) -> u64 {
        if via == Via::Direct {
            0
        } else {
            self.allowance
        }
    }
}

/// The rules of the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// R1: a read sees what its own proxy acknowledged before.
    OwnWrites,
    /// R2: reads of one proxy never go back.
    Monotonic,
    /// R3: a read sees what anybody had acknowledged, but for the bound.
    Bounded,
    /// R4: what is read was written, to this key, as a whole.
    Written,
    /// R5: when nothing happens any more, everybody agrees with the server.
    Converges,
}

impl Rule {
    /// All of them, in their order.
    pub const ALL: [Rule; 5] = [
        Rule::OwnWrites,
        Rule::Monotonic,
        Rule::Bounded,
        Rule::Written,
        Rule::Converges,
    ];

    /// Its short name.
    pub fn code(self) -> &'static str {
        ["R1", "R2", "R3", "R4", "R5"][self as usize]
    }
}

/// No read that starts after `at` may be told an earlier point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// From when on.
    pub at: u64,
    /// Which point at least.
    pub point: Point,
    /// By which rule.
    pub rule: Rule,
    /// When what causes it happened.
    pub since: u64,
    /// What causes it.
    pub why: &'static str,
}

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct Timeline<'a> {
    versions: &'a [Version],
    wipes: &'a [Wipe],
    /// From this number on all points are one.
    blurred: Option<u32>,
}

impl<'a> Timeline<'a> {
    /// The life of a key with these versions.
    pub fn new(versions: &'a [Version], wipes: &'a [Wipe]) -> Timeline<'a> {
        let doubt = versions.iter().position(|version| !version.acked);
        let blurred = doubt
            .filter(|&at| at + 1 < versions.len())
            .map(|at| at as u32 + 1);
        Timeline {
            versions,
            wipes,
            blurred,
        }
    }

    /// The version with this number.
    pub fn version(&self, seq: u32) -> Option<&'a Version> {
        self.versions.get((seq as usize).checked_sub(1)?)
    }

    /// Where a version is there, or has gone.
    pub fn point(&self, seq: u32, gone: bool) -> Point {
        match self.blurred {
            Some(first) if seq >= first => Point::new(first, false),
            _ => Point::new(seq, gone),
        }
    }

    /// The point that a write leads to.
    pub fn written(&self, seq: u32) -> Point {
        let gone = self.version(seq).is_some_and(|version| version.gone);
        self.point(seq, gone)
    }

    /// The point of a read that ended at `end` with this value, or why nobody
    /// can have been told it.
    pub fn present(&self, seq: u32, end: u64) -> Result<Point, &'static str> {
        match self.version(seq) {
            None => Err("nobody has written it"),
            Some(version) if version.gone => Err("this write was a deletion"),
            Some(version) if version.start >= end => Err("it had not been written yet"),
            Some(_) => Ok(self.point(seq, false)),
        }
    }

    /// The first point, not before `floor`, at which a read that ended at
    /// `end` could find nothing.
    pub fn absent(&self, floor: Point, end: u64) -> Option<Point> {
        if floor.is_gone() {
            return Some(floor);
        }
        if floor.seq() == 0 {
            return Some(Point::new(0, true));
        }
        let first = floor.seq();
        let behind = self.versions.iter().zip(1..).skip(first as usize - 1);
        behind
            .take_while(|(version, _)| version.start < end)
            .find(|(version, _)| self.may_have_gone(version, end))
            .map(|(_, seq)| self.point(seq, true))
    }

    fn may_have_gone(&self, version: &Version, end: u64) -> bool {
        let expired = version.expiry.is_some_and(|expiry| expiry.from <= end);
        let wiped = |wipe: &Wipe| wipe.start < end && wipe.end > version.start;
        version.gone || expired || self.wipes.iter().any(wiped)
    }

    /// The first version after this point, if it was acknowledged.
    pub fn successor(&self, point: Point) -> Option<&'a Version> {
        if self.blurred.is_some_and(|first| point.seq() >= first) {
            return None;
        }
        self.version(point.seq() + 1).filter(|next| next.acked)
    }

    /// What reads through `via` must be told. `reads` are all reads of the key.
    pub fn demands(&self, via: Via, bounds: Bounds, reads: &[Read]) -> Vec<Demand> {
        let mut demands = Vec::new();
        for (version, seq) in self.versions.iter().zip(1..) {
            if version.acked {
                demands.push(self.of_write(via, bounds, version, seq));
            }
            demands.extend(self.of_expiry(via, bounds, version, seq));
        }
        let wipes = self.wipes.iter().filter(|wipe| wipe.end != u64::MAX);
        demands.extend(wipes.filter_map(|wipe| self.of_wipe(via, bounds, wipe)));
        demands.extend(self.of_doubt(via, bounds, reads));
        demands
    }

    fn of_write(&self, via: Via, bounds: Bounds, version: &Version, seq: u32) -> Demand {
        let own = version.via == via;
        Demand {
            at: version.end + if own { 0 } else { bounds.lag(via) },
            point: self.written(seq),
            rule: if own { Rule::OwnWrites } else { Rule::Bounded },
            since: version.end,
            why: if own {
                "acknowledged by the same"
            } else {
                "acknowledged"
            },
        }
    }

    /// Once a version has expired, and everybody must know of it and of its
    /// expiry, nobody is told of it or of an older one.
    fn of_expiry(&self, via: Via, bounds: Bounds, version: &Version, seq: u32) -> Option<Demand> {
        let expiry = version.expiry.filter(|expiry| expiry.by != u64::MAX)?;
        let (by, at) = expiry.told.unwrap_or((version.via, version.end));
        let known = at + if by == via { 0 } else { bounds.lag(via) };
        Some(Demand {
            at: known.max(expiry.by + bounds.slack(via)),
            point: self.point(seq, true),
            rule: Rule::Bounded,
            since: expiry.by,
            why: "expired",
        })
    }

    /// An expiry that came with the value is known wherever the value is: it
    /// ends there when it ends at the server, whatever the bound. So does one
    /// that was told through `via` itself.
    ///
    /// When this version had expired, if a read of it that starts at `start`
    /// has outlived it.
    pub fn outlived(&self, seq: u32, via: Via, bounds: Bounds, start: u64) -> Option<u64> {
        let expiry = self.version(seq)?.expiry?;
        let known = expiry.told.is_none_or(|(by, at)| by == via && at < start);
        let over = start > expiry.by.saturating_add(bounds.slack(via));
        let certain = self.blurred.is_none_or(|first| seq < first);
        (known && over && certain).then_some(expiry.by)
    }

    fn of_wipe(&self, via: Via, bounds: Bounds, wipe: &Wipe) -> Option<Demand> {
        let before = |version: &Version| version.acked && version.end < wipe.start;
        let last = self.versions.iter().rposition(before)? as u32 + 1;
        let own = wipe.via == Some(via);
        Some(Demand {
            at: wipe.end + if own { 0 } else { bounds.lag(via) },
            point: self.point(last, true),
            rule: if own { Rule::OwnWrites } else { Rule::Bounded },
            since: wipe.end,
            why: "flushed, or lost with the server",
        })
    }

    /// A write in doubt that took effect before its quarantine can have ended
    /// (somebody saw it at the server) is known to its proxy afterwards:
    /// nothing was filled before it, and everything filled later has it.
    fn of_doubt(&self, via: Via, bounds: Bounds, reads: &[Read]) -> Option<Demand> {
        let last = self.versions.last()?;
        let seq = self.versions.len() as u32;
        if last.acked || via == Via::Direct || last.via != via || self.blurred.is_some() {
            return None;
        }
        let at_server = |read: &&Read| read.via == Via::Direct && read.seen == Some(seq);
        let landed = reads.iter().filter(at_server).map(|read| read.end).min()?;
        (landed < last.start + bounds.quarantine).then(|| Demand {
            at: last.end + bounds.quarantine + bounds.slack(via),
            point: self.point(seq, false),
            rule: Rule::OwnWrites,
            since: landed,
            why: "written in doubt by the same, and seen at the server",
        })
    }
}
