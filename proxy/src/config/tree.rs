//! Route trees: from tables and names to routes that plan.
//!
//! Whatever is written here has been checked: every name exists, nothing leads
//! in a circle, and nothing is nested too deep. A route decides nothing by its
//! name, so that a named one is built once and shared.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use emberline_protocol::Outcome;
use emberline_routing::routes::{
    self, FailoverSpec, OperationSpec, ReplicasSpec,
};
use emberline_routing::{Outcomes, Prefix, Route, StateId};

use super::Config;
use super::model::routes::{Cause, Child, ReadFrom, RouteTable, Rule, Simple, WaitFor};
use super::model::{self};

/// Why a route cannot be built.
pub struct Unbuilt {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
}

/// Named routes as they are built; each once, shared by whoever refers to it.
pub struct Tree<'c> {
    config: &'c Config,
    built: HashMap<String, Route>,
    states: u16,
}

/// Where a route stands, for errors about it.
struct Site<'a> {
    name: &'a str,
    span: &'a Range<usize>,
}

impl Site<'_> {
    fn refuse(&self, message: impl std::fmt::Display) -> Unbuilt {
        Unbuilt {
            message: format!("route `{}`: {message}", self.name),
            span: self.span.clone(),
        }
    }
}

impl<'c> Tree<'c> {
    /// A tree over these pools, for a configuration that passed
    /// [`check`](super::routes::check).
    pub fn new(config: &'c Config, pools: &HashMap<String, Route>) -> Tree<'c> {
        Tree {
            config,
            built: pools.clone(),
            states: 0,
        }
    }

    /// How many of the routes so far remember something.
    pub fn states(&self) -> usize {
        self.states.into()
    }

    /// The route that a listener or a parent refers to. Recurses at most
    /// `ROUTE_DEPTH_MAX` deep in a checked configuration.
    pub fn build(&mut self, child: &'c Child) -> Result<Route, Unbuilt> {
        match child {
            Child::Inline(table) => self.rule("in place", table),
            Child::Name(name) => {
                if let Some(built) = self.built.get(&name.value) {
                    return Ok(built.clone());
                }
                let unknown = || Unbuilt {
                    message: format!("there is no pool and no route named \"{}\"", name.value),
                    span: name.span.clone(),
                };
                let table = self.config.routes.get(&name.value).ok_or_else(unknown)?;
                let route = self.rule(&name.value, &table.value)?;
                self.built.insert(name.value.clone(), route.clone());
                Ok(route)
            }
        }
    }

    /// A route by its kind. Whoever builds one more adds an arm.
    fn rule(&mut self, name: &str, table: &'c RouteTable) -> Result<Route, Unbuilt> {
        let site = Site {
            name,
            span: &table.span,
        };
        if let Simple::Child(child) = table.rule.simple() {
            return self.build(child);
        }
        match &table.rule {
            Rule::Prefix(prefix) => self.prefix(&site, prefix),
            Rule::Operation(operation) => self.operation(&site, operation),
            Rule::Failover(failover) => self.failover(&site, failover),
            Rule::Replicas(replicas) => self.replicas(&site, replicas),
            other => Err(site.refuse(format!("type `{}` is not built yet", other.kind().word()))),
        }
    }

    fn all(&mut self, children: &'c [Child]) -> Result<Vec<Route>, Unbuilt> {
        children.iter().map(|child| self.build(child)).collect()
    }

    fn maybe(&mut self, child: &'c Option<Child>) -> Result<Option<Route>, Unbuilt> {
        child.as_ref().map(|child| self.build(child)).transpose()
    }

    /// A name for what the next route remembers.
    fn state(&mut self, site: &Site<'_>) -> Result<StateId, Unbuilt> {
        let id = StateId(self.states);
        let next = self.states.checked_add(1);
        self.states = next.ok_or_else(|| site.refuse("too many routes remember something"))?;
        Ok(id)
    }

    fn prefix(
        &mut self,
        site: &Site<'_>,
        table: &'c model::routes::Prefix,
    ) -> Result<Route, Unbuilt> {
        if table.strip || !table.rewrite.is_empty() {
            return Err(site.refuse("`strip` and `rewrite` are not built yet"));
        }
        let mut children = Vec::with_capacity(table.children.len());
        for (prefix, child) in &table.children {
            children.push((prefix.value.clone().into_bytes(), self.build(child)?));
        }
        let default = table.default.as_ref();
        let default = default.ok_or_else(|| site.refuse("it has no default"))?;
        let default = self.build(default)?;
        let prefix = Prefix::new(site.name, children, default);
        prefix.map(Route::Prefix).map_err(|error| Unbuilt {
            message: error.to_string(),
            span: site.span.clone(),
        })
    }

    fn operation(
        &mut self,
        site: &Site<'_>,
        table: &'c model::routes::Operation,
    ) -> Result<Route, Unbuilt> {
        let default = match &table.default {
            Some(child) => self.build(child)?,
            None => return Err(site.refuse("it has no default")),
        };
        let operation = routes::Operation::new(OperationSpec {
            name: site.name.to_owned(),
            reads: self.maybe(&table.reads)?,
            writes: self.maybe(&table.writes)?,
            deletes: self.maybe(&table.deletes)?,
            counters: self.maybe(&table.counters)?,
            touches: self.maybe(&table.touches)?,
            default,
        });
        Ok(Route::Operation(Arc::new(operation)))
    }

    fn failover(
        &mut self,
        site: &Site<'_>,
        table: &'c model::routes::Failover,
    ) -> Result<Route, Unbuilt> {
        if table.salted.is_some() {
            return Err(site.refuse("`salted` is not built yet"));
        }
        let rate = match table.rate {
            Some(share) => Some(routes::Rate {
                state: self.state(site)?,
                share,
                burst: f64::from(table.burst).max(1.0),
            }),
            None => None,
        };
        let on = |own: &Option<Vec<Cause>>| outcomes(own.as_deref().unwrap_or(&table.on));
        let failover = routes::Failover::new(FailoverSpec {
            name: site.name.into(),
            children: self.all(&table.children)?,
            on_reads: on(&table.on_reads),
            on_writes: on(&table.on_writes),
            on_deletes: on(&table.on_deletes),
            on_counters: on(&table.on_counters),
            on_touches: on(&table.on_touches),
            tries_max: table.max_tries,
            retry_writes: table.retry_writes,
            rate,
        });
        Ok(Route::Failover(Arc::new(failover)))
    }

    fn replicas(
        &mut self,
        site: &Site<'_>,
        table: &'c model::routes::Replicas,
    ) -> Result<Route, Unbuilt> {
        let mut children = Vec::with_capacity(table.children.len());
        for child in &table.children {
            children.push((self.build(child)?, self.is_near(child)));
        }
        let replicas = routes::Replicas::new(ReplicasSpec {
            name: site.name.into(),
            children,
            read: match table.read {
                ReadFrom::First => routes::Read::First,
                ReadFrom::Random => routes::Read::Random,
                ReadFrom::Fastest => routes::Read::Fastest,
                ReadFrom::Near => routes::Read::Near,
                ReadFrom::LeastLoaded => routes::Read::LeastLoaded,
            },
            wait: match table.wait {
                WaitFor::All => routes::Wait::All,
                WaitFor::Majority => routes::Wait::Majority,
                WaitFor::One => routes::Wait::One,
                WaitFor::None => routes::Wait::None,
            },
            read_repair: table.read_repair,
            hedge_after: table.hedge_after,
        });
        Ok(Route::Replicas(Arc::new(replicas)))
    }

    /// Whether a child is a pool in this proxy's own zone.
    fn is_near(&self, child: &Child) -> bool {
        let Child::Name(name) = child else {
            return false;
        };
        let pool = self.config.pools.get(&name.value);
        let zone = pool.and_then(|pool| pool.zone.as_ref());
        let own = self.config.proxy.zone.as_ref();
        zone.is_some_and(|zone| own.is_some_and(|own| own.value == zone.value))
    }
}

fn outcomes(causes: &[Cause]) -> Outcomes {
    let each = causes.iter().map(|cause| match cause {
        Cause::Timeout => Outcome::Timeout,
        Cause::Connect => Outcome::Connect,
        Cause::Down => Outcome::Down,
        Cause::Busy => Outcome::Busy,
        Cause::Lost => Outcome::Lost,
        Cause::Error => Outcome::Error,
        Cause::Miss => Outcome::Miss,
    });
    Outcomes::of(&each.collect::<Vec<_>>())
}
