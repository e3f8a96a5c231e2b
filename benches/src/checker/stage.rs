//! The programs of a run: a server, a relay before it, one or two proxies.
//!
//! ```text
//!   readers, writers --> Emberline --> relay --> server <-- readers, writers
//!                    --> another Emberline ------^
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::options::{Mode, Options};
use super::relay::Relay;
use super::stamp::Key;
use crate::load::Protocol;
use crate::peers::{Peer, memcached, redis};
use crate::process::{Process, Scratch, free_port};

/// What a proxy says on the connection that fills its L1, and on no other:
/// the checker's clients say nothing of the kind to a proxy.
const FILL_MARKS: &[&str] = &["TRACKING", "CACHING", "PTTL", " k v ", " c\r\n"];

/// See the module's description. Fields are dropped in their order.
#[derive(Debug)]
pub struct Stage {
    /// The proxies that were started.
    proxies: Vec<Proxy>,
    /// Where the proxy under test listens.
    pub proxy: u16,
    /// Where the other one listens; the first again if there is none.
    pub other: u16,
    /// Where its metrics are.
    pub admin: Option<u16>,
    /// Between the proxy under test and the server.
    pub relay: Relay,
    /// Where the server listens.
    pub server: u16,
    running: Option<Peer>,
    /// The redis-server of the bus.
    _bus: Option<Peer>,
    protocol: Protocol,
    scratch: Scratch,
}

#[derive(Debug)]
struct Proxy {
    port: u16,
    admin: u16,
    process: Peer,
}

impl Stage {
    /// Start everything and wait until it answers.
    ///
    /// # Errors
    /// When a program is missing or does not answer.
    pub fn start(options: &Options) -> io::Result<Stage> {
        let scratch = Scratch::new("checker")?;
        let protocol = options.protocol;
        let (server, running) = match options.server_port {
            Some(port) => (port, None),
            None => {
                let port = free_port()?;
                (port, Some(start_server(protocol, &scratch, port)?))
            }
        };
        let relay = Relay::start(server, FILL_MARKS)?;
        let bus = match options.bus {
            true => Some(redis::start(&scratch, "bus")?),
            false => None,
        };
        let mut stage = Stage {
            proxies: Vec::new(),
            proxy: options.proxy_port.unwrap_or_default(),
            other: options.proxy_port.unwrap_or_default(),
            admin: None,
            relay,
            server,
            running,
            _bus: bus,
            protocol,
            scratch,
        };
        if options.proxy_port.is_none() {
            stage.start_proxies(options)?;
        }
        Ok(stage)
    }

    fn start_proxies(&mut self, options: &Options) -> io::Result<()> {
        let bus = self._bus.as_ref().and_then(|bus| bus.redis);
        let binary = binary(options)?;
        let upstreams = [("emberline", self.relay.port), ("emberline-2", self.server)];
        let wanted = if options.alone { 1 } else { 2 };
        for (name, upstream) in upstreams.into_iter().take(wanted) {
            let ports = (free_port()?, free_port()?);
            let config = config(options, ports, upstream, bus);
            let proxy = start_proxy(name, &binary, &self.scratch, options, ports, &config)?;
            self.proxies.push(proxy);
        }
        if let (Some(first), Some(last)) = (self.proxies.first(), self.proxies.last()) {
            (self.proxy, self.other) = (first.port, last.port);
            self.admin = Some(first.admin);
        }
        Ok(())
    }

    /// Whether the server is ours to kill and to stop.
    pub fn owns_server(&self) -> bool {
        self.running.is_some()
    }

    /// Kill the server; it comes back empty.
    pub fn restart_server(&mut self) -> io::Result<()> {
        self.running = None;
        self.running = Some(start_server(self.protocol, &self.scratch, self.server)?);
        Ok(())
    }

    /// Send the server a signal by its name.
    pub fn signal_server(&self, name: &str) -> io::Result<()> {
        self.running
            .as_ref()
            .map_or(Ok(()), |peer| peer.process.signal(name))
    }

    /// An error if a program has ended that should not have.
    pub fn check_alive(&mut self) -> io::Result<()> {
        for proxy in &mut self.proxies {
            proxy.process.process.check_alive()?;
        }
        self.running
            .as_mut()
            .map_or(Ok(()), |peer| peer.process.check_alive())
    }
}

fn start_server(protocol: Protocol, scratch: &Scratch, port: u16) -> io::Result<Peer> {
    match protocol {
        Protocol::Redis => redis::start_at(scratch, "redis-server", port),
        Protocol::Memcached => memcached::start_at(scratch, "memcached", port),
    }
}

fn start_proxy(
    name: &'static str,
    binary: &Path,
    scratch: &Scratch,
    options: &Options,
    (port, admin): (u16, u16),
    config: &str,
) -> io::Result<Proxy> {
    let file = scratch.file(&format!("{name}.toml"));
    std::fs::write(&file, config)?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("-c").arg(&file);
    match &options.mutation {
        Some(name) => command.env("EMBERLINE_MUTATION", name),
        None => command.env_remove("EMBERLINE_MUTATION"),
    };
    let since = Instant::now();
    let process = Process::start(name, &mut command, scratch)?;
    let (redis, memcached) = match options.protocol {
        Protocol::Redis => (Some(port), None),
        Protocol::Memcached => (None, Some(port)),
    };
    let process = Peer::ready(name, process, since, redis, memcached)?;
    Ok(Proxy {
        port,
        admin,
        process,
    })
}

/// The binary that was named, or the one beside this program. Tests lie one
/// directory deeper than the programs.
pub fn binary(options: &Options) -> io::Result<PathBuf> {
    if let Some(path) = &options.emberline {
        return Ok(path.clone());
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2);
    let mut candidates = beside.map(|directory| directory.join("emberline"));
    candidates.find(|path| path.is_file()).ok_or_else(|| {
        let text = "no emberline binary beside this program: build it, or name it with --emberline";
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

fn config(options: &Options, ports: (u16, u16), upstream: u16, bus: Option<u16>) -> String {
    let protocol = match options.protocol {
        Protocol::Redis => "redis",
        Protocol::Memcached => "memcached",
    };
    let (listen, admin) = ports;
    let timeout = options.request_timeout.as_millis();
    let mut toml = format!(
        "[proxy]\nworkers = 2\n\n[admin]\nbind = \"127.0.0.1:{admin}\"\n\n\
         [listeners.check]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:{listen}\"\nroute = \"check\"\n\n\
         [pools.check]\nprotocol = \"{protocol}\"\nservers = [\"127.0.0.1:{upstream}\"]\n\
         connect_timeout = \"{timeout}ms\"\nrequest_timeout = \"{timeout}ms\"\n"
    );
    if !options.plain {
        toml += &memory(options);
    }
    if let Some(port) = bus {
        toml += &format!("\n[bus]\nserver = \"127.0.0.1:{port}\"\n");
    }
    toml
}

/// `[hotkey]` and `[l1]`: promoted at once, and never dropped for changing too
/// often, or the more is written the less would be checked.
fn memory(options: &Options) -> String {
    let hot = (0..options.hot).map(|slot| Key { slot, turn: 0 });
    let always: Vec<String> = hot
        .filter(|_| options.always)
        .map(|key| format!("\"{key}\""))
        .collect();
    let counted = options.mode != Mode::Off;
    let has = |name: &str| options.l1.iter().any(|line| line.trim().starts_with(name));
    let churn = if has("reads_per_invalidation") {
        ""
    } else {
        "reads_per_invalidation = 0\n"
    };
    format!(
        "\n[hotkey]\nenabled = {counted}\nthreshold = {}\nalways = [{}]\n{}\n\
         [l1]\nmode = \"{}\"\nttl = \"{}ms\"\nheartbeat = \"{}ms\"\nmax_item = \"4KiB\"\n{churn}{}",
        options.threshold,
        always.join(", "),
        lines(&options.hotkey),
        options.mode.name(),
        options.ttl().as_millis(),
        options.heartbeat.as_millis(),
        lines(&options.l1),
    )
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
