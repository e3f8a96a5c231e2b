//! What is different between two configurations.
//!
//! Two questions are answered here: which pools must forget what memory knows
//! of them, and what the log tells people.

use std::fmt;
use std::sync::Arc;

use emberline_routing::{self as placement, PoolId, ServerId};

use super::{HealthSettings, Listener, Pool, Running};

/// See the module's description.
#[derive(Debug)]
pub struct Changes {
    /// By id: whether anything about the pool is different, or all of it.
    pools: Vec<bool>,
    /// The pool of each server, and that it is another one than before.
    servers: Vec<(PoolId, bool)>,
    lines: Vec<Change>,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `pool`, `route` or `listener`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub how: How,
    /// What is different, in words; empty where it is new or gone.
    pub details: String,
    /// The share of the keyspace (0 to 1) that lives on another server now.
    pub moved: Option<f64>,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is still there.
    Changed,
}

impl Changes {
    /// What is different in `new`.
    pub fn between(old: &Running, new: &Running) -> Changes {
        // Where requests take other ways, keys may have come to other pools.
        let routes = old.routes != new.routes;
        let pools = new.pools.all().enumerate().map(|(at, pool)| {
            let before = old.pools.get(at).filter(|_| old.keeps_pool(new, at));
            let gone = (old.pools.is_gone(at), new.pools.is_gone(at));
            routes
                || gone.0 != gone.1
                || before.is_none_or(|before| {
                    !differences(before, pool).is_empty()
                        || marks(old, before) != marks(new, pool)
                        || placed(old, at).as_deref() != placed(new, at).as_deref()
                })
        });
        let servers = new.servers.all().enumerate().map(|(at, server)| {
            let gone = old.servers.is_gone(at) != new.servers.is_gone(at);
            (server.pool, gone || !old.keeps_terms(new, at))
        });
        Changes {
            pools: pools.collect(),
            servers: servers.collect(),
            lines: lines(old, new),
        }
    }

    /// Whether anything about this pool is different.
    pub fn touches_pool(&self, pool: PoolId) -> bool {
        self.pools.get(usize::from(pool.0)).is_none_or(|is| *is)
    }

    /// Whether anything about this server, or its pool, is different.
    pub fn touches_server(&self, server: ServerId) -> bool {
        let server = self.servers.get(server.0 as usize);
        server.is_none_or(|(pool, is)| *is || self.touches_pool(*pool))
    }

    /// What people are told.
    pub fn lines(&self) -> &[Change] {
        &self.lines
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            How::Added => "added",
            How::Removed => "removed",
            How::Changed => "changed",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.what, self.name, self.how)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        if let Some(moved) = self.moved {
            write!(f, "; {:.1} % of its keys moved", moved * 100.0)?;
        }
        Ok(())
    }
}

fn lines(old: &Running, new: &Running) -> Vec<Change> {
    let mut lines = Vec::new();
    let mut line = |what, name: &str, how, details, moved| {
        lines.push(Change {
            what,
            name: name.to_owned(),
            how,
            details,
            moved,
        });
    };
    for (at, pool) in old.pools.numbered() {
        if new.pools.is_gone(at) || !old.keeps_pool(new, at) {
            line("pool", &pool.name, How::Removed, String::new(), None);
        }
    }
    for (at, pool) in new.pools.numbered() {
        let before = old.pools.present(at).filter(|_| old.keeps_pool(new, at));
        let Some(before) = before else {
            line("pool", &pool.name, How::Added, String::new(), None);
            continue;
        };
        let mut details = servers(old, new, before, pool);
        if marks(old, before) != marks(new, pool) {
            details.push("servers marked as down".to_owned());
        }
        details.extend(placing(old, new, at));
        let settings = differences(before, pool).into_iter();
        details.extend(settings.filter(|what| *what != SERVERS).map(str::to_owned));
        let moved = match (placement_of(old, at), placement_of(new, at)) {
            (Some(old), Some(new)) if words(old) != words(new) => Some(old.share_moved(new)),
            _ => None,
        };
        if !details.is_empty() || moved.is_some() {
            line("pool", &pool.name, How::Changed, details.join(", "), moved);
        }
    }
    let routes = |running: &Running| -> Vec<(String, String)> {
        let all = running.routes.iter();
        all.filter(|(name, _)| !name.contains(' '))
            .cloned()
            .collect()
    };
    let (before, now) = (routes(old), routes(new));
    for (name, words) in &before {
        match now.iter().find(|(other, _)| other == name) {
            None => line("route", name, How::Removed, String::new(), None),
            Some((_, other)) if other != words => {
                line("route", name, How::Changed, String::new(), None);
            }
            Some(_) => {}
        }
    }
    for (name, _) in &now {
        if !before.iter().any(|(other, _)| other == name) {
            line("route", name, How::Added, String::new(), None);
        }
    }
    for (at, listener) in old.listeners.numbered() {
        if new.listeners.is_gone(at) || !old.keeps_listener(new, at) {
            line(
                "listener",
                &listener.name,
                How::Removed,
                String::new(),
                None,
            );
        }
    }
    for (at, listener) in new.listeners.numbered() {
        let before = old
            .listeners
            .present(at)
            .filter(|_| old.keeps_listener(new, at));
        match before {
            None => line("listener", &listener.name, How::Added, String::new(), None),
            Some(before) => {
                let details = admission(old, new, before, listener);
                if !details.is_empty() {
                    line(
                        "listener",
                        &listener.name,
                        How::Changed,
                        details.join(", "),
                        None,
                    );
                }
            }
        }
    }
    lines
}

/// Told server by server.
const SERVERS: &str = "servers";

/// Servers that came and went.
fn servers(old: &Running, new: &Running, before: &Pool, pool: &Pool) -> Vec<String> {
    let name = |running: &Running, server: &ServerId| {
        let server = running.servers.get(server.0 as usize);
        server.map_or_else(String::new, |server| server.name.clone())
    };
    let gone = before
        .servers
        .iter()
        .filter(|id| !pool.servers.contains(id));
    let came = pool
        .servers
        .iter()
        .filter(|id| !before.servers.contains(id));
    let came = came.map(|id| format!("server {} added", name(new, id)));
    let gone = gone.map(|id| format!("server {} removed", name(old, id)));
    came.chain(gone).collect()
}

/// Which of its servers the configuration says are down.
fn marks(running: &Running, pool: &Pool) -> Vec<ServerId> {
    let is_down = |server: &&ServerId| {
        let server = running.servers.get(server.0 as usize);
        server.is_some_and(|server| server.down)
    };
    pool.servers.iter().filter(is_down).copied().collect()
}

/// Weights and whatever else decides where keys go.
fn placing(old: &Running, new: &Running, at: usize) -> Vec<String> {
    let (Some(old), Some(new)) = (placement_of(old, at), placement_of(new, at)) else {
        return Vec::new();
    };
    let (old, new) = (old.spec(), new.spec());
    let mut details = Vec::new();
    for member in &new.members {
        let before = old.members.iter().find(|other| other.name == member.name);
        if let Some(before) = before
            && before.weight != member.weight
        {
            let (name, was, is) = (&member.name, before.weight, member.weight);
            details.push(format!("weight of {name} from {was} to {is}"));
        }
    }
    let rules = |spec: &placement::PoolSpec| {
        format!(
            "{:?}",
            (spec.distribution, spec.hash, spec.byte_sign, &spec.hash_tag)
        )
    };
    if rules(old) != rules(new) {
        details.push("hash or distribution".to_owned());
    }
    details
}

/// The settings that are different, by name.
fn differences(old: &Pool, new: &Pool) -> Vec<&'static str> {
    let store = |pool: &Pool| pool.local.as_ref().map(Arc::as_ptr);
    let login = |pool: &Pool| (pool.username.clone(), pool.password.clone(), pool.database);
    let limits = |pool: &Pool| (pool.connections, pool.inflight_max, pool.value_max);
    let timeouts = |pool: &Pool| {
        let queue = pool.health.timeout_queue;
        (pool.timeout_connect, pool.timeout_request, queue)
    };
    let health = HealthSettings {
        timeout_queue: old.health.timeout_queue,
        ..new.health.clone()
    };
    [
        (store(old) != store(new), "capacity (its keys are gone)"),
        (old.servers != new.servers, SERVERS),
        (timeouts(old) != timeouts(new), "timeouts"),
        (limits(old) != limits(new), "limits"),
        (old.health != health, "health"),
        (old.partial != new.partial, "partial"),
        (login(old) != login(new), "credentials or database"),
        (old.believes() != new.believes(), "tls"),
        (old.hotkey != new.hotkey, "hotkey"),
        (old.l1 != new.l1, "l1"),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}

/// What is different for a listener's clients.
fn admission(
    old: &Running,
    new: &Running,
    before: &Listener,
    listener: &Listener,
) -> Vec<&'static str> {
    let key = format!("listener {}", listener.name);
    let route = |running: &Running| {
        let mut routes = running.routes.iter();
        routes
            .find(|(name, _)| *name == key)
            .map(|(_, words)| words.clone())
    };
    [
        (route(old) != route(new), "route"),
        (before.password != listener.password, "password"),
        (before.tls != listener.tls, "tls"),
        (before.allow != listener.allow, "allow"),
        (before.deny != listener.deny, "deny"),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}

/// How a pool places its keys, in words.
fn placed(running: &Running, at: usize) -> Option<String> {
    placement_of(running, at).map(words)
}

fn words(pool: &placement::Pool) -> String {
    format!("{:?}", pool.spec())
}

/// A local pool has none.
fn placement_of(running: &Running, at: usize) -> Option<&placement::Pool> {
    let id = PoolId(u16::try_from(at).ok()?);
    let ring = running.rings.get(at).and_then(Option::as_deref);
    let mut listeners = running.listeners.iter();
    ring.or_else(|| listeners.find_map(|listener| listener.router.pool(id)))
}
