//! The clock, the role, and the reports about slow commands.

use std::time::{SystemTime, UNIX_EPOCH};

use emberline_protocol::redis::encode;

use super::call::Call;
use super::help;
use super::refuse;

/// Seconds and microseconds. The one answer that reads the clock: the context's
/// milliseconds are too coarse for it.
pub(super) fn time(call: &mut Call<'_>) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    encode::array(call.out, 2);
    let mut digits = itoa::Buffer::new();
    encode::bulk(call.out, digits.format(now.as_secs()).as_bytes());
    encode::bulk(call.out, digits.format(now.subsec_micros()).as_bytes());
}

/// To its clients the proxy is a master without replicas.
pub(super) fn role(call: &mut Call<'_>) {
    encode::array(call.out, 3);
    encode::bulk(call.out, b"master");
    encode::integer(call.out, 0);
    encode::array(call.out, 0);
}

/// The proxy keeps no slow log in this version: it is always empty.
pub(super) fn slowlog(call: &mut Call<'_>) {
    match call.subcommand() {
        None => {}
        Some("get") => slowlog_get(call),
        Some("len") => encode::integer(call.out, 0),
        Some("reset") => call.ok(),
        Some(_) => call.lines(help::SLOWLOG),
    }
}

fn slowlog_get(call: &mut Call<'_>) {
    if call.args.len() > 3 {
        return refuse::wrong_subcommand(call.command, call.args[1], call.out);
    }
    match call.args.get(2).map(|count| super::call::integer(count)) {
        None | Some(Some(-1..)) => encode::array(call.out, 0),
        Some(_) => call.error("ERR count should be greater than or equal to -1"),
    }
}

/// The proxy watches no latency events: they would be the servers'.
pub(super) fn latency(call: &mut Call<'_>) {
    match call.subcommand() {
        None => {}
        Some("latest" | "history") => encode::array(call.out, 0),
        Some("reset") => encode::integer(call.out, 0),
        Some("histogram") => encode::map(call.out, 0, call.session.version),
        Some("graph") => {
            refuse::quoting(
                "ERR No samples available for event '",
                call.args[2],
                "'",
                call.out,
            );
        }
        Some("doctor") => {
            let text = b"The proxy records no latency events of its own. Ask each server, or read emberline_request_duration_seconds on the metrics page.\n";
            encode::verbatim(call.out, text, call.session.version);
        }
        Some("help") => call.lines(help::LATENCY),
        Some(_) => refuse::by_class(call.command, call.out),
    }
}
