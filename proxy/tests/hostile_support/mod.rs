//! What the hostile suites share: a proxy of one worker, so that an attack and
//! everybody else meet on the same thread; a client that goes on working while
//! the attack lasts; and what the kernel says of the process.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use crate::support::eventually;
use crate::support::{Client, Emberline, Server, setting, show};

pub const MIB: u64 = 1024 * 1024;

/// One worker; `proxy` are more lines for `[proxy]`, `pool` for the pool.
pub fn redis_proxy(servers: &[SocketAddr], proxy: &str, pool: &str) -> Emberline {
    one_worker(&redis_config(servers, proxy, pool))
}

/// The same before memcached servers.
pub fn memcached_proxy(servers: &[SocketAddr], proxy: &str, pool: &str) -> Emberline {
    one_worker(&config("memcached", "MEMCACHED_BIND", servers, proxy, pool))
}

/// The configuration of [`redis_proxy`], to add more tables to.
pub fn redis_config(servers: &[SocketAddr], proxy: &str, pool: &str) -> String {
    config("redis", "REDIS_BIND", servers, proxy, pool)
}

/// A proxy of one worker.
pub fn one_worker(config: &str) -> Emberline {
    Emberline::config_with(config, &["--workers", "1"])
}

fn config(protocol: &str, bind: &str, servers: &[SocketAddr], proxy: &str, pool: &str) -> String {
    // Patience for a debug build on a busy machine: nobody shall be told of a
    // timeout, or be cut off for reading slowly, for the machine's sake.
    let timeout = setting("EMBERLINE_TEST_TIMEOUT_MS", 10_000);
    let patience: String = ["request_timeout", "queue_timeout"]
        .into_iter()
        .filter(|key| !pool.contains(key))
        .map(|key| format!("{key} = \"{timeout}ms\"\n"))
        .collect();
    let servers: Vec<String> = servers
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    format!(
        "[proxy]\n{proxy}\n\
         [listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{bind}\"\nroute = \"main\"\n\
         [pools.main]\nprotocol = \"{protocol}\"\nservers = [{}]\n{pool}\n{patience}\n",
        servers.join(", ")
    )
}

/// The addresses of these servers.
pub fn addresses(servers: &[Server]) -> Vec<SocketAddr> {
    servers.iter().map(Server::address).collect()
}

/// Send bytes that may well get the connection closed, and take what comes
/// back until it is closed.
pub fn provoke(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let _ = stream.write_all(bytes);
    until_closed(&mut stream)
}

/// What comes until the other end closes or resets the connection.
pub fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut more) = (Vec::new(), [0; 65536]);
    loop {
        match stream.read(&mut more) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&more[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset) => return all,
            Err(error) => panic!("it was not closed ({error}) after {}", show(&all)),
        }
    }
}

/// A client that keeps asking and checks every answer.
#[derive(Debug)]
pub struct Bystander {
    stop: Arc<AtomicBool>,
    /// Pairs of requests that were answered.
    pairs: Arc<AtomicU64>,
    thread: JoinHandle<Duration>,
}

impl Bystander {
    /// SET and GET, each checked.
    pub fn redis(address: SocketAddr) -> Bystander {
        Bystander::start(address, |client, id, number| {
            let (key, value) = (
                format!("bystander:{id}:{}", number % 32),
                format!("value {number}"),
            );
            assert_eq!(show(&client.call(&["SET", &key, &value])), "+OK\\r\\n");
            let expected = format!("${}\\r\\n{value}\\r\\n", value.len());
            assert_eq!(show(&client.call(&["GET", &key])), expected);
        })
    }

    /// The same in memcached's words.
    pub fn memcached(address: SocketAddr) -> Bystander {
        Bystander::start(address, |client, id, number| {
            let (key, value) = (
                format!("bystander:{id}:{}", number % 32),
                format!("value {number}"),
            );
            let set = format!("set {key} 7 0 {}\r\n{value}\r\n", value.len());
            assert_eq!(show(&client.ask(set)), "STORED\\r\\n");
            let expected = format!("VALUE {key} 7 {}\\r\\n{value}\\r\\nEND\\r\\n", value.len());
            assert_eq!(show(&client.ask(format!("get {key}\r\n"))), expected);
        })
    }

    fn start(
        address: SocketAddr,
        ask: impl Fn(&mut Client, u64, u64) + Send + 'static,
    ) -> Bystander {
        // Several of them may be at work; their keys are their own.
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pairs = Arc::new(AtomicU64::new(0));
        let answered = Arc::clone(&pairs);
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(address);
            let (mut number, mut worst) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) || number == 0 {
                let begun = Instant::now();
                ask(&mut client, id, number);
                worst = worst.max(begun.elapsed());
                number += 1;
                answered.store(number, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            worst
        });
        Bystander {
            stop,
            pairs,
            thread,
        }
    }

    /// Wait until what it asks from now on is answered.
    pub fn goes_on(&self) {
        let before = self.pairs.load(Ordering::Relaxed);
        // The first of the two may have been on its way.
        eventually("a bystander is not answered", || {
            self.thread.is_finished() || self.pairs.load(Ordering::Relaxed) >= before + 2
        });
    }

    /// Stop; how long its slowest pair of requests took.
    pub fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(worst) => worst,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Forget the peak of resident memory; answers what is resident now.
pub fn reset_peak(proxy: &Emberline) -> u64 {
    std::fs::write(format!("/proc/{}/clear_refs", proxy.pid()), "5").unwrap();
    proxy.memory()
}

/// The peak of resident memory in bytes.
pub fn peak(proxy: &Emberline) -> u64 {
    proxy.status("VmHWM:")
}

/// Fail if the peak is more than `mib` MiB above `before`.
pub fn assert_growth(proxy: &Emberline, before: u64, mib: u64) {
    let growth = peak(proxy).saturating_sub(before);
    assert!(
        growth < mib * MIB,
        "memory grew by {} KiB, more than {mib} MiB",
        growth / 1024
    );
}
