//! `[pools.NAME]`.

use std::borrow::Cow;
use std::ops::Range;

use emberline_routing::{ByteSign, Distribution, Hash};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::hotkey::HotkeyTable;
use super::inherit::InPool;
use super::l1::L1Table;
use super::outage::{
    DeleteLog, Dns, FAILURES, GUTTER_TTL, OnDown, PANIC, PROBE_FIRST, PROBE_LAST, QUEUE_TIMEOUT,
    RETRY_BUDGET,
};
use super::tls::ServerTls;
use crate::config::credentials::Password;
use crate::config::read::{At, Fields, Reader, Refusal, Scalar};
use crate::config::units::{ByteSize, Time};
use crate::config::words::{Word, word_schema};
use crate::running::{Address, Partial, Protocol};

/// The default of `connect_timeout`.
pub const CONNECT_TIMEOUT: Time = Time::millis(250);
/// The default of `request_timeout`.
pub const REQUEST_TIMEOUT: Time = Time::secs(1);
/// The default of `connections`.
pub const CONNECTIONS: u16 = 1;
/// The default of `inflight_max`.
pub const INFLIGHT_MAX: usize = 1024;
/// The default of `capacity`.
pub const CAPACITY: ByteSize = ByteSize::mib(64);
/// The default of `value_max`.
pub const VALUE_MAX: ByteSize = ByteSize::mib(1);
/// The longest time that anything may be told to last.
const TIME_MAX: Time = Time::secs(365 * 24 * 3600);

/// A group of servers that share a keyspace.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PoolTable {
    /// What its servers speak: "redis" or "memcached".
    #[schemars(required, schema_with = "word_schema::<Protocol>")]
    pub protocol: Option<At<Protocol>>,
    /// "remote": servers elsewhere, the default. "local": a store inside this
    /// process, which forgets everything when the process ends and is not
    /// shared with other proxies.
    #[schemars(default, schema_with = "word_schema::<PoolKind>", extend("default" = "remote"))]
    pub kind: Option<At<PoolKind>>,
    /// The servers of a remote pool, at most 10000 in the whole file. With
    /// some distributions their order decides where keys are.
    pub servers: Option<Vec<Server>>,
    /// The hash of the key. Default "fnv1a_64", which is twemproxy's.
    /// Changing it moves nearly every key. "crc32" yields 15 bits only and
    /// puts nearly everything on one server with "ketama".
    #[schemars(default, schema_with = "word_schema::<Hash>", extend("default" = "fnv1a_64"))]
    pub hash: Option<At<Hash>>,
    /// How hashes are spread over servers. Default "ketama", exactly as
    /// twemproxy computes it. Changing it moves nearly every key.
    #[schemars(default, schema_with = "word_schema::<Distribution>", extend("default" = "ketama"))]
    pub distribution: Option<At<Distribution>>,
    /// Two characters: only the part of a key between them is hashed, so that
    /// related keys share a server. Default "{}" on Redis pools, "" (none) on
    /// memcached pools.
    #[schemars(with = "Option<String>")]
    pub hash_tag: Option<At<String>>,
    /// How a hash reads bytes from 0x80 up: "signed" as twemproxy on x86, the
    /// default, or "unsigned" as Overlord. Concerns keys beyond ASCII.
    #[schemars(default, schema_with = "word_schema::<ByteSign>", extend("default" = "signed"))]
    pub byte_sign: Option<At<ByteSign>>,
    /// How long a connect may take. Default "250ms". Too short: a busy
    /// network looks like a dead server; too long: clients wait for one that
    /// is.
    #[schemars(extend("default" = CONNECT_TIMEOUT.to_string()))]
    pub connect_timeout: Option<At<Time>>,
    /// How long a reply may take. Default "1s". After it the client gets an
    /// error and the connection is discarded, so too short a time turns one
    /// slow command into many reconnects.
    #[schemars(extend("default" = REQUEST_TIMEOUT.to_string()))]
    pub request_timeout: Option<At<Time>>,
    /// Connections to each server from each worker. Default 1: requests are
    /// pipelined. More than a few help only where single replies are large.
    #[schemars(range(min = 1, max = 64), extend("default" = CONNECTIONS))]
    pub connections: Option<At<u16>>,
    /// Requests in flight on one connection before clients are made to wait.
    /// Default 1024. Too small: throughput suffers; too big: a slow server
    /// gathers a queue that nobody is waiting for any more.
    #[schemars(range(min = 1, max = 1_048_576), extend("default" = INFLIGHT_MAX))]
    pub inflight_max: Option<At<usize>>,
    /// What a read of many keys answers when one of their servers fails:
    /// "error", the default, for all, or "missing": the keys that could not
    /// be read look absent.
    #[schemars(default, schema_with = "word_schema::<Partial>", extend("default" = "error"))]
    pub partial: Option<At<Partial>>,
    /// What is put behind the part of a key that is hashed, up to 64 bytes.
    /// Default "": nothing. As mcrouter's: the bytes that are hashed are that
    /// part and, right behind it, the salt. Pools with different salts spread
    /// the same keys differently, so that what is hot together in one is not in
    /// the other. Changing it moves nearly every key; one letter is too little
    /// for the FNV hashes.
    #[schemars(with = "Option<String>", extend("default" = ""))]
    pub salt: Option<At<String>>,
    /// What requests for a server that is down get. "error", the default: an
    /// error. "rehash": the next server of the ring; when the server returns
    /// it has values that were changed meanwhile. `{ gutter = "NAME" }`: that
    /// pool, where nothing lives longer than `gutter_ttl`.
    #[schemars(extend("default" = "error"))]
    pub on_down: Option<At<OnDown>>,
    /// The longest that a value lives in the gutter of `on_down`. Default
    /// "10s", at least "1s". Too short: the gutter is always empty; too long:
    /// it holds what has changed since.
    #[schemars(extend("default" = GUTTER_TTL.to_string()))]
    pub gutter_ttl: Option<At<Time>>,
    /// Where its servers are, for `read = "near"` and in the same words as
    /// `zone` in `[proxy]`; at most 64 letters, digits, `_`, `-` and `.`.
    /// Default: nowhere.
    #[schemars(with = "Option<String>")]
    pub zone: Option<At<String>>,
    /// How long a request may wait to be sent, before `request_timeout`
    /// begins. Default "1s". It says nothing about the server's health, so a
    /// hot key cannot bring it down. Too long: clients wait for what they no
    /// longer want; too short: a short burst fails.
    #[schemars(extend("default" = QUEUE_TIMEOUT.to_string()))]
    pub queue_timeout: Option<At<Time>>,
    /// The share of reads, 0 to 1, that may be tried once more on another
    /// replica when one fails. Default 0.2; 0: none. Too big: servers that
    /// are overloaded get more to do.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = RETRY_BUDGET))]
    pub retry_budget: Option<At<f64>>,
    /// Timeouts and lost connections in a row from which on a server is down;
    /// a refused connect is enough. Default 3, 1 to 1000. Too small: one slow
    /// moment takes a server out; too big: as many clients wait in vain.
    #[schemars(range(min = 1, max = 1000), extend("default" = FAILURES))]
    pub failures: Option<At<u32>>,
    /// How long after a server went down it is probed for the first time.
    /// Default "250ms", "10ms" to "10m". Every further wait is twice as long,
    /// with some chance in it.
    #[schemars(extend("default" = PROBE_FIRST.to_string()))]
    pub probe_first: Option<At<Time>>,
    /// The longest time between two probes. Default "10s", up to "1h". Too
    /// long: a server that has returned is not used for as long.
    #[schemars(extend("default" = PROBE_LAST.to_string()))]
    pub probe_last: Option<At<Time>>,
    /// The share of servers, above 0 and up to 1, that may be down before none
    /// is left out any more, since it is then more likely the network or this
    /// proxy. Default 0.5. Too small: dead servers are asked; 1: a proxy that
    /// is cut off sends everything to whoever is left.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = PANIC))]
    pub panic: Option<At<f64>>,
    /// A file in which deletes wait that could not reach their server, or a
    /// table with a `path` and bounds. Default: none, and such a delete is an
    /// error alone.
    pub delete_log: Option<DeleteLog>,
    /// How many servers a host name stands for. "first": one, the default.
    /// "expand": one for each of its addresses, named after them; keys move
    /// whenever those change.
    #[schemars(default, schema_with = "word_schema::<Dns>", extend("default" = "first"))]
    pub dns: Option<At<Dns>>,
    /// How much a local pool keeps, bookkeeping included. Default "64MiB", at
    /// least "1MiB". When full, what was used least recently goes.
    #[schemars(extend("default" = CAPACITY.to_string()))]
    pub capacity: Option<At<ByteSize>>,
    /// The user for AUTH towards the servers (Redis). Default: none. Wants a
    /// password.
    #[schemars(with = "Option<String>")]
    pub username: Option<At<String>>,
    /// The password for AUTH towards the servers (Redis). Default: none.
    /// Written here it is readable by whoever reads the file: prefer
    /// `password_file` or `password_env`.
    #[schemars(with = "Option<String>")]
    pub password: Option<At<String>>,
    /// A file that holds the password; a line break at its end is left out.
    /// Relative paths start from this file's directory.
    #[schemars(with = "Option<String>")]
    pub password_file: Option<At<String>>,
    /// The environment variable that holds the password.
    #[schemars(with = "Option<String>")]
    pub password_env: Option<At<String>>,
    /// Whom to believe that they are its servers, which speak TLS then.
    /// Default: none, and they are spoken to in the clear.
    pub tls: Option<ServerTls>,
    /// The database that is selected on connect (Redis). Default 0. Clients
    /// still see it as database 0.
    #[schemars(extend("default" = 0))]
    pub database: Option<At<u32>>,
    /// The largest value that clients may store (memcached). Default "1MiB",
    /// at most "1GiB". Bigger than the servers' own limit (`-I`): they
    /// refuse what the proxy lets pass.
    #[schemars(extend("default" = VALUE_MAX.to_string()))]
    pub value_max: Option<At<ByteSize>>,
    /// Which of its keys are hot, where that differs from `[hotkey]`.
    #[schemars(with = "Option<InPool<HotkeyTable>>")]
    pub hotkey: Option<HotkeyTable>,
    /// How its hot keys are answered from memory, where that differs from
    /// `[l1]`.
    #[schemars(with = "Option<InPool<L1Table>>")]
    pub l1: Option<At<L1Table>>,
    /// Where `servers` stands.
    #[schemars(skip)]
    pub servers_span: Option<Range<usize>>,
}

impl PoolTable {
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> PoolTable {
        let servers = fields.raw("servers");
        let mut table = PoolTable {
            protocol: fields.required(reader, "protocol"),
            kind: fields.optional(reader, "kind"),
            servers: servers.map(|value| read_servers(value, reader)),
            servers_span: servers.map(Spanned::span),
            delete_log: DeleteLog::read(&mut fields, reader),
            ..PoolTable::default()
        };
        table.read_shared(&mut fields, reader);
        if let Some((inner, span)) = fields.table(reader, "hotkey") {
            let title = format!("[{}]", fields.inner("hotkey"));
            let inner = Fields::new(inner, span, title);
            table.hotkey = Some(HotkeyTable::read_in_pool(inner, reader));
        }
        if let Some((inner, span)) = fields.table(reader, "l1") {
            let title = format!("[{}]", fields.inner("l1"));
            let inner = Fields::new(inner, span.clone(), title);
            table.l1 = Some(At::new(L1Table::read_in_pool(inner, reader), span));
        }
        fields.finish(reader);
        table
    }

    /// Read the keys that may stand in `[pool_defaults]` too.
    pub(super) fn read_shared(&mut self, fields: &mut Fields<'_, '_>, reader: &mut Reader<'_>) {
        let minutes = Time::secs(600);
        let least = Time::millis(1);
        let password = Password::read(fields, reader);
        *self = PoolTable {
            hash: fields.optional(reader, "hash"),
            distribution: fields.optional(reader, "distribution"),
            hash_tag: fields.optional(reader, "hash_tag"),
            byte_sign: fields.optional(reader, "byte_sign"),
            salt: fields.optional(reader, "salt"),
            connect_timeout: fields.bounded(reader, "connect_timeout", least, minutes),
            request_timeout: fields.bounded(reader, "request_timeout", least, minutes),
            queue_timeout: fields.bounded(reader, "queue_timeout", least, minutes),
            connections: fields.bounded(reader, "connections", 1, 64),
            inflight_max: fields.bounded(reader, "inflight_max", 1, 1 << 20),
            partial: fields.optional(reader, "partial"),
            on_down: OnDown::read(fields, reader),
            gutter_ttl: fields.bounded(reader, "gutter_ttl", Time::secs(1), TIME_MAX),
            zone: fields.name(reader, "zone"),
            retry_budget: fields.bounded(reader, "retry_budget", 0.0, 1.0),
            failures: fields.bounded(reader, "failures", 1, 1000),
            probe_first: fields.bounded(reader, "probe_first", Time::millis(10), minutes),
            probe_last: fields.bounded(reader, "probe_last", Time::millis(10), Time::secs(3600)),
            panic: fields.bounded(reader, "panic", 0.01, 1.0),
            dns: fields.optional(reader, "dns"),
            capacity: fields.bounded(reader, "capacity", ByteSize::mib(1), ByteSize(1 << 50)),
            username: fields.optional(reader, "username"),
            password: password.inline,
            password_file: password.file,
            password_env: password.env,
            tls: ServerTls::read(fields, reader),
            database: fields.bounded(reader, "database", 0, i32::MAX as u32),
            value_max: fields.bounded(reader, "value_max", ByteSize(1), ByteSize::mib(1024)),
            ..std::mem::take(self)
        };
    }

    /// The three ways to give the password.
    pub fn credentials(&self) -> Password {
        Password {
            inline: self.password.clone(),
            file: self.password_file.clone(),
            env: self.password_env.clone(),
        }
    }
}

/// Where a pool keeps its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PoolKind {
    /// On servers.
    #[default]
    Remote,
    /// In this process.
    Local,
}

impl Word for PoolKind {
    const WHAT: &'static str = "kind of pool";

    fn all() -> &'static [PoolKind] {
        &[PoolKind::Remote, PoolKind::Local]
    }

    fn word(self) -> &'static str {
        match self {
            PoolKind::Remote => "remote",
            PoolKind::Local => "local",
        }
    }
}

/// A server of a pool, or what stands for several.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub place: At<Place>,
    /// Its place as it was written, variables filled in.
    pub text: String,
    /// Its share of the keys.
    pub weight: Option<At<u32>>,
    /// Its name on the ring.
    pub name: Option<At<String>>,
    /// Whether it is to be treated as down, and where that is said.
    pub down: Option<At<bool>>,
}

/// Where a server is, or who knows where several are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Address(Address),
    /// Where the SRV records of this name say.
    Service(String),
}

/// A server with a weight or a name.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "the schema of a server that is written as a table"
)]
struct ServerTable {
    /// `host:port`, `[v6]:port` or `unix:/path`; with `dns = "expand"` also a
    /// service, as in `_redis._tcp.cache`.
    address: String,
    /// Its share of the keys relative to the other servers. Default 1. 0
    /// drains it: it gets no keys, and the other servers get its share.
    #[schemars(range(max = 65_535), extend("default" = 1))]
    weight: Option<u32>,
    /// Its name on the ring. Default: its address. A name keeps the keys in
    /// their places when the address changes.
    name: Option<String>,
    /// Whether it is treated as down whatever it does, and keeps its place on
    /// the ring, so that no key moves. Default false. Unlike weight 0, its
    /// requests get what `on_down` says.
    #[schemars(extend("default" = false))]
    down: Option<bool>,
}

impl JsonSchema for Server {
    fn schema_name() -> Cow<'static, str> {
        "Server".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<ServerTable>();
        json_schema!({
            "description": "An address, or a table with an address, a weight and a name.",
            "anyOf": [{ "type": "string" }, table],
        })
    }
}

fn read_servers(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Vec<Server> {
    let DeValue::Array(items) = value.get_ref() else {
        let message = "`servers` is not an array of addresses";
        let hint = Some("expected servers = [\"host:port\", ...]".to_owned());
        reader.report.error_hint(&value.span(), message, hint);
        return Vec::new();
    };
    if items.is_empty() {
        let hint = Some("expected servers = [\"host:port\", ...]".to_owned());
        reader
            .report
            .error_hint(&value.span(), "`servers` is empty", hint);
    }
    items
        .iter()
        .filter_map(|item| read_server(item, reader))
        .collect()
}

fn read_server(item: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Server> {
    let DeValue::Table(table) = item.get_ref() else {
        let (place, text) = read_address(item, reader)?;
        return Some(Server {
            place,
            text,
            weight: None,
            name: None,
            down: None,
        });
    };
    let mut fields = Fields::new(table, item.span(), "a server");
    let place = match fields.raw("address") {
        Some(value) => read_address(value, reader),
        None => {
            fields.missing(reader, "address", Address::expected());
            None
        }
    };
    let weight = fields.bounded(reader, "weight", 0, 65_535);
    let name = fields.optional::<String>(reader, "name");
    let down = fields.optional::<bool>(reader, "down");
    fields.finish(reader);
    let (place, text) = place?;
    Some(Server {
        place,
        text,
        weight,
        name,
        down: down.filter(|at| at.value),
    })
}

fn read_address(
    value: &Spanned<DeValue<'_>>,
    reader: &mut Reader<'_>,
) -> Option<(At<Place>, String)> {
    let At { value, span } = reader.scalar::<Written<Place>>(value, "a server")?;
    Some((At::new(value.0, span), value.1))
}

/// An address or a place, together with its text.
#[derive(Clone, Debug)]
pub struct Written<T = Address>(pub T, pub String);

impl<T: Scalar> Scalar for Written<T> {
    fn expected() -> String {
        T::expected()
    }

    fn from_text(text: &str) -> Result<Written<T>, Refusal> {
        let value = T::from_text(text)?;
        Ok(Written(value, text.to_owned()))
    }
}
