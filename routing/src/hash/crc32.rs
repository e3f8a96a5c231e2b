//! CRC-32 as in Ethernet and zip (polynomial 0xedb88320 reflected).

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 1 != 0;
            crc = (crc >> 1) ^ if carry { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

pub fn hash(key: &[u8]) -> u32 {
    !key.iter().fold(!0u32, |crc, &byte| {
        (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value_of_the_catalogue() {
        assert_eq!(super::hash(b"123456789"), 0xcbf4_3926);
    }
}
