//! Jenkins' lookup3 (burtleburtle.net/bob/c/lookup3.c, `hashlittle`) with
//! libmemcached's seed of 13.

const SEED: u32 = 13;

pub fn hash(key: &[u8]) -> u32 {
    let start = 0xdead_beef_u32
        .wrapping_add(key.len() as u32)
        .wrapping_add(SEED);
    let [mut a, mut b, mut c] = [start; 3];

    // The last block is padded with zeros and mixed otherwise; it is a whole
    // one when the length is a multiple of 12, and an empty key has none.
    let mut rest = key;
    while rest.len() > 12 {
        let (block, behind) = rest.split_at(12);
        [a, b, c] = add(block, a, b, c);
        [a, b, c] = mix(a, b, c);
        rest = behind;
    }
    if rest.is_empty() {
        return c;
    }
    let mut last = [0; 12];
    last[..rest.len()].copy_from_slice(rest);
    [a, b, c] = add(&last, a, b, c);
    mix_last(a, b, c)
}

fn add(block: &[u8], a: u32, b: u32, c: u32) -> [u32; 3] {
    let word = |i| u32::from_le_bytes([block[i], block[i + 1], block[i + 2], block[i + 3]]);
    [
        a.wrapping_add(word(0)),
        b.wrapping_add(word(4)),
        c.wrapping_add(word(8)),
    ]
}

/// One line of the reference's `mix`: three registers in turn.
fn step(x: &mut u32, y: u32, z: &mut u32, bits: u32) {
    *x = x.wrapping_sub(*z) ^ z.rotate_left(bits);
    *z = z.wrapping_add(y);
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> [u32; 3] {
    step(&mut a, b, &mut c, 4);
    step(&mut b, c, &mut a, 6);
    step(&mut c, a, &mut b, 8);
    step(&mut a, b, &mut c, 16);
    step(&mut b, c, &mut a, 19);
    step(&mut c, a, &mut b, 4);
    [a, b, c]
}

fn mix_last(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    let blend = |x: u32, y: u32, bits| (x ^ y).wrapping_sub(y.rotate_left(bits));
    c = blend(c, b, 14);
    a = blend(a, c, 11);
    b = blend(b, a, 25);
    c = blend(c, b, 16);
    a = blend(a, c, 4);
    b = blend(b, a, 14);
    blend(c, b, 24)
}
