//! The command line.

use std::process::ExitCode;

/// Run the command that the process's arguments name.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
