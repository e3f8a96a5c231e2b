//! `[bus]`: checked and made ready.

use super::model::{BusTable, CHANNEL};
use super::names::Lookups;
use super::{Environment, Report, tls};
use crate::running::{self, Address};

/// Bytes of a channel's name; it stands in front of every message.
const CHANNEL_MAX: usize = 256;

/// Where the proxies tell each other, if they do.
pub fn resolve(
    table: &BusTable,
    environment: &Environment<'_>,
    lookups: &mut Lookups<'_>,
    report: &mut Report,
) -> Option<running::Bus> {
    let credentials = table.credentials();
    let password = credentials.resolve(environment, report);
    if let (Some(username), None) = (&table.username, credentials.given()) {
        report.error(&username.span, "`username` is given without a password");
    }
    if let Some(channel) = &table.channel
        && (channel.is_empty() || channel.len() > CHANNEL_MAX)
    {
        let message = format!(
            "`channel` has {} bytes, expected 1 to {CHANNEL_MAX}",
            channel.len()
        );
        report.error(&channel.span, message);
    }
    let tls = table.tls.as_ref();
    let tls = tls.map(|table| tls::connector(table, environment, report));
    let server = &table.server.as_ref()?.value;
    if let (Some(tls), Address::Unix(_)) = (&table.tls, &server.0) {
        report.error(&tls.span, "`tls` has no meaning for a Unix socket");
    }
    let channel = table.channel.as_ref().map(|at| at.value.clone());
    Some(running::Bus {
        address: lookups.address(&server.0),
        name: server.1.clone(),
        channel: channel.unwrap_or_else(|| CHANNEL.to_owned()),
        username: table.username.as_ref().map(|at| at.value.clone()),
        password,
        tls: tls.flatten(),
    })
}
