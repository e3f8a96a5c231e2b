//! `type = "key"`: the child knows keys by another name.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};
use crate::config::read::At;

/// The key is rewritten on its way to the child: first what is stripped, then
/// what is replaced, then what is added.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Key {
    /// Where requests go.
    pub child: Child,
    /// What is cut off the beginning of a key, if it is there. Default: none.
    /// A key that would become empty stays whole.
    pub strip_prefix: Option<String>,
    /// What is cut off the end of a key, if it is there. Default: none.
    pub strip_suffix: Option<String>,
    /// What the beginning of a key becomes, as in `{ "a:" = "b:" }`; the
    /// longest that fits. Default: it stays as it is.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub replace: Vec<(At<String>, String)>,
    /// What is put in front of every key. Default: none. memcached refuses
    /// keys that become longer than 250 bytes.
    pub add_prefix: Option<String>,
    /// What is put behind every key. Default: none.
    pub add_suffix: Option<String>,
}

impl RouteSpec for Key {
    const SCHEMA: &'static str = "KeyRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Key {
        let mut part = |key| fields.key_part(key).map(|at| at.value);
        let (strip_prefix, strip_suffix) = (part("strip_prefix"), part("strip_suffix"));
        let (add_prefix, add_suffix) = (part("add_prefix"), part("add_suffix"));
        Key {
            child: fields.child("child"),
            strip_prefix,
            strip_suffix,
            replace: fields.replacements("replace"),
            add_prefix,
            add_suffix,
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }

    fn simple(&self) -> Simple<'_> {
        let cut = self.strip_prefix.is_some() || self.strip_suffix.is_some();
        let added = self.add_prefix.is_some() || self.add_suffix.is_some();
        let idle = !cut && !added && self.replace.is_empty();
        Simple::if_idle(idle, &self.child)
    }
}
