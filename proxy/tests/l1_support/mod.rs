//! The L1 and its thread without workers: a test promotes keys, asks for them
//! as a worker would, and looks at what may be served.
//!
//! ```text
//!   let Some(redis) = Server::redis() else { return };
//!   let l1 = Bench::new(redis.address(), |pool| pool.l1.mode = Mode::Tracking);
//!   let key = l1.promote(b"k");
//!   l1.fill(&key);
//!   assert!(l1.serves(&key).is_some());
//! ```

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used)]

pub mod house;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use emberline::config::{self, Environment, Source};
use emberline::l1::{self, Ask, Filled, L1, Landed, LinkState};
use emberline::metrics::{Event, Meter};
use emberline::running::{Pool, Running};
use emberline_hotkey::{HotKey, Item, Value};
use emberline_routing::ServerId;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An L1 with its thread before the servers of one pool.
pub struct Bench {
    pub l1: Arc<L1>,
    pub meter: Arc<Meter>,
    landed: Receiver<(usize, Landed)>,
}

impl Bench {
    /// Before one Redis server. `set` changes the pool's settings.
    pub fn new(server: SocketAddr, set: impl FnOnce(&mut Pool)) -> Bench {
        Bench::start("redis", &[server], set)
    }

    /// Before these servers.
    pub fn start(protocol: &str, servers: &[SocketAddr], set: impl FnOnce(&mut Pool)) -> Bench {
        let mut running = running(protocol, servers);
        set(&mut running.pools[0]);
        let running = Arc::new(running);
        let (l1, asked) = L1::new(&running);
        let meter = Arc::new(Meter::new(&running));
        let (sender, landed) = channel();
        let tell = move |worker, landed| {
            let _ = sender.send((worker, landed));
        };
        l1::spawn(running, Arc::clone(&l1), Arc::clone(&meter), asked, tell).unwrap();
        Bench { l1, meter, landed }
    }

    /// Promote a key.
    pub fn promote(&self, key: impl AsRef<[u8]>) -> Arc<HotKey> {
        let hash = self.l1.hasher.hash_in(0, key.as_ref());
        self.l1.board.promote(hash, 0, key.as_ref());
        Arc::clone(self.l1.board.set().get(hash).unwrap())
    }

    /// Ask for a key's value on behalf of a worker.
    pub fn ask(&self, key: &Arc<HotKey>, worker: Option<usize>) {
        self.l1.ask(Ask::Fill {
            key: Arc::clone(key),
            token: key.begin(self.l1.now()).expect("it may be filled"),
            server: ServerId(0),
            worker,
        });
    }

    /// The next answer.
    #[track_caller]
    pub fn landed(&self) -> (usize, Landed) {
        self.landed.recv_timeout(PATIENCE).expect("an answer comes")
    }

    /// Whether no answer is waiting to be looked at.
    pub fn is_quiet(&self) -> bool {
        matches!(
            self.landed.recv_timeout(Duration::ZERO),
            Err(RecvTimeoutError::Timeout)
        )
    }

    /// Ask as worker 0 and take the answer.
    #[track_caller]
    pub fn fetch(&self, key: &Arc<HotKey>) -> Filled {
        self.ask(key, Some(0));
        let (worker, landed) = self.landed();
        assert_eq!((worker, landed.hash), (0, key.hash));
        landed.filled
    }

    /// The same until it brings a value; fails if that does not come.
    #[track_caller]
    pub fn fill(&self, key: &Arc<HotKey>) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.fetch(key) {
                Filled::Item(item) => return item.value.clone(),
                other => assert!(Instant::now() < deadline, "still {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The same until what it brought is served.
    #[track_caller]
    pub fn settle(&self, key: &Arc<HotKey>) -> Value {
        let mut served = None;
        self.until("a fill to hold", || {
            self.fill(key);
            served = self.serves(key);
            served.is_some()
        });
        served.unwrap()
    }

    /// What would be answered from memory just now.
    pub fn serves(&self, key: &Arc<HotKey>) -> Option<Value> {
        self.look(key, |item| item.value.clone())
    }

    /// Something of the item that would be served just now.
    pub fn look<T>(&self, key: &Arc<HotKey>, look: impl FnOnce(&Item) -> T) -> Option<T> {
        let item = self.l1.store.get(key.hash)?;
        let pulse = self.l1.pulse(item.server).unwrap();
        item.is_fresh(key, pulse, self.l1.now())
            .then(|| look(&item))
    }

    /// Wait until this is so.
    #[track_caller]
    pub fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so() {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; the link is {:?}",
                self.state()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How the link to the first server is.
    pub fn state(&self) -> LinkState {
        self.l1.links.state(ServerId(0))
    }

    /// How often this happened.
    pub fn events(&self, event: Event) -> u64 {
        self.meter.events(0, event)
    }
}

/// A value as the L1 keeps it.
pub fn text(value: &str) -> Value {
    Value::Redis(
        format!("${}\r\n{value}\r\n", value.len())
            .into_bytes()
            .into(),
    )
}

fn running(protocol: &str, servers: &[SocketAddr]) -> Running {
    let servers: Vec<String> = servers.iter().map(|at| format!("\"{at}\"")).collect();
    let toml = format!(
        "[listeners.l]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:0\"\nroute = \"p\"\n\
         [pools.p]\nprotocol = \"{protocol}\"\nservers = [{}]\n\
         connect_timeout = \"5s\"\nrequest_timeout = \"5s\"\n",
        servers.join(", ")
    );
    let source = Source::new("test", &toml);
    let environment = Environment {
        variable: &|_| None,
        directory: None,
        cpus: 2,
        files: Arc::default(),
    };
    let (running, report) = config::load(&source, &environment);
    running.unwrap_or_else(|| panic!("{}", report.render(&source)))
}
