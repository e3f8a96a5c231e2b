//! A pool whose servers may be down: `on_down` of its configuration.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::gutter::spare;
use crate::conditions::Conditions;
use crate::plan::{Outcomes, Pick, Plan};
use crate::ring::Order;
use crate::{Ask, Pool, Route, ServerId};

/// Hashes over the servers of a pool; a key whose server is known to be down
/// goes to a spare pool, or to another server of the same pool.
///
/// A pool with `on_down = "error"` is a plain [`Route::Pool`], and whoever
/// sends finds out. While the server of a key is up, its plan is the plain
/// pool's as well, so that nothing is allocated and memory may answer; the
/// requests that find out that it is not get its error. (Who wants those tried
/// elsewhere, too, wants the [`Gutter`](super::Gutter) route.) Which servers
/// are down is what [`Conditions`] say, so that in a pool that panics, every
/// request goes to its own server.
#[derive(Debug)]
pub struct Guarded {
    spec: GuardedSpec,
    order: Order,
    breadth: usize,
}

/// What a [`Guarded`] is made of.
#[derive(Clone, Debug)]
pub struct GuardedSpec {
    /// The pool.
    pub pool: Arc<Pool>,
    /// What becomes of keys whose server is down.
    pub on_down: OnDown,
}

/// What becomes of keys whose server is down.
#[derive(Clone, Debug)]
pub enum OnDown {
    /// They go to the next live server of the pool, in an order that is the
    /// key's own: that of rendezvous hashing, as in
    /// [`PoolFailover`](super::PoolFailover). (Hashing the key anew with a
    /// number behind it would be a poor choice: FNV turns a last digit into
    /// nearly the same place on the ring.) What was written there stays behind
    /// when their own server returns: prefer a gutter.
    Rehash,
    /// They go to another pool, where they live for `ttl` at the most. Deletes
    /// go to both at any time: another proxy may have used the gutter.
    Gutter {
        /// The spare.
        route: Route,
        /// The longest life of a value there.
        ttl: Duration,
    },
}

impl From<GuardedSpec> for Route {
    fn from(spec: GuardedSpec) -> Route {
        if let OnDown::Rehash = spec.on_down
            && spec.pool.servers().count() == 1
        {
            return Route::Pool(spec.pool);
        }
        let breadth = match &spec.on_down {
            OnDown::Rehash => 2,
            OnDown::Gutter { route, .. } => route.breadth().saturating_add(1),
        };
        Route::Guarded(Arc::new(Guarded {
            order: Order::new(&spec.pool.spec().members),
            spec,
            breadth,
        }))
    }
}

impl Guarded {
    /// The pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.spec.pool
    }

    /// The pool's name in the configuration.
    pub fn name(&self) -> &str {
        self.spec.pool.name()
    }

    /// What to do with this request.
    #[inline]
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let own = self.spec.pool.server(ask.placed_by());
        match &self.spec.on_down {
            OnDown::Gutter { .. } if ask.kind == Kind::Delete => {}
            _ if !conditions.upstream.is_ejected(own) => return Plan::Send(own),
            _ => {}
        }
        match &self.spec.on_down {
            OnDown::Rehash => self.rehash(own, ask, conditions),
            OnDown::Gutter { route, ttl } => {
                let own = Plan::Send(own);
                match ask.kind {
                    Kind::Counter | Kind::Other => own,
                    _ => spare(own, route, *ttl, Outcomes::FAILURES, ask, conditions),
                }
            }
        }
    }

    /// What becomes of a request while the server of its key is down, for a
    /// reader.
    pub fn when_down(&self) -> String {
        match &self.spec.on_down {
            OnDown::Rehash => "another server of the pool".to_owned(),
            OnDown::Gutter { route, ttl } => match route.name() {
                Some(name) => format!("pool {name}, to live at most {ttl:?}"),
                None => format!("its gutter, to live at most {ttl:?}"),
            },
        }
    }

    fn rehash(&self, own: ServerId, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let pool = &self.spec.pool;
        let up = |server: &ServerId| !conditions.upstream.is_ejected(*server);
        let others = pool.servers_in_order(&self.order, ask.placed_by());
        let Some(server) = others.into_iter().find(up) else {
            return Plan::Send(own);
        };
        match ask.kind {
            // Its own server has the value, and the reply must not say that it
            // has not; the other has what was written meanwhile.
            Kind::Delete => Plan::fan(vec![Plan::Send(own), Plan::Send(server)], Pick::First),
            _ => Plan::Send(server),
        }
    }

    /// The spare pool, if there is one.
    pub(crate) fn children(&self) -> Vec<&Route> {
        match &self.spec.on_down {
            OnDown::Rehash => Vec::new(),
            OnDown::Gutter { route, .. } => vec![route],
        }
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }

    /// Whether no other pool answers for it.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.spec.on_down, OnDown::Rehash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::{States, Upstream};
    use crate::plan::Target;
    use crate::{ByteSign, Distribution, Hash, Member, PoolId, PoolSpec};

    /// These servers are ejected.
    struct Down(&'static [u32]);

    impl Upstream for Down {
        fn is_ejected(&self, server: ServerId) -> bool {
            self.0.contains(&server.0)
        }

        fn inflight(&self, _: ServerId) -> u32 {
            0
        }
    }

    fn pool(id: u16, first: u32, servers: u32) -> Arc<Pool> {
        let member = |i| Member {
            name: format!("{id}-{i}"),
            weight: 1,
        };
        let spec = PoolSpec {
            name: format!("pool{id}"),
            id: PoolId(id),
            ids: (first..).map(ServerId).take(servers as usize).collect(),
            members: (0..servers).map(member).collect(),
            distribution: Distribution::Ketama,
            hash: Hash::Fnv1a_64,
            byte_sign: ByteSign::Signed,
            hash_tag: None,
            salt: Box::default(),
        };
        Arc::new(Pool::new(spec).unwrap())
    }

    fn guarded(on_down: OnDown) -> Route {
        Route::from(GuardedSpec {
            pool: pool(0, 0, 3),
            on_down,
        })
    }

    fn gutter() -> Route {
        guarded(OnDown::Gutter {
            route: Route::Pool(pool(1, 3, 1)),
            ttl: Duration::from_secs(10),
        })
    }

    fn plan(route: &Route, key: &str, kind: Kind, down: &'static [u32]) -> Plan {
        let states = States::new(0, 0);
        let conditions = Conditions {
            upstream: &Down(down),
            states: &states,
            now_ms: 0,
            unix_ms: 0,
            client: 0,
        };
        route.plan(&Ask::new(key.as_bytes(), kind), &conditions)
    }

    /// A key of server 0.
    fn key() -> String {
        let pool = pool(0, 0, 3);
        let mut keys = (0..).map(|i| format!("key:{i}"));
        keys.find(|key| pool.server(key.as_bytes()) == ServerId(0))
            .unwrap()
    }

    /// The places of a plan, in its order.
    fn places(plan: &Plan) -> Vec<u32> {
        let places = plan.places().into_iter();
        let server = |(target, _)| match target {
            Target::Send(server) => server.0,
            Target::Answer(_) => u32::MAX,
        };
        places.map(server).collect()
    }

    #[test]
    fn with_every_server_up_it_plans_as_the_pool_does() {
        let key = key();
        let rehash = guarded(OnDown::Rehash);
        use Kind::{Counter, Delete, Other, Read, Touch, Write};
        for kind in [Read, Write, Delete, Counter, Touch, Other] {
            for down in [&[][..], &[1, 2]] {
                let own = Plan::Send(ServerId(0));
                assert_eq!(plan(&rehash, &key, kind, down), own, "{kind:?}");
                if kind != Delete {
                    assert_eq!(plan(&gutter(), &key, kind, down), own, "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_gutter_takes_what_a_server_that_is_down_would_get() {
        let check = |kind, expected: &[u32]| {
            let plan = plan(&gutter(), &key(), kind, &[0]);
            assert_eq!(places(&plan), expected, "{kind:?}");
            plan
        };
        check(Kind::Read, &[3, 0]);
        let write = check(Kind::Write, &[3, 0]);
        let cap = write.places()[0].1.ttl.unwrap().cap;
        assert_eq!(cap, Some(Duration::from_secs(10)));
        // The client hears of the server that still has the value.
        let delete = check(Kind::Delete, &[0, 3]);
        assert!(matches!(delete, Plan::Fan(fan) if fan.answer == Pick::First));
        check(Kind::Counter, &[0]);
    }

    #[test]
    fn a_delete_reaches_the_gutter_while_all_is_well() {
        let delete = plan(&gutter(), &key(), Kind::Delete, &[]);
        assert_eq!(places(&delete), [0, 3]);
    }

    #[test]
    fn rehash_takes_another_live_server_and_deletes_from_both() {
        let rehash = guarded(OnDown::Rehash);
        let key = key();
        assert_eq!(places(&plan(&rehash, &key, Kind::Read, &[0, 1])), [2]);
        assert_eq!(places(&plan(&rehash, &key, Kind::Write, &[0, 2])), [1]);
        assert_eq!(places(&plan(&rehash, &key, Kind::Delete, &[0, 1])), [0, 2]);
        // Nobody is left: the error is that of its own server.
        let all = plan(&rehash, &key, Kind::Read, &[0, 1, 2]);
        assert_eq!(all, Plan::Send(ServerId(0)));
    }

    #[test]
    fn one_server_alone_has_nothing_to_rehash_to() {
        let spec = GuardedSpec {
            pool: pool(0, 0, 1),
            on_down: OnDown::Rehash,
        };
        assert!(matches!(Route::from(spec), Route::Pool(_)));
    }
}
