//! `INFO`: the proxy about itself, in the sections and names of Redis where
//! clients and dashboards read them, and in a section of its own.
//!
//! What the servers hold (keys, memory, persistence) is not here: the figures
//! of one of several would be wrong, and their sum would hide the one in trouble.

use std::fmt::{Display, Write as _};

use emberline_protocol::redis::encode;

use super::super::{Context, Figures, ServerFigures, process};
use super::VERSION;
use super::call::Call;
use crate::running::{Bind, Protocol};

type Section = fn(&mut Text<'_>);

/// In the order of Redis.
const SECTIONS: [(&str, Section); 10] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cpu", cpu),
    ("cluster", cluster),
    ("keyspace", keyspace),
    ("emberline", emberline),
];

/// `INFO [section ...]`. A section that there is none of is left out, as in Redis.
pub(super) fn info(call: &mut Call<'_>) {
    let wanted = &call.args[1..];
    let everything = |word: &&[u8]| {
        let words: [&[u8]; 3] = [b"all", b"default", b"everything"];
        words.iter().any(|all| word.eq_ignore_ascii_case(all))
    };
    let all = wanted.is_empty() || wanted.iter().any(everything);
    let mut sections = SECTIONS.iter().filter(|(name, _)| {
        let mut named = wanted.iter();
        all || named.any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    });
    let mut body = String::new();
    if let Some(first) = sections.next() {
        let mut text = Text {
            body,
            context: call.context,
            figures: (call.context.figures)(),
        };
        for (_, section) in std::iter::once(first).chain(sections) {
            if !text.body.is_empty() {
                text.body.push_str("\r\n");
            }
            section(&mut text);
        }
        body = text.body;
    }
    encode::verbatim(call.out, body.as_bytes(), call.session.version);
}

struct Text<'a> {
    body: String,
    context: &'a Context<'a>,
    figures: Figures,
}

impl Text<'_> {
    fn title(&mut self, title: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.body, "# {title}\r\n");
    }

    fn field(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.body, "{name}:{value}\r\n");
    }

    /// Bytes, and the same for people.
    fn bytes(&mut self, name: &str, value: u64) {
        self.field(name, value);
        let _ = write!(self.body, "{name}_human:{}\r\n", human(value));
    }

    fn uptime(&self) -> u64 {
        self.context.now.saturating_sub(self.figures.started) / 1000
    }
}

fn human(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, 'B');
    for next in ['K', 'M', 'G', 'T'] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    match unit {
        'B' => format!("{bytes}B"),
        unit => format!("{size:.2}{unit}"),
    }
}

fn server(text: &mut Text<'_>) {
    let (context, uptime) = (text.context, text.uptime());
    text.title("Server");
    text.field("redis_version", VERSION);
    text.field("emberline_version", env!("CARGO_PKG_VERSION"));
    text.field("redis_mode", "standalone");
    let system = (std::env::consts::OS, std::env::consts::ARCH);
    text.field("os", format_args!("{} {}", system.0, system.1));
    text.field("arch_bits", usize::BITS);
    text.field("process_id", std::process::id());
    match &context.listener.bind {
        Bind::Tcp(address) => text.field("tcp_port", address.port()),
        Bind::Unix(path) => {
            text.field("tcp_port", 0);
            text.field("unixsocket", path.display());
        }
    }
    text.field("server_time_usec", context.now.saturating_mul(1000));
    text.field("uptime_in_seconds", uptime);
    text.field("uptime_in_days", uptime / 86_400);
    text.field("io_threads_active", 0);
}

fn clients(text: &mut Text<'_>) {
    text.title("Clients");
    text.field("connected_clients", text.figures.clients);
    text.field("cluster_connections", 0);
    text.field("maxclients", text.context.running.proxy.clients_max);
    text.field("blocked_clients", 0);
    text.field("tracking_clients", 0);
    text.field("clients_in_timeout_table", 0);
}

fn memory(text: &mut Text<'_>) {
    let usage = process::usage();
    text.title("Memory");
    text.bytes("used_memory", usage.resident);
    text.bytes("used_memory_rss", usage.resident);
    text.bytes("used_memory_peak", usage.resident_peak);
    text.bytes("maxmemory", 0);
    text.field("maxmemory_policy", "noeviction");
    text.field("mem_fragmentation_ratio", "1.00");
    text.field("mem_allocator", "mimalloc");
    text.field("emberline_buffered", text.figures.buffered);
    text.field(
        "emberline_memory_max",
        text.context.running.proxy.memory_max,
    );
}

/// Nothing is loaded and nothing is saved: clients that wait for a server to
/// have loaded its data read this.
fn persistence(text: &mut Text<'_>) {
    text.title("Persistence");
    text.field("loading", 0);
    text.field("async_loading", 0);
    text.field("rdb_changes_since_last_save", 0);
    text.field("rdb_bgsave_in_progress", 0);
    text.field("rdb_last_bgsave_status", "ok");
    text.field("aof_enabled", 0);
    text.field("aof_rewrite_in_progress", 0);
}

fn stats(text: &mut Text<'_>) {
    text.title("Stats");
    text.field("total_connections_received", text.figures.connections);
    text.field("total_commands_processed", text.figures.requests);
    text.field("total_net_input_bytes", text.figures.bytes_in);
    text.field("total_net_output_bytes", text.figures.bytes_out);
    text.field("rejected_connections", text.figures.rejected);
    text.field("expired_keys", 0);
    text.field("evicted_keys", 0);
    text.field("keyspace_hits", 0);
    text.field("keyspace_misses", 0);
    text.field("pubsub_channels", 0);
    text.field("pubsub_patterns", 0);
    text.field("total_error_replies", text.figures.errors);
}

fn replication(text: &mut Text<'_>) {
    text.title("Replication");
    text.field("role", "master");
    text.field("connected_slaves", 0);
    text.field("master_repl_offset", 0);
}

fn cpu(text: &mut Text<'_>) {
    let usage = process::usage();
    text.title("CPU");
    text.field("used_cpu_sys", format_args!("{:.6}", usage.system));
    text.field("used_cpu_user", format_args!("{:.6}", usage.user));
}

fn cluster(text: &mut Text<'_>) {
    text.title("Cluster");
    text.field("cluster_enabled", 0);
}

fn keyspace(text: &mut Text<'_>) {
    text.title("Keyspace");
}

/// One line for a pool and one for each of its servers, in the manner of
/// Redis' own lists of replicas and databases.
fn emberline(text: &mut Text<'_>) {
    let context = text.context;
    text.title("Emberline");
    text.field("listener", &context.listener.name);
    text.field("workers", context.running.proxy.workers);
    text.field("pools", context.running.pools.len());
    for (i, pool) in context.running.pools.iter().enumerate() {
        let protocol = match pool.protocol {
            Protocol::Redis => "redis",
            Protocol::Memcached => "memcached",
        };
        let kind = if pool.local.is_some() {
            "local"
        } else {
            "remote"
        };
        let servers = pool.servers.len();
        let value = format!(
            "name={},protocol={protocol},kind={kind},servers={servers}",
            pool.name
        );
        text.field(&format!("pool{i}"), value);
    }
    for (i, (id, server)) in context.running.servers.numbered().enumerate() {
        let figures: ServerFigures = text.figures.servers.get(id).copied().unwrap_or_default();
        let state = match figures.up {
            None => "unused",
            Some(true) => "up",
            Some(false) => "down",
        };
        let value = format!(
            "name={},state={state},inflight={},requests={}",
            server.name, figures.inflight, figures.requests
        );
        text.field(&format!("server{i}"), value);
    }
}
