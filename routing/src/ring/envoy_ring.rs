//! Envoy's `RING_HASH` as its Redis proxy uses it: points are the xxHash64 of
//! `<ip:port>_<i>`, keys are hashed with MurmurHash2-64.
//!
//! Source: Envoy `source/extensions/load_balancing_policies/ring_hash` and
//! `source/common/common/hash.h`. The least server gets a whole number of
//! points, and all together at least 1,024 (`minimum_ring_size`).

use super::continuum::Continuum;
use super::{Member, live};
use crate::hash::{murmur64, xxhash64};

/// The seed of libstdc++'s `std::hash`, which Envoy kept.
const SEED: u64 = 0xc70f_6907;
const POINTS_MIN: f64 = 1024.0;
const POINTS_MAX: f64 = 8_388_608.0;

pub fn hash(key: &[u8]) -> u64 {
    murmur64::hash(key, SEED)
}

pub fn points(members: &[Member]) -> Continuum<u64> {
    let sum: f64 = live(members)
        .map(|(_, member)| f64::from(member.weight))
        .sum();
    let share = |member: &Member| f64::from(member.weight) / sum;
    let least = live(members)
        .map(|(_, member)| share(member))
        .fold(1.0, f64::min);
    let scale = ((least * POINTS_MIN).ceil() / least).min(POINTS_MAX);

    let mut placed = Vec::with_capacity(scale.ceil() as usize);
    // Running sums, so that fractions of a point carry over to the next.
    let (mut current, mut target) = (0.0, 0.0);
    for (index, member) in live(members) {
        target += scale * share(member);
        let mut i = 0u32;
        while current < target {
            let point = xxhash64::hash(format!("{}_{i}", member.name).as_bytes());
            placed.push((point, index as u16));
            i += 1;
            current += 1.0;
        }
    }
    Continuum::new(placed)
}

#[cfg(test)]
mod tests {
    use super::hash;

    /// Source: Envoy, `test/common/common/hash_test.cc`.
    #[test]
    fn keys_hash_like_libstdcpp() {
        assert_eq!(hash(b"foo"), 9631199822919835226);
        assert_eq!(hash(b"bar"), 11474628671133349555);
        assert_eq!(hash(b"foo\nbar"), 16306510975912980159);
        assert_eq!(hash(b"lyft"), 12847078931730529320);
        assert_eq!(hash(b""), 6142509188972423790);
    }
}
