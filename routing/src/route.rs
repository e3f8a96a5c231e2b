//! The route tree: a request goes in, a plan comes out.
//!
//! A route never sends. It answers with a [`Plan`], which the proxy carries
//! out and which `explain` prints, so that what is explained is what happens.
//! The kinds of route are in `routes/`, a file each.

use std::collections::HashSet;
use std::sync::Arc;

use emberline_protocol::Kind;

use crate::conditions::{Calm, Conditions, States};
use crate::plan::{Canned, Plan, Target};
use crate::routes::{
    BigValue, ByClient, ByHost, Error, Failover, Fault, Guarded, Gutter, HashKey, Key, L1L2,
    Latest, LimitInflight, LoadBalance, Log, Migrate, MissFailover, Operation, PoolFailover,
    Prefix, Random, RateLimit, Replicas, Shadow, SizeSplit, SlowWarmUp, SplitHot, Staging, Ttl,
    WarmUp,
};
use crate::{Pool, PoolId, ServerId};

/// A node of the route tree. Cheap to clone: what stands in several places is
/// one table.
#[derive(Clone, Debug)]
pub enum Route {
    /// Hashes over the servers of a pool.
    Pool(Arc<Pool>),
    /// Answers from an embedded pool.
    Local(PoolId),
    /// Answers that there is nothing.
    Null,
    /// Answers with an error.
    Error(Arc<Error>),
    /// A pool, and what becomes of keys whose server is down.
    Guarded(Arc<Guarded>),
    /// Other servers of the pool when one fails.
    PoolFailover(Arc<PoolFailover>),
    /// Chooses a child by the longest key prefix.
    Prefix(Prefix),
    /// Chooses a child by what the request does.
    Operation(Arc<Operation>),
    /// Chooses a child by the machine.
    ByHost(Arc<ByHost>),
    /// Chooses a child by the client.
    ByClient(Arc<ByClient>),
    /// Any child.
    Random(Arc<Random>),
    /// The less busy of two children.
    LoadBalance(Arc<LoadBalance>),
    /// A few children of many.
    Latest(Arc<Latest>),
    /// The next child when one fails.
    Failover(Arc<Failover>),
    /// A spare child for a short time.
    Gutter(Arc<Gutter>),
    /// The next child until one has it.
    MissFailover(Arc<MissFailover>),
    /// Reads one of several copies, writes all.
    Replicas(Arc<Replicas>),
    /// Fills a cold child from a warm one.
    WarmUp(Arc<WarmUp>),
    /// Spares a cold child.
    SlowWarmUp(Arc<SlowWarmUp>),
    /// From one child to another over time.
    Migrate(Arc<Migrate>),
    /// Tries a child with all requests.
    Staging(Arc<Staging>),
    /// Copies a share elsewhere.
    Shadow(Arc<Shadow>),
    /// Copies of hot keys on several servers.
    SplitHot(Arc<SplitHot>),
    /// A near tier and a far one.
    L1L2(Arc<L1L2>),
    /// Large values elsewhere.
    SizeSplit(Arc<SizeSplit>),
    /// Large values in pieces.
    BigValue(Arc<BigValue>),
    /// Other times to live.
    Ttl(Arc<Ttl>),
    /// Other keys.
    Key(Arc<Key>),
    /// Hashes a part of the key.
    HashKey(Arc<HashKey>),
    /// So many requests a second.
    RateLimit(Arc<RateLimit>),
    /// So many requests at once.
    LimitInflight(Arc<LimitInflight>),
    /// Fails on purpose.
    Fault(Arc<Fault>),
    /// Logs what passes.
    Log(Arc<Log>),
}

/// Does the same with every kind of route that has a file of its own.
macro_rules! each_kind {
    ($route:expr, $rule:ident => $what:expr, leaf => $leaf:expr) => {
        match $route {
            Route::Pool(_) | Route::Local(_) | Route::Null => $leaf,
            Route::Error($rule) => $what,
            Route::Guarded($rule) => $what,
            Route::PoolFailover($rule) => $what,
            Route::Prefix($rule) => $what,
            Route::Operation($rule) => $what,
            Route::ByHost($rule) => $what,
            Route::ByClient($rule) => $what,
            Route::Random($rule) => $what,
            Route::LoadBalance($rule) => $what,
            Route::Latest($rule) => $what,
            Route::Failover($rule) => $what,
            Route::Gutter($rule) => $what,
            Route::MissFailover($rule) => $what,
            Route::Replicas($rule) => $what,
            Route::WarmUp($rule) => $what,
            Route::SlowWarmUp($rule) => $what,
            Route::Migrate($rule) => $what,
            Route::Staging($rule) => $what,
            Route::Shadow($rule) => $what,
            Route::SplitHot($rule) => $what,
            Route::L1L2($rule) => $what,
            Route::SizeSplit($rule) => $what,
            Route::BigValue($rule) => $what,
            Route::Ttl($rule) => $what,
            Route::Key($rule) => $what,
            Route::HashKey($rule) => $what,
            Route::RateLimit($rule) => $what,
            Route::LimitInflight($rule) => $what,
            Route::Fault($rule) => $what,
            Route::Log($rule) => $what,
        }
    };
}

/// What a route needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The whole key as the client sent it (base64 decoded).
    pub key: &'a [u8],
    /// What the request does to the key.
    pub kind: Kind,
    /// The bytes that pools place the key by, instead of the key.
    pub hashed: Option<&'a [u8]>,
    /// The bytes of a value that takes the place of whatever the key has (SET,
    /// `set`, `add`, `cas`), if that is what the request does and it is known.
    pub size: Option<usize>,
    /// The request has other keys beside this one.
    pub several: bool,
    /// Who finds nothing by this read finds no key; others may find no field,
    /// no member, no bit in a key that is there.
    pub whole: bool,
    /// It is no delete, and may leave less than there was, or nothing: HDEL,
    /// LPOP, a script.
    pub removes: bool,
    /// What it does, or says, depends on what the key has: SET NX, GETSET,
    /// `add`, `cas`.
    pub conditional: bool,
    /// It asks for the number that a server has given to the value, or is done
    /// only if the value still has it: `gets`, `cas`. Every server counts for
    /// itself.
    pub numbered: bool,
    /// It is no write, and says a time to live all the same: `ma` with `N`.
    pub lives: bool,
    /// It is only asked where the request would go: nothing that limits
    /// requests is used up.
    pub trial: bool,
}

impl<'a> Ask<'a> {
    /// A request of this kind, of which no more is known.
    pub fn new(key: &'a [u8], kind: Kind) -> Ask<'a> {
        Ask {
            key,
            kind,
            hashed: None,
            size: None,
            several: false,
            whole: true,
            removes: false,
            conditional: false,
            numbered: false,
            lives: false,
            trial: false,
        }
    }

    /// What pools place it by.
    #[inline]
    pub fn placed_by(&self) -> &'a [u8] {
        self.hashed.unwrap_or(self.key)
    }
}

/// The most places that one request may go to, or that are looked at before
/// it is known where it goes. Each costs time and memory, and a tree that doubles at every step would have more than there is.
pub const BREADTH_MAX: usize = 256;

/// A route tree whose plans would be too big.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "one request could go to {places} places, expected at most {BREADTH_MAX}; \
     children that stand in several places, or are asked about beforehand, count each time"
)]
pub struct TooBroad {
    /// The places of its broadest plan.
    pub places: usize,
}

impl Route {
    /// What to do with this request. Recurses as deep as routes nest.
    #[inline(never)]
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let mut route = self;
        // Whatever only chooses a child is a turn of this loop.
        loop {
            route = match route {
                Route::Pool(pool) => return Plan::Send(pool.server(ask.placed_by())),
                Route::Local(id) => return Plan::Answer(*id),
                Route::Prefix(prefix) => match prefix.child_or_plan(ask, conditions) {
                    Ok(child) => child,
                    Err(plan) => return plan,
                },
                Route::Operation(operation) => operation.child(ask.kind),
                Route::ByHost(by_host) => by_host.child(),
                Route::HashKey(hash_key) => {
                    // The others go on with the same question: a copy costs 5 ns.
                    let hashed = hash_key.part(ask.key).or(ask.hashed);
                    let ask = Ask { hashed, ..*ask };
                    return hash_key.child().plan(&ask, conditions);
                }
                Route::Guarded(guarded) => return guarded.plan(ask, conditions),
                _ => return route.plan_rule(ask, conditions),
            }
        }
    }

    /// The plan of a route that does more than to choose a child.
    fn plan_rule(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        match self {
            Route::Null => Plan::Reply(Canned::Null),
            Route::Error(error) => error.plan(),
            Route::PoolFailover(rule) => rule.plan(ask, conditions),
            Route::ByClient(rule) => rule.plan(ask, conditions),
            Route::Random(rule) => rule.plan(ask, conditions),
            Route::LoadBalance(rule) => rule.plan(ask, conditions),
            Route::Latest(rule) => rule.plan(ask, conditions),
            Route::Failover(rule) => rule.plan(ask, conditions),
            Route::Gutter(rule) => rule.plan(ask, conditions),
            Route::MissFailover(rule) => rule.plan(ask, conditions),
            Route::Replicas(rule) => rule.plan(ask, conditions),
            Route::WarmUp(rule) => rule.plan(ask, conditions),
            Route::SlowWarmUp(rule) => rule.plan(ask, conditions),
            Route::Migrate(rule) => rule.plan(ask, conditions),
            Route::Staging(rule) => rule.plan(ask, conditions),
            Route::Shadow(rule) => rule.plan(ask, conditions),
            Route::SplitHot(rule) => rule.plan(ask, conditions),
            Route::L1L2(rule) => rule.plan(ask, conditions),
            Route::SizeSplit(rule) => rule.plan(ask, conditions),
            Route::BigValue(rule) => rule.plan(ask, conditions),
            Route::Ttl(rule) => rule.plan(ask, conditions),
            Route::Key(rule) => rule.plan(ask, conditions),
            Route::RateLimit(rule) => rule.plan(ask, conditions),
            Route::LimitInflight(rule) => rule.plan(ask, conditions),
            Route::Fault(rule) => rule.plan(ask, conditions),
            Route::Log(rule) => rule.plan(ask, conditions),
            Route::Pool(_)
            | Route::Local(_)
            | Route::Prefix(_)
            | Route::Operation(_)
            | Route::ByHost(_)
            | Route::HashKey(_)
            | Route::Guarded(_) => self.plan(ask, conditions),
        }
    }

    /// Its children, whatever they are to it.
    pub fn children(&self) -> Vec<&Route> {
        each_kind!(self, rule => rule.children(), leaf => Vec::new())
    }

    /// Its name in the configuration; none for what has none.
    pub fn name(&self) -> Option<&str> {
        match self {
            Route::Pool(pool) => Some(pool.name()),
            route => each_kind!(route, rule => Some(rule.name()), leaf => None),
        }
    }

    /// Places that one request may go to, at the most. Children that stand in
    /// several places count each time: a plan has them all.
    pub fn breadth(&self) -> usize {
        each_kind!(self, rule => rule.breadth(), leaf => 1)
    }

    /// Refuses a tree whose plans would be too big. To be asked before the
    /// first plan is made.
    pub fn check(&self) -> Result<(), TooBroad> {
        match self.breadth() {
            places if places > BREADTH_MAX => Err(TooBroad { places }),
            _ => Ok(()),
        }
    }

    /// Why it chooses which child, if it always chooses one; `None` for leaves
    /// and for routes that ask several, or do not always choose alike.
    fn choice(&self, ask: &Ask<'_>) -> Option<Choice<'_>> {
        let (route, why, child) = match self {
            Route::Prefix(prefix) => {
                let (matched, child) = prefix.choose(ask.key);
                let why = match matched {
                    Some(bytes) => format!("longest prefix \"{}\"", bytes.escape_ascii()),
                    None => "no listed prefix, so the default".to_owned(),
                };
                (prefix.name(), why, child)
            }
            Route::Operation(operation) => {
                let (why, child) = operation.choose(ask.kind);
                (operation.name(), why.to_string(), child)
            }
            Route::ByHost(by_host) => (by_host.name(), by_host.why(), by_host.child()),
            Route::HashKey(hash_key) => {
                let why = match hash_key.part(ask.key) {
                    Some(part) => format!("placed by \"{}\"", part.escape_ascii()),
                    None => "placed by the whole key".to_owned(),
                };
                (hash_key.name(), why, hash_key.child())
            }
            Route::Key(key) => {
                let why = match key.changed(ask.key) {
                    Some(key) => format!("the key becomes \"{}\"", key.escape_ascii()),
                    None => "the key stays".to_owned(),
                };
                (key.name(), why, key.child())
            }
            _ => return None,
        };
        let step = Step {
            route: route.to_owned(),
            why,
        };
        let key = match self {
            Route::Prefix(prefix) => prefix.changed(ask.key),
            Route::Key(key) => key.changed(ask.key),
            _ => None,
        };
        let hashed = match self {
            Route::HashKey(hash_key) => hash_key.part(ask.key).map(<[u8]>::to_vec),
            _ => None,
        };
        Some(Choice {
            step,
            child,
            key,
            hashed,
        })
    }

    /// What is the same in two places of the tree.
    fn identity(&self) -> Option<*const ()> {
        each_kind!(self, rule => Some(rule.identity()), leaf => None)
    }
}

/// Where a route leads that always chooses one child.
struct Choice<'r> {
    step: Step,
    child: &'r Route,
    /// The key from there on, if it is another.
    key: Option<Vec<u8>>,
    /// What it is placed by from there on, if it is something else.
    hashed: Option<Vec<u8>>,
}

/// Clones of one route have one address.
trait Identity {
    fn identity(&self) -> *const ();
}

impl<T> Identity for Arc<T> {
    fn identity(&self) -> *const () {
        Arc::as_ptr(self).cast()
    }
}

/// The route tree of one listener.
#[derive(Debug)]
pub struct Router {
    root: Route,
    targets: Vec<Target>,
    pools: Vec<PoolId>,
    sole: Option<Target>,
}

impl Router {
    /// A router whose every request enters at `root`.
    pub fn new(root: Route) -> Router {
        let targets = targets_of(&root);
        let pools = leaves(&root).iter().map(Leaf::id).collect();
        let sole = match targets[..] {
            [target] if chooses_only(&root) => Some(target),
            _ => None,
        };
        Router {
            root,
            targets,
            pools,
            sole,
        }
    }

    /// What to do with this request. Allocates nothing unless the request
    /// concerns several places, or is changed.
    #[inline]
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        match &self.root {
            // The plainest of all is decided on the spot.
            Route::Pool(pool) => Plan::Send(pool.server(ask.placed_by())),
            root => root.plan(ask, conditions),
        }
    }

    /// The pool whose key a read of this key is; cheaper than a plan, as
    /// nothing is hashed. `None` where more than one pool may answer.
    #[inline]
    pub fn pool_of(&self, key: &[u8]) -> Option<PoolId> {
        let mut route = &self.root;
        loop {
            match route {
                Route::Pool(pool) => return Some(pool.id()),
                Route::Local(id) => return Some(*id),
                Route::Prefix(prefix) if prefix.changed(key).is_none() => {
                    route = prefix.child(key);
                }
                Route::Operation(operation) => route = operation.child(Kind::Read),
                Route::ByHost(by_host) => route = by_host.child(),
                Route::HashKey(hash_key) => route = hash_key.child(),
                // Reads pass it as they are.
                Route::Ttl(ttl) => route = ttl.child(),
                Route::Guarded(guarded) if guarded.is_alone() => return Some(guarded.pool().id()),
                _ => return None,
            }
        }
    }

    /// Every place that a request may go to, each once, in the order of the
    /// tree. Drained servers are not among them.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The one place where everything goes, when there is no choice and
    /// nothing is changed on the way. Unknown and keyless commands may be
    /// passed there.
    pub fn sole(&self) -> Option<Target> {
        self.sole
    }

    /// Every pool of the tree, each once, in its order.
    pub fn pools(&self) -> &[PoolId] {
        &self.pools
    }

    /// The pool with this id, if the tree has it and it has servers.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        leaves(&self.root).into_iter().find_map(|leaf| match leaf {
            Leaf::Pool(pool) if pool.id() == id => Some(pool),
            Leaf::Pool(_) | Leaf::Local(_) => None,
        })
    }

    /// What becomes of requests for this server while it is down, for a reader,
    /// if its pool has anything to say of that.
    pub fn when_down(&self, server: ServerId) -> Option<String> {
        let mut left = vec![&self.root];
        let mut seen = HashSet::new();
        while let Some(route) = left.pop() {
            if let Route::Guarded(guarded) = route
                && guarded.pool().all_servers().any(|own| own == server)
            {
                return Some(guarded.when_down());
            }
            if route
                .identity()
                .is_none_or(|identity| seen.insert(identity))
            {
                left.extend(route.children());
            }
        }
        None
    }

    /// Why this request goes where [`plan`](Router::plan) sends it, while all
    /// servers are up.
    pub fn explain(&self, ask: &Ask<'_>) -> Explanation {
        let states = States::new(0, 0);
        let conditions = Conditions {
            upstream: &Calm,
            states: &states,
            now_ms: 0,
            unix_ms: 0,
            client: 0,
        };
        self.explain_under(ask, &conditions)
    }

    /// The same under these conditions.
    pub fn explain_under(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Explanation {
        let mut path = Vec::new();
        let mut route = &self.root;
        let mut key = ask.key.to_vec();
        let mut hashed = ask.hashed.map(<[u8]>::to_vec);
        while let Some(choice) = route.choice(&Ask { key: &key, ..*ask }) {
            path.push(choice.step);
            key = choice.key.unwrap_or(key);
            hashed = choice.hashed.or(hashed);
            route = choice.child;
        }
        let plan = self.plan(ask, conditions);
        let places = plan.places().into_iter();
        let placements = places.map(|(target, change)| match target {
            Target::Answer(id) => (id, None),
            Target::Send(server) => {
                let key = change.key.as_deref().unwrap_or(ask.key);
                self.placement(server, hashed.as_deref().unwrap_or(key))
            }
        });
        let placements = placements.collect();
        Explanation {
            path,
            placements,
            plan,
        }
    }

    fn placement(&self, server: ServerId, key: &[u8]) -> (PoolId, Option<Placement>) {
        let of = leaves(&self.root).into_iter().find_map(|leaf| match leaf {
            Leaf::Pool(pool) if pool.all_servers().any(|id| id == server) => Some(pool),
            _ => None,
        });
        match of {
            Some(pool) => {
                let placement = pool.explain(key);
                // A request that is sent elsewhere than its key belongs.
                let placement = (placement.server == server).then_some(placement);
                (pool.id(), placement)
            }
            None => (PoolId(0), None),
        }
    }
}

/// Whether every request goes to one child alone, unchanged.
fn chooses_only(route: &Route) -> bool {
    let mut left = vec![route];
    let mut seen = Vec::new();
    while let Some(route) = left.pop() {
        match route {
            Route::Pool(_) | Route::Local(_) => {}
            Route::Prefix(prefix) if prefix.rewrites() => return false,
            Route::Prefix(_) | Route::Operation(_) | Route::ByHost(_) | Route::HashKey(_) => {
                let identity = route.identity();
                if !seen.contains(&identity) {
                    seen.push(identity);
                    left.extend(route.children());
                }
            }
            _ => return false,
        }
    }
    true
}

/// Why a request goes where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The named routes from the root down that choose one child.
    pub path: Vec<Step>,
    /// What [`Router::plan`] says.
    pub plan: Plan,
    /// For every place in the plan, in its order, the pool, and how it places
    /// the key; none for an embedded pool, and for a server that the key does
    /// not belong to.
    pub placements: Vec<(PoolId, Option<Placement>)>,
}

/// One named route on the way, and why it chose the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The route's name in the configuration.
    pub route: String,
    /// The reason, for a reader: `longest prefix "user:"`.
    pub why: String,
}

/// How a pool places one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pool's name.
    pub pool: String,
    /// The name of its distribution.
    pub distribution: &'static str,
    /// The bytes that are hashed: the hash tag's content, or the key.
    pub hashed_part: Vec<u8>,
    /// They are the hash tag's content.
    pub in_tag: bool,
    /// What is put behind them before; empty without a salt.
    pub salt: Vec<u8>,
    /// The hash's name and its value; none where nothing is hashed (one
    /// live server, or a random choice).
    pub hash: Option<(&'static str, u64)>,
    /// The server's place in the pool's list, from 0.
    pub index: usize,
    /// The server's name on the ring.
    pub name: String,
    /// The server's id in the running configuration.
    pub server: ServerId,
}

enum Leaf<'a> {
    Pool(&'a Pool),
    Local(PoolId),
}

impl Leaf<'_> {
    fn id(&self) -> PoolId {
        match self {
            Leaf::Pool(pool) => pool.id(),
            Leaf::Local(id) => *id,
        }
    }
}

/// Every place that a request may go to below this route, each once, in the
/// order of the tree. Drained servers are not among them.
pub(crate) fn targets_of(root: &Route) -> Vec<Target> {
    let leaves = leaves(root).into_iter();
    let targets = leaves.flat_map(|leaf| match leaf {
        Leaf::Pool(pool) => pool.servers().map(Target::Send).collect(),
        Leaf::Local(id) => vec![Target::Answer(id)],
    });
    targets.collect()
}

/// Every pool of the tree, each once, in its order. A shared table is visited
/// once, so that a tree of shared children costs its size and not the number
/// of its paths.
fn leaves(root: &Route) -> Vec<Leaf<'_>> {
    let mut found: Vec<Leaf<'_>> = Vec::new();
    let mut seen: HashSet<*const ()> = HashSet::new();
    let mut pools: HashSet<PoolId> = HashSet::new();
    let mut left = vec![root];
    while let Some(route) = left.pop() {
        let pool = match route {
            Route::Pool(pool) => Some(pool),
            Route::Guarded(guarded) => Some(guarded.pool()),
            Route::PoolFailover(failover) => Some(failover.pool()),
            _ => None,
        };
        if let Some(pool) = pool.filter(|pool| pools.insert(pool.id())) {
            found.push(Leaf::Pool(pool));
        }
        match route {
            Route::Local(id) if pools.insert(*id) => found.push(Leaf::Local(*id)),
            route => {
                let identity = route.identity();
                if identity.is_some_and(|identity| seen.insert(identity)) {
                    left.extend(route.children().into_iter().rev());
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByteSign, Distribution, Hash, Member, PoolSpec};

    fn pool(id: u16, first: u32, weights: &[u32]) -> Route {
        let member = |(i, &weight): (usize, &u32)| Member {
            name: format!("pool{id}-{i}"),
            weight,
        };
        let spec = PoolSpec {
            name: format!("pool{id}"),
            id: PoolId(id),
            members: weights.iter().enumerate().map(member).collect(),
            ids: (first..).map(ServerId).take(weights.len()).collect(),
            distribution: Distribution::Ketama,
            hash: Hash::Fnv1a_64,
            byte_sign: ByteSign::Signed,
            hash_tag: None,
            salt: Box::default(),
        };
        Route::Pool(Arc::new(Pool::new(spec).unwrap()))
    }

    fn prefix(name: &str, children: &[(&str, &Route)], default: &Route) -> Route {
        let children = children
            .iter()
            .map(|&(prefix, route)| (prefix.as_bytes().to_vec(), route.clone()));
        Route::Prefix(Prefix::new(name, children, default.clone()).unwrap())
    }

    fn ask(key: &str) -> Ask<'_> {
        Ask::new(key.as_bytes(), Kind::Read)
    }

    fn plan(router: &Router, key: &str) -> Plan {
        router.explain(&ask(key)).plan
    }

    #[test]
    fn one_server_is_the_sole_target() {
        let router = Router::new(pool(0, 5, &[0, 1]));
        assert_eq!(router.sole(), Some(Target::Send(ServerId(6))));
        assert_eq!(plan(&router, "any"), Plan::Send(ServerId(6)));
        let local = Router::new(Route::Local(PoolId(3)));
        assert_eq!(local.sole(), Some(Target::Answer(PoolId(3))));
    }

    #[test]
    fn targets_are_every_place_once() {
        let users = pool(1, 0, &[1, 0, 1]);
        let main = pool(2, 3, &[1]);
        let memory = Route::Local(PoolId(3));
        let inner = prefix("inner", &[("user:a", &users), ("user:m", &memory)], &main);
        let router = Router::new(prefix("outer", &[("u", &inner), ("v", &users)], &inner));
        let (a, c, main) = (ServerId(0), ServerId(2), ServerId(3));
        assert_eq!(
            router.targets(),
            [
                Target::Send(a),
                Target::Send(c),
                Target::Answer(PoolId(3)),
                Target::Send(main)
            ]
        );
        assert_eq!(router.pools(), [PoolId(1), PoolId(3), PoolId(2)]);
        assert_eq!(router.sole(), None);
        assert_eq!(plan(&router, "user:m"), Plan::Answer(PoolId(3)));
        assert_eq!(plan(&router, "w"), Plan::Send(main));
    }

    #[test]
    fn the_explanation_agrees_with_the_plan() {
        let users = pool(1, 0, &[1, 1, 1]);
        let memory = Route::Local(PoolId(3));
        let inner = prefix("by_user", &[("user:m", &memory)], &users);
        let router = Router::new(prefix("by_kind", &[("user:", &inner)], &memory));
        for i in 0..100 {
            let key = format!("user:{i}");
            let explanation = router.explain(&ask(&key));
            assert_eq!(explanation.plan, plan(&router, &key));
            let why: Vec<&str> = explanation.path.iter().map(|step| &*step.why).collect();
            let default = "no listed prefix, so the default";
            assert_eq!(why, ["longest prefix \"user:\"", default]);
            let [(pool, Some(placement))] = &explanation.placements[..] else {
                panic!("{explanation:?}");
            };
            assert_eq!(*pool, PoolId(1));
            assert_eq!(explanation.plan, Plan::Send(placement.server));
            assert_eq!(placement.name, format!("pool1-{}", placement.index));
        }
        let explanation = router.explain(&ask("user:m1"));
        assert_eq!(explanation.plan, Plan::Answer(PoolId(3)));
        assert_eq!(explanation.placements, [(PoolId(3), None)]);
    }

    /// Forty tables that each hold the next twice have 2^40 paths.
    #[test]
    fn shared_tables_are_walked_once() {
        let mut route = pool(1, 0, &[1, 1]);
        for i in 0..40 {
            route = prefix(&i.to_string(), &[("a", &route)], &route);
        }
        assert_eq!(Router::new(route).targets().len(), 2);
    }
}
