//! `[pools.NAME]`: checked against itself, numbered, and placed on its ring.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use emberline_routing::{
    Distribution, EmptyTag, HashTag, Member, Pool as Placing, PoolId, PoolSpec, Route, ServerId,
    routes,
};

use super::assemble::SERVERS_MAX;
use super::files::full_path;
use super::model::{self, OnDown, Place, PoolKind, PoolTable};
use super::names::{self, Lookups, Seat};
use super::read::At;
use super::{Config, Environment, Report, hotkey, l1, tls};
use crate::local::LocalPool;
use crate::running::{self, Address, GRACE, Protocol, Running, Secret, Slots};
use crate::tls::Connector;

/// The pools as they are numbered.
pub struct Pools<'k> {
    /// By id.
    pub pools: Slots<running::Pool>,
    /// By id.
    pub servers: Slots<running::Server>,
    now: Instant,
    grace: Duration,
    /// What a reference to each pool becomes.
    pub routes: HashMap<String, Route>,
    /// What the names of servers lead to.
    pub lookups: Lookups<'k>,
    /// Passwords by their places: one that many pools take over is fetched,
    /// and complained of, once.
    passwords: HashMap<usize, Option<Secret>>,
    /// The same of `tls`.
    connectors: HashMap<usize, Option<Connector>>,
}

impl<'k> Pools<'k> {
    /// No pools yet; those that the `predecessor` had keep their numbers.
    pub fn after(predecessor: Option<&Running>, now: Instant, lookups: Lookups<'k>) -> Pools<'k> {
        Pools {
            lookups,
            pools: predecessor.map_or_else(Slots::default, |old| Slots::after(&old.pools, now)),
            servers: predecessor.map_or_else(Slots::default, |old| Slots::after(&old.servers, now)),
            now,
            grace: predecessor.map_or(GRACE, Running::grace),
            routes: HashMap::new(),
            passwords: HashMap::new(),
            connectors: HashMap::new(),
        }
    }

    /// Check a pool and give it its id.
    pub fn add(
        &mut self,
        config: &Config,
        name: &str,
        table: &At<PoolTable>,
        environment: &Environment<'_>,
        report: &mut Report,
    ) {
        let span = &table.span;
        let protocol = table.protocol.as_ref().map(|at| at.value);
        let kind = table.kind.as_ref().map(|at| at.value).unwrap_or_default();
        check_keys(name, table, kind, protocol, report);
        let password = self.password(table, environment, report);
        let tls = self.connector(name, table, environment, report);
        let authenticates = kind == PoolKind::Remote && protocol == Some(Protocol::Redis);
        if let (Some(username), None) = (&table.username, table.credentials().given())
            && authenticates
        {
            report.error(&username.span, "`username` is given without a password");
        }

        // What speaks another protocol, or has no servers any more, is another pool.
        let place = self.pools.place(self.now, self.grace, |old| {
            let is_local = kind == PoolKind::Local;
            old.name == name && Some(old.protocol) == protocol && old.local.is_some() == is_local
        });
        let id = PoolId(u16::try_from(place).unwrap_or(u16::MAX));
        let route = match kind {
            PoolKind::Local => Some((Route::Local(id), Vec::new())),
            PoolKind::Remote => self
                .placing(name, table, id, span, report)
                .map(|pool| (Route::Pool(Arc::clone(&pool)), pool.spec().ids.clone())),
        };
        let Some(((route, servers), protocol)) = route.zip(protocol) else {
            return;
        };
        // Lists are copied for every pool: not for a configuration that is refused.
        let (hotkey, l1) = match report.has_errors() {
            true => Default::default(),
            false => (
                hotkey::resolve(config, table),
                l1::resolve(config, table, protocol),
            ),
        };
        let (capacity, value_max) = (table.capacity.as_ref(), table.value_max.as_ref());
        let capacity = capacity.map_or(model::CAPACITY, |at| at.value).0;
        let local =
            (kind == PoolKind::Local && !report.has_errors()).then(|| self.local(place, capacity));
        let connect = table.connect_timeout.as_ref();
        let request = table.request_timeout.as_ref();
        let timeout_request = request.map_or(model::REQUEST_TIMEOUT, |at| at.value).0;
        let value_max = value_max.map_or(model::VALUE_MAX, |at| at.value).0;
        self.routes.insert(name.to_owned(), route);
        let pool = running::Pool {
            name: name.to_owned(),
            protocol,
            local,
            servers,
            timeout_connect: connect.map_or(model::CONNECT_TIMEOUT, |at| at.value).0,
            timeout_request,
            connections: table
                .connections
                .as_ref()
                .map_or(model::CONNECTIONS, |at| at.value),
            inflight_max: table
                .inflight_max
                .as_ref()
                .map_or(model::INFLIGHT_MAX, |at| at.value),
            health: health(table, timeout_request),
            delete_log: table.delete_log.as_ref().map(|log| running::DeleteLog {
                path: full_path(&log.path.value, environment),
                bytes_max: log.bytes_max,
                age_max: log.age_max,
            }),
            partial: table
                .partial
                .as_ref()
                .map_or(running::Partial::Error, |at| at.value),
            username: table.username.as_ref().map(|at| at.value.clone()),
            password,
            tls: tls::kept(tls, self.pools.get(place).map(|old| &old.tls)),
            database: table.database.as_ref().map_or(0, |at| at.value),
            value_max: usize::try_from(value_max).unwrap_or(usize::MAX),
            hotkey,
            l1,
        };
        self.pools.put(place, pool);
    }

    /// The store of a local pool: the one that it had, if that is as large.
    fn local(&self, place: usize, capacity: u64) -> Arc<LocalPool> {
        let kept = self.pools.get(place).and_then(|pool| pool.local.as_ref());
        match kept {
            Some(store) if store.capacity() == capacity => Arc::clone(store),
            _ => Arc::new(LocalPool::new(capacity)),
        }
    }

    /// Put what `on_down` says before the pools that have something to say.
    /// To be called when all of them are there, for a configuration without
    /// errors: a gutter may stand further down, and has none itself.
    pub fn guard(&mut self, config: &Config) {
        let mut guard = |name: &str, on_down: &dyn Fn(&HashMap<String, Route>) -> _| {
            let pool = match self.routes.get(name) {
                Some(Route::Pool(pool)) => Arc::clone(pool),
                _ => return,
            };
            let on_down: Option<routes::OnDown> = on_down(&self.routes);
            if let Some(on_down) = on_down {
                let guarded = Route::from(routes::GuardedSpec { pool, on_down });
                self.routes.insert(name.to_owned(), guarded);
            }
        };
        let on_down = |table: &PoolTable| table.on_down.as_ref().map(|at| at.value.clone());
        for (name, table) in &config.pools {
            if on_down(table) == Some(OnDown::Rehash) {
                guard(name, &|_| Some(routes::OnDown::Rehash));
            }
        }
        for (name, table) in &config.pools {
            if let Some(OnDown::Gutter(gutter)) = on_down(table) {
                let ttl = table.gutter_ttl.as_ref();
                let ttl = ttl.map_or(model::GUTTER_TTL, |at| at.value).0;
                guard(name, &|routes| {
                    let route = routes.get(&gutter.value)?.clone();
                    Some(routes::OnDown::Gutter { route, ttl })
                });
            }
        }
    }

    fn password(
        &mut self,
        table: &PoolTable,
        environment: &Environment<'_>,
        report: &mut Report,
    ) -> Option<Secret> {
        let credentials = table.credentials();
        let place = credentials.given()?.1.span.start;
        let fetch = || credentials.resolve(environment, report);
        self.passwords.entry(place).or_insert_with(fetch).clone()
    }

    fn connector(
        &mut self,
        name: &str,
        pool: &PoolTable,
        environment: &Environment<'_>,
        report: &mut Report,
    ) -> Option<Connector> {
        let table = pool.tls.as_ref()?;
        let servers = pool.servers.as_deref().unwrap_or_default();
        let is_unix = |server: &&model::Server| {
            matches!(server.place.value, Place::Address(Address::Unix(_)))
        };
        if let Some(server) = servers.iter().find(is_unix) {
            let message = format!("pool `{name}` has `tls`, which means nothing for a Unix socket");
            report.error(&server.place.span, message);
        }
        let dns = pool.dns.as_ref().map(|at| at.value).unwrap_or_default();
        if dns == model::Dns::Expand && table.server_name.is_none() {
            // What is to be believed must not be what DNS says.
            report.error_hint(
                &table.span,
                format!("pool `{name}` takes its servers from DNS, which proves nothing"),
                Some("say which name their certificates are for: server_name = \"...\"".to_owned()),
            );
        }
        let read = || tls::connector(table, environment, report);
        let place = table.span.start;
        self.connectors.entry(place).or_insert_with(read).clone()
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
        let dns = table.dns.as_ref().map(|at| at.value).unwrap_or_default();
        names::check(name, dns, servers, report);
        let seats = self.lookups.seats(dns, servers);
        if seats.len() > servers.len() && self.servers.len() + seats.len() > SERVERS_MAX {
            let message = format!("names lead to more than {SERVERS_MAX} servers");
            report.error(servers_span, message);
            return None;
        }
        let members = members(&seats, distribution, report);
        let ids = seats.iter().map(|seat| self.number(id, seat));
        let ids: Vec<ServerId> = ids.collect();
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
            members,
            ids,
            distribution,
            hash: table.hash.as_ref().map(|at| at.value).unwrap_or_default(),
            byte_sign: table
                .byte_sign
                .as_ref()
                .map(|at| at.value)
                .unwrap_or_default(),
            hash_tag,
            salt: table
                .salt
                .as_ref()
                .map_or_else(Box::default, |salt| salt.value.as_bytes().into()),
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

    /// Give a server its id: it is the same as long as its pool and its
    /// name are, wherever the name leads.
    fn number(&mut self, pool: PoolId, seat: &Seat<'_>) -> ServerId {
        let mut server = running::Server {
            pool,
            name: seat.text.clone(),
            address: seat.address.clone(),
            down: seat.server.down.as_ref().is_some_and(|down| down.value),
        };
        let same = |old: &running::Server| old.pool == pool && old.name == server.name;
        let place = self.servers.place(self.now, self.grace, same);
        if let Some(before) = self.servers.get(place).filter(|old| same(old)) {
            server.address.stay(&before.address);
        }
        self.servers.put(place, server);
        ServerId(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// By id: where a pool's keys are; none for a local one, or one that has gone.
    pub fn rings(&self) -> Vec<Option<Arc<Placing>>> {
        let ring = |at| match self.routes.get(&self.pools.present(at)?.name) {
            Some(Route::Pool(ring)) => Some(Arc::clone(ring)),
            Some(Route::Guarded(guarded)) => Some(Arc::clone(guarded.pool())),
            _ => None,
        };
        (0..self.pools.places()).map(ring).collect()
    }

    /// The largest value that any of these pools takes.
    pub fn value_max(&self, ids: &[PoolId]) -> usize {
        let pools = ids
            .iter()
            .filter_map(|id| self.pools.get(usize::from(id.0)));
        let longest = pools.map(|pool| pool.value_max).max();
        // A route may lead to none.
        longest.unwrap_or(usize::try_from(model::VALUE_MAX.0).unwrap_or(usize::MAX))
    }
}

/// The ring's view of the servers. Two that it could not tell apart would
/// share their points, so that is an error.
fn members(seats: &[Seat<'_>], distribution: Distribution, report: &mut Report) -> Vec<Member> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut members = Vec::with_capacity(seats.len());
    for (index, seat) in seats.iter().enumerate() {
        let server = seat.server;
        let name = match &server.name {
            Some(name) => name.value.clone(),
            None => distribution.ring_name(seat.text.strip_prefix("unix:").unwrap_or(&seat.text)),
        };
        let span = server
            .name
            .as_ref()
            .map_or(&server.place.span, |name| &name.span);
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
    fn span<T>(at: &Option<At<T>>) -> Option<&Range<usize>> {
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
        refuse("salt", span(&table.salt), why);
        refuse("on_down", span(&table.on_down), why);
        refuse("queue_timeout", span(&table.queue_timeout), why);
        refuse("retry_budget", span(&table.retry_budget), why);
        refuse("failures", span(&table.failures), why);
        refuse("probe_first", span(&table.probe_first), why);
        refuse("probe_last", span(&table.probe_last), why);
        refuse("panic", span(&table.panic), why);
        refuse("dns", span(&table.dns), why);
        refuse("tls", table.tls.as_ref().map(|tls| &tls.span), why);
        let log = table.delete_log.as_ref().map(|log| &log.span);
        refuse("delete_log", log, why);
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

/// When the pool's servers count as down.
fn health(table: &PoolTable, timeout_request: Duration) -> running::HealthSettings {
    let health = table.health();
    running::HealthSettings {
        failures: health.failures,
        probe_first: health.probe_first,
        probe_last: health.probe_last,
        panic: health.panic,
        timeout_queue: match table.queue_timeout {
            Some(_) => health.queue_timeout,
            None => timeout_request,
        },
        retry_share: health.retry_budget,
        ..running::HealthSettings::default()
    }
}
