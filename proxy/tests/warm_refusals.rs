//! What `emberline warm` refuses, and how it says so. No servers are needed.

#![allow(clippy::unwrap_used)]

mod support;
mod warm_support;

use support::TempDir;
use warm_support::{emberline, said};

const CONFIG: &str = r#"
[listeners.main]
protocol = "redis"
bind = "127.0.0.1:1"
route = "old"

[pools.old]
protocol = "redis"
servers = ["127.0.0.1:2"]

[pools.new]
protocol = "redis"
servers = ["127.0.0.1:3", "127.0.0.1:4"]

[pools.items]
protocol = "memcached"
servers = ["127.0.0.1:5"]

[pools.memory]
protocol = "redis"
kind = "local"
"#;

fn check(args: &[&str], code: i32, expected: &str) {
    let dir = TempDir::new();
    let path = dir.path().join("emberline.toml");
    std::fs::write(&path, CONFIG).unwrap();
    let start = ["warm", "-c", path.to_str().unwrap()];
    let output = emberline(&[&start, args].concat()).output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(expected), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{args:?}: {said}");
}

#[test]
fn pools_must_be_there_and_go_together() {
    check(
        &["--from", "old", "--to", "nwe"],
        2,
        "there is no pool `nwe`, expected one of items, memory, new, old",
    );
    check(
        &["--from", "old", "--to", "items"],
        2,
        "`old` speaks redis and `items` memcached: only pools of one protocol can be copied",
    );
    check(
        &["--from", "old", "--to", "old"],
        2,
        "`old` cannot be copied to itself",
    );
    check(
        &["--from", "memory", "--to", "old"],
        2,
        "pool `memory` is local",
    );
    check(
        &["--from", "old", "--to", "new", "--only", "127.0.0.1:2"],
        2,
        "`new` has no server `127.0.0.1:2`, expected one of 127.0.0.1:3, 127.0.0.1:4",
    );
    check(&["--from", "old"], 2, "--to <POOL>");
}

#[test]
fn settings_must_make_sense() {
    let pools = ["--from", "old", "--to", "new"];
    for (option, value, expected) in [
        ("--rate", "0", "--rate"),
        ("--concurrency", "0", "--concurrency"),
        ("--min-ttl", "5", "has no unit"),
        ("--bandwidth", "fast", "is not a size"),
        ("--hot-list", "/no/such/file", "cannot read /no/such/file"),
    ] {
        check(&[&pools[..], &[option, value]].concat(), 2, expected);
    }
}

#[test]
fn servers_that_are_not_there_are_named() {
    check(
        &["--from", "old", "--to", "new", "--retry-for", "50ms"],
        1,
        "127.0.0.1:2 was given up: Connection refused",
    );
}
