//! Rings: from the hashed part of a key to one of a pool's servers.
//!
//! Every distribution is one file, which says where its algorithm comes from
//! and what moves when a server is added or removed. All of them leave
//! servers of weight 0 without keys, and a pool with one live server needs
//! no hash at all.

use std::fmt;
use std::str::FromStr;

use crate::{ByteSign, Hash, UnknownName};

mod ch3;
mod continuum;
mod crc16_slots;
mod envoy_ring;
mod hashring;
mod jump;
mod ketama;
mod maglev;
mod mix;
mod modula;
mod random;
mod rendezvous;
mod weighted_ch3;

pub use rendezvous::Order;

/// How a pool spreads its keys over its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, core::hash::Hash, Default)]
pub enum Distribution {
    /// Ketama as twemproxy and libmemcached (weighted) compute it.
    #[default]
    Ketama,
    /// Ketama as Overlord computes it, in wider floats.
    KetamaOverlord,
    /// Ketama as libmemcached's `KETAMA_SPY`, with spymemcached's names.
    KetamaSpy,
    /// Jump consistent hash: perfectly even, grows and shrinks at the end.
    Jump,
    /// Highest random weight.
    Rendezvous,
    /// Google's Maglev table.
    Maglev,
    /// Hash modulo the number of servers. Any change moves nearly all keys.
    Modula,
    /// Any server, at every request anew.
    Random,
    /// The 16,384 slots of Redis Cluster.
    Crc16Slots,
    /// mcrouter's default.
    Ch3,
    /// mcrouter's default, weighted.
    WeightedCh3,
    /// Envoy's `RING_HASH`, for Redis keys.
    EnvoyRing,
    /// The ring of the `hashring` crate.
    Hashring,
}

/// A server as its ring knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity on the ring: an alias, or [`Distribution::ring_name`] of
    /// its address. Keys move when it changes.
    pub name: String,
    /// Its share relative to the others; 0 drains it.
    pub weight: u32,
}

/// Why a ring cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The pool has no servers.
    #[error("has no servers, expected at least one")]
    Empty,
    /// The pool has servers, all of them drained.
    #[error("all weights are 0, expected at least one server with a weight above 0")]
    Drained,
    /// More servers than an index of 16 bits can name.
    #[error("has {0} servers, expected at most {MEMBERS_MAX}")]
    TooMany(usize),
    /// Two servers that the ring could not tell apart.
    #[error("two servers are called \"{0}\", expected every name once")]
    SameName(String),
}

/// The most servers in a pool. Rings keep indexes of 16 bits, and this many
/// servers already make 10 million ketama points.
pub const MEMBERS_MAX: usize = 65_535;

/// Places keys on the members that it was built from.
#[derive(Debug)]
pub struct Ring {
    hash: Hash,
    sign: ByteSign,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// One live member takes everything.
    Sole(usize),
    Ketama(continuum::Continuum<u32>),
    Jump(jump::Jump),
    Rendezvous(rendezvous::Rendezvous),
    Maglev(maglev::Maglev),
    Modula(modula::Modula),
    Random(random::Random),
    Crc16Slots(crc16_slots::Crc16Slots),
    Ch3(ch3::Ch3),
    WeightedCh3(weighted_ch3::WeightedCh3),
    EnvoyRing(continuum::Continuum<u64>),
    Hashring(hashring::Hashring),
}

/// Builds the ring of `distribution` over `members`. `hash` and `sign` serve
/// the distributions that do not bring a hash of their own.
pub fn build(
    distribution: Distribution,
    members: &[Member],
    hash: Hash,
    sign: ByteSign,
) -> Result<Ring, RingError> {
    let sole = sole(members)?;
    if distribution.uses_names() {
        distinct(members)?;
    }
    let form = match sole {
        Some(index) => Form::Sole(index),
        None => match distribution {
            Distribution::Ketama => Form::Ketama(ketama::twemproxy(members)),
            Distribution::KetamaOverlord => Form::Ketama(ketama::overlord(members)),
            Distribution::KetamaSpy => Form::Ketama(ketama::spy(members)),
            Distribution::Jump => Form::Jump(jump::Jump::new(members)),
            Distribution::Rendezvous => Form::Rendezvous(rendezvous::Rendezvous::new(members)),
            Distribution::Maglev => Form::Maglev(maglev::Maglev::new(members)),
            Distribution::Modula => Form::Modula(modula::Modula::new(members)),
            Distribution::Random => Form::Random(random::Random::new(members)),
            Distribution::Crc16Slots => Form::Crc16Slots(crc16_slots::Crc16Slots::new(members)),
            Distribution::Ch3 => Form::Ch3(ch3::Ch3::new(members)),
            Distribution::WeightedCh3 => Form::WeightedCh3(weighted_ch3::WeightedCh3::new(members)),
            Distribution::EnvoyRing => Form::EnvoyRing(envoy_ring::points(members)),
            Distribution::Hashring => Form::Hashring(hashring::Hashring::new(members)),
        },
    };
    Ok(Ring { hash, sign, form })
}

/// The one live member, none if there are several.
fn sole(members: &[Member]) -> Result<Option<usize>, RingError> {
    if members.len() > MEMBERS_MAX {
        return Err(RingError::TooMany(members.len()));
    }
    let mut live = live(members);
    match (live.next(), live.next()) {
        _ if members.is_empty() => Err(RingError::Empty),
        (None, _) => Err(RingError::Drained),
        (Some((index, _)), None) => Ok(Some(index)),
        (Some(_), Some(_)) => Ok(None),
    }
}

/// Refuses two members of one name, drained ones included: they would have
/// the same points, and one of them no keys.
fn distinct(members: &[Member]) -> Result<(), RingError> {
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(RingError::SameName(two[0].to_owned())),
        None => Ok(()),
    }
}

/// The members that take keys, with their indexes among all.
fn live(members: &[Member]) -> impl Iterator<Item = (usize, &Member)> {
    let indexed = members.iter().enumerate();
    indexed.filter(|(_, member)| member.weight > 0)
}

impl Ring {
    /// The index of the member that takes this key, from which the hash tag
    /// is already cut. Allocates nothing (but see `weighted_ch3`).
    #[inline]
    pub fn pick(&self, key: &[u8]) -> usize {
        match &self.form {
            Form::Sole(index) => *index,
            Form::Ketama(points) => points.at(self.configured(key)),
            Form::Jump(jump) => jump.pick(self.configured(key)),
            Form::Rendezvous(rendezvous) => rendezvous.pick(self.configured(key)),
            Form::Maglev(maglev) => maglev.pick(self.configured(key)),
            Form::Modula(modula) => modula.pick(self.configured(key)),
            Form::Random(random) => random.pick(),
            Form::Crc16Slots(slots) => slots.pick(key),
            Form::Ch3(ch3) => ch3.pick(key),
            Form::WeightedCh3(ch3) => ch3.pick(key),
            Form::EnvoyRing(points) => points.at(envoy_ring::hash(key)),
            Form::Hashring(ring) => ring.pick(key),
        }
    }

    /// The name and value of the hash that decides for this key; none where
    /// nothing is hashed.
    pub fn hash_of(&self, key: &[u8]) -> Option<(&'static str, u64)> {
        match &self.form {
            Form::Sole(_) | Form::Random(_) => None,
            Form::Ketama(_)
            | Form::Jump(_)
            | Form::Rendezvous(_)
            | Form::Maglev(_)
            | Form::Modula(_) => Some((self.hash.name(), self.configured(key).into())),
            Form::Crc16Slots(_) => Some(("crc16_xmodem", crc16_slots::hash(key).into())),
            Form::Ch3(_) | Form::WeightedCh3(_) => Some(("murmur2_64a", ch3::hash(key))),
            Form::EnvoyRing(_) => Some(("murmur2_64a", envoy_ring::hash(key))),
            Form::Hashring(_) => Some(("siphash_2_4", hashring::hash(key))),
        }
    }

    /// How many points each of `members` members has, for the rings that have
    /// some: a weight may be too small for a single one.
    pub(crate) fn points(&self, members: usize) -> Option<Vec<usize>> {
        match &self.form {
            Form::Ketama(points) => Some(points.points_of(members)),
            Form::EnvoyRing(points) => Some(points.points_of(members)),
            _ => None,
        }
    }

    #[inline]
    fn configured(&self, key: &[u8]) -> u32 {
        self.hash.hash(key, self.sign)
    }
}

impl Distribution {
    /// Every distribution, in the order of the documentation.
    pub const ALL: [Distribution; 13] = [
        Distribution::Ketama,
        Distribution::KetamaOverlord,
        Distribution::KetamaSpy,
        Distribution::Jump,
        Distribution::Rendezvous,
        Distribution::Maglev,
        Distribution::Modula,
        Distribution::Random,
        Distribution::Crc16Slots,
        Distribution::Ch3,
        Distribution::WeightedCh3,
        Distribution::EnvoyRing,
        Distribution::Hashring,
    ];

    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Distribution::Ketama => "ketama",
            Distribution::KetamaOverlord => "ketama_overlord",
            Distribution::KetamaSpy => "ketama_spy",
            Distribution::Jump => "jump",
            Distribution::Rendezvous => "rendezvous",
            Distribution::Maglev => "maglev",
            Distribution::Modula => "modula",
            Distribution::Random => "random",
            Distribution::Crc16Slots => "crc16_slots",
            Distribution::Ch3 => "ch3",
            Distribution::WeightedCh3 => "weighted_ch3",
            Distribution::EnvoyRing => "envoy_ring",
            Distribution::Hashring => "hashring",
        }
    }

    /// Whether the pool's `hash` decides; the others bring their own.
    pub const fn uses_hash(self) -> bool {
        matches!(
            self,
            Distribution::Ketama
                | Distribution::KetamaOverlord
                | Distribution::KetamaSpy
                | Distribution::Jump
                | Distribution::Rendezvous
                | Distribution::Maglev
                | Distribution::Modula
        )
    }

    /// Whether weights above 0 matter; with the others they only tell live
    /// servers from drained ones.
    pub const fn uses_weights(self) -> bool {
        !matches!(
            self,
            Distribution::Jump | Distribution::Ch3 | Distribution::Hashring
        )
    }

    /// Whether servers are placed by their names; with the others, by their
    /// order in the list.
    pub const fn uses_names(self) -> bool {
        !matches!(
            self,
            Distribution::Jump
                | Distribution::Modula
                | Distribution::Random
                | Distribution::Ch3
                | Distribution::WeightedCh3
        )
    }

    /// The identity of a server without an alias: its `host:port`, as the
    /// proxies that this distribution imitates write it. With `ketama` the
    /// port 11211 goes unsaid.
    pub fn ring_name(self, address: &str) -> String {
        let short = match self {
            Distribution::Ketama => address.strip_suffix(":11211"),
            _ => None,
        };
        short.unwrap_or(address).to_owned()
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Distribution {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Distribution, UnknownName> {
        UnknownName::find("distribution", name, &Distribution::ALL, Distribution::name)
    }
}
