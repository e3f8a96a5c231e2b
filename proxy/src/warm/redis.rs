//! What is said to Redis: `SCAN`, `DUMP` and `RESTORE`.
//!
//! A value and its time to live are two questions. Between them somebody may
//! write the key, so the time is asked for on both sides of the value, and the
//! shorter answer counts: a copy may end early, but what should expire never
//! stays for ever.

use std::time::Duration;

use emberline_protocol::redis::{encode, reply};
use tokio::time::Instant;

use super::item::{Found, Item, Wrote, words};

/// Replies to what [`read`] asks.
pub const READ_REPLIES: usize = 3;

/// Ask for a value.
pub fn read(out: &mut Vec<u8>, key: &[u8]) {
    for name in [&b"PTTL"[..], b"DUMP", b"PTTL"] {
        encode::command(out, [name, key].into_iter());
    }
}

/// What the replies to [`read`] say.
pub fn found(key: &[u8], replies: [&[u8]; READ_REPLIES], asked: Instant) -> Found {
    let [before, dump, after] = replies;
    for reply in replies {
        if reply::is_error(reply) {
            return match again(reply) {
                true => Found::Again(words(reply)),
                false => Found::Refused(words(reply)),
            };
        }
    }
    let (Some(before), Some(after)) = (reply::integer(before), reply::integer(after)) else {
        return Found::Refused("its answer to PTTL is no number".to_owned());
    };
    let Some(data) = bulk(dump) else {
        return Found::Gone;
    };
    // -2: no such key, -1: no end, otherwise milliseconds.
    if after == -2 {
        return Found::Gone;
    }
    let times = [before, after];
    let shortest = times.iter().filter_map(|&ms| u64::try_from(ms).ok()).min();
    Found::Item(Item {
        key: key.to_vec(),
        base64: false,
        flags: 0,
        data: data.to_vec(),
        left: shortest.map(Duration::from_millis),
        asked,
    })
}

/// Store a copy.
pub fn write(out: &mut Vec<u8>, item: &Item, now: Instant, replace: bool) {
    // 0 is "for ever" to RESTORE.
    let left = item.left(now).map_or(0, |left| left.as_millis().max(1));
    let left = left.to_string();
    let words = [b"RESTORE", &item.key[..], left.as_bytes(), &item.data];
    match replace {
        true => encode::command(
            out,
            words
                .into_iter()
                .chain([&b"REPLACE"[..]])
                .collect::<Vec<_>>()
                .into_iter(),
        ),
        false => encode::command(out, words.into_iter()),
    }
}

/// What the reply to [`write`] says.
pub fn wrote(reply: &[u8]) -> Wrote {
    if !reply::is_error(reply) {
        Wrote::Stored
    } else if reply.starts_with(b"-BUSYKEY") {
        Wrote::Exists
    } else if again(reply) {
        Wrote::Again(words(reply))
    } else {
        Wrote::Refused(words(reply))
    }
}

/// Ask whether a key is there.
pub fn look(out: &mut Vec<u8>, key: &[u8]) {
    encode::command(out, [&b"EXISTS"[..], key].into_iter());
}

/// What the reply to [`look`] says, in the words of a write.
pub fn looked(reply: &[u8]) -> Wrote {
    match reply::integer(reply) {
        Some(0) => Wrote::Stored,
        Some(_) => Wrote::Exists,
        None => wrote(reply),
    }
}

/// Ask for the next keys.
pub fn scan(out: &mut Vec<u8>, cursor: u64, count: usize, prefix: &[u8]) {
    let (cursor, count) = (cursor.to_string(), count.to_string());
    let mut pattern = Vec::new();
    let mut words = vec![&b"SCAN"[..], cursor.as_bytes(), b"COUNT", count.as_bytes()];
    if !prefix.is_empty() {
        pattern = glob(prefix);
        words.push(b"MATCH");
        words.push(&pattern);
    }
    encode::command(out, words.into_iter());
    drop(pattern);
}

/// A pattern of exactly the keys that begin like this.
fn glob(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::new();
    for &byte in prefix {
        if b"*?[]^-\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}

/// The next cursor and the keys of a reply to [`scan`].
pub fn scanned(reply: &[u8]) -> Option<(u64, Vec<Vec<u8>>)> {
    let mut parts = reply::elements(reply).ok()?;
    let cursor = std::str::from_utf8(bulk(parts.next()?)?)
        .ok()?
        .parse()
        .ok()?;
    let keys = reply::elements(parts.next()?).ok()?;
    Some((cursor, keys.filter_map(bulk).map(<[u8]>::to_vec).collect()))
}

/// The `run_id` in a reply to `INFO server`: another one means another hash
/// seed, in which old cursors mean nothing.
pub fn run_id(info: &[u8]) -> Option<String> {
    let info = bulk(info)?;
    let mut lines = info.split(|&byte| byte == b'\n');
    let id = lines.find_map(|line| line.strip_prefix(b"run_id:"))?;
    Some(String::from_utf8_lossy(id.trim_ascii()).into_owned())
}

/// The bytes of a bulk string; `None`: it is null, or something else.
fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let rest = reply.strip_prefix(b"$")?;
    let line = memchr::memmem::find(rest, b"\r\n")?;
    let len: usize = std::str::from_utf8(rest.get(..line)?).ok()?.parse().ok()?;
    rest.get(line + 2..)?.get(..len)
}

/// Errors of a server that will be of use later.
pub fn again(reply: &[u8]) -> bool {
    let codes: [&[u8]; 6] = [
        b"-LOADING",
        b"-BUSY ",
        b"-MASTERDOWN",
        b"-CLUSTERDOWN",
        b"-TRYAGAIN",
        b"-READONLY",
    ];
    codes.iter().any(|code| reply.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_time_counts() {
        let asked = Instant::now();
        let check = |before: &str, after: &str, left: Option<u64>| {
            let replies = [before.as_bytes(), b"$1\r\nx\r\n", after.as_bytes()];
            let Found::Item(item) = found(b"k", replies, asked) else {
                panic!("{before:?} {after:?}");
            };
            assert_eq!(item.left, left.map(Duration::from_millis));
            assert_eq!(item.data, b"x");
        };
        check(":-1\r\n", ":-1\r\n", None);
        check(":500\r\n", ":499\r\n", Some(499));
        check(":-1\r\n", ":500\r\n", Some(500));
        check(":500\r\n", ":-1\r\n", Some(500));
    }

    #[test]
    fn what_is_not_there_or_not_given_is_told_apart() {
        let asked = Instant::now();
        let read = |dump: &[u8], ttl: &[u8]| found(b"k", [ttl, dump, ttl], asked);
        assert_eq!(read(b"$-1\r\n", b":-2\r\n"), Found::Gone);
        assert_eq!(read(b"$1\r\nx\r\n", b":-2\r\n"), Found::Gone);
        assert_eq!(
            read(b"-NOPERM no\r\n", b":-1\r\n"),
            Found::Refused("NOPERM no".to_owned())
        );
        assert_eq!(
            read(b"-LOADING x\r\n", b"-LOADING x\r\n"),
            Found::Again("LOADING x".to_owned())
        );
    }

    #[test]
    fn a_copy_says_how_long_it_lives() {
        let asked = Instant::now();
        let mut item = Item {
            key: b"k".to_vec(),
            base64: false,
            flags: 0,
            data: b"v".to_vec(),
            left: None,
            asked,
        };
        let check = |item: &Item, replace, said: &str| {
            let mut out = Vec::new();
            write(&mut out, item, asked, replace);
            assert_eq!(String::from_utf8(out).unwrap(), said);
        };
        check(
            &item,
            false,
            "*4\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n0\r\n$1\r\nv\r\n",
        );
        item.left = Some(Duration::from_micros(10));
        check(
            &item,
            true,
            "*5\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$1\r\n1\r\n$1\r\nv\r\n$7\r\nREPLACE\r\n",
        );
    }

    #[test]
    fn pages_are_taken_apart() {
        let reply = b"*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$3\r\n\r\n\0\r\n";
        let keys = vec![b"a".to_vec(), b"\r\n\0".to_vec()];
        assert_eq!(scanned(reply), Some((17, keys)));
        assert_eq!(scanned(b"*2\r\n$1\r\n0\r\n*0\r\n"), Some((0, Vec::new())));
        for bad in [&b"+OK\r\n"[..], b"*0\r\n", b"*2\r\n$1\r\nx\r\n*0\r\n"] {
            assert_eq!(scanned(bad), None);
        }
        assert_eq!(glob(b"a*[b]\\"), b"a\\*\\[b\\]\\\\*");
    }

    #[test]
    fn replies_to_writes() {
        assert_eq!(wrote(b"+OK\r\n"), Wrote::Stored);
        let busy = b"-BUSYKEY Target key name already exists.\r\n";
        assert_eq!(wrote(busy), Wrote::Exists);
        assert!(matches!(wrote(b"-BUSY Redis is busy\r\n"), Wrote::Again(_)));
        assert!(matches!(wrote(b"-OOM no\r\n"), Wrote::Refused(_)));
        assert_eq!(looked(b":0\r\n"), Wrote::Stored);
        assert_eq!(looked(b":1\r\n"), Wrote::Exists);
    }
}
