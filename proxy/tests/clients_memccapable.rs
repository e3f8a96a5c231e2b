//! libmemcached's own acceptance test, all of whose text cases must pass.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::process::Command;

use support::{Emberline, Server};

const CASES: usize = 27;

fn check(address: SocketAddr) {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let mut command = Command::new("timeout");
    command.args(["60", "memccapable", "-h", &host, "-p", &port, "-a"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(127) {
        let required = std::env::var_os("EMBERLINE_REQUIRE_SERVERS").is_some();
        assert!(!required, "memccapable is not installed");
        eprintln!("skipped: memccapable is not installed");
        return;
    }
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    assert_eq!(text.matches("[pass]").count(), CASES, "{text}");
}

#[test]
fn memccapable_passes_over_two_servers() {
    let Some(servers) = Server::memcached_many(2) else {
        return;
    };
    check(Emberline::memcached(&servers).memcached_address());
}

#[test]
fn memccapable_passes_on_the_embedded_pool() {
    let emberline = Emberline::config(
        r#"
[listeners.memcached]
protocol = "memcached"
bind = "MEMCACHED_BIND"
route = "cache"

[pools.cache]
protocol = "memcached"
kind = "local"
"#,
    );
    check(emberline.memcached_address());
}
