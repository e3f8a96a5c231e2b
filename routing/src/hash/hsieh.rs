//! Paul Hsieh's SuperFastHash (azillionmonkeys.com/qed/hash.html) with a seed
//! of 0. Of the odd bytes at the end, the third is read as C's `char`.

pub fn hash(key: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
    let mut hash = 0u32;
    let blocks = key.chunks_exact(4);
    let tail = blocks.remainder();
    for block in blocks {
        hash = hash.wrapping_add(pair(block[0], block[1]));
        let mixed = (pair(block[2], block[3]) << 11) ^ hash;
        hash = (hash << 16) ^ mixed;
        hash = hash.wrapping_add(hash >> 11);
    }
    match *tail {
        [a, b, c] => {
            hash = hash.wrapping_add(pair(a, b));
            hash ^= hash << 16;
            hash ^= widen(c) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [a, b] => {
            hash = hash.wrapping_add(pair(a, b));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [a] => {
            hash = hash.wrapping_add(u32::from(a));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

fn pair(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}
