//! `type = "limit_inflight"`: so many requests at once and no more.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};

/// Requests that would be too many at once get an error without waiting.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LimitInflight {
    /// Where requests go.
    pub child: Child,
    /// Requests that may wait for the child's replies at once, in this
    /// process, shared evenly by its workers; 1 to 1048576. Too small: errors
    /// though the servers are well; too big: a slow server gathers a queue.
    /// Every server has a limit of its own beside it, its pool's
    /// `inflight_max`.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max: usize,
}

impl RouteSpec for LimitInflight {
    const SCHEMA: &'static str = "LimitInflightRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> LimitInflight {
        let child = fields.child("child");
        let max = fields.bounded("max", 1, 1 << 20);
        if !fields.fields.has("max") {
            let expected = "a number from 1 to 1048576".to_owned();
            fields.fields.missing(fields.reader, "max", expected);
        }
        LimitInflight {
            child,
            max: max.map_or(1, |at| at.value),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }
}
