//! `emberline-checker`: does a proxy that answers from memory keep its promises?

use std::process::ExitCode;

use clap::Parser;
use emberline_benches::checker::{self, options::Options};
use emberline_benches::interrupt;

/// Reads and writes through Emberline under faults, and judges every read.
///
/// Exit code 0: every promise was kept; 1: at least one was not, or a figure
/// is out of bounds; 2: there was nothing to judge.
#[derive(Parser, Debug)]
#[command(name = "emberline-checker", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::install();
    if let Err(text) = arguments.options.check() {
        eprintln!("emberline-checker: {text}");
        return ExitCode::from(2);
    }
    match checker::run(&arguments.options) {
        Ok(report) => {
            print!("{report}");
            ExitCode::from(u8::from(!report.clean()))
        }
        Err(error) => {
            eprintln!("emberline-checker: {error}");
            ExitCode::from(2)
        }
    }
}
