//! `[routes.NAME]`, and routes that stand where a name may.
//!
//! A file holds one kind of route, or a few tiny ones: its keys with their
//! defaults filled in, so that whoever builds routes finds nothing optional
//! that must be there:
//!
//! ```ignore
//! match &table.rule {
//!     Rule::Failover(Failover { children, on, max_tries, .. }) => ...,
//! }
//! ```
//!
//! What a mistake leaves without a value is filled in as well; the
//! configuration is refused then and nobody looks at it.

mod big_value;
mod child;
mod choice;
mod failover;
mod fault;
mod fields;
mod gutter;
mod hash_key;
mod key;
mod l1_l2;
mod leaf;
mod limit_inflight;
mod log;
mod migrate;
mod miss_failover;
mod operation;
mod prefix;
mod rate_limit;
mod replicas;
mod shadow;
mod size_split;
mod slow_warm_up;
mod split_hot;
mod staging;
mod ttl;
mod warm_up;

use std::borrow::Cow;
use std::collections::HashSet;
use std::marker::PhantomData;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::config::read::{Fields, Reader};
use crate::config::words::Word;

pub use big_value::BigValue;
pub use child::Child;
pub(super) use child::read_child;
pub use choice::{ByClient, ByHost, Latest, LoadBalance, Random};
pub use failover::{Cause, Failover};
pub use fault::{Fault, FaultAnswer};
use fields::RouteFields;
pub use gutter::Gutter;
pub use hash_key::{HashKey, HashPart};
pub use key::Key;
pub use l1_l2::L1L2;
pub use leaf::{Error, Null};
pub use limit_inflight::LimitInflight;
pub use log::Log;
pub use migrate::Migrate;
pub use miss_failover::MissFailover;
pub use operation::Operation;
pub use prefix::Prefix;
pub use rate_limit::{Rate, RateLimit};
pub use replicas::{ReadFrom, Replicas, WaitFor};
pub use shadow::{Shadow, ShadowBy, ShadowCopy};
pub use size_split::SizeSplit;
pub use slow_warm_up::SlowWarmUp;
pub use split_hot::SplitHot;
pub use staging::Staging;
pub use ttl::Ttl;
pub use warm_up::WarmUp;

/// How deep routes may nest, in place and by name together. Nobody needs
/// more, and what walks the tree may recurse.
pub const ROUTE_DEPTH_MAX: usize = 32;

/// A route as it is written.
#[derive(Debug)]
pub struct RouteTable {
    /// What it does.
    pub rule: Rule,
    /// Where the table stands.
    pub span: Range<usize>,
}

/// What every kind of route says of itself.
trait RouteSpec: JsonSchema {
    /// What the schema calls its table.
    const SCHEMA: &'static str;
    /// Whether naming a child twice can hardly be meant.
    const DISTINCT: bool = true;

    /// Read its keys. The title, the place and the end of the table are the
    /// caller's.
    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Self;

    /// Everywhere it may send a request, in the order of its keys.
    fn children(&self) -> Vec<&Child>;

    /// What is left of it when it has nothing to decide.
    fn simple(&self) -> Simple<'_> {
        Simple::Rule
    }
}

/// What is left of a route: factories leave out those that decide nothing.
#[derive(Debug)]
pub enum Simple<'c> {
    /// The route itself.
    Rule,
    /// It sends everything to this child.
    Child(&'c Child),
    /// It has no children, and answers as `null` does.
    Null,
}

impl<'c> Simple<'c> {
    /// Of a route that chooses from a list.
    fn of_list(children: &'c [Child]) -> Simple<'c> {
        match children {
            [] => Simple::Null,
            [one] => Simple::Child(one),
            _ => Simple::Rule,
        }
    }

    /// Of a route that sends everything to `child` if it is `idle`.
    fn if_idle(idle: bool, child: &'c Child) -> Simple<'c> {
        match idle {
            true => Simple::Child(child),
            false => Simple::Rule,
        }
    }
}

/// The kinds of route: a word for `type`, and the table that goes with it.
macro_rules! rules {
    ($($name:ident $word:literal),* $(,)?) => {
        /// What a route does.
        #[derive(Debug)]
        #[allow(
            clippy::large_enum_variant,
            reason = "a few thousand at most, and read once"
        )]
        pub enum Rule { $(
            #[doc = concat!("`type = \"", $word, "\"`.")]
            $name($name),
        )* }

        /// The kinds of route.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RouteKind { $(
            #[doc = concat!("`type = \"", $word, "\"`.")]
            $name,
        )* }

        impl Word for RouteKind {
            const WHAT: &'static str = "type of route";

            fn all() -> &'static [RouteKind] {
                &[$( RouteKind::$name ),*]
            }

            fn word(self) -> &'static str {
                match self { $( RouteKind::$name => $word, )* }
            }
        }

        impl Rule {
            fn read(kind: RouteKind, fields: &mut RouteFields<'_, '_, '_, '_>) -> Rule {
                match kind { $( RouteKind::$name => Rule::$name($name::read(fields)), )* }
            }

            /// Its kind.
            pub fn kind(&self) -> RouteKind {
                match self { $( Rule::$name(_) => RouteKind::$name, )* }
            }

            /// Everywhere it may send a request, in the order of its keys.
            pub fn children(&self) -> Vec<&Child> {
                match self { $( Rule::$name(rule) => rule.children(), )* }
            }

            /// What is left of it when it has nothing to decide.
            pub fn simple(&self) -> Simple<'_> {
                match self { $( Rule::$name(rule) => rule.simple(), )* }
            }

            fn distinct(&self) -> bool {
                match self { $( Rule::$name(_) => $name::DISTINCT, )* }
            }
        }

        fn tables(generator: &mut SchemaGenerator) -> Vec<Schema> {
            vec![$( generator.subschema_for::<Typed<$name>>() ),*]
        }

        $(
            impl Worded for $name {
                const WORD: &'static str = $word;
            }
        )*
    };
}

rules! {
    Prefix "prefix",
    Operation "operation",
    Replicas "replicas",
    Failover "failover",
    Gutter "gutter",
    MissFailover "miss_failover",
    WarmUp "warm_up",
    SlowWarmUp "slow_warm_up",
    Migrate "migrate",
    Staging "staging",
    Shadow "shadow",
    SplitHot "split_hot",
    L1L2 "l1_l2",
    SizeSplit "size_split",
    BigValue "big_value",
    Ttl "ttl",
    Key "key",
    HashKey "hash_key",
    ByHost "by_host",
    ByClient "by_client",
    Random "random",
    Latest "latest",
    LoadBalance "load_balance",
    RateLimit "rate_limit",
    LimitInflight "limit_inflight",
    Fault "fault",
    Log "log",
    Null "null",
    Error "error",
}

impl Rule {
    /// Whether it answers by itself.
    pub fn is_leaf(&self) -> bool {
        matches!(self, Rule::Null(_) | Rule::Error(_))
    }
}

impl RouteTable {
    pub(super) fn read(fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> RouteTable {
        read_route(fields, 0, reader)
    }

    /// The leaf that says nothing; also what stands where a mistake left no
    /// route.
    fn null(span: Range<usize>) -> RouteTable {
        RouteTable {
            rule: Rule::Null(Null {}),
            span,
        }
    }
}

/// A route that stands `depth` routes inside another.
fn read_route(mut fields: Fields<'_, '_>, depth: usize, reader: &mut Reader<'_>) -> RouteTable {
    let span = fields.span.clone();
    // The keys of a kind that is not known cannot be told from mistakes.
    let Some(kind) = fields.required::<RouteKind>(reader, "type") else {
        return RouteTable::null(span);
    };
    let findings = reader.report.len();
    let mut fields = RouteFields {
        fields,
        reader,
        depth,
    };
    let rule = Rule::read(kind.value, &mut fields);
    fields.fields.finish(fields.reader);
    if rule.distinct() {
        warn_twice(&rule, reader);
    }
    // A list that a mistake has shortened says nothing.
    if reader.report.len() == findings {
        say_simple(&rule, &span, reader);
    }
    RouteTable { rule, span }
}

/// A child that stands in one route twice is hardly meant.
fn warn_twice(rule: &Rule, reader: &mut Reader<'_>) {
    let mut seen = HashSet::new();
    for child in rule.children() {
        if let Child::Name(name) = child
            && !seen.insert(&name.value)
        {
            let message = format!("`{}` stands in this route twice", shown(&name.value));
            reader.report.warning(&name.span, message);
        }
    }
}

fn say_simple(rule: &Rule, span: &Range<usize>, reader: &mut Reader<'_>) {
    let kind = rule.kind().word();
    match rule.simple() {
        Simple::Rule => {}
        Simple::Child(_) => {
            let message = format!("this {kind} route decides nothing: its child takes its place");
            reader.report.note(span, message);
        }
        Simple::Null => {
            let message = format!("this {kind} route has no children: it answers as `null` does");
            reader.report.warning(span, message);
        }
    }
}

/// As much of a text as a message quotes.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

impl JsonSchema for RouteTable {
    fn schema_name() -> Cow<'static, str> {
        "RouteTable".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A rule that says where requests go. `type` says which; \
                            its other keys depend on it.",
            "anyOf": tables(generator),
        })
    }
}

/// The word of a kind, for the schema.
trait Worded: RouteSpec {
    const WORD: &'static str;
}

/// The schema of a route's table, `type` included.
struct Typed<T>(PhantomData<T>);

impl<T: Worded> JsonSchema for Typed<T> {
    fn schema_name() -> Cow<'static, str> {
        T::SCHEMA.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        let said = json!({
            "description": "What kind of route it is.",
            "type": "string",
            "enum": [T::WORD],
        });
        let keys = schema.ensure_object();
        let properties = keys.entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(properties) = properties {
            properties.insert("type".to_owned(), said);
        }
        let required = keys.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            required.insert(0, "type".into());
        }
        schema
    }
}
