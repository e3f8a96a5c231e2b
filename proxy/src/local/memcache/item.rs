//! What commands do to items, whatever they are called on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::number::unsigned;
use crate::local::store::{Entry, Locked, Mark};

/// The largest item: memcached's default `-I 1m`, its header included.
const ITEM_MAX: usize = 1 << 20;

/// The answer to an item above [`ITEM_MAX`] or the pool's capacity.
pub const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

/// The answer to arithmetic on what is no number.
pub const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";

/// On which condition and how a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
}

/// What became of a value to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored under this cas.
    Done(u64),
    /// The mode's condition is not met.
    Refused,
    Exists,
    NotFound,
}

/// Bytes that memcached counts for an item: header, cas, key and its NUL,
/// client flags unless they are 0, value and its CRLF.
pub fn size(key: &[u8], flags: u32, value: usize) -> usize {
    let flags = if flags == 0 { 0 } else { 4 };
    48 + 8 + key.len() + 1 + flags + value + 2
}

/// A new item.
pub fn new(data: Vec<u8>, flags: u32, expires: u64, now: u64) -> Entry {
    let mut item = Entry::new(data).expiring(expires);
    item.flags = flags;
    item.accessed = AtomicU64::new(now);
    item
}

/// The same item with another expiry; its cas stays.
pub fn touched(item: &Entry, expires: u64) -> Entry {
    item.duplicate().expiring(expires)
}

/// Note that a client has read an item.
pub fn bump(item: &Entry, now: u64) {
    item.mark(Mark::Fetched);
    item.accessed.store(now, Ordering::Relaxed);
}

/// Store an item. `cas` 0 compares nothing; with `stale_ok` a cas older than
/// the item's stores it marked stale. The error is the line to answer.
pub fn store(
    locked: &Locked<'_>,
    key: &[u8],
    mut item: Entry,
    mode: Mode,
    cas: u64,
    stale_ok: bool,
) -> Result<Stored, &'static str> {
    if size(key, item.flags, item.data.len()) > ITEM_MAX {
        // Better no value than the old one, which the client wants replaced.
        locked.remove(key);
        return Err(TOO_LARGE);
    }
    let old = locked.read(key);
    match (&old, mode) {
        (None, Mode::Set | Mode::Add) => {}
        (None, Mode::Cas) => return Ok(Stored::NotFound),
        (None, _) | (Some(_), Mode::Add) => return Ok(Stored::Refused),
        (Some(_), Mode::Set | Mode::Replace) => {}
        (Some(old), Mode::Cas) if cas == old.cas => {}
        (Some(old), Mode::Cas) if stale_ok && cas != 0 && cas < old.cas => {
            item.expires = old.expires;
            item.mark(Mark::Stale);
            if old.has(Mark::TokenSent) {
                item.mark(Mark::TokenSent);
            }
        }
        (Some(_), Mode::Cas) => return Ok(Stored::Exists),
        (Some(old), Mode::Append | Mode::Prepend) => {
            if cas != 0 && cas != old.cas {
                return Ok(Stored::Exists);
            }
            if size(key, old.flags, old.data.len() + item.data.len()) > ITEM_MAX {
                return Ok(Stored::Refused);
            }
            let parts = match mode {
                Mode::Append => [&old.data[..], &item.data],
                _ => [&item.data[..], &old.data],
            };
            let now = item.accessed.load(Ordering::Relaxed);
            item = new(parts.concat(), old.flags, old.expires, now);
        }
    }
    let cas = locked.put(key, item).map_err(|_| {
        locked.remove(key);
        TOO_LARGE
    })?;
    Ok(Stored::Done(cas))
}

/// Add or subtract; the result and the item that holds it. `None`: there is
/// no such item.
pub fn delta(
    locked: &Locked<'_>,
    key: &[u8],
    change: Change,
    cas: u64,
) -> Result<Option<Counted>, &'static str> {
    let Some(old) = locked.read(key) else {
        return Ok(None);
    };
    if old.data.is_empty() {
        return Err(NON_NUMERIC);
    }
    if cas != 0 && cas != old.cas {
        return Ok(Some(Counted::Exists));
    }
    let value = unsigned(&old.data).ok_or(NON_NUMERIC)?;
    let value = match change {
        Change::Add(by) => value.wrapping_add(by),
        Change::Subtract(by) => value.saturating_sub(by),
    };
    let mut data = itoa::Buffer::new().format(value).as_bytes().to_vec();
    let mut item = if data.len() <= old.data.len() {
        // memcached writes over the old digits, and blanks what is left of
        // them: the item stays the one it was.
        data.resize(old.data.len(), b' ');
        old.duplicate()
    } else {
        new(
            Vec::new(),
            old.flags,
            old.expires,
            old.accessed.load(Ordering::Relaxed),
        )
    };
    item.data = data.into();
    item.cas = locked.next_cas();
    locked.put(key, item).map_err(|_| TOO_LARGE)?;
    Ok(locked.read(key).map(|item| Counted::Now(value, item)))
}

/// What to do to a number.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Wraps around at 64 bits.
    Add(u64),
    /// Stops at 0.
    Subtract(u64),
}

/// What became of a number.
#[derive(Debug)]
pub enum Counted {
    Now(u64, Arc<Entry>),
    /// Its cas is another.
    Exists,
}
