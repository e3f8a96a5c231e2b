//! `emberline-checker`: does a proxy that answers from memory keep its promises?

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use emberline_benches::checker::mutants::{self, Mutant};
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

    /// Switch off rules of the fill protocol, all or by name, each in its own
    /// scenario, and print the table; needs a build with the feature `mutations`
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    mutants: Vec<String>,

    /// Run the scenario of this mutation, as it is unless --mutation is given
    #[arg(long, value_name = "NAME", conflicts_with = "mutants")]
    scenario: Option<String>,

    /// Print the reports of --mutants, too
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::install();
    if let Err(text) = arguments.options.check() {
        eprintln!("emberline-checker: {text}");
        return ExitCode::from(2);
    }
    let done = match arguments.mutants.is_empty() {
        true => one(&arguments),
        false => table(&arguments),
    };
    match done {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(error) => {
            eprintln!("emberline-checker: {error}");
            ExitCode::from(2)
        }
    }
}

fn one(arguments: &Arguments) -> io::Result<bool> {
    let mut options = arguments.options.clone();
    if let Some(name) = &arguments.scenario {
        options = find(name)?.options(&options, options.mutation.is_some());
    }
    let report = checker::run(&options)?;
    // A reader that has seen enough is no failure.
    let _ = write!(io::stdout(), "{report}");
    Ok(report.clean())
}

/// Whether every mutant was caught.
fn table(arguments: &Arguments) -> io::Result<bool> {
    let mutants = match arguments.mutants.as_slice() {
        [all] if all == "all" => mutants::ALL.to_vec(),
        names => names
            .iter()
            .map(|name| find(name))
            .collect::<io::Result<_>>()?,
    };
    println!("{}", mutants::HEAD);
    let mut caught = 0;
    for mutant in &mutants {
        let score = mutants::score(*mutant, &arguments.options)?;
        println!("{}", score.row());
        if arguments.verbose || !score.sound.clean() {
            eprint!("{}", score.sound);
        }
        if arguments.verbose {
            eprint!("{}", score.mutated);
        }
        caught += usize::from(score.passed());
    }
    println!("\n{caught} of {} caught", mutants.len());
    Ok(caught == mutants.len())
}

fn find(name: &str) -> io::Result<Mutant> {
    Mutant::find(name).ok_or_else(|| {
        let names: Vec<_> = mutants::ALL.iter().map(|mutant| mutant.name).collect();
        let text = format!(
            "no mutation \"{name}\": expected one of {}",
            names.join(", ")
        );
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}
