//! The configuration as it is written: names, units, and what was left out.
//!
//! One file per table. The doc comments here are the descriptions in the JSON
//! schema, so they are written for the user: default, unit, and what goes
//! wrong when a value is too big or too small. The defaults are constants
//! beside their fields; [`assemble`](super::assemble) fills them in.

mod bus;
mod dns;
mod hotkey;
mod inherit;
mod l1;
mod listener;
mod outage;
mod pool;
mod pool_defaults;
mod preload;
mod process;
pub mod routes;
mod tls;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use toml::de::DeTable;

use super::read::{At, Fields, Reader};

pub use bus::{BusTable, CHANNEL};
pub use dns::{DnsTable, Nameserver, TTL_MAX, TTL_MIN};
pub use hotkey::{HOLD, HotRuleTable, HotkeyTable, THRESHOLD, THRESHOLD_BYTES, WINDOW};
pub use inherit::Layers;
pub use l1::{
    EARLY_REFRESH, HEARTBEAT, L1_CAPACITY, L1Table, LEASE, MAX_ITEM, NEGATIVE_TTL,
    READS_PER_INVALIDATION, STALE_IF_ERROR, TOUCH_EVERY, TTL_BLIND, TTL_TOLD, WAITERS_MAX,
};
pub use listener::Listener;
pub use outage::{DeleteLog, Dns, GUTTER_TTL, Health, OnDown};
pub use pool::{
    CAPACITY, CONNECT_TIMEOUT, CONNECTIONS, INFLIGHT_MAX, Place, PoolKind, PoolTable,
    REQUEST_TIMEOUT, Server, VALUE_MAX,
};
use pool_defaults::{PoolDefaults, read_defaults};
pub use process::{
    ADMIN_BIND, AdminBind, AdminTable, CLIENTS_MAX, MEMORY_MAX, ProxyTable, StatusTable,
    TIMEOUT_DRAIN, TIMEOUT_HEAD, WORKERS_MAX,
};
pub use routes::{Child, ROUTE_DEPTH_MAX, RouteTable, Rule, Simple};
pub use tls::{ListenerTls, ServerTls};

/// The configuration file of Emberline, a caching proxy for Redis and
/// memcached.
///
/// String values may contain environment variables: `${NAME}`, or
/// `${NAME:-text}` with a text for when it is not set; `$${` is a literal
/// `${`. Unknown keys are errors.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Emberline configuration")]
pub struct Config {
    /// Settings of the process.
    #[schemars(default)]
    pub proxy: ProxyTable,
    /// The admin API: full control over the process.
    #[schemars(default)]
    pub admin: AdminTable,
    /// A read-only endpoint for probes and scrapers that come from another
    /// machine: `/metrics`, `/healthz`, `/readyz`. There is none unless this
    /// table is there.
    pub status: Option<StatusTable>,
    /// Which keys are hot.
    pub hotkey: Option<HotkeyTable>,
    /// How hot keys are answered from memory.
    pub l1: Option<L1Table>,
    /// How several proxies tell each other what was written.
    pub bus: Option<BusTable>,
    /// How the names of servers are looked up.
    pub dns: Option<DnsTable>,
    /// Where clients connect, by name. At least one.
    pub listeners: Named<Listener>,
    /// What holds in every pool that says nothing else: the keys of a pool,
    /// but for those that make it what it is (`protocol`, `kind`, `servers`)
    /// and for its file (`delete_log`). A pool takes over what has a meaning
    /// for it.
    #[schemars(with = "Option<PoolDefaults>")]
    pub pool_defaults: Option<PoolTable>,
    /// Groups of servers that share a keyspace, by name. At least one.
    pub pools: Named<PoolTable>,
    /// Rules that choose between pools, by name. Pools and routes share their
    /// names: each may be used once.
    #[schemars(default)]
    pub routes: Named<RouteTable>,
}

/// Tables by name.
pub type Named<T> = BTreeMap<String, At<T>>;

impl Config {
    /// Read a parsed document. Every mistake becomes a finding of `reader`.
    pub fn read(document: &DeTable<'_>, reader: &mut Reader<'_>) -> Config {
        let mut fields = Fields::new(document, 0..0, "the file");
        let mut config = Config::default();
        if let Some((table, span)) = fields.table(reader, "proxy") {
            config.proxy = ProxyTable::read(Fields::new(table, span, "[proxy]"), reader);
        }
        if let Some((table, span)) = fields.table(reader, "admin") {
            config.admin = AdminTable::read(Fields::new(table, span, "[admin]"), reader);
        }
        if let Some((table, span)) = fields.table(reader, "status") {
            let fields = Fields::new(table, span, "[status]");
            config.status = Some(StatusTable::read(fields, reader));
        }
        if let Some((table, span)) = fields.table(reader, "hotkey") {
            let fields = Fields::new(table, span, "[hotkey]");
            config.hotkey = Some(HotkeyTable::read(fields, reader));
        }
        if let Some((table, span)) = fields.table(reader, "l1") {
            config.l1 = Some(L1Table::read(Fields::new(table, span, "[l1]"), reader));
        }
        if let Some((table, span)) = fields.table(reader, "bus") {
            config.bus = Some(BusTable::read(Fields::new(table, span, "[bus]"), reader));
        }
        if let Some((table, span)) = fields.table(reader, "dns") {
            config.dns = Some(DnsTable::read(Fields::new(table, span, "[dns]"), reader));
        }
        config.listeners = named(&mut fields, reader, "listeners", Listener::read);
        config.pools = named(&mut fields, reader, "pools", PoolTable::read);
        if let Some((table, span)) = fields.table(reader, "pool_defaults") {
            let fields = Fields::new(table, span, "[pool_defaults]");
            let defaults = read_defaults(fields, reader);
            for (name, pool) in &mut config.pools {
                pool.value.take_over(name, &defaults);
            }
            config.pool_defaults = Some(defaults);
        }
        config.routes = named(&mut fields, reader, "routes", RouteTable::read);
        fields.finish(reader);
        config
    }
}

fn named<T>(
    fields: &mut Fields<'_, '_>,
    reader: &mut Reader<'_>,
    group: &'static str,
    read: fn(Fields<'_, '_>, &mut Reader<'_>) -> T,
) -> Named<T> {
    let Some((table, _)) = fields.table(reader, group) else {
        return Named::new();
    };
    let tables = reader.named(table, group);
    let each = |(name, fields): (At<String>, Fields<'_, '_>)| {
        let table = read(fields, reader);
        (name.value, At::new(table, name.span))
    };
    tables.into_iter().map(each).collect()
}
