//! MD5 as a hash: four little-endian words, of which keys use the first and
//! ketama's points use all.

use md5::{Digest, Md5};

pub fn words(bytes: &[u8]) -> [u32; 4] {
    let digest = Md5::digest(bytes);
    let mut words = [0; 4];
    for (word, four) in words.iter_mut().zip(digest.chunks_exact(4)) {
        *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
    words
}

pub fn hash(key: &[u8]) -> u32 {
    words(key)[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: twemproxy, `src/test_all.c` (`ketama_hash`).
    #[test]
    fn points_of_a_server() {
        let words = words(b"server1-8");
        assert_eq!(words[0], 3853726576);
        assert_eq!(words[3], 2667054752);
    }
}
