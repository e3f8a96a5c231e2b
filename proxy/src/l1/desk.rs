//! Where the L1's links hand in what servers said.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use emberline_hotkey::{HotKey, Item, KeyHash, Pulse, Token};
use emberline_routing::ServerId;

use super::{Asked, Fetch, Filled, L1, Landed, Said};
use crate::metrics::{Event, Meter};
use crate::running::Running;

/// What the tasks of the L1's thread share.
pub struct Desk {
    /// The settings.
    pub running: Arc<Running>,
    /// What all threads share.
    pub l1: Arc<L1>,
    /// What this thread counts.
    pub meter: Arc<Meter>,
    pub(super) tell: Box<dyn Fn(usize, Landed)>,
    pub(super) flights: RefCell<HashMap<(KeyHash, Token), Flight>>,
}

/// Who waits for a fill.
pub(super) struct Flight {
    pub server: ServerId,
    pub workers: Vec<usize>,
}

impl Desk {
    /// A server's pulse.
    pub fn pulse(&self, server: ServerId) -> Option<&Pulse> {
        self.l1.pulse(server.0)
    }

    /// What is true of a fetch whose bytes are about to be written.
    pub fn asked(&self, server: ServerId) -> Asked {
        Asked {
            sent: self.l1.now(),
            epoch: self.pulse(server).map_or(0, Pulse::epoch),
        }
    }

    /// Nothing that this server has said so far is to be served any more.
    pub fn turn(&self, server: ServerId) {
        if let (Some(pulse), Some(config)) = (
            self.pulse(server),
            self.running.servers.get(server.0 as usize),
        ) {
            pulse.turn();
            self.meter.event(config.pool.0, Event::Turn, 1);
        }
    }

    /// Take in what a server said.
    pub fn land(&self, fetch: Fetch, asked: Asked, said: Said) {
        let flight = (fetch.key.hash, fetch.token);
        if matches!(said, Said::Lease) {
            if let Some(flight) = self.flights.borrow().get(&flight)
                && let Some(&worker) = flight.workers.first()
            {
                self.tell_one(worker, &fetch, Filled::Lease);
            }
            return;
        }
        let Some(Flight { server, workers }) = self.flights.borrow_mut().remove(&flight) else {
            return;
        };
        let filled = match said {
            Said::Value(value, left) => {
                let ttl = self
                    .pool(&fetch.key)
                    .l1
                    .ttl
                    .min(left.unwrap_or(std::time::Duration::MAX));
                let generation = fetch.key.install(fetch.token);
                let held = self.l1.store.hold(Item {
                    hash: fetch.key.hash,
                    generation: generation.unwrap_or(0),
                    server: server.0,
                    epoch: asked.epoch,
                    sent: asked.sent,
                    took: self.l1.now() - asked.sent,
                    expires: asked.sent + ttl.as_nanos() as u64,
                    value,
                });
                if generation.is_some() {
                    self.l1.store.insert(&held);
                }
                Filled::Item(held)
            }
            Said::Unfit | Said::Lease => Filled::Unfit,
            Said::Failed => Filled::Failed,
        };
        for worker in workers {
            self.tell_one(worker, &fetch, filled.clone());
        }
    }

    fn tell_one(&self, worker: usize, fetch: &Fetch, filled: Filled) {
        let (hash, token) = (fetch.key.hash, fetch.token);
        (self.tell)(
            worker,
            Landed {
                hash,
                token,
                filled,
            },
        );
    }

    fn pool(&self, key: &HotKey) -> &crate::running::Pool {
        &self.running.pools[usize::from(key.pool)]
    }

    /// Something happened to a key.
    pub fn invalidate(&self, pool: u16, key: &[u8], event: Event) {
        let hash = self.l1.hasher.hash_in(pool, key);
        if let Some(key) = self.l1.board.set().get(hash) {
            key.invalidate();
            self.meter.event(pool, event, 1);
        }
    }
}
