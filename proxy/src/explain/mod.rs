//! Where a request goes, and why, as a small tree: for `emberline explain`,
//! which has a configuration, and for `/explain`, which has a running process.
//!
//! What happens to a request that is typed as one line is said by its protocol
//! (`redis`, `memcached`), what its plan says by [`emberline_routing::explain`], and
//! what is special about a hot key by `heat`.

mod heat;
mod memcached;
mod redis;

use std::time::SystemTime;

use emberline_protocol::Kind;
use emberline_routing::explain::{self as words, Names, Tree};
use emberline_routing::{
    Ask, Change, Conditions, Explanation, PoolId, ServerId, States, Target, Upstream,
};

use crate::running::{Listener, Protocol, Running};
use crate::server;
use heat::Use;

/// Where a request goes, for a reader. Without a listener's name the first
/// one is taken that speaks the protocol of the request.
///
/// # Errors
/// What is wrong with the request, or with the listener's name.
pub fn explain(
    running: &Running,
    health: &dyn Health,
    listener: Option<&str>,
    request: &str,
) -> Result<String, String> {
    let listener = match listener {
        Some(name) => {
            let found = running.listeners.iter().find(|one| one.name == name);
            found.ok_or_else(|| {
                let known: Vec<_> = running
                    .listeners
                    .iter()
                    .map(|one| one.name.as_str())
                    .collect();
                format!(
                    "there is no listener `{name}`, expected one of {}",
                    known.join(", ")
                )
            })?
        }
        None => choose(running, request)?,
    };
    let scene = Scene {
        running,
        listener,
        health,
    };
    let mut root = Tree::new(request);
    let mut at = Tree::new(format!(
        "listener {} ({}, {})",
        listener.name,
        listener.protocol.name(),
        listener.bind
    ));
    at.extend(match listener.protocol {
        Protocol::Redis => redis::explain(&scene, request)?,
        Protocol::Memcached => memcached::explain(&scene, request)?,
    });
    root.push(at);
    Ok(root.render())
}

/// `get` is a command of both protocols. Redis' are written in capitals by
/// custom, memcached's only work in small letters; so the case decides.
fn choose<'r>(running: &'r Running, request: &str) -> Result<&'r Listener, String> {
    let speaks = |protocol| {
        running
            .listeners
            .iter()
            .find(move |one| one.protocol == protocol)
    };
    let word = request.split_whitespace().next().unwrap_or_default();
    let memcached = memcached::is_verb(word) && word.chars().all(|c| !c.is_ascii_uppercase());
    let first = match memcached {
        true => speaks(Protocol::Memcached),
        false => speaks(Protocol::Redis),
    };
    let any = first.or(running.listeners.iter().next());
    any.ok_or_else(|| "the configuration has no listener".to_owned())
}

/// What a request is explained against.
struct Scene<'r> {
    running: &'r Running,
    listener: &'r Listener,
    /// How the servers are.
    health: &'r dyn Health,
}

/// How servers are, as far as is known to who explains.
pub trait Health: Upstream {
    /// A word or two about a server, for who reads where a request goes.
    fn of(&self, server: ServerId) -> Option<String>;

    /// Whether it is known which servers are up at this moment.
    fn is_live(&self) -> bool;
}

/// What the configuration says of servers, and nothing else.
#[derive(Debug)]
pub struct Offline<'r>(pub &'r Running);

impl Upstream for Offline<'_> {
    fn is_ejected(&self, server: ServerId) -> bool {
        let server = self.0.servers.get(server.0 as usize);
        server.is_some_and(|server| server.down)
    }

    fn inflight(&self, _: ServerId) -> u32 {
        0
    }
}

impl Health for Offline<'_> {
    fn of(&self, server: ServerId) -> Option<String> {
        let marked = "marked as down: nothing is sent there";
        self.is_ejected(server).then(|| marked.to_owned())
    }

    fn is_live(&self) -> bool {
        false
    }
}

impl Scene<'_> {
    /// Why a request goes where it would go now.
    fn explanation(&self, ask: &Ask<'_>) -> Explanation {
        let states = States::new(0, 0);
        self.listener.router.explain_under(
            ask,
            &Conditions {
                upstream: self.health,
                states: &states,
                now_ms: 0,
                unix_ms: unix_ms(),
                client: 0,
            },
        )
    }

    /// The way of one key, from the listener's route to a server, and what
    /// the L1 has to do with it.
    /// `whole` is whether the request asks for the value as it is.
    fn way(&self, ask: &Ask<'_>, whole: bool) -> Tree {
        let (key, kind) = (ask.key, ask.kind);
        let explanation = self.explanation(ask);
        let mut nodes: Vec<Tree> = Vec::new();
        for step in &explanation.path {
            nodes.push(Tree::new(format!("route {}: {}", step.route, step.why)));
        }
        let way = Way {
            scene: self,
            explanation: &explanation,
            changes: explanation.plan.places(),
            asked: Asked { key, kind, whole },
        };
        nodes.push(words::plan(&explanation.plan, &way));
        let key = Tree::new(format!("key \"{}\"", key.escape_ascii()));
        Tree::chain(key, nodes)
    }

    fn server_name(&self, server: ServerId) -> &str {
        let server = self.running.servers.get(server.0 as usize);
        server.map_or("?", |server| server.name.as_str())
    }

    /// Everywhere that this listener's requests may go.
    fn everywhere(&self, why: &str) -> Tree {
        let places = server::places(self.running, self.listener);
        let mut node = Tree::new(format!("every server, {} in all: {why}", places.len()));
        node.extend(places.into_iter().map(|place| words::place(place, self)));
        node
    }

    /// A request that any server answers alike goes to the first.
    fn anywhere(&self, what: &str) -> Tree {
        let mut node = Tree::new(format!("{what}: the first place answers"));
        let first = self.listener.router.targets().first();
        node.extend(first.map(|place| words::place(*place, self)));
        node
    }

    /// What becomes of a request that may go nowhere unless there is no choice.
    fn if_sole(&self, what: &str) -> Tree {
        match self.listener.router.sole() {
            Some(place) => {
                let mut node = Tree::new(format!("{what}: passes, as there is one place only"));
                node.push(words::place(place, self));
                node
            }
            None => Tree::new(format!(
                "refused: {what}, and there are {} places it might go",
                self.listener.router.targets().len()
            )),
        }
    }

    fn denied(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.listener.deny.contains(name))
    }

    fn allowed(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.listener.allow.contains(name))
    }
}

impl Names for Scene<'_> {
    fn server(&self, server: ServerId) -> String {
        let name = self.server_name(server);
        match self.health.of(server) {
            Some(health) => format!("{name}, {health}"),
            None => name.to_owned(),
        }
    }

    fn pool(&self, pool: PoolId) -> String {
        let pool = self.running.pools.get(usize::from(pool.0));
        pool.map_or("?", |pool| pool.name.as_str()).to_owned()
    }

    fn live(&self) -> Option<&dyn Upstream> {
        self.health.is_live().then_some(self.health)
    }
}

/// The way of one key to its servers: at each of them, why it is there.
struct Way<'w> {
    scene: &'w Scene<'w>,
    explanation: &'w Explanation,
    /// What the request is at each of them, where a route changes it.
    changes: Vec<(Target, Change)>,
    /// As its client sent it.
    asked: Asked<'w>,
}

impl Way<'_> {
    /// The request as the place with this number sees it.
    fn asked_at(&self, number: usize) -> Asked<'_> {
        let Asked { key, kind, whole } = self.asked;
        let change = self.changes.get(number).map(|(_, change)| change);
        let deletes = change.is_some_and(|change| change.delete);
        Asked {
            key: change
                .and_then(|change| change.key.as_deref())
                .unwrap_or(key),
            kind: if deletes { Kind::Delete } else { kind },
            whole,
        }
    }
}

impl Names for Way<'_> {
    fn server(&self, server: ServerId) -> String {
        self.scene.server(server)
    }

    fn pool(&self, pool: PoolId) -> String {
        self.scene.pool(pool)
    }

    fn live(&self) -> Option<&dyn Upstream> {
        self.scene.live()
    }

    /// How a pool places the key, and what the L1 has to do with it.
    fn place(&self, number: usize, target: Target) -> Tree {
        let Some((pool, placement)) = self.explanation.placements.get(number) else {
            return Tree::new("nowhere");
        };
        let (scene, asked) = (self.scene, self.asked_at(number));
        let pool = scene.running.pools.get(usize::from(pool.0));
        let name = pool.map_or("?", |pool| pool.name.as_str());
        let heat =
            pool.map(|pool| heat::explain(pool, asked.key, Use::of(asked.kind, asked.whole)));
        let heat = heat.unwrap_or_default();
        let Some(placement) = placement else {
            let what = match target {
                Target::Answer(_) => "local",
                Target::Send(_) => "not where the key belongs",
            };
            let mut node = Tree::new(format!("pool {name}: {what}"));
            node.push(words::place(target, scene));
            node.extend(heat);
            return node;
        };
        let servers = pool.map_or(0, |pool| pool.servers.len());
        let plural = if servers == 1 { "server" } else { "servers" };
        let mut node = Tree::new(format!(
            "pool {name}: {} over {servers} {plural}",
            placement.distribution
        ));
        let part = placement.hashed_part.escape_ascii();
        let salt = placement.salt.escape_ascii();
        let mut hash = Tree::new(match placement.hash {
            Some((hash, value)) => format!("hash {hash}(\"{part}{salt}\") = {value}"),
            None => "nothing to hash".to_owned(),
        });
        if placement.hash.is_some() && placement.in_tag {
            hash.say(", the part inside the hash tag");
        }
        if placement.hash.is_some() && !placement.salt.is_empty() {
            hash.say(&format!(", with the salt \"{salt}\" behind it"));
        }
        node.push(hash);
        let mut place = words::place(target, scene);
        if let Target::Send(server) = target
            && placement.name != scene.server_name(server)
        {
            place.say(&format!(" (\"{}\" on the ring)", placement.name));
        }
        node.push(place);
        if let Some(when) = scene.listener.router.when_down(placement.server) {
            node.push(Tree::new(format!("while that server is down: {when}")));
        }
        let written = pool.is_some_and(|pool| pool.delete_log.is_some());
        if written && asked.kind == Kind::Delete {
            let what = "written to the delete log if that server does not answer";
            node.push(Tree::new(what));
        }
        node.extend(heat);
        node
    }
}

/// The wall clock, in milliseconds since 1970: what a migration goes by.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A request that is explained.
#[derive(Clone, Copy)]
struct Asked<'a> {
    key: &'a [u8],
    kind: Kind,
    /// It asks for the value as it is.
    whole: bool,
}
