//! `type = "big_value"`: large values in chunks.

use std::time::Duration;

use schemars::JsonSchema;

use super::fields::{RouteFields, TIME_MAX};
use super::{Child, RouteSpec};
use crate::config::units::{ByteSize, Time};

/// The default of `chunk`.
pub const CHUNK: ByteSize = ByteSize(512 << 10);

/// The default of `ttl`.
pub const TTL: Time = Time::secs(24 * 3600);

/// A value that is longer than a chunk is stored as several keys, which are
/// put together when it is read.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BigValue {
    /// Where the keys are.
    pub child: Child,
    /// The longest value that is stored whole, and the size of a chunk.
    /// Default "512KiB", "1KiB" to "64MiB". Above the server's own limit
    /// (memcached: 1 MiB with the key) nothing is gained; too small: one read
    /// becomes many.
    #[schemars(with = "Option<ByteSize>", extend("default" = CHUNK.to_string()))]
    pub chunk: u64,
    /// The longest life of a value in chunks, whatever it asks for; also of one
    /// that would live for ever. Default "24h", "1s" to "8760h". Too long: chunks
    /// of values that were overwritten or deleted stay for so long; too short:
    /// large values end before their time.
    #[schemars(with = "Option<Time>", extend("default" = "24h"))]
    pub ttl: Duration,
}

impl RouteSpec for BigValue {
    const SCHEMA: &'static str = "BigValueRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> BigValue {
        BigValue {
            child: fields.child("child"),
            chunk: fields.size_or("chunk", ByteSize(1024), ByteSize::mib(64), CHUNK),
            ttl: fields.time_or("ttl", Time::secs(1), TIME_MAX, TTL),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }
}
