//! Routes by name: checked for names that nothing has, for cycles, depth and
//! protocols, then built into trees.
//!
//! Names make a graph of the file's size. It is walked with a stack of its
//! own and every name is entered once, so a chain of thousands of routes, or
//! a lattice with billions of paths, costs no more than its text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::model::routes::{Failover, ReadFrom};
use super::model::{Child, ROUTE_DEPTH_MAX, RouteTable, Rule};
use super::read::At;
use super::suggest::did_you_mean;
use super::{Config, Report};

/// Check every reference. Building afterwards can hardly fail.
pub fn check(config: &Config, report: &mut Report) {
    check_names(config, report);
    if let Some(heights) = heights(config, report) {
        check_depth(config, &heights, report);
    }
    check_pools_named(config, report);
    let mut reached = check_protocols(config, report);
    if !report.has_errors() {
        reached.extend(gutters(config, &reached));
        warn_unreached(config, &reached, report);
        warn_zones(config, report);
    }
}

/// Names exist, and each once.
fn check_names(config: &Config, report: &mut Report) {
    let pools = config.pools.iter().map(|(name, pool)| (name, &pool.span));
    let routes = config
        .routes
        .iter()
        .map(|(name, route)| (name, &route.span));
    for (name, span) in pools.chain(routes) {
        if Child::WORDS.contains(&name.as_str()) {
            let message = format!("the name `{name}` is taken: it is a route that answers itself");
            report.error(span, message);
        }
    }
    for (name, route) in &config.routes {
        if let Some(pool) = config.pools.get(name) {
            let (first, second) = match route.span.start < pool.span.start {
                true => ("route", &pool.span),
                false => ("pool", &route.span),
            };
            let message = format!(
                "the name `{name}` is taken by a {first}: pools and routes share their names"
            );
            report.error(second, message);
        }
    }
    let routes = config
        .routes
        .values()
        .flat_map(|route| references(&route.value));
    let listeners = config
        .listeners
        .values()
        .filter_map(|listener| listener.route.as_ref());
    for name in routes.chain(listeners.flat_map(references_of)) {
        if !config.pools.contains_key(&name.value) && !config.routes.contains_key(&name.value) {
            let known = config
                .pools
                .keys()
                .chain(config.routes.keys())
                .map(String::as_str);
            let hint = match report.is_full() {
                true => None,
                false => did_you_mean(&name.value, known.take(1000)),
            };
            let shown: String = name.value.chars().take(64).collect();
            report.error_hint(
                &name.span,
                format!("there is no pool and no route named \"{shown}\""),
                hint,
            );
        }
    }
}

/// Every name in a route and in the routes written inside it.
fn references(table: &RouteTable) -> Vec<&At<String>> {
    let mut found = Vec::new();
    let mut left: Vec<&Child> = table.rule.children();
    while let Some(child) = left.pop() {
        match child {
            Child::Name(name) => found.push(name),
            Child::Inline(table) => left.extend(table.rule.children()),
        }
    }
    found
}

fn references_of(child: &Child) -> Vec<&At<String>> {
    match child {
        Child::Name(name) => vec![name],
        Child::Inline(table) => references(table),
    }
}

/// Circles that are told before the search for more is given up; each costs
/// time to describe.
const CIRCLES_MAX: usize = 16;

/// How many routes stand on the longest way from each named route to a pool;
/// `None` if there is a cycle, which is reported.
fn heights<'c>(config: &'c Config, report: &mut Report) -> Option<HashMap<&'c str, usize>> {
    /// A route that has been entered and not left.
    struct Open<'c> {
        name: &'c str,
        references: Vec<&'c At<String>>,
    }
    let mut heights: HashMap<&str, usize> = HashMap::new();
    let mut circles = 0;
    for start in config.routes.keys() {
        let mut path: Vec<Open<'c>> = Vec::new();
        let mut on_path: HashSet<&str> = HashSet::new();
        let mut next = Some(start.as_str());
        loop {
            if let Some(name) = next.take()
                && !heights.contains_key(name)
                && let Some(route) = config.routes.get(name)
            {
                on_path.insert(name);
                path.push(Open {
                    name,
                    references: references(&route.value),
                });
            }
            let Some(open) = path.last_mut() else { break };
            match open.references.pop() {
                Some(reference) if on_path.contains(reference.value.as_str()) => {
                    circles += 1;
                    if circles > CIRCLES_MAX {
                        return None;
                    }
                    let from = path.iter().position(|open| open.name == reference.value);
                    let around = path[from.unwrap_or(0)..].iter().map(|open| open.name);
                    let mut names: Vec<_> = around.take(8).collect();
                    if path.len() - from.unwrap_or(0) > names.len() {
                        names.push("...");
                    }
                    let around = names.join(" -> ");
                    let message =
                        format!("routes lead in a circle: {around} -> {}", reference.value);
                    report.error(&reference.span, message);
                }
                Some(reference) => next = Some(&reference.value),
                None => {
                    let name = open.name;
                    let table = &config.routes[name].value;
                    heights.insert(name, height(table, &heights));
                    on_path.remove(name);
                    path.pop();
                }
            }
        }
    }
    (circles == 0).then_some(heights)
}

/// The height of a route whose named children's are known. Recurses no deeper
/// than routes are written inside each other, which reading has bounded.
fn height(table: &RouteTable, heights: &HashMap<&str, usize>) -> usize {
    if table.rule.is_leaf() {
        return 0;
    }
    let children = table.rule.children();
    1 + children
        .into_iter()
        .map(|child| height_of(child, heights))
        .max()
        .unwrap_or(0)
}

fn height_of(child: &Child, heights: &HashMap<&str, usize>) -> usize {
    match child {
        Child::Name(name) => heights.get(name.value.as_str()).copied().unwrap_or(0),
        Child::Inline(table) => height(table, heights),
    }
}

fn check_depth(config: &Config, heights: &HashMap<&str, usize>, report: &mut Report) {
    for (name, listener) in &config.listeners {
        let Some(route) = &listener.route else {
            continue;
        };
        let height = height_of(route, heights);
        if height > ROUTE_DEPTH_MAX {
            let message = format!(
                "{height} routes follow each other behind listener `{name}`, expected at most {ROUTE_DEPTH_MAX}"
            );
            report.error(&listener.span, message);
        }
    }
    // A route behind no listener is never built.
}

/// Every pool that a listener reaches speaks what its clients do. Returns all
/// names that are reached.
fn check_protocols<'c>(config: &'c Config, report: &mut Report) -> HashSet<&'c str> {
    let mut reached: HashSet<&str> = HashSet::new();
    // One pass for each protocol, not for each listener, so that the cost
    // stays that of the text; the first listener is named.
    let mut by_protocol: BTreeMap<&str, Vec<(&str, &Child)>> = BTreeMap::new();
    for (name, listener) in &config.listeners {
        if let (Some(protocol), Some(route)) = (&listener.protocol, &listener.route) {
            let wanted = by_protocol.entry(protocol.name()).or_default();
            wanted.push((name, route));
        }
    }
    for (wanted, listeners) in by_protocol {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut told: HashSet<(usize, usize)> = HashSet::new();
        for (listener, route) in listeners {
            let mut left = references_of(route);
            while let Some(reference) = left.pop() {
                let name = reference.value.as_str();
                if let Some(pool) = config.pools.get(name)
                    && let Some(protocol) = &pool.protocol
                    && protocol.name() != wanted
                    && told.insert((reference.span.start, reference.span.end))
                {
                    let message = format!(
                        "pool `{name}` speaks {} and listener `{listener}` {wanted}",
                        protocol.name()
                    );
                    report.error(&reference.span, message);
                }
                if seen.insert(name)
                    && let Some(route) = config.routes.get(name)
                {
                    left.extend(references(&route.value));
                }
            }
        }
        reached.extend(seen);
    }
    reached
}

/// Every route of the file, those in place included.
fn tables(config: &Config) -> Vec<&RouteTable> {
    let listeners = config.listeners.values();
    let listeners = listeners.filter_map(|listener| listener.route.as_ref());
    let mut found: Vec<&RouteTable> = listeners.filter_map(Child::table).collect();
    found.extend(config.routes.values().map(|route| &route.value));
    let mut next = 0;
    while let Some(table) = found.get(next) {
        let inside = table.rule.children().into_iter().filter_map(Child::table);
        found.extend(inside);
        next += 1;
    }
    found
}

/// Where a pool's name must stand, a route's does not do.
fn check_pools_named(config: &Config, report: &mut Report) {
    for table in tables(config) {
        let Rule::Failover(Failover {
            salted: Some(Child::Name(name)),
            ..
        }) = &table.rule
        else {
            continue;
        };
        let pool = config.pools.get(&name.value);
        let servers = pool.map(|pool| pool.servers.as_ref().map_or(0, Vec::len));
        match servers {
            None if config.routes.contains_key(&name.value) => report.error(
                &name.span,
                format!("`{}` is a route, and only a pool can be salted", name.value),
            ),
            Some(..2) => report.error(
                &name.span,
                format!("pool `{}` has no second server to fail over to", name.value),
            ),
            _ => {}
        }
    }
}

/// Pools that stand in for others while those have servers that are down.
fn gutters<'c>(config: &'c Config, reached: &HashSet<&str>) -> Vec<&'c str> {
    let pools = config
        .pools
        .iter()
        .filter(|(name, _)| reached.contains(name.as_str()));
    let on_down = pools.filter_map(|(_, pool)| pool.on_down.as_ref());
    let gutters = on_down.filter_map(|at| at.gutter());
    gutters.map(|name| name.value.as_str()).collect()
}

/// Who wants what is near must say where that is.
fn warn_zones(config: &Config, report: &mut Report) {
    let zones = config.pools.values().filter_map(|pool| pool.zone.as_ref());
    let own = config.proxy.zone.as_ref();
    let near = own.is_some_and(|own| zones.map(|at| &at.value).any(|zone| *zone == own.value));
    if near {
        return;
    }
    for table in tables(config) {
        if let Rule::Replicas(replicas) = &table.rule
            && replicas.read == ReadFrom::Near
        {
            let message = match own {
                None => "`read = \"near\"` and no `zone` in [proxy]: no replica is near".to_owned(),
                Some(own) => format!("no pool is in zone `{}`: no replica is near", own.value),
            };
            report.warning(&table.span, message);
        }
    }
}

fn warn_unreached(config: &Config, reached: &HashSet<&str>, report: &mut Report) {
    let pools = config
        .pools
        .iter()
        .map(|(name, table)| ("pool", name, &table.span));
    let routes = config
        .routes
        .iter()
        .map(|(name, table)| ("route", name, &table.span));
    let unreached =
        |(_, name, _): &(&str, &String, &Range<usize>)| !reached.contains(name.as_str());
    for (what, name, span) in pools.chain(routes).filter(unreached) {
        report.warning(span, format!("no listener reaches {what} `{name}`"));
    }
}
