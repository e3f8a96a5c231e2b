//! Memory per idle connection, and memory while a large value passes through.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::interrupt;
use crate::load::{Engine, Job, Limit, Options, Protocol};
use crate::peers::{Peer, ask_on};
use crate::procfs;

/// Connections held open at once.
const CONNECTIONS: u64 = 2_000;

/// Bytes of the large value.
pub const LARGE: u64 = 256 << 20;

/// A large value that takes longer has failed.
const LARGE_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that each idle connection costs after one request.
///
/// The process has carried some load before, so that what it allocates once is
/// there already.
pub fn per_connection(peer: &Peer, protocol: Protocol) -> io::Result<f64> {
    let target = peer.target(protocol).ok_or(io::ErrorKind::Unsupported)?;
    let port = peer.port(protocol).ok_or(io::ErrorKind::Unsupported)?;
    let mut engine = Engine::connect(Options::new(target, protocol))?;
    engine.run(Job::Mix(Limit::Time(Duration::from_millis(300))), None)?;
    drop(engine);
    thread::sleep(Duration::from_millis(300));

    let pid = peer.process.pid();
    let before = procfs::rss(pid)?;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        interrupt::check()?;
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        ask_on(&mut stream, protocol)?;
        open.push(stream);
    }
    thread::sleep(Duration::from_millis(300));
    let after = procfs::rss(pid)?;
    Ok(after.saturating_sub(before) as f64 / CONNECTIONS as f64)
}

/// Growth in bytes, above the memory before both, while a large value is
/// written and read back.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// During SET.
    pub set: u64,
    /// During GET.
    pub get: u64,
}

/// SET and GET a value of [`LARGE`] bytes, never holding it here either.
pub fn large_value(peer: &Peer) -> io::Result<Growth> {
    let port = peer.redis.ok_or(io::ErrorKind::Unsupported)?;
    let pid = peer.process.pid();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let before = procfs::rss(pid)?;
    let set = growth(pid, before, || write_large(&mut stream))?;
    let get = growth(pid, before, || read_large(&mut stream))?;
    stream.write_all(b"*2\r\n$3\r\nDEL\r\n$5\r\nlarge\r\n")?;
    Ok(Growth { set, get })
}

fn write_large(stream: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + LARGE_PATIENCE;
    write!(stream, "*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${LARGE}\r\n")?;
    let block = vec![b'x'; 64 << 10];
    for _ in 0..LARGE / block.len() as u64 {
        stream.write_all(&block)?;
        in_time(deadline)?;
    }
    stream.write_all(b"\r\n")?;
    let mut reply = [0; 5];
    stream.read_exact(&mut reply)?;
    match &reply {
        b"+OK\r\n" => Ok(()),
        other => Err(io::Error::other(format!(
            "SET answered \"{}\"",
            other.escape_ascii()
        ))),
    }
}

fn read_large(stream: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + LARGE_PATIENCE;
    stream.write_all(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n")?;
    let head = format!("${LARGE}\r\n");
    let mut left = head.len() as u64 + LARGE + 2;
    let mut block = vec![0; 64 << 10];
    while left > 0 {
        let room = left.min(block.len() as u64) as usize;
        match stream.read(&mut block[..room])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                if left == head.len() as u64 + LARGE + 2 && block[0] != b'$' {
                    return Err(io::Error::other(format!(
                        "GET answered \"{}\"",
                        block[..n.min(80)].escape_ascii()
                    )));
                }
                left -= n as u64;
            }
        }
        in_time(deadline)?;
    }
    Ok(())
}

fn in_time(deadline: Instant) -> io::Result<()> {
    interrupt::check()?;
    match Instant::now() > deadline {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(()),
    }
}

/// How far the resident memory rises above `before` while `work` runs.
fn growth(pid: u32, before: u64, work: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let peak = AtomicU64::new(before);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Ok(now) = procfs::rss(pid) {
                    peak.fetch_max(now, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(3));
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })?;
    Ok(peak.into_inner().max(procfs::rss(pid)?) - before)
}
