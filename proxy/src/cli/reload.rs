//! `emberline reload`: have a running proxy go on under what its file says now.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EXIT_CONFIG, ask, terminal};

/// A configuration of thousands of servers takes seconds to build.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Reload {
    /// The admin listener: HOST:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9779")]
    admin: String,
}

pub fn run(args: &Reload) -> ExitCode {
    let answer = match ask::post(&args.admin, "/reload", TIMEOUT) {
        Ok(answer) => answer,
        Err(error) => {
            terminal::complain(format_args!("cannot reload: {}: {error}", args.admin));
            return ExitCode::FAILURE;
        }
    };
    match &*answer.status {
        "200" => terminal::print(answer.body.as_bytes()),
        "422" => {
            terminal::note(&answer.body);
            terminal::complain("refused: the old configuration goes on");
            ExitCode::from(EXIT_CONFIG)
        }
        status => {
            terminal::complain(format_args!("cannot reload: {} said {status}", args.admin));
            ExitCode::FAILURE
        }
    }
}
