//! From parsed TOML to typed values, noting every mistake on the way.
//!
//! `serde` would stop at the first error; a user wants all of them. So tables
//! are read key by key: [`Fields`] hands out the values that are asked for,
//! each mistake becomes a diagnostic and the reading goes on, and what nobody
//! asked for is an unknown key. Every value keeps its place in the text, for
//! the checks that come later.

use std::ops::{Deref, Range};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml::value::Datetime;

use super::expand::expand;
use super::report::Report;
use super::suggest::did_you_mean;
use super::units::{ByteSize, Moment, Time};
use crate::config::model::{Nameserver, Place};
use crate::running::{Address, Bind};

/// Names that a hint lists; more would not be read.
const CHOICE_MAX: usize = 9;

/// A value and its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Byte offsets in the text.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// A value that stands at this place.
    pub fn new(value: T, span: Range<usize>) -> At<T> {
        At { value, span }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// What reading needs, and where its findings go.
pub struct Reader<'a> {
    /// The findings.
    pub report: &'a mut Report,
    /// Environment variables by name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A table being read.
pub struct Fields<'t, 'i> {
    table: &'t DeTable<'i>,
    /// The table's place: its header.
    pub span: Range<usize>,
    /// What it is called in messages: `[pools.sessions]`.
    pub title: String,
    asked: Vec<&'static str>,
}

impl<'t, 'i> Fields<'t, 'i> {
    /// Begin to read a table.
    pub fn new(table: &'t DeTable<'i>, span: Range<usize>, title: impl Into<String>) -> Self {
        Fields {
            table,
            span,
            title: title.into(),
            asked: Vec::new(),
        }
    }

    /// The value of a key as it was parsed.
    pub fn raw(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// Whether a key is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key that may be left out.
    pub fn optional<T: Scalar>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<At<T>> {
        let value = self.raw(key)?;
        reader.scalar(value, &format!("`{key}`"))
    }

    /// A name that may be left out, of those that logs and metrics can show.
    pub fn name(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<At<String>> {
        let found = self.optional::<String>(reader, key)?;
        match check_name(&found.value) {
            Ok(()) => Some(found),
            Err(message) => {
                reader.report.error(&found.span, message);
                None
            }
        }
    }

    /// The value of a key that must be there.
    pub fn required<T: Scalar>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<At<T>> {
        if !self.table.contains_key(key) {
            self.asked.push(key);
            self.missing(reader, key, T::expected());
            return None;
        }
        self.optional(reader, key)
    }

    /// Note that a key is missing.
    pub fn missing(&self, reader: &mut Reader<'_>, key: &str, expected: String) {
        reader.report.error_hint(
            &self.span,
            format!("`{key}` is missing in {}", self.title),
            Some(format!("expected {key} = {expected}")),
        );
    }

    /// A number within these bounds, in words for the message.
    pub fn bounded<T: Scalar + PartialOrd + Copy + std::fmt::Display>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        least: T,
        most: T,
    ) -> Option<At<T>> {
        let found = self.optional::<T>(reader, key)?;
        // Written so that NaN, which compares with nothing, is refused.
        if !(least..=most).contains(&found.value) {
            let message = format!("`{key}` is {}, expected {least} to {most}", found.value);
            reader.report.error(&found.span, message);
            return None;
        }
        Some(found)
    }

    /// Note a key that has its place in another table, if it is here.
    pub fn elsewhere(&mut self, reader: &mut Reader<'_>, key: &'static str, place: &str) {
        let Some((written, _)) = self.table.get_key_value(key) else {
            return;
        };
        self.asked.push(key);
        reader.report.error_hint(
            &written.span(),
            format!("unknown key `{key}` in {}", self.title),
            Some(format!("it is one for all pools and stands in {place}")),
        );
    }

    /// The list of a key that may be left out; elements that are wrong are
    /// noted and left out.
    pub fn list<T: Scalar>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<At<Vec<At<T>>>> {
        let value = self.raw(key)?;
        Some(At::new(reader.list(value, key), value.span()))
    }

    /// The tables of an array such as `[[hotkey.rules]]`; elements that are
    /// none are noted and left out.
    pub fn tables<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        read: fn(Fields<'t, 'i>, &mut Reader<'_>) -> T,
    ) -> Option<At<Vec<T>>> {
        let value = self.raw(key)?;
        let title = format!("[[{}]]", self.inner(key));
        let DeValue::Array(items) = value.get_ref() else {
            let kind = article(value.get_ref().type_str());
            let message = format!("`{key}` is {kind}, expected an array of tables, {title}");
            reader.report.error(&value.span(), message);
            return None;
        };
        let mut found = Vec::new();
        for item in items {
            if let Some((table, span)) = reader.table(item, &format!("an element of `{key}`")) {
                found.push(read(Fields::new(table, span, title.clone()), reader));
            }
        }
        Some(At::new(found, value.span()))
    }

    /// The path of a table that stands in this one: `pools.sessions.l1`.
    pub fn inner(&self, key: &str) -> String {
        match self.title.trim_matches(['[', ']']) {
            "the file" => key.to_owned(),
            outer => format!("{outer}.{key}"),
        }
    }

    /// A table by its key.
    pub fn table(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<(&'t DeTable<'i>, Range<usize>)> {
        let value = self.raw(key)?;
        reader.table(value, &format!("`{key}`"))
    }

    /// Note every key that nobody asked for.
    pub fn finish(self, reader: &mut Reader<'_>) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                let known = self.asked.iter().copied();
                let hint = match reader.report.is_full() {
                    true => None,
                    false => did_you_mean(name, known).or_else(|| self.choice()),
                };
                let message = format!("unknown key `{name}` in {}", self.title);
                reader.report.error_hint(&key.span(), message, hint);
            }
        }
    }

    /// What a small table may hold, when nothing in it comes close.
    fn choice(&self) -> Option<String> {
        let few = self.asked.len() <= CHOICE_MAX && !self.asked.is_empty();
        few.then(|| format!("expected {}", self.asked.join(", ")))
    }
}

impl Reader<'_> {
    /// A single value, its environment variables filled in; `what` it is
    /// called in messages.
    pub fn scalar<T: Scalar>(&mut self, value: &Spanned<DeValue<'_>>, what: &str) -> Option<At<T>> {
        let span = value.span();
        let read = match value.get_ref() {
            DeValue::String(text) => match expand(text, self.variable) {
                Ok(text) => T::from_text(&text),
                Err(message) => Err(Refusal::because(message)),
            },
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => T::from_integer(number),
                    Err(_) => Err(Refusal::because("this number is too large".to_owned())),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => T::from_float(number),
                Err(_) => Err(Refusal::because("this is not a number".to_owned())),
            },
            DeValue::Boolean(truth) => T::from_bool(*truth),
            DeValue::Datetime(moment) => T::from_datetime(moment),
            _ => Err(Refusal::Kind),
        };
        match read {
            Ok(read) => Some(At::new(read, span)),
            Err(Refusal::Kind) => {
                let (kind, expected) = (article(value.get_ref().type_str()), T::expected());
                let message = format!("{what} is {kind}, expected {expected}");
                self.report.error(&span, message);
                None
            }
            Err(Refusal::Value { message, hint }) => {
                self.report.error_hint(&span, message, hint);
                None
            }
        }
    }

    /// A table.
    pub fn table<'t, 'i>(
        &mut self,
        value: &'t Spanned<DeValue<'i>>,
        what: &str,
    ) -> Option<(&'t DeTable<'i>, Range<usize>)> {
        match value.get_ref() {
            DeValue::Table(table) => Some((table, value.span())),
            other => {
                let kind = article(other.type_str());
                let message = format!("{what} is {kind}, expected a table");
                self.report.error(&value.span(), message);
                None
            }
        }
    }

    /// The elements of an array of single values; those that are wrong are
    /// noted and left out.
    pub fn list<T: Scalar>(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Vec<At<T>> {
        match value.get_ref() {
            DeValue::Array(items) => {
                let what = format!("an element of `{key}`");
                let read = |item| self.scalar(item, &what);
                items.iter().filter_map(read).collect()
            }
            other => {
                let (kind, expected) = (article(other.type_str()), T::expected());
                let message = format!("`{key}` is {kind}, expected an array, each {expected}");
                self.report.error(&value.span(), message);
                Vec::new()
            }
        }
    }

    /// The tables inside a table such as `[pools]`, by their names.
    pub fn named<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        group: &str,
    ) -> Vec<(At<String>, Fields<'t, 'i>)> {
        let mut found = Vec::new();
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            let title = format!("[{group}.{name}]");
            let Some((inner, span)) = self.table(value, &title) else {
                continue;
            };
            if let Err(message) = check_name(name) {
                self.report.error(&key.span(), message);
            }
            let name = At::new(name.to_owned(), key.span());
            found.push((name, Fields::new(inner, span, title)));
        }
        found
    }
}

/// Names stand in logs, metrics and addresses of the admin API.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(format!(
            "\"{}\" cannot be a name: use at most 64 letters, digits, `_`, `-` and `.`",
            name.chars().take(64).collect::<String>().escape_debug()
        ));
    }
    Ok(())
}

fn article(kind: &str) -> String {
    match kind {
        "integer" | "array" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// Why a value is not taken.
pub enum Refusal {
    /// It is a number where a text is wanted, or the like.
    Kind,
    /// The value itself is wrong.
    Value {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

impl Refusal {
    fn because(message: String) -> Refusal {
        Refusal::Value {
            message,
            hint: None,
        }
    }
}

/// What a single TOML value can become.
pub trait Scalar: Sized {
    /// What to write, in words: "a string", "a number".
    fn expected() -> String;

    /// From a string.
    fn from_text(_: &str) -> Result<Self, Refusal> {
        Err(Refusal::Kind)
    }

    /// From an integer.
    fn from_integer(_: i64) -> Result<Self, Refusal> {
        Err(Refusal::Kind)
    }

    /// From a number with a fraction.
    fn from_float(_: f64) -> Result<Self, Refusal> {
        Err(Refusal::Kind)
    }

    /// From `true` or `false`.
    fn from_bool(_: bool) -> Result<Self, Refusal> {
        Err(Refusal::Kind)
    }

    /// From a date with a time.
    fn from_datetime(_: &Datetime) -> Result<Self, Refusal> {
        Err(Refusal::Kind)
    }
}

impl Scalar for String {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn from_text(text: &str) -> Result<String, Refusal> {
        Ok(text.to_owned())
    }
}

impl Scalar for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_bool(truth: bool) -> Result<bool, Refusal> {
        Ok(truth)
    }
}

impl Scalar for f64 {
    fn expected() -> String {
        "a number".to_owned()
    }

    fn from_integer(number: i64) -> Result<f64, Refusal> {
        Ok(number as f64)
    }

    fn from_float(number: f64) -> Result<f64, Refusal> {
        Ok(number)
    }
}

macro_rules! whole_number {
    ($($kind:ty),*) => { $(
        impl Scalar for $kind {
            fn expected() -> String {
                "a whole number".to_owned()
            }

            fn from_integer(number: i64) -> Result<$kind, Refusal> {
                <$kind>::try_from(number).map_err(|_| {
                    Refusal::because(format!("{number} is not a number from 0 to {}", <$kind>::MAX))
                })
            }
        }
    )* };
}

whole_number!(u16, u32, u64, usize);

macro_rules! written {
    ($($kind:ty: $expected:literal),* $(,)?) => { $(
        impl Scalar for $kind {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn from_text(text: &str) -> Result<$kind, Refusal> {
                text.parse().map_err(Refusal::because)
            }
        }
    )* };
}

written! {
    Time: "a time such as \"250ms\"",
    Address: "an address such as \"10.0.0.1:6379\"",
    Nameserver: "a nameserver such as \"10.0.0.2\" or \"10.0.0.2:53\"",
    Place: "an address such as \"10.0.0.1:6379\"",
    Bind: "an address such as \"127.0.0.1:6379\" or \"unix:/path\"",
}

impl Scalar for Moment {
    fn expected() -> String {
        "a moment such as \"2027-01-01T00:00:00Z\"".to_owned()
    }

    fn from_text(text: &str) -> Result<Moment, Refusal> {
        text.parse().map_err(Refusal::because)
    }

    fn from_datetime(moment: &Datetime) -> Result<Moment, Refusal> {
        Moment::new(moment).map_err(Refusal::because)
    }
}

impl Scalar for ByteSize {
    fn expected() -> String {
        "a size such as \"64MiB\"".to_owned()
    }

    fn from_text(text: &str) -> Result<ByteSize, Refusal> {
        text.parse().map_err(Refusal::because)
    }

    fn from_integer(number: i64) -> Result<ByteSize, Refusal> {
        let bytes = u64::try_from(number).map(ByteSize);
        bytes.map_err(|_| Refusal::because(format!("{number} is not a number of bytes")))
    }
}

/// A key and its value, in the order of the text.
pub fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
