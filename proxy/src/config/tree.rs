//! Route trees: from tables and names to routes that plan.
//!
//! Whatever is written here has been checked: every name exists, nothing leads
//! in a circle, and nothing is nested too deep. A route decides nothing by its
//! name, so that a named one is built once and shared.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use emberline_protocol::Outcome;
use emberline_routing::routes::{self, PrefixChild};
use emberline_routing::{ByteSign, Hash, Mark, Outcomes, Prefix, Route, StateId, TtlChange};

use super::Config;
use super::model::routes::{
    self as tables, Cause, Child, FaultAnswer, HashPart, ReadFrom, RouteTable, Rule, ShadowBy,
    Simple, WaitFor,
};
use crate::running::Visibility;

/// How long a delete is remembered where the configuration does not say.
const TOMBSTONE: Duration = Duration::from_secs(2);

/// The longest life of a copy of a key of `split_hot`: orphans go away.
const SPLIT_TTL: Duration = Duration::from_secs(10);

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
        match table.rule.simple() {
            Simple::Child(child) => return self.build(child),
            Simple::Null => return Ok(Route::Null),
            Simple::Rule => {}
        }
        let name: Arc<str> = name.into();
        match &table.rule {
            Rule::Prefix(prefix) => self.prefix(&site, prefix),
            Rule::Operation(operation) => self.operation(&site, operation),
            Rule::Failover(failover) => self.failover(&site, failover),
            Rule::Replicas(replicas) => self.replicas(&site, replicas),
            Rule::Gutter(table) => Ok(Route::from(routes::GutterSpec {
                name,
                main: self.build(&table.main)?,
                gutter: self.build(&table.gutter)?,
                ttl: table.ttl,
                on: outcomes(&table.on),
            })),
            Rule::MissFailover(table) => Ok(Route::from(routes::MissFailoverSpec {
                name,
                children: self.all(&table.children)?,
            })),
            Rule::WarmUp(table) => Ok(Route::from(routes::WarmUpSpec {
                name,
                cold: self.build(&table.cold)?,
                warm: self.build(&table.warm)?,
                tombstone: self.mark(&site, table.tombstone)?,
                ttl: table.ttl,
            })),
            Rule::SlowWarmUp(table) => Ok(Route::from(routes::SlowWarmUpSpec {
                name,
                target: self.build(&table.target)?,
                fallback: self.build(&table.fallback)?,
                enable_below: table.enable_below,
                disable_above: table.disable_above,
                start: table.start,
                step: table.step,
                requests_min: table.requests_min,
                state: self.state(&site)?,
            })),
            Rule::Migrate(table) => Ok(Route::from(routes::MigrateSpec {
                name,
                from: self.build(&table.from)?,
                to: self.build(&table.to)?,
                start_unix_ms: unix_ms(table.start),
                interval: table.interval,
            })),
            Rule::Staging(table) => Ok(Route::from(routes::StagingSpec {
                name,
                warm: self.build(&table.warm)?,
                staging: self.build(&table.staging)?,
                tombstone: self.mark(&site, TOMBSTONE)?,
            })),
            Rule::Shadow(table) => self.shadow(name, table),
            Rule::SplitHot(table) => Ok(Route::from(routes::SplitHotSpec {
                name,
                child: self.build(&table.child)?,
                keys: table.keys.iter().map(|key| key.as_bytes().into()).collect(),
                copies: table.copies,
                ttl: Some(SPLIT_TTL),
                tombstone: self.mark(&site, TOMBSTONE)?,
            })),
            Rule::L1L2(table) => Ok(Route::from(routes::L1L2Spec {
                name,
                l1: self.build(&table.l1)?,
                l2: self.build(&table.l2)?,
                ttl: table.ttl,
                absent: self.mark(&site, table.negative_ttl)?,
                tombstone: self.mark(&site, TOMBSTONE)?,
            })),
            Rule::SizeSplit(table) => Ok(Route::from(routes::SizeSplitSpec {
                name,
                small: self.build(&table.small)?,
                large: self.build(&table.large)?,
                threshold: usize::try_from(table.threshold).unwrap_or(usize::MAX),
            })),
            Rule::BigValue(table) => Ok(Route::from(routes::BigValueSpec {
                name,
                child: self.build(&table.child)?,
                chunk: usize::try_from(table.chunk).unwrap_or(usize::MAX),
                ttl: table.ttl,
            })),
            Rule::Ttl(table) => Ok(Route::from(routes::TtlSpec {
                name,
                child: self.build(&table.child)?,
                change: TtlChange {
                    set: table.set,
                    cap: table.cap,
                    floor: table.floor,
                },
            })),
            Rule::Key(table) => self.key(name, table),
            Rule::HashKey(table) => self.hash_key(name, table),
            Rule::ByHost(table) => Ok(Route::from(routes::ByHostSpec {
                name,
                children: self.all(&table.children)?,
                host: host(),
            })),
            Rule::ByClient(table) => Ok(Route::from(routes::ByClientSpec {
                name,
                children: self.all(&table.children)?,
            })),
            Rule::Random(table) => Ok(Route::from(routes::RandomSpec {
                name,
                children: self.all(&table.children)?,
            })),
            Rule::Latest(table) => Ok(Route::from(routes::LatestSpec {
                name,
                children: self.all(&table.children)?,
                count: table.count,
                host: host(),
            })),
            Rule::LoadBalance(table) => Ok(Route::from(routes::LoadBalanceSpec {
                name,
                children: self.all(&table.children)?,
            })),
            Rule::RateLimit(table) => self.rate_limit(&site, name, table),
            Rule::LimitInflight(table) => Ok(Route::from(routes::LimitInflightSpec {
                name,
                child: self.build(&table.child)?,
                max: u32::try_from(table.max).unwrap_or(u32::MAX),
            })),
            Rule::Fault(table) => Ok(Route::from(routes::FaultSpec {
                name,
                child: self.build(&table.child)?,
                share: table.share,
                delay: table.delay,
                answer: match table.answer {
                    FaultAnswer::Pass => routes::FaultAnswer::Pass,
                    FaultAnswer::Error => routes::FaultAnswer::Error,
                    FaultAnswer::Null => routes::FaultAnswer::Null,
                    FaultAnswer::Drop => routes::FaultAnswer::Drop,
                },
            })),
            Rule::Log(table) => Ok(Route::from(routes::LogSpec {
                name,
                child: self.build(&table.child)?,
                share: table.share,
                keys: table.keys == Visibility::Plain,
            })),
            Rule::Null(_) => Ok(Route::Null),
            Rule::Error(table) => Ok(Route::from(routes::ErrorSpec {
                name,
                message: table.message.as_str().into(),
            })),
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

    /// What is remembered for so long; nothing if that is no time.
    fn mark(&mut self, site: &Site<'_>, life: Duration) -> Result<Option<Mark>, Unbuilt> {
        match life.is_zero() {
            true => Ok(None),
            false => Ok(Some(Mark {
                state: self.state(site)?,
                life,
            })),
        }
    }

    fn shadow(&mut self, name: Arc<str>, table: &'c tables::Shadow) -> Result<Route, Unbuilt> {
        let mut copies = Vec::with_capacity(table.copies.len());
        for copy in &table.copies {
            copies.push(routes::ShadowCopy {
                route: self.build(&copy.route)?,
                share: copy.share,
                by: match copy.by {
                    ShadowBy::Key => routes::ShareBy::Key,
                    ShadowBy::Request => routes::ShareBy::Request,
                },
            });
        }
        let main = self.build(&table.main)?;
        Ok(Route::from(routes::ShadowSpec { name, main, copies }))
    }

    fn key(&mut self, name: Arc<str>, table: &'c tables::Key) -> Result<Route, Unbuilt> {
        let bytes = |text: &Option<String>| text.as_deref().unwrap_or_default().as_bytes().to_vec();
        let replace = table.replace.iter();
        let replace = replace.map(|(from, to)| (from.value.clone().into(), to.clone().into()));
        Ok(Route::from(routes::KeySpec {
            name,
            child: self.build(&table.child)?,
            strip_prefix: bytes(&table.strip_prefix),
            strip_suffix: bytes(&table.strip_suffix),
            replace: replace.collect(),
            add_prefix: bytes(&table.add_prefix),
            add_suffix: bytes(&table.add_suffix),
        }))
    }

    fn hash_key(&mut self, name: Arc<str>, table: &'c tables::HashKey) -> Result<Route, Unbuilt> {
        let part = match table.part() {
            HashPart::Before(stop) => routes::HashPart::Before(stop.as_bytes().into()),
            HashPart::Between(delimiter, index) => {
                routes::HashPart::Between(delimiter.as_bytes().into(), index)
            }
        };
        let child = self.build(&table.child)?;
        Ok(Route::from(routes::HashKeySpec { name, child, part }))
    }

    fn rate_limit(
        &mut self,
        site: &Site<'_>,
        name: Arc<str>,
        table: &'c tables::RateLimit,
    ) -> Result<Route, Unbuilt> {
        let mut limit = |rate: &Option<tables::Rate>| -> Result<Option<routes::Limit>, Unbuilt> {
            let Some(rate) = rate else { return Ok(None) };
            Ok(Some(routes::Limit {
                state: self.state(site)?,
                rate: rate.rate,
                burst: rate.burst,
            }))
        };
        let [reads, writes, deletes, counters, touches, all] = [
            limit(&table.reads)?,
            limit(&table.writes)?,
            limit(&table.deletes)?,
            limit(&table.counters)?,
            limit(&table.touches)?,
            limit(&table.all)?,
        ];
        Ok(Route::from(routes::RateLimitSpec {
            name,
            child: self.build(&table.child)?,
            over: match &table.over {
                // Its own error says which limit it was.
                Child::Inline(over) if is_plain_error(over) => None,
                over => Some(self.build(over)?),
            },
            reads,
            writes,
            deletes,
            counters,
            touches,
            all,
        }))
    }

    fn prefix(&mut self, site: &Site<'_>, table: &'c tables::Prefix) -> Result<Route, Unbuilt> {
        let mut children = Vec::with_capacity(table.children.len());
        for (prefix, child) in &table.children {
            let key = prefix.value.as_str();
            let rewritten = table.rewrite.iter().find(|(from, _)| from.value == key);
            children.push(PrefixChild {
                prefix: key.as_bytes().to_vec(),
                child: self.build(child)?,
                becomes: match rewritten {
                    Some((_, to)) => Some(to.as_bytes().to_vec()),
                    None => table.strip.then(Vec::new),
                },
            });
        }
        let default = table.default.as_ref();
        let default = default.ok_or_else(|| site.refuse("it has no default"))?;
        let default = self.build(default)?;
        let prefix = Prefix::rewriting(site.name, children, default);
        prefix.map(Route::Prefix).map_err(|error| Unbuilt {
            message: error.to_string(),
            span: site.span.clone(),
        })
    }

    fn operation(
        &mut self,
        site: &Site<'_>,
        table: &'c tables::Operation,
    ) -> Result<Route, Unbuilt> {
        // Without one, all that is no read is a write.
        let default = match table.default.as_ref().or(table.writes.as_ref()) {
            Some(child) => self.build(child)?,
            None => return Err(site.refuse("it has neither `default` nor `writes`")),
        };
        Ok(Route::from(routes::OperationSpec {
            name: site.name.to_owned(),
            reads: self.maybe(&table.reads)?,
            writes: self.maybe(&table.writes)?,
            deletes: self.maybe(&table.deletes)?,
            counters: self.maybe(&table.counters)?,
            touches: self.maybe(&table.touches)?,
            default,
        }))
    }

    fn failover(&mut self, site: &Site<'_>, table: &'c tables::Failover) -> Result<Route, Unbuilt> {
        let rate = match table.rate {
            Some(share) => Some(routes::Rate {
                state: self.state(site)?,
                share,
                burst: f64::from(table.burst).max(1.0),
            }),
            None => None,
        };
        let on = |own: &Option<Vec<Cause>>| outcomes(own.as_deref().unwrap_or(&table.on));
        let on = routes::Causes {
            reads: on(&table.on_reads),
            writes: on(&table.on_writes),
            deletes: on(&table.on_deletes),
            counters: on(&table.on_counters),
            touches: on(&table.on_touches),
        };
        let name: Arc<str> = site.name.into();
        let Some(salted) = &table.salted else {
            return Ok(Route::from(routes::FailoverSpec {
                name,
                children: self.all(&table.children)?,
                on,
                tries_max: table.max_tries,
                retry_writes: table.retry_writes,
                rate,
            }));
        };
        match self.build(salted)? {
            Route::Pool(pool) => Ok(Route::from(routes::PoolFailoverSpec {
                name,
                pool,
                on,
                tries_max: table.max_tries,
                retry_writes: table.retry_writes,
                rate,
            })),
            _ => Err(site.refuse("`salted` needs a pool of servers with `on_down = \"error\"`")),
        }
    }

    fn replicas(&mut self, site: &Site<'_>, table: &'c tables::Replicas) -> Result<Route, Unbuilt> {
        let mut children = Vec::with_capacity(table.children.len());
        for child in &table.children {
            children.push((self.build(child)?, self.is_near(child)));
        }
        Ok(Route::from(routes::ReplicasSpec {
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
            tombstone: match table.read_repair {
                true => self.mark(site, TOMBSTONE)?,
                false => None,
            },
            hedge_after: table.hedge_after,
        }))
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

/// Whether it is an error that says nothing of its own.
fn is_plain_error(table: &RouteTable) -> bool {
    let plain = tables::Error::default().message;
    matches!(&table.rule, Rule::Error(error) if error.message == plain)
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

/// A hash of this host's name: the same as long as it has that name.
fn host() -> u64 {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Hash::Fnv1a_64
        .hash(name.trim().as_bytes(), ByteSign::Unsigned)
        .into()
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
