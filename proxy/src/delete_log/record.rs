//! The log's records, as bytes.
//!
//! ```text
//!   length   u32   of what follows the checksum
//!   checksum u32   CRC-32 (IEEE) of the same
//!   kind     u8    1: a delete waits        2: it has been applied, or dropped
//!   seq      u64   its number               its number
//!   time     u64   milliseconds since 1970
//!   server   u16   bytes of the name, and the name
//!   key      ...   the rest
//! ```
//!
//! All numbers are little-endian. A process that dies while it writes leaves a
//! tail whose length or checksum is wrong: what is read ends before it, unless
//! sound records follow.

use emberline_routing::{ByteSign, Hash};

/// What a log begins with.
pub const MAGIC: &[u8; 8] = b"EMBRDEL1";

/// The longest key that is taken.
pub const KEY_MAX: usize = 64 * 1024;

/// Bytes of a [`Record::Gone`].
pub const GONE_LEN: u64 = 8 + 1 + 8;

/// Length and checksum.
const HEAD: usize = 8;

/// Longer than any record that is written.
const PAYLOAD_MAX: usize = KEY_MAX + 1024 + 64 * 1024;

const WAITS: u8 = 1;
const GONE: u8 = 2;

/// One entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A delete waits for its server.
    Waits {
        /// Its number; numbers grow.
        seq: u64,
        /// When it was asked for, in milliseconds since 1970.
        unix_ms: u64,
        /// The server's name.
        server: &'a [u8],
        /// The key as the server knows it.
        key: &'a [u8],
    },
    /// The delete with this number waits no more.
    Gone(u64),
}

impl Record<'_> {
    /// Append it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        match *self {
            Record::Waits {
                seq,
                unix_ms,
                server,
                key,
            } => {
                out.push(WAITS);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&unix_ms.to_le_bytes());
                let len = u16::try_from(server.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&server[..usize::from(len)]);
                out.extend_from_slice(key);
            }
            Record::Gone(seq) => {
                out.push(GONE);
                out.extend_from_slice(&seq.to_le_bytes());
            }
        }
        let payload = out.len() - start - HEAD;
        let checksum = checksum(&out[start + HEAD..]);
        let length = u32::try_from(payload).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + HEAD].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The record that `bytes` begin with, and its length; `None` if there is no
/// whole and sound one.
pub fn read(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let (length, rest) = number::<4>(bytes)?;
    let (sum, rest) = number::<4>(rest)?;
    let length = usize::try_from(length)
        .ok()
        .filter(|len| *len <= PAYLOAD_MAX)?;
    let payload = rest.get(..length)?;
    if u64::from(checksum(payload)) != sum {
        return None;
    }
    let (kind, rest) = payload.split_first()?;
    let (seq, rest) = number::<8>(rest)?;
    let record = match *kind {
        WAITS => {
            let (unix_ms, rest) = number::<8>(rest)?;
            let (name, rest) = number::<2>(rest)?;
            let (server, key) = rest.split_at_checked(usize::try_from(name).ok()?)?;
            Record::Waits {
                seq,
                unix_ms,
                server,
                key,
            }
        }
        GONE => Record::Gone(seq),
        _ => return None,
    };
    Some((record, HEAD + length))
}

/// Bytes of checksums that a search may cost: keys can be made to look like
/// many long records.
const SEARCH_MAX: usize = 256 << 20;

/// Where the next sound record begins in bytes that begin with none: behind the
/// length that it claims, or else at the first place that has one. `None` if
/// there is none.
pub fn next_sound(bytes: &[u8]) -> Option<usize> {
    let (length, _) = number::<4>(bytes)?;
    let behind = usize::try_from(length).ok()?.checked_add(HEAD)?;
    if bytes.get(behind..).and_then(read).is_some() {
        return Some(behind);
    }
    let mut left = SEARCH_MAX;
    (1..bytes.len()).find(|&at| {
        let here = &bytes[at..];
        let cost = number::<4>(here).map_or(0, |(length, _)| length);
        let cost = usize::try_from(cost).unwrap_or(usize::MAX);
        if cost > PAYLOAD_MAX || !matches!(here.get(HEAD), Some(&(WAITS | GONE))) {
            return false;
        }
        left = left.saturating_sub(cost);
        left > 0 && read(here).is_some()
    })
}

fn number<const N: usize>(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    let mut whole = [0; 8];
    whole[..N].copy_from_slice(first);
    Some((u64::from_le_bytes(whole), rest))
}

fn checksum(bytes: &[u8]) -> u32 {
    Hash::Crc32a.hash(bytes, ByteSign::Unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(seq: u64, key: &[u8]) -> Record<'_> {
        Record::Waits {
            seq,
            unix_ms: 1_700_000_000_000,
            server: b"10.0.0.1:6379",
            key,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let long = vec![b'x'; KEY_MAX];
        let records = [
            waits(1, b"user:1"),
            Record::Gone(1),
            waits(u64::MAX, b""),
            waits(3, &long),
        ];
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.write(&mut bytes));
        let mut gone = Vec::new();
        records[1].write(&mut gone);
        assert_eq!(gone.len() as u64, GONE_LEN);
        let mut rest = &bytes[..];
        for record in records {
            let (found, len) = read(rest).unwrap();
            assert_eq!(found, record);
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
    }

    /// Wherever a record is cut off, and whichever of its bits is another, it
    /// is none.
    #[test]
    fn a_torn_or_changed_record_is_none() {
        let mut bytes = Vec::new();
        waits(7, b"some-key").write(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), None, "cut at {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&changed), None, "bit {bit}");
        }
    }
}
