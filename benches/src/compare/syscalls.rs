//! System calls per request, in short runs of their own.
//!
//! `perf stat` counts at nearly no cost, where it is permitted; `strace -c`
//! always counts right, but slows the process down so much that its batches
//! get smaller, so its figure is an upper bound.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::cells::Cell;
use super::rounds::trusted;
use crate::load::{Engine, Job, Limit};
use crate::peers::Peer;
use crate::process::{self, Process, Scratch};

const EVENT: &str = "raw_syscalls:sys_enter";

/// What can count here.
#[derive(Clone, Debug)]
pub enum Counter {
    /// `perf stat`.
    Perf(PathBuf),
    /// `strace -c`.
    Strace(PathBuf),
}

impl Counter {
    /// The better one that works on this machine.
    pub fn find() -> Option<Counter> {
        let perf = process::find("perf").filter(|perf| {
            let output = Command::new(perf)
                .args(["stat", "-x", ",", "-e", EVENT, "true"])
                .output();
            output.is_ok_and(|output| {
                count_of_perf(&String::from_utf8_lossy(&output.stderr)).is_some()
            })
        });
        perf.map(Counter::Perf)
            .or_else(|| process::find("strace").map(Counter::Strace))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Counter::Perf(_) => "perf stat",
            Counter::Strace(_) => "strace -c",
        }
    }

    /// System calls per request of this peer in this cell.
    pub fn measure(&self, cell: &Cell, peer: &Peer, scratch: &Scratch) -> io::Result<f64> {
        let target = peer
            .target(cell.protocol)
            .ok_or(io::ErrorKind::Unsupported)?;
        let mut engine = Engine::connect(cell.options(target))?;
        let warm = Limit::Time(Duration::from_millis(200));
        trusted(engine.run(Job::Mix(warm), None)?)?;
        let process = Process::start("counter", &mut self.command(peer.process.pid()), scratch)?;
        // Neither program says when it has attached.
        thread::sleep(Duration::from_millis(500));
        let limit = match self {
            Counter::Perf(_) => Limit::Time(Duration::from_secs(1)),
            Counter::Strace(_) => Limit::Requests(20_000),
        };
        let figures = trusted(engine.run(Job::Mix(limit), None)?)?;
        let output = process.interrupt(Duration::from_secs(10))?;
        let count = match self {
            Counter::Perf(_) => count_of_perf(&output),
            Counter::Strace(_) => count_of_strace(&output),
        };
        let count = count.ok_or_else(|| io::Error::other(format!("no count in {output:?}")))?;
        Ok(count as f64 / figures.requests.max(1) as f64)
    }

    fn command(&self, pid: u32) -> Command {
        let pid = pid.to_string();
        match self {
            Counter::Perf(perf) => {
                let mut command = Command::new(perf);
                command.args(["stat", "-x", ",", "-e", EVENT, "-p", &pid]);
                command
            }
            Counter::Strace(strace) => {
                let mut command = Command::new(strace);
                command.args(["-c", "-f", "-p", &pid]);
                command
            }
        }
    }
}

/// The first field of the line that names the event.
fn count_of_perf(output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.contains(EVENT))?;
    line.split(',').next()?.trim().parse().ok()
}

/// The fourth column of the line `total`.
fn count_of_strace(output: &str) -> Option<u64> {
    let line = output
        .lines()
        .find(|line| line.trim_end().ends_with(" total"))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_in_the_output() {
        assert_eq!(
            count_of_perf("12345,,raw_syscalls:sys_enter,1000,100.00,,\n"),
            Some(12345)
        );
        assert_eq!(
            count_of_perf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"),
            None
        );
        let strace = "strace: Process 1 attached\n% time seconds usecs/call calls errors syscall\n\
                      ------ ----------- ----------- --------- --------- ------\n\
                      100.00    0.001000           1       777        12 total\n";
        assert_eq!(count_of_strace(strace), Some(777));
        assert_eq!(count_of_strace("nothing"), None);
    }
}
