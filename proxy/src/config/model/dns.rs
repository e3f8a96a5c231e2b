//! `[dns]`.

use std::net::SocketAddr;

use schemars::JsonSchema;

use crate::config::read::{At, Fields, Reader};
use crate::config::units::Time;

/// The default of `ttl_min`.
pub const TTL_MIN: Time = Time::secs(5);
/// The default of `ttl_max`.
pub const TTL_MAX: Time = Time::secs(60);

/// How the names of servers are looked up, and followed while the process
/// runs. Addresses are never looked up.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DnsTable {
    /// Nameservers, as "10.0.0.2" or "10.0.0.2:53". Default: those of
    /// `/etc/resolv.conf`, whose search domains hold in any case.
    #[schemars(with = "Option<Vec<String>>")]
    pub servers: Option<At<Vec<At<Nameserver>>>>,
    /// An answer is believed for at least this long, whatever its TTL is, and
    /// a lookup that failed is not tried again before. Default "5s", "100ms"
    /// to "1h". Too short: nameservers are asked all the time; too long: a pod
    /// that has moved is missed for as long.
    #[schemars(extend("default" = TTL_MIN.to_string()))]
    pub ttl_min: Option<At<Time>>,
    /// An answer is believed for no longer than this. Default "60s", "100ms"
    /// to "24h", not below `ttl_min`. Too long: what a server's owner wrote
    /// into DNS by mistake stays.
    #[schemars(extend("default" = TTL_MAX.to_string()))]
    pub ttl_max: Option<At<Time>>,
}

impl DnsTable {
    pub(super) fn read(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> DnsTable {
        let least = Time::millis(100);
        let table = DnsTable {
            servers: fields.list(reader, "servers"),
            ttl_min: fields.bounded(reader, "ttl_min", least, Time::secs(3600)),
            ttl_max: fields.bounded(reader, "ttl_max", least, Time::secs(24 * 3600)),
        };
        fields.finish(reader);
        table
    }
}

/// Where a nameserver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nameserver(pub SocketAddr);
