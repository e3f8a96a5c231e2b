//! One property suite for all rings. [`traits`] says which properties each
//! distribution has; a new one is a new arm there.

use std::collections::HashSet;

use emberline_routing::ring::{self, Distribution, Member, Ring, RingError};
use emberline_routing::{ByteSign, Hash};
use proptest::prelude::*;

const KEYS: usize = 20_000;

/// What moves when a server is added or removed.
enum Moves {
    /// Its own keys, wherever it stands in the list, and at most this share
    /// of all keys besides.
    Own { others: f64 },
    /// Its own keys, if it stands at the end of the list.
    OwnAtTheEnd,
    /// Whatever.
    Anything,
}

struct Traits {
    /// How far a server's share of the keys may be from its due, as a
    /// fraction of that; none where it is not even constant.
    balance: Option<f64>,
    moves: Moves,
}

fn traits(distribution: Distribution) -> Traits {
    let own = Moves::Own { others: 0.0 };
    let (balance, moves) = match distribution {
        Distribution::Ketama | Distribution::KetamaOverlord | Distribution::KetamaSpy => {
            (Some(0.40), own)
        }
        Distribution::Jump => (Some(0.06), Moves::OwnAtTheEnd),
        Distribution::Rendezvous => (Some(0.06), own),
        Distribution::Maglev => (Some(0.06), Moves::Own { others: 0.04 }),
        Distribution::Modula => (Some(0.06), Moves::Anything),
        Distribution::Random => (Some(0.06), Moves::Anything),
        Distribution::Crc16Slots => (Some(0.10), own),
        Distribution::Ch3 => (Some(0.06), Moves::OwnAtTheEnd),
        Distribution::WeightedCh3 => (Some(0.06), Moves::OwnAtTheEnd),
        // The ring keeps its size, so the others lose or gain points too.
        Distribution::EnvoyRing => (Some(0.35), Moves::Own { others: 0.12 }),
        Distribution::Hashring => (Some(0.30), own),
    };
    Traits { balance, moves }
}

fn member(name: usize, weight: u32) -> Member {
    Member {
        name: format!("10.0.0.{name}:6379"),
        weight,
    }
}

fn ring(distribution: Distribution, members: &[Member]) -> Ring {
    ring::build(distribution, members, Hash::Murmur, ByteSign::Signed).expect("some member is live")
}

/// The name of the member behind every key.
fn placed(distribution: Distribution, members: &[Member]) -> Vec<&str> {
    let ring = ring(distribution, members);
    let name = |i| {
        members[ring.pick(format!("key:{i}").as_bytes())]
            .name
            .as_str()
    };
    (0..KEYS).map(name).collect()
}

fn check_balance(distribution: Distribution, weights: &[u32]) {
    let Some(tolerance) = traits(distribution).balance else {
        return;
    };
    let members: Vec<Member> = (0..).zip(weights).map(|(i, &w)| member(i, w)).collect();
    let placed = placed(distribution, &members);
    let sum: u32 = weights.iter().sum();
    for member in &members {
        let keys = placed.iter().filter(|&&name| name == member.name).count();
        let due = KEYS as f64 * f64::from(member.weight) / f64::from(sum);
        let off = (keys as f64 - due).abs();
        assert!(
            off <= due * tolerance,
            "{distribution} {weights:?}: {} has {keys} keys, {due} are due",
            member.name
        );
    }
}

#[test]
fn equal_weights_balance() {
    for distribution in Distribution::ALL {
        check_balance(distribution, &[1; 2]);
        check_balance(distribution, &[1; 10]);
    }
}

#[test]
fn weights_balance_where_there_are_weights() {
    for distribution in Distribution::ALL {
        if distribution.uses_weights() {
            check_balance(distribution, &[1, 2, 5, 4]);
            check_balance(distribution, &[30, 10, 20]);
        }
    }
}

#[test]
fn where_there_are_no_weights_they_move_nothing() {
    for distribution in Distribution::ALL {
        if !distribution.uses_weights() {
            let equal: Vec<Member> = (0..5).map(|i| member(i, 1)).collect();
            let unequal: Vec<Member> = (0..5).map(|i| member(i, 1 + i as u32)).collect();
            assert_eq!(placed(distribution, &equal), placed(distribution, &unequal));
        }
    }
}

/// Removing is the same step in the other direction.
fn check_added(distribution: Distribution, place: usize, others_max: f64) {
    let before: Vec<Member> = (0..10).map(|i| member(i, 1)).collect();
    let mut after = before.clone();
    after.insert(place, member(77, 1));
    let (before, after) = (placed(distribution, &before), placed(distribution, &after));
    let new = member(77, 1).name;
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after);
    let others = moved.filter(|(_, after)| **after != new).count();
    let share = others as f64 / KEYS as f64;
    assert!(
        share <= others_max,
        "{distribution} at {place}: {share} of the keys moved needlessly"
    );
    assert!(
        after.contains(&new.as_str()),
        "{distribution} at {place}: the new server has no keys"
    );
}

#[test]
fn adding_a_server_moves_its_keys_only() {
    for distribution in Distribution::ALL {
        match traits(distribution).moves {
            Moves::Own { others } => {
                for place in [0, 5, 10] {
                    check_added(distribution, place, others);
                }
            }
            Moves::OwnAtTheEnd => check_added(distribution, 10, 0.0),
            Moves::Anything => {}
        }
    }
}

#[test]
fn draining_a_server_moves_its_keys_only() {
    for distribution in Distribution::ALL {
        let others_max = match traits(distribution).moves {
            Moves::Own { others } => others,
            Moves::OwnAtTheEnd => 0.0,
            Moves::Anything => continue,
        };
        let before: Vec<Member> = (0..10).map(|i| member(i, 1)).collect();
        for drained in [0, 4, 9] {
            let mut after = before.clone();
            after[drained].weight = 0;
            let gone = &before[drained].name;
            let (before, after) = (placed(distribution, &before), placed(distribution, &after));
            assert!(!after.contains(&gone.as_str()), "{distribution}");
            let moved = before
                .iter()
                .zip(&after)
                .filter(|(before, after)| before != after);
            let others = moved.filter(|(before, _)| *before != gone).count();
            let share = others as f64 / KEYS as f64;
            assert!(
                share <= others_max,
                "{distribution}: {share} moved without need"
            );
        }
    }
}

#[test]
fn the_order_of_servers_matters_only_where_it_is_said() {
    for distribution in Distribution::ALL {
        if distribution.uses_names() && !matches!(distribution, Distribution::EnvoyRing) {
            let members: Vec<Member> = (0..7).map(|i| member(i, 1 + i as u32 % 3)).collect();
            let mut turned = members.clone();
            turned.reverse();
            let same = placed(distribution, &members) == placed(distribution, &turned);
            assert!(same, "{distribution}");
        }
    }
}

#[test]
fn what_cannot_be_built_is_refused() {
    let build = |members: &[Member]| {
        ring::build(Distribution::Maglev, members, Hash::Md5, ByteSign::Signed).map(|_| ())
    };
    assert_eq!(build(&[]), Err(RingError::Empty));
    assert_eq!(
        build(&[member(1, 0), member(2, 0)]),
        Err(RingError::Drained)
    );
    let same = RingError::SameName(member(1, 1).name);
    assert_eq!(
        build(&[member(1, 1), member(2, 1), member(1, 1)]),
        Err(same)
    );
    let many: Vec<Member> = (0..=ring::MEMBERS_MAX).map(|i| member(i, 1)).collect();
    assert_eq!(build(&many), Err(RingError::TooMany(many.len())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the weights and whatever the key, a live server is picked,
    /// and always the same (but by `random`).
    #[test]
    fn any_key_reaches_a_live_server(
        weights in proptest::collection::vec(
            prop_oneof![Just(0u32), 1u32..10, Just(1000)], 1..20),
        keys in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..300), 1..20),
    ) {
        let members: Vec<Member> = (0..).zip(&weights).map(|(i, &w)| member(i, w)).collect();
        let live: HashSet<usize> = (0..weights.len()).filter(|&i| weights[i] > 0).collect();
        for distribution in Distribution::ALL {
            for hash in [Hash::Fnv1a_64, Hash::Crc32] {
                let ring = match ring::build(distribution, &members, hash, ByteSign::Signed) {
                    Ok(ring) => ring,
                    Err(error) => {
                        prop_assert_eq!(error, RingError::Drained);
                        prop_assert!(live.is_empty());
                        continue;
                    }
                };
                for key in &keys {
                    let index = ring.pick(key);
                    prop_assert!(live.contains(&index), "{} {}", distribution, index);
                    if distribution != Distribution::Random {
                        prop_assert_eq!(ring.pick(key), index);
                    }
                }
            }
        }
    }
}
