//! `emberline healthcheck`: is the proxy on this machine ready?
//!
//! Made for an exec probe: the kubelet cannot reach an admin listener on
//! loopback or a Unix socket, but it can run this in the container. It asks
//! `/readyz`, with nothing but a socket, and answers with its exit code.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the whole check may take unless told otherwise.
const TIMEOUT_MS: u64 = 1000;
/// Bytes of the answer that are read at most.
const ANSWER_MAX: usize = 16 * 1024;

/// Ask a running proxy whether it is ready: exit code 0 if it is, 1 if not.
#[derive(Clone, Debug, clap::Args)]
pub struct Healthcheck {
    /// The admin or status listener: HOST:PORT or unix:/PATH.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9779")]
    pub admin: String,
    /// How long the check may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout_ms: u64,
}

/// Check, and say on standard error why it failed.
pub fn run(args: Healthcheck) -> ExitCode {
    let timeout = Duration::from_millis(args.timeout_ms);
    match check(&args.admin, timeout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed there is nobody left to tell; the exit code stands.
            let _ = writeln!(io::stderr(), "not ready: {}: {error}", args.admin);
            ExitCode::FAILURE
        }
    }
}

/// Ask `/readyz` at this address.
///
/// # Errors
///
/// When it cannot be reached in time, or says anything but 200.
pub fn check(address: &str, timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    let answer = match address.strip_prefix("unix:") {
        Some(path) => ask(
            Stream::Unix(UnixStream::connect(PathBuf::from(path))?),
            deadline,
        )?,
        None => ask(Stream::Tcp(connect(address, deadline)?), deadline)?,
    };
    verdict(&answer)
}

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&reachable(address), left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A listener on the unspecified address is given as such in a config;
/// from here it is reached over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn limit(&self, left: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(bytes),
            Stream::Unix(stream) => stream.read(bytes),
        }
    }
}

/// Send the request and read the answer to its end. The deadline is for all
/// of it, so that an answer that trickles in does not hold up the probe.
fn ask(mut stream: Stream, deadline: Instant) -> io::Result<Vec<u8>> {
    stream.limit(left(deadline)?)?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while answer.len() < ANSWER_MAX {
        stream.limit(left(deadline)?)?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(late());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(late())
    } else {
        Ok(left)
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

fn verdict(answer: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(answer);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    match status {
        Some("200") => Ok(()),
        Some(status) => {
            let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let body = body.lines().next().unwrap_or_default().escape_debug();
            Err(io::Error::other(format!("status {status}: {body}")))
        }
        None => Err(io::Error::other("the answer is not HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_200_is_ready() {
        let check = |answer: &str| verdict(answer.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(check("HTTP/1.1 200 OK\r\n\r\nready\n"), Ok(()));
        assert_eq!(
            check("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n"),
            Err("status 503: draining".to_owned())
        );
        for garbage in [
            "",
            "HTTP/1.",
            "HTTP/1.1 2",
            "-ERR unknown command\r\n",
            "HTTP/1.1 \u{fffd}\u{fffd}",
        ] {
            assert_eq!(
                check(garbage),
                Err("the answer is not HTTP".to_owned()),
                "{garbage}"
            );
        }
    }
}
