//! SETBIT, GETBIT and BITCOUNT. Bit 0 is the highest bit of the first byte.

use super::number::{integer, parse};
use super::strings::{edited, range};
use super::{Call, Fault, STRING_MAX};

pub fn setbit(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let (byte, mask) = position(call.args[2])?;
    let on = match parse(call.args[3]) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Fault::Said("bit is not an integer or out of range")),
    };
    let locked = call.store.lock(key, call.now);
    let old = locked.read(key);
    let held = old.as_ref().map_or(&[][..], |e| &e.data);
    let size = held.len().max(byte + 1);
    locked.check(key, size)?;
    let mut data = Vec::with_capacity(size);
    data.extend_from_slice(held);
    data.resize(size, 0);
    let was = data[byte] & mask != 0;
    data[byte] = if on {
        data[byte] | mask
    } else {
        data[byte] & !mask
    };
    locked.put(key, edited(data, old.as_deref()))?;
    call.integer(i64::from(was));
    Ok(())
}

pub fn getbit(call: &mut Call<'_>) -> Result<(), Fault> {
    let (byte, mask) = position(call.args[2])?;
    let entry = call.read(call.args[1]);
    let on = entry.is_some_and(|e| e.data.get(byte).is_some_and(|b| b & mask != 0));
    call.integer(i64::from(on));
    Ok(())
}

/// The byte a bit is in and its mask there.
fn position(offset: &[u8]) -> Result<(usize, u8), Fault> {
    parse(offset)
        .and_then(|at| u64::try_from(at).ok())
        .filter(|at| at >> 3 < STRING_MAX)
        .map(|at| ((at >> 3) as usize, 0x80 >> (at & 7)))
        .ok_or(Fault::Said("bit offset is not an integer or out of range"))
}

pub fn bitcount(call: &mut Call<'_>) -> Result<(), Fault> {
    let Some(entry) = call.read(call.args[1]) else {
        // Redis looks at the range only when there is something to count in.
        call.integer(0);
        return Ok(());
    };
    let data = &entry.data;
    let whole = data.len() * 8;
    let bits = match *call.args {
        [_, _] => 0..whole,
        [_, _, start, end, ref unit @ ..] if unit.len() <= 1 => {
            let (start, end) = (integer(start)?, integer(end)?);
            let by_bit = match unit {
                // Redis answers this before it looks at the unit.
                _ if start < 0 && end < 0 && start > end => false,
                [] => false,
                [u, ..] if u.eq_ignore_ascii_case(b"BYTE") => false,
                [u, ..] if u.eq_ignore_ascii_case(b"BIT") => true,
                _ => return Err(Fault::Syntax),
            };
            if by_bit {
                range(start, end, whole).unwrap_or(0..0)
            } else {
                range(start, end, data.len()).map_or(0..0, |r| r.start * 8..r.end * 8)
            }
        }
        _ => return Err(Fault::Syntax),
    };
    let ones = count(data, bits);
    call.count(ones);
    Ok(())
}

/// The ones among these bits, which lie within `data`.
fn count(data: &[u8], bits: std::ops::Range<usize>) -> usize {
    if bits.is_empty() {
        return 0;
    }
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    let ones: usize = data[first..=last]
        .iter()
        .map(|b| b.count_ones() as usize)
        .sum();
    let before = data[first] & !(0xff >> (bits.start % 8));
    let after = data[last] & (0x7f >> ((bits.end - 1) % 8));
    ones - before.count_ones() as usize - after.count_ones() as usize
}
