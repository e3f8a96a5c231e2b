//! `flash`: a flash crowd comes for one key; how much of it does its server see?
//!
//! The hot key has a pool and a redis-server to itself, behind a prefix route,
//! so everything that this server is asked is asked for that key: `INFO
//! commandstats` counts it, a second at a time. What the connections need for
//! themselves (PING, HELLO, CLIENT TRACKING) is not counted; every command of
//! a fill is.
//!
//! ```text
//!   load, open loop --> emberline, 2 workers --+--> redis-server "hot": key 0 alone
//!     half of it key 0                         +--> redis-server "rest": all others
//! ```
//!
//! The same load runs without an L1 and in each mode. The first second holds
//! what came before the key was found; the gate is on the busiest later one.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use emberline_benches::compare::stats::median;
use emberline_benches::load::options::parse_duration;
use emberline_benches::load::{Engine, Figures, Job, Limit, Options, Protocol, Target};
use emberline_benches::peers::{self, PATIENCE, Peer};
use emberline_benches::process::{self, Process, Scratch, free_port};
use emberline_benches::{interrupt, procfs};

/// Send a flash crowd at one key through Emberline and count what its server sees
#[derive(Parser, Debug)]
#[command(name = "flash", version)]
struct Arguments {
    /// The emberline binary
    #[arg(long, default_value = "target/release/emberline")]
    emberline: PathBuf,

    /// Requests per second
    #[arg(long, default_value_t = 50_000.0)]
    rate: f64,

    /// The hot key's share of them, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    hot: f64,

    /// Other keys
    #[arg(long, default_value_t = 100_000)]
    keys: u64,

    /// Skew of the other keys
    #[arg(long, default_value_t = 0.0)]
    zipf: f64,

    /// How long the crowd stays
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    time: Duration,

    /// Connections
    #[arg(short, long, default_value_t = 32)]
    connections: u32,

    /// Leave `[l1]` out of every configuration, for a build without it: no gate is judged
    #[arg(long)]
    plain_config: bool,
}

/// One setting of the L1.
struct Mode {
    name: &'static str,
    tables: &'static str,
    /// Requests per second that the key's server may see.
    gate: Option<u64>,
}

const MODES: &[Mode] = &[
    Mode {
        name: "off",
        tables: "\n[l1]\nmode = \"off\"\n",
        gate: None,
    },
    Mode {
        name: "ttl",
        tables: "\n[l1]\nmode = \"ttl\"\nttl = \"1s\"\n",
        gate: Some(20),
    },
    Mode {
        name: "tracking",
        tables: "\n[l1]\nmode = \"tracking\"\n",
        gate: Some(5),
    },
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::install();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flash: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut outcomes = Vec::new();
    for mode in MODES {
        let outcome = trial(mode, arguments)?;
        eprintln!("{:8} per second: {:?}", mode.name, outcome.per_second);
        outcomes.push((mode, outcome));
    }
    print!("{}", table(arguments, &outcomes));
    let met = |(mode, outcome): &(&Mode, Outcome)| outcome.verdict(mode) != Some(false);
    Ok(arguments.plain_config || outcomes.iter().all(met))
}

/// What one run showed.
struct Outcome {
    /// Commands that the key's server saw, second by second.
    per_second: Vec<u64>,
    /// CPU time of the proxy and of the two servers.
    proxy: Duration,
    hot: Duration,
    rest: Duration,
    figures: Figures,
}

impl Outcome {
    /// The most in any second but the first.
    fn busiest(&self) -> Option<u64> {
        self.per_second.iter().skip(1).max().copied()
    }

    fn verdict(&self, mode: &Mode) -> Option<bool> {
        Some(self.busiest()? <= mode.gate?)
    }
}

fn trial(mode: &Mode, arguments: &Arguments) -> io::Result<Outcome> {
    // Declared before the processes, so that it is removed after they have ended.
    let scratch = Scratch::new("flash")?;
    let hot = peers::redis::start(&scratch, "redis-hot")?;
    let rest = peers::redis::start(&scratch, "redis-rest")?;
    let tables = if arguments.plain_config {
        ""
    } else {
        mode.tables
    };
    let (proxy, port) = start(&scratch, &arguments.emberline, &hot, &rest, tables)?;

    let calm = Options {
        connections: arguments.connections,
        // Room for what piles up while the proxy is not scheduled.
        pipeline: 256,
        keys: arguments.keys,
        zipf: arguments.zipf,
        verify: true,
        ..Options::new(Target::Tcp(format!("127.0.0.1:{port}")), Protocol::Redis)
    };
    let filled = Engine::connect(calm.clone())?.run(Job::Fill, None)?;
    if !filled.clean() {
        return Err(io::Error::other(filled.text()));
    }
    // The others come first, so that the crowd meets a proxy at work.
    let others = Options {
        rate: Some(arguments.rate * (1.0 - arguments.hot).max(0.01)),
        ..calm.clone()
    };
    Engine::connect(others)?.run(Job::Mix(Limit::Time(Duration::from_secs(1))), None)?;

    let crowd = Options {
        rate: Some(arguments.rate),
        hot: arguments.hot,
        ..calm
    };
    let mut engine = Engine::connect(crowd)?;
    let mut watch = Watch::open(&hot)?;
    let cpu = || -> io::Result<[Duration; 3]> {
        Ok([
            procfs::cpu(proxy.pid())?,
            procfs::cpu(hot.process.pid())?,
            procfs::cpu(rest.process.pid())?,
        ])
    };
    let before = cpu()?;
    let (figures, per_second) = thread::scope(|scope| {
        let load = scope.spawn(|| engine.run(Job::Mix(Limit::Time(arguments.time)), None));
        let per_second = watch.count(arguments.time);
        let figures = load
            .join()
            .map_err(|_| io::Error::other("the load panicked"))??;
        Ok::<_, io::Error>((figures, per_second?))
    })?;
    interrupt::check()?;
    let after = cpu()?;
    let [proxy, hot, rest] = [0, 1, 2].map(|i| after[i].saturating_sub(before[i]));
    Ok(Outcome {
        per_second,
        proxy,
        hot,
        rest,
        figures,
    })
}

/// Emberline with two workers and the hot key's pool behind a prefix.
fn start(
    scratch: &Scratch,
    binary: &Path,
    hot: &Peer,
    rest: &Peer,
    tables: &str,
) -> io::Result<(Process, u16)> {
    let (port, admin) = (free_port()?, free_port()?);
    let mut toml = format!(
        "[proxy]\nworkers = 2\n\n[admin]\nbind = \"127.0.0.1:{admin}\"\n\n\
         [listeners.redis]\nprotocol = \"redis\"\nbind = \"127.0.0.1:{port}\"\nroute = \"by_key\"\n\n\
         [routes.by_key]\ntype = \"prefix\"\ndefault = \"rest\"\n\n\
         [routes.by_key.children]\n\"key:000000000000\" = \"hot\"\n"
    );
    for (pool, peer) in [("hot", hot), ("rest", rest)] {
        let server = peer.redis.unwrap_or_default();
        // Writing into a String cannot fail.
        let _ = write!(
            toml,
            "\n[pools.{pool}]\nprotocol = \"redis\"\nservers = [\"127.0.0.1:{server}\"]\n\
             request_timeout = \"10s\"\n"
        );
    }
    toml.push_str(tables);
    let config = scratch.file("emberline.toml");
    fs::write(&config, toml)?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("-c").arg(&config);
    let mut process = Process::start("emberline", &mut command, scratch)?;
    process::wait_until(&mut process, PATIENCE, || peers::ask(port, Protocol::Redis))?;
    Ok((process, port))
}

/// A connection to the hot key's server that reads its counters.
struct Watch(BufReader<TcpStream>);

impl Watch {
    fn open(peer: &Peer) -> io::Result<Watch> {
        let port = peer.redis.ok_or(io::ErrorKind::Unsupported)?;
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Watch(BufReader::new(stream)))
    }

    /// Commands for the key in each whole second from now on.
    fn count(&mut self, time: Duration) -> io::Result<Vec<u64>> {
        let start = Instant::now();
        let mut per_second = Vec::new();
        let mut last = self.commands()?;
        for second in 1..=time.as_secs() {
            let due = start + Duration::from_secs(second);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            interrupt::check()?;
            let now = self.commands()?;
            per_second.push(now - last);
            last = now;
        }
        Ok(per_second)
    }

    /// Commands for the key since the server started.
    fn commands(&mut self) -> io::Result<u64> {
        self.0
            .get_mut()
            .write_all(b"*2\r\n$4\r\nINFO\r\n$12\r\ncommandstats\r\n")?;
        let mut head = String::new();
        self.0.read_line(&mut head)?;
        let len = head
            .strip_prefix('$')
            .and_then(|len| len.trim_end().parse::<usize>().ok())
            .ok_or_else(|| io::Error::other(format!("INFO answered {head:?}")))?;
        let mut text = vec![0; len + 2];
        self.0.read_exact(&mut text)?;
        Ok(commands_of(&String::from_utf8_lossy(&text)))
    }
}

/// The sum of the calls of `INFO commandstats`, without what is asked for the
/// connection's sake.
fn commands_of(stats: &str) -> u64 {
    stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .filter(|(name, _)| !is_upkeep(name))
        .filter_map(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok())
        .sum()
}

fn is_upkeep(command: &str) -> bool {
    let (command, sub) = command.split_once('|').unwrap_or((command, ""));
    match command {
        "client" => sub != "caching",
        "info" | "ping" | "hello" | "auth" | "select" | "command" | "config" | "readonly" => true,
        _ => false,
    }
}

fn table(arguments: &Arguments, outcomes: &[(&Mode, Outcome)]) -> String {
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "{:.0} requests/s, {:.0} % of them for one key, two workers, {} s. Commands for the key that its \
         server saw: in the first second, and in the later ones.\n\n\
         | mode | first second | median | most | limit | verdict | proxy CPU, us/request | hot server CPU, % | \
         other server CPU, % | p50, us | p99, us | load |\n|---|---|---|---|---|---|---|---|---|---|---|---|",
        arguments.rate,
        arguments.hot * 100.0,
        arguments.time.as_secs()
    );
    for (mode, outcome) in outcomes {
        let later: Vec<f64> = outcome
            .per_second
            .iter()
            .skip(1)
            .map(|&n| n as f64)
            .collect();
        let figures = &outcome.figures;
        let share =
            |cpu: Duration| 100.0 * cpu.as_secs_f64() / figures.elapsed.as_secs_f64().max(1e-9);
        let verdict = match outcome.verdict(mode).filter(|_| !arguments.plain_config) {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "-",
        };
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} | {} | {} | {verdict} | {:.2} | {:.1} | {:.1} | {:.0} | {:.0} | {} |",
            mode.name,
            outcome.per_second.first().copied().unwrap_or_default(),
            median(&later).unwrap_or(f64::NAN),
            outcome.busiest().unwrap_or_default(),
            mode.gate.map_or("-".to_owned(), |gate| gate.to_string()),
            outcome.proxy.as_secs_f64() * 1e6 / figures.requests.max(1) as f64,
            share(outcome.hot),
            share(outcome.rest),
            figures.quantile(0.5),
            figures.quantile(0.99),
            soundness(figures),
        );
    }
    out
}

/// Whether the load itself went well.
fn soundness(figures: &Figures) -> String {
    match figures.clean() && figures.misses() == 0 && figures.unsent == 0 {
        true => "all right".to_owned(),
        false => format!(
            "{} errors, {} wrong, {} misses, {} unsent",
            figures.errors + figures.lost,
            figures.mismatches,
            figures.misses(),
            figures.unsent
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_for_the_key_count() {
        let stats = "# Commandstats\r\ncmdstat_get:calls=3,usec=9,usec_per_call=3.00\r\n\
            cmdstat_pttl:calls=2,usec=1\r\ncmdstat_client|caching:calls=2,usec=1\r\n\
            cmdstat_client|tracking:calls=7,usec=1\r\ncmdstat_ping:calls=100,usec=1\r\n\
            cmdstat_info:calls=50,usec=1\r\ncmdstat_touch:calls=1,usec=1\r\n";
        assert_eq!(commands_of(stats), 8);
        assert_eq!(commands_of(""), 0);
    }
}
