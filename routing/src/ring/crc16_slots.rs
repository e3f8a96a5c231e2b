//! The 16,384 slots of Redis Cluster: a key's slot is its CRC-16.
//! Source: the Redis Cluster specification, "Key distribution model".
//!
//! The slots are dealt to the servers by weighted rendezvous over their names
//! and not in contiguous ranges, so that adding or removing a server moves
//! its own slots only. Keys that share a slot share a server either way.

use super::Member;
use super::rendezvous::Rendezvous;
use crate::hash::crc16_xmodem;

const SLOTS: u16 = 16_384;

#[derive(Debug)]
pub struct Crc16Slots {
    owners: Vec<u16>,
}

impl Crc16Slots {
    pub fn new(members: &[Member]) -> Crc16Slots {
        let rendezvous = Rendezvous::new(members);
        let owners = (0..SLOTS)
            .map(|slot| rendezvous.pick(slot.into()) as u16)
            .collect();
        Crc16Slots { owners }
    }

    #[inline]
    pub fn pick(&self, key: &[u8]) -> usize {
        usize::from(self.owners[usize::from(hash(key) % SLOTS)])
    }
}

pub fn hash(key: &[u8]) -> u16 {
    crc16_xmodem(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: redis-server's CLUSTER KEYSLOT, and the specification.
    #[test]
    fn slots_of_redis() {
        let check = |key: &str, slot| assert_eq!(hash(key.as_bytes()) % SLOTS, slot, "{key}");
        check("123456789", 0x31c3);
        check("foo", 12182);
        check("bar", 5061);
        check("hello", 866);
        check("", 0);
    }
}
