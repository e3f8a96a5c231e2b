//! `type = "log"`: a sample of what passes, in the log.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};
use crate::config::words::word_schema;
use crate::running::Visibility;

/// The default of `share`.
pub const SHARE: f64 = 0.01;

/// A share of the requests is logged as they are sent: the route, the command and
/// the key's hash.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Log {
    /// Where requests go.
    pub child: Child,
    /// The share of the requests that is logged, 0 to 1. Default 0.01. Too
    /// big: the log costs more than the requests; 0 switches it off.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = SHARE))]
    pub share: f64,
    /// How keys are shown. "hash": as a hash, the default. "plain": as they
    /// are; keys may hold what should not be in a log. Values never are.
    #[schemars(default, schema_with = "word_schema::<Visibility>", extend("default" = "hash"))]
    pub keys: Visibility,
}

impl RouteSpec for Log {
    const SCHEMA: &'static str = "LogRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Log {
        Log {
            child: fields.child("child"),
            share: fields.share_or("share", SHARE),
            keys: fields.word_or("keys", Visibility::Hash),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }
}
