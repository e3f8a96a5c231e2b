//! Copies of an item: `mg` and an `ms` that adds, with flags and life.
//!
//! An item that is marked stale (`X`) or that somebody has been told to set
//! anew (`W`, `Z`) is not worth a copy, which would look fresh. Asking for
//! such an item makes the asker the one to set it anew; a source that uses
//! leases should be read by its clients and not be copied from.

use std::time::Duration;

use memchr::memchr;

use super::edit::check;
use super::reply::is_error;
use super::{EditError, Got, Ttl, base64, encode, expiry, got, key_ok};
use crate::{Copied, CopyError, Fetched};

/// The longest line that `mg` answers here: a key, and some numbers.
const LINE_MAX: usize = 1024;

/// Asks for an item's value, flags and life. `key` is plain; one that
/// no line can hold plainly is asked for in base64.
pub fn ask(out: &mut Vec<u8>, key: &[u8]) -> Result<(), EditError> {
    let in_base64 = !key_ok(key);
    check(key, in_base64)?;
    out.extend_from_slice(b"mg ");
    write(out, key, in_base64);
    out.extend_from_slice(match in_base64 {
        true => b" b v f t k\r\n",
        false => b" v f t k\r\n",
    });
    Ok(())
}

/// Reads the reply to [`ask`], which `reply` starts with.
pub fn fetched(reply: &[u8]) -> Result<Fetched, CopyError> {
    let Some(newline) = memchr(b'\n', &reply[..reply.len().min(LINE_MAX)]) else {
        return match reply.len() < LINE_MAX {
            true => Ok(Fetched::Partial),
            false => Err(CopyError::Unexpected),
        };
    };
    let head = newline + 1;
    let line = &reply[..head];
    if is_error(line) {
        return Err(CopyError::Refused { len: head });
    }
    let (size, item) = match got(line).ok_or(CopyError::Unexpected)? {
        Got::Value(size, item) => (size, item),
        Got::Missing(_) => return Ok(Fetched::Missing { len: head }),
        Got::Header(_) => return Err(CopyError::Unexpected),
    };
    let len = head.saturating_add(size).saturating_add(2);
    let Some(whole) = reply.get(..len) else {
        return Ok(Fetched::Partial);
    };
    if !whole.ends_with(b"\r\n") {
        return Err(CopyError::Unexpected);
    }
    let ttl = match item.ttl.ok_or(CopyError::Unexpected)? {
        Ttl::Unlimited => None,
        // In its last second, and 0 would be "for ever" to `ms`.
        Ttl::Seconds(0) => return Ok(Fetched::Missing { len }),
        Ttl::Seconds(left) => Some(Duration::from_secs(left)),
    };
    if item.stale || item.won || item.sent {
        return Ok(Fetched::Missing { len });
    }
    let copied = Copied {
        payload: head..head + size,
        ttl,
        flags: item.flags.ok_or(CopyError::Unexpected)?,
        base64: item.base64,
    };
    Ok(Fetched::Found { copied, len })
}

/// Adds a copy unless there is such an item (`NS`). `payload` is what
/// [`Copied::payload`] points to; the copy lives as long as the original has
/// left, at most `ttl_max` in whole seconds and at least one. `now` is the
/// wall clock as the time since 1970 began, by which lives of more than 30
/// days are written.
pub fn add(
    out: &mut Vec<u8>,
    key: &[u8],
    payload: &[u8],
    copied: &Copied,
    ttl_max: Option<Duration>,
    now: Duration,
) -> Result<(), EditError> {
    let in_base64 = copied.base64 || !key_ok(key);
    check(key, in_base64)?;
    out.extend_from_slice(b"ms ");
    write(out, key, in_base64);
    out.push(b' ');
    encode::number(out, payload.len() as u64);
    if let Some(life) = copied.life(ttl_max.map(|max| Duration::from_secs(max.as_secs()))) {
        out.extend_from_slice(b" T");
        encode::number(out, expiry::written(life, now));
    }
    out.extend_from_slice(b" F");
    encode::number(out, u64::from(copied.flags));
    out.extend_from_slice(match in_base64 {
        true => b" b ME\r\n",
        false => b" ME\r\n",
    });
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn write(out: &mut Vec<u8>, key: &[u8], in_base64: bool) {
    match in_base64 {
        true => base64::encode(out, key),
        false => out.extend_from_slice(key),
    }
}
