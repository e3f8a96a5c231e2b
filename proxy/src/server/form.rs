//! How a client asked for a value, and so how it wants it back.

use std::borrow::Cow;

use emberline_hotkey::Value;
use emberline_protocol::memcache::{self, Verb};
use emberline_protocol::redis::encode;

use super::gather::Wire;
use super::pipeline::Shape;
use crate::l1;

/// A read of one key that memory can answer.
#[derive(Clone, Debug)]
pub enum Form<'a> {
    /// Redis `GET`.
    Bulk,
    /// One key of an `MGET`: an array of one.
    Element,
    /// memcached `get`, or `gets` with the unique number; the key alone, or
    /// one of several.
    Text {
        /// Whether it is `gets`.
        cas: bool,
    },
    /// memcached `mg`: its line.
    Meta(Cow<'a, [u8]>),
}

impl Form<'_> {
    /// The same, to be kept.
    pub fn into_owned(self) -> Form<'static> {
        match self {
            Form::Bulk => Form::Bulk,
            Form::Element => Form::Element,
            Form::Text { cas } => Form::Text { cas },
            Form::Meta(line) => Form::Meta(Cow::Owned(line.into_owned())),
        }
    }

    /// Whether it is one of memcached's text protocol, which does not say that
    /// an item is nothing but a lease.
    pub fn is_text(&self) -> bool {
        matches!(self, Form::Text { .. })
    }

    /// Whether a copy on another server has the same answer: not to what asks
    /// for the unique number, which is each server's own. An element of several
    /// values has a shape of its own.
    pub fn is_copied(&self) -> bool {
        match self {
            Form::Bulk | Form::Text { cas: false } => true,
            Form::Element | Form::Text { cas: true } => false,
            Form::Meta(line) => memcache::flags(line, Verb::MetaGet).all(|(flag, _)| flag != b'c'),
        }
    }

    /// How its reply becomes what the client sees.
    pub fn shape(&self) -> Shape {
        match self {
            Form::Meta(line) if is_quiet(line) => Shape::Quiet(Verb::MetaGet),
            _ => Shape::Plain,
        }
    }

    /// Append the reply that says that `key` has this value.
    pub fn write(&self, key: &[u8], value: &Value, wire: Wire, out: &mut Vec<u8>) {
        match self {
            Form::Bulk => bulk(value, wire, out),
            Form::Element => {
                encode::array(out, 1);
                bulk(value, wire, out);
            }
            Form::Text { cas } => {
                match cas {
                    false => l1::encode::get(out, key, value),
                    true => l1::encode::gets(out, key, value),
                }
                memcache::encode::end(out);
            }
            Form::Meta(line) => l1::encode::meta(out, line, key, value),
        }
    }

    /// Append the request that asks a server for `key`.
    pub fn ask(&self, key: &[u8], out: &mut Vec<u8>) {
        match self {
            Form::Bulk => encode::command(out, [b"GET".as_slice(), key].into_iter()),
            Form::Element => encode::command(out, [b"MGET".as_slice(), key].into_iter()),
            Form::Text { cas } => {
                out.extend_from_slice(if *cas { b"gets " } else { b"get " });
                out.extend_from_slice(key);
                out.extend_from_slice(b"\r\n");
            }
            // Never quietly: a connection pairs every request with a reply.
            Form::Meta(line) => {
                let words = memcache::tokens(line).enumerate();
                for (at, word) in words.filter(|(at, word)| *at < 2 || *word != b"q") {
                    if at > 0 {
                        out.push(b' ');
                    }
                    out.extend_from_slice(word);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

fn is_quiet(line: &[u8]) -> bool {
    memcache::flags(line, Verb::MetaGet).any(|(flag, _)| flag == b'q')
}

fn bulk(value: &Value, wire: Wire, out: &mut Vec<u8>) {
    match value {
        Value::Redis(bytes) => bytes.write_to(out),
        // The item of another protocol's pool cannot come here.
        Value::Missing | Value::Memcached { .. } => encode::null(out, wire.version()),
    }
}
