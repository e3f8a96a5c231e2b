//! The programs that are measured side by side, one file each: how it is
//! configured for a fair run, and how it is started.
//!
//! Fair means: one worker thread, two servers per protocol, one connection to
//! each server, the same hash where the peer has it, no logging per request.

pub mod emberline;
pub mod envoy;
pub mod floor;
pub mod memcached;
pub mod nutcracker;
pub mod redis;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::load::{Protocol, Target};
use crate::process::{self, Process, Scratch};

/// How long a program may take to answer for the first time.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running program with its addresses.
#[derive(Debug)]
pub struct Peer {
    /// Its name in tables.
    pub name: &'static str,
    /// The process whose CPU time and memory count.
    pub process: Process,
    /// Where it speaks Redis.
    pub redis: Option<u16>,
    /// Where it speaks memcached.
    pub memcached: Option<u16>,
    /// From the start of the process to its first answer.
    pub started_in: Duration,
}

impl Peer {
    /// Wait until a freshly started program answers.
    pub(crate) fn ready(
        name: &'static str,
        mut process: Process,
        since: Instant,
        redis: Option<u16>,
        memcached: Option<u16>,
    ) -> io::Result<Peer> {
        if let Some(port) = redis {
            process::wait_until(&mut process, PATIENCE, || ask(port, Protocol::Redis))?;
        }
        if let (Some(port), None) = (memcached, redis) {
            process::wait_until(&mut process, PATIENCE, || ask(port, Protocol::Memcached))?;
        }
        let started_in = since.elapsed();
        if let Some(port) = memcached {
            process::wait_until(&mut process, PATIENCE, || ask(port, Protocol::Memcached))?;
        }
        Ok(Peer {
            name,
            process,
            redis,
            memcached,
            started_in,
        })
    }

    /// Where it speaks this protocol.
    pub fn port(&self, protocol: Protocol) -> Option<u16> {
        match protocol {
            Protocol::Redis => self.redis,
            Protocol::Memcached => self.memcached,
        }
    }

    /// The same as an address for the load generator.
    pub fn target(&self, protocol: Protocol) -> Option<Target> {
        self.port(protocol)
            .map(|port| Target::Tcp(format!("127.0.0.1:{port}")))
    }
}

/// Which program, and where it is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Emberline, by the path of its binary.
    Emberline(PathBuf),
    /// nutcracker.
    Nutcracker,
    /// Envoy, by the path of its binary.
    Envoy(PathBuf),
    /// A redis-server of its own, without any proxy.
    Redis,
    /// A memcached of its own, without any proxy.
    Memcached,
}

impl Kind {
    /// Start it on free ports, in front of these servers if it is a proxy.
    pub fn start(&self, scratch: &Scratch, servers: &Servers) -> io::Result<Peer> {
        match self {
            Kind::Emberline(binary) => emberline::start(scratch, servers, binary),
            Kind::Nutcracker => nutcracker::start(scratch, servers),
            Kind::Envoy(binary) => envoy::start(scratch, servers, binary),
            Kind::Redis => redis::start(scratch, "redis-server"),
            Kind::Memcached => memcached::start(scratch, "memcached"),
        }
    }

    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Emberline(_) => "emberline",
            Kind::Nutcracker => "nutcracker",
            Kind::Envoy(_) => "envoy",
            Kind::Redis => "redis-server",
            Kind::Memcached => "memcached",
        }
    }

    /// What it says of its version.
    pub fn version(&self) -> String {
        let of = |name: &str, flag| {
            process::find(name).map_or("missing".into(), |path| process::version(&path, flag))
        };
        match self {
            Kind::Emberline(binary) => process::version(binary, "--version"),
            Kind::Nutcracker => of("nutcracker", "-V"),
            Kind::Envoy(binary) => {
                // It says where it is first; a record shall not.
                let said = process::version(binary, "--version");
                said.split_once("version: ")
                    .map_or(said.clone(), |(_, version)| version.to_owned())
            }
            Kind::Redis => of("redis-server", "--version"),
            Kind::Memcached => of("memcached", "-V"),
        }
    }
}

/// The real servers behind every proxy.
#[derive(Debug)]
pub struct Servers {
    /// Two redis-servers.
    pub redis: Vec<Peer>,
    /// Two memcacheds.
    pub memcached: Vec<Peer>,
}

impl Servers {
    /// Start two of each.
    pub fn start(scratch: &Scratch) -> io::Result<Servers> {
        Ok(Servers {
            redis: vec![
                redis::start(scratch, "redis-server")?,
                redis::start(scratch, "redis-server-2")?,
            ],
            memcached: vec![
                memcached::start(scratch, "memcached")?,
                memcached::start(scratch, "memcached-2")?,
            ],
        })
    }

    /// The ports of the servers of this protocol.
    pub fn ports(&self, protocol: Protocol) -> impl Iterator<Item = u16> {
        let servers = match protocol {
            Protocol::Redis => &self.redis,
            Protocol::Memcached => &self.memcached,
        };
        servers
            .iter()
            .filter_map(move |server| server.port(protocol))
    }
}

/// One read of one key through a new connection; an error reply counts as no answer.
pub fn ask(port: u16, protocol: Protocol) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    ask_on(&mut stream, protocol)
}

/// The same on an open connection.
pub fn ask_on(stream: &mut TcpStream, protocol: Protocol) -> io::Result<()> {
    let (request, answers): (&[u8], &[u8]) = match protocol {
        Protocol::Redis => (b"*2\r\n$3\r\nGET\r\n$6\r\nabsent\r\n", b"$"),
        Protocol::Memcached => (b"get absent\r\n", b"E"),
    };
    stream.write_all(request)?;
    let mut reply = [0; 256];
    let mut held = 0;
    while !reply[..held].ends_with(b"\n") {
        match stream.read(&mut reply[held..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => held += n,
        }
    }
    let refused = reply.starts_with(b"ERR") || !answers.contains(&reply[0]);
    match refused {
        true => Err(io::Error::other(reply[..held].escape_ascii().to_string())),
        false => Ok(()),
    }
}

/// The program, or an error that names it.
fn program(name: &str) -> io::Result<PathBuf> {
    process::find(name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not installed")))
}
