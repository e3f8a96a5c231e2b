//! A value in the L1: what a server said of a key, and until when it holds.

use crate::mutation::{Mutation, breaks};
use crate::pieces::block;
use crate::store::Held;
use crate::{HotKey, KeyHash, Pieces, Pulse};

/// What a server said of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is no such key.
    Missing,
    /// A string as RESP writes it in both versions: `$5\r\nhello\r\n`.
    Redis(Pieces),
    /// An item of a memcached server.
    Memcached {
        /// Client flags.
        flags: u32,
        /// The unique number, as `gets` gives it.
        cas: u64,
        /// The value without its line end.
        data: Pieces,
    },
}

impl Value {
    /// Bytes of the value itself.
    pub fn len(&self) -> usize {
        match self {
            Value::Missing => 0,
            Value::Redis(bytes) => bytes.len(),
            Value::Memcached { data, .. } => data.len(),
        }
    }

    /// Whether the key is missing or its value is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that it takes beside itself.
    fn memory(&self) -> usize {
        match self {
            Value::Missing => 0,
            Value::Redis(bytes) => bytes.memory(),
            Value::Memcached { data, .. } => data.memory(),
        }
    }
}

/// One entry of the L1. Immutable: a key with a new value gets a new item.
///
/// Times are nanoseconds of the process's clock.
#[derive(Debug)]
pub struct Item {
    /// The key's hash, its pool included.
    pub hash: KeyHash,
    /// The key's generation that this item belongs to.
    pub generation: u64,
    /// Index of the server that said it.
    pub server: u32,
    /// That server's epoch when the fill was sent.
    pub epoch: u64,
    /// When the fill was sent: the value is at least as new as that.
    pub sent: u64,
    /// How long the fill took.
    pub took: u64,
    /// Not to be served from here on; never later than the server's own time.
    pub expires: u64,
    /// What the server said.
    pub value: Value,
}

impl Item {
    /// Whether it may be served at `now` for this key, which must be the one
    /// with its hash.
    #[inline]
    pub fn is_fresh(&self, key: &HotKey, pulse: &Pulse, now: u64) -> bool {
        (self.generation == key.generation() || breaks(Mutation::NoFrontCheck))
            && now < self.expires
            && self.epoch == pulse.epoch()
            && pulse.is_alive(now)
    }

    /// Whether it has merely expired: nothing is known to have changed.
    pub fn has_merely_expired(&self, key: &HotKey, now: u64) -> bool {
        self.generation == key.generation() && now >= self.expires
    }

    /// Whether it is time to ask anew although it may still be served, so
    /// that nobody has to wait when it expires.
    ///
    /// `chance` is a uniform random number of 53 bits, above 0 and at most 1.
    /// A reader comes early by an exponentially distributed time, longer the
    /// longer a fill takes (XFetch: Vattani, Chierichetti and Lowenstein
    /// 2015): with `r` left, it comes with the probability `exp(-r / (took *
    /// beta))`.
    #[inline]
    pub fn is_due(&self, now: u64, beta: f64, chance: f64) -> bool {
        let left = self.expires.saturating_sub(now) as f64;
        let scale = self.took as f64 * beta;
        // Nearly always: no chance is so small, so no logarithm is needed.
        left <= scale * EARLIEST && left <= scale * -chance.ln()
    }

    /// Bytes that the entry takes in memory: the blocks that the allocator
    /// gives for it, an estimate of what the store needs to find it, and its
    /// share of what the allocator's pages lose.
    pub fn weight(&self) -> u32 {
        let blocks = self.value.memory() + HELD + OVERHEAD;
        let bytes = blocks + blocks / PAGES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The largest `-ln(chance)`: 53 bits are never below 2^-53.
const EARLIEST: f64 = 37.0;

/// The block that holds an item with the two counts of its `Arc`.
const HELD: usize = block(2 * size_of::<usize>() + size_of::<Held>());

/// One byte in so many is lost to the allocator's pages: heads, ends, and
/// blocks that wait for a value of their size. The record `l1-memory` has it
/// between a hundredth and a twelfth; a store may exceed its capacity by what
/// is more than this.
const PAGES: usize = 32;

/// What an entry costs beside that: the store's nodes, queues and table. The
/// record `l1-memory` measures it.
const OVERHEAD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn item(value: Value) -> Item {
        Item {
            hash: KeyHash(1),
            generation: 5,
            server: 0,
            epoch: 3,
            sent: 0,
            took: SECOND / 1000,
            expires: SECOND,
            value,
        }
    }

    #[test]
    fn an_item_is_served_while_everything_holds() {
        let key = HotKey::new(KeyHash(1), 0, b"k", 1);
        let pulse = Pulse::default();
        let generation = key.begin(0).and_then(|token| key.install(token)).unwrap();
        let item = Item {
            generation,
            epoch: pulse.epoch(),
            ..item(Value::Missing)
        };
        assert!(!item.is_fresh(&key, &pulse, 0), "nothing was heard yet");
        pulse.beat(2 * SECOND);
        assert!(item.is_fresh(&key, &pulse, 0));
        assert!(item.is_fresh(&key, &pulse, SECOND - 1));
        assert!(!item.is_fresh(&key, &pulse, SECOND), "it has expired");
        assert!(item.has_merely_expired(&key, SECOND));
        pulse.beat(10);
        assert!(!item.is_fresh(&key, &pulse, 10), "nothing was heard lately");
        pulse.beat(u64::MAX);
        pulse.turn();
        assert!(!item.is_fresh(&key, &pulse, 0), "its epoch is over");
        key.invalidate();
        assert!(!item.has_merely_expired(&key, SECOND));
    }

    /// Over all chances, the share that comes early is the formula's.
    #[test]
    fn readers_come_early_with_the_right_probability() {
        let item = item(Value::Missing);
        let draws = 100_000u32;
        for (beta, left_ms) in [(1.0, 0.5), (1.0, 1.0), (1.0, 5.0), (3.0, 1.0), (0.1, 0.1)] {
            let now = SECOND - (left_ms * 1e6) as u64;
            let due = (0..draws)
                .map(|i| (f64::from(i) + 0.5) / f64::from(draws))
                .filter(|&chance| item.is_due(now, beta, chance))
                .count();
            let share = due as f64 / f64::from(draws);
            let expected = (-left_ms / beta).exp();
            assert!(
                (share - expected).abs() < 2e-5,
                "{beta} {left_ms}: {share}, not {expected}"
            );
        }
    }

    #[test]
    fn nobody_comes_early_where_it_is_switched_off_and_everybody_in_the_end() {
        let item = item(Value::Missing);
        let smallest = 1.0 / (1u64 << 53) as f64;
        assert!(!item.is_due(SECOND - 1, 0.0, smallest));
        assert!(
            !item.is_due(0, 1.0, smallest),
            "a second is 1000 fills early"
        );
        assert!(item.is_due(SECOND - 36_000_000, 1.0, smallest));
        for beta in [0.0, 1.0] {
            assert!(item.is_due(SECOND, beta, 1.0));
            assert!(item.is_due(u64::MAX, beta, 1.0));
        }
    }

    #[test]
    fn lengths_are_those_of_the_value() {
        for (value, len) in [
            (Value::Missing, 0),
            (Value::Redis(b"$1\r\nx\r\n"[..].into()), 7),
            (
                Value::Memcached {
                    flags: 1,
                    cas: 2,
                    data: b"xyz"[..].into(),
                },
                3,
            ),
        ] {
            assert_eq!((value.len(), value.is_empty()), (len, len == 0));
            assert!(item(value).weight() as usize > len);
        }
    }
}
