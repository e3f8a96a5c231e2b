//! Routes: a request goes in, a plan comes out.
//!
//! A route never sends. It answers with a [`Plan`], which the proxy carries
//! out and which `explain` prints, so that what is explained is what happens.

use std::sync::Arc;

use emberline_protocol::Kind;

use crate::{Pool, PoolId, Prefix, ServerId};

/// A node of the route tree.
#[derive(Clone, Debug)]
pub enum Route {
    /// Hashes over the servers of a pool.
    Pool(Arc<Pool>),
    /// Answers from an embedded pool.
    Local(PoolId),
    /// Chooses a child by the longest key prefix.
    Prefix(Prefix),
}

/// What a route needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The whole key as the client sent it (base64 decoded).
    pub key: &'a [u8],
    /// What the request does to the key.
    pub kind: Kind,
}

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Plan {
    /// Answer it from this embedded pool.
    Answer(PoolId),
    /// Send it to this server.
    Send(ServerId),
}

/// The route tree of one listener.
#[derive(Debug)]
pub struct Router {
    root: Route,
    targets: Vec<Plan>,
    pools: Vec<PoolId>,
}

impl Router {
    /// A router whose every request enters at `root`.
    pub fn new(root: Route) -> Router {
        let leaves = leaves(&root);
        let mut targets = Vec::new();
        let mut pools = Vec::new();
        for leaf in leaves {
            match leaf {
                Leaf::Pool(pool) => {
                    targets.extend(pool.servers().map(Plan::Send));
                    pools.push(pool.id());
                }
                Leaf::Local(id) => {
                    targets.push(Plan::Answer(id));
                    pools.push(id);
                }
            }
        }
        Router {
            root,
            targets,
            pools,
        }
    }

    /// What to do with this request. Allocates nothing.
    #[inline]
    pub fn plan(&self, ask: &Ask<'_>) -> Plan {
        let mut route = &self.root;
        loop {
            match route {
                Route::Pool(pool) => return Plan::Send(pool.server(ask.key)),
                Route::Local(id) => return Plan::Answer(*id),
                Route::Prefix(prefix) => route = prefix.child(ask.key),
            }
        }
    }

    /// The pool whose key this is; cheaper than a plan, as nothing is hashed.
    #[inline]
    pub fn pool_of(&self, key: &[u8]) -> PoolId {
        let mut route = &self.root;
        loop {
            match route {
                Route::Pool(pool) => return pool.id(),
                Route::Local(id) => return *id,
                Route::Prefix(prefix) => route = prefix.child(key),
            }
        }
    }

    /// Every place that a request may go to, each once, in the order of the
    /// tree. Drained servers are not among them.
    pub fn targets(&self) -> &[Plan] {
        &self.targets
    }

    /// The one place where everything goes, when there is no choice. Unknown
    /// and keyless commands may be passed there.
    pub fn sole(&self) -> Option<Plan> {
        match self.targets[..] {
            [plan] => Some(plan),
            _ => None,
        }
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

    /// Why this request goes where [`plan`](Router::plan) sends it.
    pub fn explain(&self, ask: &Ask<'_>) -> Explanation {
        let mut path = Vec::new();
        let mut route = &self.root;
        loop {
            match route {
                Route::Prefix(prefix) => {
                    let (matched, child) = prefix.choose(ask.key);
                    path.push(Step {
                        route: prefix.name().to_owned(),
                        why: match matched {
                            Some(bytes) => format!("longest prefix \"{}\"", bytes.escape_ascii()),
                            None => "no listed prefix, so the default".to_owned(),
                        },
                    });
                    route = child;
                }
                Route::Local(id) => {
                    return Explanation {
                        path,
                        plan: Plan::Answer(*id),
                        pool: *id,
                        placement: None,
                    };
                }
                Route::Pool(pool) => {
                    let placement = pool.explain(ask.key);
                    return Explanation {
                        path,
                        plan: Plan::Send(placement.server),
                        pool: pool.id(),
                        placement: Some(placement),
                    };
                }
            }
        }
    }
}

/// Why a request goes where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The named routes from the root down, without the pool.
    pub path: Vec<Step>,
    /// What [`Router::plan`] says.
    pub plan: Plan,
    /// The pool that is reached.
    pub pool: PoolId,
    /// How that pool places the key; none for an embedded pool.
    pub placement: Option<Placement>,
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

/// Every pool of the tree, each once, in its order. A shared prefix table is
/// visited once, so that a tree of shared children costs its size and not
/// the number of its paths.
fn leaves(root: &Route) -> Vec<Leaf<'_>> {
    let mut found: Vec<Leaf<'_>> = Vec::new();
    let mut seen: Vec<&Prefix> = Vec::new();
    let mut left = vec![root];
    while let Some(route) = left.pop() {
        match route {
            Route::Prefix(prefix) => {
                if !seen.iter().any(|other| other.same(prefix)) {
                    seen.push(prefix);
                    left.extend(prefix.children().rev());
                }
            }
            Route::Pool(pool) => {
                let known = |leaf: &Leaf<'_>| matches!(leaf, Leaf::Pool(p) if p.id() == pool.id());
                if !found.iter().any(known) {
                    found.push(Leaf::Pool(pool));
                }
            }
            Route::Local(id) => {
                let known = |leaf: &Leaf<'_>| matches!(leaf, Leaf::Local(other) if other == id);
                if !found.iter().any(known) {
                    found.push(Leaf::Local(*id));
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

    #[test]
    fn one_server_is_the_sole_target() {
        let router = Router::new(pool(0, 5, &[0, 1]));
        assert_eq!(router.sole(), Some(Plan::Send(ServerId(6))));
        assert_eq!(router.plan(&ask("any")), Plan::Send(ServerId(6)));
        let local = Router::new(Route::Local(PoolId(3)));
        assert_eq!(local.sole(), Some(Plan::Answer(PoolId(3))));
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
                Plan::Send(a),
                Plan::Send(c),
                Plan::Answer(PoolId(3)),
                Plan::Send(main)
            ]
        );
        assert_eq!(router.pools(), [PoolId(1), PoolId(3), PoolId(2)]);
        assert_eq!(router.sole(), None);
        assert_eq!(router.plan(&ask("user:m")), Plan::Answer(PoolId(3)));
        assert_eq!(router.plan(&ask("w")), Plan::Send(main));
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
            assert_eq!(explanation.plan, router.plan(&ask(&key)));
            assert_eq!(explanation.pool, PoolId(1));
            let why: Vec<&str> = explanation.path.iter().map(|step| &*step.why).collect();
            let default = "no listed prefix, so the default";
            assert_eq!(why, ["longest prefix \"user:\"", default]);
            let placement = explanation.placement.unwrap();
            assert_eq!(explanation.plan, Plan::Send(placement.server));
            assert_eq!(placement.name, format!("pool1-{}", placement.index));
        }
        let explanation = router.explain(&ask("user:m1"));
        assert_eq!(explanation.plan, Plan::Answer(PoolId(3)));
        assert_eq!(explanation.placement, None);
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
