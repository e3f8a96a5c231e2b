//! Addresses as they are written: `host:port`, `[v6]:port`, `unix:/path`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::model::{Nameserver, Place};
use crate::running::{Address, Bind};

/// Where nameservers listen, unless they say otherwise.
const DNS_PORT: u16 = 53;
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
        Ok(match host.parse() {
            Ok(ip) => Address::Ip(SocketAddr::new(ip, port)),
            Err(_) => Address::Name {
                host,
                port,
                found: Err("it was not looked up".to_owned()),
            },
        })
    }
}

impl FromStr for Place {
    type Err = String;

    /// A leading underscore and no port: a service, as RFC 2782 names it.
    fn from_str(text: &str) -> Result<Place, String> {
        if !text.starts_with('_') || text.contains(':') {
            return text.parse().map(Place::Address);
        }
        let labels = || text.trim_end_matches('.').split('.');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_label = |label: &str| !label.is_empty() && label.chars().all(plain);
        let is_service = labels().count() > 2 && labels().take(2).all(|one| one.starts_with('_'));
        match is_service && text.len() <= 253 && labels().all(is_label) {
            true => Ok(Place::Service(text.to_owned())),
            false => Err(format!(
                "\"{text}\" is neither host:port nor a service: write it as in \
                 \"_redis._tcp.cache.default.svc.cluster.local\""
            )),
        }
    }
}

impl FromStr for Nameserver {
    type Err = String;

    fn from_str(text: &str) -> Result<Nameserver, String> {
        let alone = |ip| SocketAddr::new(ip, DNS_PORT);
        let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(alone));
        match address {
            Ok(address) if address.port() != 0 => Ok(Nameserver(address)),
            _ => Err(format!(
                "\"{text}\" is not a nameserver: write an IP address, as in \"10.0.0.2\" or \
                 \"10.0.0.2:53\""
            )),
        }
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
        let ip = |text: &str| Ok(Address::Ip(text.parse().unwrap()));
        let name = |host: &str, port| {
            Ok(Address::Name {
                host: host.into(),
                port,
                found: Ok(Vec::new()),
            })
        };
        assert_eq!("10.0.0.1:6379".parse(), ip("10.0.0.1:6379"));
        assert_eq!("redis-0.redis:6379".parse(), name("redis-0.redis", 6379));
        assert_eq!("[::1]:6379".parse(), ip("[::1]:6379"));
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
    fn services() {
        let service = |text: &str| Ok(Place::Service(text.to_owned()));
        for good in ["_redis._tcp.cache", "_r._tcp.a-b.svc.cluster.local."] {
            assert_eq!(good.parse(), service(good));
        }
        for bad in [
            "_redis",
            "_redis.cache",
            "_r._tcp",
            "_r._tcp..a",
            "_r._tcp.a b",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
        assert!(matches!("_a:1".parse(), Ok(Place::Address(_))));
    }

    #[test]
    fn nameservers() {
        let at = |text: &str| text.parse::<Nameserver>().map(|at| at.0.to_string());
        assert_eq!(at("10.0.0.2").unwrap(), "10.0.0.2:53");
        assert_eq!(at("10.0.0.2:5353").unwrap(), "10.0.0.2:5353");
        assert_eq!(at("::1").unwrap(), "[::1]:53");
        for bad in ["", "dns", "10.0.0.2:0", "10.0.0.2:x"] {
            assert!(at(bad).is_err(), "{bad:?}");
        }
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
