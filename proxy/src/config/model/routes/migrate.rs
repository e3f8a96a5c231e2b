//! `type = "migrate"`: keys move from one child to another over a while.

use std::time::{Duration, SystemTime};

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};
use crate::config::units::{Moment, Time};

/// The default of `interval`.
pub const INTERVAL: Time = Time::secs(3600);

/// Key by key, requests move from one child to the other over an interval;
/// meanwhile deletes go to both.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Migrate {
    /// Where keys are before `start`.
    pub from: Child,
    /// Where they are when the interval is over.
    pub to: Child,
    /// When it begins, with the offset from UTC, as in
    /// "2027-01-01T00:00:00Z". The clocks of all proxies must agree: each
    /// key moves at its own moment, and between two clocks it is in both
    /// places.
    #[schemars(with = "Moment")]
    pub start: SystemTime,
    /// How long it takes. Default "1h", "1s" to a year. Too short: the new
    /// child is still empty when everything reads it.
    #[schemars(with = "Option<Time>", extend("default" = "1h"))]
    pub interval: Duration,
}

impl RouteSpec for Migrate {
    const SCHEMA: &'static str = "MigrateRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Migrate {
        let start = fields.fields.required::<Moment>(fields.reader, "start");
        Migrate {
            from: fields.child("from"),
            to: fields.child("to"),
            start: start.map_or(SystemTime::UNIX_EPOCH, |at| at.value.0),
            interval: fields.time_or("interval", Time::secs(1), super::fields::TIME_MAX, INTERVAL),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.from, &self.to]
    }
}
