//! server

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use crate::running::Running;

/// Serve until SIGTERM.
pub fn serve(_running: Arc<Running>) -> io::Result<ExitCode> {
    Err(io::Error::other("the data plane is not linked in"))
}
