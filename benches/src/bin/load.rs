//! `emberline-load`: put load on a Redis or memcached server or proxy.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use emberline_benches::interrupt;
use emberline_benches::load::options::parse_duration;
use emberline_benches::load::{Engine, Figures, Job, Limit, Options};
use indicatif::{ProgressBar, ProgressStyle};

/// Load generator for Redis and memcached: closed loop, or open loop with --rate
#[derive(Parser, Debug)]
#[command(name = "emberline-load", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,

    /// Stop after this many requests
    #[arg(short = 'n', long, conflicts_with = "duration")]
    requests: Option<u64>,

    /// Stop after this time, such as 10s, 500ms or 2m [default: 10s]
    #[arg(short, long, value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Write every key once before the measured run
    #[arg(long)]
    warm: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(text) = arguments.options.check() {
        eprintln!("emberline-load: {text}");
        return ExitCode::from(2);
    }
    if arguments.options.verify && !arguments.options.values_name_keys() {
        eprintln!(
            "emberline-load: some values are shorter than their key's name, so --verify sees less"
        );
    }
    interrupt::install();
    match run(&arguments) {
        Ok(figures) => {
            match arguments.json {
                true => println!("{}", figures.json()),
                false => print!("{}", figures.text()),
            }
            if figures.clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("emberline-load: {}: {error}", arguments.options.target);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<Figures> {
    let mut engine = Engine::connect(arguments.options.clone())?;
    if arguments.warm {
        let filled = with_bar(&mut engine, Job::Fill, Some(arguments.options.keys), "fill")?;
        interrupt::check()?;
        if !filled.clean() {
            eprintln!("emberline-load: the fill was not clean\n{}", filled.text());
        }
    }
    let limit = match (arguments.requests, arguments.duration) {
        (Some(requests), _) => Limit::Requests(requests),
        (None, duration) => Limit::Time(duration.unwrap_or(Duration::from_secs(10))),
    };
    with_bar(&mut engine, Job::Mix(limit), arguments.requests, "load")
}

/// A bar on a terminal; nothing at all elsewhere, so that logs stay clean.
fn with_bar(
    engine: &mut Engine,
    job: Job,
    total: Option<u64>,
    label: &'static str,
) -> io::Result<Figures> {
    if !io::stderr().is_terminal() {
        return engine.run(job, None);
    }
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} {bar:40} {pos}/{len} {per_sec}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{msg} {elapsed} {pos} {per_sec}",
        ),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(label);
    let result = engine.run(job, Some(&mut |done| bar.set_position(done)));
    bar.finish_and_clear();
    result
}
