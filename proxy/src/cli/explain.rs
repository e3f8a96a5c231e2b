//! `emberline explain`: where a request goes, and why, as a small tree.

use std::process::ExitCode;

use clap::Args;

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    file: super::ConfigFile,
}

pub fn run(_args: &Explain) -> ExitCode {
    ExitCode::SUCCESS
}
