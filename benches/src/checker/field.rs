//! What readers and writers share: the clock, where to connect, and which keys
//! there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::history::Via;
use super::options::Options;
use super::stage::Stage;
use super::stamp::Key;
use super::wire::{Client, Dialect};
use crate::load::rng::Rng;

/// See the module's description.
#[derive(Debug)]
pub struct Field {
    options: Options,
    began: Instant,
    ports: [u16; Via::ALL.len()],
    /// By slot: how many keys have been given up there.
    turns: Vec<AtomicU16>,
    connections: AtomicU32,
    /// Writes through the proxy that the relay is to hold.
    holds: AtomicU32,
    /// Nobody begins anything any more.
    stopped: AtomicBool,
}

impl Field {
    /// The field of a run.
    pub fn new(options: &Options, stage: &Stage) -> Arc<Field> {
        let slots = usize::from(options.hot) + usize::from(options.cold);
        Arc::new(Field {
            options: options.clone(),
            began: Instant::now(),
            ports: [stage.proxy, stage.other, stage.server],
            turns: (0..slots).map(|_| AtomicU16::new(0)).collect(),
            connections: AtomicU32::new(0),
            holds: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
        })
    }

    /// The options of the run.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A connection, and a number that no other has.
    pub fn connect(&self, via: Via, dialect: Dialect) -> std::io::Result<(Client, u32)> {
        // Longer than the proxy waits itself, so that its error comes first.
        let patience = self.options.request_timeout * 4 + Duration::from_millis(200);
        let client = Client::connect(self.ports[via as usize], dialect, patience)?;
        Ok((client, self.connections.fetch_add(1, Ordering::Relaxed)))
    }

    /// The key that is in a slot now.
    pub fn key(&self, slot: u16) -> Key {
        let turn = self.turns[usize::from(slot)].load(Ordering::Relaxed);
        Key { slot, turn }
    }

    /// A write to this key ended in doubt: another takes its place.
    pub fn give_up(&self, key: Key) {
        self.turns[usize::from(key.slot)].store(key.turn + 1, Ordering::Relaxed);
    }

    /// Who writes the keys of a slot.
    pub fn writer_of(&self, slot: u16) -> u8 {
        // At most 64 writers.
        (usize::from(slot) % self.options.writers.len()) as u8
    }

    /// The slots of a writer, hot ones and cold ones.
    pub fn slots_of(&self, writer: u8) -> (Vec<u16>, Vec<u16>) {
        let own = |slot: &u16| self.writer_of(*slot) == writer;
        let (hot, all) = (self.options.hot, self.slots());
        (
            (0..hot).filter(own).collect(),
            (hot..all).filter(own).collect(),
        )
    }

    /// How many slots there are; the first `hot` of them are read often.
    pub fn slots(&self) -> u16 {
        self.options.hot + self.options.cold
    }

    /// A hot key that somebody reads. Now and then one that was given up,
    /// for it has promises, too.
    pub fn hot_key(&self, rng: &mut Rng) -> Key {
        let slot = rng.below(u64::from(self.options.hot)) as u16;
        let key = self.key(slot);
        match rng.below(4) {
            0 => Key {
                slot,
                turn: key.turn.saturating_sub(1),
            },
            _ => key,
        }
    }

    /// A cold key that somebody reads; a hot one if there are none.
    pub fn cold_key(&self, rng: &mut Rng) -> Key {
        match self.options.cold {
            0 => self.hot_key(rng),
            cold => self.key(self.options.hot + rng.below(u64::from(cold)) as u16),
        }
    }

    /// The next so many writes through the proxy shall be held.
    pub fn hold(&self, writes: u32) {
        self.holds.store(writes, Ordering::Relaxed);
    }

    /// Whether this write is one of them.
    pub fn take_hold(&self) -> bool {
        let take = |left: u32| left.checked_sub(1);
        self.holds
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// End everything.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it is over.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
