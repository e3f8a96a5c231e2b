//! The ring of the `hashring` crate: SipHash-2-4 for keys and points.
//!
//! The crate gives a server one point, which balances badly; we enter each
//! 160 times. It has no weights and agrees with no other proxy.

use std::hash::{BuildHasher, Hash, Hasher};

use ::hashring::{DefaultHashBuilder, HashRing};

use super::{Member, live};

/// Points a server gets.
const POINTS: u32 = 160;

pub struct Hashring {
    ring: HashRing<Point>,
}

struct Point {
    name: String,
    number: u32,
    index: usize,
}

/// Fed to the hasher as bytes alone. The standard `Hash` of a slice adds its
/// length in the machine's own width, and keys must not move between builds.
struct Bytes<'a>(&'a [u8]);

impl Hash for Bytes<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.0);
    }
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.name.as_bytes());
        hasher.write(b"-");
        hasher.write(&self.number.to_le_bytes());
    }
}

impl Hashring {
    pub fn new(members: &[Member]) -> Hashring {
        let points = live(members).flat_map(|(index, member)| {
            (0..POINTS).map(move |number| Point {
                name: member.name.clone(),
                number,
                index,
            })
        });
        let mut ring = HashRing::new();
        ring.batch_add(points.collect());
        Hashring { ring }
    }

    pub fn pick(&self, key: &[u8]) -> usize {
        let point = self.ring.get(&Bytes(key));
        point
            .expect("a ring is built over two live members or more")
            .index
    }
}

impl std::fmt::Debug for Hashring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashring")
            .field("points", &self.ring.len())
            .finish()
    }
}

pub fn hash(key: &[u8]) -> u64 {
    DefaultHashBuilder.hash_one(Bytes(key))
}
