//! The route tree: a request goes in, a plan comes out.
//!
//! A route never sends. It answers with a [`Plan`], which the proxy carries
//! out and which `explain` prints, so that what is explained is what happens.
//! The kinds of route are in `routes/`, a file each.

use std::collections::HashSet;
use std::sync::Arc;

use emberline_protocol::Kind;

use crate::conditions::{Calm, Conditions, States};
use crate::plan::{Plan, Target};
use crate::routes::{Failover, Operation, Prefix, Replicas};
use crate::{Pool, PoolId, ServerId};

/// A node of the route tree. Cheap to clone: what stands in several places is
/// one table.
#[derive(Clone, Debug)]
pub enum Route {
    /// Hashes over the servers of a pool.
    Pool(Arc<Pool>),
    /// Answers from an embedded pool.
    Local(PoolId),
    /// Chooses a child by the longest key prefix.
    Prefix(Prefix),
    /// Chooses a child by what the request does.
    Operation(Arc<Operation>),
    /// The next child when one fails.
    Failover(Arc<Failover>),
    /// Reads one of several copies, writes all.
    Replicas(Arc<Replicas>),
}

/// What a route needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The whole key as the client sent it (base64 decoded).
    pub key: &'a [u8],
    /// What the request does to the key.
    pub kind: Kind,
}

impl Route {
    /// What to do with this request. Recurses as deep as routes nest.
    #[inline]
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let mut route = self;
        loop {
            match route {
                Route::Pool(pool) => return Plan::Send(pool.server(ask.key)),
                Route::Local(id) => return Plan::Answer(*id),
                Route::Prefix(prefix) => route = prefix.child(ask.key),
                Route::Operation(operation) => route = operation.child(ask.kind),
                Route::Failover(failover) => return failover.plan(ask, conditions),
                Route::Replicas(replicas) => return replicas.plan(ask, conditions),
            }
        }
    }

    /// Its children, whatever they are to it.
    pub fn children(&self) -> Vec<&Route> {
        match self {
            Route::Pool(_) | Route::Local(_) => Vec::new(),
            Route::Prefix(prefix) => prefix.children().collect(),
            Route::Operation(operation) => operation.children(),
            Route::Failover(failover) => failover.children(),
            Route::Replicas(replicas) => replicas.children(),
        }
    }

    /// Places that one request may go to, at the most. Children that stand in
    /// several places count each time: a plan has them all.
    pub fn breadth(&self) -> usize {
        match self {
            Route::Pool(_) | Route::Local(_) => 1,
            Route::Prefix(prefix) => prefix.breadth(),
            Route::Operation(operation) => operation.breadth(),
            Route::Failover(failover) => failover.breadth(),
            Route::Replicas(replicas) => replicas.breadth(),
        }
    }

    /// Why it chooses which child, if it always chooses one; `None` for leaves
    /// and for routes that ask several.
    fn choice(&self, ask: &Ask<'_>) -> Option<(Step, &Route)> {
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
                (operation.name(), why, child)
            }
            _ => return None,
        };
        let step = Step {
            route: route.to_owned(),
            why,
        };
        Some((step, child))
    }

    /// What is the same in two places of the tree.
    fn identity(&self) -> Option<*const ()> {
        match self {
            Route::Pool(_) | Route::Local(_) => None,
            Route::Prefix(prefix) => Some(prefix.identity()),
            Route::Operation(one) => Some(Arc::as_ptr(one).cast()),
            Route::Failover(one) => Some(Arc::as_ptr(one).cast()),
            Route::Replicas(one) => Some(Arc::as_ptr(one).cast()),
        }
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
        let leaves = leaves(&root);
        let mut targets = Vec::new();
        let mut pools = Vec::new();
        for leaf in &leaves {
            match leaf {
                Leaf::Pool(pool) => {
                    targets.extend(pool.servers().map(Target::Send));
                    pools.push(pool.id());
                }
                Leaf::Local(id) => {
                    targets.push(Target::Answer(*id));
                    pools.push(*id);
                }
            }
        }
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
        self.root.plan(ask, conditions)
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
                Route::Prefix(prefix) => route = prefix.child(key),
                Route::Operation(operation) => route = operation.child(Kind::Read),
                Route::Failover(_) | Route::Replicas(_) => return None,
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
        while let Some((step, child)) = route.choice(ask) {
            path.push(step);
            route = child;
        }
        let plan = route.plan(ask, conditions);
        let places = plan.places().into_iter();
        let placements = places.map(|(target, change)| match target {
            Target::Answer(id) => (id, None),
            Target::Send(server) => {
                self.placement(server, change.key.as_deref().unwrap_or(ask.key))
            }
        });
        Explanation {
            path,
            placements: placements.collect(),
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
            Route::Prefix(_) | Route::Operation(_) => {
                let identity = route.identity();
                if !seen.contains(&identity) {
                    seen.push(identity);
                    left.extend(route.children());
                }
            }
            Route::Failover(_) | Route::Replicas(_) => return false,
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

/// Every pool of the tree, each once, in its order. A shared table is visited
/// once, so that a tree of shared children costs its size and not the number
/// of its paths.
fn leaves(root: &Route) -> Vec<Leaf<'_>> {
    let mut found: Vec<Leaf<'_>> = Vec::new();
    let mut seen: HashSet<*const ()> = HashSet::new();
    let mut pools: HashSet<PoolId> = HashSet::new();
    let mut left = vec![root];
    while let Some(route) = left.pop() {
        match route {
            Route::Pool(pool) if pools.insert(pool.id()) => found.push(Leaf::Pool(pool)),
            Route::Local(id) if pools.insert(*id) => found.push(Leaf::Local(*id)),
            Route::Pool(_) | Route::Local(_) => {}
            route => {
                if route
                    .identity()
                    .is_some_and(|identity| seen.insert(identity))
                {
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
            first: ServerId(first),
            members: weights.iter().enumerate().map(member).collect(),
            distribution: Distribution::Ketama,
            hash: Hash::Fnv1a_64,
            byte_sign: ByteSign::Signed,
            hash_tag: None,
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
        Ask {
            key: key.as_bytes(),
            kind: Kind::Read,
        }
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
