//! Pools without servers: values live in this process.
//!
//! A newcomer who starts the proxy with no configuration gets one such pool
//! per protocol, so a client works at once. A pool is one store with two
//! faces, [`redis`](LocalPool::redis) and [`memcache`](LocalPool::memcache);
//! one pool serves one protocol. It answers what a cache is used for
//! (strings, expiry, counters; all of memcached's storage commands), exactly
//! as the real servers do, and says so where it does not.
//!
//! Nothing here does I/O or reads a clock: time comes with the request.

mod index;
mod memcache;
mod redis;
mod store;

use emberline_protocol::memcache::Request;
use emberline_protocol::redis::Version;
use store::Store;

/// An in-process pool. Workers share it; every command is atomic.
#[derive(Debug)]
pub struct LocalPool {
    store: Store,
    capacity: u64,
    /// When a delayed `flush_all` takes effect.
    flush: memcache::FlushTimer,
}

impl LocalPool {
    /// An empty pool that keeps at most this many bytes of keys, values and
    /// their bookkeeping, and then forgets what was used least recently.
    pub fn new(capacity_bytes: u64) -> LocalPool {
        LocalPool {
            store: Store::new(capacity_bytes),
            capacity: capacity_bytes,
            flush: memcache::FlushTimer::default(),
        }
    }

    /// Bytes that it keeps at the most.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many keys it holds at `now`, in milliseconds since the Unix epoch.
    pub fn len(&self, now: u64) -> usize {
        self.store.len(now)
    }

    /// Whether it holds no key.
    pub fn is_empty(&self, now: u64) -> bool {
        self.len(now) == 0
    }

    /// Answer one Redis request. `now` is milliseconds since the Unix epoch.
    ///
    /// Commands it lacks get an error that says so.
    pub fn redis(&self, args: &[&[u8]], version: Version, now: u64, out: &mut Vec<u8>) {
        redis::answer(&self.store, args, version, now, out);
    }

    /// Answer one memcached request. `keys` are the request's keys as they
    /// were written, `line` its command line, `body` its data block without
    /// the CRLF, `now` milliseconds since the Unix epoch.
    ///
    /// Appends nothing where the request is quiet and the reply one that
    /// quiet requests do not get.
    pub fn memcache(
        &self,
        request: &Request,
        keys: &[&[u8]],
        line: &[u8],
        body: &[u8],
        now: u64,
        out: &mut Vec<u8>,
    ) {
        let call = memcache::Call {
            request,
            keys,
            line,
            body,
            now,
        };
        memcache::answer(&self.store, &self.flush, &call, out);
    }
}
