//! One lookup, by way of hickory: the hosts file, search domains, UDP and TCP,
//! chains of CNAMEs are its business.
//!
//! What it asks is its own decision in three places. The hosts file is looked
//! into first and for the name as it is written, as the C library does. A and
//! AAAA are two questions about *one* name: the second asks for the name that
//! answered the first, not for another one that a search domain makes. And a
//! question that *failed* is not one that was answered with "nothing": a
//! dual-stack name keeps its IPv6 addresses while nobody answers for them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::time::timeout;

use super::memory::Found;
use super::{Answer, Question, Service};

/// How long one question may take, search domains and repetitions included.
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// How long one nameserver may take, whatever `resolv.conf` says.
const NAMESERVER_MAX: Duration = Duration::from_secs(2);

/// How long IPv6 addresses are waited for when the others are there: some
/// nameservers never say that there are none.
const LATER: Duration = Duration::from_secs(1);

/// What the system's resolver is made of.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Makes a [`Resolver`], and another one when the system's files change.
#[derive(Default)]
pub struct Workshop {
    made: Option<(Vec<SocketAddr>, Stamps, Arc<Resolver>)>,
}

/// When the files were last changed; none that are not there.
type Stamps = [Option<SystemTime>; FILES.len()];

/// Asks one question at a time.
pub struct Resolver {
    client: TokioResolver,
    hosts: Hosts,
}

impl Workshop {
    /// One that asks these servers; none: those of the system.
    ///
    /// # Errors
    /// When the system's configuration cannot be read or names no server.
    pub fn resolver(&mut self, servers: &[SocketAddr]) -> Result<Arc<Resolver>, String> {
        let stamp = |path| fs::metadata(path).and_then(|file| file.modified()).ok();
        let stamps = FILES.map(stamp);
        if let Some((for_servers, at, made)) = &self.made
            && for_servers == servers
            && *at == stamps
        {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(Resolver::new(servers)?);
        self.made = Some((servers.to_vec(), stamps, Arc::clone(&made)));
        Ok(made)
    }
}

impl Resolver {
    fn new(servers: &[SocketAddr]) -> Result<Resolver, String> {
        let (config, mut options) = configuration(servers)?;
        // Answers are kept in `Memory`, and the hosts file is asked below.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = options.timeout.min(NAMESERVER_MAX);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Resolver {
            client: builder.build().map_err(|error| error.to_string())?,
            hosts: Hosts::from_system().unwrap_or_default(),
        })
    }

    /// Ask. `last` is the last good answer.
    ///
    /// # Errors
    /// Why there is no answer, in words for people.
    pub async fn ask(&self, question: &Question, last: Option<Answer>) -> Result<Found, String> {
        let name = Name::from_ascii(question.name()).map_err(|error| error.to_string())?;
        let asking = async {
            match question {
                Question::Host(_) => self.host(name, last).await,
                Question::Service(_) => self.service(name).await,
            }
        };
        let late = |_| Err("no nameserver answered in time".to_owned());
        timeout(LOOKUP_MAX, asking).await.unwrap_or_else(late)
    }

    async fn host(&self, name: Name, last: Option<Answer>) -> Result<Found, String> {
        if let Some(found) = self.in_hosts_file(&name) {
            return Ok(found);
        }
        let v4 = Part::of(self.client.lookup(name.clone(), RecordType::A).await);
        let v6 = match &v4 {
            Part::Some { name, .. } => {
                let asked = self.client.lookup(name.clone(), RecordType::AAAA);
                let late = |_| Part::Failed("no nameserver answered in time".to_owned());
                timeout(LATER, asked).await.map_or_else(late, Part::of)
            }
            _ => Part::of(self.client.lookup(name, RecordType::AAAA).await),
        };
        joined(v4, v6, last)
    }

    fn in_hosts_file(&self, name: &Name) -> Option<Found> {
        let both = [RecordType::A, RecordType::AAAA];
        let lookups = both.map(|kind| {
            let query = Query::query(name.clone(), kind);
            self.hosts.lookup_static_host(&query)
        });
        let addresses = lookups.iter().flatten().flat_map(addresses);
        let addresses: Vec<IpAddr> = addresses.collect();
        (!addresses.is_empty()).then_some(Found {
            answer: Answer::Host(addresses),
            ttl: Duration::MAX,
        })
    }

    async fn service(&self, name: Name) -> Result<Found, String> {
        let lookup = self.client.lookup(name, RecordType::SRV).await;
        let lookup = lookup.map_err(|error| words(&error))?;
        let records = || {
            lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    // RFC 2782: a target of "." says that there is no such service.
                    RData::SRV(srv) if srv.port != 0 && !srv.target.is_root() => Some(srv),
                    _ => None,
                })
        };
        let lowest = records().map(|srv| srv.priority).min();
        let best = records().filter(|srv| Some(srv.priority) == lowest);
        let services = best.map(|srv| Service {
            host: srv.target.to_ascii().trim_end_matches('.').to_lowercase(),
            port: srv.port,
        });
        Ok(Found {
            answer: Answer::Service(services.collect()),
            ttl: ttl(&lookup),
        })
    }
}

fn configuration(servers: &[SocketAddr]) -> Result<(ResolverConfig, ResolverOpts), String> {
    let system = system_conf::read_system_conf();
    if servers.is_empty() {
        return system.map_err(|error| format!("the system's resolv.conf: {error}"));
    }
    // Search domains hold whoever is asked.
    let (system, options) = system.unwrap_or_default();
    let (domain, search, _) = system.into_parts();
    let server = |at: &SocketAddr| {
        let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        ways.iter_mut().for_each(|way| way.port = at.port());
        NameServerConfig::new(at.ip(), true, ways)
    };
    let servers = servers.iter().map(server).collect();
    Ok((ResolverConfig::from_parts(domain, search, servers), options))
}

/// What came of the question for one kind of address.
enum Part {
    Some {
        /// That has them, after search domains.
        name: Name,
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// Somebody said that there are none.
    None(String),
    Failed(String),
}

impl Part {
    fn of(outcome: Result<Lookup, NetError>) -> Part {
        match outcome {
            Ok(lookup) => Part::Some {
                name: lookup.query().name().clone(),
                addresses: addresses(&lookup).collect(),
                ttl: ttl(&lookup),
            },
            Err(error) if error.is_no_records_found() => Part::None(words(&error)),
            Err(error) => Part::Failed(words(&error)),
        }
    }
}

/// Both kinds together. A kind that failed has the addresses that it had.
fn joined(v4: Part, v6: Part, last: Option<Answer>) -> Result<Found, String> {
    let mut all = Vec::new();
    let mut ttl_min = Duration::MAX;
    let (mut none, mut failed) = (None, None);
    for (part, is_v4) in [(v4, true), (v6, false)] {
        match part {
            Part::Some { addresses, ttl, .. } => {
                all.extend(addresses);
                ttl_min = ttl_min.min(ttl);
            }
            Part::None(why) => none = none.or(Some(why)),
            Part::Failed(why) => failed = Some((why, is_v4)),
        }
    }
    if all.is_empty() {
        let why = failed.map(|(why, _)| why).or(none);
        return Err(why.unwrap_or_else(|| "it has no addresses".to_owned()));
    }
    if let Some((_, failed_v4)) = failed
        && let Some(Answer::Host(before)) = last
    {
        let kept = before.into_iter().filter(|one| one.is_ipv4() == failed_v4);
        all.extend(kept);
    }
    Ok(Found {
        answer: Answer::Host(all),
        ttl: ttl_min,
    })
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> {
    let records = lookup.answers().iter();
    records.filter_map(|record| record.data.ip_addr())
}

fn ttl(lookup: &Lookup) -> Duration {
    lookup
        .valid_until()
        .saturating_duration_since(Instant::now())
}

/// hickory's errors show whole queries.
fn words(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "there is no such name".to_owned(),
        error if error.is_no_records_found() => "it has no such records".to_owned(),
        NetError::Timeout => "no nameserver answered in time".to_owned(),
        error => error.to_string().chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(addresses: &str, ttl: u64) -> Part {
        Part::Some {
            name: Name::root(),
            addresses: addresses
                .split(' ')
                .map(|one| one.parse().unwrap())
                .collect(),
            ttl: Duration::from_secs(ttl),
        }
    }

    fn none() -> Part {
        Part::None("none".to_owned())
    }

    fn failed() -> Part {
        Part::Failed("failed".to_owned())
    }

    #[track_caller]
    fn check(v4: Part, v6: Part, last: &str, expected: Result<(&str, u64), &str>) {
        let last = last.split_whitespace().map(|one| one.parse().unwrap());
        let found = joined(v4, v6, Some(Answer::Host(last.collect())));
        let found = found.map(|found| (found.answer.to_string(), found.ttl.as_secs()));
        let found = found.as_ref().map(|(text, ttl)| (text.as_str(), *ttl));
        assert_eq!(found.map_err(String::as_str), expected);
    }

    #[test]
    fn both_kinds_of_addresses_are_one_answer() {
        check(
            some("10.0.0.1", 9),
            some("::1", 3),
            "",
            Ok(("10.0.0.1, ::1", 3)),
        );
        check(some("10.0.0.1", 9), none(), "::9", Ok(("10.0.0.1", 9)));
        check(none(), some("::1", 3), "10.0.0.9", Ok(("::1", 3)));
    }

    #[test]
    fn a_kind_that_failed_keeps_the_addresses_that_it_had() {
        let last = "10.0.0.9 ::9";
        check(
            some("10.0.0.1", 9),
            failed(),
            last,
            Ok(("10.0.0.1, ::9", 9)),
        );
        check(failed(), some("::1", 3), last, Ok(("::1, 10.0.0.9", 3)));
    }

    #[test]
    fn without_any_address_it_has_failed() {
        check(none(), none(), "10.0.0.9", Err("none"));
        check(failed(), none(), "10.0.0.9", Err("failed"));
        check(none(), failed(), "10.0.0.9", Err("failed"));
    }
}
