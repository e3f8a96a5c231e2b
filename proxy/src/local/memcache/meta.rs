//! The two-letter meta commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use emberline_protocol::memcache::{Verb, base64, encode, tokens};

use super::flags::{self, BAD_FORMAT, Flags};
use super::item::{self, Change, Counted, Mode, Stored};
use super::number::{expiry, seconds_left};
use super::{Call, refuse};
use crate::local::store::{Entry, Mark, NEVER, Store};

const INVALID_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag";
const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long";

/// A reply, or the line that says what was wrong.
type Reply = Result<Vec<u8>, &'static str>;

pub fn answer(store: &Store, call: &Call<'_>, out: &mut Vec<u8>) {
    if call.request.verb == Verb::MetaNoop {
        return encode::line(out, "MN");
    }
    let words: Vec<&[u8]> = tokens(call.line).take(32).collect();
    let Some((key, rest)) = words.get(1..).and_then(<[_]>::split_first) else {
        return encode::line(out, "ERROR");
    };
    let reply = match call.request.verb {
        Verb::MetaGet => Flags::parse(key, rest).and_then(|f| get(store, call, &f)),
        Verb::MetaSet => match rest.split_first() {
            Some((_, rest)) => Flags::parse(key, rest).and_then(|f| set(store, call, &f)),
            None => Err(BAD_FORMAT),
        },
        // These two do not say which flag it was.
        Verb::MetaDelete => match Flags::parse(key, rest) {
            Ok(flags) => delete(store, call, &flags),
            Err(_) => Err(INVALID_FLAG),
        },
        Verb::MetaArithmetic => match Flags::parse(key, rest) {
            Ok(flags) => arithmetic(store, call, &flags),
            Err(_) => Err(INVALID_FLAG),
        },
        Verb::MetaDebug => debug(store, call, key, rest),
        verb => return refuse(verb, out),
    };
    match reply {
        Ok(reply) => out.extend_from_slice(&reply),
        Err(text) => encode::line(out, text),
    }
}

fn get(store: &Store, call: &Call<'_>, flags: &Flags<'_>) -> Reply {
    let key = &*flags.key;
    let locked = store.lock(key, call.now);
    let found = locked.read(key);
    let created = found.is_none();
    let item = match (found, flags.vivify) {
        (Some(found), _) => found,
        (None, Some(_)) => {
            let mut item = item::new(Vec::new(), 0, NEVER, call.now);
            item.cas = locked.next_cas();
            Arc::new(item)
        }
        (None, None) => {
            let miss = finish(b"EN", flags, None)?;
            return Ok(if flags.quiet { Vec::new() } else { miss });
        }
    };
    let mut view = View {
        expires: item.expires,
        item,
        created,
        won: false,
        now: call.now,
    };
    let mut reply = head(flags.value.then_some(view.item.data.len() as u64));
    let shown = view.show(flags, &mut reply);
    if shown.is_ok() {
        view.show_marks(&mut reply);
        reply.extend_from_slice(b"\r\n");
        if flags.value {
            reply.extend_from_slice(&view.item.data);
            reply.extend_from_slice(b"\r\n");
        }
        if !flags.no_bump {
            item::bump(&view.item, call.now);
        }
    }
    // What the flags before a refused one changed stays changed.
    if created || view.expires != view.item.expires {
        let item = item::touched(&view.item, view.expires);
        locked.put(key, item).map_err(|_| item::TOO_LARGE)?;
    }
    shown.map(|()| reply)
}

/// An item as one `mg` sees and changes it.
struct View {
    item: Arc<Entry>,
    /// What the item's expiry is to be.
    expires: u64,
    created: bool,
    won: bool,
    now: u64,
}

impl View {
    /// Take the flags in their order: one that is answered before `T` shows
    /// the expiry as it was.
    fn show(&mut self, flags: &Flags<'_>, reply: &mut Vec<u8>) -> Result<(), &'static str> {
        for word in flags.words {
            let item = &self.item;
            match word.first().copied().unwrap_or_default() {
                b'T' => self.expires = expiry(flags.ttl.unwrap_or(0), self.now),
                b'N' if self.created => {
                    self.expires = expiry(flags.vivify.unwrap_or(0), self.now);
                    self.won = true;
                }
                b'R' => self.won |= !self.created && self.is_due(flags.recache.unwrap_or(0)),
                b's' => flags::number(reply, b's', item.data.len() as u64),
                b't' => time_left(reply, self.expires, self.now),
                b'c' => flags::number(reply, b'c', item.cas),
                b'f' => flags::number(reply, b'f', u64::from(item.flags)),
                b'l' => flags::number(reply, b'l', idle(item, self.now)),
                b'h' => flags::number(reply, b'h', u64::from(item.has(Mark::Fetched))),
                b'O' if flags.opaque_too_long() => return Err(OPAQUE_TOO_LONG),
                b'O' => flags::flag(reply, word),
                b'k' => flags::name(reply, &flags.key, item.has(Mark::BinaryKey)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether fewer than these seconds are left, and no client was told yet.
    fn is_due(&self, seconds: i32) -> bool {
        let left = seconds_left(self.expires, self.now);
        let asked = seconds_left(expiry(seconds, self.now), self.now);
        !self.item.has(Mark::TokenSent) && self.expires != NEVER && seconds != 0 && left < asked
    }

    /// One client alone is told to refresh a stale item.
    fn show_marks(&mut self, reply: &mut Vec<u8>) {
        let sent = self.item.has(Mark::TokenSent);
        if sent {
            reply.extend_from_slice(b" Z");
        }
        if self.item.has(Mark::Stale) {
            reply.extend_from_slice(b" X");
            self.won |= !sent;
        }
        if self.won {
            reply.extend_from_slice(b" W");
            self.item.mark(Mark::TokenSent);
        }
    }
}

fn set(store: &Store, call: &Call<'_>, flags: &Flags<'_>) -> Reply {
    let mode = match flags.mode {
        None | Some(b'S') => Mode::Set,
        Some(b'E') => Mode::Add,
        Some(b'A') => Mode::Append,
        Some(b'P') => Mode::Prepend,
        Some(b'R') => Mode::Replace,
        Some(_) => return Err("CLIENT_ERROR invalid mode for ms M token"),
    };
    if flags.opaque_too_long() {
        return Err(OPAQUE_TOO_LONG);
    }
    let mode = match (mode, flags.cas) {
        (Mode::Set | Mode::Replace, Some(_)) => Mode::Cas,
        (mode, _) => mode,
    };
    let expires = expiry(flags.ttl.unwrap_or(0), call.now);
    let entry = item::new(call.body.to_vec(), flags.client_flags, expires, call.now);
    if flags.binary {
        entry.mark(Mark::BinaryKey);
    }
    let locked = store.lock(&flags.key, call.now);
    let cas = flags.cas.unwrap_or(0);
    let (code, cas) = match item::store(&locked, &flags.key, entry, mode, cas, flags.stale)? {
        Stored::Done(_) if flags.quiet => return Ok(Vec::new()),
        Stored::Done(cas) => (b"HD", cas),
        Stored::Refused => (b"NS", 0),
        Stored::Exists => (b"EX", 0),
        Stored::NotFound => (b"NF", 0),
    };
    finish(code, flags, Some(cas))
}

fn delete(store: &Store, call: &Call<'_>, flags: &Flags<'_>) -> Reply {
    if flags.opaque_too_long() {
        return Err(OPAQUE_TOO_LONG);
    }
    let key = &*flags.key;
    let locked = store.lock(key, call.now);
    let Some(found) = locked.read(key) else {
        return finish(b"NF", flags, None);
    };
    if flags.cas.is_some_and(|cas| cas != found.cas) {
        return finish(b"EX", flags, None);
    }
    if flags.stale {
        let mut item = found.duplicate();
        if let Some(ttl) = flags.ttl {
            item.expires = expiry(ttl, call.now);
        }
        item.mark(Mark::Stale);
        // So that the next client may win.
        item.unmark(Mark::TokenSent);
        item.cas = locked.next_cas();
        locked.put(key, item).map_err(|_| item::TOO_LARGE)?;
    } else {
        locked.remove(key);
    }
    if flags.quiet {
        Ok(Vec::new())
    } else {
        finish(b"HD", flags, None)
    }
}

fn arithmetic(store: &Store, call: &Call<'_>, flags: &Flags<'_>) -> Reply {
    let change = match flags.mode {
        None | Some(b'I' | b'+') => Change::Add(flags.delta),
        Some(b'D' | b'-') => Change::Subtract(flags.delta),
        Some(_) => return Err("CLIENT_ERROR invalid mode for ma M token"),
    };
    let key = &*flags.key;
    let locked = store.lock(key, call.now);
    let (value, item) = match item::delta(&locked, key, change, flags.cas.unwrap_or(0))? {
        Some(Counted::Now(value, item)) => (value, item),
        Some(Counted::Exists) => return finish(b"EX", flags, None),
        None => match flags.vivify {
            None => return finish(b"NF", flags, None),
            Some(_) => {
                let text = itoa::Buffer::new()
                    .format(flags.initial)
                    .as_bytes()
                    .to_vec();
                let mut item = item::new(text, 0, NEVER, call.now);
                item.cas = locked.next_cas();
                (flags.initial, Arc::new(item))
            }
        },
    };
    let (created, mut expires) = (locked.read(key).is_none(), item.expires);
    let text = itoa::Buffer::new().format(value).to_owned();
    let mut reply = head(flags.value.then_some(text.len() as u64));
    for word in flags.words {
        match word.first().copied().unwrap_or_default() {
            b'N' if created => expires = expiry(flags.vivify.unwrap_or(0), call.now),
            b'T' => expires = expiry(flags.ttl.unwrap_or(0), call.now),
            b't' => time_left(&mut reply, expires, call.now),
            b'c' => flags::number(&mut reply, b'c', item.cas),
            b'k' => flags::name(&mut reply, key, flags.binary),
            b'O' => flags::flag(&mut reply, word),
            _ => {}
        }
    }
    reply.extend_from_slice(b"\r\n");
    if flags.value {
        reply.extend_from_slice(text.as_bytes());
        reply.extend_from_slice(b"\r\n");
    }
    if created || expires != item.expires {
        let item = item::touched(&item, expires);
        locked.put(key, item).map_err(|_| item::TOO_LARGE)?;
    }
    if flags.opaque_too_long() {
        return Err(OPAQUE_TOO_LONG);
    }
    // memcached keeps quiet about a number it changed, not about one it made.
    Ok(if flags.quiet && !created {
        Vec::new()
    } else {
        reply
    })
}

fn debug(store: &Store, call: &Call<'_>, key: &[u8], rest: &[&[u8]]) -> Reply {
    let mut decoded = Vec::new();
    let key = if rest.first() == Some(&&b"b"[..]) {
        base64::decode(&mut decoded, key).ok_or(BAD_FORMAT)?;
        &decoded
    } else {
        key
    };
    let Some(item) = store.read(key, call.now) else {
        return Ok(b"EN\r\n".to_vec());
    };
    let mut reply = b"ME ".to_vec();
    if item.has(Mark::BinaryKey) {
        base64::encode(&mut reply, key);
    } else {
        reply.extend_from_slice(key);
    }
    // The minus before the time left is memcached's. There are no slab classes.
    let exp = match item.expires {
        NEVER => -1,
        expires => -i64::try_from(seconds_left(expires, call.now)).unwrap_or(i64::MAX),
    };
    let text = format!(
        " exp={exp} la={} cas={} fetch={} cls=0 size={}\r\n",
        idle(&item, call.now),
        item.cas,
        if item.has(Mark::Fetched) { "yes" } else { "no" },
        item::size(key, item.flags, item.data.len()),
    );
    reply.extend_from_slice(text.as_bytes());
    Ok(reply)
}

/// The start of the reply for an item, with its value or without.
fn head(len: Option<u64>) -> Vec<u8> {
    match len {
        Some(len) => format!("VA {len}").into_bytes(),
        None => b"HD".to_vec(),
    }
}

/// A reply that has no item to tell of.
fn finish(code: &[u8; 2], flags: &Flags<'_>, cas: Option<u64>) -> Reply {
    if flags.opaque_too_long() {
        return Err(OPAQUE_TOO_LONG);
    }
    let mut reply = code.to_vec();
    flags.identify(cas, &mut reply);
    reply.extend_from_slice(b"\r\n");
    Ok(reply)
}

fn time_left(reply: &mut Vec<u8>, expires: u64, now: u64) {
    match expires {
        NEVER => reply.extend_from_slice(b" t-1"),
        expires => flags::number(reply, b't', seconds_left(expires, now)),
    }
}

/// Whole seconds since an item was last read or stored.
fn idle(item: &Entry, now: u64) -> u64 {
    now.saturating_sub(item.accessed.load(Ordering::Relaxed)) / 1000
}
