//! Many keys in little room: one after the other in one block of bytes.

/// A queue of keys; its iterator takes them out.
#[derive(Debug, Default)]
pub struct Keys {
    /// Each key behind its length in four bytes.
    bytes: Vec<u8>,
    at: usize,
}

impl Keys {
    /// Add a key at the end. One that is too long for a length is none.
    pub fn push(&mut self, key: &[u8]) {
        if let Ok(len) = u32::try_from(key.len()) {
            self.bytes.extend_from_slice(&len.to_le_bytes());
            self.bytes.extend_from_slice(key);
        }
    }

    /// Whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

impl Iterator for Keys {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let (len, rest) = self.bytes.get(self.at..)?.split_first_chunk()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let key = rest.get(..len)?.to_vec();
        self.at += 4 + len;
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_out_as_they_went_in() {
        let mut keys = Keys::default();
        assert!(keys.is_empty());
        for key in [&b"a"[..], b"", b"\0\r\n"] {
            keys.push(key);
        }
        assert_eq!(keys.next(), Some(b"a".to_vec()));
        assert!(!keys.is_empty());
        assert_eq!(
            keys.by_ref().collect::<Vec<_>>(),
            [b"".to_vec(), b"\0\r\n".to_vec()]
        );
        assert!(keys.is_empty());
    }
}
