//! From a [`Config`] to what the process runs on: every check that needs more
//! than one value, then names become ids and gaps become defaults.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Instant;

use emberline_routing::Router;

use super::model::{self, AdminBind, Listener, PoolTable};
use super::names::Lookups;
use super::pools::Pools;
use super::read::At;
use super::tree::Tree;
use super::units::Time;
use super::{Config, Environment, Report, address, bus, commands, hotkey, l1, outage, routes, tls};
use crate::dns::{Known, Terms};
use crate::running::{self, Admits, Bind, GRACE, Protocol, Running, Slots};
use crate::tls::Acceptor;

/// Servers of all pools together. Rings of more take seconds and hundreds of
/// megabytes to build.
pub const SERVERS_MAX: usize = 10_000;
/// Pools; ids have 16 bits, and every pool costs memory in every worker.
const POOLS_MAX: usize = 4_096;
/// Listeners; each is a socket.
const LISTENERS_MAX: usize = 1_024;

/// Check everything and build; `None` exactly if the report has errors.
///
/// What the `predecessor` has, too, keeps its number. Names lead to what is
/// `known` of them.
pub fn assemble(
    config: &Config,
    environment: &Environment<'_>,
    predecessor: Option<&Running>,
    known: &Known,
    report: &mut Report,
) -> Option<Running> {
    // Where the text itself is broken there is nothing to check.
    if report.has_errors() && config.listeners.is_empty() && config.pools.is_empty() {
        return None;
    }
    check_counts(config, report);
    check_binds(config, report);
    routes::check(config, report);
    outage::check(config, environment, report);
    hotkey::check(config, report);
    l1::check(config, environment, report);
    let terms = terms(config, report);
    let mut lookups = Lookups::new(known);
    let bus = config.bus.as_ref();
    let bus = bus.and_then(|table| bus::resolve(table, environment, &mut lookups, report));

    let now = Instant::now();
    let mut pools = Pools::after(predecessor, now, lookups);
    if config.pools.len() <= POOLS_MAX {
        for (name, table) in &config.pools {
            pools.add(config, name, table, environment, report);
        }
    }
    let proxy = proxy(&config.proxy, environment);
    let mut admitted = Vec::new();
    for (name, table) in &config.listeners {
        admitted.push((name, admission(name, table, environment, report)));
    }
    if report.has_errors() {
        return None;
    }

    pools.guard(config);
    let mut told = HashSet::new();
    let mut tree = Tree::new(config, &pools.routes);
    let grace = predecessor.map_or(GRACE, Running::grace);
    let mut listeners =
        predecessor.map_or_else(Slots::default, |old| Slots::after(&old.listeners, now));
    for ((name, table), (_, admission)) in config.listeners.iter().zip(admitted) {
        let (Some(protocol), Some(bind), Some(route)) =
            (&table.protocol, &table.bind, &table.route)
        else {
            continue;
        };
        match tree.build(route) {
            Ok(root) => {
                if let Err(error) = root.check() {
                    report.error(&table.span, format!("listener `{name}`: {error}"));
                    continue;
                }
                let router = Router::new(root);
                let value_max = pools.value_max(router.pools());
                // What listens elsewhere, or for others, is another listener.
                let admits = Admits::with(admission.tls.as_ref());
                let place = listeners.place(now, grace, |old: &running::Listener| {
                    old.name == *name
                        && old.protocol == protocol.value
                        && old.bind == bind.value
                        && old.admits() == admits
                });
                let listener = running::Listener {
                    name: name.clone(),
                    protocol: protocol.value,
                    bind: bind.value.clone(),
                    router,
                    password: admission.password,
                    tls: tls::kept(admission.tls, listeners.get(place).map(|old| &old.tls)),
                    allow: admission.allow,
                    deny: admission.deny,
                    value_max,
                };
                listeners.put(place, listener);
            }
            // Several listeners may lead to one such route.
            Err(unbuilt) if told.insert(unbuilt.span.start) => {
                report.error(&unbuilt.span, unbuilt.message);
            }
            Err(_) => {}
        }
    }
    if report.has_errors() {
        return None;
    }
    Some(Running {
        route_states: tree.states(),
        proxy,
        listeners,
        rings: pools.rings(),
        pools: pools.pools,
        servers: pools.servers,
        routes: described(config),
        admin: admin(config),
        status: status(config),
        l1_capacity: l1::capacity(config).0,
        preload: l1::preload(config, environment),
        visibility: hotkey::visibility(config),
        bus,
        dns: running::Dns {
            questions: pools.lookups.questions,
            terms,
        },
    })
}

/// `[dns]`.
fn terms(config: &Config, report: &mut Report) -> Terms {
    let Some(table) = &config.dns else {
        return Terms::default();
    };
    let time = |at: &Option<At<Time>>, default: Time| at.as_ref().map_or(default, |at| at.value);
    let (ttl_min, ttl_max) = (
        time(&table.ttl_min, model::TTL_MIN),
        time(&table.ttl_max, model::TTL_MAX),
    );
    if let Some(at) = table.ttl_min.as_ref().or(table.ttl_max.as_ref())
        && ttl_min > ttl_max
    {
        let message = format!("`ttl_min` is {ttl_min}, above the `ttl_max` of {ttl_max}");
        report.error(&at.span, message);
    }
    let servers = table.servers.iter().flat_map(|at| &at.value);
    Terms {
        servers: servers.map(|at| at.value.0).collect(),
        ttl_min: ttl_min.0,
        ttl_max: ttl_max.0,
    }
}

/// What decides where requests go, in words that do not depend on where in
/// the text it stands: every route's table, and every listener's `route`.
fn described(config: &Config) -> Vec<(String, String)> {
    let words = |value: &dyn std::fmt::Debug| without_places(&format!("{value:?}"));
    let routes = config.routes.iter();
    let routes = routes.map(|(name, table)| (name.clone(), words(&table.value.rule)));
    let listeners = config.listeners.iter();
    let listeners =
        listeners.map(|(name, table)| (format!("listener {name}"), words(&table.route)));
    routes.chain(listeners).collect()
}

fn without_places(text: &str) -> String {
    let mut parts = text.split("span: ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    }
    kept
}

fn check_counts(config: &Config, report: &mut Report) {
    if config.listeners.is_empty() {
        report.error_nowhere("no listener is defined: clients need a [listeners.NAME] table");
    }
    if config.pools.is_empty() {
        report.error_nowhere("no pool is defined: requests need a [pools.NAME] table");
    }
    let mut limit = |what: &str, count: usize, most: usize| {
        if count > most {
            report.error_nowhere(format!(
                "{count} {what} are defined, expected at most {most}"
            ));
        }
    };
    limit("pools", config.pools.len(), POOLS_MAX);
    limit("routes", config.routes.len(), POOLS_MAX);
    limit("listeners", config.listeners.len(), LISTENERS_MAX);
    let servers = |table: &PoolTable| table.servers.as_ref().map_or(0, Vec::len);
    let total = config.pools.values().map(|table| servers(table)).sum();
    limit("servers", total, SERVERS_MAX);
}

/// Every address may be listened on once, and those that reach beyond this
/// machine want care.
fn check_binds(config: &Config, report: &mut Report) {
    let mut binds: Vec<(String, &Bind, &Range<usize>)> = Vec::new();
    for (name, table) in &config.listeners {
        let Some(bind) = &table.bind else { continue };
        binds.push((format!("listener `{name}`"), &bind.value, &bind.span));
        let asks = table
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_ca.is_some());
        if !bind.is_loopback() && table.credentials().given().is_none() && !asks {
            report.warning_hint(
                &bind.span,
                format!("listener `{name}` can be reached by other machines without a password"),
                "make sure that the network is trusted",
            );
        }
    }
    if let Some(bind) = &config.admin.bind
        && let AdminBind::On(address) = &bind.value
    {
        binds.push(("[admin]".to_owned(), address, &bind.span));
        if !address.is_loopback() {
            report.error_hint(
                &bind.span,
                "the admin API has no password and may listen on loopback or a Unix socket only",
                Some("[status] serves /metrics and probes to other machines".to_owned()),
            );
        }
    }
    if let Some(bind) = config.status.as_ref().and_then(|table| table.bind.as_ref()) {
        binds.push(("[status]".to_owned(), &bind.value, &bind.span));
    }
    binds.sort_by_key(|(_, _, span)| span.start);
    for (i, (name, bind, span)) in binds.iter().enumerate().take(LISTENERS_MAX) {
        let clash = |other: &&(String, &Bind, &Range<usize>)| address::clash(other.1, bind);
        if let Some((other, ..)) = binds[..i].iter().find(clash) {
            report.error(span, format!("{name} listens where {other} does"));
        }
    }
}

fn proxy(table: &model::ProxyTable, environment: &Environment<'_>) -> running::Proxy {
    let workers = table.workers.as_ref().map(|at| at.value);
    let memory = table
        .memory_max
        .as_ref()
        .map_or(model::MEMORY_MAX, |at| at.value);
    let head = table
        .timeout_head
        .as_ref()
        .map_or(model::TIMEOUT_HEAD, |at| at.value);
    let drain = table
        .timeout_drain
        .as_ref()
        .map_or(model::TIMEOUT_DRAIN, |at| at.value);
    running::Proxy {
        workers: workers.unwrap_or(environment.cpus.clamp(1, model::WORKERS_MAX)),
        clients_max: table
            .clients_max
            .as_ref()
            .map_or(model::CLIENTS_MAX, |at| at.value),
        memory_max: usize::try_from(memory.0).unwrap_or(usize::MAX),
        timeout_head: head.0,
        timeout_drain: drain.0,
    }
}

fn admin(config: &Config) -> Option<Bind> {
    match config.admin.bind.as_ref().map(|at| &at.value) {
        Some(AdminBind::Off) => None,
        Some(AdminBind::On(bind)) => Some(bind.clone()),
        None => model::ADMIN_BIND.parse().ok(),
    }
}

fn status(config: &Config) -> Option<Bind> {
    let bind = config.status.as_ref()?.bind.as_ref()?;
    Some(bind.value.clone())
}

/// Who may use a listener, and for what.
struct Admission {
    password: Option<running::Secret>,
    tls: Option<Acceptor>,
    allow: Vec<String>,
    deny: Vec<String>,
}

fn admission(
    name: &str,
    table: &Listener,
    environment: &Environment<'_>,
    report: &mut Report,
) -> Admission {
    let credentials = table.credentials();
    let protocol = table.protocol.as_ref().map(|at| at.value);
    if let (Some(Protocol::Memcached), Some((key, given))) = (protocol, credentials.given()) {
        let message = format!(
            "`{key}` has no meaning on listener `{name}`: memcached's text protocol has no AUTH"
        );
        report.error(&given.span, message);
    }
    if let (Some(tls), Some(Bind::Unix(_))) = (&table.tls, table.bind.as_ref().map(|at| &at.value))
    {
        let message = format!("listener `{name}` has `tls`, which means nothing for a Unix socket");
        report.error(&tls.span, message);
    }
    let acceptor = table.tls.as_ref();
    let acceptor = acceptor.and_then(|table| tls::acceptor(table, environment, report));
    let mut names = |list, allowing| commands::check(list, protocol, allowing, report);
    let (allow, deny) = (names(&table.allow, true), names(&table.deny, false));
    Admission {
        password: credentials.resolve(environment, report),
        tls: acceptor,
        allow,
        deny,
    }
}
