//! `[l1]`, and the same below a pool.

use schemars::JsonSchema;

use super::inherit::Inherited;
use super::preload::Preload;
use crate::config::read::{At, Fields, Reader};
use crate::config::units::{ByteSize, Time};
use crate::config::words::word_schema;
use crate::running::Mode;

/// The default of `capacity`.
pub const L1_CAPACITY: ByteSize = ByteSize::mib(64);
/// The default of `ttl` where nothing else says that a value has changed.
pub const TTL_BLIND: Time = Time::secs(1);
/// The default of `ttl` where the server does.
pub const TTL_TOLD: Time = Time::secs(60);
/// The default of `max_item`.
pub const MAX_ITEM: ByteSize = ByteSize(256 << 10);
/// The default of `negative_ttl`, and its most.
pub const NEGATIVE_TTL: Time = Time::secs(1);
/// The default of `heartbeat`.
pub const HEARTBEAT: Time = Time::secs(1);
/// The default of `early_refresh`.
pub const EARLY_REFRESH: f64 = 1.0;
/// The default of `stale_if_error`.
pub const STALE_IF_ERROR: Time = Time::secs(0);
/// The default of `waiters_max`.
pub const WAITERS_MAX: usize = 1024;
/// The default of `reads_per_invalidation`.
pub const READS_PER_INVALIDATION: u32 = 16;
/// The default of `touch_every`.
pub const TOUCH_EVERY: Time = Time::secs(10);
/// The default of `lease`.
pub const LEASE: Time = Time::secs(0);

/// How hot keys are answered from this process's memory. Without this table,
/// and without `[pools.NAME.l1]`, none is; what would have been is counted.
/// What stands here is for all pools; `[pools.NAME.l1]` overrides it key by
/// key.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct L1Table {
    /// Bytes that the items of all pools may hold, bookkeeping included.
    /// Default "64MiB", "1MiB" to "1TiB". It comes on top of `[proxy]
    /// memory_max`. Too small: hot keys push each other out; too big for the
    /// container: the kernel kills the process.
    #[schemars(extend("default" = L1_CAPACITY.to_string()))]
    pub capacity: Option<At<ByteSize>>,
    /// A file that keeps the list of hot keys while the process is away, so
    /// that the next one begins with them in memory. Default: there is none.
    pub preload: Option<Preload>,
    /// What is promised. "off": every read goes to its server. "observe": the
    /// same, and what would have been answered from memory is counted. "ttl":
    /// a value is at most `ttl` old; what is written through this proxy is
    /// seen at once. "tracking": servers also push what has changed (Redis
    /// from version 6; where that is missing, "ttl", said in the log).
    /// "revalidate": every read asks whether the value is still the same
    /// (memcached). Default: "tracking" on Redis pools and "ttl" on memcached
    /// pools, which is also what "tracking" in `[l1]` means for those; on local
    /// pools it is always "off".
    #[schemars(default, schema_with = "word_schema::<Mode>")]
    pub mode: Option<At<Mode>>,
    /// The longest time that an item is kept, from when it was asked for; its
    /// end on the server counts too. Default "1s" in "ttl" and "observe",
    /// "60s" in "tracking" and "revalidate"; "1ms" to "1h". Too short: fills
    /// cost what the memory saves; too long: in "ttl", what others write is
    /// not seen for as long.
    #[schemars(with = "Option<Time>")]
    pub ttl: Option<At<Time>>,
    /// The largest value that is kept, in bytes. Default "256KiB", "1B" to
    /// "64MiB" and no more than `capacity`. Too small: large hot values fill
    /// the network all the same; too big: one of them pushes out many.
    #[schemars(extend("default" = MAX_ITEM.to_string()))]
    pub max_item: Option<At<ByteSize>>,
    /// How long it is remembered that a key does not exist. Default "1s",
    /// which is the most, and never longer than `ttl`; "0s": not at all, so
    /// that every read of a missing key goes to the server. Too long: a key
    /// that somebody else creates is not seen for as long.
    #[schemars(extend("default" = NEGATIVE_TTL.to_string()))]
    pub negative_ttl: Option<At<Time>>,
    /// In "tracking", how old the last ping that a server answered may be for
    /// its items to be served, and so how old a value can get when its
    /// connection is dead. Default "1s", "10ms" to "60s". Too short: a busy server or
    /// network empties the L1; too long: a value may be as old.
    #[schemars(extend("default" = HEARTBEAT.to_string()))]
    pub heartbeat: Option<At<Time>>,
    /// How eagerly an item is asked for anew before it ends: the beta of
    /// XFetch, a number from 0 to 10. Default 1.0; 0: never, so that clients
    /// wait for a fill whenever it ends. Too big: more fills than needed.
    #[schemars(with = "Option<f64>", range(min = 0, max = 10), extend("default" = EARLY_REFRESH))]
    pub early_refresh: Option<At<f64>>,
    /// How long past its end an item may be served while its server gives no
    /// answer. Default "0s": not at all; at most "1h". It is the one setting
    /// that breaks the promise of the mode, by as much as it says.
    #[schemars(extend("default" = STALE_IF_ERROR.to_string()))]
    pub stale_if_error: Option<At<Time>>,
    /// Clients of one worker that may wait for the fill of one key. Default
    /// 1024, 1 to 65536. Those beyond it ask the server themselves. Too
    /// small: a herd reaches the server; too big: a slow server makes as many
    /// clients wait for one answer.
    #[schemars(range(min = 1, max = 65_536), extend("default" = WAITERS_MAX))]
    pub waiters_max: Option<At<usize>>,
    /// Reads between two invalidations that a key needs for its items to be
    /// kept. Default 16, at most 1000000; 0 keeps it however often it is
    /// written. Too small: fills that nobody reads; too big: keys that memory
    /// would help go to the server.
    #[schemars(range(max = 1_000_000), extend("default" = READS_PER_INVALIDATION))]
    pub reads_per_invalidation: Option<At<u32>>,
    /// In "tracking", how often the server is told that a key is in use,
    /// since it no longer sees the reads. Default "10s", "1s" to "1h". Too
    /// long: a full server evicts its hottest keys as if nobody used them.
    #[schemars(extend("default" = TOUCH_EVERY.to_string()))]
    pub touch_every: Option<At<Time>>,
    /// How long one client may take to set a hot key that is missing while
    /// the others wait for it (memcached). Default "0s": nobody waits; at
    /// most "60s". Too short: the herd computes the value all the same; too
    /// long: if that client fails, the others wait as long.
    #[schemars(extend("default" = LEASE.to_string()))]
    pub lease: Option<At<Time>>,
}

impl L1Table {
    /// Read `[l1]`.
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> L1Table {
        let most = ByteSize(1 << 40);
        let capacity = fields.bounded(reader, "capacity", ByteSize::mib(1), most);
        let preload = Preload::read(&mut fields, reader);
        let table = L1Table::shared(fields, reader);
        L1Table {
            capacity,
            preload,
            ..table
        }
    }

    /// Read `[pools.NAME.l1]`.
    pub(super) fn read_in_pool(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> L1Table {
        fields.elsewhere(reader, "capacity", "[l1]");
        fields.elsewhere(reader, "preload", "[l1]");
        L1Table::shared(fields, reader)
    }

    fn shared(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> L1Table {
        let (none, hour) = (Time::secs(0), Time::secs(3600));
        let table = L1Table {
            capacity: None,
            preload: None,
            mode: fields.optional(reader, "mode"),
            ttl: fields.bounded(reader, "ttl", Time::millis(1), hour),
            max_item: fields.bounded(reader, "max_item", ByteSize(1), ByteSize::mib(64)),
            negative_ttl: fields.bounded(reader, "negative_ttl", none, NEGATIVE_TTL),
            heartbeat: fields.bounded(reader, "heartbeat", Time::millis(10), Time::secs(60)),
            early_refresh: fields.bounded(reader, "early_refresh", 0.0, 10.0),
            stale_if_error: fields.bounded(reader, "stale_if_error", none, hour),
            waiters_max: fields.bounded(reader, "waiters_max", 1, 65_536),
            reads_per_invalidation: fields.bounded(reader, "reads_per_invalidation", 0, 1_000_000),
            touch_every: fields.bounded(reader, "touch_every", Time::secs(1), hour),
            lease: fields.bounded(reader, "lease", none, Time::secs(60)),
        };
        fields.finish(reader);
        table
    }
}

impl Inherited for L1Table {
    const NAME: &'static str = "PoolL1Table";
    const DESCRIPTION: &'static str = "How hot keys of this pool are answered from this process's \
        memory; a local pool cannot have it. What is left out is as in [l1].";
    const FOR_ALL: &'static [&'static str] = &["capacity", "preload"];
}
