//! Copies of a key of any type: DUMP and RESTORE, with its life.
//!
//! `PTTL` and `DUMP` are two commands. Redis answers what came in one piece of
//! a connection without serving others between, but promises that only
//! within MULTI, which a proxy in front of the source would refuse. A key that
//! is set anew just between the two may so be copied with the life of its
//! former value; callers for whom that is too long give a `ttl_max`.

use std::time::Duration;

use super::{encode, framing, reply};
use crate::{Copied, CopyError, Fetched, Scan};

/// How many replies [`ask`] gets.
pub const REPLIES: usize = 2;

/// Asks for a key's life and value.
pub fn ask(out: &mut Vec<u8>, key: &[u8]) {
    encode::command(out, [b"PTTL".as_slice(), key].into_iter());
    encode::command(out, [b"DUMP".as_slice(), key].into_iter());
}

/// Reads the replies to [`ask`], which `replies` starts with.
pub fn fetched(replies: &[u8]) -> Result<Fetched, CopyError> {
    let Some(pttl) = whole(replies)? else {
        return Ok(Fetched::Partial);
    };
    let Some(dump) = whole(&replies[pttl..])? else {
        return Ok(Fetched::Partial);
    };
    let len = pttl + dump;
    let (pttl, dump) = replies[..len].split_at(pttl);
    if reply::is_error(pttl) || reply::is_error(dump) {
        return Err(CopyError::Refused { len });
    }
    let left = reply::integer(pttl).ok_or(CopyError::Unexpected)?;
    let payload = bulk(dump)?;
    let ttl = match left {
        -1 => None,
        // 0 is within its last millisecond, and would be "for ever" to RESTORE.
        left if left > 0 => Some(Duration::from_millis(left.unsigned_abs())),
        _ => return Ok(Fetched::Missing { len }),
    };
    let Some(payload) = payload else {
        return Ok(Fetched::Missing { len });
    };
    let copied = Copied {
        payload: len - payload - 2..len - 2,
        ttl,
        flags: 0,
        base64: false,
    };
    Ok(Fetched::Found { copied, len })
}

/// Adds a copy unless the key exists (`-BUSYKEY`). `payload` is what
/// [`Copied::payload`] points to; the copy lives as long as the original has
/// left, at most `ttl_max` and at least a millisecond.
pub fn add(
    out: &mut Vec<u8>,
    key: &[u8],
    payload: &[u8],
    copied: &Copied,
    ttl_max: Option<Duration>,
) {
    let millis = copied
        .life(ttl_max)
        .map_or(0, |life| life.as_millis().clamp(1, TTL_MAX));
    let mut number = itoa::Buffer::new();
    let ttl = number.format(millis).as_bytes();
    let args = [b"RESTORE".as_slice(), key, ttl, payload];
    encode::command(out, args.into_iter());
}

/// Milliseconds that Redis can still add to its clock: thirty thousand years.
const TTL_MAX: u128 = 1_000_000_000_000_000;

/// The length of the reply at the start of `buf`.
fn whole(buf: &[u8]) -> Result<Option<usize>, CopyError> {
    match reply::Scanner::default().feed(buf) {
        Ok(Scan::Done(len)) => Ok(Some(len)),
        Ok(Scan::More(_)) => Ok(None),
        Err(_) => Err(CopyError::Unexpected),
    }
}

/// The size of a whole bulk string; `None` for null.
fn bulk(reply: &[u8]) -> Result<Option<usize>, CopyError> {
    if reply == b"$-1\r\n" || reply == b"_\r\n" {
        return Ok(None);
    }
    let end = framing::line_end(reply, 1).ok_or(CopyError::Unexpected)?;
    let size = reply
        .strip_prefix(b"$")
        .and(framing::number(&reply[1..end]));
    let size = size.and_then(|size| usize::try_from(size).ok());
    size.map(Some).ok_or(CopyError::Unexpected)
}
