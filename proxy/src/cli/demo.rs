//! `emberline demo`: see it work, with nothing installed.
//!
//! Starts the embedded pools in this process, puts a small skewed load on both
//! of its ports as an application would (read; on a miss, write), and shows
//! what happens each second. The load is paced, so the demo is no benchmark.

mod client;
mod figures;
mod load;
mod zipf;

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::figures::{Hot, Second};
use self::load::{Load, Shape};
use super::embedded::{Embedded, MEMCACHED_BIND, REDIS_BIND};
use super::terminal;
use crate::config::model::{ADMIN_BIND, AdminBind};
use crate::metrics::hotkeys::{self, Sort};
use crate::metrics::process::cpu_time;
use crate::running::{Bind, Protocol, Visibility};
use crate::server::{self, Handle};

#[derive(Debug, Args)]
pub struct Demo {
    /// Stop after this many seconds [default: on Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Reads per second, over both protocols; a miss adds a write
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=50_000))]
    rate: u32,
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
}

pub fn run(args: &Demo) -> ExitCode {
    match try_run(args, io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the figures has had enough: `emberline demo | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &Demo, mut out: impl Write) -> io::Result<()> {
    let page = page();
    let handle = start(page.clone(), args.rate)?;
    let doors = doors(&handle);
    let shape = Shape {
        rate: args.rate,
        keys: args.keys,
    };
    let load = Load::start(&doors, shape)?;
    if let AdminBind::On(bind) = page {
        writeln!(out, "watch it on http://{bind}")?;
    }
    let result = show(args, &doors, &load, &handle, out);
    // The load first: the server waits for clients that are still connected.
    drop(load);
    handle.shutdown();
    result
}

/// A key with more than this part of a pool's reads is hot in the demo. The
/// default threshold is made for a load that a demo should not put on a laptop.
const HOT_SHARE: f64 = 0.02;

/// The embedded configuration on its usual ports, or on free ones where those are taken.
fn start(page: AdminBind, rate: u32) -> io::Result<Handle> {
    let embedded = Embedded {
        redis_bind: Some(free_or_any(REDIS_BIND)?),
        memcached_bind: Some(free_or_any(MEMCACHED_BIND)?),
        admin_bind: Some(page),
        ..Embedded::default()
    };
    let (running, report) = embedded.assemble();
    let mut running = running.ok_or_else(|| {
        let texts: Vec<&str> = report
            .diagnostics()
            .map(|one| one.message.as_str())
            .collect();
        io::Error::other(texts.join("; "))
    })?;
    // The keys are the demo's own and nobody's secret.
    running.visibility = Visibility::Plain;
    let reads = f64::from(rate) / running.pools.len().max(1) as f64;
    for at in 0..running.pools.places() {
        let pool = &mut running.pools[at];
        pool.hotkey.threshold = ((reads * HOT_SHARE) as u64).max(5);
    }
    server::start(Arc::new(running))
}

fn free_or_any(usual: &str) -> io::Result<Bind> {
    let mut address: SocketAddr = usual.parse().map_err(io::Error::other)?;
    if TcpListener::bind(address).is_err() {
        address.set_port(0);
    }
    Ok(Bind::Tcp(address))
}

/// The page on its usual address, or none where that is taken.
fn page() -> AdminBind {
    match (TcpListener::bind(ADMIN_BIND), ADMIN_BIND.parse()) {
        (Ok(_), Ok(bind)) => AdminBind::On(bind),
        _ => AdminBind::Off,
    }
}

/// Where each protocol is spoken.
fn doors(handle: &Handle) -> Vec<(Protocol, SocketAddr)> {
    let door = |(name, bind): &(String, Bind)| match bind {
        Bind::Tcp(address) if name == Protocol::Redis.name() => Some((Protocol::Redis, *address)),
        Bind::Tcp(address) => Some((Protocol::Memcached, *address)),
        Bind::Unix(_) => None,
    };
    handle.addresses().iter().filter_map(door).collect()
}

/// Print figures each second until the time is over or a signal comes.
fn show(
    args: &Demo,
    doors: &[(Protocol, SocketAddr)],
    load: &Load,
    handle: &Handle,
    mut out: impl Write,
) -> io::Result<()> {
    for (protocol, address) in doors {
        writeln!(out, "{} on {address}", protocol.name())?;
    }
    writeln!(
        out,
        "{} reads per second over {} keys, Zipf 1.0; a key that is missing is written, to live 5 s",
        args.rate, args.keys
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut view = View {
            in_place: io::stdout().is_terminal(),
            lines: 0,
        };
        let mut last = (Instant::now(), cpu_time().unwrap_or(0.0));
        let first = tokio::time::Instant::now() + Duration::from_secs(1);
        let mut ticks = tokio::time::interval_at(first, Duration::from_secs(1));
        let mut number = 0;
        while args.seconds.is_none_or(|seconds| number < seconds) {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            number += 1;
            let now = (Instant::now(), cpu_time().unwrap_or(0.0));
            let second = Second {
                number,
                length: now.0 - last.0,
                cpu: now.1 - last.1,
                connections: load.connections(),
                hot: hot(handle),
                tally: load.take(),
            };
            last = now;
            view.draw(&mut out, &second)?;
        }
        Ok(())
    })
}

/// The keys that the proxy has found to be hot, the busiest first.
fn hot(handle: &Handle) -> Vec<Hot> {
    let state = handle.state().view();
    let mut found = hotkeys::list(state.l1, &state.running, |_| true);
    Sort::Rate.sort(&mut found);
    let pool = |hot: &hotkeys::Hot| state.running.pools.get(usize::from(hot.pool.0));
    let found = found.into_iter().map(|hot| Hot {
        pool: pool(&hot).map_or_else(String::new, |pool| pool.name.clone()),
        key: hot.key,
        lower: hot.requests.lower,
        upper: hot.requests.upper,
        share: hot.share,
    });
    found.collect()
}

/// One line a second; on a terminal a small panel that is drawn over itself.
struct View {
    in_place: bool,
    lines: usize,
}

impl View {
    fn draw(&mut self, out: &mut impl Write, second: &Second) -> io::Result<()> {
        if !self.in_place {
            writeln!(out, "{}", second.line())?;
            return out.flush();
        }
        let panel = second.panel();
        if self.lines > 0 {
            // Up to where the last panel began, and clear from there.
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        self.lines = panel.lines().count();
        write!(out, "{panel}")?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seconds_of_demo_have_answers_and_no_errors() {
        let args = Demo {
            seconds: Some(2),
            rate: 500,
            keys: 100,
        };
        let mut out = Vec::new();
        try_run(&args, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("redis on 127.0.0.1:"), "{text}");
        assert!(text.contains("memcached on 127.0.0.1:"), "{text}");
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("2 s") && last.contains("errors 0"),
            "{text}"
        );
        assert!(!last.contains("hits 0.0 %"), "{text}");
    }
}
