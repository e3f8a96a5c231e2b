//! What somebody types first: redis-cli and a bare socket, against the
//! embedded pool and against two servers.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use support::{Emberline, Server};

fn embedded() -> Emberline {
    Emberline::config(
        r#"
[listeners.redis]
protocol = "redis"
bind = "REDIS_BIND"
route = "cache"

[pools.cache]
protocol = "redis"
kind = "local"
"#,
    )
}

/// Run redis-cli; `None` when it is not installed and need not be.
fn redis_cli(address: SocketAddr, args: &[&str], input: &str) -> Option<String> {
    let port = address.port().to_string();
    let mut command = Command::new("timeout");
    command.args(["20", "redis-cli", "-p", &port]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.code() == Some(127) {
        let required = std::env::var_os("EMBERLINE_REQUIRE_SERVERS").is_some();
        assert!(!required, "redis-cli is not installed");
        eprintln!("skipped: redis-cli is not installed");
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}");
    Some(text)
}

#[test]
fn redis_cli_explores_the_embedded_pool() {
    let emberline = embedded();
    let address = emberline.redis_address();
    let pairs: Vec<String> = (0..300).map(|i| format!("SET key:{i} {i}\n")).collect();
    let Some(answers) = redis_cli(address, &[], &pairs.concat()) else {
        return;
    };
    assert_eq!(answers.matches("OK\n").count(), 300);
    let run = |args: &[&str]| redis_cli(address, args, "").unwrap();
    let keys = run(&["--scan"]);
    assert_eq!(keys.lines().count(), 300);
    assert_eq!(keys.lines().collect::<BTreeSet<_>>().len(), 300);
    assert_eq!(run(&["--scan", "--pattern", "key:1"]), "key:1\n");
    let biggest = run(&["--bigkeys"]);
    assert!(biggest.contains("300 strings with 790 bytes"), "{biggest}");
    assert!(run(&["info"]).contains("redis_version:7."));
    assert_eq!(run(&["command", "count"]), "241\n");
    assert!(run(&["-3", "hello"]).contains("proto 3"));
    // What an interactive redis-cli asks when it starts.
    assert!(run(&["command", "docs"]).lines().count() > 1000);
    assert_eq!(run(&["dbsize"]), "300\n");
}

#[test]
fn redis_cli_pipes_a_mass_insertion_over_two_servers() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let emberline = Emberline::redis(&servers);
    let address = emberline.redis_address();
    let lines: Vec<String> = (0..5000).map(|i| format!("SET key:{i} {i}\r\n")).collect();
    let Some(report) = redis_cli(address, &["--pipe"], &lines.concat()) else {
        return;
    };
    assert!(report.contains("errors: 0, replies: 5000"), "{report}");
    assert_eq!(redis_cli(address, &["dbsize"], "").unwrap(), "5000\n");
}

#[test]
fn a_bare_line_is_answered() {
    let emberline = embedded();
    let mut stream = TcpStream::connect(emberline.redis_address()).unwrap();
    stream
        .write_all(b"PING\r\nset a \"x y\"\nGET a\r\nQUIT\r\n")
        .unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "+PONG\r\n+OK\r\n$3\r\nx y\r\n+OK\r\n");
}
