//! `preload` of `[l1]`: a path, or a table with a path and bounds.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use crate::config::read::{At, Fields, Reader};
use crate::config::units::{ByteSize, Time};

/// The default of `keys_max`.
pub const PRELOAD_KEYS_MAX: u32 = 10_000;
/// The most of it: as many keys as are promoted at a time.
const KEYS_MOST: u32 = 65_536;
/// The default of `deadline`.
pub const PRELOAD_DEADLINE: Time = Time::secs(2);
/// The default of `hold`.
pub const PRELOAD_HOLD: Time = Time::secs(30);
/// The default of `save_every`.
pub const PRELOAD_SAVE_EVERY: Time = Time::secs(60);

/// Where the hot list is kept, and what may be fetched for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preload {
    /// The file; relative paths start from the configuration's directory.
    pub path: At<String>,
    /// Keys that are kept, over all pools.
    pub keys_max: u32,
    /// Bytes that are fetched at most; half of the L1's capacity if none.
    pub bytes_max: Option<At<ByteSize>>,
    /// How long the start may wait for it.
    pub deadline: Time,
    /// How long its keys stay hot though nobody asks for them.
    pub hold: Time,
    /// How often the list is saved.
    pub save_every: Time,
}

/// A hot list with its bounds.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the schema of `preload` as a table")]
struct PreloadTable {
    /// The file. Relative paths start from this file's directory; no two
    /// processes may share one. Its directory must be writable: the list is
    /// written beside it and takes its place.
    path: String,
    /// Keys that are saved and fetched, the hottest of all pools. Default
    /// 10000, 1 to 65536. Too big: the start of each proxy costs the servers as
    /// many requests.
    #[schemars(range(min = 1, max = KEYS_MOST), extend("default" = PRELOAD_KEYS_MAX))]
    keys_max: Option<u32>,
    /// Bytes that the values may take that are fetched. Default: half of
    /// `capacity`, "1KiB" to `capacity`.
    #[schemars(with = "Option<ByteSize>")]
    bytes_max: Option<u64>,
    /// How long `/readyz` says 503 for it, and how long values are fetched.
    /// Default "2s", at most "5m"; "0s": keys are hot from the start, and
    /// nothing is fetched for them. Too long: a server that is down delays
    /// every start by as much.
    #[schemars(with = "Option<Time>", extend("default" = PRELOAD_DEADLINE.to_string()))]
    deadline: Option<u64>,
    /// How long a key of the list stays hot after the start though nobody asks
    /// for it. Default "30s", at most "1h". Too short: traffic that comes back
    /// slowly finds nothing.
    #[schemars(with = "Option<Time>", extend("default" = PRELOAD_HOLD.to_string()))]
    hold: Option<u64>,
    /// How often the list is saved, if other keys are hot than before. Default
    /// "60s", "1s" to "1h". It is what is lost by a process that is killed.
    #[schemars(with = "Option<Time>", extend("default" = PRELOAD_SAVE_EVERY.to_string()))]
    save_every: Option<u64>,
}

impl JsonSchema for Preload {
    fn schema_name() -> Cow<'static, str> {
        "Preload".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<PreloadTable>();
        json_schema!({
            "description": "A path, or a table with a path and bounds.",
            "anyOf": [{ "type": "string" }, table],
        })
    }
}

impl Preload {
    pub(super) fn read(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<Preload> {
        let value = fields.raw("preload")?;
        let DeValue::Table(table) = value.get_ref() else {
            let path = reader.scalar::<String>(value, "`preload`")?;
            return Preload::at(path, reader);
        };
        let title = format!("[{}]", fields.inner("preload"));
        let mut inner = Fields::new(table, value.span(), title);
        let path = inner.required::<String>(reader, "path");
        let keys_max = inner.bounded(reader, "keys_max", 1, KEYS_MOST);
        let bytes_max = inner.bounded(reader, "bytes_max", ByteSize(1024), ByteSize(1 << 40));
        let none = Time::secs(0);
        let deadline = inner.bounded(reader, "deadline", none, Time::secs(300));
        let hold = inner.bounded(reader, "hold", none, Time::secs(3600));
        let least = Time::secs(1);
        let save_every = inner.bounded(reader, "save_every", least, Time::secs(3600));
        inner.finish(reader);
        let preload = Preload::at(path?, reader)?;
        let time = |at: Option<At<Time>>, default| at.map_or(default, |at| at.value);
        Some(Preload {
            keys_max: keys_max.map_or(preload.keys_max, |at| at.value),
            bytes_max,
            deadline: time(deadline, preload.deadline),
            hold: time(hold, preload.hold),
            save_every: time(save_every, preload.save_every),
            ..preload
        })
    }

    fn at(path: At<String>, reader: &mut Reader<'_>) -> Option<Preload> {
        if path.value.is_empty() || path.value.contains('\0') {
            reader.report.error(&path.span, "this cannot be a path");
            return None;
        }
        Some(Preload {
            path,
            keys_max: PRELOAD_KEYS_MAX,
            bytes_max: None,
            deadline: PRELOAD_DEADLINE,
            hold: PRELOAD_HOLD,
            save_every: PRELOAD_SAVE_EVERY,
        })
    }
}
