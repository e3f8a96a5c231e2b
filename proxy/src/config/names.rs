//! The names of servers: which are asked for, and what becomes of the answers.
//!
//! ```text
//!   "10.0.0.1:6379"     an address: one server, nothing is asked
//!   "cache:6379"        dns = "first":  one server, called cache:6379
//!                       dns = "expand": 10.0.0.1:6379, 10.0.0.2:6379, ...
//!   "_redis._tcp.cache" dns = "expand": redis-0.cache:6379, redis-1.cache:6379, ...
//! ```
//!
//! What has no answer stands for one server that cannot be reached. So a
//! process can start before the servers do, and a configuration can be looked
//! at where there is no network.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::Report;
use super::model::{self, Dns, Place};
use crate::dns::{Known, Question};
use crate::running::Address;

/// What is known, and what has been asked for.
#[derive(Debug)]
pub struct Lookups<'k> {
    known: &'k Known,
    /// Every question that the configuration depends on.
    pub questions: BTreeSet<Question>,
}

/// One server of a pool, as it is written or as an answer made it.
#[derive(Debug)]
pub struct Seat<'s> {
    /// The entry that it comes from.
    pub server: &'s model::Server,
    /// What it is called.
    pub text: String,
    /// Where it is.
    pub address: Address,
}

impl<'k> Lookups<'k> {
    /// Nothing was asked for yet.
    pub fn new(known: &'k Known) -> Lookups<'k> {
        Lookups {
            known,
            questions: BTreeSet::new(),
        }
    }

    /// An address, with what its name leads to.
    pub fn address(&mut self, written: &Address) -> Address {
        match written {
            Address::Name { host, port, .. } => Address::Name {
                host: host.clone(),
                port: *port,
                found: self.host(host).map(<[IpAddr]>::to_vec),
            },
            address => address.clone(),
        }
    }

    /// The servers that these entries of a pool stand for.
    pub fn seats<'s>(&mut self, dns: Dns, servers: &'s [model::Server]) -> Vec<Seat<'s>> {
        // What is written out has its name; answers may lead to the same.
        let mut taken: HashSet<String> = match dns {
            Dns::First => HashSet::new(),
            Dns::Expand => servers.iter().map(|server| server.text.clone()).collect(),
        };
        let mut seats = Vec::with_capacity(servers.len());
        for server in servers {
            let found = match dns {
                Dns::First => None,
                Dns::Expand => self.expanded(&server.place.value),
            };
            let Some(found) = found else {
                seats.push(self.seat(server));
                continue;
            };
            let new = found
                .into_iter()
                .filter(|(name, _)| taken.insert(name.clone()));
            seats.extend(new.map(|(text, address)| Seat {
                server,
                text,
                address,
            }));
        }
        seats
    }

    fn seat<'s>(&mut self, server: &'s model::Server) -> Seat<'s> {
        let address = match &server.place.value {
            Place::Address(address) => self.address(address),
            Place::Service(name) => Address::Name {
                host: name.clone(),
                port: 0,
                found: Err(self.service_failure(name)),
            },
        };
        Seat {
            server,
            text: server.text.clone(),
            address,
        }
    }

    /// What a name or a service leads to; none for what is no name, or has no
    /// answer.
    fn expanded(&mut self, place: &Place) -> Option<Vec<(String, Address)>> {
        match place {
            Place::Address(Address::Name { host, port, .. }) => {
                let addresses = one_kind(self.host(host).ok()?);
                let addresses = addresses.map(|ip| SocketAddr::new(ip, *port));
                Some(
                    addresses
                        .map(|at| (at.to_string(), Address::Ip(at)))
                        .collect(),
                )
            }
            Place::Address(_) => None,
            Place::Service(name) => {
                self.questions.insert(Question::Service(name.clone()));
                let targets = self.known.service(name).ok()?;
                let servers = targets.iter().map(|target| {
                    // A target is a whole name: no search domain is for it.
                    let written = Address::Name {
                        host: format!("{}.", target.host),
                        port: target.port,
                        found: Ok(Vec::new()),
                    };
                    (target.to_string(), self.address(&written))
                });
                Some(servers.collect())
            }
        }
    }

    fn host(&mut self, name: &str) -> Result<&'k [IpAddr], String> {
        self.questions.insert(Question::Host(name.to_owned()));
        self.known.host(name).map_err(str::to_owned)
    }

    fn service_failure(&self, name: &str) -> String {
        let failure = self.known.service(name).err();
        failure.unwrap_or("it has no targets").to_owned()
    }
}

/// A host with addresses of both kinds is not two servers: IPv4 goes first.
fn one_kind(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let v4 = addresses.iter().any(IpAddr::is_ipv4);
    addresses
        .iter()
        .copied()
        .filter(move |one| one.is_ipv4() == v4)
}

/// Keys that have no meaning together.
pub fn check(name: &str, dns: Dns, servers: &[model::Server], report: &mut Report) {
    for server in servers {
        let text: String = server.text.chars().take(64).collect();
        let is_name = matches!(
            server.place.value,
            Place::Service(_) | Place::Address(Address::Name { .. })
        );
        match (&server.place.value, dns, &server.name) {
            (Place::Service(_), Dns::First, _) => report.error_hint(
                &server.place.span,
                format!("pool `{name}`: \"{text}\" is a service, which is many servers"),
                Some("write dns = \"expand\", or host:port".to_owned()),
            ),
            (_, Dns::Expand, Some(alias)) if is_name => report.error(
                &alias.span,
                format!(
                    "pool `{name}`: `name` cannot be for all that \"{text}\" stands for with \
                     dns = \"expand\""
                ),
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::At;
    use crate::dns::{Answer, Service};

    fn server(text: &str) -> model::Server {
        model::Server {
            place: At::new(text.parse().unwrap(), 0..0),
            text: text.to_owned(),
            weight: None,
            name: None,
            down: None,
        }
    }

    fn known() -> Known {
        let host = |name: &str, addresses: &str| {
            let addresses = addresses.split(' ').map(|one| one.parse().unwrap());
            let answer = Answer::Host(addresses.collect());
            (Question::Host(name.to_owned()), Ok(answer))
        };
        let service = |host: &str| Service {
            host: host.to_owned(),
            port: 6379,
        };
        let services = Answer::Service(vec![service("r-0.cache"), service("r-1.cache")]);
        [
            host("one", "10.0.0.1"),
            host("two", "10.0.0.1 10.0.0.2"),
            host("dual", "10.0.0.3 ::3"),
            host("six", "::6"),
            host("r-0.cache.", "10.0.0.7"),
            (Question::Service("_r._tcp.cache".to_owned()), Ok(services)),
            (Question::Host("gone".to_owned()), Err("no".to_owned())),
        ]
        .into_iter()
        .collect()
    }

    /// The servers of this pool, each with the addresses that it has.
    #[track_caller]
    fn check(dns: Dns, servers: &str, expected: &str, questions: usize) {
        let servers: Vec<_> = servers.split(' ').map(server).collect();
        let known = known();
        let mut lookups = Lookups::new(&known);
        let seats = lookups.seats(dns, &servers);
        let shown = seats.iter().map(|seat| match &seat.address {
            Address::Name { found: Ok(all), .. } => {
                let all: Vec<_> = all.iter().map(IpAddr::to_string).collect();
                format!("{}={}", seat.text, all.join(","))
            }
            Address::Name {
                found: Err(why), ..
            } => format!("{}!{why}", seat.text),
            _ => seat.text.clone(),
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
        assert_eq!(lookups.questions.len(), questions);
    }

    #[test]
    fn a_name_is_one_server() {
        check(Dns::First, "10.0.0.9:1", "10.0.0.9:1", 0);
        check(
            Dns::First,
            "two:1 dual:1",
            "two:1=10.0.0.1,10.0.0.2 dual:1=10.0.0.3,::3",
            2,
        );
        check(Dns::First, "gone:1", "gone:1!no", 1);
        check(Dns::First, "new:1", "new:1!it was not looked up", 1);
    }

    #[test]
    fn a_name_is_as_many_servers_as_it_has_addresses() {
        check(Dns::Expand, "two:1", "10.0.0.1:1 10.0.0.2:1", 1);
        check(Dns::Expand, "dual:1 six:1", "10.0.0.3:1 [::6]:1", 2);
        check(Dns::Expand, "gone:1 one:1", "gone:1!no 10.0.0.1:1", 2);
    }

    #[test]
    fn the_same_address_is_the_same_server() {
        check(Dns::Expand, "one:1 two:1", "10.0.0.1:1 10.0.0.2:1", 2);
        check(Dns::Expand, "two:1 10.0.0.1:1", "10.0.0.2:1 10.0.0.1:1", 1);
        check(Dns::Expand, "one:1 one:2", "10.0.0.1:1 10.0.0.1:2", 1);
    }

    #[test]
    fn a_service_is_its_targets() {
        check(
            Dns::Expand,
            "_r._tcp.cache",
            "r-0.cache:6379=10.0.0.7 r-1.cache:6379!it was not looked up",
            3,
        );
        check(
            Dns::Expand,
            "_r._tcp.new",
            "_r._tcp.new!it was not looked up",
            1,
        );
    }
}
