//! Hot keys behind routes of several places: memory answers in place of the
//! one that is asked first, and never longer than that one would.

#![allow(clippy::unwrap_used)]

mod serving_support;
mod support;

use serving_support::{Proxy, bulk, calls, eventually, get};
use support::{Server, command, show};

const HOT: &str = "[hotkey]\nalways = [\"hot\", \"p:hot\"]\n";

/// Pools `a`, `b` ... of one server each behind this route.
fn proxy(servers: &[Server], route: &str, mode: &str) -> Proxy {
    let mut config = format!(
        "[listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = {route}\n\
         {HOT}[l1]\nmode = \"{mode}\"\n"
    );
    for (name, server) in ["a", "b", "c"].iter().zip(servers) {
        config += &format!(
            "[pools.{name}]\nprotocol = \"redis\"\nservers = [\"{}\"]\n",
            server.address()
        );
    }
    Proxy::config(&config)
}

fn servers(count: usize) -> Option<Vec<Server>> {
    (0..count).map(|_| Server::redis()).collect()
}

const ROUTES: [&str; 6] = [
    "{ type = 'replicas', children = ['a', 'b'] }",
    "{ type = 'replicas', children = ['a', 'b'], read = 'random' }",
    "{ type = 'failover', children = ['a', 'b'] }",
    "{ type = 'shadow', main = 'a', copies = [{ route = 'b', share = 1.0 }] }",
    "{ type = 'key', child = 'a', add_prefix = 'p:' }",
    "{ type = 'l1_l2', l1 = 'a', l2 = 'b' }",
];

#[test]
fn a_hot_key_costs_no_server_much() {
    for (route, mode) in ROUTES
        .iter()
        .flat_map(|route| [(route, "ttl"), (route, "tracking")])
    {
        let Some(servers) = servers(2) else { return };
        let proxy = proxy(&servers, route, mode);
        let mut clients = [proxy.client(), proxy.client(), proxy.client()];
        clients[0].call(&["SET", "hot", "value"]);
        // Memory is told in place of a plan, and nobody waits for it to be.
        eventually("memory answers", || {
            assert_eq!(get(&mut clients[1], "hot"), bulk("value"), "{route}");
            let before: u64 = servers.iter().map(|server| calls(server, "get")).sum();
            (0..20).for_each(|_| drop(get(&mut clients[2], "hot")));
            let after: u64 = servers.iter().map(|server| calls(server, "get")).sum();
            after == before
        });
        let before: u64 = servers.iter().map(|server| calls(server, "get")).sum();
        for _ in 0..1000 {
            for client in &mut clients {
                assert_eq!(get(client, "hot"), bulk("value"), "{route}, {mode}");
            }
        }
        let after: u64 = servers.iter().map(|server| calls(server, "get")).sum();
        let asked = after - before;
        assert!(
            asked < 200,
            "{route}, {mode}: servers were asked {asked} times"
        );
    }
}

#[test]
fn a_client_reads_what_it_wrote() {
    for (route, mode) in ROUTES
        .iter()
        .flat_map(|route| [(route, "ttl"), (route, "tracking")])
    {
        let Some(servers) = servers(2) else { return };
        let proxy = proxy(&servers, route, mode);
        let mut client = proxy.client();
        for round in 0..300 {
            let (first, second) = (format!("a{round}"), format!("b{round}"));
            let requests = [
                command(&["SET", "hot", &first]),
                command(&["GET", "hot"]),
                command(&["GET", "cold"]),
                command(&["SET", "hot", &second]),
                command(&["GET", "hot"]),
                command(&["GET", "hot"]),
                command(&["DEL", "hot"]),
                command(&["GET", "hot"]),
            ];
            client.send(&requests.concat());
            let replies: Vec<String> = (0..8).map(|_| show(&client.reply())).collect();
            let expected = [
                "+OK\\r\\n".to_owned(),
                bulk(&first),
                "$-1\\r\\n".to_owned(),
                "+OK\\r\\n".to_owned(),
                bulk(&second),
                bulk(&second),
                ":1\\r\\n".to_owned(),
                "$-1\\r\\n".to_owned(),
            ];
            assert_eq!(replies, expected, "{route}, {mode}, round {round}");
        }
    }
}

#[test]
fn memory_does_not_stand_in_for_a_server_that_is_down() {
    for mode in ["ttl", "tracking"] {
        let Some(mut servers) = servers(2) else {
            return;
        };
        let route = "{ type = 'replicas', children = ['a', 'b'], wait = 'one' }";
        let proxy = proxy(&servers, route, mode);
        let mut client = proxy.client();
        for round in 0..5 {
            client.call(&["SET", "hot", "old"]);
            (0..50).for_each(|_| drop(get(&mut client, "hot")));
            servers[0].kill();
            let new = format!("new{round}");
            assert_eq!(show(&client.call(&["SET", "hot", &new])), "+OK\\r\\n");
            for _ in 0..50 {
                assert_eq!(get(&mut client, "hot"), bulk(&new), "{mode}, {round}");
            }
            servers[0].restart();
            // It comes back empty.
            eventually("it is up again", || {
                client.call(&["SET", "probe", "1"]);
                servers[0].client().call(&["EXISTS", "probe"]) == b":1\r\n"
            });
        }
    }
}

#[test]
fn what_the_first_has_not_got_is_asked_of_the_next() {
    for mode in ["ttl", "tracking"] {
        let Some(servers) = servers(2) else { return };
        servers[1].client().call(&["SET", "hot", "there"]);
        let proxy = proxy(
            &servers,
            "{ type = 'miss_failover', children = ['a', 'b'] }",
            mode,
        );
        let mut client = proxy.client();
        for _ in 0..500 {
            assert_eq!(get(&mut client, "hot"), bulk("there"), "{mode}");
        }
    }
}

#[test]
fn a_rewritten_key_is_known_by_what_it_becomes() {
    let Some(servers) = servers(1) else { return };
    let route = "{ type = 'prefix', children = { 'x:' = 'a' }, default = 'a', strip = true }";
    let proxy = proxy(&servers, route, "tracking");
    let mut client = proxy.client();
    client.call(&["SET", "hot", "1"]);
    eventually("memory answers", || {
        let before = calls(&servers[0], "get");
        (0..20).for_each(|_| assert_eq!(get(&mut client, "x:hot"), bulk("1")));
        calls(&servers[0], "get") == before
    });
    // Both names are one key, and a write by either is seen by both.
    for round in 0..200 {
        let value = round.to_string();
        let name = if round % 2 == 0 { "hot" } else { "x:hot" };
        client.call(&["SET", name, &value]);
        assert_eq!(get(&mut client, "hot"), bulk(&value));
        assert_eq!(get(&mut client, "x:hot"), bulk(&value));
    }
}
