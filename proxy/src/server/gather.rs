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
    /// The version of RESP that servers are to answer in.
    pub fn version(self) -> Version {
        match self {
            Wire::Redis(version) => version,
            Wire::Memcached => Version::Resp2,
        }
    }

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
    /// The first fragment's reply, whatever the others are.
    Main,
    /// Any fragment's reply that is not null.
    Any,
    /// memcached `VALUE` blocks in the order of the keys.
    Values,
}

/// Buffers larger than this are not kept for the next request.
const KEEP: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Part {
    reply: Vec<u8>,
    done: bool,
    /// While merging: what of `reply` has been used.
    used: usize,
}

/// The fragments of one request.
#[derive(Debug)]
pub struct Gather {
    merge: Merge,
    partial: Partial,
    /// More than there are fragments, when an earlier request had more.
    parts: Vec<Part>,
    fragments: usize,
    pending: usize,
    /// For every key, in the request's order, the fragment that has it.
    order: Vec<u32>,
    /// For `Values`: where each key ends in `keys`.
    ends: Vec<u32>,
    keys: Vec<u8>,
    len: usize,
}

impl Default for Gather {
    fn default() -> Gather {
        Gather {
            merge: Merge::First,
            partial: Partial::Error,
            parts: Vec::new(),
            fragments: 0,
            pending: 0,
            order: Vec::new(),
            ends: Vec::new(),
            keys: Vec::new(),
            len: 0,
        }
    }
}

impl Gather {
    /// Wait for `fragments` replies to a new request.
    pub fn reset(&mut self, merge: Merge, partial: Partial, fragments: usize) {
        self.forget();
        self.merge = merge;
        self.partial = partial;
        self.fragments = fragments;
        self.pending = fragments;
        if self.parts.len() < fragments {
            self.parts.resize_with(fragments, Part::default);
        }
    }

    /// Forget the last request; keep its buffers if they are small.
    pub fn forget(&mut self) {
        for part in self.parts.iter_mut().take(self.fragments) {
            part.reply.clear();
            part.reply.shrink_to(KEEP);
            part.done = false;
            part.used = 0;
        }
        self.fragments = 0;
        self.len = 0;
        self.order.clear();
        self.ends.clear();
        self.keys.clear();
        self.order.shrink_to(KEEP);
        self.ends.shrink_to(KEEP);
        self.keys.shrink_to(KEEP);
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

    fn parts(&self) -> &[Part] {
        &self.parts[..self.fragments.min(self.parts.len())]
    }

    /// Take bytes of one fragment; true when the last fragment is whole.
    pub fn deliver(&mut self, fragment: u32, bytes: &[u8], done: bool) -> bool {
        let Some(part) = self.parts.get_mut(fragment as usize) else {
            return false;
        };
        if part.done {
            return false;
        }
        if self.len <= GATHER_MAX {
            part.reply.extend_from_slice(bytes);
            self.len += bytes.len();
        }
        if done {
            part.done = true;
            self.pending = self.pending.saturating_sub(1);
        }
        self.pending == 0
    }

    /// Forget what came of one fragment; answers how many bytes that was.
    pub fn clear(&mut self, fragment: u32) -> usize {
        match self.parts.get_mut(fragment as usize) {
            Some(part) if !part.done => {
                let len = part.reply.len();
                part.reply.clear();
                self.len -= len;
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
        if self.merge == Merge::Main {
            let failed = self.parts().first().as_ref().is_none_or(failed);
            return self.first(out).is_none() || failed;
        }
        if let Some(error) = self.parts().iter().find(failed)
            && (!tolerant || self.parts().iter().all(|part| failed(&part)))
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
            Merge::First | Merge::Main => self.first(out),
            Merge::Any => self.any(out),
        };
        if merged.is_none() {
            out.truncate(start);
            wire.error("a server gave a reply that does not fit the request", out);
            return true;
        }
        false
    }

    fn first(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&self.parts().first()?.reply);
        Some(())
    }

    fn mget(&mut self, wire: Wire, out: &mut Vec<u8>) -> Option<()> {
        let version = wire.version();
        for part in &mut self.parts[..self.fragments] {
            // Behind the array's own line; an error has no elements.
            part.used = match part.reply.first()? {
                b'*' => memchr::memchr(b'\n', &part.reply)? + 1,
                _ if wire.is_error(&part.reply) => part.reply.len(),
                _ => return None,
            };
        }
        encode::array(out, self.order.len());
        for &fragment in &self.order {
            let part = self.parts.get_mut(fragment as usize)?;
            if wire.is_error(&part.reply) {
                encode::null(out, version);
                continue;
            }
            let rest = part.reply.get(part.used..)?;
            let element = rest.get(..reply::skip(rest).ok()??)?;
            out.extend_from_slice(element);
            part.used += element.len();
        }
        Some(())
    }

    fn sum(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut sum = 0i64;
        for part in self
            .parts()
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
        for (index, part) in self.parts().iter().enumerate() {
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
            .parts()
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
        let parts = self.parts();
        let start = self.order.first().copied().unwrap_or(0) as usize % parts.len().max(1);
        let turned = parts.iter().cycle().skip(start).take(parts.len());
        let part = turned.clone().find(|part| !null(part)).or(parts.first())?;
        out.extend_from_slice(&part.reply);
        Some(())
    }

    fn values(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let mut start = 0;
        for (&fragment, &end) in self.order.iter().zip(&self.ends) {
            let key = self.keys.get(start..end as usize)?;
            start = end as usize;
            let part = self.parts.get_mut(fragment as usize)?;
            let next = memcache::values(part.reply.get(part.used..)?).next();
            if let Some(value) = next.filter(|value| value.key == key) {
                out.extend_from_slice(value.bytes);
                part.used += value.bytes.len();
            }
        }
        memcache::encode::end(out);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: Wire = Wire::Redis(Version::Resp2);

    /// What `replies` to fragments become, and whether that is an error.
    fn merged(merge: Merge, partial: Partial, order: &[u32], replies: &[&str]) -> (String, bool) {
        let mut gather = Gather::default();
        gather.reset(merge, partial, replies.len());
        gather.order(order);
        let mut whole = false;
        for (fragment, reply) in replies.iter().enumerate() {
            assert!(!whole);
            whole = gather.deliver(fragment as u32, reply.as_bytes(), true);
        }
        assert!(whole);
        let mut out = Vec::new();
        let failed = gather.finish(REDIS, &mut out);
        (String::from_utf8_lossy(&out).into_owned(), failed)
    }

    fn good(merge: Merge, order: &[u32], replies: &[&str]) -> String {
        let (reply, failed) = merged(merge, Partial::Error, order, replies);
        assert!(!failed, "{reply}");
        reply
    }

    #[test]
    fn elements_return_to_the_order_of_the_keys() {
        let replies = ["*2\r\n$1\r\na\r\n$1\r\nc\r\n", "*1\r\n$-1\r\n"];
        let reply = good(Merge::Mget, &[0, 1, 0], &replies);
        assert_eq!(reply, "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nc\r\n");
    }

    #[test]
    fn numbers_add_up_and_arrays_join() {
        assert_eq!(good(Merge::Sum, &[], &[":2\r\n", ":40\r\n"]), ":42\r\n");
        let arrays = ["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"];
        assert_eq!(
            good(Merge::Concat, &[], &arrays),
            "*2\r\n$1\r\na\r\n$1\r\nb\r\n"
        );
        let flags = ["*2\r\n:1\r\n:1\r\n", "*2\r\n:0\r\n:1\r\n"];
        assert_eq!(good(Merge::And, &[], &flags), "*2\r\n:0\r\n:1\r\n");
        let any = ["$-1\r\n", "$1\r\nk\r\n"];
        assert_eq!(good(Merge::Any, &[0], &any), "$1\r\nk\r\n");
    }

    #[test]
    fn one_failed_server_fails_the_request_unless_its_values_may_be_missing() {
        let replies = ["*1\r\n$1\r\na\r\n", "-ERR down\r\n"];
        let (reply, failed) = merged(Merge::Mget, Partial::Error, &[0, 1], &replies);
        assert_eq!((reply.as_str(), failed), ("-ERR down\r\n", true));
        let (reply, failed) = merged(Merge::Mget, Partial::Missing, &[0, 1], &replies);
        assert_eq!(
            (reply.as_str(), failed),
            ("*2\r\n$1\r\na\r\n$-1\r\n", false)
        );
        // A write is never called a success when a server failed.
        let (_, failed) = merged(
            Merge::First,
            Partial::Missing,
            &[],
            &["+OK\r\n", "-ERR\r\n"],
        );
        assert!(failed);
        let (_, failed) = merged(
            Merge::Mget,
            Partial::Missing,
            &[0, 1],
            &["-E\r\n", "-E\r\n"],
        );
        assert!(failed);
    }

    #[test]
    fn a_reply_that_does_not_fit_is_an_error_and_not_a_panic() {
        for reply in [
            "*1\r\n$1\r\na\r\n",
            "+OK\r\n",
            "*0\r\n",
            "$-1\r\n",
            ":1\r\n",
            "",
        ] {
            let (_, failed) = merged(Merge::Mget, Partial::Error, &[0, 0], &[reply]);
            assert!(failed, "{reply:?}");
        }
        for reply in ["+OK\r\n", "*0\r\n", ""] {
            assert!(
                merged(Merge::Sum, Partial::Error, &[], &[reply]).1,
                "{reply:?}"
            );
        }
    }

    #[test]
    fn values_return_to_the_order_of_the_keys() {
        let mut gather = Gather::default();
        gather.reset(Merge::Values, Partial::Error, 2);
        gather.order(&[0, 1, 0, 1]);
        [b"a", b"b", b"c", b"d"]
            .into_iter()
            .for_each(|key| gather.key(key));
        gather.deliver(0, b"VALUE a 0 1\r\n1\r\nVALUE c 0 1\r\n3\r\nEND\r\n", true);
        assert!(gather.deliver(1, b"VALUE d 7 1\r\n4\r\nEND\r\n", true));
        let mut out = Vec::new();
        assert!(!gather.finish(Wire::Memcached, &mut out));
        let expected = "VALUE a 0 1\r\n1\r\nVALUE c 0 1\r\n3\r\nVALUE d 7 1\r\n4\r\nEND\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
