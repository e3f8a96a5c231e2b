//! When a server is down, what is hot and what the L1 does with it, as
//! `/config` shows it. Listed keys
//! are counted and not shown: they may be as private as those that clients use.

use serde_json::{Value, json};

use super::report::secret;
use crate::running::{Bus, HealthSettings, HotRule, Hotkey, L1, Preload};

pub(super) fn health(health: &HealthSettings) -> Value {
    json!({
        "failures": health.failures,
        "probe_first_ms": health.probe_first.as_millis() as u64,
        "probe_last_ms": health.probe_last.as_millis() as u64,
        "panic": health.panic,
        "queue_timeout_ms": health.timeout_queue.as_millis() as u64,
        "retry_share": health.retry_share,
        "retry_least": health.retry_least,
    })
}

pub(super) fn hotkey(hotkey: &Hotkey) -> Value {
    json!({
        "enabled": hotkey.enabled,
        "window_ms": hotkey.window_ms,
        "threshold": hotkey.threshold,
        "threshold_bytes": hotkey.threshold_bytes,
        "sample": hotkey.sample,
        "hold_ms": hotkey.hold.as_millis() as u64,
        "rules": hotkey.rules.iter().map(rule).collect::<Vec<_>>(),
        "always": hotkey.always.len(),
        "copies": hotkey.copies,
        "split": hotkey.split.len(),
        "combine_increments": hotkey.combine_increments,
    })
}

pub(super) fn preload(preload: &Preload) -> Value {
    json!({
        "path": preload.path.display().to_string(),
        "keys_max": preload.keys_max,
        "bytes_max": preload.bytes_max,
        "deadline_ms": preload.deadline.as_millis() as u64,
        "hold_ms": preload.hold.as_millis() as u64,
        "save_every_ms": preload.save_every.as_millis() as u64,
    })
}

fn rule(rule: &HotRule) -> Value {
    json!({
        "prefix": String::from_utf8_lossy(&rule.prefix),
        "window_ms": rule.window_ms,
        "threshold": rule.threshold,
        "hold_ms": rule.hold.as_millis() as u64,
        "ttl_ms": rule.ttl.map(|ttl| ttl.as_millis() as u64),
        "allow": rule.allow,
    })
}

pub(super) fn l1(l1: &L1) -> Value {
    json!({
        "mode": l1.mode.name(),
        "ttl_ms": l1.ttl.as_millis() as u64,
        "max_item": l1.max_item,
        "negative_ttl_ms": l1.negative_ttl.as_millis() as u64,
        "heartbeat_ms": l1.heartbeat.as_millis() as u64,
        "early_refresh": l1.early_refresh,
        "stale_if_error_ms": l1.stale_if_error.as_millis() as u64,
        "waiters_max": l1.waiters_max,
        "reads_per_invalidation": l1.reads_per_invalidation,
        "touch_every_ms": l1.touch_every.as_millis() as u64,
        "lease_ms": l1.lease.as_millis() as u64,
    })
}

pub(super) fn bus(bus: &Bus) -> Value {
    json!({
        "name": bus.name,
        "address": bus.address.to_string(),
        "channel": bus.channel,
        "username": secret(bus.username.is_some()),
        "password": secret(bus.password.is_some()),
    })
}
