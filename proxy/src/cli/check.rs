//! `emberline check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_CONFIG, open, terminal, verdict};
use crate::config::{self, Environment};
use crate::running::{Mode, Running};

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
            let text = format!(
                "{verdict}: {}, {}, {}; L1: {}\n",
                count(running.listeners.len(), "listener"),
                count(running.pools.len(), "pool"),
                count(running.servers.len(), "server"),
                modes(&running),
            );
            terminal::print(text.as_bytes())
        }
        None => {
            terminal::note(format_args!("{verdict}\n"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What the L1 promises, and for how many pools: what was asked for and what
/// came of it may differ, since pools take over what is said for all.
fn modes(running: &Running) -> String {
    let in_mode = |mode| {
        let pools = running.pools.iter().filter(|pool| pool.l1.mode == mode);
        (mode, pools.count())
    };
    let used = Mode::ALL.map(in_mode).into_iter().filter(|(_, n)| *n > 0);
    let said = used.map(|(mode, n)| format!("{} in {}", mode.name(), count(n, "pool")));
    said.collect::<Vec<_>>().join(", ")
}
