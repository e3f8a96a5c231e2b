//! Where a route sends what it has chosen.

use std::borrow::Cow;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::leaf::Error;
use super::{ROUTE_DEPTH_MAX, RouteTable, Rule, read_route};
use crate::config::read::{At, Fields, Reader, Refusal, Scalar};

/// Where a route sends what it has chosen.
#[derive(Debug)]
pub enum Child {
    /// To a pool or a route that is defined elsewhere.
    Name(At<String>),
    /// To a route that is written right here; the words "null" and "error"
    /// are such routes too.
    Inline(Box<RouteTable>),
}

impl Child {
    /// Names that pools and routes may not have, because they are leaves.
    pub const WORDS: [&'static str; 2] = ["null", "error"];

    /// Where it stands.
    pub fn span(&self) -> &Range<usize> {
        match self {
            Child::Name(name) => &name.span,
            Child::Inline(table) => &table.span,
        }
    }

    /// The name of what it refers to.
    pub fn name(&self) -> Option<&At<String>> {
        match self {
            Child::Name(name) => Some(name),
            Child::Inline(_) => None,
        }
    }

    /// The route that is written here, if it is one.
    pub fn table(&self) -> Option<&RouteTable> {
        match self {
            Child::Name(_) => None,
            Child::Inline(table) => Some(table),
        }
    }

    /// The leaf that answers with nothing; also what stands where a mistake
    /// left no child.
    pub(super) fn null(span: &Range<usize>) -> Child {
        Child::Inline(Box::new(RouteTable::null(span.clone())))
    }

    /// The leaf that answers with an error.
    pub(super) fn error(span: &Range<usize>) -> Child {
        Child::Inline(Box::new(RouteTable {
            rule: Rule::Error(Error::default()),
            span: span.clone(),
        }))
    }

    fn named(name: At<String>) -> Child {
        match name.value.as_str() {
            "null" => Child::null(&name.span),
            "error" => Child::error(&name.span),
            _ => Child::Name(name),
        }
    }
}

impl JsonSchema for Child {
    fn schema_name() -> Cow<'static, str> {
        "Child".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<RouteTable>();
        json_schema!({
            "description": "The name of a pool or of a route, or a route in place. \
                            \"null\" answers with nothing, \"error\" with an error.",
            "anyOf": [{ "type": "string" }, table],
        })
    }
}

/// A name, or a route in place, `depth` routes inside another.
pub(in crate::config::model) fn read_child(
    value: &Spanned<DeValue<'_>>,
    title: &str,
    depth: usize,
    reader: &mut Reader<'_>,
) -> Option<Child> {
    let DeValue::Table(table) = value.get_ref() else {
        let name = reader.scalar::<ChildName>(value, "a child")?;
        return Some(Child::named(At::new(name.value.0, name.span)));
    };
    if depth >= ROUTE_DEPTH_MAX {
        let message = format!("routes nest deeper than {ROUTE_DEPTH_MAX}");
        reader.report.error(&value.span(), message);
        return None;
    }
    let fields = Fields::new(table, value.span(), title);
    let route = read_route(fields, depth + 1, reader);
    Some(Child::Inline(Box::new(route)))
}

/// A string whose kind is described as what it names.
struct ChildName(String);

impl Scalar for ChildName {
    fn expected() -> String {
        "the name of a pool or a route, or a route in place".to_owned()
    }

    fn from_text(text: &str) -> Result<ChildName, Refusal> {
        Ok(ChildName(text.to_owned()))
    }
}
