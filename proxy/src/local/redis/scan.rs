//! The keyspace: SCAN, KEYS, RANDOMKEY, DBSIZE, FLUSHALL.

use emberline_protocol::redis::encode;

use super::number::integer;
use super::{Call, Fault};
use crate::glob;

pub fn scan(call: &mut Call<'_>) -> Result<(), Fault> {
    let cursor = cursor(call.args[1])?;
    let (mut count, mut pattern, mut kind) = (10_usize, None, None);
    let mut rest = &call.args[2..];
    while let [option, value, after @ ..] = rest {
        if option.eq_ignore_ascii_case(b"COUNT") {
            let asked = integer(value)?;
            if asked < 1 {
                return Err(Fault::Syntax);
            }
            count = usize::try_from(asked).unwrap_or(usize::MAX);
        } else if option.eq_ignore_ascii_case(b"MATCH") {
            pattern = Some(*value);
        } else if option.eq_ignore_ascii_case(b"TYPE") {
            kind = Some(*value);
        } else {
            return Err(Fault::Syntax);
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Fault::Syntax);
    }
    let (mut found, next) = call.store.page(cursor, count, call.now);
    let no_string = kind.is_some_and(|k| !k.eq_ignore_ascii_case(b"string"));
    found.retain(|key| !no_string && pattern.is_none_or(|p| glob::matches(p, key)));
    encode::array(call.out, 2);
    call.bulk(itoa::Buffer::new().format(next).as_bytes());
    encode::array(call.out, found.len());
    for key in &found {
        call.bulk(key);
    }
    Ok(())
}

/// A cursor as C's `strtoul` reads it, without leading space.
fn cursor(text: &[u8]) -> Result<u64, Fault> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let signed = digits.len() < text.len();
    let value = digits.iter().try_fold(0_u64, |value, byte| {
        let digit = u64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        value.checked_mul(10)?.checked_add(digit)
    });
    match value {
        Some(value) if !(signed && digits.is_empty()) => Ok(if negative {
            value.wrapping_neg()
        } else {
            value
        }),
        _ => Err(Fault::Said("invalid cursor")),
    }
}

pub fn keys(call: &mut Call<'_>) -> Result<(), Fault> {
    let mut found = call.store.keys(call.now);
    found.retain(|key| glob::matches(call.args[1], key));
    encode::array(call.out, found.len());
    for key in &found {
        call.bulk(key);
    }
    Ok(())
}

pub fn randomkey(call: &mut Call<'_>) -> Result<(), Fault> {
    match call.store.random(call.now) {
        Some(key) => call.bulk(&key),
        None => call.null(),
    }
    Ok(())
}

pub fn dbsize(call: &mut Call<'_>) -> Result<(), Fault> {
    let len = call.store.len(call.now);
    call.count(len);
    Ok(())
}

/// FLUSHALL and FLUSHDB are one, since there is one database.
pub fn flush(call: &mut Call<'_>) -> Result<(), Fault> {
    match *call.args {
        [_] => {}
        [_, how] if how.eq_ignore_ascii_case(b"SYNC") || how.eq_ignore_ascii_case(b"ASYNC") => {}
        _ => return Err(Fault::Syntax),
    }
    call.store.flush();
    call.ok();
    Ok(())
}
