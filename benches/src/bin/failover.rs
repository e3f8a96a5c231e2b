//! `failover`: servers are killed under load; what do clients see?
//!
//! ```text
//!   replicas   load, open loop --> emberline --> three copies; kill -9 of the
//!              first, which is then started again, empty
//!   gutter     load, open loop --> emberline --> four shards, and a spare pool
//!              behind a `gutter` route; kill -9 of one shard
//! ```
//!
//! Latency runs from when a request was due, so a pause shows as the latency
//! of whoever was due in it: the slowest read is the time that failover took.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use emberline_benches::load::{Engine, Figures, Job, Limit, Options, Protocol, Target};
use emberline_benches::peers::{self, PATIENCE, Peer};
use emberline_benches::process::{self, Process, Scratch, free_port};
use emberline_benches::{interrupt, peers::redis};

/// Kill servers behind Emberline under load and count what clients see of it
#[derive(Parser, Debug)]
#[command(name = "failover", version)]
struct Arguments {
    /// The emberline binary
    #[arg(long, default_value = "target/release/emberline")]
    emberline: PathBuf,

    /// Requests per second
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,

    /// Keys
    #[arg(long, default_value_t = 20_000)]
    keys: u64,

    /// Connections
    #[arg(short, long, default_value_t = 32)]
    connections: u32,

    /// How often each trial is made
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::install();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut met = true;
    println!(
        "{:.0} requests/s, open loop, {} connections, two workers\n",
        arguments.rate, arguments.connections
    );
    println!(
        "| replicas, read | reads | failed | slowest, ms | p99, ms | filled again | after, s | verdict |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for read in ["first", "random"] {
        for _ in 0..arguments.rounds {
            met &= replicas(arguments, read)?;
        }
    }
    println!(
        "\n| gutter | requests | errors | share, % | in the first second | slowest, ms | verdict |\n\
         |---|---|---|---|---|---|---|"
    );
    for _ in 0..arguments.rounds {
        met &= gutter(arguments)?;
    }
    Ok(met)
}

/// Three copies, of which the first is killed and comes back empty.
fn replicas(arguments: &Arguments, read: &str) -> io::Result<bool> {
    let scratch = Scratch::new("failover")?;
    let mut copies = start_all(&scratch, &["one", "two", "three"])?;
    let route = format!(
        "[routes.top]\ntype = \"replicas\"\nchildren = [\"one\", \"two\", \"three\"]\n\
         read = \"{read}\"\nread_repair = true\n"
    );
    let pools: Vec<(&str, Vec<&Peer>)> = ["one", "two", "three"]
        .into_iter()
        .zip(copies.iter().map(|peer| vec![peer]))
        .collect();
    let (_proxy, load) = start(&scratch, arguments, &route, &pools)?;
    let first = copies.remove(0);
    let port = first.redis.unwrap_or_default();
    let mut engine = fill(load)?;

    let mut first = Some(first);
    let mut figures = thread::scope(|scope| {
        let under_way = scope.spawn(|| engine.run(seconds(6), None));
        thread::sleep(Duration::from_secs(2));
        // Dropping it is kill -9.
        drop(first.take());
        let ended = under_way.join();
        ended.map_err(|_| io::Error::other("the load panicked"))?
    })?;
    let again = redis::start_at(&scratch, "one-again", port)?;
    let since = Instant::now();
    let mut filled = 0;
    let mut after = f64::NAN;
    for _ in 0..20 {
        figures.add(engine.run(seconds(1), None)?);
        filled = size(&again)?;
        if filled * 100 >= arguments.keys * 99 {
            after = since.elapsed().as_secs_f64();
            break;
        }
    }
    interrupt::check()?;
    let failed = failures(&figures);
    let slowest = figures.quantile(1.0) / 1000.0;
    let met = failed == 0 && figures.misses() == 0 && slowest <= 1000.0 && after.is_finite();
    println!(
        "| {read} | {} | {failed} | {slowest:.1} | {:.1} | {filled} of {} keys | {after:.0} | {} |",
        figures.requests,
        figures.quantile(0.99) / 1000.0,
        arguments.keys,
        verdict(met),
    );
    complain(&figures);
    Ok(met)
}

/// Four shards with a gutter, of which one is killed.
fn gutter(arguments: &Arguments) -> io::Result<bool> {
    let scratch = Scratch::new("failover")?;
    let mut shards = start_all(&scratch, &["shard-1", "shard-2", "shard-3", "shard-4"])?;
    let spare = redis::start(&scratch, "spare")?;
    let route =
        "[routes.top]\ntype = \"gutter\"\nmain = \"main\"\ngutter = \"spare\"\nttl = \"10s\"\n";
    let pools = [
        ("main", shards.iter().collect::<Vec<&Peer>>()),
        ("spare", vec![&spare]),
    ];
    let (_proxy, load) = start(&scratch, arguments, route, &pools)?;
    let mixed = Options { reads: 0.9, ..load };
    let mut engine = fill(mixed)?;
    drop(engine.run(seconds(2), None)?);

    let second = thread::scope(|scope| {
        let under_way = scope.spawn(|| engine.run(seconds(1), None));
        thread::sleep(Duration::from_millis(5));
        shards.truncate(3);
        let ended = under_way.join();
        ended.map_err(|_| io::Error::other("the load panicked"))?
    })?;
    let later = engine.run(seconds(10), None)?;
    interrupt::check()?;
    let share = failures(&later) as f64 / later.requests.max(1) as f64;
    let met = share <= 0.001;
    println!(
        "| one of four | {} | {} | {:.4} | {} of {} | {:.1} | {} |",
        later.requests,
        failures(&later),
        100.0 * share,
        failures(&second),
        second.requests,
        later.quantile(1.0).max(second.quantile(1.0)) / 1000.0,
        verdict(met),
    );
    complain(&later);
    Ok(met)
}

fn start_all(scratch: &Scratch, labels: &[&'static str]) -> io::Result<Vec<Peer>> {
    labels
        .iter()
        .map(|label| redis::start(scratch, label))
        .collect()
}

/// Emberline with two workers and these pools behind `top`, and a load for it.
fn start(
    scratch: &Scratch,
    arguments: &Arguments,
    route: &str,
    pools: &[(&str, Vec<&Peer>)],
) -> io::Result<(Process, Options)> {
    let port = free_port()?;
    let mut toml = format!(
        "[proxy]\nworkers = 2\n\n[l1]\nmode = \"off\"\n\n\
         [listeners.redis]\nprotocol = \"redis\"\nbind = \"127.0.0.1:{port}\"\nroute = \"top\"\n\n{route}"
    );
    for (name, peers) in pools {
        let address = |peer: &&Peer| format!("\"127.0.0.1:{}\"", peer.redis.unwrap_or_default());
        let servers: Vec<String> = peers.iter().map(address).collect();
        // Writing into a String cannot fail.
        let _ = write!(
            toml,
            "\n[pools.{name}]\nprotocol = \"redis\"\nservers = [{}]\n",
            servers.join(", ")
        );
    }
    let config = scratch.file("emberline.toml");
    fs::write(&config, toml)?;
    let mut command = Command::new(&arguments.emberline);
    command.arg("serve").arg("-c").arg(&config);
    command.args(["--admin-bind", "off"]);
    let mut process = Process::start("emberline", &mut command, scratch)?;
    process::wait_until(&mut process, PATIENCE, || peers::ask(port, Protocol::Redis))?;
    let load = Options {
        connections: arguments.connections,
        // Room for what piles up while somebody is not scheduled.
        pipeline: 256,
        keys: arguments.keys,
        verify: true,
        rate: Some(arguments.rate),
        ..Options::new(Target::Tcp(format!("127.0.0.1:{port}")), Protocol::Redis)
    };
    Ok((process, load))
}

/// Every key is written once; then the load is ready.
fn fill(load: Options) -> io::Result<Engine> {
    let calm = Options {
        rate: None,
        ..load.clone()
    };
    let filled = Engine::connect(calm)?.run(Job::Fill, None)?;
    match filled.clean() {
        true => Engine::connect(load),
        false => Err(io::Error::other(filled.text())),
    }
}

fn seconds(count: u64) -> Job {
    Job::Mix(Limit::Time(Duration::from_secs(count)))
}

fn failures(figures: &Figures) -> u64 {
    figures.errors + figures.lost + figures.mismatches
}

fn complain(figures: &Figures) {
    if let Some(error) = &figures.first_error {
        eprintln!("first error: {error}");
    }
    if figures.unsent > 0 || figures.misses() > 0 {
        eprintln!("{} unsent, {} misses", figures.unsent, figures.misses());
    }
}

/// How many keys a server has.
fn size(peer: &Peer) -> io::Result<u64> {
    let port = peer.redis.ok_or(io::ErrorKind::Unsupported)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"*1\r\n$6\r\nDBSIZE\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let count = line
        .trim_end()
        .strip_prefix(':')
        .and_then(|count| count.parse().ok());
    count.ok_or_else(|| io::Error::other(format!("DBSIZE answered {line:?}")))
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}
