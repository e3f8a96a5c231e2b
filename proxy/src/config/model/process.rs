//! `[proxy]`, `[admin]` and `[status]`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::read::{At, Fields, Reader, Refusal, Scalar};
use crate::config::units::{ByteSize, Time};
use crate::running::Bind;

/// The default of `workers` never exceeds this.
pub const WORKERS_MAX: usize = 2;
/// The default of `clients_max`.
pub const CLIENTS_MAX: usize = 10_000;
/// The default of `memory_max`.
pub const MEMORY_MAX: ByteSize = ByteSize::mib(256);
/// The default of `timeout_head`.
pub const TIMEOUT_HEAD: Time = Time::secs(10);
/// The default of `timeout_drain`.
pub const TIMEOUT_DRAIN: Time = Time::secs(10);
/// The default of `[admin] bind`.
pub const ADMIN_BIND: &str = "127.0.0.1:9779";

/// Settings of the process.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ProxyTable {
    /// Threads that serve clients. Default: the CPUs that this process may
    /// use (its cgroup's quota and its affinity), at most 2. Each keeps its
    /// own connections to every server, so more workers mean more
    /// connections; fewer than the load needs mean waiting.
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<At<usize>>,
    /// Clients connected at once, over all listeners. Default 10000. More are
    /// refused with an error. Too big: an idle client costs about 1 KiB and a
    /// file descriptor.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = CLIENTS_MAX))]
    pub clients_max: Option<At<usize>>,
    /// Bytes that requests and replies in transit may hold, over all clients.
    /// Default "256MiB", at least "1MiB". Beyond it new requests are answered
    /// with an error. Too big for the container: the kernel kills the process
    /// instead.
    #[schemars(extend("default" = MEMORY_MAX.to_string()))]
    pub memory_max: Option<At<ByteSize>>,
    /// How long a client may take to finish a request's head, once begun.
    /// Default "10s". Values need progress only. Too short: slow networks are
    /// cut off; too long: stalled clients hold their places.
    #[schemars(extend("default" = TIMEOUT_HEAD.to_string()))]
    pub timeout_head: Option<At<Time>>,
    /// How long a stop by SIGTERM waits for requests in flight. Default
    /// "10s". Keep it below the orchestrator's own grace period (Kubernetes:
    /// 30 s), which ends in SIGKILL.
    #[schemars(extend("default" = TIMEOUT_DRAIN.to_string()))]
    pub timeout_drain: Option<At<Time>>,
    /// Where this proxy is, in the same words as `zone` in the pools; at most
    /// 64 letters, digits, `_`, `-` and `.`. Default: nowhere, so that no
    /// pool is near.
    #[schemars(with = "Option<String>")]
    pub zone: Option<At<String>>,
}

impl ProxyTable {
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> ProxyTable {
        let hour = Time::secs(3600);
        let table = ProxyTable {
            workers: fields.bounded(reader, "workers", 1, 256),
            clients_max: fields.bounded(reader, "clients_max", 1, 1_000_000),
            memory_max: fields.bounded(reader, "memory_max", ByteSize::mib(1), ByteSize(1 << 50)),
            timeout_head: fields.bounded(reader, "timeout_head", Time::millis(1), hour),
            timeout_drain: fields.bounded(reader, "timeout_drain", Time::millis(0), hour),
            zone: fields.name(reader, "zone"),
        };
        fields.finish(reader);
        table
    }
}

/// The admin API: full control over the process.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AdminTable {
    /// Where it listens: a loopback address or "unix:/path", or "off" for
    /// none. Default "127.0.0.1:9779". It has no password, so an address that
    /// other machines reach is an error; `[status]` is for those.
    #[schemars(extend("default" = ADMIN_BIND))]
    pub bind: Option<At<AdminBind>>,
}

impl AdminTable {
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> AdminTable {
        let table = AdminTable {
            bind: fields.optional(reader, "bind"),
        };
        fields.finish(reader);
        table
    }
}

/// An address, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminBind {
    /// Nowhere.
    Off,
    /// Here.
    On(Bind),
}

impl Scalar for AdminBind {
    fn expected() -> String {
        format!("{} or \"off\"", Bind::expected())
    }

    fn from_text(text: &str) -> Result<AdminBind, Refusal> {
        match text {
            "off" => Ok(AdminBind::Off),
            _ => Bind::from_text(text).map(AdminBind::On),
        }
    }
}

impl JsonSchema for AdminBind {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AdminBind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A read-only endpoint for probes and scrapers.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StatusTable {
    /// Where it listens, as in "0.0.0.0:9780".
    #[schemars(required, with = "String")]
    pub bind: Option<At<Bind>>,
}

impl StatusTable {
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> StatusTable {
        let table = StatusTable {
            bind: fields.required(reader, "bind"),
        };
        fields.finish(reader);
        table
    }
}
