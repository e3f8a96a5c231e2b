//! One reply out of several: what a request that was split over servers, or
//! sent to all of them, answers in the end.
//!
//! Fragments are buffered whole, because their elements interleave: `MGET a b
//! c` with `a` and `c` on one server needs that server's second element last.

use emberline_protocol::memcache;
use emberline_protocol::redis::encode::{self, Version};
use emberline_protocol::redis::reply;

use crate::running::Partial;

/// Fragments of one request may hold this much before it is answered with an
/// error instead.
const GATHER_MAX: usize = 128 * 1024 * 1024;

/// The client's wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// RESP in this version.
    Redis(Version),
    /// Text or meta.
    Memcached,
}

impl Wire {
    /// Whether `reply`, or the beginning of one, is an error.
    pub fn is_error(self, reply: &[u8]) -> bool {
        match self {
            Wire::Redis(_) => matches!(reply.first(), Some(b'-' | b'!')),
            Wire::Memcached => memcache::is_error(reply),
        }
    }

    /// Append an error of the proxy's own.
    pub fn error(self, text: &str, out: &mut Vec<u8>) {
        match self {
            Wire::Redis(_) => encode::error(out, &format!("ERR {text}")),
            Wire::Memcached => memcache::encode::line(out, &format!("SERVER_ERROR {text}")),
        }
    }
}

/// How fragments become one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Arrays whose elements go back into the order of the keys.
    Mget,
    /// Integers, added up.
    Sum,
    /// Arrays of the same length of 0 and 1: 1 where all say so.
    And,
    /// Arrays, one behind the other.
    Concat,
    /// The first fragment's reply, if all succeeded.
    First,
    /// Any fragment's reply that is not null.
    Any,
    /// memcached `VALUE` blocks in the order of the keys.
    Values,
}

#[derive(Debug, Default)]
struct Part {
    reply: Vec<u8>,
    done: bool,
}

/// The fragments of one request.
#[derive(Debug)]
pub struct Gather {
    merge: Merge,
    partial: Partial,
    parts: Vec<Part>,
    pending: usize,
    /// For every key, in the request's order, the fragment that has it.
    order: Vec<u32>,
    /// For `Values`: where each key ends in `keys`.
    ends: Vec<u32>,
    keys: Vec<u8>,
    len: usize,
}

impl Gather {
    /// Wait for `fragments` replies.
    pub fn new(merge: Merge, partial: Partial, fragments: usize) -> Gather {
        Gather {
            merge,
            partial,
            parts: (0..fragments).map(|_| Part::default()).collect(),
            pending: fragments,
            order: Vec::new(),
            ends: Vec::new(),
            keys: Vec::new(),
            len: 0,
        }
    }

    /// Say which fragment has each key, in the request's order.
    pub fn order(&mut self, order: &[u32]) {
        self.order.extend_from_slice(order);
    }

    /// Remember a key's bytes, in the request's order.
    pub fn key(&mut self, key: &[u8]) {
        self.keys.extend_from_slice(key);
        self.ends
            .push(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
    }

    /// Bytes buffered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Take bytes of one fragment; true when the last fragment is whole.
    pub fn deliver(&mut self, fragment: u32, bytes: &[u8], done: bool) -> bool {
        let Some(part) = self.parts.get_mut(fragment as usize) else {
            return false;
        };
        if part.done {
            return false;
        }
        self.len += bytes.len();
        if self.len <= GATHER_MAX {
            part.reply.extend_from_slice(bytes);
        }
        if done {
            part.done = true;
            self.pending -= 1;
        }
        self.pending == 0
    }

    /// Forget what came of one fragment; answers how many bytes that was.
    pub fn clear(&mut self, fragment: u32) -> usize {
        match self.parts.get_mut(fragment as usize) {
            Some(part) if !part.done => {
                let len = part.reply.len();
                part.reply.clear();
                self.len -= len.min(self.len);
                len
            }
            _ => 0,
        }
    }

    /// Append the reply; true when it is an error.
    pub fn finish(&mut self, wire: Wire, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if self.len > GATHER_MAX {
            wire.error("the replies of the servers are too large to be merged", out);
            return true;
        }
        let tolerant = self.partial == Partial::Missing
            && matches!(
                self.merge,
                Merge::Mget | Merge::Values | Merge::Sum | Merge::Concat
            );
        let failed = |part: &&Part| wire.is_error(&part.reply);
        if let Some(error) = self.parts.iter().find(failed)
            && (!tolerant || self.parts.iter().all(|part| wire.is_error(&part.reply)))
        {
            out.extend_from_slice(&error.reply);
            return true;
        }
        let merged = match self.merge {
            Merge::Mget => self.mget(wire, out),
            Merge::Sum => self.sum(out),
            Merge::And => self.and(out),
            Merge::Concat => self.concat(out),
            Merge::Values => self.values(out),
            Merge::First => self
                .parts
                .first()
                .map(|part| out.extend_from_slice(&part.reply)),
            Merge::Any => self.any(out),
        };
        if merged.is_none() {
            out.truncate(start);
            wire.error("a server gave a reply that does not fit the request", out);
            return true;
        }
        false
    }

    fn mget(&self, wire: Wire, out: &mut Vec<u8>) -> Option<()> {
        let version = match wire {
            Wire::Redis(version) => version,
            Wire::Memcached => Version::Resp2,
        };
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            parts.push(match wire.is_error(&part.reply) {
                true => None,
                false => Some(reply::elements(&part.reply).ok()?),
            });
        }
        encode::array(out, self.order.len());
        for &fragment in &self.order {
            match parts.get_mut(fragment as usize)? {
                Some(elements) => out.extend_from_slice(elements.next()?),
                None => encode::null(out, version),
            }
        }
        Some(())
    }

    fn sum(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut sum = 0i64;
        for part in self
            .parts
            .iter()
            .filter(|part| !part.reply.starts_with(b"-"))
        {
            sum = sum.checked_add(reply::integer(&part.reply)?)?;
        }
        encode::integer(out, sum);
        Some(())
    }

    fn and(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut all: Vec<i64> = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let flags = reply::elements(&part.reply).ok()?.map(reply::integer);
            if index == 0 {
                all = flags.collect::<Option<_>>()?;
            } else {
                for (all, flag) in all.iter_mut().zip(flags) {
                    *all = (*all).min(flag?);
                }
            }
        }
        encode::array(out, all.len());
        all.into_iter().for_each(|flag| encode::integer(out, flag));
        Some(())
    }

    fn concat(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in self
            .parts
            .iter()
            .filter(|part| !part.reply.starts_with(b"-"))
        {
            parts.push(reply::elements(&part.reply).ok()?);
        }
        encode::array(out, parts.iter().map(reply::Elements::len).sum());
        parts
            .into_iter()
            .flatten()
            .for_each(|element| out.extend_from_slice(element));
        Some(())
    }

    fn any(&self, out: &mut Vec<u8>) -> Option<()> {
        let null = |part: &&Part| part.reply.starts_with(b"_") || part.reply.starts_with(b"$-1");
        let start = self.order.first().copied().unwrap_or(0) as usize % self.parts.len().max(1);
        let turned = self.parts.iter().cycle().skip(start).take(self.parts.len());
        let part = turned
            .clone()
            .find(|part| !null(part))
            .or(self.parts.first())?;
        out.extend_from_slice(&part.reply);
        Some(())
    }

    fn values(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut parts: Vec<_> = self
            .parts
            .iter()
            .map(|part| memcache::values(&part.reply).peekable())
            .collect();
        let mut start = 0;
        for (&fragment, &end) in self.order.iter().zip(&self.ends) {
            let key = self.keys.get(start..end as usize)?;
            start = end as usize;
            if let Some(value) = parts
                .get_mut(fragment as usize)?
                .next_if(|value| value.key == key)
            {
                out.extend_from_slice(value.bytes);
            }
        }
        memcache::encode::end(out);
        Some(())
    }
}
