//! What is said to memcached: `lru_crawler metadump`, `mg` and `ms`.
//!
//! `mg` is asked with `u`, so that reading every key leaves no trace in the
//! server's LRU. Keys that cannot stand in a line go in base64, and an item that
//! its server knows by base64 is stored so again.

use std::time::Duration;

use emberline_protocol::memcache::{self, Got, Ttl, base64, key_ok};
use tokio::time::Instant;

use super::item::{Found, Item, Wrote, words};

/// A longer time to live is taken for a date (protocol.txt, "Expiration times").
const RELATIVE_MAX: u64 = 60 * 60 * 24 * 30;

/// Ask for a value.
pub fn read(out: &mut Vec<u8>, key: &[u8]) {
    // Without `k` it would not say whether it knows the item by base64.
    get(out, key, b" u k v f t\r\n");
}

/// What the reply to [`read`] says.
pub fn found(key: &[u8], reply: &[u8], asked: Instant) -> Found {
    let line = memchr::memchr(b'\n', reply).map_or(reply.len(), |at| at + 1);
    let (line, data) = reply.split_at(line);
    match memcache::got(line) {
        Some(Got::Value(len, returned)) => {
            if returned.won || returned.stale || returned.sent {
                return Found::Placeholder;
            }
            let left = match returned.ttl {
                Some(Ttl::Seconds(0)) => return Found::Gone,
                Some(Ttl::Seconds(left)) => Some(Duration::from_secs(left)),
                Some(Ttl::Unlimited) | None => None,
            };
            Found::Item(Item {
                key: key.to_vec(),
                base64: returned.base64,
                flags: returned.flags.unwrap_or(0),
                data: data.get(..len).unwrap_or_default().to_vec(),
                left,
                asked,
            })
        }
        Some(Got::Header(_)) => Found::Placeholder,
        Some(Got::Missing(_)) => Found::Gone,
        None => Found::Refused(words(reply)),
    }
}

/// Store a copy.
///
/// `today` is the target's own clock, in seconds since 1970; see [`needs_date`].
pub fn write(out: &mut Vec<u8>, item: &Item, now: Instant, replace: bool, today: u64) {
    out.extend_from_slice(b"ms ");
    let encoded = name(out, &item.key, item.base64);
    let more = match (encoded, replace) {
        (true, true) => " b MS",
        (true, false) => " b ME",
        (false, true) => " MS",
        (false, false) => " ME",
    };
    let len = item.data.len();
    out.extend_from_slice(format!(" {len} F{}", item.flags).as_bytes());
    if let Some(left) = item.left(now) {
        out.extend_from_slice(format!(" T{}", expiry(left, today)).as_bytes());
    }
    out.extend_from_slice(more.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&item.data);
    out.extend_from_slice(b"\r\n");
}

/// A time to live as memcached wants it: whole seconds, never 0, which is for
/// ever, and a date where it would be taken for one.
fn expiry(left: Duration, today: u64) -> u64 {
    // Servers count whole seconds: half a one on the way is none.
    let seconds = left.as_millis().saturating_add(500) / 1000;
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).max(1);
    match seconds {
        0..=RELATIVE_MAX => seconds,
        _ => seconds.saturating_add(today),
    }
}

/// Whether the item's end must be written as a date: then the target is asked
/// for its clock, which may be two seconds from the true time even on the same
/// machine, as it counts from when the server was started.
pub fn needs_date(item: &Item) -> bool {
    item.left.is_some_and(|left| left.as_secs() >= RELATIVE_MAX)
}

/// What the reply to [`write`] says.
pub fn wrote(reply: &[u8]) -> Wrote {
    match reply.get(..2) {
        Some(b"HD" | b"OK") => Wrote::Stored,
        Some(b"NS" | b"EX") => Wrote::Exists,
        _ => Wrote::Refused(words(reply)),
    }
}

/// Ask whether a key is there.
pub fn look(out: &mut Vec<u8>, key: &[u8]) {
    get(out, key, b" u t\r\n");
}

/// What the reply to [`look`] says, in the words of a write.
pub fn looked(reply: &[u8]) -> Wrote {
    match memcache::got(reply) {
        Some(Got::Missing(_)) => Wrote::Stored,
        Some(_) => Wrote::Exists,
        None => Wrote::Refused(words(reply)),
    }
}

fn get(out: &mut Vec<u8>, key: &[u8], flags: &[u8]) {
    out.extend_from_slice(b"mg ");
    if name(out, key, false) {
        out.extend_from_slice(b" b");
    }
    out.extend_from_slice(flags);
}

/// Write a key; whether it had to be in base64.
fn name(out: &mut Vec<u8>, key: &[u8], encode: bool) -> bool {
    let encode = encode || !key_ok(key);
    match encode {
        true => base64::encode(out, key),
        false => out.extend_from_slice(key),
    }
    encode
}

/// The key in a line of a metadump: `key=a%20b exp=-1 la=... cls=1 size=66`.
pub fn dumped(line: &[u8]) -> Option<Vec<u8>> {
    let key = line.strip_prefix(b"key=")?;
    let end = memchr::memchr(b' ', key)?;
    let mut key = key.get(..end)?.iter();
    let mut decoded = Vec::new();
    while let Some(&byte) = key.next() {
        decoded.push(match byte {
            b'%' => 16 * digit(*key.next()?)? + digit(*key.next()?)?,
            byte => byte,
        });
    }
    (!decoded.is_empty()).then_some(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// The value of a statistic.
pub fn statistic(stats: &[u8], wanted: &str) -> Option<u64> {
    let found = statistics(stats).find(|(name, _)| *name == wanted);
    found.and_then(|(_, value)| value.parse().ok())
}

fn statistics(stats: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let lines = stats.split(|&byte| byte == b'\n');
    lines.filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?.trim_ascii();
        line.strip_prefix("STAT ")?.split_once(' ')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &[u8], left: Option<Duration>) -> Item {
        Item {
            key: key.to_vec(),
            base64: false,
            flags: 7,
            data: b"hi".to_vec(),
            left,
            asked: Instant::now(),
        }
    }

    #[test]
    fn items_read_and_write_alike() {
        let asked = Instant::now();
        let check = |reply: &[u8], expected: Found| {
            assert_eq!(found(b"k", reply, asked), expected);
        };
        let with = |left, base64| {
            Found::Item(Item {
                asked,
                base64,
                ..item(b"k", left)
            })
        };
        let minute = Some(Duration::from_secs(60));
        check(b"VA 2 f7 t60\r\nhi\r\n", with(minute, false));
        check(b"VA 2 f7 t-1 b\r\nhi\r\n", with(None, true));
        check(b"VA 2 f7 t60 X\r\nhi\r\n", Found::Placeholder);
        check(b"EN\r\n", Found::Gone);
        check(
            b"CLIENT_ERROR x\r\n",
            Found::Refused("CLIENT_ERROR x".to_owned()),
        );
    }

    #[test]
    fn copies_keep_flags_time_and_the_form_of_their_key() {
        let check = |item: &Item, replace, said: &str| {
            let mut out = Vec::new();
            write(&mut out, item, item.asked, replace, 0);
            assert_eq!(String::from_utf8(out).unwrap(), said);
        };
        let minute = Some(Duration::from_secs(60));
        check(&item(b"k", minute), false, "ms k 2 F7 T60 ME\r\nhi\r\n");
        check(&item(b"a b", None), true, "ms YSBi 2 F7 b MS\r\nhi\r\n");
        let encoded = Item {
            base64: true,
            ..item(b"k", None)
        };
        check(&encoded, false, "ms aw== 2 F7 b ME\r\nhi\r\n");
    }

    #[test]
    fn an_expiry_is_neither_for_ever_nor_a_date_by_mistake() {
        let now = 1_700_000_000;
        let check = |ms, said| assert_eq!(expiry(Duration::from_millis(ms), now), said);
        check(1, 1);
        check(59_800, 60);
        check(1000 * RELATIVE_MAX, RELATIVE_MAX);
        check(1000 * (RELATIVE_MAX + 1), 1_700_000_000 + RELATIVE_MAX + 1);
    }

    #[test]
    fn names_in_a_dump_are_decoded() {
        let check = |line: &[u8], key: Option<&[u8]>| {
            assert_eq!(dumped(line).as_deref(), key, "{line:?}");
        };
        check(b"key=plain exp=-1 la=1\n", Some(b"plain"));
        check(b"key=a%20b%00%FF exp=-1\n", Some(b"a b\0\xff"));
        for bad in [
            &b"key=a%2"[..],
            b"key=a%2 exp",
            b"key=a%zz e",
            b"END\r\n",
            b"key= e",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn statistics_are_found_by_their_whole_name() {
        let stats = b"STAT pid 4\r\nSTAT uptime\r\nSTAT time 9\r\nEND\r\n";
        assert_eq!(statistic(stats, "time"), Some(9));
        assert_eq!(statistic(stats, "uptime"), None);
    }
}
