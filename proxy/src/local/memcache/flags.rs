//! The flags of a meta command. Every command takes every flag, and ignores
//! those that mean nothing to it.

use emberline_protocol::memcache::base64;

use super::number::{client_flags, signed, unsigned};

pub const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";

/// The longest token of `O`, its letter included.
const OPAQUE_MAX: usize = 32;

/// What the flags of one command say.
#[derive(Debug)]
pub struct Flags<'a> {
    /// As they came, to be answered in this order.
    pub words: &'a [&'a [u8]],
    /// The key, decoded if it came in base64.
    pub key: std::borrow::Cow<'a, [u8]>,
    /// `b`: it came in base64.
    pub binary: bool,
    /// `N`: on a miss make an item with this expiry.
    pub vivify: Option<i32>,
    /// `T`: the new expiry.
    pub ttl: Option<i32>,
    /// `R`: win the right to refresh if fewer seconds are left.
    pub recache: Option<i32>,
    /// `F`.
    pub client_flags: u32,
    /// `C`.
    pub cas: Option<u64>,
    /// `M`.
    pub mode: Option<u8>,
    /// `J`.
    pub initial: u64,
    /// `D`.
    pub delta: u64,
    /// `I`.
    pub stale: bool,
    /// `q`.
    pub quiet: bool,
    /// `u`.
    pub no_bump: bool,
    /// `v`.
    pub value: bool,
}

impl<'a> Flags<'a> {
    /// Read them all; the error is the line to answer. An unknown or repeated
    /// flag is told first, then the last that has a bad token.
    pub fn parse(key: &'a [u8], words: &'a [&'a [u8]]) -> Result<Flags<'a>, &'static str> {
        let mut flags = Flags {
            words,
            key: key.into(),
            binary: false,
            vivify: None,
            ttl: None,
            recache: None,
            client_flags: 0,
            cas: None,
            mode: None,
            initial: 0,
            delta: 1,
            stale: false,
            quiet: false,
            no_bump: false,
            value: false,
        };
        let mut seen = 0_u128;
        let mut fault = None;
        for word in words {
            let (&flag, token) = word.split_first().ok_or(BAD_FORMAT)?;
            if flag >= 127 || seen >> flag & 1 == 1 {
                return Err("CLIENT_ERROR duplicate flag");
            }
            seen |= 1 << flag;
            match flags.read(flag, token) {
                Ok(()) => {}
                Err(Bad::Unknown) => return Err("CLIENT_ERROR invalid flag"),
                Err(Bad::Unnamed) => fault = fault.or(Some(BAD_FORMAT)),
                Err(Bad::Token(text)) => fault = Some(text),
            }
        }
        fault.map_or(Ok(flags), Err)
    }

    fn read(&mut self, flag: u8, token: &[u8]) -> Result<(), Bad> {
        let time = || signed(token).map(Some).ok_or(Bad::Token(BAD_TOKEN));
        match flag {
            b'N' => self.vivify = time()?,
            b'T' => self.ttl = time()?,
            b'R' => self.recache = time()?,
            b'C' => self.cas = Some(unsigned(token).ok_or(Bad::Token(BAD_TOKEN))?),
            b'F' => self.client_flags = client_flags(token).ok_or(Bad::Unnamed)?,
            b'M' => match token {
                [mode] => self.mode = Some(*mode),
                _ => return Err(Bad::Token("CLIENT_ERROR incorrect length for M token")),
            },
            b'J' => {
                let text = "CLIENT_ERROR invalid numeric initial value";
                self.initial = unsigned(token).ok_or(Bad::Token(text))?;
            }
            b'D' => {
                let text = "CLIENT_ERROR invalid numeric delta value";
                self.delta = unsigned(token).ok_or(Bad::Token(text))?;
            }
            b'b' => {
                let text = "CLIENT_ERROR error decoding key";
                let mut key = Vec::new();
                base64::decode(&mut key, &self.key).ok_or(Bad::Token(text))?;
                self.key = key.into();
                self.binary = true;
            }
            b'I' => self.stale = true,
            b'q' => self.quiet = true,
            b'u' => self.no_bump = true,
            b'v' => self.value = true,
            // What is only answered, and what is meant for proxies.
            b'O' | b'k' | b's' | b't' | b'c' | b'f' | b'h' | b'l' | b'L' | b'P' => {}
            _ => return Err(Bad::Unknown),
        }
        Ok(())
    }

    /// Append what identifies the request: opaque and key, in the order asked.
    /// `cas` is told too where it is asked for and given.
    pub fn identify(&self, cas: Option<u64>, reply: &mut Vec<u8>) {
        for word in self.words {
            match (word.first(), cas) {
                (Some(b'O'), _) => flag(reply, word),
                (Some(b'k'), _) => name(reply, &self.key, self.binary),
                (Some(b'c'), Some(cas)) => number(reply, b'c', cas),
                _ => {}
            }
        }
    }

    /// Whether an opaque is longer than is taken.
    pub fn opaque_too_long(&self) -> bool {
        self.words
            .iter()
            .any(|w| w.first() == Some(&b'O') && w.len() > OPAQUE_MAX)
    }
}

/// What can be wrong with one flag.
enum Bad {
    Unknown,
    /// A bad token that memcached has no words for.
    Unnamed,
    Token(&'static str),
}

/// Append a flag as it is written.
pub fn flag(reply: &mut Vec<u8>, word: &[u8]) {
    reply.push(b' ');
    reply.extend_from_slice(word);
}

/// Append a flag and its number.
pub fn number(reply: &mut Vec<u8>, flag: u8, value: u64) {
    reply.extend_from_slice(&[b' ', flag]);
    reply.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Append the flag `k`, and `b` where the key is in base64.
pub fn name(reply: &mut Vec<u8>, key: &[u8], binary: bool) {
    reply.extend_from_slice(b" k");
    if binary {
        base64::encode(reply, key);
        reply.extend_from_slice(b" b");
    } else {
        reply.extend_from_slice(key);
    }
}
