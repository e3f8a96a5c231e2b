//! `type = "size_split"`: large values live elsewhere.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};
use crate::config::units::ByteSize;

/// The default of `threshold`.
pub const THRESHOLD: ByteSize = ByteSize(64 << 10);

/// Values of at least a threshold go to one child, smaller ones to another.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SizeSplit {
    /// Where small values are; reads begin here.
    pub small: Child,
    /// Where large values are.
    pub large: Child,
    /// From how many bytes on a value is large. Default "64KiB", "1B" to
    /// "1GiB". Too small: most reads need two round trips; too big: large
    /// values push small ones out.
    #[schemars(with = "Option<ByteSize>", extend("default" = THRESHOLD.to_string()))]
    pub threshold: u64,
}

impl RouteSpec for SizeSplit {
    const SCHEMA: &'static str = "SizeSplitRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> SizeSplit {
        let (least, most) = (ByteSize(1), ByteSize::mib(1024));
        SizeSplit {
            small: fields.child("small"),
            large: fields.child("large"),
            threshold: fields.size_or("threshold", least, most, THRESHOLD),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.small, &self.large]
    }
}
