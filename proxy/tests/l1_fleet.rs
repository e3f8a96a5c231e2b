//! Several proxies before the same servers.

#![allow(clippy::unwrap_used)]

mod serving_support;
mod support;

use std::net::SocketAddr;

use serving_support::{Proxy, bulk, calls, eventually, get, list};
use support::{Client, Server, free_port};

/// Two proxies before the same servers; `more` is the rest of their
/// configuration.
fn two(protocol: &str, servers: &[Server], more: &str) -> [Proxy; 2] {
    let more = format!("[hotkey]\nalways = [\"hot\"]\n{more}\n");
    [(), ()].map(|()| Proxy::start(protocol, servers, "request_timeout = \"4s\"", &more))
}

/// Values may be kept for much longer than a test is patient.
fn on_bus(bus: &Server) -> String {
    format!(
        "[l1]\nmode = \"ttl\"\nttl = \"30s\"\n[bus]\nserver = \"{}\"",
        bus.address()
    )
}

fn set(protocol: &str, client: &mut Client, value: &str) {
    let said = match protocol {
        "redis" => client.call(&["SET", "hot", value]),
        _ => client.ask(format!("set hot 0 0 {}\r\n{value}\r\n", value.len())),
    };
    assert!(said == b"+OK\r\n" || said == b"STORED\r\n", "{said:?}");
}

fn read(protocol: &str, client: &mut Client) -> String {
    let said = match protocol {
        "redis" => client.call(&["GET", "hot"]),
        _ => client.ask("get hot\r\n"),
    };
    String::from_utf8(said).unwrap()
}

/// Write through each proxy in turn until the other is heard to have seen it:
/// before the bus stands, what is said on it is lost.
fn comes_through(protocol: &str, clients: &mut [Client; 2], label: &str) {
    for round in 0..6 {
        let (writer, reader) = (round % 2, 1 - round % 2);
        let mut number = 0;
        eventually("a write is not heard of", || {
            number += 1;
            let value = format!("{label}-{round}-{number}");
            (0..5).for_each(|_| drop(read(protocol, &mut clients[reader])));
            set(protocol, &mut clients[writer], &value);
            assert!(read(protocol, &mut clients[writer]).contains(&value));
            (0..20).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                read(protocol, &mut clients[reader]).contains(&value)
            })
        });
    }
}

#[test]
fn a_write_through_one_proxy_is_soon_seen_through_the_other() {
    for protocol in ["redis", "memcached"] {
        let servers = match protocol {
            "redis" => Server::redis_many(2),
            _ => Server::memcached_many(2),
        };
        let (Some(servers), Some(mut bus)) = (servers, Server::redis()) else {
            return;
        };
        let proxies = two(protocol, &servers, &on_bus(&bus));
        let mut clients = [proxies[0].client(), proxies[1].client()];
        comes_through(protocol, &mut clients, "first");
        for proxy in &proxies {
            proxy.has_seen("hit");
            proxy.has_seen("bus");
        }
        // Without the bus clients are served as before.
        bus.kill();
        set(protocol, &mut clients[0], "alone");
        for _ in 0..50 {
            assert!(read(protocol, &mut clients[0]).contains("alone"));
            read(protocol, &mut clients[1]);
        }
        bus.restart();
        // What was written meanwhile is not kept from anybody.
        eventually("what was not heard of is still served", || {
            read(protocol, &mut clients[1]).contains("alone")
        });
        comes_through(protocol, &mut clients, "second");
    }
}

#[test]
fn a_key_that_is_cold_in_the_proxy_that_writes_it_is_heard_of_all_the_same() {
    let (Some(servers), Some(bus)) = (Server::redis_many(1), Server::redis()) else {
        return;
    };
    let bus = on_bus(&bus);
    let hot = format!("[hotkey]\nalways = [\"hot\"]\n{bus}");
    let reader = Proxy::start("redis", &servers, "", &hot);
    let writer = Proxy::start("redis", &servers, "", &bus);
    let (mut reading, mut writing) = (reader.client(), writer.client());
    for round in 0..10 {
        let mut number = 0;
        eventually("a write is not heard of", || {
            number += 1;
            let value = format!("{round}-{number}");
            writing.call(&["MSET", "hot", &value, "other", "x"]);
            (0..20).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                get(&mut reading, "hot") == bulk(&value)
            })
        });
    }
    assert!(reader.event("bus") > 0);
}

#[test]
fn two_proxies_that_track_hear_of_each_others_writes() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    // A hundred writes with few reads between them are churn if they take a second.
    let l1 = "[l1]\nmode = \"tracking\"\nreads_per_invalidation = 0";
    let proxies = two("redis", &servers, l1);
    let mut clients = [proxies[0].client(), proxies[1].client()];
    for round in 0..100 {
        let value = format!("v{round}");
        let (writer, reader) = (round % 2, 1 - round % 2);
        set("redis", &mut clients[writer], &value);
        assert_eq!(get(&mut clients[writer], "hot"), bulk(&value));
        eventually("no push came", || {
            get(&mut clients[reader], "hot") == bulk(&value)
        });
    }
    let before: u64 = servers.iter().map(|server| calls(server, "get")).sum();
    for _ in 0..500 {
        get(&mut clients[0], "hot");
        get(&mut clients[1], "hot");
    }
    let asked = servers
        .iter()
        .map(|server| calls(server, "get"))
        .sum::<u64>()
        - before;
    assert!(asked < 50, "the servers were asked {asked} times");
}

/// Two pools of one kind with a listener each and what else is said of them.
fn pools(servers: &[Server], each: [&str; 2], more: &str) -> String {
    let pool = |name: &str, server: &Server, more: &str| {
        format!(
            "[pools.{name}]\nprotocol = \"redis\"\nservers = [{}]\n{more}\n",
            list(std::slice::from_ref(server))
        )
    };
    format!(
        "[listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"both\"\n\
         [routes.both]\ntype = \"prefix\"\nchildren = {{ \"a:\" = \"one\", \"b:\" = \"two\" }}\ndefault = \"one\"\n\
         {}{}{more}",
        pool("one", &servers[0], each[0]),
        pool("two", &servers[1], each[1]),
    )
}

#[test]
fn each_pool_answers_in_its_own_way() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let off = "[pools.two.l1]\nmode = \"off\"";
    let config = pools(
        &servers,
        ["", off],
        "[hotkey]\nalways = [\"a:k\", \"b:k\", \"k\"]\n[l1]\nmode = \"tracking\"\n",
    );
    let proxy = Proxy::config(&config);
    let mut client = proxy.client();
    for (key, server) in [
        ("a:k", &servers[0]),
        ("b:k", &servers[1]),
        ("k", &servers[0]),
    ] {
        client.call(&["SET", key, key]);
        let before = calls(server, "get");
        for _ in 0..200 {
            assert_eq!(get(&mut client, key), bulk(key));
        }
        let asked = calls(server, "get") - before;
        match key {
            "b:k" => assert_eq!(asked, 200),
            _ => assert!(asked < 50, "{key}: {asked}"),
        }
    }
    assert_eq!(proxy.event_in("two", "hit"), 0);
    eventually("nothing was counted", || proxy.event_in("one", "hit") > 0);
}

#[test]
fn the_same_key_in_two_pools_is_two_keys() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let other = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let listeners = format!(
        "[listeners.redis]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"one\"\n\
         [listeners.other]\nprotocol = \"redis\"\nbind = \"{other}\"\nroute = \"two\"\n"
    );
    let pools = format!(
        "[pools.one]\nprotocol = \"redis\"\nservers = [{}]\n[pools.two]\nprotocol = \"redis\"\nservers = [{}]\n\
         [hotkey]\nalways = [\"k\"]\n[l1]\nmode = \"ttl\"\nttl = \"30s\"\n",
        list(&servers[..1]),
        list(&servers[1..]),
    );
    let proxy = Proxy::config(&format!("{listeners}{pools}"));
    let (mut one, mut two) = (proxy.client(), Client::connect(other));
    for round in 0..50 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        one.call(&["SET", "k", &a]);
        assert_eq!(get(&mut one, "k"), bulk(&a));
        two.call(&["SET", "k", &b]);
        for _ in 0..5 {
            assert_eq!(get(&mut one, "k"), bulk(&a), "round {round}");
            assert_eq!(get(&mut two, "k"), bulk(&b), "round {round}");
        }
    }
}

#[test]
fn a_rule_keeps_keys_out_of_memory_or_in_it_for_less_long() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let more = "[hotkey]\nalways = [\"no:k\", \"short:k\", \"k\"]\n\
        [[hotkey.rules]]\nprefix = \"no:\"\nallow = false\n\
        [[hotkey.rules]]\nprefix = \"short:\"\nttl = \"50ms\"\n\
        [l1]\nmode = \"ttl\"\nttl = \"30s\"\nearly_refresh = 0.0\n";
    let proxy = Proxy::start("redis", &servers, "", more);
    let mut client = proxy.client();
    let mut direct = servers[0].client();
    for key in ["no:k", "short:k", "k"] {
        client.call(&["SET", key, "0"]);
        (0..50).for_each(|_| drop(get(&mut client, key)));
    }
    for round in 1..30 {
        let value = round.to_string();
        for key in ["no:k", "short:k", "k"] {
            direct.call(&["SET", key, &value]);
        }
        assert_eq!(
            get(&mut client, "no:k"),
            bulk(&value),
            "it was served from memory"
        );
        eventually("it is kept for too long", || {
            get(&mut client, "short:k") == bulk(&value)
        });
    }
    let before = calls(&servers[0], "get");
    (0..100).for_each(|_| drop(get(&mut client, "k")));
    assert!(calls(&servers[0], "get") - before < 20);
}

#[test]
fn what_is_switched_off_is_neither_counted_nor_kept() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let more =
        "[pools.main.hotkey]\nenabled = false\n[hotkey]\nthreshold = 10\n[l1]\nmode = \"ttl\"\n";
    let proxy = Proxy::start("redis", &servers, "", more);
    let mut client = proxy.client();
    client.call(&["SET", "k", "v"]);
    let before = calls(&servers[0], "get");
    (0..300).for_each(|_| drop(get(&mut client, "k")));
    assert_eq!(calls(&servers[0], "get") - before, 300);
    assert_eq!(proxy.event("hit") + proxy.event("miss"), 0);
}

#[test]
fn a_pool_in_this_process_counts_its_keys_and_has_no_memory_before_it() {
    let config = "[listeners.main]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"here\"\n\
        [pools.here]\nprotocol = \"redis\"\nkind = \"local\"\n[hotkey]\nthreshold = 100\nkey_visibility = \"plain\"\n\
        [l1]\nmode = \"ttl\"\nttl = \"30s\"\n";
    let proxy = Proxy::config(config);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    for round in 0..500 {
        let value = round.to_string();
        client.call(&["SET", "zebra", &value]);
        assert_eq!(get(&mut client, "zebra"), bulk(&value));
        assert_eq!(get(&mut other, "zebra"), bulk(&value));
    }
    eventually("it is not seen to be hot", || {
        let said = client.call(&["HOTKEYS", "GET"]);
        (0..50).for_each(|_| drop(get(&mut client, "zebra")));
        String::from_utf8_lossy(&said).contains("zebra")
    });
    assert_eq!(
        proxy.event_in("here", "hit") + proxy.event_in("here", "fill"),
        0
    );
}

#[test]
fn hot_keys_behind_a_prefix_route_are_found_and_kept() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let config = pools(
        &servers,
        ["", ""],
        "[hotkey]\nthreshold = 50\n[l1]\nmode = \"tracking\"\n",
    );
    let proxy = Proxy::config(&config);
    let mut client = proxy.client();
    for (pool, key) in [("one", "a:k"), ("two", "b:k")] {
        client.call(&["SET", key, "v"]);
        eventually("it is not kept", || {
            (0..100).for_each(|_| assert_eq!(get(&mut client, key), bulk("v")));
            proxy.event_in(pool, "hit") > 100
        });
        client.call(&["SET", key, "w"]);
        assert_eq!(get(&mut client, key), bulk("w"));
    }
}
