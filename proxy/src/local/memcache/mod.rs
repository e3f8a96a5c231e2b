//! The memcached face of a pool.

use std::sync::atomic::AtomicU64;

use emberline_protocol::memcache::{Request, encode};

use super::store::Store;

/// When a delayed `flush_all` takes effect, in milliseconds since the Unix
/// epoch; 0 when none is waiting.
#[derive(Debug, Default)]
pub struct FlushTimer(AtomicU64);

/// One request and what came with it.
pub struct Call<'a> {
    pub request: &'a Request,
    pub keys: &'a [&'a [u8]],
    pub line: &'a [u8],
    pub body: &'a [u8],
    pub now: u64,
}

/// Answer one request.
pub fn answer(_store: &Store, _flush: &FlushTimer, _call: &Call<'_>, out: &mut Vec<u8>) {
    encode::line(out, "SERVER_ERROR not built yet");
}
