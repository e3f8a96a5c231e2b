//! Real traffic through the running binary, and what is then seen of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Client, Emberline, Server, command, free_port};

/// How long until something must have been seen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests in a round.
const REQUESTS: usize = 100;

/// What differs between the tests.
struct Setting<'a> {
    protocol: &'a str,
    server: &'a Server,
    /// More of the configuration.
    more: &'a str,
}

/// An Emberline with an admin API, and that API's address.
fn emberline(setting: &Setting<'_>) -> (Emberline, String) {
    let Setting {
        protocol,
        server,
        more,
    } = setting;
    let bind = format!("{}_BIND", protocol.to_uppercase());
    let text = format!(
        "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{bind}\"\nroute = \"cache\"\n\
         [pools.cache]\nprotocol = \"{protocol}\"\nservers = [\"{}\"]\n{more}",
        server.address()
    );
    let admin = format!("127.0.0.1:{}", free_port());
    let proxy = Emberline::config_with(&text, &["--admin-bind", &admin]);
    (proxy, admin)
}

fn hotkeys(admin: &str, more: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
    command
        .args(["hotkeys", "--json", "--admin", admin])
        .args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Send this until `seen` says that it shows, and return the answer that did.
fn until(
    admin: &str,
    client: &mut Client,
    round: &[u8],
    reply: fn(&mut Client) -> Vec<u8>,
    seen: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        client.send(round);
        for _ in 0..REQUESTS {
            reply(client);
        }
        let answer = hotkeys(admin, &[]);
        if seen(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer:#}");
    }
}

/// Reads of a hot key, and one of a cold one.
fn redis_round() -> Vec<u8> {
    let mut round = command(&["GET", "cold"]);
    round.extend(command(&["GET", "hot"]).repeat(REQUESTS - 1));
    round
}

const PLAIN: &str = "[hotkey]\nthreshold = 50\nwindow = \"10s\"\nkey_visibility = \"plain\"\n";

fn has_key(answer: &Value, name: &str) -> bool {
    let keys = answer["keys"].as_array().unwrap();
    keys.iter().any(|key| key["key"] == name)
}

#[test]
fn a_hot_redis_key_is_seen_with_bounds() {
    let Some(server) = Server::redis() else {
        return;
    };
    let (proxy, admin) = emberline(&Setting {
        protocol: "redis",
        server: &server,
        more: PLAIN,
    });
    let mut client = proxy.client();
    let seen = |answer: &Value| has_key(answer, "hot");
    let answer = until(&admin, &mut client, &redis_round(), Client::reply, seen);
    assert!(!has_key(&answer, "cold"), "{answer:#}");
    let key = &answer["keys"][0];
    assert_eq!(
        (&key["pool"], &key["protocol"]),
        (&"cache".into(), &"redis".into())
    );
    let rate = |field: &str| key["requests"][field].as_f64().unwrap();
    assert!(
        rate("lower") > 0.0 && rate("lower") <= rate("upper"),
        "{key:#}"
    );
    assert_eq!(key["certain"], true);
    assert!(key["share"].as_f64().unwrap() > 0.5, "{key:#}");
    // In band, with the same name.
    let reply = String::from_utf8(client.call(&["HOTKEYS", "GET"])).unwrap();
    assert!(reply.contains("\r\nhot\r\n"), "{reply}");
}

#[test]
fn a_hot_memcached_key_is_seen_and_not_by_its_name() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (proxy, admin) = emberline(&Setting {
        protocol: "memcached",
        server: &server,
        more: "[hotkey]\nthreshold = 50\nwindow = \"10s\"\n",
    });
    let mut client = proxy.client();
    let round = b"get hot\r\n".repeat(REQUESTS);
    let seen = |answer: &Value| answer["found"] == 1;
    let answer = until(&admin, &mut client, &round, Client::memcached_reply, seen);
    assert!(!answer.to_string().contains("\"hot\""), "{answer:#}");
    assert_eq!(hotkeys(&admin, &["--key", "hot"])["found"], 1);
    assert_eq!(hotkeys(&admin, &["--key", "cold"])["found"], 0);
    let hash = answer["keys"][0]["key"].as_str().unwrap();
    client.send(b"stats hotkeys\r\nmn\r\n");
    let stats = String::from_utf8(client.until(b"MN\r\n")).unwrap();
    assert!(
        stats.contains(&format!("STAT hotkeys:1:key {hash}\r\n")),
        "{stats}"
    );
}

#[test]
fn observing_tells_what_memory_would_have_saved() {
    let Some(server) = Server::redis() else {
        return;
    };
    let (proxy, admin) = emberline(&Setting {
        protocol: "redis",
        server: &server,
        more: PLAIN,
    });
    let mut client = proxy.client();
    client.call(&["SET", "hot", "value"]);
    let round = command(&["GET", "hot"]).repeat(REQUESTS);
    let seen = |answer: &Value| {
        let pool = &answer["pools"][0];
        pool["would_hit"].as_u64() > Some(100)
            && pool["would_save"]["requests"].as_f64() > Some(1.0)
            && pool["would_save"]["bytes"].as_f64() > Some(1.0)
    };
    let answer = until(&admin, &mut client, &round, Client::reply, seen);
    let pool = &answer["pools"][0];
    assert_eq!(
        (&pool["mode"], &pool["hits"]),
        (&"observe".into(), &0.into())
    );
    let sentence = pool["would_save"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("requests/s"), "{sentence}");
}

#[test]
fn a_key_answered_from_memory_is_cached_and_its_hits_are_counted() {
    let Some(server) = Server::redis() else {
        return;
    };
    let (proxy, admin) = emberline(&Setting {
        protocol: "redis",
        server: &server,
        more: &format!("{PLAIN}[l1]\nmode = \"ttl\"\nttl = \"10s\"\n"),
    });
    let mut client = proxy.client();
    client.call(&["SET", "hot", "value"]);
    let round = command(&["GET", "hot"]).repeat(REQUESTS);
    let seen = |answer: &Value| {
        let key = &answer["keys"][0];
        key["state"] == "cached" && key["hit_ratio"].as_f64() > Some(0.9)
    };
    let answer = until(&admin, &mut client, &round, Client::reply, seen);
    assert!(answer["l1"]["bytes"].as_u64() > Some(0), "{answer:#}");
    assert!(answer["pools"][0]["hits"].as_u64() > Some(0), "{answer:#}");
    assert_eq!(answer["pools"][0]["would_save"], Value::Null);
}

#[test]
fn a_listener_may_deny_hotkeys() {
    let Some(server) = Server::redis() else {
        return;
    };
    let text = format!(
        "[listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"cache\"\ndeny = [\"DENIED\"]\n\
         [pools.cache]\nprotocol = \"redis\"\nservers = [\"{}\"]\n",
        server.address()
    );
    let check = |denied: &str, subcommand: &str, start: &str| {
        let proxy = Emberline::config(&text.replace("DENIED", denied));
        let mut client = proxy.client();
        let reply = String::from_utf8(client.call(&["hotkeys", subcommand])).unwrap();
        assert!(reply.starts_with(start), "{denied}, {subcommand}: {reply}");
    };
    check("hotkeys", "get", "-NOPERM ");
    check("hotkeys|start", "start", "-NOPERM ");
    check("hotkeys|start", "get", "*1\r\n");
    check("flushall", "get", "*1\r\n");
}
