//! What a program costs before it does anything: start time and memory.

use std::io;
use std::time::Duration;

use super::memory::{self, Growth};
use super::stats::median;
use crate::interrupt;
use crate::load::Protocol;
use crate::peers::{Kind, Servers};
use crate::process::Scratch;
use crate::procfs;

/// Fresh starts, of which the median counts.
const STARTS: usize = 5;

/// A program's size.
#[derive(Debug, Default)]
pub struct Footprint {
    /// From the start of the process to its first answer.
    pub start: Option<Duration>,
    /// Resident bytes after its first answer.
    pub idle: Option<u64>,
    /// Bytes per idle Redis connection.
    pub redis_connection: Option<f64>,
    /// Bytes per idle memcached connection.
    pub memcached_connection: Option<f64>,
    /// Growth while a large value passes.
    pub large: Option<Growth>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// Measure one program on fresh processes of it.
pub fn measure(kind: &Kind, servers: &Servers, scratch: &Scratch) -> io::Result<Footprint> {
    let mut footprint = Footprint::default();
    let (mut starts, mut idles) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let peer = kind.start(scratch, servers)?;
        starts.push(peer.started_in.as_secs_f64());
        idles.push(procfs::rss(peer.process.pid())? as f64);
    }
    footprint.start = median(&starts).map(Duration::from_secs_f64);
    footprint.idle = median(&idles).map(|bytes| bytes as u64);

    for protocol in [Protocol::Redis, Protocol::Memcached] {
        let peer = kind.start(scratch, servers)?;
        if peer.port(protocol).is_none() {
            continue;
        }
        let bytes = note(
            memory::per_connection(&peer, protocol),
            "connections",
            &mut footprint.failures,
        )?;
        match protocol {
            Protocol::Redis => footprint.redis_connection = bytes,
            Protocol::Memcached => footprint.memcached_connection = bytes,
        }
    }
    let peer = kind.start(scratch, servers)?;
    if peer.redis.is_some() {
        footprint.large = note(
            memory::large_value(&peer),
            "256 MiB value",
            &mut footprint.failures,
        )?;
    }
    Ok(footprint)
}

/// Keep a failure as a remark: one figure that cannot be had does not end the run.
fn note<T>(result: io::Result<T>, what: &str, failures: &mut Vec<String>) -> io::Result<Option<T>> {
    interrupt::check()?;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            failures.push(format!("{what}: {error}"));
            Ok(None)
        }
    }
}
