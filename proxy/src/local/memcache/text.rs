//! The classic text commands.

use emberline_protocol::memcache::{Verb, encode, tokens};

use super::item::{self, Change, Counted, Mode, Stored};
use super::number::{client_flags, expiry, signed, unsigned};
use super::{Call, FlushTimer, refuse};
use crate::local::store::Store;

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";

pub fn answer(store: &Store, call: &Call<'_>, out: &mut Vec<u8>) {
    let words: Vec<&[u8]> = match call.request.verb {
        // A multi-get may have thousands of words, of which it needs two.
        Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => tokens(call.line).take(2).collect(),
        _ => tokens(call.line).take(8).collect(),
    };
    let said = match call.request.verb {
        Verb::Get => get(store, call, false, out),
        Verb::Gets => get(store, call, true, out),
        Verb::Gat => get_and_touch(store, call, &words, false, out),
        Verb::Gats => get_and_touch(store, call, &words, true, out),
        Verb::Set => put(store, call, &words, Mode::Set),
        Verb::Add => put(store, call, &words, Mode::Add),
        Verb::Replace => put(store, call, &words, Mode::Replace),
        Verb::Append => put(store, call, &words, Mode::Append),
        Verb::Prepend => put(store, call, &words, Mode::Prepend),
        Verb::Cas => put(store, call, &words, Mode::Cas),
        Verb::Delete => delete(store, call, &words),
        Verb::Incr => count(store, call, &words, Change::Add, out),
        Verb::Decr => count(store, call, &words, Change::Subtract, out),
        Verb::Touch => touch(store, call, &words),
        // The capacity is the operator's to set, in the configuration.
        Verb::CacheMemlimit => Some("MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"),
        verb => {
            refuse(verb, out);
            None
        }
    };
    if let Some(text) = said {
        encode::line(out, text);
    }
}

/// What is answered in one line, unless the reply is written already.
type Said = Option<&'static str>;

fn get(store: &Store, call: &Call<'_>, with_cas: bool, out: &mut Vec<u8>) -> Said {
    for key in call.keys {
        if let Some(found) = store.read(key, call.now) {
            item::bump(&found, call.now);
            encode::value(
                out,
                key,
                found.flags,
                &found.data,
                with_cas.then_some(found.cas),
            );
        }
    }
    Some("END")
}

fn get_and_touch(
    store: &Store,
    call: &Call<'_>,
    words: &[&[u8]],
    with_cas: bool,
    out: &mut Vec<u8>,
) -> Said {
    let Some(seconds) = words.get(1).and_then(|w| signed(w)) else {
        return Some(BAD_EXPTIME);
    };
    for key in call.keys {
        let locked = store.lock(key, call.now);
        let Some(found) = locked.read(key) else {
            continue;
        };
        item::bump(&found, call.now);
        // The size is unchanged, so it fits as it did.
        let _ = locked.put(key, item::touched(&found, expiry(seconds, call.now)));
        encode::value(
            out,
            key,
            found.flags,
            &found.data,
            with_cas.then_some(found.cas),
        );
    }
    Some("END")
}

fn put(store: &Store, call: &Call<'_>, words: &[&[u8]], mode: Mode) -> Said {
    let [_, key, flags, exptime, ..] = *words else {
        return Some("ERROR");
    };
    let cas = match mode {
        Mode::Cas => words.get(5).and_then(|w| unsigned(w)),
        _ => Some(0),
    };
    let (Some(flags), Some(exptime), Some(cas)) = (client_flags(flags), signed(exptime), cas)
    else {
        return Some(BAD_FORMAT);
    };
    let locked = store.lock(key, call.now);
    let entry = item::new(
        call.body.to_vec(),
        flags,
        expiry(exptime, call.now),
        call.now,
    );
    Some(match item::store(&locked, key, entry, mode, cas, false) {
        Ok(Stored::Done(_)) => "STORED",
        Ok(Stored::Refused) => "NOT_STORED",
        Ok(Stored::Exists) => "EXISTS",
        Ok(Stored::NotFound) => "NOT_FOUND",
        Err(text) => text,
    })
}

fn delete(store: &Store, call: &Call<'_>, words: &[&[u8]]) -> Said {
    let key = words.get(1)?;
    let removed = store.lock(key, call.now).remove(key);
    Some(if removed { "DELETED" } else { "NOT_FOUND" })
}

fn count(
    store: &Store,
    call: &Call<'_>,
    words: &[&[u8]],
    change: fn(u64) -> Change,
    out: &mut Vec<u8>,
) -> Said {
    let [_, key, by, ..] = *words else {
        return Some("ERROR");
    };
    let Some(by) = unsigned(by) else {
        return Some(BAD_DELTA);
    };
    match item::delta(&store.lock(key, call.now), key, change(by), 0) {
        Ok(Some(Counted::Now(value, _))) => {
            encode::line(out, itoa::Buffer::new().format(value));
            None
        }
        // Without a cas to compare there is nothing that could differ.
        Ok(Some(Counted::Exists)) => Some("EXISTS"),
        Ok(None) => Some("NOT_FOUND"),
        Err(text) => Some(text),
    }
}

fn touch(store: &Store, call: &Call<'_>, words: &[&[u8]]) -> Said {
    let [_, key, exptime, ..] = *words else {
        return Some("ERROR");
    };
    let Some(seconds) = signed(exptime) else {
        return Some(BAD_EXPTIME);
    };
    let locked = store.lock(key, call.now);
    let Some(found) = locked.read(key) else {
        return Some("NOT_FOUND");
    };
    item::bump(&found, call.now);
    // The size is unchanged, so it fits as it did.
    let _ = locked.put(key, item::touched(&found, expiry(seconds, call.now)));
    Some("TOUCHED")
}

/// `flush_all [delay] [noreply]`: a later one replaces one that waits.
pub fn flush_all(store: &Store, timer: &FlushTimer, call: &Call<'_>, out: &mut Vec<u8>) {
    let delay = match tokens(call.line).nth(1) {
        None | Some(b"noreply") => Some(0),
        Some(word) => signed(word),
    };
    match delay {
        None => return encode::line(out, BAD_EXPTIME),
        Some(delay) if delay > 0 => timer.set(expiry(delay, call.now) + 1),
        Some(_) => {
            timer.set(0);
            store.flush();
        }
    }
    encode::line(out, "OK");
}
