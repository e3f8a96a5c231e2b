//! The JSON answers. Built by hand from the running configuration, so that a
//! new field of it is shown by decision and never by accident: credentials
//! appear as being set or not, nothing more.

use std::time::{Duration, SystemTime};

use emberline_routing::{self as placement, PoolId, ServerId};
use serde_json::{Map, Value, json};

use super::{View, settings};
use crate::metrics::totals::{self, Durations};
use crate::metrics::{Class, Health, Shed, Verdict, process};
use crate::running::{Bind, Partial, Pool, Running};
use crate::server::health::{Standing, Trouble};

/// Every pool with its servers and their figures.
pub(super) fn pools(state: &View<'_>) -> Value {
    let pools = state.running.pools().map(|(id, pool)| {
        let requests = totals::requests(&state.meters, |at| at == Some(id));
        let routers = state
            .running
            .listeners
            .iter()
            .map(|listener| &listener.router);
        let spec = routers
            .filter_map(|router| router.pool(id))
            .map(placement::Pool::spec)
            .next();
        let servers = pool.servers.iter().enumerate().filter_map(|(index, &id)| {
            let weight = spec.and_then(|spec| Some(spec.members.get(index)?.weight));
            server(state, id, weight)
        });
        json!({
            "name": pool.name,
            "protocol": pool.protocol.name(),
            "kind": if pool.local.is_some() { "local" } else { "servers" },
            "distribution": spec.map(|spec| spec.distribution.to_string()),
            "hash": spec.map(|spec| spec.hash.to_string()),
            "requests": requests.iter().sum::<u64>(),
            "errors": errors(&requests),
            "latency": latency(&pool_durations(state, id)),
            "latency_counts": pool_durations(state, id).counts(),
            "servers": servers.collect::<Vec<_>>(),
        })
    });
    // For who polls: the quantiles of the time between come from differences.
    let bounds = totals::duration_bounds().map(|bound| (bound * 1e9).round() / 1e6);
    json!({
        "latency_bounds_ms": bounds.collect::<Vec<_>>(),
        "pools": pools.collect::<Vec<_>>(),
    })
}

fn server(state: &View<'_>, id: ServerId, weight: Option<u32>) -> Option<Value> {
    let server = state.running.servers.get(id.0 as usize)?;
    let totals = totals::server(&state.meters, id);
    let trouble = state.health.trouble(id);
    Some(json!({
        "name": server.name,
        "address": server.address.to_string(),
        "weight": weight,
        "state": match trouble {
            Some(_) => Health::Down.name(),
            None => totals.health.name(),
        },
        "marked_down": server.down,
        "down": trouble.map(|trouble| down(state, id, &trouble)),
        "inflight": totals.inflight,
        "requests": totals.requests.iter().sum::<u64>(),
        "errors": errors(&totals.requests),
        "timeouts": totals.requests[Verdict::Timeout as usize],
        "connects": totals.connects,
        "connects_failed": totals.connects_failed,
        "ejections": totals.ejections,
    }))
}

/// Why a server is down, and what comes of that.
fn down(state: &View<'_>, server: ServerId, trouble: &Trouble) -> Value {
    let now = state.l1.epoch.elapsed().as_nanos();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let since = SystemTime::now()
        .checked_sub(Duration::from_nanos(now.saturating_sub(trouble.since)))
        .and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
    let next = trouble.next_probe();
    json!({
        "why": &*trouble.why,
        "since_unix_ms": since.map(|since| since.as_millis() as u64),
        "for_ms": now.saturating_sub(trouble.since) / 1_000_000,
        // A server of a pool that panics is tried all the same.
        "ejected": state.health.standing(server) == Standing::Ejected,
        "next_probe_ms": next.map(|at| at.saturating_sub(now) / 1_000_000),
    })
}

/// The process and its listeners in figures.
pub(super) fn stats(state: &View<'_>) -> Value {
    let running = &state.running;
    let listeners = running.listeners.numbered().map(|(i, listener)| {
        let totals = totals::listener(&state.meters, i);
        json!({
            "name": listener.name,
            "protocol": listener.protocol.name(),
            "bind": listener.bind.to_string(),
            "clients": totals.clients,
            "accepted": totals.accepted,
            "bytes_in": totals.received,
            "bytes_out": totals.sent,
        })
    });
    let listeners: Vec<_> = listeners.collect();
    let requests = totals::requests(&state.meters, |_| true);
    let sheds = totals::sheds(&state.meters);
    let mut all = Durations::default();
    for (id, _) in running.pools() {
        all.add(&pool_durations(state, id));
    }
    let uptime = SystemTime::now().duration_since(state.started);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": uptime.unwrap_or_default().as_secs(),
        "workers": running.proxy.workers,
        "ready": state.unready().is_none(),
        "cpu_seconds": process::cpu_time(),
        "memory_bytes": process::resident(),
        "listeners": listeners,
        "requests": named(Verdict::ALL.map(Verdict::name), &requests),
        "latency": latency(&all),
        "shed": named(Shed::ALL.map(Shed::name), &sheds),
    })
}

/// The running configuration without its secrets.
pub(super) fn config(running: &Running) -> Value {
    let listeners = running.listeners.iter().map(|listener| {
        json!({
            "name": listener.name,
            "protocol": listener.protocol.name(),
            "bind": listener.bind.to_string(),
            "password": secret(listener.password.is_some()),
            "allow": listener.allow,
            "deny": listener.deny,
        })
    });
    let listeners: Vec<_> = listeners.collect();
    let pools = running.pools.iter().map(|pool| pool_config(running, pool));
    let pools: Vec<_> = pools.collect();
    json!({
        "proxy": {
            "workers": running.proxy.workers,
            "clients_max": running.proxy.clients_max,
            "memory_max": running.proxy.memory_max,
            "timeout_head_ms": running.proxy.timeout_head.as_millis() as u64,
            "timeout_drain_ms": running.proxy.timeout_drain.as_millis() as u64,
        },
        "admin": running.admin.as_ref().map(Bind::to_string),
        "status": running.status.as_ref().map(Bind::to_string),
        "l1_capacity": running.l1_capacity,
        "l1_preload": running.preload.as_ref().map(settings::preload),
        "key_visibility": running.visibility.name(),
        "bus": running.bus.as_ref().map(settings::bus),
        "listeners": listeners,
        "pools": pools,
    })
}

fn pool_config(running: &Running, pool: &Pool) -> Value {
    let servers = pool
        .servers
        .iter()
        .filter_map(|id| running.servers.get(id.0 as usize))
        .map(|server| json!({ "name": server.name, "address": server.address.to_string() }));
    json!({
        "name": pool.name,
        "protocol": pool.protocol.name(),
        "kind": if pool.local.is_some() { "local" } else { "servers" },
        "servers": servers.collect::<Vec<_>>(),
        "timeout_connect_ms": pool.timeout_connect.as_millis() as u64,
        "timeout_request_ms": pool.timeout_request.as_millis() as u64,
        "connections": pool.connections,
        "inflight_max": pool.inflight_max,
        "health": settings::health(&pool.health),
        "delete_log": pool.delete_log.as_ref().map(|log| json!({
            "path": log.path.display().to_string(),
            "bytes_max": log.bytes_max,
            "age_max_ms": log.age_max.as_millis() as u64,
        })),
        "partial": match pool.partial {
            Partial::Error => "error",
            Partial::Missing => "missing",
        },
        "username": secret(pool.username.is_some()),
        "password": secret(pool.password.is_some()),
        "database": pool.database,
        "value_max": pool.value_max,
        "hotkey": settings::hotkey(&pool.hotkey),
        "l1": settings::l1(&pool.l1),
    })
}

fn pool_durations(state: &View<'_>, pool: PoolId) -> Durations {
    let mut all = Durations::default();
    for class in Class::ALL {
        all.add(&totals::durations(&state.meters, pool, class));
    }
    all
}

/// Upper bounds in milliseconds; a quantile beyond the last bound, and one
/// of no requests, is null.
fn latency(durations: &Durations) -> Value {
    let milliseconds = |share| durations.quantile(share).map(|s| (s * 1e9).round() / 1e6);
    json!({ "p50_ms": milliseconds(0.5), "p99_ms": milliseconds(0.99), "p999_ms": milliseconds(0.999) })
}

fn errors(requests: &[u64; Verdict::ALL.len()]) -> u64 {
    requests.iter().sum::<u64>() - requests[Verdict::Ok as usize]
}

fn named<const N: usize>(names: [&str; N], values: &[u64]) -> Map<String, Value> {
    names
        .iter()
        .zip(values)
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect()
}

pub(super) fn secret(set: bool) -> Option<&'static str> {
    set.then_some("[redacted]")
}
