//! What memcached clients are told from memory, byte for byte what their
//! server would have said; and the words in which a server is asked whether a
//! value is still the same.
//!
//! Pure: bytes in, bytes out. Whether an item may be served at all is its own
//! business.
//!
//! An `mg` is answered from memory only if every flag is one whose answer is
//! in the item ([`servable`]). Whatever asks for the server's view of the item
//! (`t h l`) or does something to it (`T N R E I`) goes to the server.
//!
//! One answer depends on how an item was *stored*: memcached returns the key
//! (`k`) in base64 if the item was stored with `b`, however it is asked for
//! now. A fill keeps only items whose form follows from the key (`b` where the
//! key cannot be written otherwise), so the key says it here, too.

use emberline_hotkey::{Pieces, Value};
use emberline_protocol::memcache::encode::{number, value_line};
use emberline_protocol::memcache::{Got, Returned, Verb, base64, flags, got, key_ok};

/// The longest opaque token that memcached takes, its `O` included.
const OPAQUE_MAX: usize = 32;

/// Whether an `mg` with this command line can be answered from memory.
///
/// Without any flag it cannot: servers disagree whether that is an error. Nor
/// can a flag with a token it does not have (`v1`): the server ignores the
/// token today.
pub fn servable(line: &[u8]) -> bool {
    let mut any = false;
    let known = flags(line, Verb::MetaGet).all(|(flag, token)| {
        any = true;
        match flag {
            b'v' | b'f' | b'c' | b'k' | b'b' | b's' | b'q' => token.is_empty(),
            b'O' => token.len() < OPAQUE_MAX,
            _ => false,
        }
    });
    known && any
}

/// Append the answer to a `get` of this key without its `END`, which is the
/// caller's: nothing if the key is missing.
pub fn get(out: &mut Vec<u8>, key: &[u8], value: &Value) {
    if let Value::Memcached { flags, data, .. } = value {
        block(out, key, *flags, data, None);
    }
}

/// The same for `gets`.
pub fn gets(out: &mut Vec<u8>, key: &[u8], value: &Value) {
    if let Value::Memcached { flags, cas, data } = value {
        block(out, key, *flags, data, Some(*cas));
    }
}

fn block(out: &mut Vec<u8>, key: &[u8], flags: u32, data: &Pieces, cas: Option<u64>) {
    value_line(out, key, flags, data.len(), cas);
    data.write_to(out);
    out.extend_from_slice(b"\r\n");
}

/// Append the answer to a [`servable`] `mg`: its command line, and its key,
/// decoded. Nothing if it is quiet and the key is missing.
pub fn meta(out: &mut Vec<u8>, line: &[u8], key: &[u8], value: &Value) {
    let has = |wanted| flags(line, Verb::MetaGet).any(|(flag, _)| flag == wanted);
    let Value::Memcached {
        flags: client_flags,
        cas,
        data,
    } = value
    else {
        return if !has(b'q') {
            missing(out, line, key, has(b'b'));
        };
    };
    let with_value = has(b'v');
    if with_value {
        out.reserve(data.len() + line.len() + 64);
        out.extend_from_slice(b"VA ");
        number(out, data.len() as u64);
    } else {
        out.extend_from_slice(b"HD");
    }
    for (flag, token) in flags(line, Verb::MetaGet) {
        match flag {
            b'f' => tagged(out, flag, u64::from(*client_flags)),
            b'c' => tagged(out, flag, *cas),
            b's' => tagged(out, flag, data.len() as u64),
            b'k' => returned_key(out, key, !key_ok(key)),
            b'O' => opaque(out, token),
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
    if with_value {
        data.write_to(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// A miss returns the key as it was asked for.
fn missing(out: &mut Vec<u8>, line: &[u8], key: &[u8], in_base64: bool) {
    out.extend_from_slice(b"EN");
    for (flag, token) in flags(line, Verb::MetaGet) {
        match flag {
            b'k' => returned_key(out, key, in_base64),
            b'O' => opaque(out, token),
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn tagged(out: &mut Vec<u8>, flag: u8, n: u64) {
    out.extend_from_slice(&[b' ', flag]);
    number(out, n);
}

fn opaque(out: &mut Vec<u8>, token: &[u8]) {
    out.extend_from_slice(b" O");
    out.extend_from_slice(token);
}

/// The `b` stands right behind the key, wherever it stood in the request.
fn returned_key(out: &mut Vec<u8>, key: &[u8], in_base64: bool) {
    out.extend_from_slice(b" k");
    if in_base64 {
        base64::encode(out, key);
        out.extend_from_slice(b" b");
    } else {
        out.extend_from_slice(key);
    }
}

/// What became of a value that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// It is still the server's.
    Same,
    /// It is not, or nobody can tell: ask for it.
    Changed,
    /// There is no such key any more.
    Missing,
    /// The item has been marked stale, and by asking we were told to set it
    /// anew. No client has asked for that: [`give_back`] with this number,
    /// and then treat it as [`Changed`](Compared::Changed). Otherwise nobody
    /// would be told again.
    Won(u64),
}

/// Append the request whose reply [`compare`] understands.
pub fn revalidate(out: &mut Vec<u8>, key: &[u8]) {
    mg(out, key);
    out.extend_from_slice(b" c\r\n");
}

/// Understand the reply to [`revalidate`] for a value with this number.
///
/// The number 0 is what a server answers that has none (`-C`): it never
/// compares as the same.
pub fn compare(reply: &[u8], cas: u64) -> Compared {
    match got(reply) {
        Some(Got::Missing(_)) => Compared::Missing,
        Some(Got::Header(item)) => compare_item(&item, cas),
        // An error line: the next request will tell.
        _ => Compared::Changed,
    }
}

fn compare_item(item: &Returned<'_>, cas: u64) -> Compared {
    match item.cas {
        Some(now) if item.won && item.stale => Compared::Won(now),
        Some(now) if now == cas && cas != 0 && !item.stale && !item.sent => Compared::Same,
        _ => Compared::Changed,
    }
}

/// Whether the reply to [`revalidate`] is about an item that is nothing but
/// somebody's lease of a missing key.
pub fn is_lease(reply: &[u8]) -> bool {
    match got(reply) {
        Some(Got::Header(item)) => !item.stale && (item.won || item.sent),
        Some(Got::Missing(_)) => true,
        _ => false,
    }
}

/// Append the request that gives a won stale item back: it is marked stale
/// once more, if nobody has set it meanwhile, and the next who asks wins. One
/// line answers it, whatever it says.
pub fn give_back(out: &mut Vec<u8>, key: &[u8], cas: u64) {
    command(out, b"md ", key);
    out.extend_from_slice(b" I C");
    number(out, cas);
    out.extend_from_slice(b"\r\n");
}

/// Append `mg` and the key; flags and line end are the caller's.
pub(super) fn mg(out: &mut Vec<u8>, key: &[u8]) {
    command(out, b"mg ", key);
}

fn command(out: &mut Vec<u8>, verb: &[u8], key: &[u8]) {
    out.extend_from_slice(verb);
    if key_ok(key) {
        out.extend_from_slice(key);
    } else {
        base64::encode(out, key);
        out.extend_from_slice(b" b");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(data: &[u8]) -> Value {
        Value::Memcached {
            flags: 7,
            cas: 12,
            data: data.into(),
        }
    }

    #[test]
    fn only_flags_whose_answer_is_known_are_served_from_memory() {
        let opaque = format!("mg k v O{}", "x".repeat(31));
        for line in [
            "mg k v",
            "mg k v f c k b s q O1\r\n",
            "mg k O",
            "mg k q",
            &opaque,
        ] {
            assert!(servable(line.as_bytes()), "{line}");
        }
        let opaque = format!("mg k v O{}", "x".repeat(32));
        for line in [
            "mg k",
            "mg k \r\n",
            "mg k v t",
            "mg k v h",
            "mg k v l",
            "mg k v u",
            "mg k v N30",
            "mg k v T30",
            "mg k v R30",
            "mg k v E5",
            "mg k v I",
            "mg k v Z",
            "mg k v1",
            "mg k f0",
            "mg k v x",
            &opaque,
        ] {
            assert!(!servable(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn a_missing_key_is_answered_as_it_was_asked_for() {
        let check = |line: &str, key: &[u8], want: &str| {
            let mut out = Vec::new();
            meta(&mut out, line.as_bytes(), key, &Value::Missing);
            assert_eq!(
                out.escape_ascii().to_string(),
                want.escape_default().to_string(),
                "{line}"
            );
        };
        check("mg foo v", b"foo", "EN\r\n");
        check("mg foo v k O1", b"foo", "EN kfoo O1\r\n");
        check("mg Zm9v b O1 k", b"foo", "EN O1 kZm9v b\r\n");
        check("mg foo v k q", b"foo", "");
        let mut out = Vec::new();
        get(&mut out, b"k", &Value::Missing);
        gets(&mut out, b"k", &Value::Missing);
        assert!(out.is_empty());
    }

    #[test]
    fn flags_are_returned_in_the_order_of_the_request() {
        let mut out = Vec::new();
        meta(&mut out, b"mg k s O9 v q k f c", b"k", &item(b"hi"));
        assert_eq!(out, b"VA 2 s2 O9 kk f7 c12\r\nhi\r\n");
    }

    #[test]
    fn a_value_is_the_same_only_if_nothing_speaks_against_it() {
        let check = |reply: &str, want| assert_eq!(compare(reply.as_bytes(), 12), want, "{reply}");
        check("HD c12\r\n", Compared::Same);
        check("HD c13\r\n", Compared::Changed);
        check("HD\r\n", Compared::Changed);
        check("HD c12 Z\r\n", Compared::Changed);
        check("HD c12 X Z\r\n", Compared::Changed);
        check("HD c13 X W\r\n", Compared::Won(13));
        check("EN\r\n", Compared::Missing);
        check("SERVER_ERROR out of memory\r\n", Compared::Changed);
        check("", Compared::Changed);
        assert_eq!(compare(b"HD c0\r\n", 0), Compared::Changed);
    }

    #[test]
    fn binary_keys_are_asked_for_in_base64() {
        let mut out = Vec::new();
        revalidate(&mut out, b"k");
        revalidate(&mut out, b"a b");
        give_back(&mut out, b"a b", 5);
        assert_eq!(out, b"mg k c\r\nmg YSBi b c\r\nmd YSBi b I C5\r\n");
    }
}
