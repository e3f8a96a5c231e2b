//! The meters of all workers, summed.
//!
//! What `/pools` and `/stats` show; the scrape uses the same sums.

use emberline_protocol::memcache::Verb;
use emberline_routing::{PoolId, ServerId};

use super::duration::{BUCKETS, bounds};
use super::meter::{Class, Health, Meter, Verdict};
use super::requests::Spot;
use crate::running::Protocol;

/// One server over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTotals {
    /// Up if any worker has it up, else down if any has it down.
    pub health: Health,
    /// Requests that wait for its reply.
    pub inflight: i64,
    /// Requests by verdict, in the order of `Verdict::ALL`.
    pub requests: [u64; Verdict::ALL.len()],
    /// Connection attempts that succeeded.
    pub connects: u64,
    /// Connection attempts that failed.
    pub connects_failed: u64,
    /// How often it was found to be down.
    pub ejections: u64,
    /// Probes that were answered.
    pub probes: u64,
    /// Probes that were not.
    pub probes_failed: u64,
}

/// Sum what all workers know of one server.
pub fn server(meters: &[impl AsRef<Meter>], server: ServerId) -> ServerTotals {
    let mut totals = ServerTotals {
        health: Health::Unused,
        inflight: 0,
        requests: Default::default(),
        connects: 0,
        connects_failed: 0,
        ejections: 0,
        probes: 0,
        probes_failed: 0,
    };
    for meter in meters {
        let Some(upstream) = meter.as_ref().upstreams().get(server.0 as usize) else {
            continue;
        };
        totals.health = match (totals.health, upstream.health()) {
            (Health::Up, _) | (_, Health::Up) => Health::Up,
            (Health::Down, _) | (_, Health::Down) => Health::Down,
            _ => Health::Unused,
        };
        totals.inflight += upstream.inflight();
        for (sum, counter) in totals.requests.iter_mut().zip(&upstream.requests) {
            *sum += counter.value();
        }
        totals.connects += upstream.connects[0].value();
        totals.connects_failed += upstream.connects[1].value();
        totals.ejections += upstream.ejections.value();
        totals.probes += upstream.probes[0].value();
        totals.probes_failed += upstream.probes[1].value();
    }
    totals
}

/// One listener over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerTotals {
    /// Clients connected now.
    pub clients: i64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections whose TLS handshake failed.
    pub strange: u64,
    /// Bytes read from clients.
    pub received: u64,
    /// Bytes written to clients.
    pub sent: u64,
}

/// Sum what all workers know of one listener.
pub fn listener(meters: &[impl AsRef<Meter>], listener: usize) -> ListenerTotals {
    let mut totals = ListenerTotals::default();
    for meter in meters {
        if let Some(clients) = meter.as_ref().listeners().get(listener) {
            totals.clients += clients.connected();
            totals.accepted += clients.accepted.value();
            totals.strange += clients.strange.value();
            totals.received += clients.received.value();
            totals.sent += clients.sent.value();
        }
    }
    totals
}

/// Client requests by verdict, over every listener and command: those that
/// `wanted` accepts the pool of.
pub fn requests(
    meters: &[impl AsRef<Meter>],
    wanted: impl Fn(Option<PoolId>) -> bool,
) -> [u64; Verdict::ALL.len()] {
    let mut totals = [0; Verdict::ALL.len()];
    for meter in meters {
        let meter = meter.as_ref();
        let requests = meter.requests();
        for spot in requests.spots().filter(|spot| wanted(spot.pool)) {
            for (sum, count) in totals.iter_mut().zip(requests.at(spot)) {
                *sum += count;
            }
        }
    }
    totals
}

/// Client requests with one of these memcached verbs, whatever their verdict.
pub fn verbs(meters: &[impl AsRef<Meter>], verbs: &[Verb]) -> u64 {
    let mut total = 0;
    for meter in meters {
        let meter = meter.as_ref();
        let requests = meter.requests();
        let wanted = |spot: &Spot| {
            requests.protocol(spot.listener) == Some(Protocol::Memcached)
                && verbs.iter().any(|verb| usize::from(verb.id()) == spot.slot)
        };
        for spot in requests.spots().filter(wanted) {
            total += requests.at(spot).sum::<u64>();
        }
    }
    total
}

/// Things turned away, in the order of `Shed::ALL`.
pub fn sheds(meters: &[impl AsRef<Meter>]) -> Vec<u64> {
    let mut totals = vec![0; super::Shed::ALL.len()];
    for meter in meters {
        for (sum, counter) in totals.iter_mut().zip(meter.as_ref().sheds()) {
            *sum += counter.value();
        }
    }
    totals
}

/// The upper bounds of the buckets of [`Durations`] in seconds, without the
/// infinite one.
pub fn duration_bounds() -> impl Iterator<Item = f64> {
    bounds()
}

/// How long requests took: counts per bucket, and the sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    pub(super) buckets: [u64; BUCKETS],
    nanos: u64,
}

impl Durations {
    /// Requests observed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Requests by bucket, each counted in one alone; the last one is for
    /// those beyond the last bound.
    pub fn counts(&self) -> &[u64] {
        &self.buckets
    }

    /// The sum of all durations.
    pub fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    /// The upper bound in seconds of the bucket that holds this share (0 to
    /// 1) of the requests; `None` without requests, infinite beyond the last bound.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let rank = (count as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        let found = self.buckets.iter().position(|&n| {
            below += n;
            below >= rank
        })?;
        Some(bounds().nth(found).unwrap_or(f64::INFINITY))
    }

    /// Add another set of observations.
    pub fn add(&mut self, other: &Durations) {
        for (sum, n) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += n;
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }
}

/// Sum what all workers observed of one pool and class.
pub fn durations(meters: &[impl AsRef<Meter>], pool: PoolId, class: Class) -> Durations {
    let mut totals = Durations::default();
    for meter in meters {
        if let Some(histogram) = meter.as_ref().duration(usize::from(pool.0), class) {
            for (sum, counter) in totals.buckets.iter_mut().zip(&histogram.buckets) {
                *sum += counter.value();
            }
            totals.nanos = totals.nanos.wrapping_add(histogram.nanos.value());
        }
    }
    totals
}
