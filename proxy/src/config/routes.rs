//! Routes by name: checked for names that nothing has, for cycles, depth and
//! protocols, then built into trees.
//!
//! Names make a graph of the file's size. It is walked with a stack of its
//! own and every name is entered once, so a chain of thousands of routes, or
//! a lattice with billions of paths, costs no more than its text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use emberline_routing::{Prefix, Route};

use super::model::{Child, ROUTE_DEPTH_MAX, RouteTable};
use super::read::At;
use super::suggest::did_you_mean;
use super::{Config, Report};

/// Check every reference. Building afterwards can hardly fail.
pub fn check(config: &Config, report: &mut Report) {
    check_names(config, report);
    check_prefixes(config, report);
    if let Some(heights) = heights(config, report) {
        check_depth(config, &heights, report);
    }
    let reached = check_protocols(config, report);
    if !report.has_errors() {
        warn_unreached(config, &reached, report);
    }
}

/// Names exist, and each once.
fn check_names(config: &Config, report: &mut Report) {
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

/// The empty prefix is every key's; that is what `default` is for.
fn check_prefixes(config: &Config, report: &mut Report) {
    let named = config.routes.values().map(|route| &route.value);
    let inline = config
        .listeners
        .values()
        .filter_map(|listener| match &listener.route {
            Some(Child::Inline(table)) => Some(&**table),
            _ => None,
        });
    let mut left: Vec<&RouteTable> = named.chain(inline).collect();
    while let Some(table) = left.pop() {
        for (prefix, _) in &table.children {
            if prefix.value.is_empty() {
                let hint = Some("write it as `default`".to_owned());
                report.error_hint(&prefix.span, "the empty prefix is every key's", hint);
            }
        }
        left.extend(children(table).filter_map(|child| match child {
            Child::Inline(table) => Some(&**table),
            Child::Name(_) => None,
        }));
    }
}

fn children(table: &RouteTable) -> impl Iterator<Item = &Child> {
    let listed = table.children.iter().map(|(_, child)| child);
    listed.chain(&table.default)
}

/// Every name in a route and in the routes written inside it.
fn references(table: &RouteTable) -> Vec<&At<String>> {
    let mut found = Vec::new();
    let mut left: Vec<&Child> = children(table).collect();
    while let Some(child) = left.pop() {
        match child {
            Child::Name(name) => found.push(name),
            Child::Inline(table) => left.extend(children(table)),
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
    1 + children(table)
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

/// Named routes as they are built; each once, shared by whoever refers to it.
pub struct Tree<'c> {
    config: &'c Config,
    built: HashMap<String, Route>,
}

impl<'c> Tree<'c> {
    /// A tree over these pools, for a configuration that passed [`check`].
    pub fn new(config: &'c Config, pools: &HashMap<String, Route>) -> Tree<'c> {
        Tree {
            config,
            built: pools.clone(),
        }
    }

    /// The route that a listener or a parent refers to. Recurses at most
    /// [`ROUTE_DEPTH_MAX`] deep in a checked configuration.
    pub fn build(&mut self, child: &Child) -> Result<Route, String> {
        match child {
            Child::Inline(table) => self.prefix("in place", table),
            Child::Name(name) => {
                if let Some(built) = self.built.get(&name.value) {
                    return Ok(built.clone());
                }
                let config = self.config;
                let unknown = || format!("there is no pool and no route named \"{}\"", name.value);
                let table = config.routes.get(&name.value).ok_or_else(unknown)?;
                let route = self.prefix(&name.value, &table.value)?;
                self.built.insert(name.value.clone(), route.clone());
                Ok(route)
            }
        }
    }

    fn prefix(&mut self, name: &str, table: &RouteTable) -> Result<Route, String> {
        let mut children = Vec::with_capacity(table.children.len());
        for (prefix, child) in &table.children {
            children.push((prefix.value.clone().into_bytes(), self.build(child)?));
        }
        let default = table.default.as_ref();
        let default = default.ok_or_else(|| format!("route `{name}` has no default"))?;
        let default = self.build(default)?;
        let prefix = Prefix::new(name, children, default).map_err(|error| error.to_string())?;
        Ok(Route::Prefix(prefix))
    }
}
