//! Where a reply ends, in whichever protocol its server speaks.

use emberline_protocol::{Scan, memcache, redis};

use crate::running::Protocol;

/// Finds the end of one reply after the other in the bytes of a connection.
#[derive(Debug)]
pub enum Scanner {
    /// Of a Redis server.
    Redis(redis::Scanner),
    /// Of a memcached server.
    Memcached(memcache::Scanner),
}

impl Scanner {
    /// At the beginning of a connection, or of a reply.
    pub fn new(protocol: Protocol) -> Scanner {
        match protocol {
            Protocol::Redis => Scanner::Redis(redis::Scanner::default()),
            Protocol::Memcached => Scanner::Memcached(memcache::Scanner::default()),
        }
    }

    /// How much of what came next belongs to the reply, and whether it ends.
    ///
    /// # Errors
    /// Why these bytes are no reply; the connection is of no more use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Scan, String> {
        match self {
            Scanner::Redis(scanner) => scanner.feed(bytes).map_err(|error| error.to_string()),
            Scanner::Memcached(scanner) => scanner.feed(bytes).map_err(|error| error.to_string()),
        }
    }
}
