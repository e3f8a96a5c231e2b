//! `emberline explain`: where a request goes, and why, as a small tree.

mod heat;
mod memcached;
mod redis;
mod tree;

use std::process::ExitCode;

use clap::Args;
use emberline_protocol::Kind;
use std::time::{Duration, SystemTime};

use emberline_protocol::Outcome;
use emberline_routing::explain::in_pieces;
use emberline_routing::{
    Ask, Canned, Change, Conditions, Explanation, Pick, Placement, Plan, PoolId, ServerId, States,
    Target, Try, Upstream,
};

use super::embedded::Embedded;
use super::{ConfigFile, ask, load, terminal};
use crate::config::model::ADMIN_BIND;
use crate::running::{Listener, Protocol, Running};
use crate::server;
use heat::Use;
use tree::Tree;

/// How long a running process may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    file: ConfigFile,
    /// The listener that the request comes in by [default: the first that speaks the request's protocol]
    #[arg(short, long, value_name = "NAME")]
    listener: Option<String>,
    /// Ask a running Emberline, whose servers may be down at this moment
    #[arg(long, conflicts_with = "config")]
    live: bool,
    /// The admin API to ask: HOST:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN_BIND, requires = "live")]
    admin: String,
    /// The request as a client would type it, such as 'GET user:1'
    #[arg(value_name = "REQUEST", required = true, allow_negative_numbers = true)]
    request: Vec<String>,
}

pub fn run(args: &Explain) -> ExitCode {
    if args.live {
        return ask_live(args);
    }
    let running = match &args.file.config {
        Some(path) => load(path),
        None => Embedded::default().assemble().0.ok_or(ExitCode::FAILURE),
    };
    let running = match running {
        Ok(running) => running,
        Err(code) => return code,
    };
    let request = args.request.join(" ");
    match explain(
        &running,
        &Offline(&running),
        args.listener.as_deref(),
        &request,
    ) {
        Ok(text) => terminal::print(text.as_bytes()),
        Err(message) => {
            terminal::complain(message);
            ExitCode::from(2)
        }
    }
}

/// What a running process says.
fn ask_live(args: &Explain) -> ExitCode {
    let request = ask::encoded(&args.request.join(" "));
    let mut path = format!("/explain?request={request}");
    if let Some(listener) = &args.listener {
        path.push_str("&listener=");
        path.push_str(&ask::encoded(listener));
    }
    match ask::get(&args.admin, &path, TIMEOUT) {
        Ok(answer) if answer.status == "200" => terminal::print(answer.body.as_bytes()),
        Ok(answer) if answer.status == "400" => {
            terminal::complain(answer.body.trim_end());
            ExitCode::from(2)
        }
        Ok(answer) => {
            let status = answer.status;
            terminal::complain(format!("{} answers with status {status}", args.admin));
            ExitCode::FAILURE
        }
        Err(error) => {
            terminal::complain(format!("{}: {error}", args.admin));
            ExitCode::FAILURE
        }
    }
}

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
        let mut placements = explanation.placements.iter();
        let asked = Asked { key, kind, whole };
        nodes.push(self.plan(&explanation.plan, &asked, &mut placements));
        let key = Tree::new(format!("key \"{}\"", key.escape_ascii()));
        Tree::chain(key, nodes)
    }

    /// A plan as a tree. `placements` are those of its places, in its order.
    fn plan<'p>(
        &self,
        plan: &Plan,
        asked: &Asked<'_>,
        placements: &mut impl Iterator<Item = &'p (PoolId, Option<Placement>)>,
    ) -> Tree {
        let mut several = |title: String, plans: &[Plan]| {
            let mut node = Tree::new(title);
            for plan in plans {
                node.push(self.plan(plan, asked, placements));
            }
            node
        };
        match plan {
            Plan::Answer(_) | Plan::Send(_) => match (plan.target(), placements.next()) {
                (Some(target), Some((pool, placement))) => {
                    self.leaf(target, *pool, placement.as_ref(), asked)
                }
                _ => Tree::new("nowhere".to_owned()),
            },
            Plan::Reply(canned) => Tree::new(match canned {
                Canned::Null => "answer that there is no such key".to_owned(),
                Canned::Accepted => "answer that it is being done".to_owned(),
                Canned::Error(text) | Canned::Busy(text) => {
                    format!("answer with the error \"{text}\"")
                }
            }),
            Plan::Edit(change, plan) => several(changed(change), std::slice::from_ref(plan)),
            Plan::Try(tries) => {
                let is_down = |plan: &Plan| plan.is_down(self.health);
                let now = tries.plans.iter().position(|plan| !is_down(plan));
                let mut node = Tree::new(tried(tries));
                for (number, plan) in tries.plans.iter().enumerate() {
                    let mut below = self.plan(plan, asked, placements);
                    if self.health.is_live() && now == Some(number) {
                        below.say(", taken now");
                    }
                    node.push(below);
                }
                node
            }
            Plan::Pieces(pieces) => {
                several(in_pieces(&pieces.route), std::slice::from_ref(&pieces.head))
            }
            Plan::Fan(fan) => several(fanned(fan.answer), &fan.plans),
            Plan::Mirror(mirror) => {
                let mut node = several(
                    "answer from the first, and send it to the others too".to_owned(),
                    std::slice::from_ref(&mirror.main),
                );
                for copy in &mirror.copies {
                    let places = copy
                        .places()
                        .into_iter()
                        .map(|(target, _)| self.place(target));
                    let mut copied = Tree::new("a copy, whose reply nobody waits for".to_owned());
                    copied.extend(places.collect());
                    node.push(copied);
                }
                node
            }
        }
    }

    /// How a pool places the key, and what the L1 has to do with it.
    fn leaf(
        &self,
        target: Target,
        pool: PoolId,
        placement: Option<&Placement>,
        asked: &Asked<'_>,
    ) -> Tree {
        let pool = self.running.pools.get(usize::from(pool.0));
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
            node.push(self.place(target));
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
        if placement.hash.is_some() && placement.hashed_part != asked.key {
            hash.say(", the part inside the hash tag");
        }
        if placement.hash.is_some() && !placement.salt.is_empty() {
            hash.say(&format!(", with the salt \"{salt}\" behind it"));
        }
        node.push(hash);
        let mut place = self.place(target);
        if placement.name != self.server(target) {
            place.say(&format!(" (\"{}\" on the ring)", placement.name));
        }
        node.push(place);
        if let Some(when) = self.listener.router.when_down(placement.server) {
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

    /// What a plan does, in words.
    fn place(&self, plan: Target) -> Tree {
        Tree::new(match plan {
            Target::Answer(id) => {
                let pool = self.running.pools.get(usize::from(id.0));
                let name = pool.map_or("?", |pool| pool.name.as_str());
                format!("answer from the memory of pool {name}")
            }
            Target::Send(id) => match self.health.of(id) {
                Some(health) => format!("send to {}, {health}", self.server(plan)),
                None => format!("send to {}", self.server(plan)),
            },
        })
    }

    fn server(&self, plan: Target) -> &str {
        let Target::Send(id) = plan else { return "" };
        let server = self.running.servers.get(id.0 as usize);
        server.map_or("?", |server| server.name.as_str())
    }

    /// Everywhere that this listener's requests may go.
    fn everywhere(&self, why: &str) -> Tree {
        let places = server::places(self.running, self.listener);
        let mut node = Tree::new(format!("every server, {} in all: {why}", places.len()));
        for plan in places {
            node.push(self.place(plan));
        }
        node
    }

    /// A request that any server answers alike goes to the first.
    fn anywhere(&self, what: &str) -> Tree {
        let mut node = Tree::new(format!("{what}: the first place answers"));
        let first = self.listener.router.targets().first();
        node.extend(first.map(|plan| self.place(*plan)).into_iter().collect());
        node
    }

    /// What becomes of a request that may go nowhere unless there is no choice.
    fn if_sole(&self, what: &str) -> Tree {
        match self.listener.router.sole() {
            Some(plan) => {
                let mut node = Tree::new(format!("{what}: passes, as there is one place only"));
                node.push(self.place(plan));
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

/// The wall clock, in milliseconds since 1970: what a migration goes by.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A request that is explained.
struct Asked<'a> {
    key: &'a [u8],
    kind: Kind,
    /// It asks for the value as it is.
    whole: bool,
}

fn changed(change: &Change) -> String {
    let mut said = Vec::new();
    if let Some(key) = &change.key {
        said.push(format!("as key \"{}\"", key.escape_ascii()));
    }
    if let Some(ttl) = change.ttl {
        let word = |name: &str, time: Option<Duration>| time.map(|time| format!("{name} {time:?}"));
        let rules = [
            word("exactly", ttl.set),
            word("at least", ttl.floor),
            word("at most", ttl.cap),
        ];
        let rules: Vec<String> = rules.into_iter().flatten().collect();
        said.push(format!("to live {}", rules.join(", ")));
    }
    if change.delete {
        said.push("as a delete of the key".to_owned());
    }
    if change.withheld {
        said.push("not at all: as if nobody answered".to_owned());
    }
    if !change.tombstones.is_empty() {
        said.push("remembered, so that no copy brings it back".to_owned());
    }
    if change.absent.is_some() {
        said.push("remembering what is not there".to_owned());
    }
    said.extend(change.delay.map(|delay| format!("after {delay:?}")));
    said.extend(change.log.as_ref().map(|name| format!("logged by {name}")));
    said.join(", ")
}

fn tried(tries: &Try) -> String {
    let on: Vec<&str> = Outcome::ALL
        .iter()
        .filter(|outcome| tries.on.has(**outcome))
        .map(|outcome| outcome.name())
        .collect();
    let mut said = format!("one after the other, after {}", on.join(", "));
    if let Some(after) = tries.hedge_after {
        said.push_str(&format!("; the next as well after {after:?}"));
    }
    if tries.refill.is_some() {
        said.push_str("; who misses it gets a copy");
    }
    said
}

fn fanned(answer: Pick) -> String {
    let who = match answer {
        Pick::First => "the first one's reply counts",
        Pick::Fastest => "the first that has it, or has done it, answers",
        Pick::Majority => "what more than half say counts",
        Pick::Worst => "the worst reply counts",
        Pick::Every => "the worst failure counts, or else the best reply",
        Pick::FirstOfAll => "the first one's reply counts, when all have answered",
        Pick::Nobody => "nobody is waited for",
    };
    format!("all at once: {who}")
}
