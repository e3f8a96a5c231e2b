//! Asking a running Emberline's HTTP listeners, with nothing but a socket.
//!
//! One request a connection, one deadline for all of it: an answer that
//! trickles in holds nobody up.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of an answer that are read at most.
const ANSWER_MAX: usize = 32 * 1024 * 1024;

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code, three digits.
    pub status: String,
    /// What stands behind the head, whole.
    pub body: String,
}

/// `GET` this path at `HOST:PORT` or `unix:/PATH`.
///
/// # Errors
///
/// When it cannot be reached, does not answer in time, or does not speak HTTP.
pub fn get(address: &str, path: &str, timeout: Duration) -> io::Result<Answer> {
    ask("GET", address, path, timeout)
}

/// `POST` nothing to this path.
///
/// # Errors
/// As for [`get`].
#[allow(dead_code, reason = "the readiness probe's test changes nothing")]
pub fn post(address: &str, path: &str, timeout: Duration) -> io::Result<Answer> {
    ask("POST", address, path, timeout)
}

fn ask(method: &str, address: &str, path: &str, timeout: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + timeout;
    let stream = match address.strip_prefix("unix:") {
        Some(path) => Stream::Unix(UnixStream::connect(PathBuf::from(path))?),
        None => Stream::Tcp(connect(address, deadline)?),
    };
    parse(&exchange(stream, method, path, deadline)?)
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

/// Send the request and read the answer to its end.
fn exchange(
    mut stream: Stream,
    method: &str,
    path: &str,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    stream.limit(left(deadline)?)?;
    let length = if method == "GET" {
        ""
    } else {
        "Content-Length: 0\r\n"
    };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while answer.len() < ANSWER_MAX {
        stream.limit(left(deadline)?)?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the answer has no end"))
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

/// Head and body. A body that is shorter than announced was cut off.
fn parse(answer: &[u8]) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(answer);
    let status = text
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    if announced(head).is_some_and(|len| body.len() < len) {
        return Err(io::Error::other("the answer was cut off"));
    }
    Ok(Answer {
        status: status.to_owned(),
        body: body.to_owned(),
    })
}

fn announced(head: &str) -> Option<usize> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

/// Percent-encode a value for a query.
#[allow(dead_code, reason = "the readiness probe's test has no queries")]
pub fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value
        .bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_an_error() {
        let check = |answer: &str| {
            let parsed = parse(answer.as_bytes()).map(|answer| (answer.status, answer.body));
            parsed.map_err(|error| error.to_string())
        };
        let is = |status: &str, body: &str| Ok((status.to_owned(), body.to_owned()));
        assert_eq!(
            check("HTTP/1.1 200 OK\r\n\r\nready\n"),
            is("200", "ready\n")
        );
        assert_eq!(
            check("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            is("404", "")
        );
        assert_eq!(
            check("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"),
            Err("the answer was cut off".to_owned())
        );
        for garbage in [
            "",
            "HTTP/1.",
            "HTTP/1.1 2",
            "-ERR unknown command\r\n",
            "HTTP/1.1 \u{fffd}\u{fffd}",
        ] {
            let error = Err("the answer is not HTTP".to_owned());
            assert_eq!(check(garbage), error, "{garbage}");
        }
    }

    #[test]
    fn a_value_means_nothing_in_a_query() {
        assert_eq!(
            encoded("user:1 &=%\r\n\u{fc}"),
            "user%3A1%20%26%3D%25%0D%0A%C3%BC"
        );
    }
}
