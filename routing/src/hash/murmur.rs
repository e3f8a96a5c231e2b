//! MurmurHash2, 32 bit (Austin Appleby), seeded as libmemcached does: with
//! the length times 0xdeadbeef.

const M: u32 = 0x5bd1_e995;

pub fn hash(key: &[u8]) -> u32 {
    let length = key.len() as u32;
    let mut hash = 0xdead_beef_u32.wrapping_mul(length) ^ length;
    let blocks = key.chunks_exact(4);
    let tail = blocks.remainder();
    for block in blocks {
        let mut word = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        word = word.wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}
