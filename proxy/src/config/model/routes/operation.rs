//! `type = "operation"`: what a request does to its key chooses.

use emberline_protocol::Kind;
use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};

/// What a request does to its key chooses the child.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Operation {
    /// Where requests go that leave the key as it is, such as GET. Default:
    /// `default`.
    pub reads: Option<Child>,
    /// Where requests go that store or change a value. Default: `default`.
    pub writes: Option<Child>,
    /// Where requests go that remove the key. Default: `default`, or `writes`
    /// where there is none.
    pub deletes: Option<Child>,
    /// Where requests go that add to a number. Default: `default`, or
    /// `writes` where there is none.
    pub counters: Option<Child>,
    /// Where requests go that change the expiry alone. Default: `default`, or
    /// `writes` where there is none.
    pub touches: Option<Child>,
    /// Where everything else goes, and what concerns no single key. Default:
    /// `writes`; without it both `reads` and `writes` must be there.
    pub default: Option<Child>,
}

impl Operation {
    /// Where requests of this kind go; always somewhere in a configuration
    /// without errors.
    pub fn child(&self, kind: Kind) -> Option<&Child> {
        let own = match kind {
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
            Kind::Delete => &self.deletes,
            Kind::Counter => &self.counters,
            Kind::Touch => &self.touches,
            Kind::Other => &None,
        };
        let rest = self.default.as_ref().or(self.writes.as_ref());
        own.as_ref().or(rest)
    }
}

impl RouteSpec for Operation {
    const SCHEMA: &'static str = "OperationRoute";
    const DISTINCT: bool = false;

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Operation {
        let operation = Operation {
            reads: fields.child_optional("reads"),
            writes: fields.child_optional("writes"),
            deletes: fields.child_optional("deletes"),
            counters: fields.child_optional("counters"),
            touches: fields.child_optional("touches"),
            default: fields.child_optional("default"),
        };
        let mut missing = |key| {
            let lacks = !fields.fields.has(key);
            if lacks {
                let expected = "the name of a pool or a route, or `default`".to_owned();
                fields.fields.missing(fields.reader, key, expected);
            }
        };
        if operation.default.is_none() {
            missing("reads");
            missing("writes");
        }
        operation
    }

    fn children(&self) -> Vec<&Child> {
        let groups = [&self.reads, &self.writes, &self.deletes, &self.counters];
        let rest = [&self.touches, &self.default];
        groups.into_iter().chain(rest).flatten().collect()
    }

    fn simple(&self) -> Simple<'_> {
        match (&self.default, self.children().len()) {
            (Some(default), 1) => Simple::Child(default),
            _ => Simple::Rule,
        }
    }
}
