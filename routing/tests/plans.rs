//! What every route plans, as `explain` prints it: `golden/ROUTE.txt`.
//!
//! A file is a list of requests with the conditions under which they come, and
//! below each the plan. `BLESS=1` writes the files anew; read the difference.

#![allow(clippy::unwrap_used)]

mod scene;

use std::path::Path;

use emberline_routing::routes::{FaultAnswer, HashPart, OnDown, Read, ShareBy, Wait};
use emberline_routing::{PoolId, Route, Router, explain};
use scene::catalogue as routes;
use scene::{Request, pool};

fn check(file: &str, route: &Route, lines: &[&str]) {
    let mut text = String::new();
    for line in lines {
        let request = Request::new(line);
        let plan = request.plan(route);
        let said = explain::plan(&plan, &request.script).render();
        text += &format!("# {line}\n{said}\n");
        let breadth = plan.places().len();
        assert!(breadth <= route.breadth(), "{file}: {line}: {breadth}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{file}.txt"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "{} differs", path.display());
}

const ALL: [&str; 3] = ["GET k", "SET k", "DEL k"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&ALL[..], more].concat()
}

#[test]
fn leaves() {
    check("pool", &pool("m"), &with(&["GET {k}:1", "GET {k}:2"]));
    check("local", &Route::Local(PoolId(7)), &ALL);
    check("null", &Route::Null, &ALL);
    check("error", &routes::error(), &ALL);
}

#[test]
fn prefix() {
    let lines = [
        "GET user:1",
        "SET strip:1",
        "DEL old:1",
        "GET strip:",
        "GET x",
    ];
    check("prefix", &routes::prefix(), &lines);
}

#[test]
fn operation() {
    let lines = with(&["INCR k", "TOUCH k"]);
    check("operation", &routes::operation(), &lines);
}

#[test]
fn failover() {
    let children = || scene::pools(&["a", "b", "c"]);
    check("failover", &routes::failover(children(), false, None), &ALL);
    let limited = routes::failover(children(), true, routes::rate(0.2));
    check("failover_limited", &limited, &ALL);
}

#[test]
fn pool_failover() {
    let lines = with(&["GET k down=m0,m1", "GET k2", "GET {k}:1"]);
    check("pool_failover", &routes::pool_failover(), &lines);
}

#[test]
fn replicas() {
    let lines = with(&["GET k down=a0", "GET k down=a0,b0,c0"]);
    check(
        "replicas_first",
        &routes::replicas(Read::First, Wait::All, true),
        &lines,
    );
    check(
        "replicas_near",
        &routes::replicas(Read::Near, Wait::Majority, false),
        &lines,
    );
    check(
        "replicas_fastest",
        &routes::replicas(Read::Fastest, Wait::None, false),
        &lines,
    );
    check("replicas_hedged", &routes::hedged(), &ALL);
}

#[test]
fn replicas_by_chance() {
    let lines = [
        "GET k seed=1",
        "GET k seed=2",
        "GET k seed=3",
        "GET k seed=1 load=a0:9,b0:9",
    ];
    check(
        "replicas_random",
        &routes::replicas(Read::Random, Wait::One, false),
        &lines,
    );
    check(
        "replicas_least_loaded",
        &routes::replicas(Read::LeastLoaded, Wait::One, false),
        &lines,
    );
}

#[test]
fn pools_whose_servers_are_down() {
    let lines = with(&[
        "GET k down=m0,m1,m3",
        "SET k down=m0,m1,m3",
        "DEL k down=m0,m1,m3",
        "INCR k down=m0,m1,m3",
        "GET k down=m0,m1,m2,m3",
    ]);
    check("pool_rehash", &routes::rehash(), &lines);
    check("pool_gutter", &routes::pool_with_gutter(), &lines);
}

#[test]
fn gutter() {
    let lines = with(&["INCR k", "GET k down=a0", "SET k down=a0", "DEL k down=a0"]);
    check("gutter", &routes::gutter(), &lines);
}

#[test]
fn miss_failover() {
    check(
        "miss_failover",
        &routes::miss_failover(),
        &with(&["INCR k"]),
    );
}

#[test]
fn warming() {
    check("warm_up", &routes::warm_up(), &with(&["INCR k"]));
    check("slow_warm_up", &routes::slow_warm_up(), &ALL);
    check("staging", &routes::staging(), &ALL);
}

#[test]
fn migrate() {
    let lines = [
        "GET k now=999999",
        "DEL k now=999999",
        "GET k now=1000000",
        "DEL k now=1000000",
        "GET k now=2800000",
        "GET k2 now=2800000",
        "SET k2 now=2800000",
        "DEL k2 now=2800000",
        "DEL k now=4600000",
        "GET k now=4600000",
    ];
    check("migrate", &routes::migrate(), &lines);
}

#[test]
fn shadow() {
    let lines = with(&["GET k2", "GET k3", "GET k4", "GET k5"]);
    check("shadow_by_key", &routes::shadow(0.5, ShareBy::Key), &lines);
    let lines = [
        "GET k seed=1",
        "GET k seed=2",
        "SET k seed=3",
        "DEL k seed=4",
    ];
    check(
        "shadow_by_request",
        &routes::shadow(0.5, ShareBy::Request),
        &lines,
    );
}

#[test]
fn split_hot() {
    let lines = with(&[
        "GET hot seed=1",
        "GET hot seed=2",
        "GET hot seed=3",
        "SET hot",
        "INCR hot",
        "DEL hot",
    ]);
    check("split_hot", &routes::split_hot(), &lines);
}

#[test]
fn tiers() {
    check("l1_l2", &routes::l1_l2(), &with(&["INCR k"]));
    let lines = with(&["SET k size=999", "SET k size=1000", "INCR k", "TOUCH k"]);
    check("size_split", &routes::size_split(), &lines);
}

#[test]
fn big_values() {
    let lines = with(&["SET k size=1000", "SET k size=1001", "INCR k", "TOUCH k"]);
    check("big_value", &routes::big_value_of(pool("m")), &lines);
    // The head is small, wherever large values are.
    let below = routes::big_value_of(routes::size_split());
    check("big_value_sized", &below, &lines[3..5]);
    let above = routes::failover(
        vec![routes::big_value_of(pool("a")), pool("b")],
        false,
        None,
    );
    check("big_value_below", &above, &ALL);
    check("big_value_null", &routes::big_value_of(Route::Null), &ALL);
}

#[test]
fn changes() {
    check(
        "ttl",
        &routes::ttl_of(pool("a")),
        &with(&["TOUCH k", "INCR k"]),
    );
    let lines = [
        "GET app:k:v1",
        "SET u:1",
        "DEL u:x:1",
        "GET app:",
        "GET app:u:2",
    ];
    check("key", &routes::key(), &lines);
    let before = HashPart::Before((*b"|#|").into());
    let lines = ["GET k|#|1", "SET k|#|2", "DEL k", "GET {k}|#|3", "GET |#|1"];
    check("hash_key_before", &routes::hash_key(before), &lines);
    let between = HashPart::Between((*b":").into(), 1);
    let lines = ["GET a:k:1", "SET b:k:2", "DEL k", "GET c:k", "GET d::x"];
    check("hash_key_between", &routes::hash_key(between), &lines);
}

#[test]
fn choices() {
    check("by_host", &routes::by_host(1), &ALL);
    check("by_host_other", &routes::by_host(2), &ALL);
    let lines = [
        "GET k client=1",
        "SET k client=1",
        "DEL k client=1",
        "GET k client=2",
        "GET k client=3",
    ];
    check("by_client", &routes::by_client(), &lines);
    let lines = [
        "GET k seed=1",
        "GET k seed=2",
        "SET k seed=3",
        "DEL k seed=4",
    ];
    check("random", &routes::random(), &lines);
    check("latest", &routes::latest(1), &ALL);
    check("latest_other", &routes::latest(2), &ALL);
    let lines = [
        "GET k load=a0:5",
        "SET k load=b0:5",
        "DEL k load=b0:5 down=a0",
    ];
    check("load_balance", &routes::load_balance(), &lines);
}

#[test]
fn limits() {
    check("rate_limit", &routes::rate_limit(None), &ALL);
    let lines = with(&[
        "GET k load=a0:9",
        "GET k load=a0:10",
        "SET k load=a0:10",
        "DEL k load=a0:11",
    ]);
    check("limit_inflight", &routes::limit_inflight(pool("a")), &lines);
    let all = routes::limit_inflight(pool("m"));
    let lines = with(&["GET k load=m0:5,m1:4", "GET k load=m0:5,m1:5"]);
    check("limit_inflight_of_a_pool", &all, &lines);
}

#[test]
fn faults() {
    check("fault_delay", &routes::fault(5, FaultAnswer::Pass), &ALL);
    check("fault_error", &routes::fault(5, FaultAnswer::Error), &ALL);
    check("fault_null", &routes::fault(0, FaultAnswer::Null), &ALL);
    check("fault_drop", &routes::fault(0, FaultAnswer::Drop), &ALL);
    check("log", &routes::log(), &ALL);
}

/// Replicas in a failover in a shadow, with other keys and lives on the way.
#[test]
fn nested() {
    let copies = routes::replicas(Read::First, Wait::All, true);
    let safe = routes::failover(vec![routes::ttl_of(copies), pool("g")], false, None);
    let shadow = routes::shadow_of(safe, &[(routes::key(), 1.0, ShareBy::Key)]);
    check("nested", &shadow, &ALL);
    // A copy is planned as a write, so that every replica of the cold child
    // gets it, and of a failover only the first.
    let cold = routes::replicas(Read::First, Wait::All, false);
    let cold = routes::failover(vec![cold, pool("g")], false, None);
    check("nested_refill", &routes::warm_up_of(cold, pool("m")), &ALL);
}

#[test]
fn what_decides_nothing_is_left_out() {
    use emberline_routing::routes::*;
    let of = |count: usize| scene::pools(&["a", "b"][..count]);
    for make in [
        |children| {
            Route::from(RandomSpec {
                name: "r".into(),
                children,
            })
        },
        |children| {
            Route::from(ByClientSpec {
                name: "r".into(),
                children,
            })
        },
        |children| {
            Route::from(ByHostSpec {
                name: "r".into(),
                children,
                host: 1,
            })
        },
        |children| {
            Route::from(LatestSpec {
                name: "r".into(),
                children,
                count: 2,
                host: 1,
            })
        },
        |children| {
            Route::from(LoadBalanceSpec {
                name: "r".into(),
                children,
            })
        },
        |children| {
            Route::from(MissFailoverSpec {
                name: "r".into(),
                children,
            })
        },
        |children| routes::failover(children, false, None),
    ] as [fn(Vec<Route>) -> Route; 7]
    {
        assert!(matches!(make(of(0)), Route::Null));
        assert!(matches!(make(of(1)), Route::Pool(_)));
        assert!(!matches!(make(of(2)), Route::Null | Route::Pool(_)));
    }
    assert!(matches!(
        routes::fault(0, FaultAnswer::Pass),
        Route::Pool(_)
    ));
    assert!(matches!(routes::shadow(0.0, ShareBy::Key), Route::Pool(_)));
}

/// Two of everything, forty deep: to count it must not take 2^40 steps, and to
/// plan it must not be tried.
#[test]
fn trees_that_are_too_broad_are_refused() {
    let mut route = pool("a");
    for _ in 0..40 {
        route = routes::failover(vec![route.clone(), route], false, None);
    }
    let error = route.check().unwrap_err();
    assert!(
        error.to_string().contains("expected at most 256"),
        "{error}"
    );
    let shallow = routes::failover(vec![pool("a"); 256], false, None);
    assert_eq!(shallow.breadth(), 8, "tries are limited to eight");
    assert_eq!(shallow.check(), Ok(()));
}

#[test]
fn only_what_changes_nothing_has_one_pool() {
    let pool_of = |route: Route, key: &str| Router::new(route).pool_of(key.as_bytes());
    assert_eq!(pool_of(routes::prefix(), "user:1"), Some(PoolId(0)));
    assert_eq!(pool_of(routes::prefix(), "strip:1"), None);
    assert_eq!(pool_of(routes::ttl_of(pool("b")), "k"), Some(PoolId(1)));
    assert_eq!(pool_of(routes::rehash(), "k"), Some(PoolId(4)));
    for route in [
        routes::pool_with_gutter(),
        routes::pool_failover(),
        routes::gutter(),
        routes::random(),
        routes::by_client(),
        routes::migrate(),
        routes::key(),
        routes::shadow(0.5, ShareBy::Key),
        routes::fault(5, FaultAnswer::Pass),
    ] {
        assert_eq!(pool_of(route, "k"), None);
    }
    assert_eq!(Router::new(routes::ttl_of(pool("a"))).sole(), None);
    assert_eq!(Router::new(routes::prefix()).sole(), None);
}

#[test]
fn the_explanation_follows_changed_and_parted_keys() {
    let part = HashPart::Before((*b"|#|").into());
    let router = Router::new(routes::hash_key(part));
    let request = Request::new("GET k|#|1");
    let explanation = router.explain(&request.ask());
    assert_eq!(explanation.path[0].why, "placed by \"k\"");
    let (_, placement) = &explanation.placements[0];
    assert_eq!(placement.as_ref().unwrap().hashed_part, b"k");

    let router = Router::new(routes::key());
    let request = Request::new("GET u:1");
    let explanation = router.explain(&request.ask());
    assert_eq!(explanation.path[0].why, "the key becomes \"p:user:1\"");
    let (_, placement) = &explanation.placements[0];
    assert_eq!(placement.as_ref().unwrap().hashed_part, b"p:user:1");
}

/// A spare pool under a pool is found by what walks the tree.
#[test]
fn targets_are_found_behind_pools() {
    let router = Router::new(routes::pool_with_gutter());
    assert_eq!(router.targets().len(), 5);
    assert_eq!(router.pools(), [PoolId(4), PoolId(3)]);
    assert_eq!(Router::new(routes::pool_failover()).targets().len(), 4);
    let (route, ttl) = (routes::pool_with_gutter(), scene::secs(1));
    let nested = emberline_routing::routes::GuardedSpec {
        pool: scene::pool_of("a"),
        on_down: OnDown::Gutter { route, ttl },
    };
    assert_eq!(Router::new(nested.into()).targets().len(), 6);
}

#[test]
fn a_route_that_waits_for_nobody_waits_for_one_child_neither() {
    use emberline_routing::routes::{Read, ReplicasSpec, Wait};
    let spec = |wait| ReplicasSpec {
        name: "copies".into(),
        children: vec![(pool("a"), false)],
        read: Read::First,
        wait,
        read_repair: false,
        tombstone: None,
        hedge_after: None,
    };
    let plan = |wait| Request::new("SET k").plan(&Route::from(spec(wait)));
    assert!(plan(Wait::All).target().is_some());
    assert!(matches!(plan(Wait::None), emberline_routing::Plan::Fan(_)));
}

#[test]
fn trees_that_take_too_long_to_plan_are_refused() {
    use emberline_routing::routes::{ErrorSpec, LoadBalanceSpec, Read, ReplicasSpec, Wait};
    let error = || {
        Route::from(ErrorSpec {
            name: "error".into(),
            message: "no".into(),
        })
    };
    let replicas = |child: &Route| {
        Route::from(ReplicasSpec {
            name: "copies".into(),
            children: vec![(child.clone(), false), (child.clone(), false)],
            read: Read::First,
            wait: Wait::All,
            read_repair: false,
            tombstone: None,
            hedge_after: None,
        })
    };
    let balance = |child: &Route| {
        Route::from(LoadBalanceSpec {
            name: "either".into(),
            children: vec![child.clone(), child.clone()],
        })
    };
    let warm_up = |child: &Route| routes::warm_up_of(child.clone(), pool("b"));
    let nests: [&dyn Fn(&Route) -> Route; 3] = [&replicas, &balance, &warm_up];
    for nest in nests {
        let (mut few, mut many) = (error(), error());
        (0..3).for_each(|_| few = nest(&few));
        (0..31).for_each(|_| many = nest(&many));
        assert!(few.check().is_ok());
        assert!(many.check().is_err());
    }
}

#[test]
fn a_life_is_changed_wherever_the_request_says_one() {
    let route = routes::ttl_of(pool("a"));
    let changed = |request: &str| Request::new(request).plan(&route).target().is_none();
    for (request, expected) in [
        ("MA k", true),
        ("SET k", true),
        ("INCR k", false),
        ("GET k", false),
    ] {
        assert_eq!(changed(request), expected, "{request}");
    }
}
