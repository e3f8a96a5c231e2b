//! A pool: ordered servers, a hash and a ring.

use std::cell::Cell;

use crate::ring::{self, Order};
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
    /// Its servers in the order of the configuration.
    pub members: Vec<Member>,
    /// Their ids: one for each of `members`. They need not stand together, so
    /// that a server keeps its own when others come and go.
    pub ids: Vec<ServerId>,
    /// How keys are spread over the servers.
    pub distribution: Distribution,
    /// The hash of the key, for the distributions that leave the choice.
    pub hash: Hash,
    /// How the hash reads bytes from 0x80 up.
    pub byte_sign: ByteSign,
    /// The part of a key to hash; none hashes the whole key.
    pub hash_tag: Option<HashTag>,
    /// Put behind that part before it is hashed, as mcrouter's `salt` is
    /// behind its routing key (`HashSelector.h`). Empty: nothing is.
    pub salt: Box<[u8]>,
}

/// Salted keys are put together in a buffer of the thread's own; after a
/// longer one than this it is given back.
const SALTED_KEPT: usize = 4096;

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

    /// Everything that decides where it puts its keys.
    pub fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    /// The pool's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The pool's index in the running configuration.
    pub fn id(&self) -> PoolId {
        self.spec.id
    }

    /// The server of this key. Allocates nothing once a thread has placed its
    /// first key of a pool with a salt.
    #[inline]
    pub fn server(&self, key: &[u8]) -> ServerId {
        self.server_at(self.index(self.hashed_part(key)))
    }

    #[inline]
    fn index(&self, part: &[u8]) -> usize {
        match self.spec.salt.is_empty() {
            true => self.ring.pick(part),
            false => self.with_salt(part, |salted| self.ring.pick(salted)),
        }
    }

    /// Let `work` see `part` with the salt behind it.
    fn with_salt<T>(&self, part: &[u8], work: impl FnOnce(&[u8]) -> T) -> T {
        thread_local! {
            static SALTED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        let mut salted = SALTED.take();
        salted.clear();
        salted.extend_from_slice(part);
        salted.extend_from_slice(&self.spec.salt);
        let done = work(&salted);
        if salted.capacity() <= SALTED_KEPT {
            SALTED.set(salted);
        }
        done
    }

    /// Its servers in the order in which this key goes to them when others
    /// fail: its own first, then those that `order` prefers.
    pub fn servers_in_order(&self, order: &Order, key: &[u8]) -> Vec<ServerId> {
        let part = self.hashed_part(key);
        let own = self.index(part);
        let hash = |bytes: &[u8]| self.spec.hash.hash(bytes, self.spec.byte_sign);
        let hash = match self.spec.salt.is_empty() {
            true => hash(part),
            false => self.with_salt(part, hash),
        };
        let others = order.of(hash).into_iter().filter(|index| *index != own);
        let indexes = [own].into_iter().chain(others);
        indexes.map(|index| self.server_at(index)).collect()
    }

    /// The servers that keys may go to, in order: all but the drained ones.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> {
        let live = |(index, member): (usize, &Member)| (member.weight > 0).then_some(index);
        let indexes = self.spec.members.iter().enumerate().filter_map(live);
        indexes.map(|index| self.server_at(index))
    }

    /// All its servers, drained ones too.
    pub fn all_servers(&self) -> impl Iterator<Item = ServerId> {
        (0..self.spec.members.len()).map(|index| self.server_at(index))
    }

    /// What the configuration should be told about: settings that work but
    /// hardly as meant.
    pub fn warnings(&self) -> Vec<String> {
        let spec = &self.spec;
        let live = || spec.members.iter().filter(|member| member.weight > 0);
        let mut warnings = Vec::new();

        let one_circle = matches!(
            spec.distribution,
            Distribution::Ketama | Distribution::KetamaOverlord | Distribution::KetamaSpy
        );
        if one_circle && spec.hash == Hash::Crc32 && live().count() > 1 {
            warnings.push(format!(
                "pool \"{}\": hash crc32 yields only 15 bits, so {} puts nearly every key on \
                 one server; crc32a uses all 32",
                spec.name, spec.distribution
            ));
        }
        let weight = live().next().map(|member| member.weight);
        if !spec.distribution.uses_weights() && live().any(|m| Some(m.weight) != weight) {
            warnings.push(format!(
                "pool \"{}\": distribution {} ignores weights other than 0",
                spec.name, spec.distribution
            ));
        }
        if let Some(points) = self.ring.points(spec.members.len()) {
            let starved = spec.members.iter().zip(points);
            for (member, _) in starved.filter(|(m, points)| m.weight > 0 && *points == 0) {
                warnings.push(format!(
                    "pool \"{}\": server \"{}\" gets no keys, its weight of {} is too small \
                     beside the others",
                    spec.name, member.name, member.weight
                ));
            }
        }
        warnings
    }

    /// The share of the keyspace, 0 to 1, that `other` places on another
    /// server (by name). Estimated from a fixed sample of keys without hash
    /// tags; a random choice moves nothing.
    pub fn share_moved(&self, other: &Pool) -> f64 {
        const SAMPLE: u32 = 1 << 14;
        let random = |pool: &Pool| pool.spec.distribution == Distribution::Random;
        if random(self) && random(other) {
            return 0.0;
        }
        let moved = (0..SAMPLE).filter(|i| {
            let key = i.wrapping_mul(0x9e37_79b1).to_string();
            self.name_of(key.as_bytes()) != other.name_of(key.as_bytes())
        });
        moved.count() as f64 / f64::from(SAMPLE)
    }

    fn name_of(&self, key: &[u8]) -> &str {
        let index = self.index(self.hashed_part(key));
        &self.spec.members[index].name
    }

    /// How this key is placed.
    pub fn explain(&self, key: &[u8]) -> Placement {
        let part = self.hashed_part(key);
        let index = self.index(part);
        Placement {
            pool: self.spec.name.clone(),
            distribution: self.spec.distribution.name(),
            hashed_part: part.to_vec(),
            in_tag: part.len() < key.len(),
            salt: self.spec.salt.to_vec(),
            hash: self.with_salt(part, |salted| self.ring.hash_of(salted)),
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
        self.spec.ids[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(distribution: Distribution, hash: Hash, servers: &[(&str, u32)]) -> Pool {
        let member = |&(name, weight): &(&str, u32)| Member {
            name: name.to_owned(),
            weight,
        };
        Pool::new(PoolSpec {
            name: "main".to_owned(),
            id: PoolId(1),
            members: servers.iter().map(member).collect(),
            ids: (10..).map(ServerId).take(servers.len()).collect(),
            distribution,
            hash,
            byte_sign: ByteSign::Signed,
            hash_tag: Some(HashTag::BRACES),
            salt: Box::default(),
        })
        .unwrap()
    }

    #[test]
    fn drained_servers_get_no_keys() {
        let servers = [("a", 0), ("b", 1), ("c", 0), ("d", 1)];
        let pool = pool(Distribution::Ketama, Hash::Fnv1a_64, &servers);
        assert!(pool.servers().eq([ServerId(11), ServerId(13)]));
        for i in 0..1000 {
            let server = pool.server(format!("key:{i}").as_bytes());
            assert!([ServerId(11), ServerId(13)].contains(&server));
        }
    }

    #[test]
    fn tags_keep_keys_together() {
        let servers = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        for distribution in Distribution::ALL {
            if distribution == Distribution::Random {
                continue;
            }
            let pool = pool(distribution, Hash::Fnv1a_64, &servers);
            for i in 0..200 {
                let server = pool.server(format!("user:{i}").as_bytes());
                let tagged = format!("cart:{{user:{i}}}:{i}");
                assert_eq!(pool.server(tagged.as_bytes()), server, "{distribution}");
            }
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |members: &[(&str, u32)], message: &str| {
            let members: Vec<Member> = members
                .iter()
                .map(|&(name, weight)| Member {
                    name: name.to_owned(),
                    weight,
                })
                .collect();
            let spec = PoolSpec {
                members,
                ..pool(Distribution::Ketama, Hash::Md5, &[("a", 1)]).spec
            };
            assert_eq!(Pool::new(spec).unwrap_err().to_string(), message);
        };
        check(&[], "pool \"main\": has no servers, expected at least one");
        check(
            &[("a", 0), ("b", 0)],
            "pool \"main\": all weights are 0, expected at least one server with a weight above 0",
        );
        check(
            &[("a", 1), ("a", 1)],
            "pool \"main\": two servers are called \"a\", expected every name once",
        );
    }

    #[test]
    fn warnings_name_the_trap() {
        let check = |distribution, hash, servers: &[(&str, u32)], parts: &[&str]| {
            let warnings = pool(distribution, hash, servers).warnings();
            assert_eq!(warnings.len(), parts.len(), "{warnings:?}");
            for (warning, part) in warnings.iter().zip(parts) {
                assert!(warning.contains(part), "{warning}");
            }
        };
        let equal = [("a", 1), ("b", 1)];
        let unequal = [("a", 1), ("b", 1000)];
        check(Distribution::Ketama, Hash::Crc32, &equal, &["15 bits"]);
        check(Distribution::Ketama, Hash::Crc32, &equal[..1], &[]);
        check(Distribution::Jump, Hash::Crc32, &equal, &[]);
        check(
            Distribution::Jump,
            Hash::Md5,
            &unequal,
            &["ignores weights"],
        );
        check(
            Distribution::Ketama,
            Hash::Md5,
            &unequal,
            &["\"a\" gets no keys"],
        );
        check(Distribution::Maglev, Hash::Md5, &unequal, &[]);
    }

    /// A salted pool places a key where one without a salt places the key with
    /// the salt behind the part that is hashed.
    #[test]
    fn a_salt_stands_behind_what_is_hashed() {
        let servers = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        for distribution in Distribution::ALL {
            if distribution == Distribution::Random {
                continue;
            }
            let plain = pool(distribution, Hash::Fnv1a_64, &servers);
            let salted = Pool::new(PoolSpec {
                salt: (*b"pepper").into(),
                ..plain.spec.clone()
            });
            let salted = salted.unwrap();
            let long = "x".repeat(2 * SALTED_KEPT);
            let keys = (0..200).map(|i| format!("user:{i}"));
            for key in keys.chain([String::new(), long]) {
                let by_hand = plain.server(format!("{key}pepper").as_bytes());
                assert_eq!(salted.server(key.as_bytes()), by_hand, "{distribution}");
                let tagged = format!("cart:{{{key}}}:7");
                if !key.is_empty() {
                    assert_eq!(salted.server(tagged.as_bytes()), by_hand, "{distribution}");
                }
            }
            let placement = salted.explain(b"user:1");
            assert_eq!(placement.server, salted.server(b"user:1"));
            assert_eq!(placement.hashed_part, b"user:1");
            assert_eq!(placement.salt, b"pepper");
            assert_eq!(placement.hash, plain.explain(b"user:1pepper").hash);
        }
    }

    #[test]
    fn another_salt_spreads_the_same_keys_differently() {
        let servers = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        let plain = pool(Distribution::Ketama, Hash::Fnv1a_64, &servers);
        let salted = |salt: &str| {
            let salt = salt.as_bytes().into();
            Pool::new(PoolSpec {
                salt,
                ..plain.spec.clone()
            })
            .unwrap()
        };
        assert_eq!(plain.share_moved(&salted("")), 0.0);
        let moved = salted("users").share_moved(&salted("images"));
        assert!((moved - 0.75).abs() < 0.1, "{moved}");
    }

    #[test]
    fn share_moved_is_the_new_servers_share() {
        let three = [("a", 1), ("b", 1), ("c", 1)];
        let four = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        let make = |servers| pool(Distribution::Rendezvous, Hash::Md5, servers);
        assert_eq!(make(&three).share_moved(&make(&three)), 0.0);
        let moved = make(&three).share_moved(&make(&four));
        assert!((moved - 0.25).abs() < 0.02, "{moved}");
    }

    #[test]
    fn explains_every_step() {
        let servers = [
            ("server1", 1),
            ("server2", 1),
            ("server3", 1),
            ("server4", 1),
        ];
        let placement = pool(Distribution::Ketama, Hash::Fnv1a_64, &servers).explain(b"x{bar}");
        assert_eq!(
            placement,
            Placement {
                pool: "main".to_owned(),
                distribution: "ketama",
                hashed_part: b"bar".to_vec(),
                in_tag: true,
                salt: Vec::new(),
                hash: Some(("fnv1a_64", 322_520_602)),
                index: 3,
                name: "server4".to_owned(),
                server: ServerId(13),
            }
        );
    }
}
