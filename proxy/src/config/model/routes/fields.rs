//! A route's table being read: what [`Fields`] does, and children.
//!
//! Every function answers with a value, so that a route has no gaps: what was
//! left out is its default, and so is what was wrong and has been noted.

use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::{Child, read_child, shown};
use crate::config::read::{At, Fields, Reader, Scalar, in_order};
use crate::config::units::{ByteSize, Time};
use crate::config::words::Word;

/// The longest time that a route may be told.
pub const TIME_MAX: Time = Time::secs(365 * 24 * 3600);
/// The longest text that is put in front of a key or cut off; memcached keys
/// end at 250 bytes, and Redis keys of more are nobody's prefix.
const TEXT_MAX: usize = 1024;

/// A route's table being read.
pub struct RouteFields<'r, 'a, 't, 'i> {
    /// Its keys.
    pub fields: Fields<'t, 'i>,
    /// Where findings go.
    pub reader: &'r mut Reader<'a>,
    /// How many routes this one stands in.
    pub depth: usize,
}

impl<'t, 'i> RouteFields<'_, '_, 't, 'i> {
    /// The route's own place.
    pub fn span(&self) -> Range<usize> {
        self.fields.span.clone()
    }

    /// Note an error.
    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.reader.report.error(span, message);
    }

    /// Note an error and what to do about it.
    pub fn error_hint(&mut self, span: &Range<usize>, message: impl Into<String>, hint: &str) {
        let hint = Some(hint.to_owned());
        self.reader.report.error_hint(span, message, hint);
    }

    /// A child that must be there.
    pub fn child(&mut self, key: &'static str) -> Child {
        let Some(value) = self.fields.raw(key) else {
            let expected = "the name of a pool or a route".to_owned();
            self.fields.missing(self.reader, key, expected);
            return Child::null(&self.fields.span);
        };
        self.read_child(value, &self.path(key))
            .unwrap_or_else(|| Child::null(&value.span()))
    }

    /// A child that may be left out.
    pub fn child_optional(&mut self, key: &'static str) -> Option<Child> {
        let value = self.fields.raw(key)?;
        self.read_child(value, &self.path(key))
    }

    /// The list of children, which must be there.
    pub fn children(&mut self, key: &'static str) -> Vec<Child> {
        let Some(value) = self.fields.raw(key) else {
            let expected = "[\"a pool or a route\", ...]".to_owned();
            self.fields.missing(self.reader, key, expected);
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            let message = format!("`{key}` is not an array of children");
            let hint = format!("expected {key} = [\"a pool or a route\", ...]");
            self.error_hint(&value.span(), message, &hint);
            return Vec::new();
        };
        let path = self.path(key);
        let each = |(i, item)| self.read_child(item, &format!("{path}[{i}]"));
        items.iter().enumerate().filter_map(each).collect()
    }

    /// Children by what chooses them; `example` is shown where they are
    /// missing.
    pub fn children_by(&mut self, key: &'static str, example: &str) -> Vec<(At<String>, Child)> {
        let Some(value) = self.fields.raw(key) else {
            self.fields.missing(self.reader, key, example.to_owned());
            return Vec::new();
        };
        let Some((table, _)) = self.reader.table(value, &format!("`{key}`")) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in in_order(table) {
            let short: String = name.get_ref().chars().take(32).collect();
            let path = format!("{}[{short:?}]", self.fields.title.trim_matches(['[', ']']));
            let name = At::new(name.get_ref().to_string(), name.span());
            found.extend(self.read_child(value, &path).map(|child| (name, child)));
        }
        found
    }

    /// A child in a value that was found elsewhere in this table.
    pub fn read_child(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Option<Child> {
        read_child(value, path, self.depth, self.reader)
    }

    /// The path of a key, for messages about a route in it.
    pub fn path(&self, key: &str) -> String {
        self.fields.inner(key)
    }

    /// A time that may be left out.
    pub fn time(&mut self, key: &'static str, least: Time, most: Time) -> Option<At<Duration>> {
        let found = self.fields.bounded(self.reader, key, least, most)?;
        Some(At::new(found.value.0, found.span))
    }

    /// A time that has a default.
    pub fn time_or(
        &mut self,
        key: &'static str,
        least: Time,
        most: Time,
        default: Time,
    ) -> Duration {
        self.time(key, least, most).map_or(default.0, |at| at.value)
    }

    /// A share, from 0 to 1.
    pub fn share_or(&mut self, key: &'static str, default: f64) -> f64 {
        self.bounded(key, 0.0, 1.0).map_or(default, |at| at.value)
    }

    /// A number of bytes.
    pub fn size_or(
        &mut self,
        key: &'static str,
        least: ByteSize,
        most: ByteSize,
        default: ByteSize,
    ) -> u64 {
        let found = self.bounded(key, least, most);
        found.map_or(default, |at| at.value).0
    }

    /// A number that may be left out.
    pub fn bounded<T: Scalar + PartialOrd + Copy + Display>(
        &mut self,
        key: &'static str,
        least: T,
        most: T,
    ) -> Option<At<T>> {
        self.fields.bounded(self.reader, key, least, most)
    }

    /// Whether something is to be done; by default it is not.
    pub fn flag(&mut self, key: &'static str) -> bool {
        let found = self.fields.optional(self.reader, key);
        found.is_some_and(|at| at.value)
    }

    /// One of a closed set of words.
    pub fn word_or<T: Word>(&mut self, key: &'static str, default: T) -> T {
        let found = self.fields.optional(self.reader, key);
        found.map_or(default, |at| at.value)
    }

    /// Several of a closed set of words, each once.
    pub fn words<T: Word + PartialEq>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let listed = self.fields.list::<T>(self.reader, key)?;
        let mut words = Vec::new();
        for word in listed.value {
            match words.contains(&word.value) {
                true => {
                    let message = format!("\"{}\" stands in `{key}` twice", word.value.word());
                    self.reader.report.warning(&word.span, message);
                }
                false => words.push(word.value),
            }
        }
        Some(words)
    }

    /// A part of a key: 1 to 1024 bytes.
    pub fn key_part(&mut self, key: &'static str) -> Option<At<String>> {
        let found = self.fields.optional::<String>(self.reader, key)?;
        self.check_part(key, &found).then_some(found)
    }

    /// What parts of a key become: `{ "a:" = "b:" }`.
    pub fn replacements(&mut self, key: &'static str) -> Vec<(At<String>, String)> {
        let Some((table, _)) = self.fields.table(self.reader, key) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (from, to) in in_order(table) {
            let from = At::new(from.get_ref().to_string(), from.span());
            let Some(to) = self
                .reader
                .scalar::<String>(to, &format!("a value of `{key}`"))
            else {
                continue;
            };
            // The empty text is a fine thing to become.
            let to_is_fine = to.value.is_empty() || self.check_part(key, &to);
            if self.check_part(key, &from) && to_is_fine {
                found.push((from, to.value));
            }
        }
        found
    }

    /// Keys travel in lines: memcached's end at a blank or a line break.
    fn check_part(&mut self, key: &str, part: &At<String>) -> bool {
        let message = match part.value.len() {
            0 => format!("`{key}` has an empty text, which every key begins and ends with"),
            n if n > TEXT_MAX => {
                format!("`{key}` has a text of {n} bytes, expected at most {TEXT_MAX}")
            }
            _ if part.value.chars().any(|c| c.is_control() || c == ' ') => {
                let text = shown(&part.value).escape_debug().to_string();
                format!("`{key}` has \"{text}\": keys hold no blanks and no control characters")
            }
            _ => return true,
        };
        self.error(&part.span, message);
        false
    }
}
