//! `type = "hash_key"`: only a part of the key decides its server.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec};

/// The default of `stop`.
pub const STOP: &str = "|#|";

/// Only a part of the key is hashed by the pools below, so that keys which
/// share it share a server.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HashKey {
    /// Where requests go; its pools' own `hash_tag` looks at the part alone.
    pub child: Child,
    /// What ends the part that is hashed; a key without it is hashed whole.
    /// Default "|#|". Not together with `delimiter`.
    #[schemars(with = "Option<String>", extend("default" = STOP))]
    pub stop: Option<String>,
    /// What stands between the parts of a key, as ":" in `user:17:name`.
    /// Default: none. `index` says which of them is hashed; a key that lacks
    /// it is hashed whole.
    pub delimiter: Option<String>,
    /// Which part is hashed, from 0; at most 64. Default 0. Has a meaning
    /// with `delimiter` alone.
    #[schemars(with = "Option<usize>", range(max = 64), extend("default" = 0))]
    pub index: usize,
}

/// The part of a key that is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashPart<'a> {
    /// What stands in front of this text.
    Before(&'a str),
    /// The part with this number, from 0, between delimiters.
    Between(&'a str, usize),
}

impl HashKey {
    /// The part of a key that is hashed.
    pub fn part(&self) -> HashPart<'_> {
        match &self.delimiter {
            Some(delimiter) => HashPart::Between(delimiter, self.index),
            None => HashPart::Before(self.stop.as_deref().unwrap_or(STOP)),
        }
    }
}

impl RouteSpec for HashKey {
    const SCHEMA: &'static str = "HashKeyRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> HashKey {
        let (stop, delimiter) = (fields.key_part("stop"), fields.key_part("delimiter"));
        let index = fields.bounded("index", 0, 64);
        if let (Some(stop), Some(_)) = (&stop, &delimiter) {
            let message = "`stop` and `delimiter` cannot stand together";
            fields.error(&stop.span, message);
        }
        if let (Some(index), None) = (&index, &delimiter) {
            let message = "`index` has no meaning without `delimiter`";
            fields.error(&index.span, message);
        }
        HashKey {
            child: fields.child("child"),
            stop: stop.map(|at| at.value),
            delimiter: delimiter.map(|at| at.value),
            index: index.map_or(0, |at| at.value),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }
}
