//! Jenkins' one-at-a-time hash (burtleburtle.net/bob/hash/doobs.html).

pub fn hash(key: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
    let mut value = 0u32;
    for &byte in key {
        value = value.wrapping_add(widen(byte));
        value = value.wrapping_add(value << 10);
        value ^= value >> 6;
    }
    value = value.wrapping_add(value << 3);
    value ^= value >> 11;
    value.wrapping_add(value << 15)
}
