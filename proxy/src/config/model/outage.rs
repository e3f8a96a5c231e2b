//! What a pool does when its servers fail: the values of `on_down`,
//! `delete_log` and `dns`, and its health as plain figures.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::PoolTable;
use crate::config::read::{At, Fields, Reader};
use crate::config::units::{ByteSize, Time};
use crate::config::words::Word;

/// The default of `gutter_ttl`.
pub const GUTTER_TTL: Time = Time::secs(10);
/// The default of `queue_timeout`.
pub const QUEUE_TIMEOUT: Time = Time::secs(1);
/// The default of `retry_budget`.
pub const RETRY_BUDGET: f64 = 0.2;
/// The default of `failures`.
pub const FAILURES: u32 = 3;
/// The default of `probe_first`.
pub const PROBE_FIRST: Time = Time::millis(250);
/// The default of `probe_last`.
pub const PROBE_LAST: Time = Time::secs(10);
/// The default of `panic`.
pub const PANIC: f64 = 0.5;
/// The default of a delete log's `bytes_max`.
pub const DELETE_LOG_BYTES: ByteSize = ByteSize::mib(64);
/// The default of a delete log's `age_max`.
pub const DELETE_LOG_AGE: Time = Time::secs(3600);

/// What requests for a server that is down get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// An error.
    #[default]
    Error,
    /// The next server of the ring, as if the one were not there.
    Rehash,
    /// The pool of this name.
    Gutter(At<String>),
}

impl OnDown {
    /// An error for what is neither is said in one go: the file may have been
    /// written with a pool's name in place of the table.
    pub(super) fn read(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<At<OnDown>> {
        let value = fields.raw("on_down")?;
        let span = value.span();
        if let DeValue::Table(table) = value.get_ref() {
            let mut inner = Fields::new(table, span.clone(), fields.inner("on_down"));
            let gutter = inner.required::<String>(reader, "gutter");
            inner.finish(reader);
            return gutter.map(|name| At::new(OnDown::Gutter(name), span));
        }
        let found = match value.get_ref() {
            DeValue::String(text) if text == "error" => Some(OnDown::Error),
            DeValue::String(text) if text == "rehash" => Some(OnDown::Rehash),
            _ => None,
        };
        if found.is_none() {
            reader.report.error_hint(
                &span,
                "`on_down` is none of its choices",
                Some("expected \"error\", \"rehash\" or { gutter = \"a pool\" }".to_owned()),
            );
        }
        found.map(|choice| At::new(choice, span))
    }

    /// The pool that is used meanwhile.
    pub fn gutter(&self) -> Option<&At<String>> {
        match self {
            OnDown::Gutter(name) => Some(name),
            _ => None,
        }
    }
}

/// A pool to use meanwhile.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the schema of `on_down` as a table")]
struct OnDownTable {
    /// The pool that requests for a server which is down go to. It speaks the
    /// same protocol, and has no gutter of its own.
    gutter: String,
}

impl JsonSchema for OnDown {
    fn schema_name() -> Cow<'static, str> {
        "OnDown".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<OnDownTable>();
        json_schema!({
            "description": "\"error\", \"rehash\", or a table that names a gutter.",
            "anyOf": [{ "type": "string", "enum": ["error", "rehash"] }, table],
        })
    }
}

/// How many servers a host name stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dns {
    /// One, at the first of its addresses.
    #[default]
    First,
    /// As many as it has addresses.
    Expand,
}

impl Word for Dns {
    const WHAT: &'static str = "use of a name's addresses";

    fn all() -> &'static [Dns] {
        &[Dns::First, Dns::Expand]
    }

    fn word(self) -> &'static str {
        match self {
            Dns::First => "first",
            Dns::Expand => "expand",
        }
    }
}

/// Where deletes wait for their server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteLog {
    /// The file; relative paths start from the configuration's directory.
    pub path: At<String>,
    /// Bytes that it may have.
    pub bytes_max: u64,
    /// How long a delete may wait in it.
    pub age_max: Duration,
    /// Where it is asked for.
    pub span: Range<usize>,
}

/// A delete log with its bounds.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the schema of `delete_log` as a table")]
struct DeleteLogTable {
    /// The file. Relative paths start from this file's directory; no two
    /// pools may share one.
    path: String,
    /// Bytes that the file may have. Default "64MiB", at least "4KiB". When
    /// it is full, a client whose delete cannot reach its server gets the
    /// error.
    #[schemars(with = "Option<ByteSize>", extend("default" = DELETE_LOG_BYTES.to_string()))]
    bytes_max: Option<u64>,
    /// How long a delete waits for its server. Default "1h", "1s" to a year.
    /// Too short: a server that returns later has what was deleted; too long
    /// costs only the file.
    #[schemars(with = "Option<Time>", extend("default" = "1h"))]
    age_max: Option<u64>,
}

impl JsonSchema for DeleteLog {
    fn schema_name() -> Cow<'static, str> {
        "DeleteLog".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<DeleteLogTable>();
        json_schema!({
            "description": "A path, or a table with a path and bounds.",
            "anyOf": [{ "type": "string" }, table],
        })
    }
}

impl DeleteLog {
    pub(super) fn read(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<DeleteLog> {
        let value = fields.raw("delete_log")?;
        let span = value.span();
        let (mut bytes_max, mut age_max) = (DELETE_LOG_BYTES, DELETE_LOG_AGE);
        let path = match value.get_ref() {
            DeValue::Table(table) => {
                let title = fields.inner("delete_log");
                let mut inner = Fields::new(table, span.clone(), title);
                let path = inner.required::<String>(reader, "path");
                let least = ByteSize(4096);
                if let Some(at) = inner.bounded(reader, "bytes_max", least, ByteSize(1 << 50)) {
                    bytes_max = at.value;
                }
                let year = Time::secs(365 * 24 * 3600);
                if let Some(at) = inner.bounded(reader, "age_max", Time::secs(1), year) {
                    age_max = at.value;
                }
                inner.finish(reader);
                path
            }
            _ => reader.scalar::<String>(value, "`delete_log`"),
        };
        let path = path?;
        if path.value.is_empty() || path.value.contains('\0') {
            reader.report.error(&path.span, "this cannot be a path");
            return None;
        }
        Some(DeleteLog {
            path,
            bytes_max: bytes_max.0,
            age_max: age_max.0,
            span,
        })
    }
}

/// When a pool's servers are down, and what is done about it: what is written
/// and what was left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// Failures in a row from which on a server is down.
    pub failures: u32,
    /// How long after that it is probed first.
    pub probe_first: Duration,
    /// The longest time between two probes.
    pub probe_last: Duration,
    /// The share of servers from which on none is left out any more.
    pub panic: f64,
    /// How long a request may wait to be sent.
    pub queue_timeout: Duration,
    /// The share of reads that may be tried once more elsewhere.
    pub retry_budget: f64,
    /// How long a value may live in the gutter.
    pub gutter_ttl: Duration,
}

impl PoolTable {
    /// Its health, every default filled in.
    pub fn health(&self) -> Health {
        fn time(written: &Option<At<Time>>, default: Time) -> Duration {
            written.as_ref().map_or(default, |at| at.value).0
        }
        let share =
            |written: &Option<At<f64>>, default| written.as_ref().map_or(default, |at| **at);
        Health {
            failures: self.failures.as_ref().map_or(FAILURES, |at| at.value),
            probe_first: time(&self.probe_first, PROBE_FIRST),
            probe_last: time(&self.probe_last, PROBE_LAST),
            panic: share(&self.panic, PANIC),
            queue_timeout: time(&self.queue_timeout, QUEUE_TIMEOUT),
            retry_budget: share(&self.retry_budget, RETRY_BUDGET),
            gutter_ttl: time(&self.gutter_ttl, GUTTER_TTL),
        }
    }
}
