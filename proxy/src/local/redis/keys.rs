//! Keys as a whole: DEL, EXISTS, TYPE, RENAME, COPY, OBJECT ENCODING.

use emberline_protocol::redis::encode;

use super::number::{integer, parse};
use super::{Call, Fault, shown};
use crate::local::store::Mark;

/// The longest string that Redis keeps in one piece with its header.
const EMBSTR_MAX: usize = 44;

pub fn del(call: &mut Call<'_>) -> Result<(), Fault> {
    let keys = &call.args[1..];
    let locked = call.store.lock_many(keys.iter().copied(), call.now);
    let removed = keys.iter().filter(|key| locked.remove(key)).count();
    call.count(removed);
    Ok(())
}

/// A key given twice counts twice.
pub fn exists(call: &mut Call<'_>) -> Result<(), Fault> {
    let found = call.args[1..]
        .iter()
        .filter(|key| call.read(key).is_some())
        .count();
    call.count(found);
    Ok(())
}

pub fn kind(call: &mut Call<'_>) -> Result<(), Fault> {
    let name = if call.read(call.args[1]).is_some() {
        "string"
    } else {
        "none"
    };
    encode::simple(call.out, name);
    Ok(())
}

pub fn rename(call: &mut Call<'_>) -> Result<(), Fault> {
    change_name(call, false)?;
    call.ok();
    Ok(())
}

pub fn renamenx(call: &mut Call<'_>) -> Result<(), Fault> {
    let renamed = change_name(call, true)?;
    call.integer(i64::from(renamed));
    Ok(())
}

fn change_name(call: &Call<'_>, only_new: bool) -> Result<bool, Fault> {
    let (from, to) = (call.args[1], call.args[2]);
    let locked = call.store.lock_many([from, to].into_iter(), call.now);
    let entry = locked.read(from).ok_or(Fault::Said("no such key"))?;
    if from == to || only_new && locked.read(to).is_some() {
        return Ok(false);
    }
    locked.put(to, entry.duplicate())?;
    locked.remove(from);
    Ok(true)
}

pub fn copy(call: &mut Call<'_>) -> Result<(), Fault> {
    let (from, to) = (call.args[1], call.args[2]);
    let mut replace = false;
    let mut rest = &call.args[3..];
    while let [option, after @ ..] = rest {
        rest = after;
        if option.eq_ignore_ascii_case(b"REPLACE") {
            replace = true;
        } else if let (true, [number, after @ ..]) = (option.eq_ignore_ascii_case(b"DB"), rest) {
            // There is one database here.
            if integer(number)? != 0 {
                return Err(Fault::Said("DB index is out of range"));
            }
            rest = after;
        } else {
            return Err(Fault::Syntax);
        }
    }
    if from == to {
        return Err(Fault::Said("source and destination objects are the same"));
    }
    let locked = call.store.lock_many([from, to].into_iter(), call.now);
    let entry = locked
        .read(from)
        .filter(|_| replace || locked.read(to).is_none());
    if let Some(entry) = &entry {
        locked.put(to, entry.duplicate())?;
    }
    call.integer(i64::from(entry.is_some()));
    Ok(())
}

pub fn object(call: &mut Call<'_>) -> Result<(), Fault> {
    if !call.args[1].eq_ignore_ascii_case(b"ENCODING") {
        let name = format!("object|{}", shown(call.args[1]).to_ascii_lowercase());
        return Err(Fault::Unsupported(name));
    }
    let [_, _, key] = *call.args else {
        return Err(Fault::Arity("object|encoding"));
    };
    let Some(entry) = call.read(key) else {
        call.null();
        return Ok(());
    };
    let name: &[u8] = if entry.has(Mark::Raw) {
        b"raw"
    } else if !entry.has(Mark::Float) && parse(&entry.data).is_some() {
        b"int"
    } else if entry.data.len() <= EMBSTR_MAX {
        b"embstr"
    } else {
        b"raw"
    };
    call.bulk(name);
    Ok(())
}
