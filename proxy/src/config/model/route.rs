//! `[routes.NAME]`, and routes that stand where a name may.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use crate::config::read::{At, Fields, Reader, Refusal, Scalar, in_order};
use crate::config::words::{Word, word_schema};

/// How deep routes may nest, in place and by name together. Nobody needs
/// more, and what walks the tree may recurse.
pub const ROUTE_DEPTH_MAX: usize = 32;

/// A rule that chooses between pools.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RouteTable {
    /// What kind of rule it is. "prefix": the longest listed prefix of the
    /// key chooses the child.
    #[schemars(rename = "type", required, schema_with = "word_schema::<RouteKind>")]
    pub kind: Option<At<RouteKind>>,
    /// By key prefix, the name of a pool or of a route, or a route in place.
    #[schemars(required, with = "BTreeMap<String, Child>")]
    pub children: Vec<(At<String>, Child)>,
    /// Where keys go that start with no listed prefix.
    #[schemars(required)]
    pub default: Option<Child>,
    /// Where the table stands.
    #[schemars(skip)]
    pub span: Range<usize>,
}

/// The kinds of rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// By key prefix.
    Prefix,
}

impl Word for RouteKind {
    const WHAT: &'static str = "type of route";

    fn all() -> &'static [RouteKind] {
        &[RouteKind::Prefix]
    }

    fn word(self) -> &'static str {
        "prefix"
    }
}

/// Where a route sends what it has chosen.
#[derive(Debug)]
pub enum Child {
    /// To a pool or a route that is defined elsewhere.
    Name(At<String>),
    /// To a route that is written right here.
    Inline(Box<RouteTable>),
}

impl JsonSchema for Child {
    fn schema_name() -> Cow<'static, str> {
        "Child".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<RouteTable>();
        json_schema!({
            "description": "The name of a pool or of a route, or a route in place.",
            "anyOf": [{ "type": "string" }, table],
        })
    }
}

impl RouteTable {
    pub(super) fn read(fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> RouteTable {
        read_route(fields, 0, reader)
    }
}

fn read_route(mut fields: Fields<'_, '_>, depth: usize, reader: &mut Reader<'_>) -> RouteTable {
    let title = fields.title.trim_matches(['[', ']']).to_owned();
    let mut table = RouteTable {
        kind: fields.required(reader, "type"),
        span: fields.span.clone(),
        ..RouteTable::default()
    };
    // The keys of a kind that is not known cannot be told from mistakes.
    if table.kind.is_none() {
        return table;
    }
    match fields.raw("children") {
        Some(value) => {
            if let Some((children, _)) = reader.table(value, "`children`") {
                for (key, value) in in_order(children) {
                    let prefix = At::new(key.get_ref().to_string(), key.span());
                    let shown: String = prefix.value.chars().take(32).collect();
                    let inner = format!("{title}[{shown:?}]");
                    let child = read_child(value, &inner, depth, reader);
                    table.children.extend(child.map(|child| (prefix, child)));
                }
            }
        }
        None => {
            let example = "{ \"user:\" = \"a pool or a route\" }".to_owned();
            fields.missing(reader, "children", example);
        }
    }
    match fields.raw("default") {
        Some(value) => {
            let inner = format!("{title}.default");
            table.default = read_child(value, &inner, depth, reader);
        }
        None => fields.missing(
            reader,
            "default",
            "the name of a pool or a route".to_owned(),
        ),
    }
    fields.finish(reader);
    table
}

/// A name, or a route in place, `depth` routes inside another.
pub(super) fn read_child(
    value: &Spanned<DeValue<'_>>,
    title: &str,
    depth: usize,
    reader: &mut Reader<'_>,
) -> Option<Child> {
    let DeValue::Table(table) = value.get_ref() else {
        return reader.scalar::<ChildName>(value, "a child").map(|name| {
            let At { value, span } = name;
            Child::Name(At::new(value.0, span))
        });
    };
    if depth >= ROUTE_DEPTH_MAX {
        let message = format!("routes nest deeper than {ROUTE_DEPTH_MAX}");
        reader.report.error(&value.span(), message);
        return None;
    }
    let fields = Fields::new(table, value.span(), title);
    Some(Child::Inline(Box::new(read_route(
        fields,
        depth + 1,
        reader,
    ))))
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
