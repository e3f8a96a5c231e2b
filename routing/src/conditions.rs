//! What a worker knows when it asks for a plan: which servers are down or
//! busy, what time it is, and what its own earlier requests have used up.
//!
//! Routes read it, and nothing else: no clock, no chance of their own. A test
//! writes one down and knows what the plan must be.

use std::cell::{Cell, RefCell};

use crate::ServerId;

/// What is known of servers. The proxy has its own; tests script one.
pub trait Upstream {
    /// Whether requests for this server had better go elsewhere.
    fn is_ejected(&self, server: ServerId) -> bool;
    /// Requests that wait for its replies, in this worker.
    fn inflight(&self, server: ServerId) -> u32;
}

/// Nothing is known of any server.
#[derive(Clone, Copy, Debug)]
pub struct Calm;

impl Upstream for Calm {
    fn is_ejected(&self, _: ServerId) -> bool {
        false
    }

    fn inflight(&self, _: ServerId) -> u32 {
        0
    }
}

/// Names the state of one route of the tree that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StateId(pub u16);

/// See the module's description.
#[derive(Clone, Copy)]
pub struct Conditions<'a> {
    /// Which servers are down or busy.
    pub upstream: &'a dyn Upstream,
    /// What routes remember.
    pub states: &'a States,
    /// Milliseconds of a clock that does not go back.
    pub now_ms: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Stands for the client, the same over its connections.
    pub client: u64,
}

impl std::fmt::Debug for Conditions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conditions")
            .field("now_ms", &self.now_ms)
            .field("unix_ms", &self.unix_ms)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// What the routes of one worker remember from request to request.
#[derive(Debug)]
pub struct States {
    allowances: Box<[Allowance]>,
    random: Cell<u64>,
    /// How many workers share what a route may allow.
    sharers: u32,
    /// What has been decided for the request that is being planned, and what
    /// had been before it was put off.
    receipts: RefCell<Receipts>,
}

/// What limits requests has allowed one of them, or refused it. A request that
/// has to wait is planned again when it is taken up again, and must not pay
/// twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipts {
    /// Decided before, and not asked for again yet.
    held: Vec<(StateId, bool)>,
    /// Decided, or handed in, since the request was taken up.
    given: Vec<(StateId, bool)>,
}

/// Tokens that come with time, or with requests. For [`States::learn`] it is a
/// share, a count and a switch: a route has one use for its state.
#[derive(Debug, Default)]
struct Allowance {
    tokens: Cell<f64>,
    at_ms: Cell<u64>,
    begun: Cell<bool>,
}

impl States {
    /// For routes with so many states, and chance from this seed.
    pub fn new(count: usize, seed: u64) -> States {
        States {
            allowances: (0..count).map(|_| Allowance::default()).collect(),
            random: Cell::new(seed),
            sharers: 1,
            receipts: RefCell::default(),
        }
    }

    /// The states of one of so many workers: each allows its part of what a
    /// route allows the process.
    pub fn shared_by(self, workers: usize) -> States {
        let sharers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        States { sharers, ..self }
    }

    /// One worker's part of what a route allows at once; never nothing.
    pub fn part_of(&self, limit: u32) -> u32 {
        limit.div_ceil(self.sharers)
    }

    /// A random number (SplitMix64).
    pub fn random(&self) -> u64 {
        self.random
            .set(self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let mut z = self.random.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Make the plans of one request that has so many keys: the same chance for
    /// each of them, and what limits requests is paid once.
    pub fn alike<T>(&self, keys: usize, mut plan: impl FnMut(usize) -> T) -> Vec<T> {
        let random = self.random.get();
        let before = self.receipts.borrow().given.len();
        let mut plans = Vec::with_capacity(keys);
        plans.extend((keys > 0).then(|| plan(0)));
        let after = self.random.get();
        let paid = self.receipts.borrow().clone();
        for key in 1..keys {
            self.random.set(random);
            self.receipts.replace(Receipts {
                held: paid.given[before..].to_vec(),
                given: Vec::new(),
            });
            plans.push(plan(key));
        }
        if keys > 1 {
            self.random.set(after);
            self.receipts.replace(paid);
        }
        plans
    }

    /// A request is taken up: again, with these, if it has been put off.
    pub fn take_up(&self, receipts: Option<Receipts>) {
        let mut own = self.receipts.borrow_mut();
        match receipts {
            Some(Receipts { held, mut given }) => {
                given.extend(held);
                own.held = given;
            }
            None => own.held.clear(),
        }
        own.given.clear();
    }

    /// The request that is being planned is put off, and comes back with these.
    pub fn put_off(&self) -> Receipts {
        self.receipts.take()
    }

    /// What `decide` says, unless it has been said before.
    fn once(&self, id: StateId, decide: impl FnOnce() -> bool) -> bool {
        let mut receipts = self.receipts.borrow_mut();
        let held = receipts.held.iter().position(|(state, _)| *state == id);
        let said = match held {
            Some(at) => receipts.held.remove(at).1,
            None => decide(),
        };
        receipts.given.push((id, said));
        said
    }

    /// Whether an event of this probability happens now.
    pub fn happens(&self, share: f64) -> bool {
        // 53 bits: every share from 0 to 1 is met as exactly as it is written.
        ((self.random() >> 11) as f64) < share * (1u64 << 53) as f64
    }

    /// Whether one can be taken of tokens that come at `rate` a second, at
    /// most `burst` of which wait, for all workers together; if so, takes it.
    /// A request that had to wait keeps what it was told.
    pub fn take(&self, id: StateId, rate: f64, burst: f64, now_ms: u64) -> bool {
        self.once(id, || self.take_now(id, rate, burst, now_ms))
    }

    fn take_now(&self, id: StateId, rate: f64, burst: f64, now_ms: u64) -> bool {
        let Some(allowance) = self.allowances.get(usize::from(id.0)) else {
            return true;
        };
        if rate <= 0.0 {
            return false;
        }
        let sharers = f64::from(self.sharers);
        let (rate, burst) = (rate / sharers, (burst / sharers).max(1.0));
        if !allowance.begun.replace(true) {
            allowance.tokens.set(burst);
            allowance.at_ms.set(now_ms);
        }
        let passed = now_ms.saturating_sub(allowance.at_ms.replace(now_ms));
        let tokens = allowance.tokens.get() + rate * passed as f64 / 1000.0;
        let tokens = tokens.min(burst);
        allowance
            .tokens
            .set(if tokens >= 1.0 { tokens - 1.0 } else { tokens });
        tokens >= 1.0
    }

    /// A request brings `share` of a token, at most `burst` of which wait for
    /// all workers together; once, however often it has to wait.
    pub fn bring(&self, id: StateId, share: f64, burst: f64) {
        self.once(id, || {
            let Some(allowance) = self.allowances.get(usize::from(id.0)) else {
                return true;
            };
            let burst = (burst / f64::from(self.sharers)).max(1.0);
            if !allowance.begun.replace(true) {
                allowance.tokens.set(burst);
            }
            let tokens = allowance.tokens.get() + share;
            allowance.tokens.set(tokens.min(burst));
            true
        });
    }

    /// Takes one of the tokens that requests bring, if there is a whole one.
    pub fn spend(&self, id: StateId) -> bool {
        let Some(allowance) = self.allowances.get(usize::from(id.0)) else {
            return true;
        };
        let tokens = allowance.tokens.get();
        if tokens >= 1.0 {
            allowance.tokens.set(tokens - 1.0);
        }
        tokens >= 1.0
    }

    /// A read hit, or missed. The last thousand or so count.
    pub fn learn(&self, id: StateId, hit: bool) {
        const WINDOW: u64 = 1000;
        let Some(one) = self.allowances.get(usize::from(id.0)) else {
            return;
        };
        // The mean of all while they are few, a moving one after that.
        let seen = (one.at_ms.get() + 1).min(WINDOW);
        let hit = f64::from(u8::from(hit));
        let rate = one.tokens.get();
        one.at_ms.set(seen);
        one.tokens.set(rate + (hit - rate) / seen as f64);
    }

    /// Of the reads that were learned the share that hit, and how many there
    /// were, a thousand at the most.
    pub fn hit_rate(&self, id: StateId) -> (f64, u64) {
        let one = self.allowances.get(usize::from(id.0));
        one.map_or((1.0, 0), |one| (one.tokens.get(), one.at_ms.get()))
    }

    /// Whether a route's switch is on; it is off at first.
    pub fn is_on(&self, id: StateId) -> bool {
        let one = self.allowances.get(usize::from(id.0));
        one.is_some_and(|one| one.begun.get())
    }

    /// Turns it.
    pub fn turn(&self, id: StateId, on: bool) {
        if let Some(one) = self.allowances.get(usize::from(id.0)) {
            one.begun.set(on);
        }
    }

    /// A number that a route keeps for itself.
    pub fn number(&self, id: StateId) -> f64 {
        let allowance = self.allowances.get(usize::from(id.0));
        allowance.map_or(0.0, |allowance| allowance.tokens.get())
    }

    /// Keeps it.
    pub fn keep(&self, id: StateId, number: f64) {
        if let Some(allowance) = self.allowances.get(usize::from(id.0)) {
            allowance.tokens.set(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: StateId = StateId(0);

    fn take(states: &States) -> bool {
        states.take(ONE, 0.001, 3.0, 0)
    }

    #[test]
    fn a_request_pays_once_however_many_keys_it_has_and_often_it_waits() {
        let states = States::new(1, 7);
        for expected in [true, true, true, false] {
            states.take_up(None);
            let said = states.alike(3, |_| (take(&states), states.random()));
            assert!(said.iter().all(|one| *one == said[0]));
            assert_eq!(said[0].0, expected);
            // It has to wait, twice; and then sees the same.
            for _ in 0..2 {
                let receipts = states.put_off();
                states.take_up(Some(receipts));
                assert_eq!(take(&states), expected);
            }
        }
    }

    #[test]
    fn keys_that_are_split_pay_each_and_once() {
        let states = States::new(1, 7);
        states.take_up(None);
        assert_eq!([take(&states), take(&states)], [true; 2]);
        let receipts = states.put_off();
        states.take_up(Some(receipts));
        assert!(take(&states));
        // It waits again before its second key was asked for.
        let receipts = states.put_off();
        states.take_up(Some(receipts));
        let said = [(); 4].map(|()| take(&states));
        assert_eq!(said, [true, true, true, false]);
    }
}
