//! The L1 with its thread and without workers: tests ask for fills as workers
//! do and see what lands.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use emberline::config::{self, Environment, Source};
use emberline::l1::{self, Ask, Filled, L1, Landed};
use emberline::metrics::{Event, Meter};
use emberline::running::{Mode, Running};
use emberline_hotkey::{Held, HotKey, Token};
use emberline_routing::ServerId;

/// How long something may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One process's L1 before the servers of one pool, `pool`.
pub struct House {
    pub running: Arc<Running>,
    pub l1: Arc<L1>,
    pub meter: Arc<Meter>,
    landed: Receiver<(usize, Landed)>,
}

impl House {
    /// In `ttl` mode with long times, changed by `edit`.
    pub fn memcached(at: SocketAddr, edit: impl FnOnce(&mut Running)) -> House {
        House::start("memcached", at, edit)
    }

    /// The same before Redis.
    pub fn redis(at: SocketAddr, edit: impl FnOnce(&mut Running)) -> House {
        House::start("redis", at, edit)
    }

    fn start(protocol: &str, at: SocketAddr, edit: impl FnOnce(&mut Running)) -> House {
        let text = format!(
            "listeners.l = {{ protocol = \"{protocol}\", bind = \"127.0.0.1:0\", route = \"pool\" }}\n\
             [pools.pool]\nprotocol = \"{protocol}\"\nservers = [\"{at}\"]\nrequest_timeout = \"10s\"\n"
        );
        let source = Source::new("test", &text);
        let environment = Environment {
            variable: &|_| None,
            directory: None,
            cpus: 1,
            files: Arc::default(),
        };
        let (running, report) = config::load(&source, &environment);
        let mut running = running.unwrap_or_else(|| panic!("{}", report.render(&source)));
        running.pools[0].l1.mode = Mode::Ttl;
        running.pools[0].l1.ttl = Duration::from_secs(3600);
        running.l1_capacity = 64 << 20;
        edit(&mut running);

        let running = Arc::new(running);
        let meter = Arc::new(Meter::new(&running));
        let (l1, asked) = L1::new(&running);
        let (tell, landed) = channel();
        l1::spawn(
            Arc::clone(&running),
            Arc::clone(&l1),
            Arc::clone(&meter),
            asked,
            move |worker, filled| {
                let _ = tell.send((worker, filled));
            },
        )
        .unwrap();
        House {
            running,
            l1,
            meter,
            landed,
        }
    }

    /// A key that is hot from here on.
    pub fn promote(&self, key: impl AsRef<[u8]>) -> Arc<HotKey> {
        let hash = self.l1.hasher.hash_in(0, key.as_ref());
        self.l1.board.promote(hash, 0, key.as_ref());
        Arc::clone(self.l1.board.set().get(hash).unwrap())
    }

    /// Ask for a key's value as worker `worker`.
    pub fn ask(&self, key: &Arc<HotKey>, worker: usize) -> Token {
        let token = key.begin(self.l1.now()).unwrap();
        self.ask_with(key, token, worker);
        token
    }

    pub fn ask_with(&self, key: &Arc<HotKey>, token: Token, worker: usize) {
        self.l1.ask(Ask::Fill {
            key: Arc::clone(key),
            token,
            server: ServerId(0),
            worker: Some(worker),
        });
    }

    /// The next answer.
    pub fn landed(&self) -> (usize, Landed) {
        self.landed.recv_timeout(PATIENCE).expect("a fill lands")
    }

    /// Whether nothing lands for this long.
    pub fn is_silent(&self, time: Duration) -> bool {
        self.landed.recv_timeout(time).is_err()
    }

    /// Ask for a key's value and wait for the answer.
    pub fn fill(&self, key: impl AsRef<[u8]>) -> Filled {
        let key = self.promote(key);
        let token = self.ask(&key, 0);
        let (worker, landed) = self.landed();
        assert_eq!((worker, landed.hash, landed.token), (0, key.hash, token));
        landed.filled
    }

    /// The same when it must be an item.
    pub fn item(&self, key: impl AsRef<[u8]>) -> Arc<Held> {
        item(self.fill(key))
    }

    /// The same when it must be unfit.
    pub fn unfit(&self, key: impl AsRef<[u8]>) {
        let filled = self.fill(key);
        assert!(is_unfit(&filled), "{filled:?}");
    }

    pub fn events(&self, event: Event) -> u64 {
        self.meter.events(0, event)
    }

    pub fn epoch(&self) -> u64 {
        self.l1.pulse(0).unwrap().epoch()
    }
}

pub fn item(filled: Filled) -> Arc<Held> {
    match filled {
        Filled::Item(item) => item,
        other => panic!("it is {other:?}"),
    }
}

/// Whatever else it says of the key.
pub fn is_unfit(filled: &Filled) -> bool {
    format!("{filled:?}").starts_with("Unfit")
}

/// Try until it is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to pass: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
