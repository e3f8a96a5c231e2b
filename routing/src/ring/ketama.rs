//! Ketama in three dialects. A server gets points in proportion to its
//! weight, four to each MD5 of `<name>-<i>`; adding or removing one moves its
//! own keys only.
//!
//! Sources: twemproxy `src/hashkit/nc_ketama.c`, libmemcached `hosts.cc`
//! (`update_continuum`), Overlord `lib/hashkit/ketama.go`.

use super::continuum::Continuum;
use super::{Member, live};
use crate::hash::md5_words;

/// Points a server gets when all weights are equal.
const POINTS: u8 = 160;
/// Points that one MD5 yields.
const POINTS_PER_HASH: u8 = 4;

/// twemproxy's, and libmemcached's weighted, ketama.
pub fn twemproxy(members: &[Member]) -> Continuum<u32> {
    circle(members, hashes_single, |name, i| {
        format!("{name}-{i}").into_bytes()
    })
}

/// libmemcached's `KETAMA_SPY`: another form of names, the same numbers.
pub fn spy(members: &[Member]) -> Continuum<u32> {
    circle(members, hashes_single, |name, i| {
        format!("/{name}-{i}").into_bytes()
    })
}

/// Overlord's: computed in wide floats, its point names cut at 64 bytes.
pub fn overlord(members: &[Member]) -> Continuum<u32> {
    circle(members, hashes_double, |name, i| {
        let mut point = format!("{name}-{i}").into_bytes();
        point.truncate(64);
        point
    })
}

fn circle(
    members: &[Member],
    hashes: fn(u32, u64, usize) -> u32,
    point_name: fn(&str, u32) -> Vec<u8>,
) -> Continuum<u32> {
    let sum = live(members)
        .map(|(_, member)| u64::from(member.weight))
        .sum();
    let count = live(members).count();
    let mut placed = Vec::with_capacity(count * usize::from(POINTS));
    for (index, member) in live(members) {
        for i in 0..hashes(member.weight, sum, count) {
            let words = md5_words(&point_name(&member.name, i));
            placed.extend(words.map(|point| (point, index as u16)));
        }
    }
    Continuum::new(placed)
}

/// How many MD5s a server gets, step by step in single precision as C does
/// it. In double precision equal weights always give 40; here 25 servers of
/// equal weight give 39 each. Only the tiny addend is a double in C, and the
/// sum is narrowed again before it is rounded.
fn hashes_single(weight: u32, sum: u64, count: usize) -> u32 {
    let share = weight as f32 / sum as f32;
    let exact = share * f32::from(POINTS) / f32::from(POINTS_PER_HASH) * count as f32;
    ((f64::from(exact) + 0.0000000001) as f32).floor() as u32
}

/// The same in double precision, as Overlord does it.
fn hashes_double(weight: u32, sum: u64, count: usize) -> u32 {
    let share = f64::from(weight) / sum as f64;
    let exact = share * f64::from(POINTS) / f64::from(POINTS_PER_HASH) * count as f64;
    (exact + 0.0000000001).floor() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByteSign, Distribution, Hash, ring};

    fn members(servers: &[(&str, u32)]) -> Vec<Member> {
        let member = |&(name, weight): &(&str, u32)| Member {
            name: name.to_owned(),
            weight,
        };
        servers.iter().map(member).collect()
    }

    fn check(distribution: Distribution, hash: Hash, members: &[Member], placed: &[(&str, usize)]) {
        let ring = ring::build(distribution, members, hash, ByteSign::Signed).unwrap();
        for (key, index) in placed {
            assert_eq!(ring.pick(key.as_bytes()), *index, "{distribution} {key}");
        }
    }

    fn libmemcached() -> Vec<Member> {
        let weights = [600, 300, 200, 350, 1000, 800, 950, 100];
        (1..)
            .zip(weights)
            .map(|(i, weight)| Member {
                name: format!("10.0.1.{i}:11211"),
                weight,
            })
            .collect()
    }

    /// Source: libmemcached, `test/fixtures/ketama.hpp`.
    #[test]
    fn libmemcached_points() {
        let counts = twemproxy(&libmemcached()).points_of(8);
        assert_eq!(counts, [176, 88, 56, 104, 296, 236, 280, 28]);
    }

    /// Source: libmemcached, `test/fixtures/ketama.hpp`; servers from 0.
    #[test]
    fn libmemcached_keys() {
        let mut short = libmemcached();
        for member in &mut short {
            member.name = Distribution::Ketama.ring_name(&member.name);
        }
        let ketama = [
            ("SVa_]_V41)", 6),
            ("726bW=9*a4", 6),
            ("P1[Ma3=K1/", 7),
            ("C89I.-V?cT", 7),
            ("ERR:EC58G>", 6),
        ];
        check(Distribution::Ketama, Hash::Md5, &short, &ketama);
        let spy = [
            ("SVa_]_V41)", 1),
            ("726bW=9*a4", 2),
            ("P1[Ma3=K1/", 0),
            ("C89I.-V?cT", 4),
            ("ERR:EC58G>", 6),
        ];
        check(Distribution::KetamaSpy, Hash::Md5, &libmemcached(), &spy);
        let hash = |key: &str| Hash::Md5.hash(key.as_bytes(), ByteSign::Signed);
        assert_eq!(hash("SVa_]_V41)"), 443_691_461);
    }

    #[test]
    fn a_hash_behind_the_last_point_wraps() {
        assert_eq!(Hash::Md5.hash(b"VDEAAAAA", ByteSign::Signed), 0xfffc_d1b5);
        let circle = twemproxy(&libmemcached());
        assert_eq!(circle.at(0xfffc_d1b5), circle.at(0));
    }

    #[test]
    fn twemproxy_defaults() {
        let aliases = members(&[
            ("server1", 1),
            ("server2", 1),
            ("server3", 1),
            ("server4", 1),
        ]);
        assert_eq!(twemproxy(&aliases).points_of(4), [160; 4]);
        let hashes = [
            ("foo", 4275688823, 0),
            ("bar", 322520602, 3),
            ("a", 2248273036, 2),
            ("user:1000", 2927313545, 0),
            ("hello world", 37540583, 3),
        ];
        for (key, hash, index) in hashes {
            let got = Hash::Fnv1a_64.hash(key.as_bytes(), ByteSign::Signed);
            assert_eq!(got, hash, "{key}");
            check(
                Distribution::Ketama,
                Hash::Fnv1a_64,
                &aliases,
                &[(key, index)],
            );
        }
        let unequal = members(&[("redis1", 1), ("redis2", 2), ("redis3", 5)]);
        let placed = [("foo", 2), ("bar", 1)];
        check(Distribution::Ketama, Hash::Fnv1a_64, &unequal, &placed);
    }

    #[test]
    fn only_twemproxy_drops_the_port_of_memcached() {
        let place = |distribution: Distribution, placed: &[(&str, usize)]| {
            let names = ["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211"]
                .map(|address| distribution.ring_name(address));
            let servers = names.each_ref().map(|name| (name.as_str(), 1));
            check(distribution, Hash::Fnv1a_64, &members(&servers), placed);
        };
        place(
            Distribution::Ketama,
            &[("foo", 1), ("bar", 2), ("user:1000", 0)],
        );
        place(
            Distribution::KetamaOverlord,
            &[("foo", 2), ("bar", 1), ("user:1000", 0)],
        );
        assert_eq!(Distribution::Ketama.ring_name("cache:6379"), "cache:6379");
    }

    /// The sizes below 101 at which single precision loses four points.
    #[test]
    fn single_precision_gives_25_servers_fewer_points() {
        let short: Vec<usize> = (1..=100)
            .filter(|&n| hashes_single(1, n as u64, n) == 39)
            .collect();
        assert_eq!(short, [25, 47, 50, 55, 61, 71, 94, 100]);
        let up_to_2000 = (1..=2000).filter(|&n| hashes_single(1, n as u64, n) == 39);
        assert_eq!(up_to_2000.count(), 207);
        assert!((1..=2000).all(|n| hashes_double(1, n as u64, n) == 40));
    }
}
