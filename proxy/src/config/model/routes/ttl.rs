//! `type = "ttl"`: how long values live is not the client's to say.

use std::time::Duration;

use schemars::JsonSchema;

use super::fields::{RouteFields, TIME_MAX};
use super::{Child, RouteSpec, Simple};
use crate::config::units::Time;

/// The TTL of what is written is set, or kept between two bounds.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ttl {
    /// Where requests go.
    pub child: Child,
    /// The TTL of every value, whatever the client says; at least "1s".
    /// Default: none. Not together with `cap` or `floor`.
    #[schemars(with = "Option<Time>")]
    pub set: Option<Duration>,
    /// The longest TTL, at least "1s"; a value without one gets it,
    /// unless its command has no place for a TTL (INCR, MSET, HSET). Default:
    /// none.
    #[schemars(with = "Option<Time>")]
    pub cap: Option<Duration>,
    /// The shortest TTL, at least "1s"; a value without one keeps none.
    /// Default: none. Where it meets the cap of another route, the smaller
    /// wins.
    #[schemars(with = "Option<Time>")]
    pub floor: Option<Duration>,
}

impl RouteSpec for Ttl {
    const SCHEMA: &'static str = "TtlRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Ttl {
        let mut bound = |key| fields.time(key, Time::secs(1), TIME_MAX);
        let (set, cap, floor) = (bound("set"), bound("cap"), bound("floor"));
        if let (Some(set), Some(_)) = (&set, cap.as_ref().or(floor.as_ref())) {
            let message = "`set` cannot stand together with `cap` or `floor`";
            fields.error(&set.span, message);
        }
        if let (Some(cap), Some(floor)) = (&cap, &floor)
            && cap.value < floor.value
        {
            let (cap, least) = (Time(cap.value), Time(floor.value));
            let message = format!("`floor` is {least}, above the `cap` of {cap}");
            fields.error(&floor.span, message);
        }
        Ttl {
            child: fields.child("child"),
            set: set.map(|at| at.value),
            cap: cap.map(|at| at.value),
            floor: floor.map(|at| at.value),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }

    fn simple(&self) -> Simple<'_> {
        let bounds = [self.set, self.cap, self.floor];
        Simple::if_idle(bounds.iter().all(Option::is_none), &self.child)
    }
}
