//! From a [`Config`] to what the process runs on: every check that needs more
//! than one value, then names become ids and gaps become defaults.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use emberline_routing::{
    Distribution, EmptyTag, HashTag, Member, Pool as Placing, PoolId, PoolSpec, Route, Router,
    ServerId,
};

use super::model::{self, AdminBind, Listener, PoolKind, PoolTable};
use super::{Config, Environment, Report, address, commands, routes};
use crate::local::LocalPool;
use crate::running::{self, Bind, Protocol, Running};

/// Servers of all pools together. Rings of more take seconds and hundreds of
/// megabytes to build.
const SERVERS_MAX: usize = 10_000;
/// Pools; ids have 16 bits, and every pool costs memory in every worker.
const POOLS_MAX: usize = 4_096;
/// Listeners; each is a socket.
const LISTENERS_MAX: usize = 1_024;

/// Check everything and build; `None` exactly if the report has errors.
pub fn assemble(
    config: &Config,
    environment: &Environment<'_>,
    report: &mut Report,
) -> Option<Running> {
    // Where the text itself is broken there is nothing to check.
    if report.has_errors() && config.listeners.is_empty() && config.pools.is_empty() {
        return None;
    }
    check_counts(config, report);
    check_binds(config, report);
    routes::check(config, report);

    let mut pools = Pools::default();
    if config.pools.len() <= POOLS_MAX {
        for (name, table) in &config.pools {
            pools.add(name, table, &table.span, environment, report);
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

    let mut tree = routes::Tree::new(config, &pools.routes);
    let mut listeners = Vec::new();
    for ((name, table), (_, admission)) in config.listeners.iter().zip(admitted) {
        let (Some(protocol), Some(bind), Some(route)) =
            (&table.protocol, &table.bind, &table.route)
        else {
            continue;
        };
        match tree.build(route) {
            Ok(root) => {
                let router = Router::new(root);
                let value_max = pools.value_max(router.pools());
                listeners.push(running::Listener {
                    name: name.clone(),
                    protocol: protocol.value,
                    bind: bind.value.clone(),
                    router,
                    password: admission.password,
                    allow: admission.allow,
                    deny: admission.deny,
                    value_max,
                });
            }
            Err(message) => report.error(&table.span, message),
        }
    }
    if report.has_errors() {
        return None;
    }
    Some(Running {
        proxy,
        listeners,
        pools: pools.pools,
        servers: pools.servers,
        admin: admin(config),
        status: status(config),
    })
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
        if !bind.is_loopback() && table.credentials().given().is_none() {
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
    let mut names = |list, allowing| commands::check(list, protocol, allowing, report);
    let (allow, deny) = (names(&table.allow, true), names(&table.deny, false));
    Admission {
        password: credentials.resolve(environment, report),
        allow,
        deny,
    }
}

/// The pools as they are numbered.
#[derive(Default)]
struct Pools {
    pools: Vec<running::Pool>,
    servers: Vec<running::Server>,
    /// What a reference to each pool becomes.
    routes: HashMap<String, Route>,
}

impl Pools {
    fn add(
        &mut self,
        name: &str,
        table: &PoolTable,
        span: &Range<usize>,
        environment: &Environment<'_>,
        report: &mut Report,
    ) {
        let protocol = table.protocol.as_ref().map(|at| at.value);
        let kind = table.kind.as_ref().map(|at| at.value).unwrap_or_default();
        check_keys(name, table, kind, protocol, report);
        let password = table.credentials().resolve(environment, report);
        if let (Some(username), None) = (&table.username, table.credentials().given()) {
            report.error(&username.span, "`username` is given without a password");
        }

        let id = PoolId(u16::try_from(self.pools.len()).unwrap_or(u16::MAX));
        let first = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let route = match kind {
            PoolKind::Local => Some(Route::Local(id)),
            PoolKind::Remote => self.placing(name, table, id, span, report).map(Route::Pool),
        };
        let Some((route, protocol)) = route.zip(protocol) else {
            return;
        };
        let (capacity, value_max) = (table.capacity.as_ref(), table.value_max.as_ref());
        let local = (kind == PoolKind::Local && !report.has_errors())
            .then(|| LocalPool::new(capacity.map_or(model::CAPACITY, |at| at.value).0));
        let connect = table.connect_timeout.as_ref();
        let request = table.request_timeout.as_ref();
        let value_max = value_max.map_or(model::VALUE_MAX, |at| at.value).0;
        self.routes.insert(name.to_owned(), route);
        self.pools.push(running::Pool {
            name: name.to_owned(),
            protocol,
            local: local.map(Arc::new),
            servers: first..u32::try_from(self.servers.len()).unwrap_or(u32::MAX),
            timeout_connect: connect.map_or(model::CONNECT_TIMEOUT, |at| at.value).0,
            timeout_request: request.map_or(model::REQUEST_TIMEOUT, |at| at.value).0,
            connections: table
                .connections
                .as_ref()
                .map_or(model::CONNECTIONS, |at| at.value),
            inflight_max: table
                .inflight_max
                .as_ref()
                .map_or(model::INFLIGHT_MAX, |at| at.value),
            partial: table
                .partial
                .as_ref()
                .map_or(running::Partial::Error, |at| at.value),
            username: table.username.as_ref().map(|at| at.value.clone()),
            password,
            database: table.database.as_ref().map_or(0, |at| at.value),
            value_max: usize::try_from(value_max).unwrap_or(usize::MAX),
        });
    }

    /// The part of a remote pool that decides where keys go.
    fn placing(
        &mut self,
        name: &str,
        table: &PoolTable,
        id: PoolId,
        span: &Range<usize>,
        report: &mut Report,
    ) -> Option<Arc<Placing>> {
        let (Some(servers), Some(servers_span)) = (&table.servers, &table.servers_span) else {
            let hint = "expected servers = [\"host:port\", ...], or kind = \"local\"".to_owned();
            report.error_hint(
                span,
                format!("`servers` is missing in [pools.{name}]"),
                Some(hint),
            );
            return None;
        };
        if servers.len() > SERVERS_MAX {
            return None;
        }
        let distribution = table
            .distribution
            .as_ref()
            .map(|at| at.value)
            .unwrap_or_default();
        let hash_tag = hash_tag(table, distribution, report);
        let members = members(servers, distribution, report);
        let first = ServerId(u32::try_from(self.servers.len()).unwrap_or(u32::MAX));
        self.servers
            .extend(servers.iter().map(|server| running::Server {
                pool: id,
                name: server.text.clone(),
                address: server.address.value.clone(),
            }));
        // An empty array was reported when it was read.
        if servers.is_empty() {
            return None;
        }
        if members.iter().all(|member| member.weight == 0) {
            let hint = "weight 0 drains a server; leave at least one above 0".to_owned();
            let message = format!("all weights of pool `{name}` are zero");
            report.error_hint(servers_span, message, Some(hint));
            return None;
        }
        // Placement costs time: not for a configuration that is refused.
        if report.has_errors() {
            return None;
        }
        let built = Placing::new(PoolSpec {
            name: name.to_owned(),
            id,
            first,
            members,
            distribution,
            hash: table.hash.as_ref().map(|at| at.value).unwrap_or_default(),
            byte_sign: table
                .byte_sign
                .as_ref()
                .map(|at| at.value)
                .unwrap_or_default(),
            hash_tag,
        });
        match built {
            Ok(pool) => {
                for warning in pool.warnings() {
                    let at = table.distribution.as_ref().map(|at| &at.span);
                    let at = table.hash.as_ref().map(|hash| &hash.span).or(at);
                    report.warning(at.unwrap_or(servers_span), warning);
                }
                Some(Arc::new(pool))
            }
            Err(error) => {
                report.error(servers_span, error.to_string());
                None
            }
        }
    }

    /// The largest value that any of these pools takes.
    fn value_max(&self, ids: &[PoolId]) -> usize {
        let pools = ids
            .iter()
            .filter_map(|id| self.pools.get(usize::from(id.0)));
        pools.map(|pool| pool.value_max).max().unwrap_or(0)
    }
}

/// The ring's view of the servers. Two that it could not tell apart would
/// share their points, so that is an error.
fn members(
    servers: &[model::Server],
    distribution: Distribution,
    report: &mut Report,
) -> Vec<Member> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut members = Vec::with_capacity(servers.len());
    for (index, server) in servers.iter().enumerate() {
        let name = match &server.name {
            Some(name) => name.value.clone(),
            None => {
                distribution.ring_name(server.text.strip_prefix("unix:").unwrap_or(&server.text))
            }
        };
        let span = server
            .name
            .as_ref()
            .map_or(&server.address.span, |name| &name.span);
        if name.is_empty() || name.chars().any(char::is_control) {
            report.error(span, "a server's name is empty or has control characters");
        }
        if let Some(first) = seen.insert(name.clone(), index) {
            report.error(
                span,
                format!(
                    "server \"{name}\" stands in the pool twice, as number {} and {}",
                    first + 1,
                    index + 1
                ),
            );
        }
        let weight = server.weight.as_ref().map_or(1, |at| at.value);
        if weight > 1
            && !distribution.uses_weights()
            && let Some(at) = &server.weight
        {
            let message = format!("\"{}\" ignores weights above 0", distribution.name());
            report.error(&at.span, message);
        }
        members.push(Member { name, weight });
    }
    members
}

fn hash_tag(table: &PoolTable, distribution: Distribution, report: &mut Report) -> Option<HashTag> {
    let redis = table
        .protocol
        .as_ref()
        .is_some_and(|at| at.value == Protocol::Redis);
    let tag = match &table.hash_tag {
        None => redis.then_some(HashTag::BRACES),
        Some(written) => match written.value.as_bytes() {
            [] => None,
            &[open, close] => Some(HashTag::new(open, close)),
            _ => {
                let hint = "as in \"{}\"; \"\" hashes whole keys".to_owned();
                report.error_hint(
                    &written.span,
                    "`hash_tag` is not two characters",
                    Some(hint),
                );
                None
            }
        },
    };
    // Overlord hashes the empty string for `a{}b`; who asks for its ring
    // wants its placement.
    tag.map(|tag| match distribution {
        Distribution::KetamaOverlord => HashTag {
            empty: EmptyTag::Nothing,
            ..tag
        },
        _ => tag,
    })
}

/// No key may be silently ignored: one without a meaning for this kind of
/// pool is an error.
fn check_keys(
    name: &str,
    table: &PoolTable,
    kind: PoolKind,
    protocol: Option<Protocol>,
    report: &mut Report,
) {
    fn span<T>(at: &Option<super::At<T>>) -> Option<&Range<usize>> {
        at.as_ref().map(|at| &at.span)
    }
    let mut refuse = |key: &str, at: Option<&Range<usize>>, why: &str| {
        if let Some(at) = at {
            report.error(
                at,
                format!("`{key}` has no meaning in pool `{name}`: {why}"),
            );
        }
    };
    let given = table.credentials();
    let password = given.given().map(|(key, at)| (key, &at.span));
    if kind == PoolKind::Local {
        let why = "a local pool has no servers";
        refuse("servers", table.servers_span.as_ref(), why);
        refuse("hash", span(&table.hash), why);
        refuse("distribution", span(&table.distribution), why);
        refuse("hash_tag", span(&table.hash_tag), why);
        refuse("byte_sign", span(&table.byte_sign), why);
        refuse("connect_timeout", span(&table.connect_timeout), why);
        refuse("request_timeout", span(&table.request_timeout), why);
        refuse("connections", span(&table.connections), why);
        refuse("inflight_max", span(&table.inflight_max), why);
        refuse("partial", span(&table.partial), why);
        refuse("on_down", span(&table.on_down), why);
        refuse("username", span(&table.username), why);
        refuse("database", span(&table.database), why);
        if let Some((key, at)) = password {
            refuse(key, Some(at), why);
        }
        if protocol == Some(Protocol::Redis) {
            refuse(
                "value_max",
                span(&table.value_max),
                "it is a limit of memcached",
            );
        }
        return;
    }
    refuse(
        "capacity",
        span(&table.capacity),
        "it is the size of a local pool",
    );
    match protocol {
        Some(Protocol::Memcached) => {
            let why = "memcached's text protocol has no AUTH and no databases";
            refuse("username", span(&table.username), why);
            refuse("database", span(&table.database), why);
            if let Some((key, at)) = password {
                refuse(key, Some(at), why);
            }
        }
        Some(Protocol::Redis) => {
            refuse(
                "value_max",
                span(&table.value_max),
                "it is a limit of memcached",
            );
        }
        None => {}
    }
    let distribution = table
        .distribution
        .as_ref()
        .map(|at| at.value)
        .unwrap_or_default();
    if !distribution.uses_hash() {
        let why = format!("\"{}\" brings its own hash", distribution.name());
        refuse("hash", span(&table.hash), &why);
        refuse("byte_sign", span(&table.byte_sign), &why);
    }
}
