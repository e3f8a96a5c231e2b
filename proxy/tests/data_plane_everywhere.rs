//! Commands that concern every server: each is asked once, also when it
//! stands in two pools, and a drained one is not forgotten.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Emberline, Server, show};

/// Two pools share the first server; the second server is drained.
fn proxy(servers: &[Server], protocol: &str) -> Emberline {
    let (first, second) = (servers[0].address(), servers[1].address());
    let bind = format!("{}_BIND", protocol.to_uppercase());
    Emberline::config(&format!(
        "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{bind}\"\nroute = \"split\"\n\
         [routes.split]\ntype = \"prefix\"\nchildren = {{ \"a:\" = \"a\" }}\ndefault = \"b\"\n\
         [pools.a]\nprotocol = \"{protocol}\"\nservers = [\"{first}\"]\n\
         [pools.b]\nprotocol = \"{protocol}\"\nservers = [\
         \"{first}\", {{ address = \"{second}\", weight = 0 }}]\n"
    ))
}

#[test]
fn redis_servers_are_asked_once_and_drained_ones_too() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    servers[1].client().call(&["SET", "left-behind", "1"]);
    let proxy = proxy(&servers, "redis");
    let mut client = proxy.client();
    for key in ["a:1", "b:1", "c:1"] {
        assert_eq!(show(&client.call(&["SET", key, "v"])), "+OK\\r\\n");
    }
    assert_eq!(show(&client.call(&["DBSIZE"])), ":4\\r\\n");
    let keys = show(&client.call(&["KEYS", "*"]));
    assert!(keys.starts_with("*3\\r\\n"), "{keys}");
    assert_eq!(show(&client.call(&["FLUSHALL"])), "+OK\\r\\n");
    for server in &servers {
        assert_eq!(show(&server.client().call(&["DBSIZE"])), ":0\\r\\n");
    }
}

#[test]
fn a_drained_memcached_server_is_flushed_too() {
    let Some(servers) = Server::memcached_many(2) else {
        return;
    };
    let mut direct = servers[1].client();
    assert_eq!(show(&direct.ask("set left 0 0 1\r\n1\r\n")), "STORED\\r\\n");
    let proxy = proxy(&servers, "memcached");
    assert_eq!(show(&proxy.client().ask("flush_all\r\n")), "OK\\r\\n");
    assert_eq!(show(&direct.ask("get left\r\n")), "END\\r\\n");
}
