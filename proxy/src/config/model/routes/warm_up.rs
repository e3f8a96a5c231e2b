//! `type = "warm_up"`: a cold pool is filled from a warm one as it is read.

use std::time::Duration;

use schemars::JsonSchema;

use super::fields::{RouteFields, TIME_MAX};
use super::{Child, RouteSpec};
use crate::config::units::Time;

/// The default of `tombstone`.
pub const TOMBSTONE: Time = Time::secs(2);

/// What the cold child lacks is read from the warm one and added to the cold.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WarmUp {
    /// The child that is being filled; writes and deletes go here.
    pub cold: Child,
    /// The child that has the values; it is only read.
    pub warm: Child,
    /// How long a delete is remembered, so that a value that was on its way
    /// from the warm child does not bring it back. Default "2s", at most
    /// "1h"; "0s" remembers none. Too short: a slow fill brings back what was
    /// deleted; too long: memory, and keys that are not filled again.
    #[schemars(with = "Option<Time>", extend("default" = TOMBSTONE.to_string()))]
    pub tombstone: Duration,
    /// The longest that a value which was filled lives in the cold child, at
    /// least "1s". Default: as long as it has left in the warm one.
    #[schemars(with = "Option<Time>")]
    pub ttl: Option<Duration>,
}

impl RouteSpec for WarmUp {
    const SCHEMA: &'static str = "WarmUpRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> WarmUp {
        let (none, hour) = (Time::secs(0), Time::secs(3600));
        WarmUp {
            cold: fields.child("cold"),
            warm: fields.child("warm"),
            tombstone: fields.time_or("tombstone", none, hour, TOMBSTONE),
            ttl: fields
                .time("ttl", Time::secs(1), TIME_MAX)
                .map(|at| at.value),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.cold, &self.warm]
    }
}
