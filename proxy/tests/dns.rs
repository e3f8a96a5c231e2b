//! Names that lead elsewhere while clients are served: real servers on several
//! loopback addresses, all with the same port, and a scripted nameserver.
//!
//! Every server holds the number of its address under every key, so a reply
//! tells who answered.

#![allow(clippy::unwrap_used)]

mod dns_support;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dns_support::{Nameserver, Says, alias, host, service};
use hickory_proto::op::ResponseCode;
use support::{Client, Emberline, Server, TempDir, eventually, free_port, http};

const KEYS: usize = 64;

/// How long something may take that is not waited for in vain.
const PATIENCE: Duration = Duration::from_secs(30);

/// FNV hashes keys alike that differ at their ends alone.
fn name(key: usize) -> String {
    format!("{}:key", key * 2_654_435_761)
}

/// Servers on 127.0.0.1, 127.0.0.2 ..., all with one port.
fn servers(count: u8) -> Option<Vec<Server>> {
    let port = free_port();
    let servers = (1..=count).map(|number| {
        let server = Server::redis_at(([127, 0, 0, number], port).into())?;
        let mut client = server.client();
        for key in 0..KEYS {
            let text = number.to_string();
            let reply = client.call(&["SET", &name(key), &text]);
            assert_eq!(reply, b"+OK\r\n");
        }
        Some(server)
    });
    servers.collect()
}

/// A proxy, its admin API, and whom it asks for names.
struct Site {
    proxy: Emberline,
    admin: SocketAddr,
    nameserver: Nameserver,
}

fn config(nameserver: &Nameserver, pool: &str) -> String {
    let at = nameserver.address();
    format!(
        "[dns]\nservers = [\"{at}\"]\nttl_min = \"100ms\"\nttl_max = \"200ms\"\n\
         [listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"a\"\n\
         [pools.a]\nprotocol = \"redis\"\n{pool}\n"
    )
}

impl Site {
    fn start(nameserver: Nameserver, pool: &str) -> Site {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = config(&nameserver, pool);
        let more = ["--admin-bind", &admin.to_string()];
        Site {
            proxy: Emberline::config_with(&text, &more),
            admin,
            nameserver,
        }
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        http(self.admin, method, path)
    }

    /// The sum of a family's series whose labels contain this.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, text) = self.ask("GET", "/metrics");
        let lines = text.lines().filter(|line| line.starts_with(name));
        let lines = lines.filter(|line| line.contains(label));
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        lines.map(value).sum()
    }

    /// Who answers for each key; 0 is nobody.
    fn owners(&self) -> Vec<u8> {
        let mut client = self.proxy.client();
        let owner = |key| match client.call(&["GET", &name(key)]) {
            reply if reply.starts_with(b"$1\r\n") => reply[4] - b'0',
            _ => 0,
        };
        (0..KEYS).map(owner).collect()
    }

    /// Wait until exactly these answer, between them, for all keys.
    #[track_caller]
    fn await_owners(&self, wanted: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let owners = self.owners();
            let mut all = owners.clone();
            all.sort_unstable();
            all.dedup();
            if all == wanted {
                return owners;
            }
            assert!(Instant::now() < deadline, "{all:?} answer, not {wanted:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Let so many more lookups fail.
    #[track_caller]
    fn await_failures(&self, count: f64) {
        let failures = || self.metric("emberline_dns_lookups_total", "error");
        let (before, deadline) = (failures(), Instant::now() + PATIENCE);
        while failures() < before + count {
            assert!(Instant::now() < deadline, "no lookup fails");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Clients that never get anything but a value.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(site: &Site) -> Load {
        let address = site.proxy.client_address();
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = (0..4).map(|number| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for round in number.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let reply = client.call(&["GET", &name(round * 7 % KEYS)]);
                    assert!(reply.starts_with(b"$1\r\n"), "{}", support::show(&reply));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Load {
            threads: threads.collect(),
            stop,
            asked,
        }
    }

    fn await_more(&self, count: u64) {
        let asked = || self.asked.load(Ordering::Relaxed);
        let (start, deadline) = (asked(), Instant::now() + PATIENCE);
        while asked() < start + count {
            assert!(Instant::now() < deadline, "the load has come to a stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Every reply was a value.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn first(names: &[&str], port: u16) -> String {
    let names: Vec<_> = names
        .iter()
        .map(|name| format!("\"{name}:{port}\""))
        .collect();
    format!("servers = [{}]", names.join(", "))
}

fn expand(name: &str, port: u16) -> String {
    format!("servers = [\"{name}:{port}\"]\ndns = \"expand\"")
}

#[test]
fn a_name_moves_and_its_keys_move_with_it() {
    let Some(servers) = servers(3) else { return };
    let nameserver = Nameserver::start();
    nameserver.say("a.test", host(&["127.0.0.1"]));
    nameserver.say("b.test", host(&["127.0.0.2"]));
    let pool = first(&["a.test", "b.test"], servers[0].port());
    let site = Site::start(nameserver, &pool);
    let before = site.await_owners(&[1, 2]);
    let load = Load::start(&site);
    load.await_more(1000);
    site.nameserver.say("a.test", host(&["127.0.0.3"]));
    let after = site.await_owners(&[2, 3]);
    let moved: Vec<u8> = before
        .iter()
        .map(|&one| if one == 1 { 3 } else { 2 })
        .collect();
    assert_eq!(after, moved);
    for round in 0..20_u8 {
        let number = [1, 3][usize::from(round % 2)];
        site.nameserver
            .say("a.test", host(&[&format!("127.0.0.{number}")]));
        site.await_owners(if number == 1 { &[1, 2] } else { &[2, 3] });
        load.await_more(100);
    }
    load.end();
}

#[test]
fn more_addresses_behind_the_one_in_use_change_nothing() {
    let Some(mut servers) = servers(3) else {
        return;
    };
    let nameserver = Nameserver::start();
    nameserver.say("a.test", host(&["127.0.0.2"]));
    let site = Site::start(nameserver, &first(&["a.test"], servers[0].port()));
    site.await_owners(&[2]);
    let connects = || site.metric("emberline_upstream_connects_total", "ok");
    let load = Load::start(&site);
    load.await_more(1000);
    let before = connects();
    for addresses in [
        &["127.0.0.1", "127.0.0.2"][..],
        &["127.0.0.2", "127.0.0.3", "127.0.0.1"],
        &["127.0.0.2", "127.0.0.3"],
    ] {
        site.nameserver.say("a.test", host(addresses));
        let asked = site.nameserver.asked();
        let deadline = Instant::now() + PATIENCE;
        while site.nameserver.asked() < asked + 6 {
            assert!(Instant::now() < deadline, "nobody asks");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(site.owners(), [2; KEYS]);
    }
    assert_eq!(connects(), before);
    load.end();
    // The next one is tried when the first is not there.
    servers[1].kill();
    site.await_owners(&[3]);
}

#[test]
fn a_name_grows_and_shrinks_under_load() {
    let Some(servers) = servers(3) else { return };
    let nameserver = Nameserver::start();
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    nameserver.say("cache.test", host(&addresses[..2]));
    let site = Site::start(nameserver, &expand("cache.test", servers[0].port()));
    let two = site.await_owners(&[1, 2]);
    let load = Load::start(&site);
    for _ in 0..5 {
        load.await_more(500);
        site.nameserver.say("cache.test", host(&addresses));
        let three = site.await_owners(&[1, 2, 3]);
        let strays = two
            .iter()
            .zip(&three)
            .filter(|(was, is)| was != is && **is != 3);
        assert_eq!(strays.count(), 0, "keys move to the new server alone");
        load.await_more(500);
        site.nameserver.say("cache.test", host(&addresses[..2]));
        assert_eq!(site.await_owners(&[1, 2]), two);
    }
    load.end();
}

#[test]
fn a_service_is_a_server_for_each_target() {
    let Some(servers) = servers(3) else { return };
    let nameserver = Nameserver::start();
    let port = servers[0].port();
    let targets = [(5, "r-0.test"), (5, "r-1.test"), (9, "r-2.test")];
    nameserver.say("_redis._tcp.cache.test", service(&targets, port));
    for (number, name) in [(1, "r-0.test"), (2, "r-1.test"), (3, "r-2.test")] {
        nameserver.say(name, host(&[&format!("127.0.0.{number}")]));
    }
    let pool = "servers = [\"_redis._tcp.cache.test\"]\ndns = \"expand\"";
    let site = Site::start(nameserver, pool);
    let before = site.await_owners(&[1, 2]);
    let (_, pools) = site.ask("GET", "/pools");
    assert!(pools.contains(&format!("\"r-0.test:{port}\"")), "{pools}");
    let load = Load::start(&site);
    load.await_more(500);
    // A pod comes back with another address: its name, and its keys, stay.
    site.nameserver.say("r-1.test", host(&["127.0.0.3"]));
    let after = site.await_owners(&[1, 3]);
    let moved: Vec<u8> = before
        .iter()
        .map(|&one| if one == 2 { 3 } else { 1 })
        .collect();
    assert_eq!(after, moved);
    // One more.
    site.nameserver.say("r-2.test", host(&["127.0.0.2"]));
    let targets = [(0, "r-0.test"), (0, "r-1.test"), (0, "r-2.test")];
    site.nameserver
        .say("_redis._tcp.cache.test", service(&targets, port));
    site.await_owners(&[1, 2, 3]);
    load.end();
}

#[test]
fn the_last_good_answer_is_kept_whatever_is_said_later() {
    let Some(servers) = servers(2) else { return };
    let nameserver = Nameserver::start();
    nameserver.say("a.test", host(&["127.0.0.1"]));
    let site = Site::start(nameserver, &expand("a.test", servers[0].port()));
    site.await_owners(&[1]);
    let load = Load::start(&site);
    let huge: Vec<String> = (0..2000)
        .map(|at| format!("10.0.{}.{}", at / 250, at % 250))
        .collect();
    let huge: Vec<&str> = huge.iter().map(String::as_str).collect();
    for says in [
        Says::Code(ResponseCode::ServFail),
        Says::Code(ResponseCode::NXDomain),
        Says::Code(ResponseCode::Refused),
        host(&[]),
        host(&huge),
        alias("a.test"),
        Says::Bytes(Vec::new()),
        Says::Bytes(vec![0xff; 300]),
        Says::Bytes(b"\x81\x80\0\x01\xff\xff\0\0\0\0\xc0\x0c\0\x01\0\x01".to_vec()),
        Says::Silence,
    ] {
        println!("{says:.60?}");
        site.nameserver.say("a.test", says);
        site.await_failures(2.0);
        load.await_more(100);
        assert_eq!(site.owners(), [1; KEYS]);
    }
    site.nameserver.say("a.test", host(&["127.0.0.2"]));
    site.await_owners(&[2]);
    load.end();
}

#[test]
fn aliases_that_go_round_or_on_forever_are_failures() {
    let Some(servers) = servers(1) else { return };
    let nameserver = Nameserver::start();
    nameserver.say("a.test", alias("b.test"));
    nameserver.say("b.test", alias("a.test"));
    for at in 0..40 {
        nameserver.say(&format!("c{at}.test"), alias(&format!("c{}.test", at + 1)));
    }
    nameserver.say("d.test", alias("good.test"));
    nameserver.say("good.test", host(&["127.0.0.1"]));
    let pool = first(&["a.test", "c0.test", "d.test"], servers[0].port());
    let site = Site::start(nameserver, &pool);
    site.await_owners(&[0, 1]);
    site.await_failures(4.0);
    assert_eq!(site.metric("emberline_dns_unresolved", ""), 2.0);
    site.await_owners(&[0, 1]);
}

#[test]
fn it_starts_with_a_name_that_nobody_knows() {
    let Some(servers) = servers(1) else { return };
    for pool in [
        first(&["a.test"], servers[0].port()),
        expand("a.test", servers[0].port()),
    ] {
        let site = Site::start(Nameserver::start(), &pool);
        eventually("it is ready", || site.ask("GET", "/readyz").0 == 200);
        let mut client = site.proxy.client();
        let reply = client.call(&["GET", "key"]);
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let expected = "has not been resolved: there is no such name";
        assert!(
            reply.starts_with('-') && reply.contains(expected),
            "{reply}"
        );
        assert_eq!(site.metric("emberline_dns_unresolved", ""), 1.0);
        site.nameserver.say("a.test", host(&["127.0.0.1"]));
        site.await_owners(&[1]);
        assert_eq!(site.metric("emberline_dns_unresolved", ""), 0.0);
    }
}

#[test]
fn it_starts_while_the_nameserver_is_silent() {
    let Some(servers) = servers(1) else { return };
    let nameserver = Nameserver::start();
    nameserver.say("a.test", Says::Silence);
    let site = Site::start(nameserver, &first(&["a.test"], servers[0].port()));
    eventually("it is ready", || site.ask("GET", "/readyz").0 == 200);
    site.await_owners(&[0]);
    site.nameserver.say("a.test", host(&["127.0.0.1"]));
    site.await_owners(&[1]);
}

#[test]
fn a_file_that_was_refused_keeps_no_name_from_being_followed() {
    let Some(servers) = servers(3) else { return };
    let nameserver = Nameserver::start();
    let port = servers[0].port();
    nameserver.say("a.test", host(&["127.0.0.1"]));
    nameserver.say("b.test", host(&["127.0.0.3"]));
    let site = Site::start(nameserver, &first(&["a.test"], port));
    site.await_owners(&[1]);
    site.proxy.rewrite("nonsense");
    assert_eq!(site.ask("POST", "/reload").0, 422);
    site.nameserver.say("a.test", host(&["127.0.0.2"]));
    site.await_owners(&[2]);
    // A new name is looked up before anybody is sent there.
    let load = Load::start(&site);
    let text = config(&site.nameserver, &first(&["a.test", "b.test"], port));
    site.proxy.rewrite(&text);
    let (status, body) = site.ask("POST", "/reload");
    assert_eq!(status, 200, "{body}");
    site.await_owners(&[2, 3]);
    load.end();
    let (status, body) = site.ask("POST", "/reload");
    assert_eq!((status, body.trim()), (200, "nothing is different"));
}

/// The text that runs is built with what was in its files when it was loaded.
#[test]
fn a_file_that_is_gone_keeps_no_name_from_being_followed() {
    let Some(servers) = servers(2) else { return };
    let nameserver = Nameserver::start();
    nameserver.say("a.test", host(&["127.0.0.1"]));
    let dir = TempDir::new();
    let secret = dir.path().join("password");
    std::fs::write(&secret, "unused").unwrap();
    let shown = secret.display();
    let unused = format!(
        "[pools.unused]\nprotocol = 'redis'\nservers = ['127.0.0.1:1']\npassword_file = '{shown}'"
    );
    let pool = first(&["a.test"], servers[0].port()) + "\n" + &unused;
    let site = Site::start(nameserver, &pool);
    site.await_owners(&[1]);
    std::fs::remove_file(&secret).unwrap();
    let refused = || site.metric("emberline_config_last_reload_successful", "") == 0.0;
    eventually("the file is missed", refused);
    site.nameserver.say("a.test", host(&["127.0.0.2"]));
    site.await_owners(&[2]);
    assert!(refused());
}

#[test]
fn a_name_of_the_hosts_file_needs_no_nameserver() {
    let Some(servers) = servers(1) else { return };
    let site = Site::start(
        Nameserver::start(),
        &first(&["localhost"], servers[0].port()),
    );
    site.await_owners(&[1]);
    assert_eq!(site.nameserver.asked(), 0);
}
