//! The command line.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 78 (`EX_CONFIG`) a
//! configuration that cannot be used.

mod ask;
mod check;
mod demo;
mod embedded;
mod explain;
mod healthcheck;
mod hotkeys;
mod reload;
mod seen;
mod serve;
mod terminal;
mod texts;
mod top;
mod warm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{self, Environment, Recipe, Report, Severity, Source};
use crate::reload::Origin;
use crate::running::Running;

/// What `sysexits.h` calls `EX_CONFIG`.
const EXIT_CONFIG: u8 = 78;

/// A caching proxy for Redis and memcached.
#[derive(Debug, Parser)]
#[command(
    name = "emberline",
    version,
    subcommand_required = false,
    args_conflicts_with_subcommands = true,
    after_help = "Without a command: emberline serve. Without a configuration it serves \
                  Redis on 127.0.0.1:7379 and memcached on 127.0.0.1:12211 from its own memory."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients until SIGTERM
    Serve(serve::Serve),
    /// Check a configuration; every mistake is shown at once
    ///
    /// Exits with 0 if it can be used and with 78 if not.
    Check(check::Check),
    /// Show where requests go, and why
    Explain(explain::Explain),
    /// Serve the embedded pools, load them and show live figures
    Demo(demo::Demo),
    /// List the keys that are hot in a running Emberline
    Hotkeys(hotkeys::Hotkeys),
    /// Watch a running Emberline: hot keys, pools, servers
    ///
    /// Keys: q quit, s sort, p pause, arrows scroll, ? help.
    Top(top::Top),
    /// Copy all keys of one pool to another, straight between their servers
    ///
    /// Never overwrites what the target has, unless told to. Exits with 0 when
    /// everything was copied and with 1 when a server was lost, keys were
    /// refused, or a signal came first.
    Warm(warm::Warm),
    /// Ask a running Emberline whether it is ready; exits with 0 or 1
    Healthcheck(healthcheck::Healthcheck),
    /// Have a running Emberline go on under what its configuration file says now
    ///
    /// Exits with 0 if it does, 78 if the file was refused and 1 if nobody answered.
    Reload(reload::Reload),
    /// Print the JSON schema of the configuration
    Schema,
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Run the command that the process's arguments name.
pub fn run() -> ExitCode {
    let line = CommandLine::parse();
    match line
        .command
        .unwrap_or(Command::Serve(serve::Serve::default()))
    {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Hotkeys(args) => hotkeys::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Warm(args) => warm::run(&args),
        Command::Healthcheck(args) => healthcheck::run(args),
        Command::Reload(args) => reload::run(&args),
        Command::Schema => texts::schema(),
        Command::Completions { shell } => texts::completions(shell, CommandLine::command()),
        Command::Man => texts::man(CommandLine::command()),
    }
}

/// `-c FILE` where it may be left out.
#[derive(Debug, Default, Args)]
struct ConfigFile {
    /// The configuration file [default: the embedded configuration]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Read and build a file; what is wrong with it goes to standard error.
///
/// Its names are not looked up: what is said of them holds where they lead
/// nowhere.
fn load(path: &Path) -> Result<Running, ExitCode> {
    let source = open(path)?;
    let (running, report) = config::load(&source, &Environment::process());
    told(running, &report, &source, path)
}

/// Read and build a file, and look up its names, for those who connect.
fn load_for_use(path: &Path) -> Result<Running, ExitCode> {
    let recipe = Recipe::Text(open(path)?);
    start(&mut Origin::new(Some(path.to_owned()), recipe))
}

/// Look up the names of a configuration and build it.
fn start(origin: &mut Origin) -> Result<Running, ExitCode> {
    let (running, report) = origin.start();
    if let (Recipe::Text(source), Some(path)) = (&origin.recipe, &origin.path) {
        return told(running, &report, source, path);
    }
    for one in report.diagnostics() {
        terminal::complain(&one.message);
    }
    running.ok_or(ExitCode::from(EXIT_CONFIG))
}

fn told(
    running: Option<Running>,
    report: &Report,
    source: &Source,
    path: &Path,
) -> Result<Running, ExitCode> {
    terminal::show(report, source);
    running.ok_or_else(|| {
        terminal::note(format_args!("{}\n", verdict(path, report)));
        ExitCode::from(EXIT_CONFIG)
    })
}

/// A file that cannot be read is a configuration that cannot be used, except
/// that one which is not there is a mistake on the command line.
fn open(path: &Path) -> Result<Source, ExitCode> {
    config::open(path).map_err(|error| {
        terminal::complain(format_args!("cannot read {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::NotFound => ExitCode::from(2),
            _ => ExitCode::from(EXIT_CONFIG),
        }
    })
}

/// One line on how it went.
fn verdict(path: &Path, report: &Report) -> String {
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let errors = report.count(Severity::Error);
    let warnings = report.count(Severity::Warning);
    let mut text = format!("{}: ", path.display());
    match errors {
        0 => text.push_str("ok"),
        _ => text.push_str(&plural(errors, "error")),
    }
    if warnings > 0 {
        text.push_str(", ");
        text.push_str(&plural(warnings, "warning"));
    }
    text
}
