//! INCR, DECR and kin.

use super::long_double::LongDouble;
use super::number::{integer, parse};
use super::{Call, Fault};
use crate::local::store::{Entry, Mark, NEVER};

pub fn incr(call: &mut Call<'_>) -> Result<(), Fault> {
    add(call, 1)
}

pub fn decr(call: &mut Call<'_>) -> Result<(), Fault> {
    add(call, -1)
}

pub fn incrby(call: &mut Call<'_>) -> Result<(), Fault> {
    let by = integer(call.args[2])?;
    add(call, by)
}

pub fn decrby(call: &mut Call<'_>) -> Result<(), Fault> {
    let by = integer(call.args[2])?
        .checked_neg()
        .ok_or(Fault::Said("decrement would overflow"))?;
    add(call, by)
}

fn add(call: &mut Call<'_>, by: i64) -> Result<(), Fault> {
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let old = locked.read(key);
    let value = old
        .as_ref()
        .map_or(Some(0), |e| parse(&e.data))
        .ok_or(Fault::NotInteger)?;
    let sum = value
        .checked_add(by)
        .ok_or(Fault::Said("increment or decrement would overflow"))?;
    let text = itoa::Buffer::new().format(sum).as_bytes().to_vec();
    let expires = old.as_ref().map_or(NEVER, |e| e.expires);
    locked.put(key, Entry::new(text).expiring(expires))?;
    call.integer(sum);
    Ok(())
}

pub fn incrbyfloat(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let old = locked.read(key);
    let value = match &old {
        Some(entry) => LongDouble::parse(&entry.data).ok_or(Fault::NotFloat)?,
        None => LongDouble::ZERO,
    };
    let by = LongDouble::parse(call.args[2]).ok_or(Fault::NotFloat)?;
    let text = value
        .add(by)
        .to_text()
        .ok_or(Fault::Said("increment would produce NaN or Infinity"))?;
    let expires = old.as_ref().map_or(NEVER, |e| e.expires);
    let entry = Entry::new(text.clone())
        .expiring(expires)
        .marked(Mark::Float);
    locked.put(key, entry)?;
    call.bulk(text.as_bytes());
    Ok(())
}
