//! Routes that choose a child, or change a request on its way, before real
//! servers: where keys land, and what clients see.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;

use routes_support::{Dialect, House, story, story_of};

#[test]
fn prefix_leads_to_the_longest_and_may_change_it() {
    story(
        "[routes.top]
        type = 'prefix'
        default = 'a'
        children = { 'user:' = 'b', 'user:vip:' = { type = 'prefix', strip = true, \
            children = { 'user:vip:eu:' = 'c' }, default = 'd' } }",
        "client set user:1 one           -> ok
        client set user:vip:eu:2 two     -> ok
        client set user:vip:3 three      -> ok
        client set other four            -> ok
        b get user:1                     -> one
        c get 2                          -> two
        d get user:vip:3                 -> three
        a get other                      -> four
        client mget user:1 user:vip:eu:2 none other  -> one two - four
        client del user:1 user:vip:eu:2 other        -> 3
        c get 2                          -> -
        client mget user:1 user:vip:eu:2 user:vip:3  -> - - three
        memcached: client say gets user:vip:eu:2     -> END\\r\\n
        memcached: client set user:vip:eu:9 x        -> ok
        memcached: client say get user:vip:eu:9      -> VALUE user:vip:eu:9 0 1\\r\\nx\\r\\nEND\\r\\n
        memcached: client say mg user:vip:eu:9 k v   -> VA 1 kuser:vip:eu:9\\r\\nx\\r\\n",
    );
}

#[test]
fn operation_leads_reads_writes_deletes_and_counters_apart() {
    story(
        "[routes.top]
        type = 'operation'
        reads = 'a'
        writes = 'b'
        deletes = { type = 'replicas', children = ['a', 'b', 'c'] }
        counters = 'c'
        touches = 'b'",
        "client set k 1      -> ok
        b get k              -> 1
        client get k         -> -
        a set k 2            -> ok
        client get k         -> 2
        c set n 41           -> ok
        client incr n        -> 42
        c get n              -> 42
        client touch k 100   -> ok
        b ttl k              -> 100s
        a ttl k              -> forever
        client mget k n k    -> 2 - 2
        c set k 3            -> ok
        client del k         -> 1
        client mget k n      -> - -
        b get k              -> -
        c get k              -> -",
    );
}

#[test]
fn key_is_rewritten_on_its_way_and_the_client_sees_its_own() {
    story(
        "[routes.top]
        type = 'key'
        child = 'a'
        strip_prefix = 'v1:'
        replace = { 'old:' = 'new:' }
        add_prefix = 'app:'
        add_suffix = ':x'",
        "client set v1:k 1                -> ok
        a get app:k:x                     -> 1
        client set old:k 2                -> ok
        a get app:new:k:x                 -> 2
        client mget v1:k old:k no new:k   -> 1 2 - 2
        client mset p 3 q 4               -> ok
        a mget app:p:x app:q:x            -> 3 4
        client incr p                     -> 4
        client touch p 100                -> ok
        a ttl app:p:x                     -> 100s
        client del p q p no               -> 2
        a mget app:p:x app:q:x            -> - -
        client set big =1048000           -> ok
        client get big                    -> =1048000
        redis: client say EXISTS v1:k k   -> :2\\r\\n
        memcached: client say get v1:k    -> VALUE v1:k 0 1\\r\\n1\\r\\nEND\\r\\n
        memcached: client say mg v1:k k v O7  -> VA 1 kv1:k O7\\r\\n1\\r\\n",
    );
}

#[test]
fn ttl_is_set_capped_or_kept_from_being_short() {
    for (rule, forever, long, short) in [
        ("cap = '100s'", "100s", "100s", "20s"),
        ("floor = '1h'", "forever", "5000s", "3600s"),
        ("set = '50s'", "50s", "50s", "50s"),
    ] {
        story(
            &format!("[routes.top]\ntype = 'ttl'\nchild = 'a'\n{rule}"),
            &format!(
                "client set k 1        -> ok
                a ttl k                -> {forever}
                client set k 1 5000    -> ok
                a ttl k                -> {long}
                client set k 1 20      -> ok
                a ttl k                -> {short}
                client mset x 1 y 2    -> ok
                redis: a ttl y         -> {forever} | forever
                memcached: a ttl y     -> {forever}
                client get y           -> 2
                memcached: client set f 1 20 7  -> ok
                memcached: a flags f            -> 7
                memcached: a ttl f              -> {short}"
            ),
        );
    }
}

#[test]
fn two_caps_meet_and_the_smaller_wins() {
    story(
        "[routes.top]
        type = 'ttl'
        cap = '100s'
        child = { type = 'key', add_prefix = 'p:', child = { type = 'ttl', cap = '1h', child = 'a' } }",
        "client set k 1 5000  -> ok
        a ttl p:k             -> 100s",
    );
}

#[test]
fn hash_key_keeps_keys_that_share_a_part_together() {
    let config = "[routes.top]
        type = 'hash_key'
        child = 'main'
        delimiter = ':'
        index = 1
        [pools.main]
        protocol = 'PROTOCOL'
        servers = ['@a', '@b', '@c']";
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, config, "") else {
            return;
        };
        let mut used = std::collections::HashSet::new();
        for user in 0..20 {
            let mut homes = std::collections::HashSet::new();
            for what in ["name", "cart", "seen"] {
                let key = format!("user:{}:{what}", user * 7919 + 104_729);
                house.tell(&format!("client set {key} {what} -> ok"));
                let home = ["a", "b", "c"]
                    .into_iter()
                    .find(|server| house.perform(&format!("{server} get {key}")) == what);
                homes.insert(home.expect("it is somewhere"));
            }
            assert_eq!(homes.len(), 1, "user {user}: {homes:?}");
            used.extend(homes);
        }
        assert_eq!(used.len(), 3, "all servers are used");
    }
}

#[test]
fn by_host_by_client_and_random_reach_a_child() {
    for kind in ["by_host", "by_client"] {
        story(
            &format!("[routes.top]\ntype = '{kind}'\nchildren = ['a', 'b']"),
            "client set k 1      -> ok
            other get k          -> 1
            third mget k none k  -> 1 - 1
            client del k         -> 1",
        );
    }
    for kind in ["random", "load_balance"] {
        story(
            &format!("[routes.top]\ntype = '{kind}'\nchildren = ['a', 'b']"),
            "a set k 1           -> ok
            b set k 1            -> ok
            client get k         -> 1
            client mget k k none -> 1 1 -
            client set n 5       -> ok
            client get n         -> 5 | -",
        );
    }
}

#[test]
fn random_and_load_balance_use_every_child() {
    for kind in ["random", "load_balance"] {
        let config = format!("[routes.top]\ntype = '{kind}'\nchildren = ['a', 'b', 'c']");
        let Some(mut house) = House::new(Dialect::Redis, &config, "") else {
            return;
        };
        for number in 0..100 {
            house.tell(&format!("client set k{number} v -> ok"));
        }
        for server in ["a", "b", "c"] {
            let count = house.perform(&format!("{server} DBSIZE"));
            let count: u32 = count.parse().unwrap();
            assert!((10..=60).contains(&count), "{kind}: {server} has {count}");
        }
    }
}

#[test]
fn latest_goes_on_when_its_choice_fails() {
    story_of(
        Dialect::Redis,
        "[routes.top]
        type = 'latest'
        children = ['a', 'b', 'c']
        count = 2",
        "a set k 1      -> ok
        b set k 1       -> ok
        c set k 1       -> ok
        client get k    -> 1
        a kill
        client get k    -> 1
        a restart
        a set k 1       -> ok
        b kill
        client get k    ~> 1
        b restart
        b set k 1       -> ok
        c kill
        client get k    ~> 1
        client get k    ~> 1",
    );
}

#[test]
fn null_and_error_answer_themselves() {
    story(
        "[routes.top]
        type = 'prefix'
        default = 'a'
        children = { 'n:' = 'null', 'e:' = 'error', 'm:' = { type = 'error', message = 'not here' } }",
        "client set n:1 x                -> no
        client get n:1                   -> -
        client del n:1                   -> 0 | -
        client get e:1                   -> ! refused by the proxy's configuration
        client set m:1 x                 -> ! not here
        client get m:1                   -> ! not here
        client set k v                   -> ok
        client mget k n:1 n:2 k          -> v - - v
        client mget k m:1                -> ! not here
        client get k                     -> v
        redis: client del k n:1          -> 1
        redis: client say EXISTS n:1     -> :0\\r\\n
        memcached: client say mg n:1 v   -> EN\\r\\n",
    );
}
