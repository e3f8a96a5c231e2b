//! SpookyHash V2.
pub fn hash32(key: &[u8], seed: u32) -> u32 {
    let _ = (key, seed);
    0
}
