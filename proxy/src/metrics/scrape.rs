//! Meters become text: sums get their names, and the encoder writes them.
//!
//! The number of series is bounded whatever clients do: with 50 servers there
//! are at most 2,000, however they are divided into pools. Families by server
//! are bounded by the configuration. Three others are not: a client may send
//! every command to every pool, and cause any event there. They have a budget: series of their own are
//! given in the order in which scrapes first see them, and what comes after
//! the budget is spent is counted in one that stands for the rest, for good.
//! (Choosing the busiest ones anew at each scrape would let counters go
//! backwards.)

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use emberline_routing::PoolId;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use super::family::Family;
use super::meter::{Class, Shed, Verdict};
use super::requests::Spot;
use super::totals::{self, Durations};
use super::{command, memory, process};
use crate::dns::Names;
use crate::generation::{Current, Generation};
use crate::l1::L1;
use crate::reload::Reloads;
use crate::running::Running;
use crate::server::health::{Board, Standing};

/// Series of `emberline_requests_total`, those of `other` included.
const REQUEST_SERIES_MAX: usize = 600;
/// Histograms of `emberline_request_duration_seconds`, each of 22 series,
/// beside those for the rest.
const HISTOGRAMS_MAX: usize = 22;
/// The pool that series for the rest are labelled with: no configured pool can
/// have that name.
pub(super) const OTHER_POOLS: &str = "*";

/// The scrape endpoint's text, built anew each time it is asked for.
#[derive(Debug)]
pub struct Scrape {
    registry: Registry,
}

impl Scrape {
    /// A scrape over the meters of all workers.
    pub(crate) fn new(
        current: Arc<Current>,
        l1: Arc<L1>,
        health: Arc<Board>,
        reloads: Arc<Reloads>,
    ) -> Scrape {
        let registry = Registry::new();
        let workers = Workers {
            current,
            l1,
            health,
            reloads,
            requests: Mutex::default(),
            histograms: Mutex::default(),
            events: Mutex::default(),
        };
        registry
            .register(Box::new(workers))
            .expect("a collector without descriptors cannot clash in a new registry");
        Scrape { registry }
    }

    /// The exposition text, format version 0.0.4.
    ///
    /// # Errors
    ///
    /// When a family is malformed, which would be our mistake.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// The collector over all workers' meters.
struct Workers {
    current: Arc<Current>,
    l1: Arc<L1>,
    health: Arc<Board>,
    reloads: Arc<Reloads>,
    /// What of `emberline_requests_total` has a series of its own.
    requests: Mutex<HashSet<(Spot, Verdict)>>,
    /// Pools and classes that have a histogram of their own.
    histograms: Mutex<HashSet<(u16, Class)>>,
    events: Mutex<memory::Admitted>,
}

impl Collector for Workers {
    /// No descriptors: the families' labels are checked by a test, and the
    /// registry would check nothing else.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let at = &self.current.load();
        self.forget_gone(&at.running);
        Now { of: self, at }.collect()
    }
}

impl Workers {
    /// What a reload has removed has no series any more: others may have one.
    fn forget_gone(&self, running: &Running) {
        let is_there = |pool: u16| !running.pools.is_gone(usize::from(pool));
        locked(&self.requests).retain(|(spot, _)| {
            !running.listeners.is_gone(spot.listener)
                && spot.pool.is_none_or(|pool| is_there(pool.0))
        });
        locked(&self.histograms).retain(|(pool, _)| is_there(*pool));
        locked(&self.events).retain(|(pool, _)| is_there(*pool));
    }
}

/// The collector, and the generation that it collects from.
struct Now<'w> {
    of: &'w Workers,
    at: &'w Generation,
}

impl Now<'_> {
    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = vec![self.requests(), self.durations(), self.shed(), build_info()];
        families.extend(self.upstreams());
        families.extend(self.clients());
        families.extend(self.config());
        families.extend(self.dns());
        families.extend(self.delete_logs());
        families.extend(memory::store(&self.of.l1));
        families.extend(memory::preload(&self.of.l1));
        families.extend(memory::pools(&self.at.running, &self.of.l1));
        families.push(memory::events(
            &self.at.running,
            &self.at.meters,
            &mut locked(&self.of.events),
        ));
        let mut families: Vec<_> = families.into_iter().filter_map(Family::finish).collect();
        families.extend(process::families());
        families
    }

    fn requests(&self) -> Family {
        let mut admitted = locked(&self.of.requests);
        let mut sums = BTreeMap::new();
        let Some(cells) = self.at.meters.first().map(|meter| meter.requests()) else {
            return Family::counter(REQUESTS.0, REQUESTS.1);
        };
        let max = REQUEST_SERIES_MAX.saturating_sub(cells.places() * Verdict::ALL.len());
        for spot in cells.spots() {
            let Some(listener) = self.at.running.listeners.present(spot.listener) else {
                continue;
            };
            let other = command::other(listener.protocol);
            let mut counts = [0; Verdict::ALL.len()];
            for meter in &*self.at.meters {
                let counted = counts.iter_mut().zip(meter.requests().at(spot));
                counted.for_each(|(sum, count)| *sum += count);
            }
            for (verdict, sum) in Verdict::ALL.into_iter().zip(counts) {
                if sum == 0 {
                    continue;
                }
                let own = spot.slot == other || admit(&mut admitted, max, (spot, verdict));
                let slot = if own { spot.slot } else { other };
                let pool = spot.pool.map(|pool| pool.0);
                *sums
                    .entry((spot.listener, pool, slot, verdict as usize))
                    .or_insert(0) += sum;
            }
        }
        let mut family = Family::counter(REQUESTS.0, REQUESTS.1);
        for ((listener, pool, slot, verdict), sum) in sums {
            let listener = &self.at.running.listeners[listener];
            family.push(
                &[
                    ("listener", &listener.name),
                    ("pool", self.pool_name(pool)),
                    ("command", command::name(listener.protocol, slot)),
                    ("result", Verdict::ALL[verdict].name()),
                ],
                sum as f64,
            );
        }
        family
    }

    /// What the proxy answers itself belongs to no pool: an empty label.
    fn pool_name(&self, pool: Option<u16>) -> &str {
        pool.and_then(|pool| self.at.running.pools.get(usize::from(pool)))
            .map_or("", |pool| &pool.name)
    }

    fn durations(&self) -> Family {
        let mut family = Family::histogram(
            "emberline_request_duration_seconds",
            "Time from a request's last byte read to its reply known, by pool and class of command.",
        );
        let mut admitted = locked(&self.of.histograms);
        let mut rest: [Durations; Class::ALL.len()] = Default::default();
        for (PoolId(id), pool) in self.at.running.pools() {
            for class in Class::ALL {
                let durations = totals::durations(&self.at.meters, PoolId(id), class);
                if durations.count() == 0 {
                    continue;
                }
                if admit(&mut admitted, HISTOGRAMS_MAX, (id, class)) {
                    family.push_durations(&pool.name, class, &durations);
                } else {
                    rest[class as usize].add(&durations);
                }
            }
        }
        for (class, durations) in Class::ALL.into_iter().zip(&rest) {
            if durations.count() > 0 {
                family.push_durations(OTHER_POOLS, class, durations);
            }
        }
        family
    }

    fn upstreams(&self) -> [Family; 6] {
        let mut requests = Family::counter(
            "emberline_upstream_requests_total",
            "Requests for a server, by how they ended.",
        );
        let mut inflight = Family::gauge(
            "emberline_upstream_inflight",
            "Requests that wait for a server's reply.",
        );
        let mut connects = Family::counter(
            "emberline_upstream_connects_total",
            "Connection attempts to a server.",
        );
        let mut health = Family::gauge(
            "emberline_upstream_health",
            "0 if a server is down, else 1.",
        );
        let mut ejections = Family::counter(
            "emberline_upstream_ejections_total",
            "How often a server was found to be down.",
        );
        let mut probes = Family::counter(
            "emberline_upstream_probes_total",
            "Questions to servers that are down, whether they are up again.",
        );
        let (mut answered, mut failed) = (0, 0);
        for (id, server) in self.at.running.servers() {
            let totals = totals::server(&self.at.meters, id);
            let pool = self.pool_name(Some(server.pool.0));
            let labels = [("pool", pool), ("server", &*server.name)];
            let with = |result| [labels[0], labels[1], ("result", result)];
            for (verdict, sum) in Verdict::ALL.iter().zip(totals.requests) {
                requests.push(&with(verdict.name()), sum as f64);
            }
            inflight.push(&labels, totals.inflight as f64);
            connects.push(&with("ok"), totals.connects as f64);
            connects.push(&with("error"), totals.connects_failed as f64);
            let is_up = self.of.health.standing(id) == Standing::Up;
            health.push(&labels, f64::from(u8::from(is_up)));
            ejections.push(&labels, totals.ejections as f64);
            answered += totals.probes;
            failed += totals.probes_failed;
        }
        probes.push(&[("result", "ok")], answered as f64);
        probes.push(&[("result", "error")], failed as f64);
        [requests, inflight, connects, health, ejections, probes]
    }

    /// Of the pools that have one.
    fn delete_logs(&self) -> [Family; 6] {
        let counter =
            |name: &str, help| Family::counter(&format!("emberline_delete_log_{name}_total"), help);
        let gauge = |name: &str, help| Family::gauge(&format!("emberline_delete_log_{name}"), help);
        let mut appended = counter("appended", "Deletes that were written down.");
        let mut replayed = counter("replayed", "Deletes that were applied later.");
        let mut dropped = counter(
            "dropped",
            "Deletes that could not be written down, or waited for too long.",
        );
        let mut bytes = gauge("bytes", "Bytes of the file.");
        let mut waiting = gauge("waiting", "Deletes that are not applied yet.");
        let mut oldest = gauge("oldest_seconds", "How long the oldest of them has waited.");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs_f64();
        for (pool, figures) in self.at.deletes.figures() {
            let pool = &self.at.running.pools[usize::from(pool.0)];
            let labels = [("pool", &*pool.name)];
            let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed) as f64;
            appended.push(&labels, read(&figures.appended));
            replayed.push(&labels, read(&figures.replayed));
            dropped.push(&labels, read(&figures.dropped));
            bytes.push(&labels, read(&figures.bytes));
            waiting.push(&labels, read(&figures.waiting));
            let since = read(&figures.oldest_unix_ms) / 1000.0;
            oldest.push(
                &labels,
                if since > 0.0 {
                    (now - since).max(0.0)
                } else {
                    0.0
                },
            );
        }
        [appended, replayed, dropped, bytes, waiting, oldest]
    }

    fn clients(&self) -> [Family; 5] {
        let mut connected = Family::gauge("emberline_client_connections", "Clients connected now.");
        let mut accepted = Family::counter(
            "emberline_client_connects_total",
            "Client connections accepted.",
        );
        let mut strange = Family::counter(
            "emberline_client_tls_failures_total",
            "Client connections whose TLS handshake failed.",
        );
        let mut received = Family::counter(
            "emberline_client_received_bytes_total",
            "Bytes read from clients.",
        );
        let mut sent = Family::counter(
            "emberline_client_sent_bytes_total",
            "Bytes written to clients.",
        );
        for (index, listener) in self.at.running.listeners.numbered() {
            let totals = totals::listener(&self.at.meters, index);
            let labels = [("listener", &*listener.name)];
            connected.push(&labels, totals.clients as f64);
            accepted.push(&labels, totals.accepted as f64);
            if listener.tls.is_some() || totals.strange > 0 {
                strange.push(&labels, totals.strange as f64);
            }
            received.push(&labels, totals.received as f64);
            sent.push(&labels, totals.sent as f64);
        }
        [connected, accepted, strange, received, sent]
    }

    fn shed(&self) -> Family {
        let mut family = Family::counter(
            "emberline_shed_total",
            "Connections and requests turned away to protect the process.",
        );
        for (reason, sum) in Shed::ALL.iter().zip(totals::sheds(&self.at.meters)) {
            family.push(&[("reason", reason.name())], sum as f64);
        }
        family
    }

    /// How names are followed, if there are any.
    fn dns(&self) -> [Family; 2] {
        let mut lookups = Family::counter(
            "emberline_dns_lookups_total",
            "Lookups of servers' names, by how they ended.",
        );
        let mut unresolved = Family::gauge(
            "emberline_dns_unresolved",
            "Names of servers that have never had an answer.",
        );
        if !self.at.running.dns.questions.is_empty() {
            let names = self.of.reloads.names();
            let figures = names.map_or_else(Default::default, Names::figures);
            lookups.push(&[("result", "ok")], figures.answered as f64);
            lookups.push(&[("result", "error")], figures.failed as f64);
            unresolved.push(&[], figures.unanswered as f64);
        }
        [lookups, unresolved]
    }

    /// How the last reload went. What a process starts with counts as one.
    fn config(&self) -> [Family; 4] {
        let reloads = &self.of.reloads;
        let mut successful = Family::gauge(
            "emberline_config_last_reload_successful",
            "1 if the newest configuration is the one that runs.",
        );
        successful.push(&[], f64::from(u8::from(reloads.successful())));
        let mut loaded = Family::gauge(
            "emberline_config_last_reload_success_timestamp_seconds",
            "When the running configuration was loaded, in seconds since the Unix epoch.",
        );
        loaded.push(&[], reloads.loaded());
        let mut tried = Family::gauge(
            "emberline_config_last_reload_timestamp_seconds",
            "When a configuration was last loaded or refused, in seconds since the Unix epoch.",
        );
        tried.push(&[], reloads.tried());
        let mut hash = Family::gauge(
            "emberline_config_hash",
            "What the file of the running configuration holds, as a number; 0 without a file.",
        );
        hash.push(&[], reloads.print() as f64);
        [successful, loaded, tried, hash]
    }
}

impl Family {
    fn push_durations(&mut self, pool: &str, class: Class, durations: &Durations) {
        let labels = [("pool", pool), ("class", class.name())];
        self.push_histogram(&labels, &durations.buckets, durations.seconds());
    }
}

/// Whether this one has a series of its own, or may have one from now on.
pub(super) fn admit<T: Eq + Hash>(admitted: &mut HashSet<T>, max: usize, one: T) -> bool {
    admitted.contains(&one) || (admitted.len() < max && admitted.insert(one))
}

/// A scrape that panicked leaves a set that is still a set of what was given out.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Name and help of the family that is filled in two steps.
const REQUESTS: (&str, &str) = (
    "emberline_requests_total",
    "Client requests, by how they ended. An empty pool: answered by the proxy itself.",
);

fn build_info() -> Family {
    let mut family = Family::gauge(
        "emberline_build_info",
        "Always 1; the build is in the labels.",
    );
    family.push(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    family
}
