//! How a client asked for a value, and so how it wants it back.

use std::borrow::Cow;

use emberline_hotkey::Value;
use emberline_protocol::memcache;
use emberline_protocol::redis::encode;

use super::gather::Wire;

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

    /// Append the reply that says that `key` has this value.
    pub fn write(&self, key: &[u8], value: &Value, wire: Wire, out: &mut Vec<u8>) {
        match self {
            Form::Bulk => bulk(value, wire, out),
            Form::Element => {
                encode::array(out, 1);
                bulk(value, wire, out);
            }
            Form::Text { cas } => {
                let _ = (key, cas);
                memcache::encode::end(out);
            }
            Form::Meta(_) => {}
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
            Form::Meta(line) => out.extend_from_slice(line),
        }
    }
}

fn bulk(value: &Value, wire: Wire, out: &mut Vec<u8>) {
    match value {
        Value::Redis(bytes) => out.extend_from_slice(bytes),
        // The item of another protocol's pool cannot come here.
        Value::Missing | Value::Memcached { .. } => encode::null(out, wire.version()),
    }
}
