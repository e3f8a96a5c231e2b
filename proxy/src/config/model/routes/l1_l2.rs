//! `type = "l1_l2"`: two tiers of caches.

use std::time::Duration;

use schemars::JsonSchema;

use super::fields::{RouteFields, TIME_MAX};
use super::{Child, RouteSpec};
use crate::config::units::Time;

/// The default of `ttl`.
pub const FILL_TTL: Time = Time::secs(3600);
/// The default of `negative_ttl`.
pub const NEGATIVE_TTL: Time = Time::secs(0);

/// A small near tier is read first and filled from a large far one; writes
/// and deletes reach both.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct L1L2 {
    /// The near tier.
    pub l1: Child,
    /// The far tier, which has everything.
    pub l2: Child,
    /// The longest that a value filled from `l2` lives in `l1`, at least
    /// "1s"; never longer than it has left there. Default "1h". Too long:
    /// what other proxies change in `l2` is not seen for as long.
    #[schemars(with = "Option<Time>", extend("default" = "1h"))]
    pub ttl: Duration,
    /// How long `l1` remembers that `l2` does not have a key. Default "0s",
    /// not at all; otherwise at least "1s". Too long: a key that others
    /// create is not seen for as long.
    #[schemars(with = "Option<Time>", extend("default" = NEGATIVE_TTL.to_string()))]
    pub negative_ttl: Duration,
}

impl RouteSpec for L1L2 {
    const SCHEMA: &'static str = "L1L2Route";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> L1L2 {
        let second = Time::secs(1);
        let negative = fields.time("negative_ttl", NEGATIVE_TTL, TIME_MAX);
        if let Some(at) = &negative
            && !at.value.is_zero()
            && at.value < second.0
        {
            let message = format!(
                "`negative_ttl` is {}, expected 0s or at least 1s",
                Time(at.value)
            );
            fields.error(&at.span, message);
        }
        L1L2 {
            l1: fields.child("l1"),
            l2: fields.child("l2"),
            ttl: fields.time_or("ttl", second, TIME_MAX, FILL_TTL),
            negative_ttl: negative.map_or(NEGATIVE_TTL.0, |at| at.value),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.l1, &self.l2]
    }
}
