//! A memcached request, and what can be told from its line: how its client
//! wants a value, what it does to its key, what routes have to know.

use emberline_hotkey::Access;
use emberline_protocol::memcache::{self, Request, Verb};
use emberline_routing::Ask;

use super::access_of;
use crate::l1;
use crate::server::ask::memcached::ask_of;
use crate::server::dispatch::Request as DispatchRequest;
use crate::server::form::Form;

/// One request: its line and its data block, of which the last bytes may be
/// missing where only the line matters.
pub struct Frame<'a> {
    /// From its first byte on.
    pub bytes: &'a [u8],
    /// What the parser has found there.
    pub request: &'a Request,
}

impl<'a> Frame<'a> {
    /// Its first line.
    pub fn line(&self) -> &'a [u8] {
        self.bytes.get(..self.request.head).unwrap_or_default()
    }

    /// A copy, to be carried out step by step.
    pub fn kept(&self, key: &[u8], limits: &memcache::Limits) -> DispatchRequest {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        DispatchRequest::memcached(self.request.verb, key, bytes, limits)
    }

    /// As one of its keys is routed by. All of that is in the line: the data
    /// block may still be coming.
    pub fn ask<'k>(&self, key: &'k [u8]) -> Ask<'k> {
        ask_of(self.request, self.line(), key)
    }

    /// The data block with its line end.
    pub fn block(&self) -> &'a [u8] {
        self.bytes.get(self.request.head..).unwrap_or_default()
    }

    /// The data block without its line end.
    pub fn body(&self) -> &'a [u8] {
        let body = self.request.body.unwrap_or(0);
        self.block().get(..body).unwrap_or_default()
    }

    /// How its client wants the value, if memory can answer it.
    pub fn form(&self) -> Option<Form<'a>> {
        match self.request.verb {
            Verb::Get => Some(Form::Text { cas: false }),
            Verb::Gets => Some(Form::Text { cas: true }),
            Verb::MetaGet if l1::encode::servable(self.line()) => {
                Some(Form::Meta(self.line().into()))
            }
            _ => None,
        }
    }

    /// What it does to its key, as far as memory is concerned: an `mg` may
    /// touch, create or claim it.
    pub fn access(&self) -> Access {
        let writes = |(flag, _): (u8, &[u8])| matches!(flag, b'T' | b'N' | b'E' | b'I' | b'R');
        match self.request.verb {
            Verb::MetaGet if memcache::flags(self.line(), Verb::MetaGet).any(writes) => {
                Access::Write
            }
            verb => access_of(verb),
        }
    }

    /// Whether its reply tells of the value, though memory cannot answer it.
    pub fn tells_value(&self) -> bool {
        let value = |(flag, _)| matches!(flag, b'v' | b'c' | b'f' | b's');
        self.request.verb == Verb::MetaGet && memcache::flags(self.line(), Verb::MetaGet).any(value)
    }

    /// Append it as a server takes it: the bytes that came, but never quiet,
    /// because a connection pairs every request with one reply.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.request.quiet {
            memcache::forward(out, self.bytes, self.request);
            out.extend_from_slice(self.block());
        } else {
            out.extend_from_slice(self.bytes);
        }
    }
}
