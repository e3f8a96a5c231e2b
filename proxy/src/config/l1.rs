//! `[l1]` and `[pools.NAME.l1]`: checked, and put together for a pool.
//!
//! ```text
//!                    neither table   [l1]                          [pools.NAME.l1]
//! a Redis pool       observe         mode, else tracking           its own mode comes first
//! a memcached pool   observe         mode, else ttl;               its own mode comes first
//!                                    tracking means ttl
//! a local pool       off             off                           an error
//! ```

use super::files::full_path;
use super::hotkey::{self, kind};
use super::model::{self, Config, L1Table, Layers, PoolKind, PoolTable};
use super::read::At;
use super::{ByteSize, Environment, Report};
use crate::running::{self, Mode, Protocol};

/// Note every mistake.
pub fn check(config: &Config, environment: &Environment<'_>, report: &mut Report) {
    let ByteSize(capacity) = capacity(config);
    if let Some(table) = &config.l1 {
        check_max_item(capacity, table, report);
        check_preload(config, table, environment, report);
    }
    check_revalidate(config, report);
    check_enabled(config, report);
    for (name, pool) in &config.pools {
        let Some(table) = &pool.l1 else { continue };
        if kind(pool) == PoolKind::Local {
            let message = format!("[pools.{name}.l1] has no meaning: pool `{name}` is local");
            let hint = "a local pool answers from this process's memory already".to_owned();
            report.error_hint(&table.span, message, Some(hint));
            continue;
        }
        check_max_item(capacity, table, report);
        match pool.protocol.as_ref().map(|at| at.value) {
            Some(Protocol::Redis) => check_redis(name, table, report),
            Some(Protocol::Memcached) => check_memcached(name, table, report),
            None => {}
        }
    }
}

/// What is in force in a pool.
pub fn resolve(config: &Config, pool: &PoolTable, protocol: Protocol) -> running::L1 {
    let layers = layers(config, pool);
    let mode = mode(config, pool, protocol);
    let ttl = match mode {
        Mode::Off | Mode::Observe | Mode::Ttl => model::TTL_BLIND,
        Mode::Tracking | Mode::Revalidate => model::TTL_TOLD,
    };
    let ttl = layers.value(ttl, |table| &table.ttl);
    let negative_ttl = layers.value(model::NEGATIVE_TTL, |table| &table.negative_ttl);
    let ByteSize(max_item) = layers.value(model::MAX_ITEM, |table| &table.max_item);
    running::L1 {
        mode,
        ttl: ttl.0,
        max_item: usize::try_from(max_item).unwrap_or(usize::MAX),
        negative_ttl: negative_ttl.min(ttl).0,
        heartbeat: layers.value(model::HEARTBEAT, |table| &table.heartbeat).0,
        early_refresh: layers.value(model::EARLY_REFRESH, |table| &table.early_refresh),
        stale_if_error: layers
            .value(model::STALE_IF_ERROR, |table| &table.stale_if_error)
            .0,
        waiters_max: layers.value(model::WAITERS_MAX, |table| &table.waiters_max),
        reads_per_invalidation: layers.value(model::READS_PER_INVALIDATION, |table| {
            &table.reads_per_invalidation
        }),
        touch_every: layers
            .value(model::TOUCH_EVERY, |table| &table.touch_every)
            .0,
        lease: match protocol {
            Protocol::Redis => model::LEASE.0,
            Protocol::Memcached => layers.value(model::LEASE, |table| &table.lease).0,
        },
    }
}

/// Bytes for the items of all pools.
pub fn capacity(config: &Config) -> ByteSize {
    let written = config.l1.as_ref().and_then(|table| table.capacity.as_ref());
    written.map_or(model::L1_CAPACITY, |at| at.value)
}

/// Where the hot list is kept, if it is.
pub fn preload(config: &Config, environment: &Environment<'_>) -> Option<running::Preload> {
    let written = config.l1.as_ref()?.preload.as_ref()?;
    let half = ByteSize(capacity(config).0 / 2);
    Some(running::Preload {
        path: full_path(&written.path.value, environment),
        keys_max: usize::try_from(written.keys_max).unwrap_or(usize::MAX),
        bytes_max: written.bytes_max.as_ref().map_or(half, |at| at.value).0,
        deadline: written.deadline.0,
        hold: written.hold.0,
        save_every: written.save_every.0,
    })
}

/// What is promised for a pool; what it may not be is an error elsewhere.
fn mode(config: &Config, pool: &PoolTable, protocol: Protocol) -> Mode {
    let layers = layers(config, pool);
    if kind(pool) == PoolKind::Local {
        return Mode::Off;
    }
    if !layers.exist() {
        return Mode::Observe;
    }
    // A pool that says of itself that nothing is hot wants none of what it
    // would take over.
    let hot = hotkey::layers(config, pool);
    let own = hot.own.and_then(|table| table.enabled.as_ref());
    if own.is_some() && pool.l1.is_none() && hotkey::promotes_nothing(hot) {
        return Mode::Off;
    }
    match layers.find(|table| &table.mode).map(|at| at.value) {
        None | Some(Mode::Tracking) => match protocol {
            Protocol::Redis => Mode::Tracking,
            Protocol::Memcached => Mode::Ttl,
        },
        Some(mode) => mode,
    }
}

fn layers<'a>(config: &'a Config, pool: &'a PoolTable) -> Layers<'a, L1Table> {
    Layers {
        own: pool.l1.as_ref().map(|at| &at.value),
        general: config.l1.as_ref(),
    }
}

fn check_max_item(capacity: u64, table: &L1Table, report: &mut Report) {
    if let Some(max_item) = &table.max_item
        && max_item.value.0 > capacity
    {
        let message = format!(
            "`max_item` is {}, more than the `capacity` of the L1, which is {}",
            max_item.value,
            ByteSize(capacity)
        );
        report.error(&max_item.span, message);
    }
}

/// A list that is never used, or not kept, is hardly what was meant.
fn check_preload(
    config: &Config,
    table: &L1Table,
    environment: &Environment<'_>,
    report: &mut Report,
) {
    let Some(preload) = &table.preload else {
        return;
    };
    let ByteSize(capacity) = capacity(config);
    if let Some(bytes_max) = &preload.bytes_max
        && bytes_max.value.0 > capacity
    {
        let message = format!(
            "`bytes_max` is {}, more than the `capacity` of the L1, which is {}",
            bytes_max.value,
            ByteSize(capacity)
        );
        report.error(&bytes_max.span, message);
    }
    let at = &preload.path.span;
    let path = full_path(&preload.path.value, environment);
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        let message = format!("`preload`: there is no directory {}", parent.display());
        report.warning(at, message);
    }
    let answers = |pool: &PoolTable| {
        let protocol = pool.protocol.as_ref().map(|at| at.value);
        let mode = protocol.map(|protocol| mode(config, pool, protocol));
        mode.is_none_or(|mode| !matches!(mode, Mode::Off | Mode::Observe))
    };
    if !config.pools.values().any(|pool| answers(pool)) {
        report.warning(
            at,
            "`preload` has no effect: the L1 of no pool answers from memory",
        );
    }
}

/// A general `revalidate` must not reach a Redis pool.
fn check_revalidate(config: &Config, report: &mut Report) {
    let mode = config.l1.as_ref().and_then(|table| table.mode.as_ref());
    let Some(mode) = mode.filter(|mode| mode.value == Mode::Revalidate) else {
        return;
    };
    let reached = config.pools.iter().find(|(_, pool)| {
        let own = pool.l1.as_ref().and_then(|table| table.mode.as_ref());
        let redis = pool.protocol.as_ref().map(|at| at.value) == Some(Protocol::Redis);
        redis && kind(pool) == PoolKind::Remote && own.is_none()
    });
    if let Some((name, _)) = reached {
        report.error_hint(
            &mode.span,
            format!("\"revalidate\" is for memcached, and pool `{name}` speaks Redis"),
            Some(format!("write mode = \"tracking\" in [pools.{name}.l1]")),
        );
    }
}

/// An L1 that answers wants keys that are promoted.
fn check_enabled(config: &Config, report: &mut Report) {
    let hint = "let `enabled` be true, list keys in `always`, or set the L1's mode to \"off\"";
    let mut complain = |at: &At<bool>, name: &str| {
        let message = format!(
            "with `enabled` false nothing becomes hot, but the L1 of pool `{name}` is to answer hot keys"
        );
        report.error_hint(&at.span, message, Some(hint.to_owned()));
    };
    let mut general_is_noted = false;
    for (name, pool) in &config.pools {
        let Some(protocol) = pool.protocol.as_ref().map(|at| at.value) else {
            continue;
        };
        let hot = hotkey::layers(config, pool);
        let answers = matches!(
            mode(config, pool, protocol),
            Mode::Ttl | Mode::Tracking | Mode::Revalidate
        );
        if !answers || !hotkey::promotes_nothing(hot) {
            continue;
        }
        // One that many pools take over is one mistake.
        let own = hot.own.and_then(|table| table.enabled.as_ref());
        match (own, hot.find(|table| &table.enabled)) {
            (Some(own), _) => complain(own, name),
            (None, Some(general)) if !general_is_noted => {
                general_is_noted = true;
                complain(general, name);
            }
            _ => {}
        }
    }
}

/// No key may be silently ignored: one without a meaning for this kind of
/// pool is an error.
fn check_redis(name: &str, table: &L1Table, report: &mut Report) {
    if let Some(mode) = &table.mode
        && mode.value == Mode::Revalidate
    {
        report.error_hint(
            &mode.span,
            format!("\"revalidate\" is for memcached, and pool `{name}` speaks Redis"),
            Some("expected \"off\", \"observe\", \"ttl\" or \"tracking\"".to_owned()),
        );
    }
    if let Some(lease) = &table.lease {
        report.error(
            &lease.span,
            format!("`lease` has no meaning in pool `{name}`: leases are memcached's"),
        );
    }
}

fn check_memcached(name: &str, table: &L1Table, report: &mut Report) {
    if let Some(mode) = &table.mode
        && mode.value == Mode::Tracking
    {
        report.error_hint(
            &mode.span,
            format!("\"tracking\" is for Redis, and pool `{name}` speaks memcached"),
            Some("expected \"off\", \"observe\", \"ttl\" or \"revalidate\"".to_owned()),
        );
    }
    let tracking = [
        ("heartbeat", &table.heartbeat),
        ("touch_every", &table.touch_every),
    ];
    for (key, written) in tracking {
        if let Some(written) = written {
            let message = format!(
                "`{key}` has no meaning in pool `{name}`: memcached does not track who reads"
            );
            report.error(&written.span, message);
        }
    }
}
