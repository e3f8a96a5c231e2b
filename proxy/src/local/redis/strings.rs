//! Whole strings and parts of them: GET, MSET, APPEND, SETRANGE and kin.

use emberline_protocol::redis::encode;

use super::number::integer;
use super::{Call, Fault, STRING_MAX};
use crate::local::store::{Entry, Mark};

pub fn get(call: &mut Call<'_>) -> Result<(), Fault> {
    let entry = call.read(call.args[1]);
    call.value(entry.as_deref());
    Ok(())
}

pub fn strlen(call: &mut Call<'_>) -> Result<(), Fault> {
    let len = call.read(call.args[1]).map_or(0, |e| e.data.len());
    call.count(len);
    Ok(())
}

pub fn getset(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let old = locked.read(key);
    locked.put(key, Entry::new(call.args[2].to_vec()))?;
    call.value(old.as_deref());
    Ok(())
}

pub fn getdel(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let old = locked.read(key);
    locked.remove(key);
    call.value(old.as_deref());
    Ok(())
}

pub fn mget(call: &mut Call<'_>) -> Result<(), Fault> {
    let keys = &call.args[1..];
    // Locked, so that a concurrent MSET is seen whole or not at all.
    let locked = call.store.lock_many(keys.iter().copied(), call.now);
    encode::array(call.out, keys.len());
    for key in keys {
        call.value(locked.read(key).as_deref());
    }
    Ok(())
}

pub fn mset(call: &mut Call<'_>) -> Result<(), Fault> {
    set_pairs(call, false)?;
    call.ok();
    Ok(())
}

pub fn msetnx(call: &mut Call<'_>) -> Result<(), Fault> {
    let stored = set_pairs(call, true)?;
    call.integer(i64::from(stored));
    Ok(())
}

/// Set every pair, or none where one cannot be; answers whether they were.
fn set_pairs(call: &Call<'_>, only_new: bool) -> Result<bool, Fault> {
    let (pairs, rest) = call.args[1..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Fault::Arity(call.name));
    }
    let locked = call.store.lock_many(pairs.iter().map(|p| p[0]), call.now);
    if only_new && pairs.iter().any(|p| locked.read(p[0]).is_some()) {
        return Ok(false);
    }
    for [key, value] in pairs {
        locked.check(key, value.len())?;
    }
    for [key, value] in pairs {
        locked.put(key, Entry::new(value.to_vec()))?;
    }
    Ok(true)
}

pub fn append(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, tail) = (call.args[1], call.args[2]);
    let locked = call.store.lock(key, call.now);
    let Some(old) = locked.read(key) else {
        locked.put(key, Entry::new(tail.to_vec()))?;
        call.count(tail.len());
        return Ok(());
    };
    let size = old.data.len() + tail.len();
    check_length(size as u64)?;
    locked.check(key, size)?;
    let data = [&old.data[..], tail].concat();
    locked.put(
        key,
        Entry::new(data).expiring(old.expires).marked(Mark::Raw),
    )?;
    call.count(size);
    Ok(())
}

pub fn setrange(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, patch) = (call.args[1], call.args[3]);
    let offset =
        u64::try_from(integer(call.args[2])?).map_err(|_| Fault::Said("offset is out of range"))?;
    let locked = call.store.lock(key, call.now);
    let old = locked.read(key);
    let held = old.as_ref().map_or(0, |e| e.data.len());
    if patch.is_empty() {
        call.count(held);
        return Ok(());
    }
    let end = offset.saturating_add(patch.len() as u64);
    check_length(end)?;
    // Both fit: `end` is at most STRING_MAX.
    let (offset, end) = (offset as usize, end as usize);
    let size = held.max(end);
    locked.check(key, size)?;
    let mut data = Vec::with_capacity(size);
    data.extend_from_slice(old.as_ref().map_or(&[], |e| &e.data[..]));
    data.resize(size, 0);
    data[offset..end].copy_from_slice(patch);
    locked.put(key, edited(data, old.as_deref()))?;
    call.count(size);
    Ok(())
}

pub fn getrange(call: &mut Call<'_>) -> Result<(), Fault> {
    let (start, end) = (integer(call.args[2])?, integer(call.args[3])?);
    let entry = call.read(call.args[1]);
    let data = entry.as_ref().map_or(&[][..], |e| &e.data);
    let part = range(start, end, data.len()).map_or(&[][..], |r| &data[r]);
    call.bulk(part);
    Ok(())
}

/// A range as Redis counts it: both ends are included, and negative ones
/// count from the end. `None` when it is empty; otherwise it lies within `len`.
pub fn range(start: i64, end: i64, len: usize) -> Option<std::ops::Range<usize>> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let size = i64::try_from(len).ok()?;
    let from_end = |at: i64| {
        if at < 0 {
            at.saturating_add(size).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(size - 1));
    (size > 0 && start <= end).then(|| start as usize..end as usize + 1)
}

/// An edited value: it keeps the expiry of the one it replaces.
pub fn edited(data: Vec<u8>, old: Option<&Entry>) -> Entry {
    let entry = Entry::new(data).marked(Mark::Raw);
    match old {
        Some(old) => entry.expiring(old.expires),
        None => entry,
    }
}

fn check_length(size: u64) -> Result<(), Fault> {
    if size > STRING_MAX {
        Err(Fault::TooLong)
    } else {
        Ok(())
    }
}
