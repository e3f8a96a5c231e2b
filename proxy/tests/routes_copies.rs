//! Routes that keep a key in several places, and routes that limit or disturb,
//! before real servers.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;

use std::time::{Duration, Instant};

use routes_support::{Dialect, House, story, story_of};
use support::command;

#[test]
fn shadow_copies_everything_and_answers_from_the_main_child() {
    story(
        "[routes.top]
        type = 'shadow'
        main = 'a'
        copies = [{ route = 'b' }, { route = 'c', share = 0.0 }]",
        "client set k 1 1000   -> ok
        b get k                ~> 1
        b ttl k                -> 1000s
        b set k 9              -> ok
        client get k           -> 1
        client incr k          -> 2
        b get k                ~> 10
        client mset x 1 y 2    -> ok
        b mget x y             ~> 1 2
        client mget x no y     -> 1 - 2
        client del k x         -> 2
        b get k                ~> -
        b get x                ~> -
        c get y                -> -
        b set only 1           -> ok
        client get only        -> -
        b kill
        client set k 3         -> ok
        client get k           -> 3
        client mget k y no     -> 3 2 -
        client del k           -> 1",
    );
}

#[test]
fn a_frozen_shadow_neither_delays_nor_fails_anybody() {
    // Whoever waited for it would wait for a minute.
    let config = "[routes.top]
        type = 'shadow'
        main = 'a'
        copies = [{ route = 'b' }]
        [pools.b]
        protocol = 'PROTOCOL'
        servers = ['@b']
        request_timeout = '60s'";
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, config, "") else {
            return;
        };
        house.tell("client set k 1 -> ok\nb get k ~> 1\nb freeze");
        // More than may be in flight at once, then more than may be queued.
        for number in 0..3000 {
            house.tell(&format!("client set k{number} v -> ok"));
        }
        for number in 0..30 {
            house.tell(&format!("other set big{number} =1000000 -> ok"));
            house.tell(&format!("client get big{number} -> =1000000"));
        }
        house.tell("client mget k k1 no k2999 -> 1 v - v\nb kill\nclient get k -> 1");
    }
}

#[test]
fn a_shadow_of_a_share_of_the_keys_sees_all_of_those() {
    let config = "[routes.top]
        type = 'shadow'
        main = 'a'
        copies = [{ route = 'b', share = 0.1, by = 'key' }, { route = 'c', share = 0.5, by = 'request' }]";
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, config, "") else {
            return;
        };
        let count = 400;
        for number in 0..count {
            house.tell(&format!("client set key{number} 1 -> ok"));
            house.tell(&format!("client set key{number} 2 -> ok"));
        }
        let (mut by_key, mut by_request) = (0, 0);
        for number in 0..count {
            let mut at = |server: &str| house.perform(&format!("{server} get key{number}"));
            assert_eq!(at("a"), "2");
            let (b, c) = (at("b"), at("c"));
            // The same keys always: whoever has one has its last value.
            assert!(b == "2" || b == "-", "{b}");
            by_key += usize::from(b == "2");
            by_request += usize::from(c != "-");
        }
        assert!((15..=80).contains(&by_key), "{by_key} of {count} keys");
        assert!(
            (240..=360).contains(&by_request),
            "{by_request} of {count} keys"
        );
    }
}

#[test]
fn size_split_keeps_one_value_in_one_place() {
    story(
        "[routes.top]
        type = 'size_split'
        small = 'a'
        large = 'b'
        threshold = '1KiB'",
        "client set k small    -> ok
        a get k                -> small
        b get k                -> -
        client set k =1024 1000  -> ok
        a get k                -> -
        b get k                -> =1024
        b ttl k                -> 1000s
        client get k           -> =1024
        client mget k no k     -> =1024 - =1024
        client touch k 500     -> ok
        b ttl k                -> 500s
        client set k =1023     -> ok
        a get k                -> =1023
        b get k                -> -
        client set k =1048000  -> ok
        client get k           -> =1048000
        a get k                -> -
        client del k           -> 1
        b get k                -> -
        client set k small     -> ok
        client set l =5000     -> ok
        client del k l no      -> 2
        client get l           -> -
        b kill
        client set k small     -> !
        a get k                -> small | -",
    );
}

#[test]
fn a_split_key_has_copies_that_no_write_leaves_behind() {
    let config = "[routes.top]
        type = 'split_hot'
        child = 'main'
        copies = 3
        keys = ['hot', '{tag}hot']
        [pools.main]
        protocol = 'PROTOCOL'
        servers = ['@a', '@b', '@c', '@d']";
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, config, "") else {
            return;
        };
        for key in ["hot", "{tag}hot"] {
            house.tell(&format!("client set {key} 0 1000 -> ok"));
            let copies = |house: &mut House| {
                let mut found = 0;
                for server in ["a", "b", "c", "d"] {
                    for copy in 1..=3 {
                        let got = house.perform(&format!("{server} get {key}#{copy}"));
                        found += usize::from(got != "-");
                    }
                }
                found
            };
            for value in 1..=20 {
                house.tell(&format!("client set {key} {value} -> ok"));
                for _ in 0..20 {
                    house.tell(&format!("client get {key} -> {value}"));
                    house.tell(&format!("other mget {key} no {key} -> {value} - {value}"));
                }
            }
            // A write is remembered for a while; then there are copies.
            let end = Instant::now() + Duration::from_secs(20);
            while copies(&mut house) == 0 {
                assert!(Instant::now() < end, "nobody made a copy of {key}");
                house.tell(&format!("client get {key} -> 20"));
            }
            house.tell(&format!("client incr {key} -> 21"));
            for _ in 0..20 {
                house.tell(&format!("other get {key} -> 21"));
            }
            house.tell(&format!("client del {key} -> 1"));
            for _ in 0..20 {
                house.tell(&format!("client get {key} -> -"));
            }
            assert_eq!(copies(&mut house), 0, "{key}");
        }
        house.tell("client set cold 1 -> ok\nclient get cold -> 1");
        for _ in 0..10 {
            house.tell("client get cold -> 1");
        }
        assert_eq!(house.perform("a get cold#1"), "-");
    }
}

#[test]
fn more_than_a_rate_goes_elsewhere() {
    story(
        "[routes.top]
        type = 'rate_limit'
        child = 'a'
        over = 'b'
        reads = { rate = 0.001, burst = 4 }
        writes = 0",
        "a set k main      -> ok
        b set k spare      -> ok
        client get k       -> main
        client get k       -> main
        client get k       -> spare
        client get k       -> spare
        client mget k k    -> spare spare
        client set k 2     -> ok
        b get k            -> 2
        a get k            -> main
        client del k       -> 1
        a get k            -> -",
    );
    story(
        "[routes.top]
        type = 'rate_limit'
        child = 'a'
        all = { rate = 0.001, burst = 4 }",
        "client set k 1    -> ok
        client get k       -> 1
        client get k       -> !
        client set k 2     -> !
        a get k            -> 1",
    );
}

#[test]
fn a_rate_is_one_for_the_whole_process() {
    let config = "[routes.top]
        type = 'rate_limit'
        child = 'a'
        over = 'null'
        reads = { rate = 0.001, burst = 20 }";
    let Some(mut house) = House::new(Dialect::Redis, config, "") else {
        return;
    };
    house.tell("a set k 1 -> ok");
    let mut answered = 0;
    for number in 0..100 {
        let client = format!("client{}", number % 4);
        answered += usize::from(house.perform(&format!("{client} get k")) == "1");
    }
    assert_eq!(answered, 20);
}

#[test]
fn what_would_be_too_much_at_once_fails_at_once() {
    // Two workers share the two places.
    let config = "[routes.top]
        type = 'limit_inflight'
        child = 'a'
        max = 2
        [pools.a]
        protocol = 'PROTOCOL'
        servers = ['@a']
        request_timeout = '60s'
        connections = 1";
    let Some(mut house) = House::new(Dialect::Redis, config, "") else {
        return;
    };
    house.tell("client set k 1 -> ok\nother get k -> 1\na freeze");
    for name in ["client", "other"] {
        house.client(name).send(&command(&["GET", "k"]));
        assert!(house.client(name).is_silent(Duration::from_millis(100)));
    }
    house.tell("third get k -> ! in flight, its limit\nfourth get k -> ! in flight");
    house.tell("a thaw");
    for name in ["client", "other"] {
        assert_eq!(house.client(name).reply(), b"$1\r\n1\r\n");
    }
    house.tell("third get k ~> 1\nfourth get k ~> 1");
}

#[test]
fn faults_are_as_they_were_asked_for() {
    let config = |answer: &str| {
        format!(
            "[routes.top]\ntype = 'fault'\nchild = 'a'\nanswer = '{answer}'\n\
             [pools.a]\nprotocol = 'PROTOCOL'\nservers = ['@a']\nrequest_timeout = '200ms'"
        )
    };
    story(
        &config("error"),
        "a set k 1        -> ok
        client get k      -> !
        client set k 2    -> !
        client mget k k   -> !
        a get k           -> 1",
    );
    story(
        &config("null"),
        "a set k 1        -> ok
        client get k      -> -
        client set k 2    -> no
        client mget k k   -> - -
        a get k           -> 1",
    );
    story(
        &config("drop"),
        "a set k 1        -> ok
        client get k      -> ! in time
        client set k 2    -> ! in time
        a get k           -> 1",
    );
    story(
        "[routes.top]
        type = 'failover'
        children = [{ type = 'fault', child = 'a', answer = 'drop' }, 'b']
        [pools.a]
        protocol = 'PROTOCOL'
        servers = ['@a']
        request_timeout = '100ms'",
        "b set k 1       -> ok
        client get k     -> 1
        client mget k no -> 1 -",
    );
}

#[test]
fn a_delay_is_waited_for_and_others_are_not_delayed() {
    let config = "[routes.top]
        type = 'prefix'
        default = 'a'
        children = { 'slow:' = { type = 'fault', child = 'a', delay = '500ms' } }";
    story(
        config,
        "client set k 1       -> ok
        client set slow:k 2   -> ok
        client get slow:k     -> 2
        client mget slow:k k  -> 2 1",
    );
    let Some(mut house) = House::new(Dialect::Redis, config, "") else {
        return;
    };
    house.tell("client set k 1 -> ok\nclient set slow:k 2 -> ok");
    house.client("client").send(&command(&["GET", "slow:k"]));
    for _ in 0..5 {
        house.tell("other get k -> 1");
    }
    assert_eq!(house.client("client").reply(), b"$1\r\n2\r\n");
}

/// What the proxy logged of requests: the route, the key as it is shown, and the
/// command in small letters.
fn logged(house: &House) -> Vec<[String; 3]> {
    let lines = house.proxy.log().into_iter();
    let requests = lines.filter(|line| line["message"] == "request");
    let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    requests
        .map(|line| {
            let command = word(&line["command"]).to_lowercase();
            [word(&line["route"]), word(&line["key"]), command]
        })
        .collect()
}

#[test]
fn what_is_logged_is_answered_all_the_same() {
    let script = "client set k 1    -> ok
        client get k       -> 1
        client mget k no   -> 1 -
        b get k            -> 1
        client del k       -> 1";
    for (dialect, keys) in [
        (Dialect::Redis, "hash"),
        (Dialect::Redis, "plain"),
        (Dialect::Memcached, "hash"),
        (Dialect::Memcached, "plain"),
    ] {
        let config = format!(
            "[routes.top]
            type = 'log'
            child = {{ type = 'replicas', children = ['a', 'b'] }}
            share = 1.0
            keys = '{keys}'"
        );
        let Some(mut house) = House::logging(dialect, &config, script) else {
            return;
        };
        house.tell(script);
        let lines = logged(&house);
        // Each copy of a write is a request of its own.
        let (many, delete) = match dialect {
            Dialect::Redis => ("mget", "del"),
            Dialect::Memcached => ("get", "delete"),
        };
        let commands = ["set", "set", "get", many, many, delete, delete];
        let found: Vec<&str> = lines.iter().map(|[_, _, command]| &**command).collect();
        assert_eq!(found, commands, "{lines:?}");
        assert!(lines.iter().all(|[route, ..]| route == "top"), "{lines:?}");
        // The fifth is about the second key of the `mget`.
        let (one, other) = match keys {
            "plain" => ("k", "no"),
            _ => (&*lines[0][1], &*lines[4][1]),
        };
        let found: Vec<&str> = lines.iter().map(|[_, key, _]| &**key).collect();
        assert_eq!(found, [one, one, one, one, other, one, one], "{lines:?}");
        assert_ne!(one, other);
        if keys == "hash" {
            let is_hash = |key: &str| key.len() == 16 && u64::from_str_radix(key, 16).is_ok();
            assert!(is_hash(one) && is_hash(other), "{lines:?}");
        }
    }
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    let config = "[routes.top]
        type = 'prefix'
        default = 'a'
        [routes.top.children]
        'copy:' = { type = 'replicas', children = ['a', 'b', 'c'], read = 'random' }
        'safe:' = { type = 'failover', children = ['d', 'b'] }
        'slow:' = { type = 'operation', writes = 'c', \
            reads = { type = 'fault', delay = '1ms', share = 0.5, child = 'c' } }
        'seen:' = { type = 'shadow', main = 'b', copies = [{ route = 'c' }] }
        'none:' = 'null'";
    let Some(mut house) = House::new(Dialect::Redis, config, "") else {
        return;
    };
    house.tell("d kill");
    let prefixes = ["copy:", "safe:", "slow:", "seen:", "plain:"];
    let client = house.client("client");
    let (mut asked, mut expected) = (Vec::new(), Vec::new());
    for round in 0..200 {
        let value = round.to_string();
        for prefix in prefixes {
            let key = format!("{prefix}{}", round % 7);
            asked.extend(command(&["SET", &key, &value]));
            expected.extend_from_slice(b"+OK\r\n");
            asked.extend(command(&["GET", "none:x"]));
            expected.extend_from_slice(b"$-1\r\n");
        }
    }
    client.send(&asked);
    support::assert_same(&client.exactly(expected.len()), &expected);
    let (mut asked, mut expected) = (Vec::new(), Vec::new());
    for round in 0..200 {
        let prefix = prefixes[round % 5];
        for number in 0..7 {
            let last = (0..200).rev().find(|round| round % 7 == number).unwrap();
            asked.extend(command(&["GET", &format!("{prefix}{number}")]));
            expected.extend(format!("${}\r\n{last}\r\n", last.to_string().len()).into_bytes());
        }
    }
    client.send(&asked);
    support::assert_same(&client.exactly(expected.len()), &expected);
}

#[test]
fn resp3_clients_are_answered_in_resp3() {
    story_of(
        Dialect::Redis,
        "[routes.top]
        type = 'failover'
        children = [{ type = 'replicas', children = ['a', 'b'], read_repair = true }, 'c']",
        "client say HSET h f 1        -> :1\\r\\n
        a del h                       -> 1
        old say HGETALL h             -> *2\\r\\n$1\\r\\nf\\r\\n$1\\r\\n1\\r\\n
        client2 HELLO 3               ~> %7 | %6 | %8
        client2 say HGETALL h         -> %1\\r\\n$1\\r\\nf\\r\\n$1\\r\\n1\\r\\n
        client2 say GET none          -> _\\r\\n
        client2 say MGET none none    -> *2\\r\\n_\\r\\n_\\r\\n
        client2 say SET k 1           -> +OK\\r\\n
        client2 say MGET none k       -> *2\\r\\n_\\r\\n$1\\r\\n1\\r\\n
        client2 say SET k 1 NX        -> _\\r\\n
        client2 say ZADD z 1.5 x      -> :1\\r\\n
        client2 say ZSCORE z x        -> ,1.5\\r\\n
        a kill
        client2 say ZSCORE z x        -> ,1.5\\r\\n
        b kill
        client2 say ZSCORE z x        -> _\\r\\n
        client2 say GET none          -> _\\r\\n
        c kill
        client2 GET none              -> !",
    );
}

#[test]
fn large_values_go_everywhere() {
    story(
        "[routes.top]
        type = 'prefix'
        default = { type = 'failover', children = ['a', 'b'] }
        [routes.top.children]
        'all:' = { type = 'replicas', children = ['a', 'b', 'c'], read_repair = true }
        'hedged:' = { type = 'replicas', children = ['a', 'b'], hedge_after = '1ms' }
        'fast:' = { type = 'replicas', children = ['a', 'b', 'c'], read = 'fastest' }
        'seen:' = { type = 'shadow', main = 'a', copies = [{ route = 'b' }] }
        'warm:' = { type = 'warm_up', cold = 'a', warm = 'b' }",
        "client set k =1048576         -> ok
        client get k                   -> =1048576
        client set all:k =1048576      -> ok
        c get all:k                    -> =1048576
        a del all:k                    -> 1
        client get all:k               -> =1048576
        a get all:k                    ~> =1048576
        client set hedged:k =20000000  -> ok
        client get hedged:k            -> =20000000
        client get hedged:k            -> =20000000
        client set fast:k =20000000    -> ok
        client get fast:k              -> =20000000
        client set seen:k =20000000    -> ok
        client get seen:k              -> =20000000
        b get seen:k                   ~> =20000000
        b set warm:k =20000000         -> ok
        client get warm:k              -> =20000000
        client mget k no all:k         -> =1048576 - =1048576
        client set k =40000000         -> ok
        client get k                   -> =40000000
        client set all:k =40000000     -> ! too large
        client get all:k               -> =1048576
        a set hedged:k =40000000       -> ok
        b set hedged:k =40000000       -> ok
        client get hedged:k            -> =40000000
        a set fast:k =40000000         -> ok
        client get fast:k              -> =40000000 | =20000000
        client set seen:k =40000000    -> ok
        a get seen:k                   -> =40000000
        client get seen:k              -> =40000000
        b set warm:l =40000000         -> ok
        client get warm:l              -> =40000000
        b set k =40000000              -> ok
        a kill
        client get k                   -> =40000000
        client get all:k               -> =1048576
        client set k =1048576          -> ok
        b get k                        -> =1048576",
    );
}
