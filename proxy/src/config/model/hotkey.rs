//! `[hotkey]`, `[[hotkey.rules]]`, and the same below a pool.

use schemars::JsonSchema;

use super::inherit::Inherited;
use crate::config::read::{At, Fields, Reader};
use crate::config::units::{ByteSize, Time};
use crate::config::words::word_schema;
use crate::running::Visibility;

/// The default of `window`.
pub const WINDOW: Time = Time::secs(1);
/// The default of `threshold`.
pub const THRESHOLD: u64 = 1000;
/// The default of `threshold_bytes`.
pub const THRESHOLD_BYTES: ByteSize = ByteSize::mib(16);
/// The default of `hold`.
pub const HOLD: Time = Time::secs(0);
/// More requests than any window could see.
const THRESHOLD_MAX: u64 = 1_000_000_000_000;
/// Further servers that a key may be copied to.
const COPIES_MAX: u16 = 8;

/// Which keys are hot. What stands here is for all pools;
/// `[pools.NAME.hotkey]` overrides it key by key.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HotkeyTable {
    /// Whether requests are counted. Default true. With false nothing becomes
    /// hot but what `always` lists, so nothing else can be answered from
    /// memory, and nothing is shown of what would be worth it.
    #[schemars(with = "Option<bool>", extend("default" = true))]
    pub enabled: Option<At<bool>>,
    /// The time that requests are counted over; it slides. Default "1s",
    /// "100ms" to "1h". Too short: what looks hot is chance; too long: a key
    /// that has cooled down stays hot for as long.
    #[schemars(extend("default" = WINDOW.to_string()))]
    pub window: Option<At<Time>>,
    /// Requests for a key in the window, to this proxy and this pool, from
    /// which on it is hot. Default 1000, at least 1. Too low: keys come and
    /// go that memory cannot help, and every fill costs a request; too high:
    /// hot keys stay unnoticed, which happens easily where many sidecars
    /// share one load.
    #[schemars(range(min = 1, max = THRESHOLD_MAX), extend("default" = THRESHOLD))]
    pub threshold: Option<At<u64>>,
    /// Bytes of replies for a key in the window from which on it is hot,
    /// however few its requests are. Default "16MiB"; "0B" looks at requests
    /// alone. Too low: any large value is hot; too high: a network card is
    /// full before a key is noticed.
    #[schemars(extend("default" = THRESHOLD_BYTES.to_string()))]
    pub threshold_bytes: Option<At<ByteSize>>,
    /// One request of this many is counted. Default 1, all of them; at most
    /// 1000. Above 1 counting costs less, but rates are estimates, and with a
    /// threshold below 16 times as much they say little.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    pub sample: Option<At<u32>>,
    /// How long a hot key stays so at the least. Default "0s": as long as it
    /// is asked for; at most "1h". Too long: keys that nobody asks for any
    /// more hold memory and keep their servers tracking them.
    #[schemars(extend("default" = HOLD.to_string()))]
    pub hold: Option<At<Time>>,
    /// Keys that are always hot, whether they are asked for or not. Default:
    /// none; at most 1000, of at most 1024 bytes. Each is fetched as soon as
    /// it is read, so too many of them push out what is hot in fact.
    #[schemars(with = "Option<Vec<String>>")]
    pub always: Option<At<Vec<At<String>>>>,
    /// How many further servers of the pool hold a hot key that cannot be
    /// answered from memory, so that its reads spread over them. Default 0:
    /// it stays on its own; at most 8. Every copy is one more server to
    /// delete from before a write is acknowledged, so too many make writes
    /// slow, and more than the pool has other servers are not made.
    #[schemars(range(max = COPIES_MAX), extend("default" = 0))]
    pub copies: Option<At<u16>>,
    /// Keys that are always copied to `copies` further servers, hot or not.
    /// Default: none; at most 1000, of at most 1024 bytes. Wants `copies`.
    #[schemars(with = "Option<Vec<String>>")]
    pub split: Option<At<Vec<At<String>>>>,
    /// Whether INCRBYs of a hot key that arrive while one is under way are
    /// added up and sent as one (Redis). Default false. Every client is told
    /// the sum that it would have seen; on the server, there is one command
    /// where there were many.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub combine_increments: Option<At<bool>>,
    /// How people see keys in reports, logs and the admin API: "hash", the
    /// default, as a hash with a secret of the process, which is the same in
    /// all reports of this process and nowhere else; or "plain", as they are.
    /// Keys often hold names or tokens: "plain" shows those to whoever sees a
    /// report.
    #[schemars(default, schema_with = "word_schema::<Visibility>", extend("default" = "hash"))]
    pub key_visibility: Option<At<Visibility>>,
    /// Other settings for keys with a prefix; of several that match, the
    /// longest counts. Default: none; at most 1000. The list of a pool stands
    /// in place of the general one.
    #[schemars(with = "Option<Vec<HotRuleTable>>")]
    pub rules: Option<At<Vec<HotRuleTable>>>,
}

impl HotkeyTable {
    /// Read `[hotkey]`.
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> HotkeyTable {
        let key_visibility = fields.optional(reader, "key_visibility");
        let table = HotkeyTable::shared(fields, reader);
        HotkeyTable {
            key_visibility,
            ..table
        }
    }

    /// Read `[pools.NAME.hotkey]`.
    pub(super) fn read_in_pool(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> HotkeyTable {
        fields.elsewhere(reader, "key_visibility", "[hotkey]");
        HotkeyTable::shared(fields, reader)
    }

    fn shared(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> HotkeyTable {
        let none = ByteSize(0);
        let table = HotkeyTable {
            enabled: fields.optional(reader, "enabled"),
            window: read_window(&mut fields, reader),
            threshold: fields.bounded(reader, "threshold", 1, THRESHOLD_MAX),
            threshold_bytes: fields.bounded(reader, "threshold_bytes", none, ByteSize(1 << 50)),
            sample: fields.bounded(reader, "sample", 1, 1000),
            hold: read_hold(&mut fields, reader),
            always: fields.list(reader, "always"),
            copies: fields.bounded(reader, "copies", 0, COPIES_MAX),
            split: fields.list(reader, "split"),
            combine_increments: fields.optional(reader, "combine_increments"),
            key_visibility: None,
            rules: fields.tables(reader, "rules", HotRuleTable::read),
        };
        fields.finish(reader);
        table
    }
}

impl Inherited for HotkeyTable {
    const NAME: &'static str = "PoolHotkeyTable";
    const DESCRIPTION: &'static str =
        "Which keys of this pool are hot. What is left out is as in [hotkey].";
    const FOR_ALL: &'static [&'static str] = &["key_visibility"];
}

/// What is hot among the keys with a prefix. What is left out is as in the
/// table that the rule stands in.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HotRuleTable {
    /// What the keys begin with; the whole key counts, hash tag or not. Not
    /// empty, at most 1024 bytes, and each prefix once.
    #[schemars(required, with = "String")]
    pub prefix: Option<At<String>>,
    /// The time that requests are counted over, "100ms" to "1h". Every
    /// further window costs each worker counters of its own, so let rules
    /// share a few.
    #[schemars(with = "Option<Time>")]
    pub window: Option<At<Time>>,
    /// Requests in the window from which on such a key is hot; at least 1.
    /// Low suits keys that are dear to answer, high those that are not worth
    /// the memory.
    #[schemars(with = "Option<u64>", range(min = 1, max = THRESHOLD_MAX))]
    pub threshold: Option<At<u64>>,
    /// How long such a key stays hot at the least, at most "1h".
    #[schemars(with = "Option<Time>")]
    pub hold: Option<At<Time>>,
    /// The longest time that such a key is answered from memory, "1ms" to
    /// "1h", where that is less than the `ttl` of `[l1]`. Default: no less.
    /// Too short: nearly every read is a fill.
    #[schemars(with = "Option<Time>")]
    pub ttl: Option<At<Time>>,
    /// Whether such keys may be answered from memory. Default true. With
    /// false they are counted and shown, and every read goes to the server.
    #[schemars(with = "Option<bool>", extend("default" = true))]
    pub allow: Option<At<bool>>,
}

impl HotRuleTable {
    fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> HotRuleTable {
        let table = HotRuleTable {
            prefix: fields.required(reader, "prefix"),
            window: read_window(&mut fields, reader),
            threshold: fields.bounded(reader, "threshold", 1, THRESHOLD_MAX),
            hold: read_hold(&mut fields, reader),
            ttl: fields.bounded(reader, "ttl", Time::millis(1), Time::secs(3600)),
            allow: fields.optional(reader, "allow"),
        };
        fields.finish(reader);
        table
    }
}

fn read_window(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<At<Time>> {
    fields.bounded(reader, "window", Time::millis(100), Time::secs(3600))
}

fn read_hold(fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) -> Option<At<Time>> {
    fields.bounded(reader, "hold", Time::secs(0), Time::secs(3600))
}
