//! redis-server without persistence.

use std::io;
use std::process::Command;
use std::time::Instant;

use super::{Peer, program};
use crate::process::{Process, Scratch, free_port};

/// Start one on a free port.
pub fn start(scratch: &Scratch, label: &'static str) -> io::Result<Peer> {
    start_at(scratch, label, free_port()?)
}

/// Start one on this port.
pub fn start_at(scratch: &Scratch, label: &'static str, port: u16) -> io::Result<Peer> {
    let mut command = Command::new(program("redis-server")?);
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .arg("--dir")
        .arg(scratch.path());
    let since = Instant::now();
    let process = Process::start(label, &mut command, scratch)?;
    Peer::ready(label, process, since, Some(port), None)
}
