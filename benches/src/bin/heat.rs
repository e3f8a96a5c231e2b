//! `heat`: precision and recall of the hot-key detector, as a table.
//!
//! Prints a line per stream, and a second one with the same stream dealt to
//! four workers. Ends with 1 if any line misses what the project promises.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use emberline_benches::heat::{Judgement, cost, judge, stream};

/// What every line must show.
const PRECISION_MIN: f64 = 0.99;
const RECALL_MIN: f64 = 0.99;

/// Judges the hot-key detector by an exact sliding count.
#[derive(Parser)]
struct Options {
    /// Folder with `orm-busy.trace.xz` and `web12.trace.xz`; else the
    /// environment variable EMBERLINE_TRACES.
    #[arg(long)]
    traces: Option<PathBuf>,

    /// Requests drawn from each distribution.
    #[arg(long, default_value_t = 2_000_000)]
    requests: u64,

    /// Requests in a sub-window; ten are the window.
    #[arg(long, default_value_t = 20_000)]
    sub_window: u64,

    /// Time the counting instead.
    #[arg(long)]
    cost: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.cost {
        print_costs();
        return ExitCode::SUCCESS;
    }
    println!(
        "| stream | hot from | workers | hot keys | precision | recall | violations | widest | KiB a watch |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut good = true;
    for exponent in [0.9, 1.0, 1.2] {
        for workers in [1, 4] {
            let keys = stream::zipf(1_000_000, exponent, options.requests);
            let judgement = judge(keys, options.sub_window, 0.001, workers);
            good &= print(&format!("Zipf {exponent}"), "0.1 %", workers, &judgement);
        }
    }
    let told = std::env::var_os("EMBERLINE_TRACES").map(PathBuf::from);
    match options.traces.or(told) {
        Some(folder) => good &= judge_traces(&folder, options.sub_window),
        None => eprintln!("heat: traces skipped: neither --traces nor EMBERLINE_TRACES is set"),
    }
    ExitCode::from(u8::from(!good))
}

fn judge_traces(folder: &Path, sub_window: u64) -> bool {
    let mut good = true;
    for name in ["orm-busy", "web12"] {
        let keys = match stream::trace(&folder.join(format!("{name}.trace.xz"))) {
            Ok(keys) => keys,
            Err(error) => {
                eprintln!("heat: trace {name} skipped: {error}");
                continue;
            }
        };
        // web12 has 96,000 requests: less than one window of the usual size.
        let sub_window = sub_window.min(keys.len() as u64 / 50).max(1);
        for workers in [1, 4] {
            let judgement = judge(keys.iter().copied(), sub_window, 0.002, workers);
            good &= print(
                &format!("{name}, {sub_window} x 10"),
                "0.2 %",
                workers,
                &judgement,
            );
        }
    }
    good
}

/// Nanoseconds a request, beside floors of the same run.
fn print_costs() {
    println!(
        "| stream | threshold | record | end of sub-window | both | of HashMap | reply | hash | add to 32 KiB | HashMap |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for exponent in [0.9, 1.0, 1.2] {
        for threshold in [1000, 200] {
            let cost = cost(exponent, threshold);
            let both = cost.record + cost.close;
            println!(
                "| Zipf {exponent} | {threshold} | {:.1} | {:.1} | {both:.1} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} |",
                cost.record,
                cost.close,
                both / cost.map,
                cost.reply,
                cost.hash,
                cost.add,
                cost.map,
            );
        }
    }
}

/// One line; whether it shows what it must.
fn print(stream: &str, hot_from: &str, workers: usize, judgement: &Judgement) -> bool {
    println!(
        "| {stream} | {hot_from} | {workers} | {} | {:.4} | {:.4} | {} of {} | {:.1} % | {} |",
        judgement.hot,
        judgement.precision(),
        judgement.recall(),
        judgement.violations,
        judgement.asked,
        judgement.width_max * 100.0,
        judgement.memory / 1024,
    );
    judgement.violations == 0
        && judgement.precision() >= PRECISION_MIN
        && judgement.recall() >= RECALL_MIN
}
