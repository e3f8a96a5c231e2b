//! The hash that counts heat. It is not the routing hash: it covers the whole
//! key and is seeded per process, so that nobody can aim keys at one bucket.

use std::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

/// Stands for a whole key. Equal in all workers of a process, different in
/// the next process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub u64);

/// Odd, so that different pools stay different, and spread over all bits.
const POOL_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Turns keys into [`KeyHash`]es. Make one a process and clone it into every
/// worker, or their counts cannot be added.
#[derive(Clone)]
pub struct KeyHasher {
    state: SeedableRandomState,
}

impl KeyHasher {
    /// A hasher with a seed of its own.
    pub fn random() -> KeyHasher {
        KeyHasher {
            state: SeedableRandomState::random(),
        }
    }

    /// A hasher that is the same in every process, for tests.
    pub fn fixed(seed: u64) -> KeyHasher {
        KeyHasher {
            state: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()),
        }
    }

    /// The hash of a whole key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let mut hasher = self.state.build_hasher();
        hasher.write(key);
        KeyHash(hasher.finish())
    }

    /// The hash of a whole key in the pool with this index: the same key in
    /// another pool is another key.
    #[inline]
    pub fn hash_in(&self, pool: u16, key: &[u8]) -> KeyHash {
        // One round of hashing less than to write the pool into the hasher.
        let pool = u64::from(pool).wrapping_mul(POOL_FACTOR);
        KeyHash(self.hash(key).0 ^ pool)
    }
}

/// The seed stays out of logs: who knows it can aim keys at one bucket.
impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_agree_and_seeds_differ() {
        let hasher = KeyHasher::random();
        assert_eq!(hasher.hash(b"user:1"), hasher.clone().hash(b"user:1"));
        assert_ne!(hasher.hash(b"user:1"), hasher.hash(b"user:2"));
        assert_ne!(hasher.hash(b"user:1"), KeyHasher::random().hash(b"user:1"));
        assert_eq!(hasher.hash_in(0, b"user:1"), hasher.hash(b"user:1"));
        assert_ne!(hasher.hash_in(1, b"user:1"), hasher.hash_in(2, b"user:1"));
        assert_eq!(
            KeyHasher::fixed(7).hash(b"user:1"),
            KeyHasher::fixed(7).hash(b"user:1")
        );
    }
}
