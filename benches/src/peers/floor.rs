//! The floor: what the kernel takes for an answer, and next to nothing else.
//! See the program of this name.

use std::io;
use std::process::Command;
use std::time::Instant;

use super::Peer;
use crate::process::{Process, Scratch, free_port};

/// Its name in tables.
pub const NAME: &str = "floor";

/// Start one on a free port. It lies beside the program that runs.
pub fn start(scratch: &Scratch) -> io::Result<Peer> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?.with_file_name(NAME));
    command.args(["--port", &port.to_string()]);
    let since = Instant::now();
    let process = Process::start(NAME, &mut command, scratch)?;
    Peer::ready(NAME, process, since, Some(port), None)
}
