//! `CONFIG`: a few settings that clients, benchmarks and test suites ask for.
//! They cannot be set: the proxy's settings come from its file.

use emberline_protocol::redis::encode;

use super::call::Call;
use super::help;
use crate::glob;

pub(super) fn config(call: &mut Call<'_>) {
    match call.subcommand() {
        None => {}
        Some("get") => get(call),
        Some("help") => call.lines(help::CONFIG),
        Some("resetstat") => call.refuse("its figures are counters that scrapers rely on"),
        Some(_) => call.refuse("its settings come from its configuration file"),
    }
}

/// `CONFIG GET pattern...`: every setting that any pattern matches, once. One
/// that is named in full is answered in the spelling of the question, as Redis does.
fn get(call: &mut Call<'_>) {
    let patterns = &call.args[2..];
    let settings = settings(call);
    let mut found: Vec<(&[u8], &str)> = Vec::new();
    for (name, value) in &settings {
        let name = name.as_bytes();
        let mut matching = patterns
            .iter()
            .filter(|pattern| glob::matches_name(pattern, name));
        if let Some(pattern) = matching.next() {
            let full = pattern.eq_ignore_ascii_case(name);
            found.push((if full { pattern } else { name }, value));
        }
    }
    encode::map(call.out, found.len(), call.session.version);
    for (name, value) in found {
        encode::bulk(call.out, name);
        encode::bulk(call.out, value.as_bytes());
    }
}

fn settings(call: &Call<'_>) -> Vec<(&'static str, String)> {
    let proxy = &call.context.running.proxy;
    let (port, bind, socket) = match &call.context.listener.bind {
        crate::running::Bind::Tcp(address) => {
            (address.port(), address.ip().to_string(), String::new())
        }
        crate::running::Bind::Unix(path) => (0, String::new(), path.display().to_string()),
    };
    vec![
        ("appendfsync", "everysec".into()),
        ("appendonly", "no".into()),
        ("bind", bind),
        ("cluster-enabled", "no".into()),
        ("databases", "1".into()),
        ("io-threads", proxy.workers.to_string()),
        ("latency-monitor-threshold", "0".into()),
        ("lua-time-limit", "5000".into()),
        ("maxclients", proxy.clients_max.to_string()),
        ("maxmemory", "0".into()),
        ("maxmemory-policy", "noeviction".into()),
        ("notify-keyspace-events", String::new()),
        ("port", port.to_string()),
        ("proto-max-bulk-len", "536870912".into()),
        ("protected-mode", "no".into()),
        ("save", String::new()),
        ("slowlog-log-slower-than", "-1".into()),
        ("slowlog-max-len", "0".into()),
        ("timeout", "0".into()),
        ("unixsocket", socket),
    ]
}
