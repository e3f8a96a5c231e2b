//! The examples of `configs/`, with real servers in place of their addresses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use super::super::support::{Emberline, free_port};
use super::{Dialect, House, servers};

/// An example's text and what it mentions.
pub struct Example {
    text: String,
    dialect: Dialect,
    /// Servers in the order in which they appear: `a`, `b` ...
    addresses: Vec<String>,
}

/// Tell a story with an example of `configs/examples/`.
#[track_caller]
pub fn scenario(name: &str, script: &str) {
    let example = Example::open(name);
    assert!(!example.addresses.is_empty(), "{name} has no servers");
    if let Some(mut house) = example.start() {
        house.tell(script);
    }
}

impl Example {
    /// The example of this name.
    pub fn open(name: &str) -> Example {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../configs/examples")
            .join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{path:?}"));
        let dialect = match text.contains("127.0.0.1:12211") {
            true => Dialect::Memcached,
            false => Dialect::Redis,
        };
        let mut addresses: Vec<String> = Vec::new();
        for quoted in text.split('"').skip(1).step_by(2) {
            if quoted.starts_with("10.") && !addresses.iter().any(|known| known == quoted) {
                addresses.push(quoted.to_owned());
            }
        }
        Example {
            text,
            dialect,
            addresses,
        }
    }

    /// The same with other words at one place, which must be there.
    pub fn with(self, from: &str, to: &str) -> Example {
        assert!(self.text.contains(from), "there is no {from}");
        let text = self.text.replace(from, to);
        Example { text, ..self }
    }

    /// Servers and a proxy as the example says; `None` where they are not
    /// installed.
    pub fn start(self) -> Option<House> {
        let servers = servers(self.dialect, self.addresses.len())?;
        let mut text = self.text;
        for (address, server) in self.addresses.iter().zip(&servers) {
            let quoted = |address: &str| format!("\"{address}\"");
            text = text.replace(&quoted(address), &quoted(&server.address().to_string()));
        }
        text = text.replace("127.0.0.1:7379", "REDIS_BIND");
        text = text.replace("127.0.0.1:12211", "MEMCACHED_BIND");
        let mut doors = HashMap::new();
        while let Some((_, rest)) = text.split_once("\"127.0.0.1:73") {
            let port = format!("73{}", &rest[..2]);
            let door = SocketAddr::from(([127, 0, 0, 1], free_port()));
            text = text.replace(&format!("127.0.0.1:{port}\""), &format!("{door}\""));
            doors.insert(port, door);
        }
        let proxy = Emberline::config(&text);
        Some(House {
            doors,
            ..House::of(self.dialect, servers, proxy)
        })
    }
}

/// How many of these keys a server has.
pub fn count(house: &mut House, server: &str, keys: &[String]) -> usize {
    let mut has = |key: &String| house.perform(&format!("{server} get {key}")) != "-";
    keys.iter().filter(|key| has(key)).count()
}
