//! nutcracker (twemproxy): one process, one thread, one pool per protocol.

use std::fmt::Write;
use std::fs;
use std::io;
use std::process::Command;
use std::time::Instant;

use super::{Peer, Servers, program};
use crate::load::Protocol;
use crate::process::{Process, Scratch, free_port};

/// Start it in front of these servers.
pub fn start(scratch: &Scratch, servers: &Servers) -> io::Result<Peer> {
    let (redis, memcached) = (free_port()?, free_port()?);
    let mut yaml = String::new();
    pool(
        &mut yaml,
        "redis_pool",
        redis,
        true,
        servers.ports(Protocol::Redis),
    );
    pool(
        &mut yaml,
        "memcached_pool",
        memcached,
        false,
        servers.ports(Protocol::Memcached),
    );
    let config = scratch.file(&format!("nutcracker-{redis}.yml"));
    fs::write(&config, yaml)?;
    let mut command = Command::new(program("nutcracker")?);
    command.arg("-c").arg(&config);
    command.args([
        "-a",
        "127.0.0.1",
        "-s",
        &free_port()?.to_string(),
        "-v",
        "0",
    ]);
    command
        .arg("-o")
        .arg(scratch.file(&format!("nutcracker-{redis}.out")));
    let since = Instant::now();
    let process = Process::start("nutcracker", &mut command, scratch)?;
    Peer::ready("nutcracker", process, since, Some(redis), Some(memcached))
}

fn pool(yaml: &mut String, name: &str, port: u16, redis: bool, servers: impl Iterator<Item = u16>) {
    // Writing into a String cannot fail.
    let _ = write!(
        yaml,
        "{name}:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  \
         auto_eject_hosts: false\n  preconnect: true\n  redis: {redis}\n  servers:\n"
    );
    for server in servers {
        let _ = writeln!(yaml, "   - 127.0.0.1:{server}:1");
    }
}
