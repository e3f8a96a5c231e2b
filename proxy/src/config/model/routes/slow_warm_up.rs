//! `type = "slow_warm_up"`: a cold server gets requests as its hit rate rises.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};

/// The default of `enable_below`.
pub const ENABLE_BELOW: f64 = 0.7;
/// The default of `disable_above`.
pub const DISABLE_ABOVE: f64 = 0.9;
/// The default of `start`.
pub const START: f64 = 0.1;
/// The default of `step`.
pub const STEP: f64 = 1.0;
/// The default of `requests_min`.
pub const REQUESTS_MIN: u32 = 100;

/// A child whose hit rate has fallen gets a share of the requests that grows
/// with it; the fallback gets the others.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SlowWarmUp {
    /// The child that may be cold.
    pub target: Child,
    /// Who gets the requests that the target is spared.
    pub fallback: Child,
    /// The hit rate below which the target is spared. Default 0.7. Too big: a
    /// workload that misses by nature never leaves the fallback.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = ENABLE_BELOW))]
    pub enable_below: f64,
    /// The hit rate above which it gets everything again. Default 0.9; above
    /// `enable_below`.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = DISABLE_ABOVE))]
    pub disable_above: f64,
    /// The share of requests that a target with no hits gets. Default 0.1.
    /// Too small: it takes long to fill; 0: it never does.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = START))]
    pub start: f64,
    /// How much of its hit rate is added to that share. Default 1.0, 0 to 10.
    #[schemars(with = "Option<f64>", range(min = 0, max = 10), extend("default" = STEP))]
    pub step: f64,
    /// Reads of the target, per worker, before its hit rate means anything.
    /// Default 100, 1 to 1000000. Too small: chance decides.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000), extend("default" = REQUESTS_MIN))]
    pub requests_min: u32,
}

impl RouteSpec for SlowWarmUp {
    const SCHEMA: &'static str = "SlowWarmUpRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> SlowWarmUp {
        let route = SlowWarmUp {
            target: fields.child("target"),
            fallback: fields.child("fallback"),
            enable_below: fields.share_or("enable_below", ENABLE_BELOW),
            disable_above: fields.share_or("disable_above", DISABLE_ABOVE),
            start: fields.share_or("start", START),
            step: fields
                .bounded("step", 0.0, 10.0)
                .map_or(STEP, |at| at.value),
            requests_min: fields
                .bounded("requests_min", 1, 1_000_000)
                .map_or(REQUESTS_MIN, |at| at.value),
        };
        if route.enable_below >= route.disable_above {
            let message = format!(
                "`enable_below` is {} and `disable_above` {}: expected the first to be smaller",
                route.enable_below, route.disable_above
            );
            let span = fields.fields.raw("enable_below");
            let span = span.or(fields.fields.raw("disable_above"));
            let span = span.map_or(fields.span(), |value| value.span());
            fields.error(&span, message);
        }
        route
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.target, &self.fallback]
    }
}
