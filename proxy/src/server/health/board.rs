//! What all threads know of the servers' health.
//!
//! One word per server, read at every request with a relaxed load: whether it
//! is up, and how often it has been down, so that who keeps something about an
//! incident sees that it is over. The rest (why, since when, the next probe)
//! is behind a lock that only changes, reports and the first refused request
//! of an incident take.
//!
//! No clock: `now` is an argument, in nanoseconds of the process's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use emberline_routing::ServerId;

use crate::running::Running;
use crate::shelf::Shelf;

/// The part of a word that is a [`Standing`]; the rest counts incidents.
const STANDING: u64 = 0b11;
const INCIDENT: u64 = 0b100;

/// What a server's health means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is up, or nobody has found otherwise.
    Up,
    /// It is down: nothing is sent to it.
    Ejected,
    /// It is down, but its pool panics: requests are sent all the same.
    Spared,
}

/// Why a server is down that is said to be.
const MARKED: &str = "the configuration says so";

/// What is known of a server that is down.
#[derive(Debug)]
pub struct Trouble {
    /// The configuration says that it is down: for ever, and whatever becomes
    /// of the rest of its pool.
    pub marked: bool,
    /// When it was found to be down, in nanoseconds of the process's clock.
    pub since: u64,
    /// What it was found by.
    pub why: Arc<str>,
    /// When it is probed next, or 0.
    next: AtomicU64,
}

/// See the module's description.
#[derive(Debug)]
pub struct Board {
    words: Shelf<AtomicU64>,
    ledger: Mutex<Ledger>,
}

/// What is looked at when something changes.
#[derive(Debug, Default)]
struct Ledger {
    pools: Vec<PoolPart>,
    /// By server.
    troubles: Vec<Option<Arc<Trouble>>>,
}

/// Servers of which only a part may be ejected.
#[derive(Debug)]
struct PoolPart {
    servers: Vec<ServerId>,
    /// From which share of servers that are down it panics.
    panic: f64,
}

impl Board {
    /// Every server is up.
    ///
    /// Those which the configuration says are down are, from the beginning
    /// (the process's clock starts at 0) and for ever.
    pub fn new(running: &Running) -> Board {
        let pools = running.pools.iter();
        let pools = pools.map(|pool| (pool.servers.clone(), pool.health.panic));
        let board = Board::over(running.servers.places(), pools);
        board.mark(marks(running));
        board
    }

    /// Those that the configuration says are down are, and no others for that
    /// reason.
    fn mark(&self, servers: impl Iterator<Item = (ServerId, bool)>) {
        let mut ledger = self.ledger();
        for (id, is_down) in servers {
            let Some(trouble) = ledger.troubles.get_mut(id.0 as usize) else {
                continue;
            };
            let word = self.word(id) & !STANDING;
            if is_down {
                *trouble = Some(Arc::new(Trouble {
                    marked: true,
                    since: 0,
                    why: MARKED.into(),
                    next: AtomicU64::new(0),
                }));
                self.set(id.0, word + 1);
            } else if trouble.take_if(|trouble| trouble.marked).is_some() {
                self.set(id.0, word + INCIDENT);
            }
        }
        self.judge_all(&ledger);
    }

    fn over(servers: usize, pools: impl Iterator<Item = (Vec<ServerId>, f64)>) -> Board {
        let board = Board {
            words: Shelf::new(0),
            ledger: Mutex::default(),
        };
        board.grow(servers, pools);
        board
    }

    /// The servers are others. Those that are `new`, and those that have gone,
    /// have nothing to do with what was known of their numbers.
    pub fn follow(&self, running: &Running, new: impl Fn(usize) -> bool) {
        for server in 0..running.servers.places() {
            if new(server) || running.servers.is_gone(server) {
                self.forget(ServerId(u32::try_from(server).unwrap_or(u32::MAX)));
            }
        }
        let pools = running.pools.iter();
        let pools = pools.map(|pool| (pool.servers.clone(), pool.health.panic));
        self.grow(running.servers.places(), pools);
        self.mark(marks(running));
    }

    /// Whatever its trouble was, it is over.
    fn forget(&self, server: ServerId) {
        let mut ledger = self.ledger();
        if let Some(trouble) = ledger.troubles.get_mut(server.0 as usize)
            && trouble.take().is_some()
        {
            let word = self.word(server);
            self.set(server.0, (word & !STANDING) + INCIDENT);
        }
    }

    fn grow(&self, servers: usize, pools: impl Iterator<Item = (Vec<ServerId>, f64)>) {
        self.words.grow(servers);
        let mut ledger = self.ledger();
        let count = ledger.troubles.len().max(servers);
        ledger.troubles.resize(count, None);
        ledger.pools = pools
            .map(|(servers, panic)| PoolPart { servers, panic })
            .collect();
        self.judge_all(&ledger);
    }

    /// What this server's health means for a request.
    #[inline]
    pub fn standing(&self, server: ServerId) -> Standing {
        match self.word(server) & STANDING {
            0 => Standing::Up,
            1 => Standing::Ejected,
            _ => Standing::Spared,
        }
    }

    /// How often this server has come up again.
    #[inline]
    pub fn incident(&self, server: ServerId) -> u64 {
        self.word(server) / INCIDENT
    }

    /// What is known of it, if it is down.
    pub fn trouble(&self, server: ServerId) -> Option<Arc<Trouble>> {
        self.ledger().troubles.get(server.0 as usize)?.clone()
    }

    /// Whether the answer to a question of `asked` says that this server,
    /// which is down, is up again.
    pub fn is_news(&self, server: ServerId, asked: u64) -> bool {
        let trouble = self.trouble(server);
        trouble.is_some_and(|trouble| trouble.since < asked)
    }

    /// Say that a server is down; whether that is news.
    pub fn eject(&self, server: ServerId, why: &Arc<str>, now: u64) -> bool {
        let mut ledger = self.ledger();
        match ledger.troubles.get_mut(server.0 as usize) {
            Some(trouble @ None) => {
                *trouble = Some(Arc::new(Trouble {
                    marked: false,
                    since: now,
                    why: Arc::clone(why),
                    next: AtomicU64::new(0),
                }));
            }
            Some(Some(_)) | None => return false,
        }
        self.judge_around(server, &ledger);
        true
    }

    /// Say that a server is up; what its trouble was, if that is news.
    pub fn restore(&self, server: ServerId) -> Option<Arc<Trouble>> {
        let mut ledger = self.ledger();
        let place = ledger.troubles.get_mut(server.0 as usize)?;
        let trouble = place.take_if(|trouble| !trouble.marked)?;
        let word = self.word(server);
        self.set(server.0, (word & !STANDING) + INCIDENT);
        self.judge_around(server, &ledger);
        Some(trouble)
    }

    /// Say when a server that is down will be probed next.
    pub fn set_probe(&self, server: ServerId, at: u64) {
        if let Some(trouble) = self.trouble(server) {
            trouble.next.store(at, Ordering::Relaxed);
        }
    }

    fn judge_all(&self, ledger: &Ledger) {
        ledger
            .pools
            .iter()
            .for_each(|pool| self.judge(pool, ledger));
    }

    fn judge_around(&self, server: ServerId, ledger: &Ledger) {
        let mut pools = ledger.pools.iter();
        if let Some(pool) = pools.find(|pool| pool.servers.contains(&server)) {
            self.judge(pool, ledger);
        }
    }

    /// What the servers of a pool that are down may expect now. Those that are
    /// marked are not counted, neither as down nor as servers: a pool panics
    /// when it is surprised.
    fn judge(&self, pool: &PoolPart, ledger: &Ledger) {
        let of = |server: &ServerId| {
            let trouble = ledger.troubles.get(server.0 as usize);
            trouble.and_then(Option::as_ref)
        };
        let is_down = |server: &&ServerId| of(server).is_some_and(|trouble| !trouble.marked);
        let is_marked = |server: &&ServerId| of(server).is_some_and(|trouble| trouble.marked);
        let down = || pool.servers.iter().filter(is_down);
        let marked = pool.servers.iter().filter(is_marked).count();
        let standing = match pool.panics(down().count(), pool.servers.len() - marked) {
            true => 2,
            false => 1,
        };
        for server in down() {
            let word = self.word(*server);
            self.set(server.0, (word & !STANDING) | standing);
        }
    }

    #[inline]
    fn word(&self, server: ServerId) -> u64 {
        match self.words.get(server.0 as usize) {
            Some(word) => word.load(Ordering::Relaxed),
            None => 0,
        }
    }

    fn set(&self, server: u32, word: u64) {
        if let Some(place) = self.words.get(server as usize) {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// Whoever panicked here has left a list that is still true.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which servers the configuration says are down.
fn marks(running: &Running) -> impl Iterator<Item = (ServerId, bool)> {
    running.servers().map(|(id, server)| (id, server.down))
}

impl PoolPart {
    /// Whether so many servers of so many are too many to be ejected. A single
    /// one never is: it says nothing about the others, and half of two is one.
    fn panics(&self, down: usize, of: usize) -> bool {
        down > 1 && down as f64 >= self.panic * of as f64
    }
}

impl Trouble {
    /// When the server is probed next, if that is known.
    pub fn next_probe(&self) -> Option<u64> {
        Some(self.next.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pools of so many servers that panic when half of them are down.
    fn board(pools: &[u32]) -> Board {
        let mut ids = (0..).map(ServerId);
        let pools: Vec<_> = pools
            .iter()
            .map(|count| (ids.by_ref().take(*count as usize).collect(), 0.5))
            .collect();
        Board::over(
            pools.iter().map(|(ids, _): &(Vec<_>, _)| ids.len()).sum(),
            pools.into_iter(),
        )
    }

    fn eject(board: &Board, server: u32, now: u64) -> bool {
        board.eject(ServerId(server), &"it is gone".into(), now)
    }

    /// The servers of a board: `.` up, `x` ejected, `!` spared.
    #[track_caller]
    fn check(board: &Board, expected: &str) {
        let shown: String = (0..board.ledger().troubles.len() as u32)
            .map(|server| match board.standing(ServerId(server)) {
                Standing::Up => '.',
                Standing::Ejected => 'x',
                Standing::Spared => '!',
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_server_goes_down_once_and_comes_up_once() {
        let board = board(&[3]);
        assert!(eject(&board, 1, 10));
        assert!(!eject(&board, 1, 20), "it was down already");
        check(&board, ".x.");
        assert_eq!(board.trouble(ServerId(1)).unwrap().since, 10);
        assert!(board.trouble(ServerId(0)).is_none());
        assert_eq!(board.restore(ServerId(1)).unwrap().since, 10);
        assert!(board.restore(ServerId(1)).is_none(), "it was up already");
        check(&board, "...");
    }

    #[test]
    fn every_incident_has_its_own_number() {
        let board = board(&[1]);
        let mut seen = vec![board.incident(ServerId(0))];
        for now in 1..4 {
            eject(&board, 0, now);
            assert_eq!(board.incident(ServerId(0)), *seen.last().unwrap());
            board.restore(ServerId(0));
            seen.push(board.incident(ServerId(0)));
        }
        assert_eq!(seen, [0, 1, 2, 3]);
    }

    #[test]
    fn half_of_a_pool_is_not_ejected() {
        let board = board(&[4, 4]);
        eject(&board, 0, 1);
        check(&board, "x.......");
        eject(&board, 2, 1);
        check(&board, "!.!.....");
        eject(&board, 5, 1);
        check(&board, "!.!..x..");
        board.restore(ServerId(0));
        check(&board, "..x..x..");
    }

    #[test]
    fn a_single_server_is_no_panic_however_small_the_pool() {
        let single = board(&[1]);
        eject(&single, 0, 1);
        check(&single, "x");
        let pair = board(&[2]);
        eject(&pair, 0, 1);
        check(&pair, "x.");
        eject(&pair, 1, 1);
        check(&pair, "!!");
    }

    #[test]
    fn what_is_marked_stays_down_and_is_no_part_of_a_panic() {
        let board = board(&[5]);
        board.mark([0, 1].map(|id| (ServerId(id), true)).into_iter());
        check(&board, "xx...");
        assert!(board.restore(ServerId(0)).is_none(), "it is down for good");
        assert!(!eject(&board, 0, 1), "it is down already");
        eject(&board, 2, 1);
        check(&board, "xxx..");
        // Two of the three that are to be up.
        eject(&board, 3, 1);
        check(&board, "xx!!.");
        board.restore(ServerId(3));
        check(&board, "xxx..");
        assert!(board.trouble(ServerId(1)).is_some_and(|why| why.marked));
    }

    #[test]
    fn only_answers_to_later_questions_are_news() {
        let board = board(&[1]);
        eject(&board, 0, 100);
        assert!(!board.is_news(ServerId(0), 99));
        assert!(!board.is_news(ServerId(0), 100));
        assert!(board.is_news(ServerId(0), 101));
    }

    #[test]
    fn a_server_that_nobody_knows_is_no_trouble() {
        let board = board(&[1]);
        assert!(!eject(&board, 7, 1));
        assert_eq!(board.standing(ServerId(7)), Standing::Up);
        assert!(board.restore(ServerId(7)).is_none());
        board.set_probe(ServerId(7), 1);
        check(&board, ".");
    }

    #[test]
    fn the_next_probe_is_shown() {
        let board = board(&[1]);
        eject(&board, 0, 1);
        let next = || board.trouble(ServerId(0)).and_then(|why| why.next_probe());
        assert_eq!(next(), None);
        board.set_probe(ServerId(0), 250);
        assert_eq!(next(), Some(250));
    }
}
