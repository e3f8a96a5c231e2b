//! What a client asked, kept while it is carried out: as it is written to
//! servers, what their replies mean, and what is said in their place.

use std::time::Duration;

use emberline_protocol::memcache::{self, Verb};
use emberline_protocol::redis::command::keys as key_places;
use emberline_protocol::redis::encode::Version;
use emberline_protocol::redis::{self, Command, Step};
use emberline_protocol::{Edit, Kind, Outcome, TtlRule};
use emberline_routing::{Canned, Change, PoolId, TtlChange};

use crate::running::Protocol;
use crate::server::client::{forget_all, forgotten};
use crate::server::gather::Wire;
use crate::server::worker::Worker;

/// A request with one key, or several that go the same way.
#[derive(Clone, Debug)]
pub struct Request {
    /// As a server takes it: an array, or a line that is not quiet.
    pub(super) bytes: Box<[u8]>,
    /// As it is routed by: the first one, of several.
    key: Box<[u8]>,
    kind: Kind,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Redis(&'static Command),
    Memcached {
        verb: Verb,
        limits: memcache::Limits,
    },
}

impl Request {
    /// A Redis command. `bytes` is an array of bulk strings.
    pub fn redis(command: &'static Command, key: &[u8], bytes: Vec<u8>) -> Request {
        Request {
            bytes: bytes.into(),
            key: key.into(),
            kind: command.kind,
            what: What::Redis(command),
        }
    }

    /// A memcached request, line and data block, that is not quiet.
    pub fn memcached(verb: Verb, key: &[u8], bytes: Vec<u8>, limits: &memcache::Limits) -> Request {
        Request {
            bytes: bytes.into(),
            key: key.into(),
            kind: verb.kind(),
            what: What::Memcached {
                verb,
                limits: limits.clone(),
            },
        }
    }

    /// The name of its command.
    pub fn name(&self) -> &'static str {
        match &self.what {
            What::Redis(command) => command.name,
            What::Memcached { verb, .. } => verb.name(),
        }
    }

    /// What it does to its key.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its key, as it is routed by; of several the first, and the others are
    /// told by the plan ([`Change::others`]).
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it deletes its key, and its reply tells of nothing else.
    pub fn is_delete(&self) -> bool {
        match &self.what {
            What::Redis(command) => matches!(command.name, "del" | "unlink"),
            What::Memcached { verb, .. } => verb.kind() == Kind::Delete,
        }
    }

    fn protocol(&self) -> Protocol {
        match self.is_redis() {
            true => Protocol::Redis,
            false => Protocol::Memcached,
        }
    }

    /// Whether it is a Redis command.
    pub fn is_redis(&self) -> bool {
        matches!(self.what, What::Redis(_))
    }

    /// What a reply, or its beginning, says; `None` if more is needed.
    pub fn outcome(&self, change: &Change, reply: &[u8]) -> Option<Outcome> {
        match &self.what {
            _ if change.delete => {
                let key = change.key.as_deref().unwrap_or(self.key());
                forgotten(self.protocol(), key, reply)
            }
            What::Redis(command) => redis::outcome(Some(command), self.kind, reply),
            What::Memcached { verb, .. } => memcache::outcome(*verb, reply),
        }
    }

    /// Whether a reply that found nothing says that the key is not there.
    pub fn proves_absence(&self, reply: &[u8]) -> bool {
        match &self.what {
            What::Redis(command) => redis::proves_absence(command, reply),
            What::Memcached { .. } => true,
        }
    }

    /// Append it with this change.
    ///
    /// # Errors
    /// Why no server would take it.
    pub fn write(&self, change: &Change, unix_ms: u64, out: &mut Vec<u8>) -> Result<(), String> {
        if change.delete {
            forget_all(self.protocol(), change.keys(self.key()), out);
            return Ok(());
        }
        let names = self.names(change);
        if names.is_empty() && change.ttl.is_none() {
            out.extend_from_slice(&self.bytes);
            return Ok(());
        }
        let now = Duration::from_millis(unix_ms);
        let rename = |own: &[u8], out: &mut Vec<u8>| {
            let named = names.iter().find(|(key, _)| &**key == own);
            let only = names.first().filter(|_| !self.is_redis());
            out.extend_from_slice(named.or(only).map_or(own, |(_, name)| name));
        };
        let mut rules = rules(change.ttl).into_iter().flatten();
        let edit = Edit {
            key: (!names.is_empty()).then_some(&rename),
            ttl: rules.next(),
        };
        self.edit(&self.bytes, &edit, now, out)?;
        // A life with two bounds is written twice.
        for rule in rules {
            let bytes = std::mem::take(out);
            let edit = Edit {
                key: None,
                ttl: Some(rule),
            };
            self.edit(&bytes, &edit, now, out)?;
        }
        Ok(())
    }

    /// What each key is called in a place where they have other names.
    fn names<'a>(&'a self, change: &'a Change) -> Vec<(Box<[u8]>, &'a [u8])> {
        let sent = change.keys(self.key());
        let own = match (&self.what, &change.others) {
            (What::Redis(command), Some(others)) if !others.is_empty() => self.keys(command),
            _ => vec![self.key.clone()],
        };
        let names: Vec<(Box<[u8]>, &[u8])> = own.into_iter().zip(sent).collect();
        match names.iter().all(|(key, name)| **key == **name) {
            true => Vec::new(),
            false => names,
        }
    }

    /// All keys of a command, in its order.
    fn keys(&self, command: &Command) -> Vec<Box<[u8]>> {
        let (mut parser, mut places) = (redis::Parser::default(), Vec::new());
        let Ok(Step::Frame { .. }) = parser.parse(&self.bytes, &redis::Limits::default()) else {
            return Vec::new();
        };
        match key_places(command, &parser.request(&self.bytes), &mut places) {
            Ok(()) => places
                .iter()
                .map(|&at| parser.arg(&self.bytes, at).into())
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    fn edit(
        &self,
        bytes: &[u8],
        edit: &Edit<'_>,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match &self.what {
            What::Redis(command) => {
                let mut parser = redis::Parser::default();
                match parser.parse(bytes, &redis::Limits::default()) {
                    Ok(Step::Frame { .. }) => {
                        let request = parser.request(bytes);
                        redis::edit(command, &request, edit, now, out)
                            .map_err(|error| error.to_string())
                    }
                    _ => Err("the request cannot be read again".to_owned()),
                }
            }
            What::Memcached { limits, .. } => {
                let mut parser = memcache::Parser::default();
                match parser.parse(bytes, limits) {
                    Ok(Some(request)) => {
                        memcache::edit(bytes, &request, edit, now, out)
                            .map_err(|error| error.to_string())?;
                        out.extend_from_slice(bytes.get(request.head..).unwrap_or_default());
                        Ok(())
                    }
                    _ => Err("the request cannot be read again".to_owned()),
                }
            }
        }
    }

    /// Whether a reply has to be changed before the client may see it.
    pub fn is_edited_back(&self, change: Option<&Change>) -> bool {
        let renamed = change.is_some_and(|change| change.key.is_some());
        renamed
            && match &self.what {
                What::Redis(command) => redis::names_keys(command),
                What::Memcached { .. } => true,
            }
    }

    /// A whole reply as the client is to see it: under the key that it asked for.
    pub fn restore(&self, change: &Change, reply: Vec<u8>) -> Vec<u8> {
        if !self.is_edited_back(Some(change)) {
            return reply;
        }
        let (verb, limits) = match &self.what {
            What::Memcached { verb, limits } => (verb, limits),
            What::Redis(command) => {
                let names = self.names(change);
                let rename = |sent: &[u8], out: &mut Vec<u8>| {
                    let own = names.iter().find(|(_, name)| *name == sent);
                    out.extend_from_slice(own.map_or(sent, |(key, _)| key));
                };
                return redis::restore_keys(command, reply, &rename);
            }
        };
        let mut parser = memcache::Parser::default();
        let Ok(Some(request)) = parser.parse(&self.bytes, limits) else {
            return reply;
        };
        let Some(end) = memchr::memchr(b'\n', &reply) else {
            return reply;
        };
        let (line, rest) = reply.split_at(end + 1);
        let key = parser.key(&self.bytes, 0);
        let mut restored = Vec::with_capacity(reply.len() + key.len());
        memcache::restore_key(*verb, line, key, request.base64, &mut restored);
        restored.extend_from_slice(rest);
        restored
    }

    /// Append what the client is told in place of a reply. An error has a text
    /// of its own.
    pub fn canned(&self, canned: &Canned, wire: Wire, out: &mut Vec<u8>) {
        if *canned != Canned::Accepted || !self.accepted(out) {
            self.missing(wire.version(), out);
        }
    }

    /// Append the reply to a write that is being done; whether that is the same
    /// for every key and value.
    fn accepted(&self, out: &mut Vec<u8>) -> bool {
        match &self.what {
            What::Redis(command) => self.with_args(|args| redis::accepted(command, args, out)),
            What::Memcached { verb, .. } => memcache::accepted(*verb, self.line(), out),
        }
    }

    /// Whether its reply is known before anybody has given it.
    pub fn is_acceptable(&self) -> bool {
        self.accepted(&mut Vec::new())
    }

    /// Append the reply of a server that has none of its keys.
    fn missing(&self, version: Version, out: &mut Vec<u8>) {
        match &self.what {
            What::Redis(command) => {
                self.with_args(|args| redis::missing(command, args, version, out));
            }
            What::Memcached { verb, .. } => memcache::missing(*verb, self.line(), out),
        }
    }

    /// Let `work` see the arguments of a Redis command, with its name.
    fn with_args<T>(&self, work: impl FnOnce(&[&[u8]]) -> T) -> T {
        let mut parser = redis::Parser::default();
        match parser.parse(&self.bytes, &redis::Limits::default()) {
            Ok(Step::Frame { .. }) => work(&parser.args(&self.bytes).collect::<Vec<_>>()),
            _ => work(&[]),
        }
    }

    /// The command line of a memcached request.
    fn line(&self) -> &[u8] {
        let end = memchr::memchr(b'\n', &self.bytes).unwrap_or(self.bytes.len());
        &self.bytes[..end]
    }

    /// Answer it from an embedded pool. `bytes` is the request as it is there.
    pub fn answer_local(
        &self,
        worker: &Worker,
        pool: PoolId,
        bytes: &[u8],
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let Some(local) = &worker.pool(pool).local else {
            return;
        };
        let now = worker.unix_millis();
        match &self.what {
            What::Redis(_) => {
                let mut parser = redis::Parser::default();
                if let Ok(Step::Frame { .. }) = parser.parse(bytes, &redis::Limits::default()) {
                    let args: Vec<&[u8]> = parser.args(bytes).collect();
                    local.redis(&args, version, now, out);
                }
            }
            What::Memcached { limits, .. } => {
                let mut parser = memcache::Parser::default();
                if let Ok(Some(request)) = parser.parse(bytes, limits) {
                    let keys: Vec<&[u8]> = parser.keys(bytes).collect();
                    let (line, block) = bytes.split_at(request.head.min(bytes.len()));
                    let body = block.get(..request.body.unwrap_or(0)).unwrap_or_default();
                    local.memcache(&request, &keys, line, body, now, out);
                }
            }
        }
    }
}

fn rules(ttl: Option<TtlChange>) -> [Option<TtlRule>; 3] {
    let Some(TtlChange { set, cap, floor }) = ttl else {
        return [None; 3];
    };
    // The cap last: it is a promise.
    [
        set.map(TtlRule::Set),
        floor.map(TtlRule::Floor),
        cap.map(TtlRule::Cap),
    ]
}
