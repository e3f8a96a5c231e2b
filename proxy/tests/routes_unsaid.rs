//! What clients are told that no server has said: by `null`, and where nobody
//! waits for the replicas. It has the shape that a server's reply would have.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Emberline, Server, command, show};

const NULL: &str = "[listeners.main]
    protocol = 'PROTOCOL'
    bind = 'BIND_BIND'
    route = { type = 'prefix', children = { k = 'null' }, default = 'rest' }
    [pools.rest]
    protocol = 'PROTOCOL'
    kind = 'local'
    ";

#[test]
fn null_answers_redis_as_an_empty_server_does() {
    let config = NULL.replace("PROTOCOL", "redis").replace("BIND_", "REDIS_");
    let proxy = Emberline::config(&config);
    for version in ["2", "3"] {
        let mut client = proxy.client();
        client.send(&command(&["HELLO", version]));
        client.reply();
        for (request, in_two, in_three) in [
            ("GET k", "$-1", "_"),
            ("HGETALL k", "*0", "%0"),
            ("SMEMBERS k", "*0", "~0"),
            ("STRLEN k", ":0", ":0"),
            ("TTL k", ":-2", ":-2"),
            ("TYPE k", "+none", "+none"),
            ("HMGET k f g", "*2\\r\\n$-1\\r\\n$-1", "*2\\r\\n_\\r\\n_"),
            ("LRANGE k 0 -1", "*0", "*0"),
            ("TOUCH k kk", ":0", ":0"),
            ("MGET k kk", "*2\\r\\n$-1\\r\\n$-1", "*2\\r\\n_\\r\\n_"),
            ("SET k v", "$-1", "_"),
            ("DEL k", ":0", ":0"),
            ("SADD k m", ":0", ":0"),
        ] {
            let words: Vec<&str> = request.split(' ').collect();
            client.send(&command(&words));
            let expected = if version == "2" { in_two } else { in_three };
            let told = show(&client.reply());
            assert_eq!(told, format!("{expected}\\r\\n"), "{request}, {version}");
        }
    }
}

#[test]
fn null_answers_memcached_with_the_opaque_token_and_the_key() {
    let config = NULL
        .replace("PROTOCOL", "memcached")
        .replace("BIND_", "MEMCACHED_");
    let proxy = Emberline::config(&config);
    let mut client = proxy.client();
    for (request, expected) in [
        ("mg k v O1 k\r\n", "EN O1 kk"),
        ("ms k 1 O2\r\nv\r\n", "NS O2"),
        ("md k O3 k\r\n", "NF O3 kk"),
        ("ma k O4\r\n", "NF O4"),
        ("cas k 0 0 1 7\r\nv\r\n", "NOT_FOUND"),
        ("incr k 1\r\n", "NOT_FOUND"),
        ("get k\r\n", "END"),
    ] {
        client.send(request.as_bytes());
        let told = show(&client.memcached_reply());
        assert_eq!(told, format!("{expected}\\r\\n"), "{request}");
    }
}

/// Replicas that nobody waits for.
const UNHEARD: &str = "[listeners.main]
    protocol = 'PROTOCOL'
    bind = 'BIND_BIND'
    route = { type = 'replicas', children = ['a', 'b'], wait = 'none' }
    [pools.a]
    protocol = 'PROTOCOL'
    servers = ['SERVER_A']
    [pools.b]
    protocol = 'PROTOCOL'
    servers = ['SERVER_B']
    ";

#[test]
fn an_answer_that_only_a_server_knows_is_waited_for() {
    let (Some(a), Some(b)) = (Server::redis(), Server::redis()) else {
        eprintln!("skipped: redis-server is not installed");
        return;
    };
    let config = UNHEARD
        .replace("PROTOCOL", "redis")
        .replace("BIND_", "REDIS_")
        .replace("SERVER_A", &a.address().to_string())
        .replace("SERVER_B", &b.address().to_string());
    let proxy = Emberline::config(&config);
    let mut client = proxy.client();
    for (request, expected) in [
        ("SET k 41", "+OK"),
        ("INCR k", ":42"),
        ("APPEND k 0", ":3"),
        ("GETDEL k", "$3\\r\\n420"),
        ("RPUSH l a b", ":2"),
        ("HSET h f v", ":1"),
        ("SETNX n v", ":1"),
        ("SETNX n v", ":0"),
        ("SET n w GET", "$1\\r\\nv"),
        ("SET n x NX", "$-1"),
    ] {
        let words: Vec<&str> = request.split(' ').collect();
        client.send(&command(&words));
        assert_eq!(
            show(&client.reply()),
            format!("{expected}\\r\\n"),
            "{request}"
        );
    }
}
