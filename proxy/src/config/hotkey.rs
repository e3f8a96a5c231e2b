//! `[hotkey]` and `[pools.NAME.hotkey]`: checked, and put together for a pool.
//!
//! What stands in the general table is checked once, however many pools take
//! it over, and each pool's own table against what is in force there.

use std::collections::HashMap;
use std::ops::Range;

use super::model::{self, Config, HotRuleTable, HotkeyTable, Layers, PoolKind, PoolTable};
use super::read::At;
use super::{ByteSize, Report, Time};
use crate::running::{self, HotRule, Protocol, Visibility};

/// Entries in one of the lists: `rules`, `always`, `split`.
const LIST_MAX: usize = 1_000;
/// Bytes of a listed key or prefix.
const KEY_MAX: usize = 1_024;
/// Entries of all lists in all pools together. A general list counts for each
/// pool that takes it over, as each keeps its own.
const LISTED_MAX: usize = 100_000;
/// Counted requests from which on an estimated rate says something: a
/// standard deviation is then a quarter of it.
const COUNTED_MIN: u64 = 16;

/// Note every mistake.
pub fn check(config: &Config, report: &mut Report) {
    if let Some(table) = &config.hotkey {
        check_lists(table, report);
        check_sample(Layers::alone(table), report);
        check_split(Layers::alone(table), report);
    }
    let mut listed = 0_usize;
    for (name, pool) in &config.pools {
        let layers = layers(config, pool);
        listed = listed.saturating_add(count(layers));
        let Some(table) = &pool.hotkey else { continue };
        check_lists(table, report);
        check_sample(layers, report);
        check_keys(name, pool, table, report);
        if kind(pool) == PoolKind::Remote {
            check_split(layers, report);
            check_copies(name, pool, table, report);
        }
    }
    if listed > LISTED_MAX {
        report.error_nowhere(format!(
            "{listed} rules and keys are listed for all pools together, expected at most {LISTED_MAX}"
        ));
    }
}

/// What is in force in a pool.
pub fn resolve(config: &Config, pool: &PoolTable) -> running::Hotkey {
    let layers = layers(config, pool);
    let window = layers.value(model::WINDOW, |table| &table.window);
    let threshold = layers.value(model::THRESHOLD, |table| &table.threshold);
    let hold = layers.value(model::HOLD, |table| &table.hold);
    let rule = |table: &HotRuleTable| {
        Some(HotRule {
            prefix: bytes(table.prefix.as_ref()?),
            window_ms: millis(table.window.as_ref().map_or(window, |at| at.value)),
            threshold: table.threshold.as_ref().map_or(threshold, |at| at.value),
            hold: table.hold.as_ref().map_or(hold, |at| at.value).0,
            ttl: table.ttl.as_ref().map(|at| at.value.0),
            allow: table.allow.as_ref().is_none_or(|at| at.value),
        })
    };
    let rules = layers.find(|table| &table.rules);
    let ByteSize(threshold_bytes) =
        layers.value(model::THRESHOLD_BYTES, |table| &table.threshold_bytes);
    let hotkey = running::Hotkey {
        enabled: layers.value(true, |table| &table.enabled),
        window_ms: millis(window),
        threshold,
        threshold_bytes: (threshold_bytes > 0).then_some(threshold_bytes),
        sample: layers.value(1, |table| &table.sample),
        hold: hold.0,
        rules: rules.map_or(Vec::new(), |at| at.iter().filter_map(rule).collect()),
        always: keys(layers.find(|table| &table.always)),
        copies: layers.value(0, |table| &table.copies),
        split: keys(layers.find(|table| &table.split)),
        combine_increments: layers.value(false, |table| &table.combine_increments),
    };
    match kind(pool) {
        PoolKind::Remote => hotkey,
        // There is no server to spare.
        PoolKind::Local => running::Hotkey {
            copies: 0,
            split: Vec::new(),
            combine_increments: false,
            ..hotkey
        },
    }
}

/// How keys are shown.
pub fn visibility(config: &Config) -> Visibility {
    let written = config
        .hotkey
        .as_ref()
        .and_then(|table| table.key_visibility.as_ref());
    written.map(|at| at.value).unwrap_or_default()
}

/// Where a pool's settings come from.
pub fn layers<'a>(config: &'a Config, pool: &'a PoolTable) -> Layers<'a, HotkeyTable> {
    Layers {
        own: pool.hotkey.as_ref(),
        general: config.hotkey.as_ref(),
    }
}

/// Whether no key of a pool with these settings is ever promoted.
pub fn promotes_nothing(layers: Layers<'_, HotkeyTable>) -> bool {
    let always = layers.find(|table| &table.always);
    !layers.value(true, |table| &table.enabled) && always.is_none_or(|keys| keys.is_empty())
}

/// Entries that the pool keeps.
fn count(layers: Layers<'_, HotkeyTable>) -> usize {
    let keys = |list: Option<&At<Vec<At<String>>>>| list.map_or(0, |list| list.len());
    let rules = layers.find(|table| &table.rules);
    rules.map_or(0, |rules| rules.len())
        + keys(layers.find(|table| &table.always))
        + keys(layers.find(|table| &table.split))
}

/// The lists of one table against themselves.
fn check_lists(table: &HotkeyTable, report: &mut Report) {
    if let Some(rules) = &table.rules {
        let prefixes: Vec<_> = rules.iter().map(|rule| rule.prefix.as_ref()).collect();
        check_list("rules", rules, &prefixes, report);
    }
    for (name, list) in [("always", &table.always), ("split", &table.split)] {
        if let Some(list) = list {
            let keys: Vec<_> = list.iter().map(Some).collect();
            check_list(name, list, &keys, report);
        }
    }
}

fn check_list<T>(
    name: &str,
    list: &At<Vec<T>>,
    entries: &[Option<&At<String>>],
    report: &mut Report,
) {
    if entries.len() > LIST_MAX {
        let message = format!(
            "`{name}` has {} entries, expected at most {LIST_MAX}",
            entries.len()
        );
        report.error(&list.span, message);
        return;
    }
    let what = match name {
        "rules" => "`prefix`".to_owned(),
        _ => format!("a key in `{name}`"),
    };
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(entry) = entry else { continue };
        match entry.len() {
            0 => report.error(&entry.span, format!("{what} is empty")),
            1..=KEY_MAX => {}
            n => report.error(
                &entry.span,
                format!("{what} has {n} bytes, expected at most {KEY_MAX}"),
            ),
        }
        if let Some(first) = seen.insert(&entry.value, index)
            && !entry.is_empty()
        {
            let shown: String = entry.chars().take(64).collect();
            let message = format!(
                "\"{shown}\" stands in `{name}` twice, as number {} and {}",
                first + 1,
                index + 1
            );
            report.error(&entry.span, message);
        }
    }
}

/// Few counted requests make a poor estimate. Only what this table writes is
/// its fault.
fn check_sample(layers: Layers<'_, HotkeyTable>, report: &mut Report) {
    let Some(own) = layers.own else { return };
    let sample = layers.value(1, |table| &table.sample);
    let least = COUNTED_MIN * u64::from(sample);
    if sample <= 1 {
        return;
    }
    let mut weak = |threshold: u64, at: &Range<usize>| {
        if threshold < least {
            report.warning_hint(
                at,
                format!(
                    "with `sample` {sample}, a threshold of {threshold} means counting to \
                     about {}, which says little",
                    threshold / u64::from(sample)
                ),
                &format!("make `threshold` at least {least}, or `sample` smaller"),
            );
        }
    };
    let threshold = layers.value(model::THRESHOLD, |table| &table.threshold);
    let written = own.threshold.as_ref().map(|at| &at.span);
    if let Some(at) = written.or(own.sample.as_ref().map(|at| &at.span)) {
        weak(threshold, at);
    }
    let rules = own.rules.iter().flat_map(|rules| rules.iter());
    for threshold in rules.filter_map(|rule| rule.threshold.as_ref()) {
        weak(threshold.value, &threshold.span);
    }
}

/// A list of keys to copy wants somewhere to copy them to.
fn check_split(layers: Layers<'_, HotkeyTable>, report: &mut Report) {
    let Some(own) = layers.own else { return };
    let listed = layers
        .find(|table| &table.split)
        .is_some_and(|keys| !keys.is_empty());
    if !listed || layers.value(0, |table| &table.copies) > 0 {
        return;
    }
    let copies = own.copies.as_ref().map(|at| &at.span);
    if let Some(at) = copies.or(own.split.as_ref().map(|at| &at.span)) {
        let hint = "copies = 1 keeps each of them on one more server".to_owned();
        report.error_hint(at, "`split` lists keys, but `copies` is 0", Some(hint));
    }
}

/// A key cannot be on more servers than there are.
fn check_copies(name: &str, pool: &PoolTable, table: &HotkeyTable, report: &mut Report) {
    let (Some(copies), Some(servers)) = (&table.copies, &pool.servers) else {
        return;
    };
    let others = servers.len().saturating_sub(1);
    if usize::from(copies.value) > others {
        let plural = if others == 1 { "server" } else { "servers" };
        let message = format!(
            "`copies` is {}, but pool `{name}` has {others} further {plural}",
            copies.value
        );
        report.warning(&copies.span, message);
    }
}

/// No key may be silently ignored: one without a meaning for this kind of
/// pool is an error.
fn check_keys(name: &str, pool: &PoolTable, table: &HotkeyTable, report: &mut Report) {
    let mut refuse = |key: &str, at: Option<&Range<usize>>, why: &str| {
        if let Some(at) = at {
            report.error(
                at,
                format!("`{key}` has no meaning in pool `{name}`: {why}"),
            );
        }
    };
    let combine = table.combine_increments.as_ref().map(|at| &at.span);
    let protocol = pool.protocol.as_ref().map(|at| at.value);
    match (kind(pool), protocol) {
        (PoolKind::Local, _) => {
            let why = "a local pool has no servers";
            refuse("copies", table.copies.as_ref().map(|at| &at.span), why);
            refuse("split", table.split.as_ref().map(|at| &at.span), why);
            refuse("combine_increments", combine, why);
            let why = "a local pool answers from memory already";
            for rule in table.rules.iter().flat_map(|rules| rules.iter()) {
                refuse("ttl", rule.ttl.as_ref().map(|at| &at.span), why);
                refuse("allow", rule.allow.as_ref().map(|at| &at.span), why);
            }
        }
        (_, Some(Protocol::Memcached)) => {
            refuse("combine_increments", combine, "it is about Redis' INCRBY");
        }
        _ => {}
    }
}

/// Whether the pool has servers.
pub fn kind(pool: &PoolTable) -> PoolKind {
    pool.kind.as_ref().map(|at| at.value).unwrap_or_default()
}

fn keys(list: Option<&At<Vec<At<String>>>>) -> Vec<Box<[u8]>> {
    list.map_or(Vec::new(), |list| list.iter().map(bytes).collect())
}

fn bytes(text: &At<String>) -> Box<[u8]> {
    text.as_bytes().into()
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX)
}
