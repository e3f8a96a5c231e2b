//! Addresses as they are written: `host:port`, `[v6]:port`, `unix:/path`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::running::{Address, Bind};

/// What stands in front of a Unix socket's path.
const UNIX: &str = "unix:";
/// The kernel's limit, `sizeof(sockaddr_un.sun_path)` less the final NUL.
const UNIX_PATH_MAX: usize = 107;

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = unix_path(text)? {
            return Ok(Address::Unix(path));
        }
        let (host, port) = host_port(text)?;
        if port == 0 {
            return Err(format!("\"{text}\" names port 0, where no server can be"));
        }
        Ok(Address::Tcp { host, port })
    }
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Bind, String> {
        if let Some(path) = unix_path(text)? {
            return Ok(Bind::Unix(path));
        }
        let (host, port) = host_port(text)?;
        let ip = match host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host.parse().map_err(|_| {
                format!(
                    "\"{host}\" is not an IP address; listening needs one, as in 127.0.0.1 or [::1]"
                )
            })?,
        };
        Ok(Bind::Tcp(SocketAddr::new(ip, port)))
    }
}

impl Bind {
    /// Whether nobody outside this machine can connect there.
    pub fn is_loopback(&self) -> bool {
        match self {
            Bind::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Bind::Unix(_) => true,
        }
    }
}

/// Whether both cannot be listened on at once. Port 0 never clashes: the
/// kernel picks a free one.
pub fn clash(a: &Bind, b: &Bind) -> bool {
    match (a, b) {
        (Bind::Unix(a), Bind::Unix(b)) => a == b,
        (Bind::Tcp(a), Bind::Tcp(b)) => {
            let every = a.ip().is_unspecified() || b.ip().is_unspecified();
            let same = a.ip() == b.ip() || (every && a.is_ipv4() == b.is_ipv4());
            a.port() != 0 && a.port() == b.port() && same
        }
        _ => false,
    }
}

fn unix_path(text: &str) -> Result<Option<PathBuf>, String> {
    let path = match text.strip_prefix(UNIX) {
        Some(path) => path,
        None if text.starts_with('/') => {
            return Err(format!(
                "write `unix:` in front of a socket's path: \"unix:{text}\""
            ));
        }
        None => return Ok(None),
    };
    if path.is_empty() || path.contains('\0') {
        return Err(format!("\"{text}\" lacks a path behind `unix:`"));
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(format!(
            "the path of a Unix socket has at most {UNIX_PATH_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    Ok(Some(PathBuf::from(path)))
}

fn host_port(text: &str) -> Result<(String, u16), String> {
    let shape =
        || format!("\"{text}\" is not an address: write host:port, [v6]:port or unix:/path");
    let (host, port) = text.rsplit_once(':').ok_or_else(shape)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']').ok_or_else(shape)?;
            let v6 = inner.parse::<std::net::Ipv6Addr>();
            v6.map_err(|_| format!("\"{inner}\" is not an IPv6 address"))?;
            inner
        }
        None if host.contains(':') => return Err(weight_or_v6(text)),
        None => host,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
        return Err(shape());
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits => Ok((host.to_owned(), port)),
        _ => Err(format!(
            "\"{port}\" is not a port, a number from 1 to 65535"
        )),
    }
}

/// Two colons are either twemproxy's `host:port:weight` or an IPv6 address
/// without its brackets.
fn weight_or_v6(text: &str) -> String {
    let parts: Vec<_> = text.split([':', ' ']).collect();
    match parts[..] {
        [host, port, weight, ..]
            if port.parse::<u16>().is_ok() && weight.parse::<u32>().is_ok() =>
        {
            format!(
                "\"{text}\" is twemproxy's way to give a weight: write \
                 {{ address = \"{host}:{port}\", weight = {weight} }}"
            )
        }
        _ => format!("\"{text}\" is not an address: write an IPv6 address in brackets, [v6]:port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let tcp = |host: &str, port| {
            Ok(Address::Tcp {
                host: host.into(),
                port,
            })
        };
        assert_eq!("10.0.0.1:6379".parse(), tcp("10.0.0.1", 6379));
        assert_eq!("redis-0.redis:6379".parse(), tcp("redis-0.redis", 6379));
        assert_eq!("[::1]:6379".parse(), tcp("::1", 6379));
        assert_eq!(
            "unix:/run/r.sock".parse(),
            Ok(Address::Unix("/run/r.sock".into()))
        );
        let bad = [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:b",
            "a:65536",
            "a:+1",
            "a:0",
            "::1:6379",
            "[::1]",
            "[x]:1",
            "a b:1",
            "unix:",
            "/run/r.sock",
            "a\r\n:1",
            "a:1:2",
        ];
        for bad in bad {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
        let error = "a:1:2".parse::<Address>().unwrap_err();
        assert!(
            error.contains("{ address = \"a:1\", weight = 2 }"),
            "{error}"
        );
    }

    #[test]
    fn binds() {
        let bind = |text: &str| text.parse::<Bind>();
        assert!(bind("127.0.0.1:1").unwrap().is_loopback());
        assert!(bind("localhost:1").unwrap().is_loopback());
        assert!(bind("[::1]:1").unwrap().is_loopback());
        assert!(bind("unix:/x").unwrap().is_loopback());
        assert!(!bind("0.0.0.0:1").unwrap().is_loopback());
        assert!(bind("example.org:1").is_err());
        let both = |a: &str, b: &str| clash(&bind(a).unwrap(), &bind(b).unwrap());
        assert!(both("127.0.0.1:1", "0.0.0.0:1"));
        assert!(both("unix:/x", "unix:/x"));
        assert!(!both("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!both("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!both("[::]:1", "127.0.0.1:1"));
    }
}
