//! What the process runs on when a key is left out, and what becomes of one
//! that is given.

use std::fs;
use std::time::Duration;

use emberline::config::{self, Environment, Source};
use emberline::dns::{Answer, Question};
use emberline::running::{Address, Hotkey, L1, Mode, Partial, Pool, Preload, Running, Visibility};
use emberline_protocol::Kind;
use emberline_routing::{Ask, Plan, PoolId, ServerId};

fn load(text: &str, cpus: usize) -> Running {
    let source = Source::new("test", text);
    let environment = Environment {
        variable: &|_| None,
        directory: None,
        cpus,
        files: std::sync::Arc::default(),
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
    let ids = |ids: std::ops::Range<u32>| ids.map(ServerId).collect::<Vec<_>>();
    assert_eq!(
        (
            running.pools[0].servers.clone(),
            running.pools[1].servers.clone()
        ),
        (ids(0..2), ids(2..5))
    );
    assert_eq!(running.pools[2].servers, []);
    assert!(running.pools[2].local.is_some());
    assert_eq!(
        running.servers[4].address,
        Address::Unix("/run/c.sock".into())
    );
    assert_eq!(running.servers[4].name, "unix:/run/c.sock");
    assert!(
        running
            .servers
            .iter()
            .skip(2)
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
        let ask = Ask::new(key.as_bytes(), Kind::Read);
        running.listeners[listener].router.explain(&ask).plan
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
    let plan = |key: &[u8]| listener.router.explain(&Ask::new(key, Kind::Read)).plan;
    assert_eq!(plan(b"a:1"), Plan::Send(ServerId(0)));
    assert_eq!(plan(b"x"), Plan::Send(ServerId(1)));
    assert_eq!(listener.allow, ["config|set"]);
    assert!(running.admin.is_none());
}

fn pool<'r>(running: &'r Running, name: &str) -> &'r Pool {
    let found = running.pools.iter().find(|pool| pool.name == name);
    found.unwrap_or_else(|| panic!("no pool {name}"))
}

/// A remote pool of each protocol and a local one, `r`, `m` and `z`, with
/// these tables around them.
fn heat(tables: &str) -> Running {
    load(&format!("{SMALL}{tables}"), 1)
}

/// The defaults stand in `config::model` for the user and in `running` for
/// those who build settings by hand; they are the same.
#[test]
fn a_pool_that_is_told_nothing_observes() {
    let running = heat("");
    assert_eq!(running.l1_capacity, 64 << 20);
    assert_eq!(running.visibility, Visibility::Hash);
    assert!(running.bus.is_none());
    for name in ["r", "m"] {
        let pool = pool(&running, name);
        assert_eq!(format!("{:?}", pool.l1), format!("{:?}", L1::default()));
        assert_eq!(
            format!("{:?}", pool.hotkey),
            format!("{:?}", Hotkey::default())
        );
    }
    assert_eq!(pool(&running, "z").l1.mode, Mode::Off);
    assert!(
        pool(&running, "z").hotkey.enabled,
        "what is hot is worth knowing everywhere"
    );
}

/// Tables, and the modes of `r`, `m` and `z` that come of them.
#[test]
fn the_mode_depends_on_the_tables_and_the_protocol() {
    use Mode::{Observe, Off, Revalidate, Tracking, Ttl};
    let check = |tables: &str, modes: [Mode; 3]| {
        let running = heat(tables);
        let found = ["r", "m", "z"].map(|name| pool(&running, name).l1.mode);
        assert_eq!(found, modes, "{tables}");
    };
    check("", [Observe, Observe, Off]);
    check("[l1]", [Tracking, Ttl, Off]);
    check("[l1]\nmode = 'off'", [Off, Off, Off]);
    check("[l1]\nmode = 'observe'", [Observe, Observe, Off]);
    check("[l1]\nmode = 'ttl'", [Ttl, Ttl, Off]);
    check("[l1]\nmode = 'tracking'", [Tracking, Ttl, Off]);
    check("[pools.r.l1]", [Tracking, Observe, Off]);
    check("[pools.m.l1]", [Observe, Ttl, Off]);
    check(
        "[pools.m.l1]\nmode = 'revalidate'",
        [Observe, Revalidate, Off],
    );
    check(
        "[l1]\nmode = 'ttl'\n[pools.r.l1]\nttl = '2s'",
        [Ttl, Ttl, Off],
    );
    check(
        "[l1]\nmode = 'ttl'\n[pools.r.l1]\nmode = 'off'",
        [Off, Ttl, Off],
    );
    check(
        "[l1]\nmode = 'revalidate'\n[pools.r.l1]\nmode = 'tracking'",
        [Tracking, Revalidate, Off],
    );
    // Who says of a pool that nothing is hot there wants no L1 for it, unless
    // keys are listed.
    check("[l1]\n[pools.r.hotkey]\nenabled = false", [Off, Ttl, Off]);
    check(
        "[l1]\n[pools.r.hotkey]\nenabled = false\nalways = ['a']",
        [Tracking, Ttl, Off],
    );
    check(
        "[l1]\n[hotkey]\nenabled = false\nalways = ['a']",
        [Tracking, Ttl, Off],
    );
}

#[test]
fn the_ttl_depends_on_the_mode_unless_it_is_written() {
    let check = |tables: &str, r: u64, m: u64| {
        let running = heat(tables);
        let found = ["r", "m"].map(|name| pool(&running, name).l1.ttl.as_secs());
        assert_eq!(found, [r, m], "{tables}");
    };
    check("", 1, 1);
    check("[l1]", 60, 1);
    check("[pools.m.l1]\nmode = 'revalidate'", 1, 60);
    check("[l1]\nttl = '5s'", 5, 5);
    check("[l1]\nttl = '5s'\n[pools.m.l1]\nttl = '7s'", 5, 7);
}

#[test]
fn the_hot_list_is_kept_where_it_is_told() {
    let preload = |text: &str| {
        let directory = Some("/etc/emberline".into());
        let text = format!("{SMALL}[l1]\n{text}");
        let source = Source::new("test", &text);
        let environment = Environment {
            variable: &|_| None,
            directory,
            cpus: 1,
            files: std::sync::Arc::default(),
        };
        let (running, report) = config::load(&source, &environment);
        let running = running.unwrap_or_else(|| panic!("{}", report.render(&source)));
        running.preload
    };
    let defaults = Preload {
        path: "/var/lib/hot".into(),
        keys_max: 10_000,
        bytes_max: 32 << 20,
        deadline: Duration::from_secs(2),
        hold: Duration::from_secs(30),
        save_every: Duration::from_secs(60),
    };
    assert_eq!(preload(""), None);
    assert_eq!(
        preload("preload = '/var/lib/hot'").as_ref(),
        Some(&defaults)
    );
    let table = preload("capacity = '8MiB'\npreload = { path = '/var/lib/hot' }");
    let bytes_max = 4 << 20;
    assert_eq!(
        table,
        Some(Preload {
            bytes_max,
            ..defaults
        })
    );
    let all = "[l1.preload]\npath = 'hot'\nkeys_max = 5\nbytes_max = '1MiB'\n\
               deadline = '0s'\nhold = '1h'\nsave_every = '1s'";
    let expected = Preload {
        path: "/etc/emberline/hot".into(),
        keys_max: 5,
        bytes_max: 1 << 20,
        deadline: Duration::ZERO,
        hold: Duration::from_secs(3600),
        save_every: Duration::from_secs(1),
    };
    assert_eq!(preload(all), Some(expected));
}

#[test]
fn a_setting_of_the_pool_comes_before_the_general_one() {
    let running = heat(
        "[l1]\ncapacity = '1GiB'\nmax_item = '1KiB'\nheartbeat = '3s'\nlease = '2s'\nttl = '20ms'
         [pools.r.l1]\nmax_item = '2KiB'\nearly_refresh = 0\nwaiters_max = 7
         reads_per_invalidation = 0\ntouch_every = '1m'\nstale_if_error = '1h'
         [hotkey]\nthreshold = 50\nhold = '1s'\nthreshold_bytes = 0\nkey_visibility = 'plain'
         copies = 1\nsplit = ['x']\ncombine_increments = true\nalways = ['k']
         [[hotkey.rules]]\nprefix = 'a:'
         [pools.r.hotkey]\nthreshold = 60\nwindow = '200ms'\nsample = 2",
    );
    assert_eq!(running.l1_capacity, 1 << 30);
    assert_eq!(running.visibility, Visibility::Plain);
    let (r, m, z) = (
        pool(&running, "r"),
        pool(&running, "m"),
        pool(&running, "z"),
    );
    assert_eq!((r.l1.max_item, m.l1.max_item), (2048, 1024));
    assert_eq!((r.l1.early_refresh, m.l1.early_refresh), (0.0, 1.0));
    assert_eq!((r.l1.waiters_max, r.l1.reads_per_invalidation), (7, 0));
    assert_eq!(r.l1.touch_every, Duration::from_secs(60));
    assert_eq!(r.l1.stale_if_error, Duration::from_secs(3600));
    assert_eq!(r.l1.heartbeat, Duration::from_secs(3));
    assert_eq!(
        (r.l1.lease.as_secs(), m.l1.lease.as_secs()),
        (0, 2),
        "memcached's alone"
    );
    assert_eq!(
        r.l1.negative_ttl, r.l1.ttl,
        "never longer than a value is kept"
    );

    assert_eq!((r.hotkey.threshold, m.hotkey.threshold), (60, 50));
    assert_eq!((r.hotkey.window_ms, r.hotkey.sample), (200, 2));
    assert_eq!(r.hotkey.threshold_bytes, None);
    assert_eq!(r.hotkey.hold, Duration::from_secs(1));
    // A rule takes what it leaves out from the pool that it is used in.
    let (ours, theirs) = (&r.hotkey.rules[0], &m.hotkey.rules[0]);
    assert_eq!((ours.threshold, theirs.threshold), (60, 50));
    assert_eq!((ours.window_ms, theirs.window_ms), (200, 1000));
    assert_eq!(ours.hold, Duration::from_secs(1));

    assert_eq!((r.hotkey.copies, r.hotkey.split.len()), (1, 1));
    assert!(r.hotkey.combine_increments);
    assert_eq!(
        (z.hotkey.copies, z.hotkey.split.len()),
        (0, 0),
        "no servers"
    );
    assert!(!z.hotkey.combine_increments);
    assert_eq!(z.hotkey.always.len(), 1);
}

#[test]
fn a_bus_is_a_server_and_a_channel() {
    let running = heat("[bus]\nserver = '[::1]:6380'");
    let bus = running.bus.expect("a bus");
    assert_eq!(bus.channel, "emberline");
    assert_eq!(bus.name, "[::1]:6380");
    assert_eq!(Ok(bus.address), "[::1]:6380".parse());
    let running = heat(
        "[bus]\nserver = 'unix:/run/r.sock'\nchannel = 'mine'
         username = 'u'\npassword = 'hunter2'",
    );
    let bus = running.bus.expect("a bus");
    assert_eq!(bus.address, Address::Unix("/run/r.sock".into()));
    assert_eq!(
        (bus.channel.as_str(), bus.username.as_deref()),
        ("mine", Some("u"))
    );
    assert!(!format!("{bus:?}").contains("hunter2"));
    assert_eq!(
        bus.password.as_ref().map(|secret| secret.reveal()),
        Some("hunter2")
    );
}

/// What this text is where names lead to these addresses, after another.
fn resolved(text: &str, names: &[(&str, Vec<String>)], old: Option<&Running>) -> Option<Running> {
    let source = Source::new("test", text);
    let known = names.iter().map(|(name, addresses)| {
        let addresses = addresses
            .iter()
            .map(|one| one.parse().expect("an address"))
            .collect();
        let question = Question::Host((*name).to_owned());
        (question, Ok(Answer::Host(addresses)))
    });
    config::load_after(&source, &Environment::process(), old, &known.collect()).0
}

#[test]
fn a_server_stays_where_it_is_while_its_name_leads_there() {
    let step = |old: Option<&Running>, addresses: &[&str]| {
        let addresses = addresses.iter().map(|one| (*one).to_owned()).collect();
        resolved(SMALL, &[("a", addresses)], old).unwrap()
    };
    let server = |running: &Running| {
        let server = running
            .servers
            .numbered()
            .find(|(_, one)| one.name == "a:6379");
        let (at, server) = server.unwrap();
        (at, server.address.in_use().map(|at| at.to_string()))
    };
    let one = step(None, &["10.0.0.2"]);
    let (at, used) = server(&one);
    assert_eq!(used.as_deref(), Some("10.0.0.2:6379"));
    let two = step(Some(&one), &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(server(&two), (at, used));
    assert!(one.keeps_terms(&two, at));
    let three = step(Some(&two), &["10.0.0.1", "10.0.0.3"]);
    assert_eq!(server(&three), (at, Some("10.0.0.1:6379".to_owned())));
    assert!(!two.keeps_terms(&three, at) && two.keeps_server(&three, at));
    assert_eq!(three.dns.questions.len(), 2);
}

#[test]
fn names_that_lead_to_too_many_servers_are_refused() {
    let text = |count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!("\"n{at}:6379\"")).collect();
        let names = names.join(", ");
        format!(
            "listeners.r = {{ protocol = \"redis\", bind = \"127.0.0.1:0\", route = \"r\" }}\n\
             [pools.r]\nprotocol = \"redis\"\nservers = [{names}]\ndns = \"expand\"\n\
             distribution = \"modula\"\n"
        )
    };
    let names: Vec<String> = (0..11).map(|at| format!("n{at}")).collect();
    let addresses = |name: usize| {
        let each = (0..1000).map(|at| format!("10.{name}.{}.{}", at / 250, at % 250));
        each.collect()
    };
    let named = names.iter().enumerate();
    let known: Vec<_> = named
        .map(|(at, name)| (name.as_str(), addresses(at)))
        .collect();
    let most = resolved(&text(10), &known, None).expect("10000 servers are allowed");
    assert_eq!(most.servers.len(), 10_000);
    assert!(resolved(&text(11), &known, None).is_none());
}
