//! SpookyHash V2 (Bob Jenkins 2012, burtleburtle.net/bob/hash/spooky.html),
//! the hash that decides in mcrouter's WeightedCh3 whether a server's weight
//! admits a key. One form for up to 191 bytes, another for longer messages.

const FILL: u64 = 0xdead_beef_dead_beef;
/// Words of the long form's state, and of the blocks it takes.
const WORDS: usize = 12;
const BLOCK: usize = WORDS * 8;

pub fn hash32(message: &[u8], seed: u32) -> u32 {
    let seed = u64::from(seed);
    let hash = if message.len() < 2 * BLOCK {
        short(message, seed)
    } else {
        long(message, seed)
    };
    hash as u32
}

fn short(message: &[u8], seed: u64) -> u64 {
    let mut h = [seed, seed, FILL, FILL];
    let (blocks, mut rest) = message.as_chunks::<32>();
    for block in blocks {
        add(&mut h[2], word(block, 0));
        add(&mut h[3], word(block, 1));
        short_mix(&mut h);
        add(&mut h[0], word(block, 2));
        add(&mut h[1], word(block, 3));
    }
    if let Some((half, behind)) = rest.split_first_chunk::<16>() {
        add(&mut h[2], word(half, 0));
        add(&mut h[3], word(half, 1));
        short_mix(&mut h);
        rest = behind;
    }
    add(&mut h[3], (message.len() as u64) << 56);
    if rest.is_empty() {
        add(&mut h[2], FILL);
        add(&mut h[3], FILL);
    } else {
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        add(&mut h[2], word(&last, 0));
        add(&mut h[3], word(&last, 1));
    }
    short_end(&mut h);
    h[0]
}

fn short_mix(h: &mut [u64; 4]) {
    const TURNS: [u32; 12] = [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36];
    for (i, turn) in TURNS.into_iter().enumerate() {
        let (this, next, over) = ((i + 2) % 4, (i + 3) % 4, i % 4);
        h[this] = h[this].rotate_left(turn).wrapping_add(h[next]);
        h[over] ^= h[this];
    }
}

fn short_end(h: &mut [u64; 4]) {
    const TURNS: [u32; 11] = [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63];
    for (i, turn) in TURNS.into_iter().enumerate() {
        let (this, from) = ((i + 3) % 4, (i + 2) % 4);
        h[this] ^= h[from];
        h[from] = h[from].rotate_left(turn);
        h[this] = h[this].wrapping_add(h[from]);
    }
}

fn long(message: &[u8], seed: u64) -> u64 {
    let mut h = [0; WORDS];
    for three in h.as_chunks_mut::<3>().0 {
        *three = [seed, seed, FILL];
    }
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    for block in blocks {
        long_mix(&mut h, block);
    }
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    last[BLOCK - 1] = rest.len() as u8;
    for (i, state) in h.iter_mut().enumerate() {
        add(state, word(&last, i));
    }
    for _ in 0..3 {
        long_end(&mut h);
    }
    h[0]
}

fn long_mix(h: &mut [u64; WORDS], block: &[u8; BLOCK]) {
    const TURNS: [u32; WORDS] = [11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46];
    for (i, turn) in TURNS.into_iter().enumerate() {
        let at = |ahead| (i + ahead) % WORDS;
        add(&mut h[i], word(block, i));
        h[at(2)] ^= h[at(10)];
        h[at(11)] ^= h[i];
        h[i] = h[i].rotate_left(turn);
        h[at(11)] = h[at(11)].wrapping_add(h[at(1)]);
    }
}

fn long_end(h: &mut [u64; WORDS]) {
    const TURNS: [u32; WORDS] = [44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54];
    for (i, turn) in TURNS.into_iter().enumerate() {
        let at = |ahead| (i + ahead) % WORDS;
        h[at(11)] = h[at(11)].wrapping_add(h[at(1)]);
        h[at(2)] ^= h[at(11)];
        h[at(1)] = h[at(1)].rotate_left(turn);
    }
}

fn add(state: &mut u64, word: u64) {
    *state = state.wrapping_add(word);
}

fn word(bytes: &[u8], i: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::hash32;

    /// Source: folly, `folly/test/SpookyHashV2Test.cpp`: message `n` is the
    /// first `n` of the bytes 128, 129, ... with a seed of 0.
    #[test]
    fn published_vectors() {
        let message: Vec<u8> = (0..512).map(|i| (i + 128) as u8).collect();
        let check = |length: usize, value| {
            assert_eq!(hash32(&message[..length], 0), value, "{length}");
        };
        check(0, 0x6bf5_0919);
        check(1, 0x70de_1d26);
        check(2, 0xa2b3_7298);
        check(7, 0xf9f1_a233);
        check(8, 0xee19_3982);
        check(15, 0x83ec_01f9);
        check(16, 0xf274_736c);
        check(32, 0xe5cf_c8b6);
        check(63, 0x09c1_afb4);
        check(64, 0x069c_8bb7);
        check(127, 0x8235_6bf2);
        check(191, 0xe13d_9e19);
        check(192, 0x77e0_12bd);
        check(193, 0x2d05_114c);
        check(511, 0xcc1c_8250);
    }
}
