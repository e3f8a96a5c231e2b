//! redis-benchmark over two servers and two workers: no error, no standstill.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{Emberline, Server, addresses};

const TESTS: &str = "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset";
/// One line for each of them: five for `lrange`, and a heading.
const LINES: usize = 13 + 5 + 1;

fn check(pipeline: &str, clients: &str) {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    // Thousands of long replies may take their second on a busy machine. Nobody who
    // stands still is rescued by a timeout before the benchmark's own end.
    let mut emberline = Emberline::redis_within(&addresses(&servers), "150s");
    let port = emberline.redis_address().port().to_string();
    let mut command = Command::new("timeout");
    command.args(["120", "redis-benchmark", "-p", &port, "-t", TESTS]);
    command.args([
        "-P", pipeline, "-c", clients, "-n", "3000", "-r", "1000", "--csv",
    ]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert_eq!(errors, "", "{text}");
    assert_eq!(text.lines().count(), LINES, "{text}");
    emberline.assert_alive();
}

#[test]
fn redis_benchmark_passes_request_by_request() {
    check("1", "50");
}

#[test]
fn redis_benchmark_passes_in_pipelines() {
    check("64", "20");
}

/// More requests than a server's queue takes, from several clients at once:
/// those who had to wait were left asleep when replies emptied the queue.
#[test]
fn clients_do_not_stand_still_behind_a_full_queue() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let emberline = Emberline::config(&format!(
        r#"
[listeners.redis]
protocol = "redis"
bind = "REDIS_BIND"
route = "cache"

[pools.cache]
protocol = "redis"
servers = ["{}"]
inflight_max = 50
"#,
        servers[0].address(),
    ));
    let mut clients: Vec<_> = (0..8).map(|_| emberline.client()).collect();
    let requests = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(200);
    let started = Instant::now();
    for client in &mut clients {
        client.send(&requests);
    }
    for client in &mut clients {
        (0..200).for_each(|_| assert_eq!(client.reply()[0], b':'));
    }
    // A standstill lasts a second.
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}

/// A process that is not scheduled for a while finds replies and timeouts at
/// once when it comes back: the replies count.
#[test]
fn a_proxy_that_stood_still_does_not_blame_its_servers() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let emberline = Emberline::redis(&servers);
    let mut clients: Vec<_> = (0..20).map(|_| emberline.client()).collect();
    let (ask, half) = (
        b"*1\r\n$6\r\nDBSIZE\r\n".repeat(100),
        Duration::from_millis(100),
    );
    for client in &mut clients {
        client.call(&["DBSIZE"]);
    }
    servers[0].freeze();
    for client in &mut clients[..10] {
        client.send(&ask);
    }
    std::thread::sleep(half);
    emberline.signal("STOP");
    servers[0].thaw();
    for client in &mut clients[10..] {
        client.send(&ask);
    }
    std::thread::sleep(half * 15);
    emberline.signal("CONT");
    for client in &mut clients {
        (0..100).for_each(|_| assert_eq!(client.reply(), b":0\r\n"));
    }
}
