//! The memcached face of a pool: the text and meta commands, answered as
//! memcached 1.6.18 answers them.
//!
//! What a command does to an item is said once, in [`item`]; how it is read
//! and answered is said in [`text`] and [`meta`]. A command that the parser
//! lets pass may still have arguments that are wrong: those are answered
//! here with memcached's own words.

mod flags;
mod item;
mod meta;
mod number;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};

use emberline_protocol::memcache::{Dialect, Request, Verb, encode};

use super::store::Store;

/// When a delayed `flush_all` takes effect, in milliseconds since the Unix
/// epoch; 0 when none is waiting.
#[derive(Debug, Default)]
pub struct FlushTimer(AtomicU64);

/// One request and what came with it.
pub struct Call<'a> {
    /// What the parser found.
    pub request: &'a Request,
    /// The keys as they were written; perhaps only this pool's.
    pub keys: &'a [&'a [u8]],
    /// The command line.
    pub line: &'a [u8],
    /// The data block without its CRLF.
    pub body: &'a [u8],
    /// Milliseconds since the Unix epoch.
    pub now: u64,
}

/// Answer one request.
pub fn answer(store: &Store, flush: &FlushTimer, call: &Call<'_>, out: &mut Vec<u8>) {
    flush.apply(store, call.now);
    let start = out.len();
    match (call.request.verb, call.request.verb.dialect()) {
        (Verb::FlushAll, _) => text::flush_all(store, flush, call, out),
        (_, Dialect::Text) => text::answer(store, call, out),
        (_, Dialect::Meta) => meta::answer(store, call, out),
    }
    if call.request.quiet && call.request.verb.dialect() == Dialect::Text {
        out.truncate(start);
    }
}

/// Answer a command that a pool without a server has no meaning for.
fn refuse(verb: Verb, out: &mut Vec<u8>) {
    let name = verb.name();
    encode::line(
        out,
        &format!(
            "SERVER_ERROR the embedded pool does not support '{name}'; \
             start emberline with --memcached ADDR to proxy a real server"
        ),
    );
}

impl FlushTimer {
    /// Forget everything at this moment; it replaces an earlier one.
    fn set(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }

    /// Forget everything if the moment has come.
    fn apply(&self, store: &Store, now: u64) {
        let at = self.0.load(Ordering::Relaxed);
        if at == 0 || now < at {
            return;
        }
        // Of the workers that notice, one flushes.
        if self
            .0
            .compare_exchange(at, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            store.flush();
        }
    }
}
