//! `emberline check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_CONFIG, open, verdict};
use crate::config::{self, Environment};

#[derive(Debug, Args)]
pub struct Check {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(args: &Check) -> ExitCode {
    let source = match open(&args.config) {
        Ok(source) => source,
        Err(code) => return code,
    };
    let (running, report) = config::load(&source, &Environment::process());
    eprint!("{}", report.render(&source));
    let verdict = verdict(&args.config, &report);
    match running {
        Some(running) => {
            let count =
                |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            println!(
                "{verdict}: {}, {}, {}",
                count(running.listeners.len(), "listener"),
                count(running.pools.len(), "pool"),
                count(running.servers.len(), "server"),
            );
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("{verdict}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}
