//! `[pool_defaults]`: what many pools share, written once.
//!
//! A pool takes over every key that it does not have itself and that means
//! something for it, as if it were written there: the checks that follow know
//! no difference, and a mistake in a shared value is one finding. What would
//! be an error in the pool, such as a database of memcached, passes it by.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::outage::OnDown;
use super::{Place, PoolKind, PoolTable, Server};
use crate::config::read::{Fields, Reader};
use crate::running::{Address, Protocol};

/// Keys that make a pool what it is, and those that have a general table of
/// their own.
const OWN: [&str; 6] = ["protocol", "kind", "servers", "delete_log", "hotkey", "l1"];

/// The schema of `[pool_defaults]`: that of a pool without what each has for
/// itself.
pub struct PoolDefaults;

impl JsonSchema for PoolDefaults {
    fn schema_name() -> Cow<'static, str> {
        "PoolDefaults".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = PoolTable::json_schema(generator);
        let said = "What holds in every pool that says nothing else.";
        schema.insert("description".to_owned(), said.into());
        schema.remove("required");
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.retain(|key, _| !OWN.contains(&key.as_str()));
        }
        schema
    }
}

/// Read `[pool_defaults]`.
pub fn read_defaults(mut fields: Fields<'_, '_>, reader: &mut Reader<'_>) -> PoolTable {
    let mut table = PoolTable::default();
    table.read_shared(&mut fields, reader);
    fields.finish(reader);
    table
}

impl PoolTable {
    /// Whether it has Unix sockets, where there is no TLS.
    fn is_local_to_the_machine(&self) -> bool {
        let servers = self.servers.as_deref().unwrap_or_default();
        let is_unix =
            |server: &Server| matches!(server.place.value, Place::Address(Address::Unix(_)));
        servers.iter().any(is_unix)
    }

    /// Take over what this pool, called `name`, does not say itself.
    pub(super) fn take_over(&mut self, name: &str, defaults: &PoolTable) {
        macro_rules! take {
            ($($key:ident),*) => { $(
                if self.$key.is_none() {
                    self.$key.clone_from(&defaults.$key);
                }
            )* };
        }
        let protocol = self.protocol.as_ref().map(|at| at.value);
        let kind = self.kind.as_ref().map(|at| at.value).unwrap_or_default();
        take!(zone);
        if protocol == Some(Protocol::Memcached) {
            take!(value_max);
        }
        if kind == PoolKind::Local {
            take!(capacity);
            return;
        }
        take!(
            distribution,
            hash_tag,
            salt,
            connect_timeout,
            request_timeout,
            queue_timeout,
            connections,
            inflight_max,
            partial,
            retry_budget,
            failures,
            probe_first,
            probe_last,
            panic,
            dns
        );
        if !self.is_local_to_the_machine() {
            take!(tls);
        }
        let distribution = self.distribution.as_ref().map(|at| at.value);
        if distribution.unwrap_or_default().uses_hash() {
            take!(hash, byte_sign);
        }
        // A gutter takes over everything but to be its own.
        let gutter = defaults.on_down.as_ref().and_then(|at| at.gutter());
        if gutter.is_none_or(|gutter| gutter.value != name) {
            take!(on_down);
        }
        if let Some(on_down) = &self.on_down
            && matches!(on_down.value, OnDown::Gutter(_))
        {
            take!(gutter_ttl);
        }
        if protocol == Some(Protocol::Redis) {
            take!(database);
            let own = self.username.is_some() || self.credentials().given().is_some();
            if !own {
                take!(username, password, password_file, password_env);
            }
        }
    }
}
