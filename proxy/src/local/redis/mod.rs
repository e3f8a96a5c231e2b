//! The Redis face of a pool.

use emberline_protocol::redis::{Version, encode};

use super::store::Store;

/// Answer one request.
pub fn answer(_store: &Store, _args: &[&[u8]], _version: Version, _now: u64, out: &mut Vec<u8>) {
    encode::error(out, "ERR not built yet");
}
