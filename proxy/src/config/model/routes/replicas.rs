//! `type = "replicas"`: every child holds every key.

use std::time::Duration;

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};
use crate::config::units::Time;
use crate::config::words::{Word, word_schema};

/// Every child holds every key: reads go to one, writes to all.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Replicas {
    /// The replicas. Their order is that of `read = "first"`, and of those
    /// that are asked when one fails.
    pub children: Vec<Child>,
    /// Which replica is read. "first": the first that is not down, the
    /// default. "random": any. "near": one of the own zone (`zone` in
    /// `[proxy]` and in the pools). "least_loaded": of two random ones the
    /// one with fewer requests in flight. "fastest": all at once, the first
    /// good reply is the answer; it multiplies the load by their number.
    #[schemars(default, schema_with = "word_schema::<ReadFrom>", extend("default" = "first"))]
    pub read: ReadFrom,
    /// Which writes must have taken effect before the client hears of it.
    /// "all": every one, the default. "majority": more than half. "one": the
    /// first that does. "none": it is answered at once. Fewer is faster, and
    /// a read of another replica may not see the write.
    #[schemars(default, schema_with = "word_schema::<WaitFor>", extend("default" = "all"))]
    pub wait: WaitFor,
    /// Whether a value that one replica lacks and another has is stored where
    /// it is missing, with its TTL and flags. Default false. Every miss then
    /// asks the other replicas too, so keys that nobody has cost more.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub read_repair: bool,
    /// After how long without a reply a read is also sent to the next
    /// replica. Default: never; "100us" to "60s". Too short: many reads are
    /// sent twice; about the 99th percentile of the replicas' latency is
    /// right.
    #[schemars(with = "Option<Time>")]
    pub hedge_after: Option<Duration>,
}

/// Which replica is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// The first that is not down.
    #[default]
    First,
    /// Any.
    Random,
    /// All at once; the first good reply is the answer.
    Fastest,
    /// One of the own zone.
    Near,
    /// Of two random ones, that with fewer requests in flight.
    LeastLoaded,
}

/// Which writes must have taken effect before the client hears of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// Every one.
    #[default]
    All,
    /// More than half.
    Majority,
    /// The first that does.
    One,
    /// None: the client is answered at once.
    None,
}

impl Word for ReadFrom {
    const WHAT: &'static str = "choice of a replica";

    fn all() -> &'static [ReadFrom] {
        use ReadFrom::{Fastest, First, LeastLoaded, Near, Random};
        &[First, Random, Fastest, Near, LeastLoaded]
    }

    fn word(self) -> &'static str {
        match self {
            ReadFrom::First => "first",
            ReadFrom::Random => "random",
            ReadFrom::Fastest => "fastest",
            ReadFrom::Near => "near",
            ReadFrom::LeastLoaded => "least_loaded",
        }
    }
}

impl Word for WaitFor {
    const WHAT: &'static str = "number of writes to wait for";

    fn all() -> &'static [WaitFor] {
        use WaitFor::{All, Majority, None, One};
        &[All, Majority, One, None]
    }

    fn word(self) -> &'static str {
        match self {
            WaitFor::All => "all",
            WaitFor::Majority => "majority",
            WaitFor::One => "one",
            WaitFor::None => "none",
        }
    }
}

impl RouteSpec for Replicas {
    const SCHEMA: &'static str = "ReplicasRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Replicas {
        let shortest = Time(Duration::from_micros(100));
        let children = fields.children("children");
        let read = fields.word_or("read", ReadFrom::First);
        let wait = fields.word_or("wait", WaitFor::All);
        let read_repair = fields.flag("read_repair");
        let hedge_after = fields.time("hedge_after", shortest, Time::secs(60));
        if let (ReadFrom::Fastest, Some(hedge)) = (read, &hedge_after) {
            let message = "`hedge_after` has no meaning with `read = \"fastest\"`";
            fields.error_hint(&hedge.span, message, "it asks all replicas at once");
        }
        if read == ReadFrom::Fastest && read_repair {
            let message = "`read_repair` has no meaning with `read = \"fastest\"`";
            let hint = "the first that has the key answers, and nobody waits to learn who has not";
            fields.error_hint(&fields.span(), message, hint);
        }
        Replicas {
            children,
            read,
            wait,
            read_repair,
            hedge_after: hedge_after.map(|at| at.value),
        }
    }

    fn children(&self) -> Vec<&Child> {
        self.children.iter().collect()
    }

    fn simple(&self) -> Simple<'_> {
        match self.wait {
            // Not to wait is a decision even about one.
            WaitFor::None if self.children.len() == 1 => Simple::Rule,
            _ => Simple::of_list(&self.children),
        }
    }
}
