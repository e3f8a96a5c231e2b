//! MurmurHash64A (Austin Appleby), the 64-bit MurmurHash2. mcrouter's furc
//! hash draws its bits from it and Envoy hashes Redis keys with it.

const M: u64 = 0xc6a4_a793_5bd1_e995;

pub fn hash(key: &[u8], seed: u64) -> u64 {
    let mut hash = seed ^ (key.len() as u64).wrapping_mul(M);
    let (blocks, tail) = key.as_chunks::<8>();
    for block in blocks {
        hash = (hash ^ scramble(u64::from_le_bytes(*block))).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    finish(hash)
}

/// The hash of the eight little-endian bytes of `word`.
pub fn hash_word(word: u64, seed: u64) -> u64 {
    let hash = seed ^ M.wrapping_mul(8) ^ scramble(word);
    finish(hash.wrapping_mul(M))
}

fn scramble(mut word: u64) -> u64 {
    word = word.wrapping_mul(M);
    word ^= word >> 47;
    word.wrapping_mul(M)
}

fn finish(mut hash: u64) -> u64 {
    hash ^= hash >> 47;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 47)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_hashes_like_its_bytes() {
        let word = 0x0123_4567_89ab_cdef_u64;
        assert_eq!(hash_word(word, 7), hash(&word.to_le_bytes(), 7));
    }
}
