//! `type = "big_value"`: large values in chunks.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};
use crate::config::units::ByteSize;

/// The default of `chunk`.
pub const CHUNK: ByteSize = ByteSize(512 << 10);

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
}

impl RouteSpec for BigValue {
    const SCHEMA: &'static str = "BigValueRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> BigValue {
        BigValue {
            child: fields.child("child"),
            chunk: fields.size_or("chunk", ByteSize(1024), ByteSize::mib(64), CHUNK),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }
}
