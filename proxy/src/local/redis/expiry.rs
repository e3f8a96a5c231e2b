//! When keys expire: EXPIRE, TTL, PERSIST and kin.

use super::number::integer;
use super::set::Unit;
use super::{Call, Fault, shown};
use crate::local::store::NEVER;

pub fn expire(call: &mut Call<'_>) -> Result<(), Fault> {
    change(call, Unit::Ex)
}

pub fn pexpire(call: &mut Call<'_>) -> Result<(), Fault> {
    change(call, Unit::Px)
}

pub fn expireat(call: &mut Call<'_>) -> Result<(), Fault> {
    change(call, Unit::ExAt)
}

pub fn pexpireat(call: &mut Call<'_>) -> Result<(), Fault> {
    change(call, Unit::PxAt)
}

/// Under which condition an expiry is changed.
#[derive(Default)]
struct Condition {
    if_none: bool,
    if_any: bool,
    if_later: bool,
    if_earlier: bool,
}

fn change(call: &mut Call<'_>, unit: Unit) -> Result<(), Fault> {
    let condition = Condition::parse(&call.args[3..])?;
    let amount = integer(call.args[2])?;
    let from = if unit.is_relative() { call.clock() } else { 0 };
    // A moment in the past is legal and removes the key; an overflow is not.
    let at = amount
        .checked_mul(unit.scale())
        .and_then(|ms| ms.checked_add(from))
        .ok_or(Fault::Expire(call.name))?;
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let Some(old) = locked
        .read(key)
        .filter(|old| condition.allows(old.expires, at))
    else {
        call.integer(0);
        return Ok(());
    };
    if at <= call.clock() {
        locked.remove(key);
    } else {
        locked.put(key, old.duplicate().expiring(at.unsigned_abs()))?;
    }
    call.integer(1);
    Ok(())
}

impl Condition {
    fn parse(args: &[&[u8]]) -> Result<Condition, Fault> {
        let mut condition = Condition::default();
        for arg in args {
            match arg.to_ascii_lowercase().as_slice() {
                b"nx" => condition.if_none = true,
                b"xx" => condition.if_any = true,
                b"gt" => condition.if_later = true,
                b"lt" => condition.if_earlier = true,
                _ => return Err(Fault::Option(shown(arg))),
            }
        }
        let Condition {
            if_none,
            if_any,
            if_later,
            if_earlier,
        } = condition;
        if if_none && (if_any || if_later || if_earlier) {
            let text = "NX and XX, GT or LT options at the same time are not compatible";
            return Err(Fault::Said(text));
        }
        if if_later && if_earlier {
            let text = "GT and LT options at the same time are not compatible";
            return Err(Fault::Said(text));
        }
        Ok(condition)
    }

    /// A key without an expiry counts as one that expires later than any.
    fn allows(&self, old: u64, at: i64) -> bool {
        let later = u64::try_from(at).is_ok_and(|at| at > old);
        let earlier = u64::try_from(at).is_ok_and(|at| at < old) || at < 0;
        !(self.if_none && old != NEVER
            || self.if_any && old == NEVER
            || self.if_later && !later
            || self.if_earlier && !earlier)
    }
}

pub fn persist(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let found = locked.read(key).filter(|e| e.expires != NEVER);
    if let Some(old) = &found {
        locked.put(key, old.duplicate().expiring(NEVER))?;
    }
    call.integer(i64::from(found.is_some()));
    Ok(())
}

pub fn ttl(call: &mut Call<'_>) -> Result<(), Fault> {
    tell(call, call.now, 1000)
}

pub fn pttl(call: &mut Call<'_>) -> Result<(), Fault> {
    tell(call, call.now, 1)
}

pub fn expiretime(call: &mut Call<'_>) -> Result<(), Fault> {
    tell(call, 0, 1000)
}

pub fn pexpiretime(call: &mut Call<'_>) -> Result<(), Fault> {
    tell(call, 0, 1)
}

/// Tell the expiry as it lies behind `from`, rounded to `scale` milliseconds:
/// -2 without a key, -1 without an expiry.
fn tell(call: &mut Call<'_>, from: u64, scale: u64) -> Result<(), Fault> {
    let answer = match call.read(call.args[1]).map(|e| e.expires) {
        None => -2,
        Some(NEVER) => -1,
        Some(expires) => {
            let left = expires.saturating_sub(from);
            let rounded = left.saturating_add(scale / 2) / scale;
            i64::try_from(rounded).unwrap_or(i64::MAX)
        }
    };
    call.integer(answer);
    Ok(())
}
