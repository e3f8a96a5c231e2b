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
    circle(members, hashes_single, |name, i| format!("{name}-{i}"))
}

/// libmemcached's `KETAMA_SPY`: another form of names, the same numbers.
pub fn spy(members: &[Member]) -> Continuum<u32> {
    circle(members, hashes_single, |name, i| format!("/{name}-{i}"))
}

/// Overlord's: computed in wide floats, its point names cut at 64 bytes.
pub fn overlord(members: &[Member]) -> Continuum<u32> {
    circle(members, hashes_double, |name, i| {
        let mut point = format!("{name}-{i}");
        let mut end = point.len().min(64);
        while !point.is_char_boundary(end) {
            end -= 1;
        }
        point.truncate(end);
        point
    })
}

fn circle(
    members: &[Member],
    hashes: fn(u32, u64, usize) -> u32,
    point_name: fn(&str, u32) -> String,
) -> Continuum<u32> {
    let sum = live(members)
        .map(|(_, member)| u64::from(member.weight))
        .sum();
    let count = live(members).count();
    let mut placed = Vec::with_capacity(count * usize::from(POINTS));
    for (index, member) in live(members) {
        for i in 0..hashes(member.weight, sum, count) {
            let words = md5_words(point_name(&member.name, i).as_bytes());
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
