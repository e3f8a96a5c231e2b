//! memcached commands that the proxy answers itself: what concerns the
//! connection or the process rather than a key.
//!
//! Words, and the errors for wrong ones, are those of memcached 1.6.18.

use std::fmt::{Display, Write as _};

use emberline_protocol::memcache::{Verb, encode, tokens};

use super::process;
use super::{Context, Figures, Then};
use crate::metrics::hotkeys::Sort;
use crate::running::{Bind, Protocol};

/// The version of memcached that clients are told. Digits alone: several
/// clients parse it as three numbers and fail on a suffix. The proxy's own
/// version is `emberline_version` in `stats`.
pub const VERSION: &str = "1.6.18";

/// How many keys `stats hotkeys` prints.
const HOTKEYS_MAX: usize = 64;

/// Whether [`answer`] has the answer, whatever the pools are.
pub fn is_local(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Version | Verb::Verbosity | Verb::Stats | Verb::Quit | Verb::MetaNoop
    ) || verb.is_administrative() && !verb.is_for_all()
}

/// Answer one request. `line` is its command line, with or without the line
/// end; `quiet` says that the client wants no answer, where the command
/// allows for that.
pub fn answer(
    verb: Verb,
    line: &[u8],
    quiet: bool,
    context: &Context<'_>,
    out: &mut Vec<u8>,
) -> Then {
    match verb {
        Verb::MetaNoop => encode::line(out, "MN"),
        Verb::Version => line_of(out, "VERSION", VERSION),
        Verb::Stats => stats(line, context, out),
        Verb::Verbosity => {
            if !quiet {
                encode::line(out, verbosity(line));
            }
        }
        Verb::Quit => return Then::Close,
        // Word for word, as clients look for it.
        Verb::Shutdown => encode::line(out, "ERROR: shutdown not enabled"),
        other => {
            if !quiet {
                refuse(other, out);
            }
        }
    }
    Then::Continue
}

/// A command that must not reach a server through a proxy.
pub fn refuse(verb: Verb, out: &mut Vec<u8>) {
    let text = format!(
        "SERVER_ERROR {} is refused by this proxy: it administers one server and the proxy has several",
        verb.name()
    );
    encode::line(out, &text);
}

/// The level changes nothing, as the proxy's log has levels of its own.
fn verbosity(line: &[u8]) -> &'static str {
    let mut words = tokens(line).skip(1);
    match (words.next(), words.count()) {
        (None, _) | (_, 2..) => "ERROR",
        (Some(level), _) if is_number(level) => "OK",
        _ => "CLIENT_ERROR bad command line format",
    }
}

fn is_number(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| word.parse::<u32>().is_ok())
}

fn stats(line: &[u8], context: &Context<'_>, out: &mut Vec<u8>) {
    let words: Vec<&[u8]> = tokens(line).skip(1).take(4).collect();
    let usage = "CLIENT_ERROR usage: stats detail on|off|dump";
    match words.as_slice() {
        [] => general(context, &(context.figures)(), out),
        [b"settings", ..] => settings(context, out),
        [b"hotkeys", ..] => hotkeys(context, out),
        [b"reset", ..] => return encode::line(out, "RESET"),
        [b"sizes", ..] => stat(out, "sizes_status", "disabled"),
        [b"slabs", ..] => {
            stat(out, "active_slabs", 0);
            stat(out, "total_malloced", 0);
        }
        [b"items" | b"conns" | b"extstore", ..] | [b"detail", b"dump", ..] => {}
        [b"detail", b"on" | b"off", ..] => return encode::line(out, "OK"),
        [b"detail", ..] => return encode::line(out, usage),
        [b"cachedump", _, _, ..] => {}
        [b"cachedump", ..] => return encode::line(out, "CLIENT_ERROR bad command line"),
        _ => return encode::line(out, "ERROR"),
    }
    encode::end(out);
}

/// The names that memcached gives and that dashboards read, as far as the
/// proxy has something to say about them. What its servers hold is theirs to
/// tell: a sum over servers would hide the one that is full.
fn general(context: &Context<'_>, figures: &Figures, out: &mut Vec<u8>) {
    let usage = process::usage();
    stat(out, "pid", std::process::id());
    stat(
        out,
        "uptime",
        context.now.saturating_sub(figures.started) / 1000,
    );
    stat(out, "time", context.now / 1000);
    stat(out, "version", VERSION);
    stat(out, "emberline_version", env!("CARGO_PKG_VERSION"));
    stat(out, "pointer_size", usize::BITS);
    stat(out, "rusage_user", format_args!("{:.6}", usage.user));
    stat(out, "rusage_system", format_args!("{:.6}", usage.system));
    stat(out, "max_connections", context.running.proxy.clients_max);
    stat(out, "curr_connections", figures.clients);
    stat(out, "total_connections", figures.connections);
    stat(out, "rejected_connections", figures.rejected);
    stat(out, "cmd_get", figures.gets);
    stat(out, "cmd_set", figures.sets);
    stat(out, "cmd_flush", figures.flushes);
    stat(out, "cmd_touch", figures.touches);
    stat(out, "bytes_read", figures.bytes_in);
    stat(out, "bytes_written", figures.bytes_out);
    stat(out, "limit_maxbytes", context.running.proxy.memory_max);
    stat(out, "accepting_conns", 1);
    stat(out, "threads", context.running.proxy.workers);
    stat(out, "emberline_buffered", figures.buffered);
    let local = context
        .running
        .pools
        .iter()
        .filter(|pool| pool.protocol == Protocol::Memcached);
    let mut local = local.filter_map(|pool| pool.local.as_ref()).peekable();
    if local.peek().is_some() {
        let items: usize = local.map(|pool| pool.len(context.now)).sum();
        stat(out, "curr_items", items);
    }
    for pool in context.running.pools.iter() {
        if pool.protocol == Protocol::Memcached {
            let name = format!("pool_{}_servers", pool.name);
            stat(out, &name, pool.servers.len());
        }
    }
}

fn settings(context: &Context<'_>, out: &mut Vec<u8>) {
    stat(out, "maxbytes", context.running.proxy.memory_max);
    stat(out, "maxconns", context.running.proxy.clients_max);
    match &context.listener.bind {
        Bind::Tcp(address) => {
            stat(out, "tcpport", address.port());
            stat(out, "udpport", 0);
            stat(out, "inter", address.ip());
            stat(out, "domain_socket", "NULL");
        }
        Bind::Unix(path) => {
            stat(out, "tcpport", 0);
            stat(out, "udpport", 0);
            stat(out, "inter", "NULL");
            stat(out, "domain_socket", path.display());
        }
    }
    stat(out, "verbosity", 0);
    stat(out, "num_threads", context.running.proxy.workers);
    stat(out, "cas_enabled", "yes");
    stat(out, "binding_protocol", "ascii");
    stat(out, "auth_enabled_sasl", "no");
    stat(out, "auth_enabled_ascii", "no");
    stat(out, "item_size_max", 1_048_576);
    stat(out, "flush_enabled", "yes");
    stat(out, "shutdown_command", "no");
}

/// `stats hotkeys`, which memcached does not have: the busiest first, each
/// fact in a line of its own, as `stats items` numbers its classes.
fn hotkeys(context: &Context<'_>, out: &mut Vec<u8>) {
    let mut hot = (context.hotkeys)();
    Sort::Rate.sort(&mut hot);
    stat(out, "hotkeys", hot.len());
    for (number, hot) in (1..).zip(hot.iter().take(HOTKEYS_MAX)) {
        let pool = context.running.pools.get(usize::from(hot.pool.0));
        let mut fact = |name: &str, value: &dyn Display| {
            stat(out, &format!("hotkeys:{number}:{name}"), value);
        };
        fact("key", &hot.key);
        fact("pool", &pool.map_or("", |pool| &pool.name));
        fact("state", &hot.state.name());
        let rates = [
            ("requests_per_second", hot.requests.middle()),
            ("requests_per_second_min", hot.requests.lower),
            ("requests_per_second_max", hot.requests.upper),
            ("reads_per_second", hot.reads.middle()),
            ("writes_per_second", hot.writes.middle()),
            ("bytes_per_second", hot.bytes.middle()),
            ("share_percent", 100.0 * hot.share),
        ];
        for (name, rate) in rates {
            fact(name, &format_args!("{rate:.1}"));
        }
        fact("certain", &u8::from(hot.certain));
        fact("hits", &hot.counts.hits);
        fact("misses", &hot.counts.misses);
        fact("hot_ms", &hot.hot_ms);
    }
}

fn stat(out: &mut Vec<u8>, name: &str, value: impl Display) {
    let mut text = String::with_capacity(64);
    // Writing to a String cannot fail.
    let _ = write!(text, "STAT {name} {value}");
    encode::line(out, &text);
}

fn line_of(out: &mut Vec<u8>, word: &str, value: &str) {
    out.extend_from_slice(word.as_bytes());
    out.push(b' ');
    encode::line(out, value);
}
