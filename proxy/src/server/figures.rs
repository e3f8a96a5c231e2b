//! The figures that `INFO` and `stats` print, summed over the workers.

use std::time::UNIX_EPOCH;

use emberline_protocol::memcache::Verb;
use emberline_routing::ServerId;

use crate::admin::View;
use crate::answer::{Figures, ServerFigures};
use crate::metrics::{Health, Shed, Verdict, totals};

/// Sum the meters; `buffered` are the bytes that buffers hold.
pub fn gather(state: &View<'_>, buffered: usize) -> Figures {
    let meters = &state.meters[..];
    let listeners = (0..state.running.listeners.places()).map(|at| totals::listener(meters, at));
    let requests = totals::requests(meters, |_| true);
    let mut figures = Figures {
        started: state.started.duration_since(UNIX_EPOCH).map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        }),
        rejected: totals::sheds(meters)[Shed::Clients as usize],
        requests: requests.iter().sum(),
        errors: requests.iter().sum::<u64>() - requests[Verdict::Ok as usize],
        buffered: buffered as u64,
        gets: totals::verbs(
            meters,
            &[Verb::Get, Verb::Gets, Verb::Gat, Verb::Gats, Verb::MetaGet],
        ),
        sets: totals::verbs(
            meters,
            &[
                Verb::Set,
                Verb::Add,
                Verb::Replace,
                Verb::Append,
                Verb::Prepend,
                Verb::Cas,
                Verb::MetaSet,
            ],
        ),
        touches: totals::verbs(meters, &[Verb::Touch, Verb::Gat, Verb::Gats]),
        flushes: totals::verbs(meters, &[Verb::FlushAll]),
        ..Figures::default()
    };
    for listener in listeners {
        figures.clients += u64::try_from(listener.clients).unwrap_or(0);
        figures.connections += listener.accepted;
        figures.bytes_in += listener.received;
        figures.bytes_out += listener.sent;
    }
    let servers = (0..state.running.servers.places() as u32).map(|id| {
        let server = totals::server(meters, ServerId(id));
        ServerFigures {
            up: match server.health {
                Health::Unused => None,
                Health::Up => Some(true),
                Health::Down => Some(false),
            },
            inflight: u64::try_from(server.inflight).unwrap_or(0),
            requests: server.requests.iter().sum(),
        }
    });
    figures.servers = servers.collect();
    figures
}
