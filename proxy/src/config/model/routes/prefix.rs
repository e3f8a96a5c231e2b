//! `type = "prefix"`: the key's beginning chooses.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};
use crate::config::read::At;
use crate::config::suggest::did_you_mean;

/// The longest listed prefix of the key chooses the child.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Prefix {
    /// By key prefix, the name of a pool or of a route, or a route in place.
    #[schemars(with = "BTreeMap<String, Child>")]
    pub children: Vec<(At<String>, Child)>,
    /// Where keys go that start with no listed prefix.
    #[schemars(required)]
    pub default: Option<Child>,
    /// Whether children get keys without the prefix that chose them. Default
    /// false. With true, keys of two prefixes become one in a pool that both
    /// lead to.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub strip: bool,
    /// What a prefix becomes for its child, as in `{ "a:" = "b:" }`. Default:
    /// it stays as it is. Each must be one of `children`; not together with
    /// `strip`.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub rewrite: Vec<(At<String>, String)>,
}

impl Prefix {
    /// What this prefix becomes for its child, if it is not left as it is.
    pub fn replacement(&self, prefix: &str) -> Option<&str> {
        if self.strip {
            return Some("");
        }
        let mut rewrite = self.rewrite.iter();
        rewrite
            .find(|(from, _)| from.value == prefix)
            .map(|(_, to)| to.as_str())
    }
}

impl RouteSpec for Prefix {
    const SCHEMA: &'static str = "PrefixRoute";
    const DISTINCT: bool = false;

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Prefix {
        let example = "{ \"user:\" = \"a pool or a route\" }";
        let children = fields.children_by("children", example);
        let prefix = Prefix {
            children,
            default: Some(fields.child("default")),
            strip: fields.flag("strip"),
            rewrite: fields.replacements("rewrite"),
        };
        check_prefixes(&prefix, fields);
        check_rewrite(&prefix, fields);
        prefix
    }

    fn children(&self) -> Vec<&Child> {
        let listed = self.children.iter().map(|(_, child)| child);
        listed.chain(&self.default).collect()
    }
}

/// The empty prefix is every key's; that is what `default` is for.
fn check_prefixes(prefix: &Prefix, fields: &mut RouteFields<'_, '_, '_, '_>) {
    for (prefix, _) in &prefix.children {
        if prefix.value.is_empty() {
            let message = "the empty prefix is every key's";
            fields.error_hint(&prefix.span, message, "write it as `default`");
        }
    }
}

fn check_rewrite(prefix: &Prefix, fields: &mut RouteFields<'_, '_, '_, '_>) {
    let listed = || prefix.children.iter().map(|(prefix, _)| &*prefix.value);
    let known: HashSet<&str> = listed().collect();
    for (from, _) in &prefix.rewrite {
        if prefix.strip {
            fields.error_hint(
                &from.span,
                "`strip` and `rewrite` cannot stand together",
                "a prefix that becomes \"\" is stripped",
            );
            return;
        }
        if !known.contains(&*from.value) {
            let near = did_you_mean(&from.value, listed().take(1000));
            let hint = near.unwrap_or_else(|| "expected one of `children`".to_owned());
            fields.error_hint(&from.span, "this prefix is not listed", &hint);
        }
    }
}
