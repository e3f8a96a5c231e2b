//! One route of every kind, as its tests use it.

use std::sync::Arc;

use emberline_protocol::Outcome;
use emberline_routing::routes::*;
use emberline_routing::{Outcomes, Prefix, PrefixChild, Route, StateId, TtlChange};

use super::{mark, pool, pool_of, pools, secs};

fn name(name: &str) -> Arc<str> {
    name.into()
}

pub fn prefix() -> Route {
    let child = |prefix: &str, pool_name: &str, becomes: Option<&str>| PrefixChild {
        prefix: prefix.into(),
        child: pool(pool_name),
        becomes: becomes.map(Into::into),
    };
    let children = [
        child("user:", "a", None),
        child("strip:", "b", Some("")),
        child("old:", "c", Some("new:")),
    ];
    Route::Prefix(Prefix::rewriting("by_prefix", children, pool("g")).unwrap())
}

pub fn operation() -> Route {
    OperationSpec {
        name: "by_operation".to_owned(),
        reads: Some(pool("a")),
        writes: Some(pool("b")),
        deletes: None,
        counters: None,
        touches: Some(pool("c")),
        default: pool("g"),
    }
    .into()
}

pub fn failover(children: Vec<Route>, retry_writes: bool, rate: Option<Rate>) -> Route {
    FailoverSpec {
        name: name("safe"),
        children,
        on: Causes::all(Outcomes::FAILURES),
        tries_max: 8,
        retry_writes,
        rate,
    }
    .into()
}

pub fn rate(share: f64) -> Option<Rate> {
    Some(Rate {
        state: StateId(0),
        share,
        burst: 1.0,
    })
}

pub fn pool_failover() -> Route {
    PoolFailoverSpec {
        name: name("salted"),
        pool: pool_of("m"),
        on: Causes::all(Outcomes::FAILURES),
        tries_max: 3,
        retry_writes: false,
        rate: None,
    }
    .into()
}

pub fn replicas(read: Read, wait: Wait, read_repair: bool) -> Route {
    ReplicasSpec {
        name: name("copies"),
        children: vec![(pool("a"), false), (pool("b"), true), (pool("c"), false)],
        read,
        wait,
        read_repair,
        tombstone: mark(0, 2),
        hedge_after: None,
    }
    .into()
}

pub fn hedged() -> Route {
    ReplicasSpec {
        name: name("copies"),
        children: vec![(pool("a"), false), (pool("b"), false)],
        read: Read::First,
        wait: Wait::One,
        read_repair: false,
        tombstone: None,
        hedge_after: Some(std::time::Duration::from_millis(5)),
    }
    .into()
}

pub fn rehash() -> Route {
    GuardedSpec {
        pool: pool_of("m"),
        on_down: OnDown::Rehash,
    }
    .into()
}

pub fn pool_with_gutter() -> Route {
    let (route, ttl) = (pool("g"), secs(10));
    GuardedSpec {
        pool: pool_of("m"),
        on_down: OnDown::Gutter { route, ttl },
    }
    .into()
}

pub fn gutter() -> Route {
    GutterSpec {
        name: name("spare"),
        main: pool("a"),
        gutter: pool("g"),
        ttl: secs(10),
        on: Outcomes::FAILURES,
    }
    .into()
}

pub fn miss_failover() -> Route {
    MissFailoverSpec {
        name: name("deeper"),
        children: pools(&["a", "b", "c"]),
    }
    .into()
}

pub fn warm_up_of(cold: Route, warm: Route) -> Route {
    WarmUpSpec {
        name: name("warming"),
        cold,
        warm,
        tombstone: mark(1, 2),
        ttl: None,
    }
    .into()
}

pub fn warm_up() -> Route {
    warm_up_of(pool("a"), pool("b"))
}

pub fn slow_warm_up() -> Route {
    SlowWarmUpSpec {
        name: name("slowly"),
        target: pool("a"),
        fallback: pool("b"),
        enable_below: 0.7,
        disable_above: 0.9,
        start: 0.1,
        step: 1.0,
        requests_min: 100,
        state: StateId(2),
    }
    .into()
}

pub fn migrate() -> Route {
    MigrateSpec {
        name: name("moving"),
        from: pool("a"),
        to: pool("b"),
        start_unix_ms: 1_000_000,
        interval: secs(3600),
    }
    .into()
}

pub fn staging() -> Route {
    StagingSpec {
        name: name("tried"),
        warm: pool("a"),
        staging: pool("b"),
        tombstone: mark(3, 2),
    }
    .into()
}

pub fn shadow_of(main: Route, copies: &[(Route, f64, ShareBy)]) -> Route {
    let copies = copies.iter().map(|(route, share, by)| ShadowCopy {
        route: route.clone(),
        share: *share,
        by: *by,
    });
    ShadowSpec {
        name: name("tested"),
        main,
        copies: copies.collect(),
    }
    .into()
}

pub fn shadow(share: f64, by: ShareBy) -> Route {
    shadow_of(pool("a"), &[(pool("b"), share, by)])
}

pub fn split_hot() -> Route {
    SplitHotSpec {
        name: name("split"),
        child: pool("m"),
        keys: vec![(*b"hot").into()],
        copies: 2,
        ttl: Some(secs(60)),
        tombstone: mark(4, 2),
    }
    .into()
}

pub fn l1_l2() -> Route {
    L1L2Spec {
        name: name("tiers"),
        l1: pool("a"),
        l2: pool("b"),
        ttl: secs(60),
        absent: mark(5, 5),
        tombstone: mark(6, 2),
    }
    .into()
}

pub fn size_split() -> Route {
    SizeSplitSpec {
        name: name("by_size"),
        small: pool("a"),
        large: pool("b"),
        threshold: 1000,
    }
    .into()
}

pub fn big_value_of(child: Route) -> Route {
    BigValueSpec {
        name: name("pieces"),
        child,
        chunk: 1000,
        ttl: secs(3600),
    }
    .into()
}

pub fn ttl_of(child: Route) -> Route {
    let change = TtlChange {
        set: None,
        cap: Some(secs(60)),
        floor: Some(secs(1)),
    };
    TtlSpec {
        name: name("short"),
        child,
        change,
    }
    .into()
}

pub fn key() -> Route {
    KeySpec {
        name: name("renamed"),
        child: pool("m"),
        strip_prefix: b"app:".to_vec(),
        strip_suffix: b":v1".to_vec(),
        replace: vec![
            (b"u:".to_vec(), b"user:".to_vec()),
            (b"u:x:".to_vec(), b"".to_vec()),
        ],
        add_prefix: b"p:".to_vec(),
        add_suffix: b"".to_vec(),
    }
    .into()
}

pub fn hash_key(part: HashPart) -> Route {
    HashKeySpec {
        name: name("parted"),
        child: pool("m"),
        part,
    }
    .into()
}

pub fn by_host(host: u64) -> Route {
    ByHostSpec {
        name: name("here"),
        children: pools(&["a", "b", "c"]),
        host,
    }
    .into()
}

pub fn by_client() -> Route {
    ByClientSpec {
        name: name("yours"),
        children: pools(&["a", "b", "c"]),
    }
    .into()
}

pub fn random() -> Route {
    RandomSpec {
        name: name("any"),
        children: pools(&["a", "b", "c"]),
    }
    .into()
}

pub fn latest(host: u64) -> Route {
    LatestSpec {
        name: name("few"),
        children: pools(&["a", "b", "c", "g"]),
        count: 2,
        host,
    }
    .into()
}

pub fn load_balance() -> Route {
    LoadBalanceSpec {
        name: name("even"),
        children: pools(&["a", "b"]),
    }
    .into()
}

pub fn rate_limit(over: Option<Route>) -> Route {
    let limit = |state| {
        Some(Limit {
            state: StateId(state),
            rate: 1.0,
            burst: 2.0,
        })
    };
    RateLimitSpec {
        name: name("calm"),
        child: pool("a"),
        over,
        reads: limit(7),
        writes: limit(8),
        deletes: None,
        counters: None,
        touches: None,
        all: None,
    }
    .into()
}

pub fn limit_inflight(child: Route) -> Route {
    LimitInflightSpec {
        name: name("narrow"),
        child,
        max: 10,
    }
    .into()
}

pub fn fault(delay_ms: u64, answer: FaultAnswer) -> Route {
    FaultSpec {
        name: name("broken"),
        child: pool("a"),
        share: 1.0,
        delay: std::time::Duration::from_millis(delay_ms),
        answer,
    }
    .into()
}

pub fn log() -> Route {
    LogSpec {
        name: name("watched"),
        child: pool("a"),
        share: 1.0,
        keys: false,
    }
    .into()
}

pub fn error() -> Route {
    ErrorSpec {
        name: name("closed"),
        message: "closed for today".into(),
    }
    .into()
}

pub fn misses() -> Outcomes {
    Outcomes::of(&[Outcome::Miss])
}
