//! `type = "split_hot"`: a hot key lives on several servers.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};
use crate::config::read::At;

/// Keys that a list may have.
const KEYS_MAX: usize = 1000;
/// The longest key, in bytes.
const KEY_MAX: usize = 1024;

/// A hot key is copied to several servers of its child, and read from any of
/// them.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SplitHot {
    /// Where the keys are.
    pub child: Child,
    /// How many copies beside the key itself, 1 to 64. Too big: every write
    /// and delete goes to as many servers more.
    #[schemars(range(min = 1, max = 64))]
    pub copies: u16,
    /// The keys that are split, 1 to 1000. Keys that the detector finds have
    /// copies of their own: see `copies` of `hotkey`.
    #[schemars(with = "Vec<String>", length(min = 1, max = 1000))]
    pub keys: Vec<String>,
}

impl RouteSpec for SplitHot {
    const SCHEMA: &'static str = "SplitHotRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> SplitHot {
        let child = fields.child("child");
        let copies = fields.bounded("copies", 1, 64);
        if !fields.fields.has("copies") {
            let expected = "a number from 1 to 64".to_owned();
            fields.fields.missing(fields.reader, "copies", expected);
        }
        let listed = fields.fields.list::<String>(fields.reader, "keys");
        if let Some(listed) = &listed {
            check_keys(listed, fields);
        }
        let none = listed.as_ref().is_none_or(|listed| listed.value.is_empty());
        if none && (listed.is_some() || !fields.fields.has("keys")) {
            let expected = "a list of keys; for those that the detector finds there is \
                            `copies` of [hotkey]";
            fields
                .fields
                .missing(fields.reader, "keys", expected.to_owned());
        }
        let keys = listed.into_iter().flat_map(|listed| listed.value);
        SplitHot {
            child,
            copies: copies.map_or(1, |at| at.value),
            keys: keys.map(|key| key.value).collect(),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }
}

fn check_keys(listed: &At<Vec<At<String>>>, fields: &mut RouteFields<'_, '_, '_, '_>) {
    if listed.len() > KEYS_MAX {
        let message = format!(
            "`keys` has {} entries, expected at most {KEYS_MAX}",
            listed.len()
        );
        fields.error(&listed.span, message);
        return;
    }
    for key in &listed.value {
        if key.value.is_empty() || key.value.len() > KEY_MAX {
            let length = key.value.len();
            let message = format!("a key of {length} bytes, expected 1 to {KEY_MAX}");
            fields.error(&key.span, message);
        }
    }
}
