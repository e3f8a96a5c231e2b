//! CRC-16/XMODEM (polynomial 0x1021, seed 0), in two forms.

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc = (crc << 1) ^ if carry { 0x1021 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// The checksum itself, which Redis Cluster takes slots from.
pub fn xmodem(key: &[u8]) -> u16 {
    key.iter().fold(0u16, |crc, &byte| {
        (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// What twemproxy's `crc16` yields: the register is 32 bits wide, so what the
/// checksum would shift out stays in its upper half.
pub fn untruncated(key: &[u8]) -> u32 {
    key.iter().fold(0u32, |crc, &byte| {
        (crc << 8) ^ u32::from(TABLE[usize::from((crc >> 8) as u8 ^ byte)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the Redis Cluster specification, appendix A.
    #[test]
    fn xmodem_of_digits() {
        assert_eq!(xmodem(b"123456789"), 0x31c3);
    }
}
