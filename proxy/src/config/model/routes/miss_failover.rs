//! `type = "miss_failover"`: the next child until one has the key.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};

/// A read asks one child after the other until one has the key; everything
/// else goes to the first.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MissFailover {
    /// Whom to ask, in this order. Each one more makes a key that nobody has
    /// slower by a round trip.
    pub children: Vec<Child>,
}

impl RouteSpec for MissFailover {
    const SCHEMA: &'static str = "MissFailoverRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> MissFailover {
        let children = fields.children("children");
        MissFailover { children }
    }

    fn children(&self) -> Vec<&Child> {
        self.children.iter().collect()
    }

    fn simple(&self) -> Simple<'_> {
        Simple::of_list(&self.children)
    }
}
