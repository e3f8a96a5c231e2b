//! Replies of the meta protocol.

use crate::memcache::number;
use crate::memcache::reply::Shape;

/// What a reply line that begins with `word` looks like.
pub(in crate::memcache) fn shape(word: &[u8]) -> Option<Shape> {
    Some(match word {
        b"VA" => Shape::MetaValue,
        b"HD" | b"EN" | b"NF" | b"NS" | b"EX" | b"ME" | b"MN" => Shape::Line,
        _ => return None,
    })
}

/// The size of the data block that a `VA` line announces.
pub(in crate::memcache) fn data_len(line: &[u8]) -> Option<usize> {
    number::length(super::super::tokens(line).nth(1)?)
}

/// How the reply to an `mg` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got<'a> {
    /// `VA`: a value of this many bytes follows, and a line end behind it.
    Value(usize, Returned<'a>),
    /// `HD`: the item is there and its value was not asked for.
    Header(Returned<'a>),
    /// `EN`: there is no such item. Early 1.6 servers return nothing here,
    /// whatever was asked for.
    Missing(Returned<'a>),
}

/// What a reply to `mg` returns of the item, as far as it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned<'a> {
    /// `k`: the key as it is written, in base64 if `base64` says so.
    pub key: Option<&'a [u8]>,
    /// `b`: the *item* is known by base64. That is how it was stored; how it
    /// was asked for does not matter (memcached 1.6.18).
    pub base64: bool,
    /// `f`: the client flags, if they fit 32 bits.
    pub flags: Option<u32>,
    /// `c`: the unique number; 0 from a server that runs without (`-C`).
    pub cas: Option<u64>,
    /// `t`: what the server believes to be left.
    pub ttl: Option<Ttl>,
    /// `W`: whoever asked is the one to set the item anew.
    pub won: bool,
    /// `X`: the item has been marked stale.
    pub stale: bool,
    /// `Z`: somebody else has been told to set the item anew.
    pub sent: bool,
}

/// What `t` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// `t-1`: it lives as long as the server likes.
    Unlimited,
    /// The second of the server's clock in which it expires, less the second
    /// that the clock showed.
    Seconds(u64),
}

/// Reads the first line of a reply to `mg`, with or without its line end.
/// `None`: it is none; an error line is none either.
///
/// Flags that are not known here are passed over.
pub fn got(line: &[u8]) -> Option<Got<'_>> {
    let mut words = super::super::tokens(line);
    match words.next()? {
        b"VA" => {
            let len = number::length(words.next()?)?;
            Some(Got::Value(len, returned(words)?))
        }
        b"HD" => Some(Got::Header(returned(words)?)),
        b"EN" => Some(Got::Missing(returned(words)?)),
        _ => None,
    }
}

/// `None`: a number is none.
fn returned<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Returned<'a>> {
    let mut returned = Returned::default();
    for word in words {
        let Some((&flag, token)) = word.split_first() else {
            continue;
        };
        match flag {
            b'k' => returned.key = Some(token),
            b'b' => returned.base64 = true,
            b'f' => returned.flags = u32::try_from(number::unsigned(token)?).ok(),
            b'c' => returned.cas = Some(number::unsigned(token)?),
            b't' if token == b"-1" => returned.ttl = Some(Ttl::Unlimited),
            b't' => returned.ttl = Some(Ttl::Seconds(number::unsigned(token)?)),
            b'W' => returned.won = true,
            b'X' => returned.stale = true,
            b'Z' => returned.sent = true,
            _ => {}
        }
    }
    Some(returned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_was_asked_for() {
        let all = Returned {
            key: Some(b"YmFy"),
            base64: true,
            flags: Some(7),
            cas: Some(u64::MAX),
            ttl: Some(Ttl::Seconds(30)),
            ..Returned::default()
        };
        let line = b"VA 12 kYmFy b f7 c18446744073709551615 t30\r\n";
        assert_eq!(got(line), Some(Got::Value(12, all)));

        let stale = Returned {
            cas: Some(5),
            ttl: Some(Ttl::Unlimited),
            won: true,
            stale: true,
            ..Returned::default()
        };
        assert_eq!(got(b"HD c5 t-1 X W"), Some(Got::Header(stale)));
        let sent = Returned {
            sent: true,
            ..Returned::default()
        };
        assert_eq!(got(b"HD Z"), Some(Got::Header(sent)));
        assert_eq!(got(b"EN\r\n"), Some(Got::Missing(Returned::default())));
    }

    #[test]
    fn what_is_no_reply_to_mg_is_told_apart() {
        for bad in [
            "",
            "VA",
            "VA x",
            "VA -1",
            "VA 99999999999",
            "HD c",
            "HD t-2",
            "HD f-1",
            "ERROR",
            "SERVER_ERROR out of memory",
            "VALUE k 0 1",
            "MN",
            "VA 1 c1x",
        ] {
            assert_eq!(got(bad.as_bytes()), None, "{bad}");
        }
        // Larger flags than 32 bits exist in builds for them alone.
        let Some(Got::Header(large)) = got(b"HD f4294967296") else {
            panic!("it is a header");
        };
        assert_eq!(large.flags, None);
    }
}
