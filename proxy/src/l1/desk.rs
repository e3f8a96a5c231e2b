//! Where asks come in and answers go out: the part of the L1's thread that all
//! its links share.
//!
//! ```text
//!   ask --> unfit? allowed? ---> flights: join or begin ---> Fetch --> link
//!                                                                       |
//!   worker <-- Landed <-- waiting <-- flight <-- land <-- Asked, Said --+
//!                                                 |
//!                                                 install (CAS), then store
//! ```
//!
//! What comes back is installed only if nothing has happened to the key since
//! the token was taken (rules 3 and 4). Those who waited get it all the same:
//! they came before whatever happened.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use emberline_hotkey::mutation::{Mutation, breaks};
use emberline_hotkey::{HotKey, Item, KeyHash, Pulse, Token, Value};
use emberline_routing::ServerId;

use super::fitness::Fitness;
use super::flights::{Boarded, Flight, Flights};
use super::ledger::Ledger;
use super::preload::PRELOAD;
use super::{Asked, Fetch, Filled, L1, Landed, LinkState, Said};
use crate::generation::Generation;
use crate::metrics::{Event, Meter, Verdict};
pub(super) use crate::nanos::nanos;
use crate::running::{Mode, Pool, Running, Server};

/// See the module's description. Lives on the L1's thread.
pub struct Desk {
    /// The configuration.
    pub running: Arc<Running>,
    /// What all threads share.
    pub l1: Arc<L1>,
    /// The thread's own.
    pub meter: Arc<Meter>,
    /// Which generation of the configuration that is.
    generation: u64,
    tell: Rc<dyn Fn(usize, Landed)>,
    flights: Rc<RefCell<Flights>>,
    fitness: Rc<RefCell<Fitness>>,
    ledger: Rc<RefCell<Ledger>>,
    newest: Rc<RefCell<Arc<Running>>>,
}

impl Desk {
    /// An empty desk. `tell` hands an answer to the worker with that number.
    pub fn new(
        running: Arc<Running>,
        l1: Arc<L1>,
        meter: Arc<Meter>,
        tell: Box<dyn Fn(usize, Landed)>,
    ) -> Rc<Desk> {
        Rc::new(Desk {
            newest: Rc::new(RefCell::new(Arc::clone(&running))),
            running,
            l1,
            meter,
            generation: 0,
            tell: tell.into(),
            flights: Rc::default(),
            fitness: Rc::default(),
            ledger: Rc::default(),
        })
    }

    /// The same desk under another generation. Links that stay go on with the
    /// old one, which says the same of their servers.
    pub fn next(&self, generation: &Generation) -> Rc<Desk> {
        let running = Arc::clone(&generation.running);
        self.newest.replace(Arc::clone(&running));
        // The last meter is this thread's.
        let meter = generation.meters.last().unwrap_or(&self.meter);
        Rc::new(Desk {
            running,
            l1: Arc::clone(&self.l1),
            meter: Arc::clone(meter),
            generation: generation.number,
            tell: Rc::clone(&self.tell),
            flights: Rc::clone(&self.flights),
            fitness: Rc::clone(&self.fitness),
            ledger: Rc::clone(&self.ledger),
            newest: Rc::clone(&self.newest),
        })
    }

    /// The newest configuration, for who knows none of its numbers.
    pub fn newest(&self) -> Arc<Running> {
        Arc::clone(&self.newest.borrow())
    }

    /// Whether what follows from this generation is still to be done.
    pub fn is_under(&self, generation: Option<u64>) -> bool {
        generation.is_none_or(|generation| generation >= self.generation)
    }

    /// Nanoseconds of the process's clock.
    pub fn now(&self) -> u64 {
        self.l1.now()
    }

    /// A server's settings.
    pub fn server(&self, server: ServerId) -> Option<&Server> {
        self.running.servers.get(server.0 as usize)
    }

    /// The settings of a server's pool.
    pub fn pool(&self, server: ServerId) -> Option<&Pool> {
        let pool = self.server(server)?.pool;
        self.running.pools.get(usize::from(pool.0))
    }

    /// A server's pulse.
    pub fn pulse(&self, server: ServerId) -> Option<&Pulse> {
        self.l1.pulse(server.0)
    }

    /// What is true of a fetch whose bytes are about to be written.
    pub fn asked(&self, server: ServerId) -> Asked {
        Asked {
            sent: self.now(),
            epoch: self.pulse(server).map_or(0, Pulse::epoch),
        }
    }

    /// Say how a link is.
    pub fn note(&self, server: ServerId, state: LinkState) {
        self.l1.links.note(server, state);
    }

    /// A worker, or nobody in particular, wants a key's value: the fetch to be
    /// made, if one has to be.
    pub fn ask(
        &self,
        key: Arc<HotKey>,
        token: Token,
        server: ServerId,
        worker: Option<usize>,
    ) -> Option<Fetch> {
        let now = self.now();
        let hash = key.hash;
        if let Some(filled) = self.known(&key, token, server, worker, now) {
            self.answer(hash, token, worker, filled);
            return None;
        }
        let flight = Flight {
            hash,
            token,
            pool: key.pool,
            server,
            epoch: self.pulse(server).map_or(0, Pulse::epoch),
            began: now,
            waiting: worker.into_iter().collect(),
            lease: false,
        };
        let boarded = self
            .flights
            .borrow_mut()
            .board(flight, self.age_max(key.pool));
        match boarded {
            Boarded::Joined => None,
            Boarded::Leased => {
                self.answer(hash, token, worker, Filled::Lease);
                None
            }
            Boarded::Full => {
                self.answer(hash, token, worker, Filled::Failed);
                None
            }
            Boarded::Began(flight) => {
                self.meter.event(key.pool, Event::Fill, 1);
                if worker.is_none() {
                    self.meter.event(key.pool, Event::Refresh, 1);
                }
                self.ledger.borrow_mut().begin(&key, token);
                Some(Fetch {
                    key,
                    token,
                    server,
                    flight,
                })
            }
        }
    }

    /// What can be said of a key without asking its server.
    fn known(
        &self,
        key: &Arc<HotKey>,
        token: Token,
        server: ServerId,
        worker: Option<usize>,
        now: u64,
    ) -> Option<Filled> {
        let pool = self.running.pools.get(usize::from(key.pool));
        let serves = |mode| matches!(mode, Mode::Ttl | Mode::Tracking | Mode::Revalidate);
        if self.server(server).is_none() || !pool.is_some_and(|pool| serves(pool.l1.mode)) {
            return Some(Filled::Failed);
        }
        if let Some((until, large)) = self.fitness.borrow().until(key.hash, now) {
            return Some(Filled::Unfit { until, large });
        }
        if !self.rule(key).allow {
            return Some(Filled::Unfit {
                until: now.saturating_add(NOT_ALLOWED),
                large: false,
            });
        }
        // Something has happened since the worker asked. If that was another
        // worker's fill, here is its item; it is as good as any for whoever
        // has no answer yet.
        if worker.is_some() && key.generation() != token.generation() {
            let item = self.l1.store.get(key.hash)?;
            let pulse = self.l1.pulse(item.server)?;
            return item.is_fresh(key, pulse, now).then_some(Filled::Item(item));
        }
        None
    }

    /// A link has got an answer to a fetch, or knows that there will be none.
    ///
    /// Nothing happens if its flight was given up meanwhile: a late reply
    /// fills nothing.
    pub fn land(&self, fetch: Fetch, asked: Asked, said: Said) {
        if said == Said::Lease {
            let mut flights = self.flights.borrow_mut();
            let winner = flights.lease(fetch.flight);
            // It hears that the key is missing, and waits no longer for it.
            let told = flights.is_preloaded(fetch.flight).then_some(PRELOAD);
            drop(flights);
            for worker in [winner, told] {
                self.answer(fetch.key.hash, fetch.token, worker, Filled::Lease);
            }
            return;
        }
        let Some(flight) = self.flights.borrow_mut().land(fetch.flight) else {
            return;
        };
        let pool = fetch.key.pool;
        let (verdict, filled) = match said {
            Said::Failed => {
                self.meter.event(pool, Event::Failed, 1);
                (Verdict::Unavailable, Filled::Failed)
            }
            Said::Value(value, _) if !self.takes(&fetch.key, &value) => {
                (Verdict::Ok, self.refuse(&fetch.key, true))
            }
            Said::TooLarge => (Verdict::Ok, self.refuse(&fetch.key, true)),
            Said::Unfit | Said::Lease => (Verdict::Ok, self.refuse(&fetch.key, false)),
            Said::Value(value, remaining) => {
                (Verdict::Ok, self.keep(&fetch, asked, value, remaining))
            }
        };
        self.meter.upstream(flight.server, verdict);
        self.release(flight, &filled);
    }

    /// Whether a value of this size may be kept.
    fn takes(&self, key: &HotKey, value: &Value) -> bool {
        let pool = self.running.pools.get(usize::from(key.pool));
        pool.is_some_and(|pool| payload(value) <= pool.l1.max_item) && self.rule(key).allow
    }

    /// Install what a server said, and store it if that succeeds.
    ///
    /// In this order: whoever invalidates the key between the two makes the
    /// item stale before anybody sees it. The generation moves on even if the
    /// item is then not kept, so that no older one outlives what those who
    /// waited have seen.
    fn keep(
        &self,
        fetch: &Fetch,
        asked: Asked,
        value: Value,
        remaining: Option<Duration>,
    ) -> Filled {
        let Fetch {
            key, token, server, ..
        } = fetch;
        let lifetime = self.lifetime(key, &value, remaining);
        let expires = asked.sent.saturating_add(nanos(lifetime));
        let turned = self.pulse(*server).map(Pulse::epoch) != Some(asked.epoch);
        if turned {
            key.invalidate();
        }
        let installed = key.install(*token);
        let now = self.now();
        let item = self.l1.store.hold(Item {
            hash: key.hash,
            // Without one: the token's, which the key has left for good.
            generation: installed.unwrap_or(token.generation()),
            server: server.0,
            epoch: asked.epoch,
            sent: asked.sent,
            took: now.saturating_sub(asked.sent),
            expires,
            value,
        });
        let event = match installed {
            None => {
                self.supersede(key, asked.sent);
                Event::Poisoned
            }
            Some(generation) => {
                let mut ledger = self.ledger.borrow_mut();
                ledger.install(key.hash, generation, *server);
                match now < expires && self.l1.store.insert(&item) {
                    true => Event::Installed,
                    false => Event::Unfit,
                }
            }
        };
        self.meter.event(key.pool, event, 1);
        Filled::Item(item)
    }

    /// Those who waited are about to see what the server said to a question of
    /// that time: nothing that was asked for earlier is to be served after it.
    ///
    /// That can only be where a worker handed its older token in after another
    /// worker's newer one.
    fn supersede(&self, key: &HotKey, sent: u64) {
        let kept = self.l1.store.get(key.hash);
        if kept.is_some_and(|kept| kept.generation == key.generation() && kept.sent <= sent) {
            key.invalidate();
        }
    }

    /// How long a value may be kept, counted from when it was asked for.
    fn lifetime(&self, key: &HotKey, value: &Value, remaining: Option<Duration>) -> Duration {
        let Some(pool) = self.running.pools.get(usize::from(key.pool)) else {
            return Duration::ZERO;
        };
        let negative = matches!(value, Value::Missing).then_some(pool.l1.negative_ttl);
        let remaining = remaining.filter(|_| !breaks(Mutation::NoPttl));
        let caps = [self.rule(key).ttl, negative, remaining];
        caps.into_iter().flatten().fold(pool.l1.ttl, Duration::min)
    }

    /// The key's value cannot be kept: leave it alone for a while, and let go
    /// what was kept of it before.
    fn refuse(&self, key: &Arc<HotKey>, large: bool) -> Filled {
        self.meter.event(key.pool, Event::Unfit, 1);
        let until = self.leave_alone(key, large);
        Filled::Unfit { until, large }
    }

    fn leave_alone(&self, key: &HotKey, large: bool) -> u64 {
        key.invalidate();
        self.l1.store.remove(key.hash);
        self.ledger.borrow_mut().forget(key.hash);
        self.fitness
            .borrow_mut()
            .refuse(key.hash, self.now(), large)
    }

    /// Somebody else says that a key's value has changed. Counted if it is
    /// promoted.
    pub fn invalidate(&self, pool: u16, key: &[u8], event: Event) {
        let hash = self.l1.hasher.hash_in(pool, key);
        if let Some(key) = self.l1.board.set().get(hash) {
            key.invalidate();
            self.meter.event(pool, event, 1);
        }
    }

    /// Nothing that this server has said so far is to be served any more.
    pub fn turn(&self, server: ServerId) {
        if let (Some(pulse), Some(config)) = (self.pulse(server), self.server(server)) {
            pulse.turn();
            self.meter.event(config.pool.0, Event::Turn, 1);
        }
    }

    /// Keys whose item from this server is, as far as is known, still true.
    pub fn present(&self, server: ServerId) -> Vec<Arc<HotKey>> {
        let ledger = self.ledger.borrow();
        ledger.present(server).map(Arc::clone).collect()
    }

    /// Give up flights whose time is over, and forget what is no longer
    /// needed. To be called a few times a second.
    pub fn tick(&self) {
        let now = self.now();
        self.l1.store.tidy();
        self.fitness.borrow_mut().tidy(now);
        self.ledger.borrow_mut().tidy();
        let late = self.flights.borrow_mut().give_up(|flight| {
            let pool = self.running.pools.get(usize::from(flight.pool));
            // Whoever has the lease of a missing key may take its time.
            let patience = |pool: &Pool| pool.timeout_request + pool.l1.lease;
            let timeout = pool.map_or(0, |pool| nanos(patience(pool)));
            now.saturating_sub(flight.began) >= timeout
        });
        for flight in late {
            self.meter.event(flight.pool, Event::Failed, 1);
            self.meter.upstream(flight.server, Verdict::Timeout);
            self.release(flight, &Filled::Failed);
        }
        self.drop_churning(now);
    }

    /// Leave keys alone that change too often (rule 8).
    fn drop_churning(&self, now: u64) {
        if breaks(Mutation::NoChurnGuard) {
            return;
        }
        let reads = || {
            let rows = self.l1.board.rows().into_iter();
            rows.map(|row| (row.key.hash, row.counts.hits + row.counts.misses))
                .collect::<HashMap<KeyHash, u64>>()
        };
        let least = |pool: u16| {
            let pool = self.running.pools.get(usize::from(pool));
            pool.map_or(0, |pool| u64::from(pool.l1.reads_per_invalidation))
        };
        let churning = self.ledger.borrow_mut().judge(now, reads, least);
        for key in churning {
            self.leave_alone(&key, false);
            self.meter.event(key.pool, Event::Churn, 1);
        }
    }

    /// How old a flight may be that somebody still joins: as old as an item
    /// that is served.
    fn age_max(&self, pool: u16) -> u64 {
        let Some(pool) = self.running.pools.get(usize::from(pool)) else {
            return 0;
        };
        match pool.l1.mode {
            Mode::Tracking => nanos(pool.l1.ttl.min(pool.l1.heartbeat)),
            _ => nanos(pool.l1.ttl),
        }
    }

    /// What the rule with the longest prefix of this key says.
    fn rule(&self, key: &HotKey) -> Rule {
        let pool = self.running.pools.get(usize::from(key.pool));
        let rules = pool.map_or(&[][..], |pool| &pool.hotkey.rules);
        let matching = rules
            .iter()
            .filter(|rule| key.key.starts_with(&rule.prefix));
        let longest = matching.max_by_key(|rule| rule.prefix.len());
        longest.map_or(Rule::default(), |rule| Rule {
            ttl: rule.ttl,
            allow: rule.allow,
        })
    }

    fn release(&self, flight: Flight, filled: &Filled) {
        for worker in flight.waiting {
            self.answer(flight.hash, flight.token, Some(worker), filled.clone());
        }
    }

    /// Tell a worker how what it has asked for has ended.
    pub fn answer(&self, hash: KeyHash, token: Token, worker: Option<usize>, filled: Filled) {
        if let Some(worker) = worker {
            let landed = Landed {
                hash,
                token,
                filled,
            };
            (self.tell)(worker, landed);
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// A worker may remember for this long that a rule forbids a key; nanoseconds.
const NOT_ALLOWED: u64 = 300_000_000_000;

/// What `[[hotkey.rules]]` says of a key here.
#[derive(Clone, Copy, Debug)]
struct Rule {
    ttl: Option<Duration>,
    allow: bool,
}

impl Default for Rule {
    fn default() -> Rule {
        Rule {
            ttl: None,
            allow: true,
        }
    }
}

/// Bytes of the value as its owner counts them: without RESP's framing.
fn payload(value: &Value) -> usize {
    match value {
        Value::Redis(bytes) => {
            let header = bytes.head().iter().position(|&byte| byte == b'\n');
            let frame = header.map_or(0, |at| at + 1) + 2;
            bytes.len().saturating_sub(frame)
        }
        other => other.len(),
    }
}
