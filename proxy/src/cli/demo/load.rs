//! The demo's load: one thread per protocol, paced, as an application would
//! behave that keeps its data in a cache.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::Client;
use super::figures::Tally;
use super::zipf::{Units, Zipf};
use crate::running::Protocol;

/// Connections per protocol, used in turn.
const CONNECTIONS: usize = 4;

/// How far the load may fall behind its plan before it gives up catching up.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Reads per second over all protocols.
    pub rate: u32,
    /// Different keys.
    pub keys: u32,
}

/// A running load; dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct Load {
    shape: Shape,
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Connect to each door and begin.
    pub fn start(doors: &[(Protocol, SocketAddr)], shape: Shape) -> io::Result<Load> {
        let mut load = Load {
            shape,
            tally: Arc::new(Mutex::new(Tally::new(shape.keys))),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let gap = Duration::from_secs(doors.len() as u64) / shape.rate;
        for (seed, &(protocol, address)) in doors.iter().enumerate() {
            let connect = |_| Client::connect(protocol, address);
            let driver = Driver {
                protocol,
                address,
                clients: (0..CONNECTIONS).map(connect).collect::<io::Result<_>>()?,
                zipf: Zipf::new(shape.keys),
                units: Units(seed as u64),
                tally: Arc::clone(&load.tally),
            };
            let stop = Arc::clone(&load.stop);
            let name = format!("demo-{}", protocol.name());
            let thread = thread::Builder::new()
                .name(name)
                .spawn(move || driver.run(gap, &stop))?;
            load.threads.push(thread);
        }
        Ok(load)
    }

    /// Connections of the load.
    pub fn connections(&self) -> usize {
        self.threads.len() * CONNECTIONS
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Tally {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut tally, Tally::new(self.shape.keys))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One thread's part.
struct Driver {
    protocol: Protocol,
    address: SocketAddr,
    clients: Vec<Client>,
    zipf: Zipf,
    units: Units,
    tally: Arc<Mutex<Tally>>,
}

impl Driver {
    fn run(mut self, gap: Duration, stop: &AtomicBool) {
        let mut due = Instant::now();
        for turn in (0..CONNECTIONS).cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.request(turn, due);
            due += gap;
            if due.elapsed() > BEHIND_MAX {
                due = Instant::now();
            }
        }
    }

    /// Read a key; write it if it is missing.
    fn request(&mut self, turn: usize, due: Instant) {
        let rank = self.zipf.rank(self.units.draw());
        let key = format!("key:{rank}");
        let read = self.clients[turn].read(&key);
        let latency = due.elapsed();
        let written = match read {
            Ok(false) => Some(self.clients[turn].write(&key, value(rank).as_bytes())),
            _ => None,
        };
        let failure = match (&read, &written) {
            (Err(error), _) | (_, Some(Err(error))) => Some(error.to_string()),
            _ => None,
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(hit) = read {
            tally.requests += 1;
            tally.reads += 1;
            tally.hits += u64::from(hit);
            tally.latencies.push(latency.as_nanos() as u64);
            tally.keys[rank as usize] += 1;
        }
        tally.requests += u64::from(matches!(written, Some(Ok(()))));
        if failure.is_some() {
            tally.errors += 1;
            tally.error = failure.clone();
        }
        drop(tally);
        if failure.is_some() {
            self.reconnect(turn);
        }
    }

    /// A connection with an error may hold half a reply: it is not used again.
    fn reconnect(&mut self, turn: usize) {
        match Client::connect(self.protocol, self.address) {
            Ok(client) => self.clients[turn] = client,
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Between 50 and 1000 bytes, always the same for a key.
fn value(rank: u32) -> String {
    let len = 50 + rank as usize * 37 % 951;
    format!("{:x<len$}", format!("value of key:{rank} "))
}
