//! What the tests of routes share: pools with short names, conditions that a
//! test writes down, and requests as a line of text.
//!
//! Pools `a`, `b`, `c`, `g` have one server each, `a0` to `g0`; pool `m` has
//! four, `m0` to `m3`.

#![allow(dead_code, missing_docs)]

pub mod catalogue;

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;
use emberline_routing::explain::Names;
use emberline_routing::{
    Ask, ByteSign, Conditions, Distribution, Hash, HashTag, Mark, Member, Plan, Pool, PoolId,
    PoolSpec, Route, ServerId, StateId, States, Upstream,
};

const POOLS: [(&str, u32); 5] = [("a", 1), ("b", 1), ("c", 1), ("g", 1), ("m", 4)];

pub fn pool_of(name: &str) -> Arc<Pool> {
    let id = POOLS.iter().position(|(n, _)| *n == name).unwrap();
    let member = |i| Member {
        name: format!("{name}{i}"),
        weight: 1,
    };
    let spec = PoolSpec {
        name: name.to_owned(),
        id: PoolId(id as u16),
        ids: (id as u32 * 10..)
            .map(ServerId)
            .take(POOLS[id].1 as usize)
            .collect(),
        members: (0..POOLS[id].1).map(member).collect(),
        distribution: Distribution::Ketama,
        hash: Hash::Fnv1a_64,
        byte_sign: ByteSign::Signed,
        salt: Box::default(),
        hash_tag: Some(HashTag::BRACES),
    };
    Arc::new(Pool::new(spec).unwrap())
}

pub fn pool(name: &str) -> Route {
    Route::Pool(pool_of(name))
}

pub fn pools(names: &[&str]) -> Vec<Route> {
    names.iter().map(|name| pool(name)).collect()
}

pub fn server_name(server: ServerId) -> String {
    format!("{}{}", POOLS[server.0 as usize / 10].0, server.0 % 10)
}

pub fn server(name: &str) -> ServerId {
    let all = (0..POOLS.len() as u32 * 10).map(ServerId);
    let mut found = all.filter(|server| server_name(*server) == name);
    found.next().unwrap()
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn mark(state: u16, life: u64) -> Option<Mark> {
    Some(Mark {
        state: StateId(state),
        life: secs(life),
    })
}

/// Servers that are down, and requests in flight.
#[derive(Default)]
pub struct Script {
    pub down: Vec<ServerId>,
    pub inflight: Vec<(ServerId, u32)>,
}

impl Upstream for Script {
    fn is_ejected(&self, server: ServerId) -> bool {
        self.down.contains(&server)
    }

    fn inflight(&self, server: ServerId) -> u32 {
        let mut loads = self.inflight.iter();
        let found = loads.find(|(one, _)| *one == server);
        found.map_or(0, |(_, load)| *load)
    }
}

/// As `/explain` says it where servers are down, and as `explain` where none is.
impl Names for Script {
    fn server(&self, server: ServerId) -> String {
        let down = if self.is_ejected(server) {
            ", down"
        } else {
            ""
        };
        format!("{}{down}", server_name(server))
    }

    fn pool(&self, pool: PoolId) -> String {
        format!("l{}", pool.0)
    }

    fn live(&self) -> Option<&dyn Upstream> {
        (!self.down.is_empty()).then_some(self)
    }
}

/// A request and the conditions under which it comes, from a line such as
/// `SET user:1 size=9 down=a0,b0 load=a0:7 now=1500 client=3 seed=2`.
pub struct Request {
    pub key: String,
    pub kind: Kind,
    pub size: Option<usize>,
    pub verb: String,
    pub script: Script,
    pub now_ms: u64,
    pub client: u64,
    pub seed: u64,
}

impl Request {
    pub fn new(line: &str) -> Request {
        let mut words = line.split(' ');
        let verb = words.next().unwrap();
        let kind = match verb {
            "GET" | "HGET" => Kind::Read,
            "SET" | "HDEL" | "ADD" => Kind::Write,
            "DEL" => Kind::Delete,
            "INCR" | "MA" => Kind::Counter,
            "TOUCH" => Kind::Touch,
            other => panic!("unknown verb {other}"),
        };
        let mut request = Request {
            key: words.next().unwrap().to_owned(),
            kind,
            verb: verb.to_owned(),
            size: None,
            script: Script::default(),
            now_ms: 0,
            client: 0,
            seed: 1,
        };
        for word in words {
            let (name, value) = word.split_once('=').unwrap();
            match name {
                "size" => request.size = Some(value.parse().unwrap()),
                "down" => request.script.down = value.split(',').map(server).collect(),
                "load" => {
                    let loads = value.split(',').map(|one| one.split_once(':').unwrap());
                    let loads = loads.map(|(name, load)| (server(name), load.parse().unwrap()));
                    request.script.inflight = loads.collect();
                }
                "now" => request.now_ms = value.parse().unwrap(),
                "client" => request.client = value.parse().unwrap(),
                "seed" => request.seed = value.parse().unwrap(),
                other => panic!("unknown word {other}"),
            }
        }
        request
    }

    pub fn ask(&self) -> Ask<'_> {
        Ask {
            size: self.size,
            whole: self.verb != "HGET",
            removes: self.verb == "HDEL",
            conditional: self.verb == "ADD",
            lives: self.verb == "MA",
            ..Ask::new(self.key.as_bytes(), self.kind)
        }
    }

    pub fn plan(&self, route: &Route) -> Plan {
        self.plan_with(route, &States::new(16, self.seed))
    }

    pub fn plan_with(&self, route: &Route, states: &States) -> Plan {
        let conditions = Conditions {
            upstream: &self.script,
            states,
            now_ms: self.now_ms,
            unix_ms: self.now_ms,
            client: self.client,
        };
        route.plan(&self.ask(), &conditions)
    }
}
