//! The configuration, in three stages.
//!
//! ```text
//! text --read--> Config (names, units, gaps) --assemble--> Running (ids, defaults)
//!        \________________ Report: every mistake, with its place ________/
//! ```
//!
//! [`load`] goes all the way. A configuration with a mistake is refused whole,
//! and all of its mistakes are reported at once. Nothing here panics whatever
//! the text is, and nothing recurses deeper than the text can be nested: the
//! TOML parser bounds brackets and dotted keys, `model` bounds routes.

mod address;
mod assemble;
mod bus;
mod commands;
mod credentials;
mod expand;
mod files;
mod hotkey;
mod l1;
pub mod model;
mod names;
mod outage;
mod pools;
mod read;
mod report;
mod routes;
mod schema;
mod source;
mod suggest;
mod tls;
mod tree;
mod units;
mod words;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use crate::dns::Known;
use crate::running::Running;

pub use files::Files;
pub use model::Config;
pub use read::At;
pub use report::{Diagnostic, Report, Severity};
pub use schema::schema;
pub use source::{Position, Source};
pub use units::{ByteSize, Time};

/// A configuration file longer than this is refused unread. The largest that
/// makes sense, thousands of servers, is below 1 MiB.
pub const FILE_MAX: u64 = 16 << 20;
/// A guard against stack exhaustion in the TOML parser, whose values drop
/// recursively: the depth that brackets and dotted keys can reach together
/// needs more than the 2 MiB that threads get by default.
const STACK: usize = 64 << 20;

/// What the configuration takes from the world around it, so that tests can
/// give something else.
pub struct Environment<'a> {
    /// Environment variables by name.
    pub variable: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// Where relative paths start; the working directory if none.
    pub directory: Option<PathBuf>,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// What is in the files that it names.
    pub files: Arc<Files>,
}

impl Environment<'_> {
    /// The process's own.
    pub fn process() -> Environment<'static> {
        Environment {
            variable: &|name| std::env::var(name).ok(),
            directory: None,
            cpus: cpus(),
            files: Arc::default(),
        }
    }
}

/// CPUs that this process may use: its affinity and the quota of its cgroup
/// (v1 and v2), which the standard library both reads; at least 1.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Read a configuration file.
pub fn open(path: &Path) -> io::Result<Source> {
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)? as u64;
    if read > FILE_MAX {
        let message = format!("longer than {FILE_MAX} bytes, which no configuration is");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..at];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let message = format!("not a text file: line {line} is not UTF-8");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    let source = Source::new(path.display().to_string(), text);
    Ok(source.in_directory(path.parent()))
}

/// A text all the way to what the process runs on. The report holds warnings
/// when that succeeds, and at least one error when it does not.
pub fn load(source: &Source, environment: &Environment<'_>) -> (Option<Running>, Report) {
    load_after(source, environment, None, &Known::default())
}

/// The same for a process that runs on something else already: pools, servers
/// and listeners that the `predecessor` has, too, keep their numbers. Names
/// lead to what is `known` of them; nothing is looked up here.
pub fn load_after(
    source: &Source,
    environment: &Environment<'_>,
    predecessor: Option<&Running>,
    known: &Known,
) -> (Option<Running>, Report) {
    let (config, mut report) = read(source, environment);
    let environment = Environment {
        variable: environment.variable,
        directory: source.directory.clone().or(environment.directory.clone()),
        cpus: environment.cpus,
        files: Arc::clone(&environment.files),
    };
    let running = assemble::assemble(&config, &environment, predecessor, known, &mut report);
    (running, report)
}

/// A configuration that was not read from a text, such as the one that the
/// command line makes.
pub fn assemble(
    config: &Config,
    environment: &Environment<'_>,
    predecessor: Option<&Running>,
    known: &Known,
) -> (Option<Running>, Report) {
    let mut report = Report::default();
    let running = assemble::assemble(config, environment, predecessor, known, &mut report);
    (running, report)
}

/// What a configuration is made of, and can be made of again when a name leads
/// elsewhere.
#[derive(Debug)]
pub enum Recipe {
    /// A file, as it was read.
    Text(Source),
    /// What the command line says.
    Command(Box<Config>),
}

impl Recipe {
    /// What the process would run on, as by [`load_after`]; of `files`, those
    /// that have been read are not read again.
    pub fn build(
        &self,
        predecessor: Option<&Running>,
        known: &Known,
        files: &Arc<Files>,
    ) -> (Option<Running>, Report) {
        let environment = Environment {
            files: Arc::clone(files),
            ..Environment::process()
        };
        match self {
            Recipe::Text(source) => load_after(source, &environment, predecessor, known),
            Recipe::Command(config) => assemble(config, &environment, predecessor, known),
        }
    }

    /// A report on it, for people.
    pub fn render(&self, report: &Report) -> String {
        match self {
            Recipe::Text(source) => report.render(source),
            Recipe::Command(_) => {
                let messages = report.diagnostics();
                messages.map(|one| format!("{}\n", one.message)).collect()
            }
        }
    }
}

/// A text to what it says, every mistake noted.
pub fn read(source: &Source, environment: &Environment<'_>) -> (Config, Report) {
    let parse = || parse(source, environment);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let nothing = |message: String| {
            let mut report = Report::default();
            report.error_nowhere(message);
            (Config::default(), report)
        };
        match thread.spawn_scoped(scope, parse) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| nothing("the TOML parser failed on this file".to_owned())),
            Err(error) => nothing(format!("cannot start a thread to read the file: {error}")),
        }
    })
}

fn parse(source: &Source, environment: &Environment<'_>) -> (Config, Report) {
    let mut report = Report::default();
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    // What a broken text was recovered to would only bring misleading errors.
    // A duplicate key breaks nothing else.
    let mut broken = false;
    for error in errors {
        broken |= error.message() != "duplicate key";
        let span = error.span().unwrap_or(source.text.len()..source.text.len());
        let message = match error.message() {
            "duplicate key" => {
                let key = &source.text[source.clamp(&span)];
                format!("duplicate key `{key}`")
            }
            message => message.to_owned(),
        };
        report.error(&span, message);
    }
    if broken {
        return (Config::default(), report);
    }
    let mut reader = read::Reader {
        report: &mut report,
        variable: environment.variable,
    };
    let config = Config::read(document.get_ref(), &mut reader);
    (config, report)
}
