//! `type = "shadow"`: copies of requests that nobody waits for.

use schemars::JsonSchema;
use toml::Spanned;
use toml::de::DeValue;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};
use crate::config::read::Fields;
use crate::config::words::{Word, word_schema};

/// The default of a copy's `share`.
pub const SHARE: f64 = 1.0;

/// The main child answers; others get a share of the requests as well, and
/// their replies are thrown away.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Shadow {
    /// The child that answers.
    pub main: Child,
    /// Who gets copies, and how many.
    pub copies: Vec<ShadowCopy>,
}

/// Where copies go, and of which requests.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ShadowCopy {
    /// Where the copies go. It can neither delay nor fail the client; it does
    /// cost the proxy the same work again.
    pub route: Child,
    /// The share that is copied, 0 to 1. Default 1.0, everything; 0 switches
    /// the copies off.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = SHARE))]
    pub share: f64,
    /// What the share is of. "key": of the keys, the same ones always, so
    /// that reads there find what was written; the default. "request": of the
    /// requests, at random.
    #[schemars(default, schema_with = "word_schema::<ShadowBy>", extend("default" = "key"))]
    pub by: ShadowBy,
}

/// What a share is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShadowBy {
    /// Of the keys.
    #[default]
    Key,
    /// Of the requests.
    Request,
}

impl Word for ShadowBy {
    const WHAT: &'static str = "choice of what is copied";

    fn all() -> &'static [ShadowBy] {
        &[ShadowBy::Key, ShadowBy::Request]
    }

    fn word(self) -> &'static str {
        match self {
            ShadowBy::Key => "key",
            ShadowBy::Request => "request",
        }
    }
}

impl RouteSpec for Shadow {
    const SCHEMA: &'static str = "ShadowRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Shadow {
        let main = fields.child("main");
        let copies = match fields.fields.raw("copies") {
            Some(value) => read_copies(value, fields),
            None => {
                let expected = "[{ route = \"a pool or a route\", share = 0.1 }]".to_owned();
                fields.fields.missing(fields.reader, "copies", expected);
                Vec::new()
            }
        };
        Shadow { main, copies }
    }

    fn children(&self) -> Vec<&Child> {
        let copies = self.copies.iter().map(|copy| &copy.route);
        std::iter::once(&self.main).chain(copies).collect()
    }

    fn simple(&self) -> Simple<'_> {
        Simple::if_idle(self.copies.is_empty(), &self.main)
    }
}

fn read_copies(
    value: &Spanned<DeValue<'_>>,
    fields: &mut RouteFields<'_, '_, '_, '_>,
) -> Vec<ShadowCopy> {
    let DeValue::Array(items) = value.get_ref() else {
        let message = "`copies` is not an array of tables";
        let hint = "expected copies = [{ route = \"a pool or a route\", share = 0.1 }]";
        fields.error_hint(&value.span(), message, hint);
        return Vec::new();
    };
    let path = fields.path("copies");
    let mut copies = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let Some((table, span)) = fields.reader.table(item, "an element of `copies`") else {
            continue;
        };
        let mut inner = RouteFields {
            fields: Fields::new(table, span, format!("{path}[{i}]")),
            reader: &mut *fields.reader,
            depth: fields.depth,
        };
        copies.push(ShadowCopy {
            route: inner.child("route"),
            share: inner.share_or("share", SHARE),
            by: inner.word_or("by", ShadowBy::Key),
        });
        inner.fields.finish(inner.reader);
    }
    copies
}
