//! `type = "gutter"`: a spare pool while another fails.

use std::time::Duration;

use schemars::JsonSchema;

use super::failover::{CAUSES, Cause};
use super::fields::{RouteFields, TIME_MAX};
use super::{Child, RouteSpec};
use crate::config::units::Time;
use crate::config::words::words_schema;

/// The default of `ttl`.
pub const GUTTER_TTL: Time = Time::secs(10);

/// While the main child fails, a spare one is used, in which nothing lives
/// for long.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Gutter {
    /// Who is asked first.
    pub main: Child,
    /// The spare, for what `main` did not do.
    pub gutter: Child,
    /// The longest that a value lives in the gutter. Default "10s", at least
    /// "1s". Deletes do not reach the gutter while `main` is well, so for as
    /// long it may hold what has changed since; too short: it is always empty.
    #[schemars(with = "Option<Time>", extend("default" = GUTTER_TTL.to_string()))]
    pub ttl: Duration,
    /// Which outcomes of `main` use the gutter, as in a failover. Default:
    /// "timeout", "connect", "down", "busy" and "lost".
    #[schemars(default, schema_with = "words_schema::<Cause>", extend("default" = ["timeout", "connect", "down", "busy", "lost"]))]
    pub on: Vec<Cause>,
}

impl RouteSpec for Gutter {
    const SCHEMA: &'static str = "GutterRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Gutter {
        Gutter {
            main: fields.child("main"),
            gutter: fields.child("gutter"),
            ttl: fields.time_or("ttl", Time::secs(1), TIME_MAX, GUTTER_TTL),
            on: fields.words("on").unwrap_or_else(|| CAUSES.to_vec()),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.main, &self.gutter]
    }
}
