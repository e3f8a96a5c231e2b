//! What the process runs on when a key is left out, and what becomes of one
//! that is given.

use std::fs;
use std::time::Duration;

use emberline::config::{self, Environment, Source};
use emberline::running::{Address, Partial, Running};
use emberline_protocol::Kind;
use emberline_routing::{Ask, Plan, PoolId, ServerId};

fn load(text: &str, cpus: usize) -> Running {
    let source = Source::new("test", text);
    let environment = Environment {
        variable: &|_| None,
        directory: None,
        cpus,
    };
    let (running, report) = config::load(&source, &environment);
    running.unwrap_or_else(|| panic!("{}", report.render(&source)))
}

const SMALL: &str = r#"
listeners.redis = { protocol = "redis", bind = "127.0.0.1:0", route = "r" }
listeners.pages = { protocol = "memcached", bind = "127.0.0.1:0", route = "m" }
[pools.r]
protocol = "redis"
servers = ["a:6379", "b:6379", "unix:/run/c.sock"]
[pools.m]
protocol = "memcached"
servers = ["a:11211", "b:11211"]
value_max = "2MiB"
[pools.z]
protocol = "memcached"
kind = "local"
"#;

#[test]
fn defaults_are_filled_in() {
    let running = load(SMALL, 64);
    let proxy = &running.proxy;
    assert_eq!(proxy.workers, 2, "at most two unless asked for");
    assert_eq!(proxy.memory_max, 256 << 20);
    assert_eq!(proxy.timeout_head, Duration::from_secs(10));
    assert_eq!(proxy.timeout_drain, Duration::from_secs(10));
    assert_eq!(load(SMALL, 1).proxy.workers, 1);
    assert_eq!(load(SMALL, 0).proxy.workers, 1);

    let pool = &running.pools[1];
    assert_eq!(pool.name, "r");
    assert_eq!(pool.timeout_connect, Duration::from_millis(250));
    assert_eq!(pool.timeout_request, Duration::from_secs(1));
    assert_eq!((pool.connections, pool.inflight_max), (1, 1024));
    assert_eq!((pool.partial, pool.database), (Partial::Error, 0));
}

#[test]
fn pools_and_servers_are_numbered_in_order() {
    let running = load(SMALL, 1);
    let names: Vec<_> = running
        .pools
        .iter()
        .map(|pool| pool.name.as_str())
        .collect();
    assert_eq!(names, ["m", "r", "z"]);
    assert_eq!(
        (
            running.pools[0].servers.clone(),
            running.pools[1].servers.clone()
        ),
        (0..2, 2..5)
    );
    assert_eq!(running.pools[2].servers, 5..5);
    assert!(running.pools[2].local.is_some());
    assert_eq!(
        running.servers[4].address,
        Address::Unix("/run/c.sock".into())
    );
    assert_eq!(running.servers[4].name, "unix:/run/c.sock");
    assert!(
        running.servers[2..]
            .iter()
            .all(|server| server.pool == PoolId(1))
    );
}

#[test]
fn the_largest_value_of_its_pools_is_a_listeners() {
    let running = load(SMALL, 1);
    let pages = &running.listeners[0];
    assert_eq!((pages.name.as_str(), pages.value_max), ("pages", 2 << 20));
}

/// `{}` on Redis pools, none on memcached pools.
#[test]
fn hash_tags_are_each_protocols_custom() {
    let running = load(SMALL, 1);
    let plan = |listener: usize, key: &str| {
        let ask = Ask {
            key: key.as_bytes(),
            kind: Kind::Read,
        };
        running.listeners[listener].router.plan(&ask)
    };
    let keys: Vec<_> = (0..50).map(|i| format!("{}{{x}}", i * 7919)).collect();
    let spread = |listener| {
        let mut plans: Vec<Plan> = keys.iter().map(|key| plan(listener, key)).collect();
        plans.dedup();
        plans.len()
    };
    assert_eq!(spread(1), 1, "Redis keys with one tag stay together");
    assert!(spread(0) > 1, "memcached keys have no tags");
    assert!(matches!(plan(1, "a"), Plan::Send(ServerId(2..5))));
}

#[test]
fn a_password_file_lies_beside_the_configuration() {
    let directory = std::env::temp_dir().join(format!("emberline-secret-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a temporary directory");
    fs::write(directory.join("redis.pw"), "hunter2\r\n").expect("a written file");
    let path = directory.join("emberline.toml");
    let text = r#"
        listeners.redis = { protocol = "redis", bind = "127.0.0.1:0", route = "r" }
        pools.r = { protocol = "redis", servers = ["a:1"], password_file = "redis.pw" }
    "#;
    fs::write(&path, text).expect("a written file");
    let source = config::open(&path).expect("a readable file");
    let (running, report) = config::load(&source, &Environment::process());
    fs::remove_dir_all(&directory).expect("removed");
    let running = running.unwrap_or_else(|| panic!("{}", report.render(&source)));
    let password = running.pools[0].password.as_ref().expect("a password");
    assert_eq!(password.reveal(), "hunter2");
}

/// The rest of what a listener may say: a route in place, and rights.
#[test]
fn a_listener_may_hold_its_route() {
    let running = load(
        r#"
        [listeners.redis]
        protocol = "redis"
        bind = "localhost:0"
        allow = ["Config Set"]
        route = { type = "prefix", children = { "a:" = "a" }, default = "b" }
        [pools]
        a = { protocol = "redis", servers = ["a:1"] }
        b = { protocol = "redis", servers = ["b:1"] }
        [admin]
        bind = "off"
        "#,
        1,
    );
    let listener = &running.listeners[0];
    let plan = |key: &[u8]| {
        listener.router.plan(&Ask {
            key,
            kind: Kind::Read,
        })
    };
    assert_eq!(plan(b"a:1"), Plan::Send(ServerId(0)));
    assert_eq!(plan(b"x"), Plan::Send(ServerId(1)));
    assert_eq!(listener.allow, ["config|set"]);
    assert!(running.admin.is_none());
}
