//! Fetches under way, and who waits for each.
//!
//! Readers may share a fetch only if nothing has happened to the key between
//! them, so a flight is known by its key *and* token. And nobody may join one
//! that left long ago: its value is as old as its question, and a mode that
//! promises values no older than T keeps that promise to those who waited, too.

use std::collections::HashMap;

use emberline_hotkey::{KeyHash, Token};
use emberline_routing::ServerId;

use super::preload::PRELOAD;

/// Fetches under way at most; workers go to the servers themselves beyond.
pub const FLIGHTS_MAX: usize = 10_000;

/// One fetch under way.
#[derive(Debug)]
pub struct Flight {
    /// What is fetched.
    pub hash: KeyHash,
    /// Taken before.
    pub token: Token,
    /// Index of the key's pool.
    pub pool: u16,
    /// Who was asked.
    pub server: ServerId,
    /// The server's epoch when it was asked for: nobody joins in another.
    pub epoch: u64,
    /// When it was asked for, in nanoseconds.
    pub began: u64,
    /// The workers to tell.
    pub waiting: Vec<usize>,
    /// The lease of the missing key is ours, and nobody has it yet.
    pub lease: bool,
}

/// What became of a wish to share a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boarded {
    /// It is one of those who wait for a flight under way.
    Joined,
    /// The same, and the lease of the missing key is its own.
    Leased,
    /// A new flight with this number has to be sent.
    Began(u64),
    /// There are too many flights.
    Full,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Flights {
    last: u64,
    flights: HashMap<u64, Flight>,
    /// The flight that may be joined.
    newest: HashMap<(KeyHash, Token), u64>,
}

impl Flights {
    /// Join the flight that fetches the same, unless it began more than `age`
    /// nanoseconds ago, or begin the given one.
    pub fn board(&mut self, flight: Flight, age: u64) -> Boarded {
        let name = (flight.hash, flight.token);
        let under_way = self.newest.get(&name);
        if let Some(under_way) = under_way.and_then(|number| self.flights.get_mut(number))
            && flight.began.saturating_sub(under_way.began) < age
            && flight.epoch == under_way.epoch
        {
            let leased = client(&flight).is_some() && std::mem::take(&mut under_way.lease);
            for worker in flight.waiting {
                if !under_way.waiting.contains(&worker) {
                    under_way.waiting.push(worker);
                }
            }
            return match leased {
                true => Boarded::Leased,
                false => Boarded::Joined,
            };
        }
        if self.flights.len() >= FLIGHTS_MAX {
            return Boarded::Full;
        }
        self.last += 1;
        self.newest.insert(name, self.last);
        self.flights.insert(self.last, flight);
        Boarded::Began(self.last)
    }

    /// The lease of a missing key is ours: the worker who is to have it; `None`
    /// if the first who joins shall.
    pub fn lease(&mut self, number: u64) -> Option<usize> {
        let flight = self.flights.get_mut(&number)?;
        let winner = client(flight);
        flight.lease = winner.is_none();
        winner
    }

    /// Whether the preload waits for this flight.
    pub fn is_preloaded(&self, number: u64) -> bool {
        let flight = self.flights.get(&number);
        flight.is_some_and(|flight| flight.waiting.contains(&PRELOAD))
    }

    /// A flight has landed; `None` if it was given up before.
    pub fn land(&mut self, number: u64) -> Option<Flight> {
        let flight = self.flights.remove(&number)?;
        let name = (flight.hash, flight.token);
        if self.newest.get(&name) == Some(&number) {
            self.newest.remove(&name);
        }
        Some(flight)
    }

    /// Give up those that `is_late` says are.
    pub fn give_up(&mut self, is_late: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let late = self.flights.iter().filter(|(_, flight)| is_late(flight));
        let late: Vec<u64> = late.map(|(&number, _)| number).collect();
        late.into_iter()
            .filter_map(|number| self.land(number))
            .collect()
    }
}

/// The first who waits for a client's sake: the preload sets nothing.
fn client(flight: &Flight) -> Option<usize> {
    let mut waiting = flight.waiting.iter().copied();
    waiting.find(|&worker| worker != PRELOAD)
}

#[cfg(test)]
mod tests {
    use emberline_hotkey::HotKey;

    use super::*;

    fn flight(token: Token, began: u64, waiting: &[usize]) -> Flight {
        Flight {
            hash: KeyHash(1),
            token,
            pool: 0,
            server: ServerId(0),
            epoch: 0,
            began,
            waiting: waiting.to_vec(),
            lease: false,
        }
    }

    #[test]
    fn the_same_token_is_one_flight_and_each_worker_waits_once() {
        let key = HotKey::new(KeyHash(1), 0, b"k", 1);
        let first = key.begin(0).unwrap();
        key.invalidate();
        let second = key.begin(0).unwrap();
        let mut flights = Flights::default();
        assert_eq!(flights.board(flight(first, 0, &[3]), 10), Boarded::Began(1));
        assert_eq!(flights.board(flight(first, 1, &[4]), 10), Boarded::Joined);
        assert_eq!(flights.board(flight(first, 2, &[3]), 10), Boarded::Joined);
        assert_eq!(flights.board(flight(first, 3, &[]), 10), Boarded::Joined);
        assert_eq!(
            flights.board(flight(second, 4, &[3]), 10),
            Boarded::Began(2)
        );
        assert_eq!(flights.land(1).unwrap().waiting, [3, 4]);
        assert!(flights.land(1).is_none());
        assert_eq!(flights.give_up(|_| true).len(), 1);
        assert!(flights.flights.is_empty() && flights.newest.is_empty());
    }

    #[test]
    fn nobody_joins_a_flight_that_left_long_ago() {
        let key = HotKey::new(KeyHash(1), 0, b"k", 1);
        let token = key.begin(0).unwrap();
        let mut flights = Flights::default();
        assert_eq!(flights.board(flight(token, 0, &[0]), 10), Boarded::Began(1));
        assert_eq!(
            flights.board(flight(token, 10, &[1]), 10),
            Boarded::Began(2)
        );
        // The older one lands first, and leaves the newer one joinable.
        assert_eq!(flights.land(1).unwrap().waiting, [0]);
        assert_eq!(flights.board(flight(token, 11, &[2]), 10), Boarded::Joined);
        assert_eq!(flights.land(2).unwrap().waiting, [1, 2]);
    }

    #[test]
    fn the_preload_leaves_a_lease_to_the_first_client() {
        let key = HotKey::new(KeyHash(1), 0, b"k", 1);
        let token = key.begin(0).unwrap();
        let mut flights = Flights::default();
        flights.board(flight(token, 0, &[PRELOAD]), 10);
        assert!(flights.is_preloaded(1));
        assert_eq!(flights.lease(1), None);
        let again = flights.board(flight(token, 1, &[PRELOAD]), 10);
        assert_eq!(again, Boarded::Joined);
        assert_eq!(flights.board(flight(token, 2, &[4]), 10), Boarded::Leased);
        assert_eq!(flights.board(flight(token, 3, &[5]), 10), Boarded::Joined);
    }

    #[test]
    fn flights_are_bounded() {
        let mut flights = Flights::default();
        let key = HotKey::new(KeyHash(1), 0, b"k", 1);
        let token = key.begin(0).unwrap();
        for number in 1..=FLIGHTS_MAX as u64 {
            assert_eq!(
                flights.board(flight(token, 0, &[]), 0),
                Boarded::Began(number)
            );
        }
        assert_eq!(flights.board(flight(token, 0, &[]), 0), Boarded::Full);
    }
}
