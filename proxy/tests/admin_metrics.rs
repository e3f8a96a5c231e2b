//! The exposition text: well formed, complete, bounded.

#![allow(clippy::unwrap_used)]

mod admin_support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

use admin_support::{Site, ask, running, start};
use emberline::metrics::{Class, Event, OTHER, Verdict, memcache_command};
use emberline_protocol::memcache::Verb;
use emberline_protocol::redis::command::COUNT;
use emberline_routing::{PoolId, ServerId};

/// Every command of every listener to every pool with every outcome: more
/// than any client can cause.
fn flood(site: &Site) {
    let running = &site.state.view().running;
    let commands = 0..=u16::try_from(COUNT + Verb::COUNT).unwrap();
    for meter in &*site.state.view().meters {
        for listener in 0..running.listeners.len() {
            let pools = (0..running.pools.len()).map(|i| Some(PoolId(u16::try_from(i).unwrap())));
            for pool in pools.chain([None]) {
                for command in commands.clone().chain([OTHER]) {
                    for verdict in Verdict::ALL {
                        meter.request(listener, pool, command, verdict);
                    }
                }
                for class in Class::ALL {
                    if let Some(pool) = pool {
                        meter.latency(pool, class, 123_456);
                    }
                }
            }
        }
        for pool in 0..u16::try_from(running.pools.len()).unwrap() {
            for event in Event::ALL {
                meter.event(pool, event, 1);
            }
        }
        for server in 0..running.servers.len() {
            let server = ServerId(u32::try_from(server).unwrap());
            meter.upstream_connect(server, true);
            for verdict in Verdict::ALL {
                meter.upstream(server, verdict);
            }
        }
    }
}

fn scrape(site: &Site) -> String {
    let (code, text) = ask(site.status(), "GET", "/metrics");
    assert_eq!(code, 200);
    text
}

/// The body of a chunked answer is read as is by the tests' client, so the
/// server must not send one.
fn series(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut all = BTreeMap::new();
    for line in samples {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(
            all.insert(name.to_owned(), value).is_none(),
            "twice: {line}"
        );
    }
    all
}

#[test]
fn fifty_servers_stay_within_two_thousand_series() {
    for (pools, servers) in [(1, 50), (2, 25), (10, 5), (50, 1)] {
        bounded(pools, servers);
    }
}

fn bounded(pools: u16, servers: u32) {
    let site = start(running("r", pools, servers));
    flood(&site);
    let first = series(&scrape(&site));
    assert!(first.len() <= 2000, "{pools} pools: {}", first.len());
    // Nothing is lost by folding, and no counter goes back when more is folded.
    let total = |all: &BTreeMap<String, f64>| -> f64 {
        let counts = [
            "emberline_requests_total",
            "emberline_request_duration_seconds_count",
            "emberline_l1_events_total",
        ];
        let requests = all
            .iter()
            .filter(|(name, _)| counts.iter().any(|count| name.starts_with(count)));
        requests.map(|(_, value)| value).sum()
    };
    flood(&site);
    let second = series(&scrape(&site));
    assert_eq!(total(&second), 2.0 * total(&first));
    assert_eq!(
        first.keys().collect::<Vec<_>>(),
        second.keys().collect::<Vec<_>>()
    );
    for (name, value) in first.iter().filter(|(name, _)| name.contains("_total")) {
        assert!(second[name] >= *value, "{name}");
    }
}

#[test]
fn a_quiet_proxy_has_no_series_for_what_never_happened() {
    let site = start(running("r", 1, 1));
    let all = series(&scrape(&site));
    assert!(
        !all.keys()
            .any(|name| name.starts_with("emberline_requests_total"))
    );
    assert_eq!(all[r#"emberline_client_connections{listener="r"}"#], 0.0);
    assert!(all.len() < 40, "{}", all.len());
    assert!(
        !all.keys()
            .any(|name| name.starts_with("emberline_l1_events_total"))
    );
    assert_eq!(all["emberline_l1_capacity_bytes"], f64::from(1 << 20));
    assert_eq!(all[r#"emberline_hotkeys{pool="pool-0"}"#], 0.0);
}

#[test]
fn requests_carry_the_names_of_the_configuration() {
    let site = start(running("r", 2, 1));
    let meter = &site.state.view().meters[0];
    meter.request(
        1,
        Some(PoolId(1)),
        memcache_command(Verb::MetaGet),
        Verdict::Timeout,
    );
    meter.request(1, None, memcache_command(Verb::Version), Verdict::Ok);
    meter.request(1, None, OTHER, Verdict::Refused);
    let beyond = u16::try_from(COUNT + Verb::COUNT).unwrap();
    meter.request(1, None, beyond, Verdict::Refused);
    meter.latency(PoolId(1), Class::Write, 20_000);
    meter.latency(PoolId(1), Class::Write, 20_000_000_000);
    let all = series(&scrape(&site));
    let request = |pool: &str, command: &str, result: &str| {
        all[&format!(
            r#"emberline_requests_total{{listener="m",pool="{pool}",command="{command}",result="{result}"}}"#
        )]
    };
    assert_eq!(request("pool-1", "mg", "timeout"), 1.0);
    assert_eq!(request("", "version", "ok"), 1.0);
    assert_eq!(request("", "other", "refused"), 2.0);
    let bucket = |le: &str| {
        all[&format!(
            r#"emberline_request_duration_seconds_bucket{{pool="pool-1",class="write",le="{le}"}}"#
        )]
    };
    assert_eq!(bucket("0.000016384"), 0.0);
    assert_eq!(bucket("0.000032768"), 1.0);
    assert_eq!(bucket("4.294967296"), 1.0);
    assert_eq!(bucket("+Inf"), 2.0);
    let sum = r#"emberline_request_duration_seconds_sum{pool="pool-1",class="write"}"#;
    assert_eq!(all[sum], 20.00002);
}

#[test]
fn promoted_keys_are_counted_and_never_named() {
    let site = start(running("r", 2, 1));
    let l1 = &site.state.l1;
    for key in [&b"user:1"[..], b"user:2"] {
        l1.board.promote(l1.hasher.hash_in(1, key), 1, key);
    }
    for meter in &*site.state.view().meters {
        meter.event(1, Event::WouldHit, 2);
        meter.event(0, Event::Push, 1);
    }
    let text = scrape(&site);
    assert!(!text.contains("user:1"));
    let all = series(&text);
    let value = |name: &str| all[name];
    assert_eq!(value(r#"emberline_hotkeys{pool="pool-0"}"#), 0.0);
    assert_eq!(value(r#"emberline_hotkeys{pool="pool-1"}"#), 2.0);
    assert_eq!(
        value(r#"emberline_l1_mode{pool="pool-1",mode="observe"}"#),
        1.0
    );
    let event = |pool, event| {
        all.get(&format!(
            r#"emberline_l1_events_total{{pool="{pool}",event="{event}"}}"#
        ))
    };
    assert_eq!(event("pool-1", "would_hit"), Some(&4.0));
    assert_eq!(event("pool-0", "push"), Some(&2.0));
    assert_eq!(event("pool-0", "would_hit"), None);
}

#[test]
fn the_text_is_well_formed() {
    // A name that must be escaped, were it ever allowed.
    let site = start(running("a\"b\\c\nd", 2, 2));
    flood(&site);
    let text = scrape(&site);
    let names = check(&text);
    for name in [
        "emberline_requests_total",
        "emberline_request_duration_seconds",
        "emberline_upstream_requests_total",
        "emberline_upstream_inflight",
        "emberline_upstream_connects_total",
        "emberline_client_connections",
        "emberline_shed_total",
        "emberline_config_last_reload_successful",
        "emberline_build_info",
        "emberline_hotkeys",
        "emberline_l1_bytes",
        "emberline_l1_events_total",
        "emberline_l1_mode",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(names.contains(name), "{name} is missing");
    }
    promtool(&text);
}

/// Version 0.0.4 of the exposition format, with the conventions that a
/// linter would ask for; the families' names.
fn check(text: &str) -> BTreeSet<String> {
    assert!(text.ends_with('\n'));
    let mut families = BTreeSet::new();
    let mut seen = HashSet::new();
    let (mut help, mut family, mut kind) = ("", "", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap();
            assert!(!text.is_empty(), "{line}");
            help = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            (family, kind) = rest.split_once(' ').unwrap();
            assert_eq!(help, family, "help stands before type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
            assert!(families.insert(family.to_owned()), "twice: {line}");
        } else {
            let (name, labels, value) = sample(line);
            let suffix = name
                .strip_prefix(family)
                .unwrap_or_else(|| panic!("{line} in {family}"));
            let wanted: &[&str] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(wanted.contains(&suffix), "{line}");
            assert!(
                value
                    .parse::<f64>()
                    .is_ok_and(|v| v.is_finite() && v >= 0.0),
                "{line}"
            );
            assert!(seen.insert((name, labels)), "twice: {line}");
        }
    }
    families
}

/// Name, labels and value of a sample line.
fn sample(line: &str) -> (&str, Vec<(String, String)>, &str) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.chars().all(good), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.trim_start_matches(',').split_once("=\"").unwrap();
            assert!(label.chars().all(good), "{line}");
            let mut escaped = false;
            let end = value.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let (value, behind) = value.split_at(end.unwrap());
            labels.push((label.to_owned(), value.to_owned()));
            rest = &behind[1..];
        }
        rest = &rest[1..];
    }
    (name, labels, rest.strip_prefix(' ').unwrap())
}

/// The reference linter's opinion, where it is installed.
fn promtool(text: &str) {
    let run = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut run) = run else {
        eprintln!("skipped: promtool is not installed");
        return;
    };
    run.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
