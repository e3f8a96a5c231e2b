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
    Continuum::new(placed(members, POINTS_MIN))
}

fn placed(members: &[Member], points_min: f64) -> Vec<(u64, u16)> {
    let sum: f64 = live(members)
        .map(|(_, member)| f64::from(member.weight))
        .sum();
    let share = |member: &Member| f64::from(member.weight) / sum;
    let least = live(members)
        .map(|(_, member)| share(member))
        .fold(1.0, f64::min);
    let scale = ((least * points_min).ceil() / least).min(POINTS_MAX);

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
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: [u32; 6]) -> Vec<Member> {
        let member = |(i, weight)| Member {
            name: format!("127.0.0.1:{}", 90 + i),
            weight,
        };
        (0..).zip(weights).map(member).collect()
    }

    /// Source: Envoy, `ring_hash_lb_test.cc`, "Basic": a ring of 12 points
    /// over the ports 90 to 95.
    #[test]
    fn published_ring() {
        let mut placed = placed(&members([1; 6]), 12.0);
        placed.sort_unstable();
        let ring = [
            (833437586790550860, 4),
            (928266305478181108, 2),
            (1033482794131418490, 0),
            (3551244743356806947, 5),
            (3851675632748031481, 3),
            (5583722120771150861, 1),
            (6311230543546372928, 1),
            (7700377290971790572, 3),
            (13144177310400110813, 5),
            (13444792449719432967, 2),
            (15516499411664133160, 4),
            (16117243373044804889, 0),
        ];
        assert_eq!(placed, ring);
        let circle = Continuum::new(placed);
        assert_eq!(circle.at(0), 4);
        assert_eq!(circle.at(u64::MAX), 4);
        assert_eq!(circle.at(3551244743356806947), 5);
        assert_eq!(circle.at(3551244743356806948), 3);
    }

    #[test]
    fn the_least_server_gets_whole_points() {
        let counts = points(&members([1, 2, 3, 0, 1, 1])).points_of(6);
        assert_eq!(counts, [128, 256, 384, 0, 128, 128]);
    }

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
