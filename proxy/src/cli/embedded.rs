//! The configuration when there is no file: a listener for each protocol, in
//! front of a local pool, or of the servers that the command line names.

use std::sync::Arc;

use crate::config::model::{
    AdminBind, Child, Config, Listener, Place, PoolKind, PoolTable, Server,
};
use crate::config::{At, Recipe, Report};
use crate::dns::Known;
use crate::running::{Address, Bind, Protocol, Running};

/// Where Redis clients find the proxy unless it is told otherwise.
pub const REDIS_BIND: &str = "127.0.0.1:7379";
/// Where memcached clients find it.
pub const MEMCACHED_BIND: &str = "127.0.0.1:12211";

/// What the command line says in place of a file.
#[derive(Debug, Default)]
pub struct Embedded {
    /// Redis servers.
    pub redis: Vec<String>,
    /// memcached servers.
    pub memcached: Vec<String>,
    /// Worker threads.
    pub workers: Option<usize>,
    /// Where Redis clients connect.
    pub redis_bind: Option<Bind>,
    /// Where memcached clients connect.
    pub memcached_bind: Option<Bind>,
    /// Where the admin API listens.
    pub admin_bind: Option<AdminBind>,
}

impl Embedded {
    /// Build it without looking up names. The report holds at least one error if
    /// that fails, such as a server that is named twice.
    pub fn assemble(&self) -> (Option<Running>, Report) {
        Recipe::Command(Box::new(self.config())).build(None, &Known::default(), &Arc::default())
    }

    /// What it amounts to.
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        config.proxy.workers = self.workers.map(at);
        config.admin.bind = self.admin_bind.clone().map(at);
        // Naming the servers of one protocol, or its address, asks for that
        // one alone; naming nothing asks for both.
        let redis = !self.redis.is_empty() || self.redis_bind.is_some();
        let memcached = !self.memcached.is_empty() || self.memcached_bind.is_some();
        let only_redis = !self.redis.is_empty() && !memcached;
        let only_memcached = !self.memcached.is_empty() && !redis;
        if !only_memcached {
            let bind = self.redis_bind.clone().or(REDIS_BIND.parse().ok());
            add(&mut config, Protocol::Redis, bind, &self.redis);
        }
        if !only_redis {
            let bind = self.memcached_bind.clone().or(MEMCACHED_BIND.parse().ok());
            add(&mut config, Protocol::Memcached, bind, &self.memcached);
        }
        config
    }
}

/// A listener and its pool, both named as the protocol.
fn add(config: &mut Config, protocol: Protocol, bind: Option<Bind>, servers: &[String]) {
    let name = protocol.name().to_owned();
    let mut pool = PoolTable {
        protocol: Some(at(protocol)),
        ..PoolTable::default()
    };
    if servers.is_empty() {
        pool.kind = Some(at(PoolKind::Local));
    } else {
        pool.servers = Some(servers.iter().filter_map(|text| server(text)).collect());
        pool.servers_span = Some(0..0);
    }
    let listener = Listener {
        protocol: Some(at(protocol)),
        bind: bind.map(at),
        route: Some(Child::Name(at(name.clone()))),
        ..Listener::default()
    };
    config.pools.insert(name.clone(), at(pool));
    config.listeners.insert(name, at(listener));
}

/// Addresses were checked when the command line was parsed.
fn server(text: &str) -> Option<Server> {
    let address = text.parse::<Address>().ok()?;
    Some(Server {
        place: at(Place::Address(address)),
        text: text.to_owned(),
        weight: None,
        name: None,
        down: None,
    })
}

/// A value that stands nowhere in a text.
fn at<T>(value: T) -> At<T> {
    At::new(value, 0..0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(embedded: &Embedded, listeners: &[(&str, &str)], servers: usize) {
        let (running, report) = embedded.assemble();
        assert!(!report.has_errors(), "{report:?}");
        let running = running.unwrap();
        let found: Vec<_> = running
            .listeners
            .iter()
            .map(|l| (l.name.clone(), l.bind.to_string()))
            .collect();
        let wanted: Vec<_> = listeners
            .iter()
            .map(|(n, b)| (n.to_string(), b.to_string()))
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(running.servers.len(), servers);
    }

    #[test]
    fn nothing_said_serves_both_protocols_from_memory() {
        let both = [("memcached", MEMCACHED_BIND), ("redis", REDIS_BIND)];
        check(&Embedded::default(), &both, 0);
    }

    #[test]
    fn servers_of_one_protocol_open_its_listener_alone() {
        let servers = vec!["a:1".to_owned(), "b:1".to_owned()];
        let redis = Embedded {
            redis: servers.clone(),
            ..Embedded::default()
        };
        check(&redis, &[("redis", REDIS_BIND)], 2);
        let memcached = Embedded {
            memcached: servers.clone(),
            ..Embedded::default()
        };
        check(&memcached, &[("memcached", MEMCACHED_BIND)], 2);
        let mixed = Embedded {
            memcached: servers,
            redis_bind: "127.0.0.1:0".parse().ok(),
            ..Embedded::default()
        };
        check(
            &mixed,
            &[("memcached", MEMCACHED_BIND), ("redis", "127.0.0.1:0")],
            2,
        );
    }
}
