//! A configuration, an admin server in this process, and a client of plain sockets.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use emberline::admin::{self, AdminHandle, State};
use emberline::metrics::Meter;
use emberline::running::{
    Bind, Dns, HealthSettings, Hotkey, L1, Listener, Partial, Pool, Protocol, Proxy, Running,
    Secret, Server, Visibility,
};
use emberline_routing::{
    ByteSign, Distribution, Hash, Member, Pool as RoutingPool, PoolId, PoolSpec, Prefix, Route,
    Router, ServerId,
};

pub const LISTENER: usize = 0;

/// Two listeners over `pools` pools of `servers` servers each; `listener`
/// names the first. The HTTP listeners take any free port.
pub fn running(listener: &str, pools: u16, servers: u32) -> Running {
    let listen = |name: &str, protocol| Listener {
        name: name.to_owned(),
        protocol,
        bind: any(),
        router: router(pools, servers),
        password: Some(Secret::new("hunter2".to_owned())),
        tls: None,
        allow: Vec::new(),
        deny: Vec::new(),
        value_max: 1 << 20,
    };
    let bind = any();
    Running {
        route_states: 0,
        proxy: Proxy {
            workers: 2,
            clients_max: 10,
            memory_max: 1 << 20,
            timeout_head: Duration::from_secs(1),
            timeout_drain: Duration::from_secs(1),
        },
        listeners: [
            listen(listener, Protocol::Redis),
            listen("m", Protocol::Memcached),
        ]
        .into_iter()
        .collect(),
        routes: Vec::new(),
        pools: (0..pools).map(|i| pool(i, servers)).collect(),
        servers: (0..u32::from(pools) * servers)
            .map(|i| server(i, servers))
            .collect(),
        rings: (0..pools).map(|_| None).collect(),
        admin: Some(bind.clone()),
        status: Some(bind),
        l1_capacity: 1 << 20,
        preload: None,
        visibility: Visibility::Hash,
        bus: None,
        dns: Dns::default(),
    }
}

fn any() -> Bind {
    Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn pool(index: u16, servers: u32) -> Pool {
    Pool {
        name: format!("pool-{index}"),
        protocol: Protocol::Redis,
        local: None,
        servers: (u32::from(index) * servers..u32::from(index + 1) * servers)
            .map(ServerId)
            .collect(),
        timeout_connect: Duration::from_millis(250),
        timeout_request: Duration::from_secs(1),
        connections: 1,
        inflight_max: 1024,
        health: HealthSettings::default(),
        delete_log: None,
        partial: Partial::Error,
        username: Some("someone".to_owned()),
        password: Some(Secret::new("hunter3".to_owned())),
        tls: None,
        database: 0,
        value_max: 1 << 20,
        hotkey: Hotkey::default(),
        l1: L1::default(),
    }
}

fn server(index: u32, servers: u32) -> Server {
    Server {
        pool: PoolId(u16::try_from(index / servers).unwrap()),
        name: format!("10.0.0.{index}:6379"),
        address: format!("10.0.0.{index}:6379").parse().unwrap(),
        down: false,
    }
}

/// Keys `0:..`, `1:..` go to the pool of that number, others to the first.
fn router(pools: u16, servers: u32) -> Router {
    let pool = |index: u16| {
        let first = u32::from(index) * servers;
        let members = (first..first + servers).map(|i| Member {
            name: format!("10.0.0.{i}:6379"),
            weight: 1,
        });
        let spec = PoolSpec {
            name: format!("pool-{index}"),
            id: PoolId(index),
            members: members.collect(),
            ids: (first..first + servers).map(ServerId).collect(),
            distribution: Distribution::Ketama,
            hash: Hash::Fnv1a_64,
            byte_sign: ByteSign::Signed,
            hash_tag: None,
            salt: Box::default(),
        };
        Route::Pool(Arc::new(RoutingPool::new(spec).unwrap()))
    };
    let children = (0..pools).map(|i| (format!("{i}:").into_bytes(), pool(i)));
    Router::new(Route::Prefix(
        Prefix::new("by number", children, pool(0)).unwrap(),
    ))
}

/// A server over that configuration, with one meter per worker.
pub struct Site {
    pub state: Arc<State>,
    pub handle: AdminHandle,
}

pub fn start(running: Running) -> Site {
    let running = Arc::new(running);
    let meters = (0..running.proxy.workers)
        .map(|_| Arc::new(Meter::new(&running)))
        .collect();
    let (l1, _) = emberline::l1::L1::new(&running);
    let deletes = emberline::delete_log::DeleteLogs::open(&running).unwrap();
    let state = Arc::new(State::new(running, meters, l1, deletes, SystemTime::now()));
    let handle = admin::spawn(state.clone()).unwrap();
    Site { state, handle }
}

impl Site {
    pub fn admin(&self) -> SocketAddr {
        self.handle.admin.unwrap()
    }

    pub fn status(&self) -> SocketAddr {
        self.handle.status.unwrap()
    }
}

/// Send these bytes and read what comes until the connection closes.
pub fn send(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// The status and body of a request with the usual headers.
pub fn ask(to: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = send(to, head.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status(head), body.to_owned())
}

/// The status code of an answer.
pub fn status(answer: &str) -> u16 {
    answer
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("not an HTTP answer: {answer:?}"))
}
