//! Emberline with one worker.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::{Peer, Servers};
use crate::load::Protocol;
use crate::process::{Process, Scratch, free_port};

/// Start this binary in front of these servers.
pub fn start(scratch: &Scratch, servers: &Servers, binary: &Path) -> io::Result<Peer> {
    let (redis, memcached, admin) = (free_port()?, free_port()?, free_port()?);
    let mut toml = format!("[proxy]\nworkers = 1\n\n[admin]\nbind = \"127.0.0.1:{admin}\"\n");
    pool(&mut toml, "redis", redis, servers.ports(Protocol::Redis));
    pool(
        &mut toml,
        "memcached",
        memcached,
        servers.ports(Protocol::Memcached),
    );
    let config = scratch.file(&format!("emberline-{redis}.toml"));
    fs::write(&config, toml)?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("-c").arg(&config);
    let since = Instant::now();
    let process = Process::start("emberline", &mut command, scratch)?;
    Peer::ready("emberline", process, since, Some(redis), Some(memcached))
}

fn pool(toml: &mut String, protocol: &str, port: u16, servers: impl Iterator<Item = u16>) {
    let servers: Vec<String> = servers
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    // Writing into a String cannot fail.
    let _ = write!(
        toml,
        "\n[listeners.{protocol}]\nprotocol = \"{protocol}\"\nbind = \"127.0.0.1:{port}\"\nroute = \"{protocol}\"\n\
         \n[pools.{protocol}]\nprotocol = \"{protocol}\"\nservers = [{}]\nrequest_timeout = \"10s\"\n",
        servers.join(", ")
    );
}
