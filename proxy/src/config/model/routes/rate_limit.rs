//! `type = "rate_limit"`: so many requests a second and no more.

use std::borrow::Cow;

use emberline_protocol::Kind;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};
use crate::config::read::Fields;

/// The most that a rate may be, per second; also of a burst.
const RATE_MAX: f64 = 1e9;

/// Requests beyond a rate go elsewhere, or get an error.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RateLimit {
    /// Where requests go that are within the rate.
    pub child: Child,
    /// Where the others go: a child, "null", or "error". Default "error".
    #[schemars(with = "Option<Child>", extend("default" = "error"))]
    pub over: Child,
    /// Reads per second: a number, or `{ rate = 1000, burst = 2000 }`. Default:
    /// no limit. All rates are of this process, shared evenly by its workers.
    pub reads: Option<Rate>,
    /// Writes per second. Default: no limit.
    pub writes: Option<Rate>,
    /// Deletes per second. Default: no limit. A delete that is refused leaves
    /// an old value behind.
    pub deletes: Option<Rate>,
    /// Counters per second. Default: no limit.
    pub counters: Option<Rate>,
    /// Touches per second. Default: no limit.
    pub touches: Option<Rate>,
    /// Requests of every kind per second, beside what their own kind allows.
    /// Default: no limit.
    pub all: Option<Rate>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens per second.
    pub rate: f64,
    /// Tokens that the bucket holds.
    pub burst: f64,
}

/// A rate with a burst.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the schema of a rate that is written as a table")]
struct RateTable {
    /// Requests per second, 0 to 1000000000. 0 lets none through.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    rate: f64,
    /// How many may come at once after a pause, at least 1. Default: what one
    /// second allows. Too small: an even load is refused because it arrives
    /// in clumps; too big: a pause is paid back in one blow.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    burst: Option<f64>,
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<RateTable>();
        json_schema!({
            "description": "Requests per second, or a table with a rate and a burst.",
            "anyOf": [{ "type": "number", "minimum": 0, "maximum": RATE_MAX }, table],
        })
    }
}

impl RateLimit {
    /// The limits that a request of this kind has to meet, its own and that
    /// of all.
    pub fn rates(&self, kind: Kind) -> [Option<Rate>; 2] {
        let own = match kind {
            Kind::Read => self.reads,
            Kind::Write => self.writes,
            Kind::Delete => self.deletes,
            Kind::Counter => self.counters,
            Kind::Touch => self.touches,
            Kind::Other => None,
        };
        [own, self.all]
    }
}

impl RouteSpec for RateLimit {
    const SCHEMA: &'static str = "RateLimitRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> RateLimit {
        let span = fields.span();
        let over = fields.child_optional("over");
        RateLimit {
            child: fields.child("child"),
            over: over.unwrap_or_else(|| Child::error(&span)),
            reads: read_rate("reads", fields),
            writes: read_rate("writes", fields),
            deletes: read_rate("deletes", fields),
            counters: read_rate("counters", fields),
            touches: read_rate("touches", fields),
            all: read_rate("all", fields),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child, &self.over]
    }

    fn simple(&self) -> Simple<'_> {
        let kinds = [self.reads, self.writes, self.deletes, self.counters];
        let mut rates = kinds.iter().chain([&self.touches, &self.all]);
        Simple::if_idle(rates.all(|rate| rate.is_none()), &self.child)
    }
}

fn read_rate(key: &'static str, fields: &mut RouteFields<'_, '_, '_, '_>) -> Option<Rate> {
    let value = fields.fields.raw(key)?;
    let (rate, burst) = match value.get_ref() {
        DeValue::Table(table) => {
            let title = fields.path(key);
            let mut inner = Fields::new(table, value.span(), title);
            let rate = inner.bounded(fields.reader, "rate", 0.0, RATE_MAX);
            let burst = inner.bounded(fields.reader, "burst", 1.0, RATE_MAX);
            if !inner.has("rate") {
                inner.missing(fields.reader, "rate", "a number".to_owned());
            }
            inner.finish(fields.reader);
            (rate, burst)
        }
        _ => (fields.bounded(key, 0.0, RATE_MAX), None),
    };
    let rate = rate?.value;
    let second = rate.max(1.0);
    Some(Rate {
        rate,
        burst: burst.map_or(second, |at| at.value),
    })
}
