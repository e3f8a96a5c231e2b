//! The fetches at the start: asks the L1's thread for what the queue says, and
//! counts what becomes of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use emberline_hotkey::{HotKey, KeyHash, Token, Value};
use emberline_routing::{PoolId, ServerId};
use tracing::info;

use super::places::Places;
use super::queue::{Landing, Queue};
use super::{Fate, Figures, PRELOAD};
use crate::generation::Generation;
use crate::l1::{Ask, Filled, L1, Landed};

/// See the module's description.
#[derive(Debug)]
pub struct Fill<'k> {
    l1: &'k L1,
    generation: &'k Generation,
    queue: Queue<Arc<HotKey>>,
    flying: HashMap<(KeyHash, Token), (ServerId, Arc<HotKey>)>,
    fates: [usize; Fate::ALL.len()],
}

impl<'k> Fill<'k> {
    /// Nothing is asked for yet; at most so many bytes will be.
    pub fn new(l1: &'k L1, generation: &'k Generation, bytes_max: u64) -> Fill<'k> {
        Fill {
            l1,
            generation,
            queue: Queue::new(bytes_max),
            flying: HashMap::new(),
            fates: [0; Fate::ALL.len()],
        }
    }

    /// So many keys of the list have ended like this.
    pub fn note(&mut self, fate: Fate, keys: usize) {
        self.fates[fate as usize] += keys;
    }

    /// A key is to be fetched; called for the hottest first.
    pub fn add(&mut self, places: &Places<'_>, key: Arc<HotKey>) {
        let pool = PoolId(key.pool);
        let settings = self.generation.running.pools.get(usize::from(key.pool));
        match (places.server(pool, &key.key), settings) {
            (Some(server), Some(settings)) => {
                let item_max = u64::try_from(settings.l1.max_item).unwrap_or(u64::MAX);
                self.queue.add(server, item_max, key);
            }
            _ => self.note(Fate::Skipped, 1),
        }
    }

    /// Ask for what there is to be asked for, and how long to wait then; `None`
    /// if it is over.
    pub fn go_on(&mut self, now: Instant, deadline: Instant) -> Option<Duration> {
        if now >= deadline {
            return None;
        }
        while let Some((server, key)) = self.queue.next(now) {
            let Some(token) = key.begin(self.l1.now()) else {
                // Demoted, or a write to it is in doubt.
                self.note(Fate::Failed, 1);
                self.queue.landed(server, Landing::Done(0), now);
                continue;
            };
            let ask = Ask::Fill {
                key: Arc::clone(&key),
                token,
                server,
                worker: Some(PRELOAD),
            };
            self.flying.insert((key.hash, token), (server, key));
            self.l1.ask_under(self.generation.number, ask);
        }
        let next = self.queue.wakes(now).unwrap_or(deadline).min(deadline);
        (!self.queue.is_over()).then(|| next - now)
    }

    /// A fetch has ended.
    pub fn land(&mut self, landed: &Landed, now: Instant) {
        let flight = (landed.hash, landed.token);
        let Some((server, key)) = self.flying.remove(&flight) else {
            return;
        };
        let (fate, bytes) = match &landed.filled {
            Filled::Failed => {
                return self.queue.landed(server, Landing::Failed(key), now);
            }
            Filled::Item(item) if item.generation != key.generation() => (Fate::Failed, 0),
            Filled::Item(item) => match item.value {
                Value::Missing => (Fate::Missing, 0),
                _ => (Fate::Filled, u64::from(item.weight())),
            },
            Filled::Lease => (Fate::Missing, 0),
            Filled::Unfit { .. } | Filled::Copied => (Fate::Unfit, 0),
        };
        self.note(fate, 1);
        self.queue.landed(server, Landing::Done(bytes), now);
    }

    /// What is under way lands by itself; what was not asked for is fetched when
    /// somebody reads it.
    pub fn finish(mut self, figures: &Figures, took: Duration) {
        let unasked = match self.queue.is_spent() {
            true => Fate::Skipped,
            false => Fate::Failed,
        };
        self.note(unasked, self.queue.waiting());
        self.note(Fate::Failed, self.flying.len());
        for (cell, keys) in figures.keys.iter().zip(self.fates) {
            cell.store(keys as u64, Ordering::Relaxed);
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        figures.took_ms.store(took_ms, Ordering::Relaxed);
        let [filled, missing, unfit, failed, skipped] = self.fates;
        let (keys, bytes) = (self.fates.iter().sum::<usize>(), self.queue.bytes());
        info!(
            keys,
            filled, missing, unfit, failed, skipped, bytes, took_ms, "hot keys were preloaded"
        );
    }
}
