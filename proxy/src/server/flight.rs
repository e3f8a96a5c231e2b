//! Clients of one worker that wait for a value to be fetched.
//!
//! ```text
//!   GET k (nothing fresh)  -> slot taken, waiter, Ask::Fill ---+
//!   GET k of another client -> slot taken, waiter              |   one fetch
//!   Landed <---------------------------------------------------+
//!     Item    every waiter's slot is answered from it
//!     Unfit   each waiter's request goes to the server after all
//!     Failed  the same, or what has expired serves as long as allowed
//! ```
//!
//! Whoever waits has joined in the generation in which the fetch was sent, so
//! nothing that this proxy acknowledged before is missing in its answer.

use std::rc::Rc;
use std::sync::Arc;

use emberline_hotkey::{Held, HotKey, Item, KeyHash, Pulse, Token, Value};
use emberline_routing::{Plan, ServerId};

use super::client::Client;
use super::dispatch::{Reader, Request};
use super::form::Form;
use super::worker::Worker;
use crate::l1::{Filled, Landed};
use crate::metrics::Event;
use crate::nanos::nanos;

/// After a fetch without an answer reads go to the server itself for this
/// long, in nanoseconds, unless something stale may serve.
const FAILED_PAUSE: u64 = 100_000_000;

/// A read that waits.
#[derive(Debug)]
pub struct Waiter {
    /// Whose it is.
    pub client: Rc<Client>,
    /// Its slot.
    pub seq: u64,
    /// Which part of it.
    pub fragment: u32,
    /// How the client wants the value.
    pub form: Form<'static>,
    /// Its plan, if others may be asked as well.
    pub detour: Option<Box<Detour>>,
}

/// What a read is beyond the one server that is fetched from.
#[derive(Debug)]
pub struct Detour {
    /// The whole plan, that server included.
    pub plan: Plan,
    /// What the client asked.
    pub request: Request,
    /// Whether "there is no such key" there is the answer.
    pub misses: bool,
}

impl Waiter {
    /// The answer: the key has this value.
    pub fn answer(mut self, worker: &Rc<Worker>, key: &HotKey, value: &Value) {
        let asks_others =
            |detour: &mut Box<Detour>| matches!(value, Value::Missing) && !detour.misses;
        if let Some(detour) = self.detour.take_if(asks_others) {
            return self.go_on(worker, *detour);
        }
        let asked = self.detour.as_ref().map(|detour| detour.request.key());
        let (client, mut reply) = (self.client, worker.scratch.take());
        reply.clear();
        let key = asked.unwrap_or(&key.key);
        self.form.write(key, value, client.wire(), &mut reply);
        client.deliver(worker, self.seq, self.fragment, &reply, true);
        worker.scratch.replace(reply);
    }

    /// Carry the plan out after all.
    fn go_on(self, worker: &Rc<Worker>, detour: Detour) {
        let reader = Reader {
            client: self.client,
            seq: self.seq,
            fragment: self.fragment,
        };
        worker.dispatch(detour.plan, reader, detour.request);
    }
}

/// Everybody in this worker who waits for one fetch.
#[derive(Debug)]
pub struct Flight {
    /// What is fetched.
    pub key: Arc<HotKey>,
    /// The key's server.
    pub server: ServerId,
    /// It is not fetched but copied to further servers.
    pub copies: bool,
    /// The server's epoch when it was asked for: nobody joins in another.
    pub epoch: u64,
    /// When it was asked for, in nanoseconds.
    pub started: u64,
    /// Who waits.
    pub waiters: Vec<Waiter>,
}

impl Worker {
    /// A fetch has ended.
    pub fn land(self: &Rc<Worker>, landed: Landed) {
        self.tick();
        let place = (landed.hash, landed.token);
        if matches!(landed.filled, Filled::Lease) {
            return self.lease(place);
        }
        let flight = self.heat.flights.borrow_mut().remove(&place);
        match landed.filled {
            Filled::Lease => {}
            Filled::Copied => {
                if let Some(flight) = flight {
                    let (key, home) = (flight.key, flight.server);
                    for waiter in flight.waiters {
                        self.ask_copy(waiter, &key, home);
                    }
                }
            }
            Filled::Item(item) => {
                self.heard(ServerId(item.server), item.sent);
                self.heat.with_seat(landed.hash, |seat| seat.keep(&item));
                if let Some(flight) = flight {
                    self.answer_waiting(flight, &item);
                }
            }
            Filled::Unfit { until, large } => {
                self.heat.with_seat(landed.hash, |seat| {
                    seat.unfit_until = until;
                    seat.large = large;
                });
                if let Some(flight) = flight {
                    self.send_waiting(flight);
                }
            }
            Filled::Failed => match flight {
                Some(flight) => self.comfort_waiting(flight),
                None => self.ask_again_later(landed.hash),
            },
        }
    }

    /// A fetch for which nobody waits has failed: it is made again, though not
    /// at once.
    fn ask_again_later(&self, hash: KeyHash) {
        self.heat.with_seat(hash, |seat| {
            seat.asked = u64::MAX;
            seat.unfit_until = seat.unfit_until.max(self.now() + FAILED_PAUSE);
        });
    }

    /// The key is missing, and this proxy has the lease: one of those who wait
    /// is told so and will set it; the others wait for that.
    fn lease(self: &Rc<Worker>, place: (KeyHash, Token)) {
        let mut flights = self.heat.flights.borrow_mut();
        let Some(flight) = flights.get_mut(&place) else {
            return;
        };
        // Whoever has left would not set it.
        flight.waiters.retain(|waiter| !waiter.client.is_gone());
        let Some(winner) = flight.waiters.pop() else {
            return;
        };
        let key = Arc::clone(&flight.key);
        drop(flights);
        self.meter.event(key.pool, Event::Lease, 1);
        winner.answer(self, &key, &Value::Missing);
    }

    /// Fetches that nobody has answered: the thread that should is late.
    pub fn sweep_flights(self: &Rc<Worker>) {
        let now = self.now();
        let late = |flight: &Flight| {
            let pool = self.pool_of(flight.server);
            let patience = pool.timeout_request * 2 + pool.l1.lease;
            now.saturating_sub(flight.started) > nanos(patience)
        };
        let mut flights = self.heat.flights.borrow_mut();
        let lost: Vec<Flight> = flights
            .extract_if(|_, flight| late(flight))
            .map(|(_, flight)| flight)
            .collect();
        drop(flights);
        for flight in lost {
            self.comfort_waiting(flight);
        }
    }

    fn answer_waiting(self: &Rc<Worker>, flight: Flight, item: &Item) {
        let pool = self.pool_of_server(flight.server);
        let bytes = item.value.len() * flight.waiters.len();
        self.heat.weigh(pool, item.hash, bytes, self.now());
        for waiter in flight.waiters {
            waiter.answer(self, &flight.key, &item.value);
        }
    }

    /// The server gave no answer: something stale, if that is allowed, or
    /// whatever the server says to each of them.
    fn comfort_waiting(self: &Rc<Worker>, mut flight: Flight) {
        let (hash, pool) = (flight.key.hash, flight.key.pool);
        let waiters = flight
            .waiters
            .extract_if(.., |waiter| waiter.detour.is_some());
        let elsewhere: Vec<Waiter> = waiters.collect();
        for waiter in elsewhere {
            self.send_one(waiter, &flight.key, flight.server);
        }
        if flight.copies {
            let now = self.now();
            self.heat
                .with_seat(hash, |seat| seat.copies_after = now + FAILED_PAUSE);
            return self.send_waiting(flight);
        }
        match self.stale(&flight) {
            Some(item) => {
                let times = flight.waiters.len() as u64;
                self.meter.event(pool, Event::Stale, times);
                self.answer_waiting(flight, &item);
            }
            None => {
                self.heat.rest(hash, self.now() + FAILED_PAUSE);
                self.send_waiting(flight);
            }
        }
    }

    /// What has expired, if it may still serve while there is no answer.
    fn stale(&self, flight: &Flight) -> Option<Arc<Held>> {
        let patience = nanos(self.pool_of(flight.server).l1.stale_if_error);
        let item = self.heat.l1.store.get(flight.key.hash)?;
        let now = self.now();
        let ended = item.expires.saturating_add(patience);
        let turned = self.heat.l1.pulse(item.server).map(Pulse::epoch) != Some(item.epoch);
        let held = item.has_merely_expired(&flight.key, now) && !turned;
        (held && now < ended).then_some(item)
    }

    /// Send every waiting read to the server after all.
    fn send_waiting(self: &Rc<Worker>, flight: Flight) {
        let (key, server) = (flight.key, flight.server);
        let times = flight.waiters.len() as u64;
        self.meter.event(key.pool, Event::Bypass, times);
        for waiter in flight.waiters {
            self.send_one(waiter, &key, server);
        }
    }

    fn send_one(self: &Rc<Worker>, mut waiter: Waiter, key: &Arc<HotKey>, server: ServerId) {
        match waiter.detour.take() {
            Some(detour) => waiter.go_on(self, *detour),
            None => self.ask_server(waiter, key, server),
        }
    }

    /// A read that may ask others waits no longer for this fetch, if it still
    /// does.
    pub fn leave_flight(self: &Rc<Worker>, place: (KeyHash, Token), client: &Client, seq: u64) {
        let mut flights = self.heat.flights.borrow_mut();
        let Some(flight) = flights.get_mut(&place) else {
            return;
        };
        let is_it = |waiter: &Waiter| waiter.client.id == client.id && waiter.seq == seq;
        let Some(at) = flight.waiters.iter().position(is_it) else {
            return;
        };
        let waiter = flight.waiters.swap_remove(at);
        let (key, server) = (Arc::clone(&flight.key), flight.server);
        drop(flights);
        self.send_one(waiter, &key, server);
    }
}
