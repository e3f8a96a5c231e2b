//! `type = "staging"`: a new pool sees the traffic before anybody relies on it.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};

/// The warm child answers; what it reads is added to the staging one, and
/// deletes go to both.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Staging {
    /// The child that answers.
    pub warm: Child,
    /// The child that is being tried. Its replies are thrown away.
    pub staging: Child,
}

impl RouteSpec for Staging {
    const SCHEMA: &'static str = "StagingRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Staging {
        Staging {
            warm: fields.child("warm"),
            staging: fields.child("staging"),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.warm, &self.staging]
    }
}
