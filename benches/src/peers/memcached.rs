//! memcached with one worker thread.

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
    let port = port.to_string();
    let mut command = Command::new(program("memcached")?);
    command.args([
        "-l",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "0",
        "-t",
        "1",
        "-m",
        "512",
        "-c",
        "4096",
    ]);
    // It refuses to run as root unless it is told which user to become; told
    // by anybody else, it ignores the option.
    command.args(["-u", "nobody"]);
    let since = Instant::now();
    let process = Process::start(label, &mut command, scratch)?;
    let port = port.parse().map_err(io::Error::other)?;
    Peer::ready(label, process, since, None, Some(port))
}
