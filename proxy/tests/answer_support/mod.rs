//! A configuration to answer under, and real servers to compare with.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use emberline::answer::{Context, Figures};
use emberline::metrics::hotkeys::{Hot, PerSecond, State};
use emberline::running::{
    Bind, HealthSettings, Hotkey, L1, Listener, Partial, Pool, Protocol, Proxy, Running, Secret,
    Slots, Visibility,
};
use emberline_hotkey::{Bounds, Counts, KeyHash};
use emberline_routing::{PoolId, Route, Router};

/// The time that every test gives as now: 2023-11-14T22:13:20Z.
pub const NOW: u64 = 1_700_000_000_000;

/// A proxy with one listener and no pools; answers need no more.
pub fn running(protocol: Protocol, password: Option<&str>) -> Running {
    Running {
        route_states: 0,
        proxy: Proxy {
            workers: 2,
            clients_max: 10_000,
            memory_max: 64 << 20,
            timeout_head: Duration::from_secs(10),
            timeout_drain: Duration::from_secs(10),
        },
        listeners: std::iter::once(Listener {
            name: "main".into(),
            protocol,
            bind: Bind::Tcp(([127, 0, 0, 1], 7379).into()),
            router: Router::new(Route::Local(PoolId(0))),
            password: password.map(|text| Secret::new(text.into())),
            tls: None,
            allow: Vec::new(),
            deny: Vec::new(),
            value_max: 1 << 20,
        })
        .collect(),
        pools: Slots::default(),
        servers: Slots::default(),
        routes: Vec::new(),
        rings: Vec::new(),
        admin: None,
        status: None,
        l1_capacity: 1 << 20,
        preload: None,
        visibility: Visibility::Hash,
        bus: None,
        dns: Default::default(),
    }
}

/// Figures that a test can recognise.
pub fn figures() -> Figures {
    Figures {
        started: NOW - 3_600_000,
        clients: 3,
        connections: 17,
        requests: 1234,
        gets: 5,
        ..Figures::default()
    }
}

/// The context of the one listener.
pub fn context(running: &Running) -> Context<'_> {
    Context {
        running,
        listener: &running.listeners[0],
        now: NOW,
        figures: &figures,
        hotkeys: &hotkeys,
    }
}

/// A pool whose keys are counted, to be put into `Running::pools`.
#[allow(dead_code, reason = "each test binary uses a part of it")]
pub fn pool(protocol: Protocol) -> Pool {
    Pool {
        name: "cache".into(),
        protocol,
        local: None,
        delete_log: None,
        servers: Vec::new(),
        timeout_connect: Duration::from_millis(250),
        timeout_request: Duration::from_secs(1),
        connections: 1,
        inflight_max: 1024,
        health: HealthSettings::default(),
        partial: Partial::Error,
        username: None,
        password: None,
        tls: None,
        database: 0,
        value_max: 1 << 20,
        hotkey: Hotkey::default(),
        l1: L1::default(),
    }
}

/// Two hot keys: the first has more requests, the second more bytes.
pub fn hotkeys() -> Vec<Hot> {
    let hot = |key: &str, n: u64, bytes: u64| {
        let bounds = |n: u64| Bounds {
            lower: n - n / 10,
            upper: n + n / 10,
        };
        let rate = |n| PerSecond {
            lower: bounds(n).lower as f64,
            upper: bounds(n).upper as f64,
        };
        Hot {
            key: key.into(),
            hash: KeyHash(n),
            pool: PoolId(0),
            state: State::Cached,
            requests: rate(n),
            reads: rate(n - 10),
            writes: rate(10),
            bytes: rate(bytes),
            share: n as f64 / 1000.0,
            in_window: bounds(n),
            bytes_in_window: bounds(bytes),
            window_ms: 1000,
            certain: true,
            counts: Counts {
                hits: 3,
                misses: 1,
                bytes: 30,
            },
            hot_ms: 5000,
        }
    };
    vec![
        hot("00000000000000b0", 100, 5000),
        hot("00000000000000a0", 500, 2000),
    ]
}

/// A real server; it ends with the test.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Start a program with its port as the last argument, and wait until it accepts.
    pub fn start(program: &str, args: &[&str]) -> Server {
        let port = free_port();
        let child = Command::new(program)
            .args(args)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
        let server = Server { child, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{program} does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// A connection to it.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Send a request and read until `whole` says that the reply is whole.
pub fn ask(stream: &mut TcpStream, request: &[u8], whole: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut reply = Vec::new();
    let mut part = [0; 65536];
    while !whole(&reply) {
        let len = stream.read(&mut part).unwrap();
        assert!(
            len > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&reply)
        );
        reply.extend_from_slice(&part[..len]);
    }
    reply
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
