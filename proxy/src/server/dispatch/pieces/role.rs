//! What a request and its reply have to do with pieces, in either protocol.

use std::ops::Range;

use emberline_protocol::memcache::Verb;
use emberline_routing::routes::BigValue;

use super::super::Request;
use super::super::request::What;
use super::head::MAGIC;
use super::{memcached, redis};

/// What a request has to do with a value that may be in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing: a head is as good.
    Nothing,
    /// Its reply has the value, or tells of it.
    Reads,
    /// It brings a value that takes the place of another.
    Writes {
        /// Where in the request.
        value: Range<usize>,
        /// Its reply has the old value.
        tells: bool,
    },
    /// It works on a part of the value, which is not to be had.
    Refused,
}

/// A request, as far as pieces are concerned.
impl Request {
    /// Whether it is a matter of more than the key itself.
    pub(in super::super) fn concerns_pieces(&self, route: &BigValue) -> bool {
        match self.role() {
            Role::Nothing => false,
            Role::Reads | Role::Refused => true,
            Role::Writes { value, tells } => tells || self.is_taken_apart(&value, route),
        }
    }

    pub(super) fn is_taken_apart(&self, value: &Range<usize>, route: &BigValue) -> bool {
        value.len() > route.chunk() || self.part(value).starts_with(&MAGIC)
    }

    pub(super) fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn role(&self) -> Role {
        match &self.what {
            What::Redis(command) => redis::role(command, &self.bytes),
            What::Memcached { verb, limits } => memcached::role(*verb, &self.bytes, limits),
        }
    }

    /// The request whose reply tells what this one wants to know.
    pub(super) fn asking(&self) -> Option<Request> {
        let made = match &self.what {
            What::Redis(command) => redis::ask(command, &self.bytes)
                .map(|(command, bytes)| Request::redis(command, self.key(), bytes)),
            What::Memcached { verb, limits } => memcached::ask(*verb, &self.bytes)
                .map(|bytes| Request::memcached(*verb, self.key(), bytes, limits)),
        };
        Some(made.unwrap_or_else(|| self.clone()))
    }

    /// This request with a head in the place of its value.
    pub(super) fn headed(&self, head: &[u8]) -> Option<Request> {
        match &self.what {
            What::Redis(command) => {
                let (command, bytes) = redis::headed(command, &self.bytes, head)?;
                Some(Request::redis(command, self.key(), bytes))
            }
            What::Memcached { verb, limits } => {
                let bytes = memcached::headed(*verb, &self.bytes, limits, head)?;
                Some(Request::memcached(*verb, self.key(), bytes, limits))
            }
        }
    }

    /// The write of a piece: these of this request's bytes.
    pub(super) fn storing(&self, key: &[u8], piece: &Range<usize>) -> Option<Request> {
        let piece = self.bytes.get(piece.clone())?;
        match &self.what {
            What::Redis(command) => {
                let (command, bytes) = redis::store(command, &self.bytes, key, piece)?;
                Some(Request::redis(command, key, bytes))
            }
            What::Memcached { verb, limits } => {
                let bytes = memcached::store(*verb, &self.bytes, limits, key, piece)?;
                Some(Request::memcached(Verb::Set, key, bytes, limits))
            }
        }
    }

    /// The read of a piece.
    pub(super) fn fetching(&self, key: &[u8]) -> Option<Request> {
        match &self.what {
            What::Redis(_) => {
                let (command, bytes) = redis::fetch(key)?;
                Some(Request::redis(command, key, bytes))
            }
            What::Memcached { limits, .. } => {
                let bytes = memcached::fetch(key);
                Some(Request::memcached(Verb::Get, key, bytes, limits))
            }
        }
    }

    /// Where a reply has a value.
    pub(super) fn value_in(&self, reply: &[u8]) -> Option<Range<usize>> {
        match self.is_redis() {
            true => redis::value(reply),
            false => memcached::value(reply),
        }
    }
}
