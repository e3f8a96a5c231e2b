//! SET and GETEX with their options, and the older forms of SET.

use super::number::integer;
use super::{Call, Fault};
use crate::local::store::{Entry, NEVER};

/// What the options of SET and GETEX ask for.
#[derive(Default)]
struct Options<'a> {
    only_new: bool,
    only_old: bool,
    answer_old: bool,
    keep_expiry: bool,
    persist: bool,
    expire: Option<(Unit, &'a [u8])>,
}

/// How an expiry is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds from now.
    Ex,
    /// Milliseconds from now.
    Px,
    /// Unix time in seconds.
    ExAt,
    /// Unix time in milliseconds.
    PxAt,
}

pub fn set(call: &mut Call<'_>) -> Result<(), Fault> {
    let options = Options::parse(&call.args[3..], true)?;
    let expires = options.expiry(call)?;
    let (key, value) = (call.args[1], call.args[2]);
    let locked = call.store.lock(key, call.now);
    let old = locked.read(key);
    let wanted = match old {
        Some(_) => !options.only_new,
        None => !options.only_old,
    };
    if wanted {
        let kept = old
            .as_ref()
            .filter(|_| options.keep_expiry)
            .map(|e| e.expires);
        let entry = Entry::new(value.to_vec()).expiring(expires.or(kept).unwrap_or(NEVER));
        locked.put(key, entry)?;
    }
    match (options.answer_old, wanted) {
        (true, _) => call.value(old.as_deref()),
        (false, true) => call.ok(),
        (false, false) => call.null(),
    }
    Ok(())
}

pub fn setnx(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let wanted = locked.read(key).is_none();
    if wanted {
        locked.put(key, Entry::new(call.args[2].to_vec()))?;
    }
    call.integer(i64::from(wanted));
    Ok(())
}

pub fn setex(call: &mut Call<'_>) -> Result<(), Fault> {
    set_expiring(call, Unit::Ex)
}

pub fn psetex(call: &mut Call<'_>) -> Result<(), Fault> {
    set_expiring(call, Unit::Px)
}

fn set_expiring(call: &mut Call<'_>, unit: Unit) -> Result<(), Fault> {
    let expires = expiry(call, unit, call.args[2])?;
    let locked = call.store.lock(call.args[1], call.now);
    locked.put(
        call.args[1],
        Entry::new(call.args[3].to_vec()).expiring(expires),
    )?;
    call.ok();
    Ok(())
}

pub fn getex(call: &mut Call<'_>) -> Result<(), Fault> {
    let options = Options::parse(&call.args[2..], false)?;
    let key = call.args[1];
    let locked = call.store.lock(key, call.now);
    let Some(old) = locked.read(key) else {
        // Redis looks at the expiry only when there is a key to give it to.
        call.null();
        return Ok(());
    };
    let expires = options.expiry(call)?.or(options.persist.then_some(NEVER));
    if let Some(expires) = expires {
        if expires <= call.now {
            locked.remove(key);
        } else if expires != old.expires {
            locked.put(key, old.duplicate().expiring(expires))?;
        }
    }
    call.value(Some(&old));
    Ok(())
}

impl<'a> Options<'a> {
    /// Options exclude each other, but one may be given twice: the later wins.
    fn parse(args: &[&'a [u8]], is_set: bool) -> Result<Options<'a>, Fault> {
        let mut options = Options::default();
        let mut rest = args;
        while let [option, after @ ..] = rest {
            rest = after;
            let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
            if is_set && is("NX") && !options.only_old {
                options.only_new = true;
            } else if is_set && is("XX") && !options.only_new {
                options.only_old = true;
            } else if is_set && is("GET") {
                options.answer_old = true;
            } else if is_set && is("KEEPTTL") && options.expire.is_none() {
                options.keep_expiry = true;
            } else if !is_set && is("PERSIST") && options.expire.is_none() {
                options.persist = true;
            } else if let ([amount, after @ ..], Some(unit)) = (rest, Unit::parse(option))
                && !options.keep_expiry
                && !options.persist
                && options.expire.is_none_or(|(earlier, _)| earlier == unit)
            {
                options.expire = Some((unit, amount));
                rest = after;
            } else {
                return Err(Fault::Syntax);
            }
        }
        Ok(options)
    }

    fn expiry(&self, call: &Call<'_>) -> Result<Option<u64>, Fault> {
        self.expire
            .map(|(unit, amount)| expiry(call, unit, amount))
            .transpose()
    }
}

impl Unit {
    fn parse(option: &[u8]) -> Option<Unit> {
        [
            ("EX", Unit::Ex),
            ("PX", Unit::Px),
            ("EXAT", Unit::ExAt),
            ("PXAT", Unit::PxAt),
        ]
        .into_iter()
        .find(|(name, _)| option.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, unit)| unit)
    }

    /// Milliseconds in one of what it counts.
    pub fn scale(self) -> i64 {
        if matches!(self, Unit::Ex | Unit::ExAt) {
            1000
        } else {
            1
        }
    }

    /// Whether it counts from now.
    pub fn is_relative(self) -> bool {
        matches!(self, Unit::Ex | Unit::Px)
    }
}

/// The moment an expiry means, in milliseconds since the Unix epoch. It must
/// be positive as written and must not overflow.
fn expiry(call: &Call<'_>, unit: Unit, amount: &[u8]) -> Result<u64, Fault> {
    let amount = integer(amount)?;
    let from = if unit.is_relative() { call.clock() } else { 0 };
    let at = amount
        .checked_mul(unit.scale())
        .and_then(|ms| ms.checked_add(from));
    match at {
        Some(at) if amount > 0 => Ok(at.unsigned_abs()),
        _ => Err(Fault::Expire(call.name)),
    }
}
