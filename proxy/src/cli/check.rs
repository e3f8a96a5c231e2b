//! `emberline check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_CONFIG, open, terminal, verdict};
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
    terminal::show(&report, &source);
    let verdict = verdict(&args.config, &report);
    match running {
        Some(running) => {
            let count =
                |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            let text = format!(
                "{verdict}: {}, {}, {}\n",
                count(running.listeners.len(), "listener"),
                count(running.pools.len(), "pool"),
                count(running.servers.len(), "server"),
            );
            terminal::print(text.as_bytes())
        }
        None => {
            terminal::note(format_args!("{verdict}\n"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}
