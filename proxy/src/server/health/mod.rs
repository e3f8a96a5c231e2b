//! Which servers are down, as one worker sees it.
//!
//! ```text
//!               3 failures in a row, or one refused connect
//!        up ------------------------------------------------> down
//!         ^                                                     |
//!         |  a probe is answered, or a request that was sent    | probes after 250 ms,
//!         +---------- after it went down is answered -----------+ 500 ms ... 10 s
//! ```
//!
//! A failure is a late reply or a connection that was lost with requests in
//! flight. A connection is one witness: a thousand requests behind one slow
//! reply have all waited for the same thing, and count once. What could not be
//! written in time is no failure at all, so that a hot key, or a flood, does
//! not eject a server that answers everything it is given.
//!
//! Requests to a server that is down are not sent: it is *ejected*. When half
//! of a pool is down, and more than one server, ejecting does more harm than
//! good, because the others would have to carry what they cannot, or because
//! it is ourselves who cannot reach anybody: the pool *panics* and its servers
//! are tried again, all of them.
//!
//! A server with `down = true` in the configuration is ejected from the start and
//! for ever: it is neither tried nor probed, and no part of what panics.
//!
//! The verdict is shared: whoever finds out writes it on the [`Board`], and
//! everybody reads it there with one relaxed load. Counting failures, requests
//! in flight and retries is each worker's own affair.

mod backoff;
mod board;
mod budget;
mod probe;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use emberline_routing::{PoolId, ServerId};
use tracing::{debug, info, warn};

use super::client::Client;
use super::fault::Fault;
use super::worker::Worker;
use crate::metrics::Health as Shown;
use crate::nanos::nanos;
use crate::running::{Pool, Running, Server};
pub use backoff::jittered;
pub use board::{Board, Standing, Trouble};
use budget::RetryBudget;

/// What went wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there: no further evidence is needed.
    Refused,
    /// It did not answer in time, took nothing, hung up or talked nonsense.
    Poor,
}

/// See the module's description.
#[derive(Debug)]
pub struct Health {
    board: Arc<Board>,
    seats: Box<[Rc<Seat>]>,
    /// By pool.
    budgets: Box<[Rc<RefCell<RetryBudget>>]>,
}

/// One server.
#[derive(Debug)]
struct Seat {
    streak: Streak,
    load: Rc<Load>,
    /// Why it is down, with the incident that this is about: read from the
    /// board once per incident, not once per refused request.
    known: RefCell<Option<(u64, Arc<Trouble>)>>,
}

/// What all connections of a worker to one server have in flight together.
#[derive(Debug)]
pub struct Load {
    inflight: Cell<usize>,
    inflight_max: Cell<usize>,
    /// Requests beside those, whose replies wait for a client that does not read.
    aside: Cell<usize>,
    /// Clients that wait until it is less.
    waiting: RefCell<Vec<Rc<Client>>>,
}

/// Failures in a row.
#[derive(Debug, Default)]
struct Streak(Cell<u32>);

impl Health {
    /// A worker's view of these servers, of which it knows nothing yet.
    pub fn new(running: &Running, board: Arc<Board>) -> Health {
        Health {
            board,
            seats: running
                .servers
                .all()
                .map(|server| seat(running, server))
                .collect(),
            budgets: running.pools.all().map(budget).collect(),
        }
    }

    /// The same worker's view when it runs on something else.
    pub fn next(&self, old: &Running, new: &Running) -> Health {
        let kept = |at, server| {
            let kept = self.seats.get(at).filter(|_| old.keeps_server(new, at));
            let Some(kept) = kept else {
                return seat(new, server);
            };
            kept.load.inflight_max.set(inflight_max(new, server));
            Rc::clone(kept)
        };
        let servers = new.servers.all().enumerate();
        let pools = new.pools.all().enumerate();
        Health {
            board: Arc::clone(&self.board),
            seats: servers.map(|(at, server)| kept(at, server)).collect(),
            budgets: pools
                .map(|(at, pool)| match old.pools.get(at) {
                    Some(before) if before.name == pool.name && before.health == pool.health => {
                        Rc::clone(&self.budgets[at])
                    }
                    _ => budget(pool),
                })
                .collect(),
        }
    }

    /// Whether requests shall not be sent to this server.
    #[inline]
    pub fn is_ejected(&self, server: ServerId) -> bool {
        self.board.standing(server) == Standing::Ejected
    }

    /// Requests of this worker that the server has not answered.
    #[inline]
    pub fn inflight(&self, server: ServerId) -> u32 {
        u32::try_from(self.load(server).inflight()).unwrap_or(u32::MAX)
    }

    /// The same, to be counted in.
    pub fn load(&self, server: ServerId) -> &Rc<Load> {
        &self.seats[server.0 as usize].load
    }

    /// Which of its incidents a server is at: another number than before means
    /// that it has been up meanwhile.
    pub fn incident(&self, server: ServerId) -> u64 {
        self.board.incident(server)
    }

    /// What a request to this server is told instead of being sent, if it is
    /// ejected at `now`.
    #[inline]
    pub fn fault(&self, server: ServerId, now: u64) -> Option<Fault> {
        match self.is_ejected(server) {
            true => self.down(server, now),
            false => None,
        }
    }

    #[cold]
    fn down(&self, server: ServerId, now: u64) -> Option<Fault> {
        let incident = self.board.incident(server);
        let mut known = self.seats[server.0 as usize].known.borrow_mut();
        if known.as_ref().is_none_or(|(of, _)| *of != incident) {
            *known = self.board.trouble(server).map(|why| (incident, why));
        }
        let (_, trouble) = known.as_ref()?;
        if trouble.marked {
            return Some(Fault::Marked);
        }
        Some(Fault::Down {
            why: Arc::clone(&trouble.why),
            lasted: Duration::from_nanos(now.saturating_sub(trouble.since)),
        })
    }

    /// Count a first try of a read that may be tried again elsewhere.
    pub fn first_try(&self, pool: PoolId, now: u64) {
        self.budgets[usize::from(pool.0)].borrow_mut().deposit(now);
    }

    fn may_retry(&self, pool: PoolId, now: u64) -> bool {
        self.budgets[usize::from(pool.0)].borrow_mut().withdraw(now)
    }

    fn give_back(&self, pool: PoolId) {
        self.budgets[usize::from(pool.0)].borrow_mut().give_back();
    }

    /// Whether a reply to a question of `asked` is news.
    #[inline]
    fn hears(&self, server: ServerId, asked: u64) -> bool {
        self.seats[server.0 as usize].streak.end();
        self.board.standing(server) != Standing::Up && self.board.is_news(server, asked)
    }
}

fn seat(running: &Running, server: &Server) -> Rc<Seat> {
    Rc::new(Seat {
        streak: Streak::default(),
        load: Rc::new(Load::new(inflight_max(running, server))),
        known: RefCell::default(),
    })
}

fn inflight_max(running: &Running, server: &Server) -> usize {
    running.pools[usize::from(server.pool.0)].inflight_max
}

fn budget(pool: &Pool) -> Rc<RefCell<RetryBudget>> {
    let settings = &pool.health;
    let budget = RetryBudget::new(settings.retry_share, settings.retry_least);
    Rc::new(RefCell::new(budget))
}

impl Streak {
    /// One more; whether that is too many.
    fn grows_to(&self, failure: Failure, max: u32) -> bool {
        let failures = self.0.get().saturating_add(1);
        self.0.set(failures);
        failure == Failure::Refused || failures >= max
    }

    #[inline]
    fn end(&self) {
        if self.0.get() != 0 {
            self.0.set(0);
        }
    }
}

impl Load {
    /// Nothing in flight, and so much allowed.
    pub fn new(inflight_max: usize) -> Load {
        Load {
            inflight: Cell::new(0),
            inflight_max: Cell::new(inflight_max),
            aside: Cell::new(0),
            waiting: RefCell::default(),
        }
    }

    /// Requests that have not been answered.
    #[inline]
    pub fn inflight(&self) -> usize {
        self.inflight.get()
    }

    /// Whether clients should wait before they send more.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.inflight.get() >= self.inflight_max.get()
    }

    /// One more request.
    #[inline]
    pub fn begin(&self) {
        self.inflight.set(self.inflight.get() + 1);
    }

    /// So many have ended.
    #[inline]
    pub fn end(&self, count: usize) {
        self.inflight.set(self.inflight.get().saturating_sub(count));
    }

    /// So many that are in flight wait for a client that does not read, not for
    /// the server: they take nobody's room from here on. At most as many as may
    /// be in flight; false if there are too many, and nothing has changed.
    #[must_use]
    pub fn set_aside(&self, count: usize) -> bool {
        let aside = self.aside.get() + count;
        let fits = aside <= self.inflight_max.get();
        if fits {
            self.aside.set(aside);
            self.end(count);
        }
        fits
    }

    /// So many of those that were set aside have ended.
    pub fn end_aside(&self, count: usize) {
        self.aside.set(self.aside.get().saturating_sub(count));
    }

    /// Wake `client` when there is room again.
    pub fn wait(&self, client: &Rc<Client>) {
        wait(&self.waiting, client);
    }

    /// Whether clients wait for room.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Wake those who wait, if there is room.
    #[inline]
    pub fn release(&self) {
        if !self.is_full() && !self.waiting.borrow().is_empty() {
            self.waiting.take().iter().for_each(|client| client.wake());
        }
    }
}

/// Put `client` on a list of those to be woken, once.
pub fn wait(waiting: &RefCell<Vec<Rc<Client>>>, client: &Rc<Client>) {
    let mut waiting = waiting.borrow_mut();
    if !waiting.iter().any(|other| Rc::ptr_eq(other, client)) {
        waiting.push(Rc::clone(client));
    }
}

impl Worker {
    /// Whether a read of this pool that failed may be sent once more; that
    /// it is, is taken for granted.
    pub fn may_retry(&self, pool: PoolId) -> bool {
        self.health.may_retry(pool, self.now())
    }

    /// A read that was sent once more has had its answer by that.
    pub fn give_back_retry(&self, pool: PoolId) {
        self.health.give_back(pool);
    }

    /// A server has failed; enough of that ejects it.
    pub fn blame(self: &Rc<Worker>, server: ServerId, failure: Failure, why: &Arc<str>) {
        let max = self.pool_of(server).health.failures;
        let seat = &self.health.seats[server.0 as usize];
        if !seat.streak.grows_to(failure, max) || !self.health.board.eject(server, why, self.now())
        {
            return;
        }
        seat.streak.end();
        self.meter.ejection(server);
        self.meter.upstream_health(server, Shown::Down);
        warn!(
            pool = self.pool_of(server).name,
            server = self.server_name(server),
            why = &**why,
            panic = !self.health.is_ejected(server),
            "server is down"
        );
        tokio::task::spawn_local(probe_until_up(Rc::clone(self), server));
    }

    /// A server has answered a request that was sent at `asked`.
    #[inline]
    pub fn heard(&self, server: ServerId, asked: u64) {
        if self.health.hears(server, asked) {
            self.restore(server, "a request was answered");
        }
    }

    #[cold]
    fn restore(&self, server: ServerId, how: &str) {
        let Some(trouble) = self.health.board.restore(server) else {
            return;
        };
        self.meter.upstream_health(server, Shown::Up);
        let lasted = Duration::from_nanos(self.now().saturating_sub(trouble.since));
        info!(
            pool = self.pool_of(server).name,
            server = self.server_name(server),
            how,
            lasted = format_args!("{lasted:.1?}"),
            "server is up again"
        );
    }
}

/// Ask a server again and again, ever more rarely, until it is up: because it
/// has answered here, or a request of anybody. Only the worker that ejected
/// it does so.
async fn probe_until_up(mut worker: Rc<Worker>, server: ServerId) {
    let board = Arc::clone(&worker.health.board);
    let incident = board.incident(server);
    for probes in 0.. {
        let health = &worker.pool_of(server).health;
        let (first, last) = (health.probe_first, health.probe_last);
        let pause = jittered(first, last, probes, worker.random());
        worker.tick();
        board.set_probe(server, worker.now() + nanos(pause));
        tokio::time::sleep(pause).await;
        if board.incident(server) != incident {
            return;
        }
        // It may be elsewhere by now, or want another password.
        worker = worker.successor().unwrap_or(worker);
        let pool = worker.pool_of(server);
        let answer = probe::probe(pool, worker.server(server)).await;
        worker.tick();
        worker.meter.probe(server, answer.is_ok());
        match answer {
            Ok(()) if board.incident(server) == incident => {
                return worker.restore(server, "a probe was answered");
            }
            Ok(()) => return,
            Err(why) => debug!(server = worker.server_name(server), why, "still down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the last of these events, `-` poor, `x` refused, `+` an answer,
    /// is one too many.
    #[track_caller]
    fn check(events: &str, ejects: bool) {
        let streak = Streak::default();
        let mut last = false;
        for event in events.chars() {
            last = match event {
                '-' => streak.grows_to(Failure::Poor, 3),
                'x' => streak.grows_to(Failure::Refused, 3),
                _ => {
                    streak.end();
                    false
                }
            };
        }
        assert_eq!(last, ejects, "{events}");
    }

    #[test]
    fn three_in_a_row_or_one_refusal_are_too_many() {
        check("-", false);
        check("--", false);
        check("---", true);
        check("--+-", false);
        check("--+--+--", false);
        check("--+---", true);
        check("x", true);
        check("+x", true);
    }

    #[test]
    fn a_load_is_full_at_its_limit_and_not_below() {
        let load = Load::new(2);
        load.begin();
        assert!(!load.is_full());
        load.begin();
        assert!(load.is_full());
        load.end(1);
        assert!(!load.is_full());
        assert_eq!(load.inflight(), 1);
    }
}
