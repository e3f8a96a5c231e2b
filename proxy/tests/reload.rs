//! The configuration changes while clients are served.
//!
//! Every server holds every key with the same value, so that a right answer is
//! right wherever a key lives at the moment; what is wrong is wrong under every
//! configuration.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::{
    Client, Emberline, Random, Server, TempDir, command, eventually, free_port, http, setting,
};

const KEYS: usize = 200;

/// How long something may take that is not waited for in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy and its admin API.
struct Site {
    proxy: Emberline,
    admin: SocketAddr,
}

impl Site {
    fn start(config: &str) -> Site {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let proxy = Emberline::config_with(config, &["--admin-bind", &admin.to_string()]);
        Site { proxy, admin }
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        http(self.admin, method, path)
    }

    /// Have it go on under this; what it says to that.
    #[track_caller]
    fn reload(&self, config: &str) -> String {
        self.proxy.rewrite(config);
        let (status, body) = self.ask("POST", "/reload");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// What it says to a configuration that it does not take.
    #[track_caller]
    fn refuses(&self, config: &str) -> String {
        self.proxy.rewrite(config);
        let (status, body) = self.ask("POST", "/reload");
        assert_eq!(status, 422, "{body}");
        body
    }

    fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ask("GET", "/metrics");
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    fn await_metric(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self.metric(name)) {
            assert!(Instant::now() < deadline, "{name} is {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn listener(name: &str, bind: &str, more: &str) -> String {
    format!("[listeners.{name}]\nprotocol = \"redis\"\nbind = \"{bind}\"\n{more}\n")
}

fn pool(name: &str, servers: &[(&Server, u32)], more: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|(server, weight)| {
            let address = server.address();
            format!("{{ address = \"{address}\", weight = {weight} }}")
        })
        .collect();
    let servers = servers.join(", ");
    format!("[pools.{name}]\nprotocol = \"redis\"\nservers = [{servers}]\n{more}\n")
}

/// One listener before one pool of these.
fn plain(servers: &[(&Server, u32)], more: &str) -> String {
    listener("main", "REDIS_BIND", "route = \"a\"") + &pool("a", servers, more)
}

fn value(key: usize) -> String {
    format!("value-{key}-{}", "x".repeat(key % 50))
}

/// Give every server every key.
fn fill(servers: &[Server]) {
    for server in servers {
        let mut client = server.client();
        for key in 0..KEYS {
            let name = format!("k:{key}");
            assert_eq!(client.call(&["SET", &name, &value(key)]), b"+OK\r\n");
        }
    }
}

/// Clients that ask for known values until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(clients: usize, address: SocketAddr) -> Load {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let threads = (0..clients).map(|number| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for round in number.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let count = batch(&mut client, round);
                    asked.fetch_add(count, Ordering::Relaxed);
                }
            })
        });
        Load {
            threads: threads.collect(),
            stop,
            asked,
        }
    }

    /// Let so many more requests be answered.
    fn await_more(&self, count: u64) {
        let (start, deadline) = (
            self.asked.load(Ordering::Relaxed),
            Instant::now() + PATIENCE,
        );
        while self.asked.load(Ordering::Relaxed) < start + count {
            assert!(Instant::now() < deadline, "the load has come to a stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Every reply was the right one.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// A few requests at once, and their replies.
fn batch(client: &mut Client, round: usize) -> u64 {
    let key = |offset: usize| (round * 7 + offset) % KEYS;
    let name = |offset: usize| format!("k:{}", key(offset));
    let bulk = |offset: usize| {
        let value = value(key(offset));
        format!("${}\r\n{value}\r\n", value.len())
    };
    let mut ask = Vec::new();
    let mut expected = String::new();
    for offset in 0..8 {
        ask.extend(command(&["GET", &name(offset)]));
        expected += &bulk(offset);
    }
    ask.extend(command(&["SET", &name(9), &value(key(9))]));
    expected += "+OK\r\n";
    ask.extend(command(&["MGET", &name(10), &name(11), &name(12)]));
    expected += &format!("*3\r\n{}{}{}", bulk(10), bulk(11), bulk(12));
    client.send(&ask);
    let got = client.exactly(expected.len());
    assert_eq!(support::show(&got), support::show(expected.as_bytes()));
    10
}

/// The text stays as it is; what it takes from elsewhere does not.
#[test]
fn a_password_in_a_file_is_followed() {
    let Some(server) = Server::redis() else {
        return;
    };
    let dir = TempDir::new();
    let secret = dir.path().join("password");
    std::fs::write(&secret, "one").unwrap();
    let proxy = Emberline::config(&format!(
        "[listeners.main]\nprotocol = 'redis'\nbind = 'REDIS_BIND'\nroute = 'p'\n\
         password_file = '{}'\n[pools.p]\nprotocol = 'redis'\nservers = ['{}']\n",
        secret.display(),
        server.address()
    ));
    let mut client = proxy.client();
    assert_eq!(client.call(&["AUTH", "one"]), b"+OK\r\n");
    assert_eq!(client.call(&["GET", "k"]), b"$-1\r\n");
    std::fs::write(&secret, "two").unwrap();
    eventually("the old one is of no use", || {
        client.call(&["GET", "k"]).starts_with(b"-NOAUTH")
    });
    assert_eq!(client.call(&["AUTH", "two"]), b"+OK\r\n");
}

#[test]
fn pools_weights_and_routes_change_under_load() {
    let Some(servers) = Server::redis_many(4) else {
        return;
    };
    fill(&servers);
    let [a, b, c, d] = &servers[..] else { return };
    let main = |route: &str| listener("main", "REDIS_BIND", &format!("route = \"{route}\""));
    let second = free_port();
    let second = listener("second", &format!("127.0.0.1:{second}"), "route = \"b\"");
    let prefix =
        "[routes.by]\ntype = \"prefix\"\ndefault = \"a\"\nchildren = { \"k:1\" = \"b\" }\n";
    let configs = [
        main("a") + &pool("a", &[(a, 1), (b, 1)], ""),
        main("a") + &pool("a", &[(a, 3), (b, 1)], ""),
        main("a") + &pool("a", &[(a, 1), (b, 1), (c, 1)], "") + &second + &pool("b", &[(d, 1)], ""),
        main("by") + &pool("a", &[(c, 1), (b, 1)], "") + &pool("b", &[(d, 1), (a, 1)], "") + prefix,
        main("a") + &pool("a", &[(a, 1), (b, 1)], "distribution = \"jump\""),
        main("b") + &pool("b", &[(d, 1), (a, 1)], "connections = 2"),
        main("a") + &pool("a", &[(a, 1), (b, 1)], "request_timeout = \"2s\""),
    ];
    let site = Site::start(&configs[0]);
    let load = Load::start(6, site.proxy.redis_address());
    let reload_all = |rounds: u64| {
        for _ in 0..rounds {
            for config in &configs {
                site.reload(config);
                load.await_more(200);
            }
        }
    };
    reload_all(2);
    let settled = (site.proxy.descriptors(), site.proxy.memory());
    reload_all(setting("EMBERLINE_RELOAD_ROUNDS", 5));
    let (descriptors, memory) = (site.proxy.descriptors(), site.proxy.memory());
    load.end();
    assert!(
        descriptors <= settled.0 + 8,
        "{descriptors} descriptors after {}",
        settled.0
    );
    assert!(
        memory <= settled.1 + (16 << 20),
        "{memory} bytes after {}",
        settled.1
    );
}

/// Another configuration each time: which pools there are, over which servers,
/// with which weights; what the listener leads to; a pool that was never there
/// before and never will be again.
fn weather(random: &mut Random, servers: &[Server], number: usize) -> String {
    let some = |name: &str, random: &mut Random| {
        let first = random.below(servers.len());
        let count = random.within(1, servers.len());
        let chosen = servers.iter().cycle().skip(first).take(count);
        let chosen: Vec<_> = chosen
            .map(|server| (server, random.within(1, 4) as u32))
            .collect();
        let more = *random.pick(&[
            "",
            "distribution = \"rendezvous\"",
            "connections = 2",
            "request_timeout = \"3s\"",
            "l1 = { mode = \"ttl\" }\nhotkey = { always = [\"k:1\", \"k:2\"] }",
        ]);
        pool(name, &chosen, more)
    };
    let fresh = format!("fresh-{number}");
    let pools = some("a", random) + &some("b", random) + &some(&fresh, random);
    let (route, routes) = match random.below(5) {
        0 => ("a", String::new()),
        1 => ("b", String::new()),
        2 => (
            "by",
            format!(
                "[routes.by]\ntype = \"prefix\"\ndefault = \"a\"\nchildren = {{ \"k:1\" = \"{fresh}\" }}\n"
            ),
        ),
        3 => (
            "by",
            "[routes.by]\ntype = \"failover\"\nchildren = [\"b\", \"a\"]\n".to_owned(),
        ),
        _ => (
            "all",
            "[routes.all]\ntype = \"replicas\"\nchildren = [\"a\", \"b\"]\n".to_owned(),
        ),
    };
    listener("main", "REDIS_BIND", &format!("route = \"{route}\"")) + &pools + &routes
}

/// `scripts/reload-storm` makes it a long one, and prints its figures.
#[test]
fn a_storm_of_reloads_fails_nothing() {
    let Some(servers) = Server::redis_many(4) else {
        return;
    };
    fill(&servers);
    let seconds = setting("EMBERLINE_STORM_SECONDS", 4);
    let mut random = Random::new(setting("EMBERLINE_STORM_SEED", 1));
    let site = Site::start(&weather(&mut random, &servers, 0));
    let load = Load::start(8, site.proxy.redis_address());
    let begin = Instant::now();
    let mut reloads = 0;
    let (mut settled, mut slowest) = (None, Duration::ZERO);
    while begin.elapsed() < Duration::from_secs(seconds) {
        let asked = Instant::now();
        site.reload(&weather(&mut random, &servers, reloads));
        slowest = slowest.max(asked.elapsed());
        reloads += 1;
        if begin.elapsed() > Duration::from_secs(seconds) / 4 {
            settled.get_or_insert((site.proxy.memory(), site.proxy.descriptors()));
        }
        std::thread::sleep(Duration::from_millis(100).saturating_sub(asked.elapsed()));
    }
    let (memory, descriptors) = (site.proxy.memory(), site.proxy.descriptors());
    let requests = load.asked.load(Ordering::Relaxed);
    load.end();
    let (memory_before, descriptors_before) = settled.unwrap();
    println!(
        "{reloads} reloads in {seconds} s, the slowest {slowest:.1?}; {requests} requests, none failed, \
         none wrong; after a quarter and at the end {memory_before} and {memory} bytes resident, \
         {descriptors_before} and {descriptors} descriptors"
    );
    assert!(memory < memory_before + (16 << 20));
    // How many connections there are depends on the last configuration.
    assert!(descriptors < descriptors_before + 48);
}

#[test]
fn the_log_says_what_is_different_and_how_many_keys_moved() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let [a, b] = &servers[..] else { return };
    let site = Site::start(&plain(&[(a, 1)], ""));
    let told = site.reload(&plain(&[(a, 1), (b, 1)], "request_timeout = \"3s\""));
    let address = b.address();
    assert!(
        told.starts_with(&format!(
            "pool a changed: server {address} added, timeouts; "
        )),
        "{told}"
    );
    let share = told.split("; ").nth(1).unwrap().split(' ').next().unwrap();
    let share: f64 = share.parse().unwrap();
    assert!((30.0..70.0).contains(&share), "{told}");
    let told = site.reload(&plain(&[(a, 1), (b, 1)], "request_timeout = \"3s\""));
    assert_eq!(told, "nothing is different\n");
    let more = pool("b", &[(a, 1)], "")
        + "[routes.r]\ntype = \"prefix\"\ndefault = \"a\"\nchildren = { \"x:\" = \"b\" }\n";
    let config = listener("main", "REDIS_BIND", "route = \"r\"");
    let told = site.reload(&(config + &pool("a", &[(a, 1), (b, 1)], "") + &more));
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "pool a changed: timeouts",
            "pool b added",
            "route r added",
            "listener main changed: route",
        ]
    );
    let told = site.reload(&("[proxy]\nworkers = 7\n".to_owned() + &plain(&[(a, 1), (b, 1)], "")));
    assert!(told.contains("pool b removed\n"), "{told}");
    assert!(told.contains("route r removed\n"), "{told}");
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_holds() {
    let Some(server) = Server::redis() else {
        return;
    };
    let site = Site::start(&plain(&[(&server, 1)], ""));
    let fixed = "[proxy]\nmemory_max = \"99MiB\"\n[l1]\ncapacity = \"3MiB\"\n";
    let told =
        site.reload(&(fixed.to_owned() + &plain(&[(&server, 1)], "request_timeout = \"7s\"")));
    assert!(
        told.contains("needs a restart: proxy.memory_max\n"),
        "{told}"
    );
    assert!(told.contains("needs a restart: l1.capacity\n"), "{told}");
    let (_, config) = site.ask("GET", "/config");
    assert!(config.contains("\"timeout_request_ms\":7000"), "{config}");
}

#[test]
fn a_bad_configuration_is_refused_whole() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    fill(&servers);
    let [a, b] = &servers[..] else { return };
    let good = plain(&[(a, 1)], "");
    let site = Site::start(&good);
    let load = Load::start(2, site.proxy.redis_address());
    let hash = site.metric("emberline_config_hash");
    assert!(hash > 0.0);

    let told = site.refuses(&plain(&[(b, 1)], "wieght = 3"));
    assert!(told.contains("emberline.toml:"), "{told}");
    assert!(told.contains("wieght"), "{told}");
    assert_eq!(site.metric("emberline_config_last_reload_successful"), 0.0);
    assert_eq!(site.metric("emberline_config_hash"), hash);

    // An address that is taken is found out before anything changes.
    let taken = listener("other", &b.address().to_string(), "route = \"a\"");
    let told = site.refuses(&(plain(&[(b, 1)], "") + &taken));
    assert!(told.starts_with("listener other cannot use"), "{told}");
    let (_, config) = site.ask("GET", "/config");
    assert!(!config.contains(&b.address().to_string()), "{config}");

    load.await_more(200);
    assert_eq!(site.reload(&good), "nothing is different\n");
    assert_eq!(site.metric("emberline_config_last_reload_successful"), 1.0);
    load.end();
}

#[test]
fn connections_stay_unless_their_terms_change() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    fill(&servers);
    let [a, b] = &servers[..] else { return };
    let site = Site::start(&plain(&[(a, 1)], ""));
    let mut client = site.proxy.client();
    let made = |site: &Site| {
        let mut probe = a.client();
        let info = probe.call(&["INFO", "stats"]);
        let info = String::from_utf8(info).unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        let _ = site;
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    batch(&mut client, 0);
    let before = made(&site);
    for config in [
        plain(&[(a, 1), (b, 1)], ""),
        plain(&[(a, 5), (b, 1)], "request_timeout = \"9s\""),
        plain(&[(a, 1)], "[pools.a.l1]\nmode = \"off\""),
    ] {
        site.reload(&config);
        batch(&mut client, 1);
    }
    // Each look is a connection of its own.
    assert_eq!(made(&site), before + 1);
    site.reload(&plain(&[(a, 1)], "database = 1"));
    assert_eq!(client.call(&["GET", "k:1"]), b"$-1\r\n");
    assert_eq!(made(&site), before + 3);
}

#[test]
fn requests_in_flight_over_a_retired_pool_are_answered() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    fill(&servers);
    let [a, b] = &servers[..] else { return };
    let slow = "request_timeout = \"15s\"";
    let site = Site::start(&plain(&[(a, 1)], slow));
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["GET", "k:0"]), bulk(0));
    a.freeze();
    client.send(&command(&["GET", "k:1"]));
    let mut other = site.proxy.client();
    assert_eq!(other.call(&["PING"]), b"+PONG\r\n");
    std::thread::sleep(Duration::from_millis(50));
    let main = listener("main", "REDIS_BIND", "route = \"b\"");
    site.reload(&(main + &pool("b", &[(b, 1)], "")));
    // The pool is not there any more, and others do not wait for it.
    assert_eq!(other.call(&["GET", "k:2"]), bulk(2));
    // What is asked behind what is in flight is not answered before it.
    client.send(&command(&["GET", "k:3"]));
    a.thaw();
    assert_eq!(client.reply(), bulk(1));
    assert_eq!(client.reply(), bulk(3));
}

fn bulk(key: usize) -> Vec<u8> {
    let value = value(key);
    format!("${}\r\n{value}\r\n", value.len()).into_bytes()
}

#[test]
fn a_password_holds_from_the_next_request_on() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(std::slice::from_ref(&server));
    let with = |more: &str| {
        let main = listener("main", "REDIS_BIND", &format!("route = \"a\"\n{more}"));
        main + &pool("a", &[(&server, 1)], "")
    };
    let site = Site::start(&with(""));
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["GET", "k:1"]), bulk(1));
    let told = site.reload(&with("password = \"secret\""));
    assert!(
        told.ends_with("listener main changed: password\n"),
        "{told}"
    );
    assert!(client.call(&["GET", "k:1"]).starts_with(b"-NOAUTH"));
    assert_eq!(client.call(&["AUTH", "secret"]), b"+OK\r\n");
    assert_eq!(client.call(&["GET", "k:1"]), bulk(1));
    site.reload(&with("password = \"secret\"\ndeny = [\"get\"]"));
    assert!(client.call(&["GET", "k:1"]).starts_with(b"-"));
    site.reload(&with(""));
    assert_eq!(client.call(&["GET", "k:1"]), bulk(1));
}

#[test]
fn listeners_come_and_go() {
    let Some(server) = Server::redis() else {
        return;
    };
    fill(std::slice::from_ref(&server));
    let second = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let one = plain(&[(&server, 1)], "");
    let two = one.clone() + &listener("second", &second.to_string(), "route = \"a\"");
    let site = Site::start(&one);
    assert!(TcpStream::connect(second).is_err());
    assert_eq!(site.reload(&two), "listener second added\n");
    let mut client = Client::connect(second);
    assert_eq!(client.call(&["GET", "k:1"]), bulk(1));
    server.freeze();
    client.send(&command(&["GET", "k:2"]));
    let mut idle = Client::connect(second);
    assert_eq!(idle.call(&["PING"]), b"+PONG\r\n");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(site.reload(&one), "listener second removed\n");
    // An idle client is let go at once, the other when it has its answer.
    assert_eq!(idle.rest(), b"");
    server.thaw();
    assert_eq!(client.reply(), bulk(2));
    assert_eq!(client.rest(), b"");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(second).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
        std::thread::sleep(Duration::from_millis(5));
    }
    site.reload(&two);
    let mut client = Client::connect(second);
    assert_eq!(client.call(&["GET", "k:3"]), bulk(3));
}

#[test]
fn an_in_process_pool_keeps_its_keys() {
    let local = |more: &str| {
        let main = listener("main", "REDIS_BIND", "route = \"a\"");
        main + &format!("[pools.a]\nprotocol = \"redis\"\nkind = \"local\"\n{more}\n")
    };
    let site = Site::start(&local(""));
    let mut client = site.proxy.client();
    assert_eq!(client.call(&["SET", "x", "1"]), b"+OK\r\n");
    site.reload(&(local("") + "[pools.b]\nprotocol = \"redis\"\nkind = \"local\"\n"));
    assert_eq!(client.call(&["GET", "x"]), b"$1\r\n1\r\n");
    let told = site.reload(&local("capacity = \"5MiB\""));
    assert!(
        told.contains("pool a changed: capacity (its keys are gone)\n"),
        "{told}"
    );
    assert_eq!(client.call(&["GET", "x"]), b"$-1\r\n");
}

#[test]
fn memory_forgets_what_another_server_said() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let [a, b] = &servers[..] else { return };
    for (server, value) in [(a, "old"), (b, "new")] {
        assert_eq!(server.client().call(&["SET", "hot", value]), b"+OK\r\n");
    }
    let heat = "[pools.a.hotkey]\nalways = [\"hot\"]\n[pools.a.l1]\nmode = \"ttl\"\nttl = \"60s\"";
    let site = Site::start(&plain(&[(a, 1)], heat));
    let mut client = site.proxy.client();
    let hits = || {
        let (_, text) = site.ask("GET", "/hotkeys");
        let at = text.find("\"hits\":").unwrap() + 7;
        let digits: String = text[at..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse::<u64>().unwrap()
    };
    for (server, expected) in [
        (b, "$3\r\nnew\r\n"),
        (a, "$3\r\nold\r\n"),
        (b, "$3\r\nnew\r\n"),
    ] {
        let (before, deadline) = (hits(), Instant::now() + PATIENCE);
        while hits() == before {
            client.call(&["GET", "hot"]);
            assert!(Instant::now() < deadline, "memory answers nothing");
        }
        site.reload(&plain(&[(server, 1)], heat));
        for _ in 0..50 {
            let got = client.call(&["GET", "hot"]);
            assert_eq!(support::show(&got), support::show(expected.as_bytes()));
        }
    }
}

#[test]
fn a_config_map_is_followed_through_its_symlink() {
    let Some(server) = Server::redis() else {
        return;
    };
    let site = Site::start(&plain(&[(&server, 1)], ""));
    let file = site.proxy.file();
    let dir = file.parent().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    for (name, timeout) in [("one", 3), ("two", 4)] {
        std::fs::create_dir(dir.join(name)).unwrap();
        let text = format!("{text}request_timeout = \"{timeout}s\"\n");
        std::fs::write(dir.join(name).join("emberline.toml"), text).unwrap();
    }
    let point = |name: &str| {
        let _ = std::fs::remove_file(dir.join("..tmp"));
        std::os::unix::fs::symlink(name, dir.join("..tmp")).unwrap();
        std::fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
    };
    point("one");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("..data/emberline.toml", &file).unwrap();
    let is = |timeout: u64| {
        let (_, config) = site.ask("GET", "/config");
        config.contains(&format!("\"timeout_request_ms\":{timeout}000"))
    };
    let wait = |timeout: u64| {
        let deadline = Instant::now() + PATIENCE;
        while !is(timeout) {
            assert!(Instant::now() < deadline, "it is not seen");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait(3);
    point("two");
    wait(4);
    point("one");
    site.proxy.signal("HUP");
    wait(3);
    // Seen once, refused once, and looked at again when it is different.
    std::fs::write(dir.join("one/emberline.toml"), "nonsense").unwrap();
    site.await_metric("emberline_config_last_reload_successful", |is| is == 0.0);
    assert!(is(3));
    point("two");
    wait(4);
    site.await_metric("emberline_config_last_reload_successful", |is| is == 1.0);
}

#[test]
fn the_command_says_how_it_went() {
    let Some(server) = Server::redis() else {
        return;
    };
    let good = plain(&[(&server, 1)], "");
    let site = Site::start(&good);
    let run = |admin: SocketAddr| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
        let output = command
            .args(["reload", "--admin", &admin.to_string()])
            .output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said, complained)
    };
    assert_eq!(
        run(site.admin),
        (0, "nothing is different\n".to_owned(), String::new())
    );
    site.proxy.rewrite("[pools]\nx = 1\n");
    let (code, said, complained) = run(site.admin);
    assert_eq!((code, &*said), (78, ""));
    assert!(
        complained.contains("[pools.x] is an integer, expected a table"),
        "{complained}"
    );
    assert!(
        complained.ends_with("refused: the old configuration goes on\n"),
        "{complained}"
    );
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    assert_eq!(run(nobody).0, 1);
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (memcached, admin_text) = (free_port(), admin.to_string());
    let args = [
        "--redis-bind",
        &bind.to_string(),
        "--memcached-bind",
        &format!("127.0.0.1:{memcached}"),
        "--admin-bind",
        &admin_text,
    ];
    let mut proxy = Emberline::spawn(&args.map(str::to_owned));
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(admin).is_err() || TcpStream::connect(bind).is_err() {
        assert!(Instant::now() < deadline, "it does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    proxy.signal("HUP");
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
    let output = command
        .args(["reload", "--admin", &admin_text])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let complained = String::from_utf8(output.stderr).unwrap();
    assert!(
        complained.contains("without a configuration file (-c FILE)"),
        "{complained}"
    );
    proxy.assert_alive();
    assert_eq!(Client::connect(bind).call(&["PING"]), b"+PONG\r\n");
}
