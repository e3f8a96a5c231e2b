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

/// The keys that the load generator asks for in cells with few keys, promoted
/// from the start.
macro_rules! hot_keys {
    () => {
        "\n[hotkey]\nalways = [\"key:000000000000\", \"key:000000000001\", \
         \"key:000000000002\", \"key:000000000003\"]\n"
    };
}

/// Keys in cells that are answered from memory.
pub const HOT_KEYS: u64 = 4;

/// Emberline in another setting than its default.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Its name in tables.
    pub name: &'static str,
    /// Its `[hotkey]` and `[l1]` tables.
    pub tables: &'static str,
}

/// Every variant that a cell may ask for.
pub const VARIANTS: &[Variant] = &[
    Variant {
        name: "l1 ttl",
        tables: concat!(hot_keys!(), "[l1]\nmode = \"ttl\"\n"),
    },
    Variant {
        name: "l1 tracking",
        tables: concat!(hot_keys!(), "[l1]\nmode = \"tracking\"\n"),
    },
    Variant {
        name: "detector on",
        tables: "\n[hotkey]\nenabled = true\nthreshold = 1000000000\nthreshold_bytes = \"0B\"\n",
    },
    Variant {
        name: "detector off",
        tables: "\n[hotkey]\nenabled = false\n",
    },
];

/// Start this binary in front of these servers.
pub fn start(scratch: &Scratch, servers: &Servers, binary: &Path) -> io::Result<Peer> {
    let default = Variant {
        name: "emberline",
        tables: "",
    };
    start_as(default, scratch, servers, binary)
}

/// The same as this variant.
pub fn start_as(
    variant: Variant,
    scratch: &Scratch,
    servers: &Servers,
    binary: &Path,
) -> io::Result<Peer> {
    let (redis, memcached, admin) = (free_port()?, free_port()?, free_port()?);
    let mut toml = format!("[proxy]\nworkers = 1\n\n[admin]\nbind = \"127.0.0.1:{admin}\"\n");
    pool(&mut toml, "redis", redis, servers.ports(Protocol::Redis));
    pool(
        &mut toml,
        "memcached",
        memcached,
        servers.ports(Protocol::Memcached),
    );
    toml.push_str(variant.tables);
    let config = scratch.file(&format!("emberline-{redis}.toml"));
    fs::write(&config, toml)?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("-c").arg(&config);
    let since = Instant::now();
    let process = Process::start(variant.name, &mut command, scratch)?;
    Peer::ready(variant.name, process, since, Some(redis), Some(memcached))
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
