//! `emberline warm`: fill one pool from another, straight between their servers.

mod progress;
mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::seen::ask_json;
use super::{load_for_use, terminal};
use crate::config::{ByteSize, Time};
use crate::running::{Bind, Running};
use crate::warm::{self, Job, Options, Side};
use progress::Progress;

/// Keys that are asked for where a proxy says what is hot.
const HOTTEST: &str = "/hotkeys?limit=10000&sort=rate";

/// How long that may take.
const HOTTEST_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Warm {
    /// The configuration file that has both pools
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The pool that is read
    #[arg(long, value_name = "POOL")]
    from: String,
    /// The pool that is filled
    #[arg(long, value_name = "POOL")]
    to: String,
    /// Overwrite what the target has; otherwise that stays
    #[arg(long)]
    replace: bool,
    /// Also copy keys that the source pool places on another of its servers: leftovers
    #[arg(long)]
    all: bool,
    /// Fill this server of the target alone, as the configuration names it; may be repeated
    #[arg(long, value_name = "SERVER")]
    only: Vec<String>,
    /// Copy keys that begin like this
    #[arg(long = "match", value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Skip keys that have less time left; those without an end are never skipped
    #[arg(long, value_name = "TIME", default_value = "0s")]
    min_ttl: Time,
    /// At most so many keys a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// At most so many bytes of values a second, as in 10MiB
    #[arg(long, value_name = "BYTES")]
    bandwidth: Option<ByteSize>,
    /// Batches of up to 256 keys in flight per source server
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Slow down while other clients of a source see a p99 above this, as in 5ms
    #[arg(long, value_name = "TIME")]
    source_p99: Option<Time>,
    /// Copy first what is hot in the running proxy whose [admin] the configuration has
    #[arg(long)]
    hottest_first: bool,
    /// Copy these keys first: one a line, or the JSON of /hotkeys with plain keys
    #[arg(long, value_name = "FILE")]
    hot_list: Option<PathBuf>,
    /// Keep progress in this file, and go on from there if it exists
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Read and count, but write nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up a server that has not answered for this long
    #[arg(long, value_name = "TIME", default_value = "10s")]
    retry_for: Time,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Warm) -> ExitCode {
    let running = match load_for_use(&args.config) {
        Ok(running) => Arc::new(running),
        Err(code) => return code,
    };
    let job = match job(args, &running) {
        Ok(job) => job,
        Err(message) => {
            terminal::complain(message);
            return ExitCode::from(2);
        }
    };
    let progress = Progress::new();
    let watching = progress.clone();
    let summary = match warm::run(job, move |sight| watching.show(sight)) {
        Ok(summary) => summary,
        Err(error) => {
            terminal::complain(error);
            return ExitCode::FAILURE;
        }
    };
    progress.finish();
    let text = match args.json {
        true => format!("{:#}\n", report::json(&summary, args)),
        false => report::text(&summary, args),
    };
    let printed = terminal::print(text.as_bytes());
    match summary.is_whole() {
        true => printed,
        false => ExitCode::FAILURE,
    }
}

fn job(args: &Warm, running: &Arc<Running>) -> Result<Job, String> {
    let from = Side::named(running, &args.from)?;
    let to = Side::named(running, &args.to)?;
    let options = Options {
        replace: args.replace,
        all: args.all,
        only: args.only.iter().cloned().collect::<BTreeSet<_>>(),
        prefix: args.prefix.as_bytes().to_vec(),
        min_ttl: args.min_ttl.0,
        rate: args.rate,
        bandwidth: args.bandwidth.map(|bytes| bytes.0),
        concurrency: usize::from(args.concurrency),
        source_p99: args.source_p99.map(|time| time.0),
        checkpoint: args.checkpoint.clone(),
        dry_run: args.dry_run,
        retry_for: args.retry_for.0,
        hot: hot(args, running)?,
    };
    Job::new(from, to, options)
}

/// The keys that come first. A list that was named must be there; a proxy that
/// is not running is a pity and no more.
fn hot(args: &Warm, running: &Running) -> Result<Vec<Vec<u8>>, String> {
    let mut keys = match &args.hot_list {
        Some(path) => warm::hot::file(path, &args.from)?,
        None => Vec::new(),
    };
    if args.hottest_first && args.hot_list.is_none() {
        let asked = running.admin.as_ref().map_or_else(
            || Err("the configuration has no [admin]".to_owned()),
            |admin| hottest(admin, &args.from),
        );
        match asked {
            Ok(hottest) => keys = hottest,
            Err(why) => terminal::note(format_args!(
                "emberline: copying in no particular order: {why}\n"
            )),
        }
    }
    Ok(keys)
}

fn hottest(admin: &Bind, pool: &str) -> Result<Vec<Vec<u8>>, String> {
    let answer = ask_json(&admin.to_string(), HOTTEST, HOTTEST_TIMEOUT);
    warm::hot::answer(&answer.map_err(|error| error.to_string())?, pool)
}
