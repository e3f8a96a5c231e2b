//! The configuration as the data plane sees it: ids instead of names, every
//! default filled in, immutable, shared by all workers through one `Arc`.
//!
//! `config` turns text into a [`Running`] and nothing else does; after that
//! nothing is optional that must be there and nothing is looked up by name.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use emberline_routing::{PoolId, Router};

use crate::local::LocalPool;

/// Everything the process runs on.
#[derive(Debug)]
pub struct Running {
    /// Process-wide settings.
    pub proxy: Proxy,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Indexed by `PoolId`.
    pub pools: Vec<Pool>,
    /// Indexed by `ServerId`; a pool's servers stand together.
    pub servers: Vec<Server>,
    /// The full admin API.
    pub admin: Option<Bind>,
    /// The read-only status endpoint.
    pub status: Option<Bind>,
}

/// `[proxy]`.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Clients admitted at once over all listeners.
    pub clients_max: usize,
    /// Bytes that buffers may hold over all workers before requests are shed.
    pub memory_max: usize,
    /// How long an unfinished request head may take.
    pub timeout_head: Duration,
    /// How long SIGTERM waits for requests in flight.
    pub timeout_drain: Duration,
}

/// Which wire format a listener or a pool speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RESP2 and RESP3.
    Redis,
    /// Text and meta, told apart by their bytes.
    Memcached,
}

impl Protocol {
    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Redis => "redis",
            Protocol::Memcached => "memcached",
        }
    }
}

/// A place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// `[listeners.NAME]`.
#[derive(Debug)]
pub struct Listener {
    /// The table's name.
    pub name: String,
    /// What its clients speak.
    pub protocol: Protocol,
    /// Where it listens.
    pub bind: Bind,
    /// Which server each key goes to.
    pub router: Router,
    /// What clients must present with AUTH, if anything.
    pub password: Option<Secret>,
    /// Lower-case names of commands that are let through although they are
    /// denied by default; a subcommand as `config|set`.
    pub allow: Vec<String>,
    /// Lower-case names of commands that are refused; a subcommand as `config|set`.
    pub deny: Vec<String>,
    /// The largest memcached value that any of its pools takes, in bytes.
    pub value_max: usize,
}

/// `[pools.NAME]`.
#[derive(Debug)]
pub struct Pool {
    /// The table's name.
    pub name: String,
    /// What its servers speak.
    pub protocol: Protocol,
    /// The in-process store, for `kind = "local"`; such a pool has no servers.
    pub local: Option<Arc<LocalPool>>,
    /// Its `ServerId`s.
    pub servers: Range<u32>,
    /// How long a connect may take.
    pub timeout_connect: Duration,
    /// How long a request may wait for its reply.
    pub timeout_request: Duration,
    /// Connections per worker and server.
    pub connections: u16,
    /// Requests in flight per connection before clients are made to wait.
    pub inflight_max: usize,
    /// What a read over several servers answers when one of them fails.
    pub partial: Partial,
    /// User for AUTH towards the servers.
    pub username: Option<String>,
    /// Password for AUTH towards the servers.
    pub password: Option<Secret>,
    /// Redis database selected on connect.
    pub database: u32,
    /// The largest memcached value that clients may store, in bytes.
    pub value_max: usize,
}

/// What a split read answers when one server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// One error for the whole request.
    Error,
    /// The values that could be had; the others read as missing.
    Missing,
}

/// One address in a pool.
#[derive(Clone, Debug)]
pub struct Server {
    /// The pool it belongs to.
    pub pool: PoolId,
    /// The name in logs, metrics and errors: the address as configured.
    pub name: String,
    /// Where it is.
    pub address: Address,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or IP address, and a port.
    Tcp {
        /// Name or literal address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bind::Tcp(address) => address.fmt(f),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A credential; its `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wrap a credential.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The credential itself, for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}
