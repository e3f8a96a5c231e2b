//! Shares and spreads: what a route does to many keys, clients and hosts.

#![allow(clippy::unwrap_used)]

mod scene;

use std::collections::{HashMap, HashSet};

use emberline_routing::ring::{self, Order};
use emberline_routing::routes::{LatestSpec, ShareBy};
use emberline_routing::{ByteSign, Distribution, Hash, Member, Plan, Route, Target};
use scene::catalogue as routes;
use scene::{Request, pools, server};

const KEYS: usize = 10_000;

/// The share of these that is so, which is to be this, give or take 0.02.
fn check(share: f64, of: impl Iterator<Item = bool>) {
    let all: Vec<bool> = of.collect();
    let so = all.iter().filter(|so| **so).count() as f64 / all.len() as f64;
    assert!((so - share).abs() < 0.02, "{so} instead of {share}");
}

fn target(route: &Route, line: &str) -> Target {
    Request::new(line).plan(route).first().unwrap()
}

fn is_mirrored(route: &Route, line: &str) -> bool {
    matches!(Request::new(line).plan(route), Plan::Mirror(_))
}

#[test]
fn a_shadow_gets_its_share_of_the_keys_or_of_the_requests() {
    let shadow = |share| routes::shadow(share, ShareBy::Key);
    let (less, more) = (shadow(0.1), shadow(0.5));
    let keys = || (0..KEYS).map(|i| format!("GET user:{i}"));
    check(0.1, keys().map(|line| is_mirrored(&less, &line)));
    check(0.5, keys().map(|line| is_mirrored(&more, &line)));
    for line in keys().filter(|line| is_mirrored(&less, line)) {
        assert!(
            is_mirrored(&more, &line),
            "{line}: a greater share has it too"
        );
        let write = line.replace("GET", "SET");
        assert!(
            is_mirrored(&less, &write),
            "{line}: what is read was written"
        );
    }
    let some = routes::shadow(0.1, ShareBy::Request);
    let requests = (0..KEYS).map(|seed| format!("GET k seed={seed}"));
    check(0.1, requests.map(|line| is_mirrored(&some, &line)));
}

#[test]
fn keys_move_one_by_one_and_never_back() {
    let moving = routes::migrate();
    let at = |i: usize, ms: u64| {
        target(&moving, &format!("GET user:{i} now={ms}")) == Target::Send(server("b0"))
    };
    let (start, interval) = (1_000_000, 3_600_000);
    for tenths in 0..=10 {
        let now = start + interval * tenths / 10;
        check(tenths as f64 / 10.0, (0..KEYS).map(|i| at(i, now)));
    }
    for i in 0..100 {
        let moved: Vec<bool> = (0..=10).map(|t| at(i, start + interval * t / 10)).collect();
        assert!(moved.is_sorted(), "user:{i}: {moved:?}");
    }
}

#[test]
fn clients_keep_their_child_and_are_spread() {
    let route = routes::by_client();
    let of = |client: usize, key: usize| target(&route, &format!("GET k{key} client={client}"));
    for client in 0..100 {
        let children: HashSet<Target> = (0..20).map(|key| of(client, key)).collect();
        assert_eq!(children.len(), 1);
    }
    let first = Target::Send(server("a0"));
    check(1.0 / 3.0, (0..KEYS).map(|client| of(client, 0) == first));
}

#[test]
fn hosts_use_a_few_children_and_all_children_are_used() {
    let latest = |host, names: &[&str]| {
        let spec = LatestSpec {
            name: "few".into(),
            children: pools(names),
            count: 1,
            host,
        };
        target(&spec.into(), "GET k")
    };
    let hosts = || (0..2000u64).map(|host| host.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let new = Target::Send(server("g0"));
    let before = |host| latest(host, &["a", "b", "c"]);
    let after = |host| latest(host, &["a", "b", "c", "g"]);
    check(0.25, hosts().map(|host| after(host) == new));
    for host in hosts().filter(|host| after(*host) != new) {
        assert_eq!(
            before(host),
            after(host),
            "one more child moves its own hosts"
        );
    }
}

/// Failing over inside a rendezvous pool is what the pool would do without the
/// server: that is what makes the order the key's own.
#[test]
fn the_order_of_a_key_is_that_of_a_rendezvous_ring() {
    let member = |i: usize, weight| Member {
        name: format!("10.0.0.{i}:6379"),
        weight,
    };
    for weights in [[1, 1, 1, 1, 1], [1, 2, 3, 0, 5]] {
        let mut members: Vec<Member> = (0..5).map(|i| member(i, weights[i])).collect();
        let order = Order::new(&members);
        for key in (0..200).map(|i| format!("user:{i}")) {
            let hash = Hash::Fnv1a_64.hash(key.as_bytes(), ByteSign::Signed);
            let order = order.of(hash);
            let live = weights.iter().filter(|weight| **weight > 0).count();
            assert_eq!(order.len(), live);
            let saved = members.clone();
            for next in order {
                let rendezvous = Distribution::Rendezvous;
                let ring = ring::build(rendezvous, &members, Hash::Fnv1a_64, ByteSign::Signed);
                assert_eq!(ring.unwrap().pick(key.as_bytes()), next, "{key}");
                members[next].weight = 0;
            }
            members = saved;
        }
    }
}

#[test]
fn the_keys_of_a_server_that_is_down_spread_over_the_others() {
    for route in [routes::rehash(), routes::pool_failover()] {
        let mut spread: HashMap<Target, usize> = HashMap::new();
        let mut own = 0;
        for i in 0..KEYS {
            let well = target(&route, &format!("GET user:{i}"));
            let now = target(&route, &format!("GET user:{i} down=m1"));
            match well == Target::Send(server("m1")) {
                true => {
                    own += 1;
                    *spread.entry(now).or_default() += 1;
                }
                false => assert_eq!(well, now, "only its own keys move"),
            }
        }
        assert_eq!(spread.len(), 3, "{spread:?}");
        assert!(spread.values().all(|count| count * 5 > own), "{spread:?}");
    }
}

#[test]
fn copies_of_a_hot_key_are_on_servers_of_their_own() {
    let plan = Request::new("SET hot").plan(&routes::split_hot());
    let targets: HashSet<Target> = plan
        .places()
        .into_iter()
        .map(|(target, _)| target)
        .collect();
    assert_eq!(targets.len(), 3);
    let own = target(&scene::pool("m"), "GET hot");
    assert_eq!(plan.first(), Some(own), "the key itself stays where it is");
}

/// Two children, one of them busier: it gets nothing, and everything when the
/// other is down.
#[test]
fn the_less_busy_child_is_chosen() {
    let even = routes::load_balance();
    for seed in 0..50 {
        let line = format!("GET k seed={seed} load=a0:3,b0:2");
        assert_eq!(target(&even, &line), Target::Send(server("b0")));
        let line = format!("GET k seed={seed} load=a0:3,b0:2 down=b0");
        assert_eq!(target(&even, &line), Target::Send(server("a0")));
    }
    let idle = (0..KEYS).map(|seed| target(&even, &format!("GET k seed={seed}")));
    check(0.5, idle.map(|target| target == Target::Send(server("a0"))));
}
