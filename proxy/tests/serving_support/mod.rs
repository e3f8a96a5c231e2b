//! The whole proxy before real servers, with its metrics to look at.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub use super::support::eventually;
use super::support::{Client, Emberline, Server, free_port, page, show};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A running proxy and where its metrics are.
pub struct Proxy {
    emberline: Emberline,
    admin: SocketAddr,
}

impl Proxy {
    /// One listener over one pool, `main`, of these servers; `pool` is more of
    /// the pool's table, `more` the rest of the configuration.
    pub fn start(protocol: &str, servers: &[Server], pool: &str, more: &str) -> Proxy {
        let bind = format!("{}_BIND", protocol.to_uppercase());
        Proxy::config(&format!(
            "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{bind}\"\nroute = \"main\"\n\
             [pools.main]\nprotocol = \"{protocol}\"\nservers = [{}]\n{pool}\n{more}",
            list(servers)
        ))
    }

    /// Two workers with this configuration.
    pub fn config(text: &str) -> Proxy {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let bind = ["--admin-bind", &admin.to_string()];
        let emberline = Emberline::config_with(text, &bind);
        Proxy { emberline, admin }
    }

    /// How often this has happened in a pool.
    pub fn event_in(&self, pool: &str, event: &str) -> u64 {
        let text = page(self.admin, "/metrics");
        let (pool, event) = (format!("pool=\"{pool}\""), format!("event=\"{event}\""));
        let line = text.lines().find(|line| {
            line.starts_with("emberline_l1_events_total")
                && line.contains(&pool)
                && line.contains(&event)
        });
        line.map_or(0, |line| {
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
        })
    }

    /// Wait until this has happened in `main`: workers say so now and then.
    #[track_caller]
    pub fn has_seen(&self, event: &str) {
        eventually(&format!("no {event} was counted"), || self.event(event) > 0);
    }

    /// The same in `main`.
    pub fn event(&self, event: &str) -> u64 {
        self.event_in("main", event)
    }
}

impl Deref for Proxy {
    type Target = Emberline;

    fn deref(&self) -> &Emberline {
        &self.emberline
    }
}

impl DerefMut for Proxy {
    fn deref_mut(&mut self) -> &mut Emberline {
        &mut self.emberline
    }
}

/// The addresses of servers as a configuration lists them.
pub fn list(servers: &[Server]) -> String {
    let servers = servers.iter();
    let quoted: Vec<String> = servers
        .map(|server| format!("\"{}\"", server.address()))
        .collect();
    quoted.join(", ")
}

/// How often a command was called on a Redis server.
pub fn calls(server: &Server, command: &str) -> u64 {
    let stats = server.client().call(&["INFO", "commandstats"]);
    let stats = String::from_utf8_lossy(&stats).into_owned();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

/// A Redis `GET`, as a reader wants to see its reply.
pub fn get(client: &mut Client, key: &str) -> String {
    show(&client.call(&["GET", key]))
}

/// A Redis string's reply, as [`get`] shows it.
pub fn bulk(value: &str) -> String {
    format!("${}\\r\\n{value}\\r\\n", value.len())
}
