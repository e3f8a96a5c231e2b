//! `replicas`, `failover`, `gutter` and `miss_failover` before real servers
//! that are killed, frozen and restarted empty.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;

use routes_support::{Dialect, House, story, story_of};

const COPIES: &str = "[routes.top]
    type = 'replicas'
    children = ['a', 'b', 'c']
    ";

#[test]
fn replicas_write_all_and_read_one() {
    story(
        COPIES,
        "client set k 1 1000        -> ok
        a get k                     -> 1
        b get k                     -> 1
        c get k                     -> 1
        c ttl k                     -> 1000s
        client incr k               -> 2
        b get k                     -> 2
        client mset x 7 y 8         -> ok
        c mget x y                  -> 7 8
        client mget x none y        -> 7 - 8
        client touch k 500          -> ok
        a ttl k                     -> 500s
        c ttl k                     -> 500s
        b set only 1                -> ok
        client get only             -> -
        client del k x none         -> 2
        a mget k x y                -> - - 8
        c mget k x y                -> - - 8
        memcached: client set f v 1000 7  -> ok
        memcached: c flags f              -> 7",
    );
}

#[test]
fn a_killed_replica_fails_no_read_and_a_write_only_if_all_are_waited_for() {
    story(
        COPIES,
        "client set k 1     -> ok
        a kill
        client get k        -> 1
        client get k        -> 1
        client mget k no k  -> 1 - 1
        client set k 2      -> !
        client get k        -> 2
        b kill
        client get k        -> 2
        c kill
        client get k        -> !
        c restart
        c set k 3           -> ok
        client get k        ~> 3",
    );
}

#[test]
fn a_majority_is_enough_where_it_is_waited_for() {
    story(
        &format!("{COPIES}wait = 'majority'"),
        "client set k 1   -> ok
        a kill
        client set k 2    -> ok
        client get k      -> 2
        client del k      -> 1
        client get k      -> -
        client set k 3    -> ok
        b kill
        client set k 4    -> !",
    );
}

#[test]
fn one_is_enough_where_one_is_waited_for() {
    story(
        &format!("{COPIES}wait = 'one'"),
        "a kill
        b kill
        client set k 1   -> ok
        client get k     -> 1
        client incr k    -> 2
        client del k     -> 1
        c kill
        client set k 2   -> !",
    );
}

#[test]
fn nobody_is_waited_for_where_none_is() {
    // Their replies may take a minute; the client's patience is less.
    story(
        &format!(
            "{COPIES}wait = 'none'\n{}",
            ["a", "b", "c"]
                .map(|name| format!(
                    "[pools.{name}]\nprotocol = 'PROTOCOL'\nservers = ['@{name}']\n\
                     request_timeout = '60s'\n"
                ))
                .concat()
        ),
        "client set k 1   -> ok
        a get k           ~> 1
        c get k           ~> 1
        a freeze
        b freeze
        client set k 2    -> ok
        client set k 3    -> ok
        client set k 4    -> ok
        c get k           ~> 4
        a thaw
        b thaw
        a get k           ~> 4
        b get k           ~> 4",
    );
}

#[test]
fn a_frozen_first_replica_is_answered_for_by_the_next() {
    // Without a hedge the answer would come after a minute.
    let config = format!(
        "{COPIES}hedge_after = '20ms'
        [pools.a]
        protocol = 'PROTOCOL'
        servers = ['@a']
        request_timeout = '60s'"
    );
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, &config, "b get k") else {
            return;
        };
        house.tell(
            "client set k 1       -> ok
            client set big =300000 -> ok
            a freeze",
        );
        for _ in 0..20 {
            house.tell("client get k -> 1");
            house.tell("other mget k no k -> 1 - 1");
        }
        house.tell("client get big -> =300000");
        house.tell("a thaw");
    }
}

#[test]
fn a_frozen_replica_is_given_up_and_then_left_alone() {
    let config = format!(
        "{COPIES}
        [pools.a]
        protocol = 'PROTOCOL'
        servers = ['@a']
        request_timeout = '300ms'
        failures = 2"
    );
    story(
        &config,
        "client set k 1  -> ok
        a freeze
        client get k     -> 1
        client get k     -> 1
        client get k     -> 1
        other get k      -> 1
        a thaw
        client get k     -> 1",
    );
}

#[test]
fn read_repair_gives_a_replica_what_it_lacks_with_ttl_and_flags() {
    story(
        &format!("{COPIES}read_repair = true"),
        "client set k 1 1000   -> ok
        client set for_ever 2  -> ok
        a kill
        a restart
        a get k                -> -
        client get k           ~> 1
        a get k                ~> 1
        a ttl k                -> 1000s
        client get for_ever    -> 2
        a ttl for_ever         ~> forever
        client get nowhere     -> -
        a get nowhere          -> -
        memcached: client set f v 1000 7  -> ok
        memcached: a del f                -> 1
        memcached: client get f           -> v
        memcached: a flags f              ~> 7
        memcached: a ttl f                -> 1000s
        client del k                      -> 1
        client get k                      -> -
        a get k                           -> -",
    );
}

#[test]
fn read_repair_keeps_what_redis_keeps_in_other_types() {
    story_of(
        Dialect::Redis,
        &format!("{COPIES}read_repair = true"),
        "client HSET h f 1 g 2        -> 2
        client EXPIRE h 1000          -> 1
        client RPUSH l x y z          -> 3
        a del h l                     -> 2
        client HGET h g               -> 2
        a HGET h f                    ~> 1
        a ttl h                       -> 1000s
        client LRANGE l 0 -1          -> x y z
        a LRANGE l 0 -1               ~> x y z",
    );
}

#[test]
fn the_fastest_hit_beats_a_faster_miss() {
    story(
        &format!("{COPIES}read = 'fastest'"),
        "c set k 1          -> ok
        client get k        -> 1
        client get k        -> 1
        client mget k no k  -> 1 - 1
        client get no       -> -
        a kill
        client get k        -> 1
        client get no       -> -",
    );
}

#[test]
fn every_way_of_reading_finds_what_was_written() {
    for read in ["first", "random", "fastest", "least_loaded"] {
        story(
            &format!("{COPIES}read = '{read}'"),
            "client set k 1  -> ok
            client get k     -> 1
            a kill
            client get k     -> 1
            b kill
            client get k     -> 1
            client get k     -> 1",
        );
    }
}

#[test]
fn near_reads_in_its_own_zone_while_it_can() {
    let pool = |name: &str, zone: &str| {
        format!(
            "[pools.{name}]\nprotocol = 'PROTOCOL'\nservers = ['@{name}']\nzone = '{zone}'\n\
             request_timeout = '1s'\n"
        )
    };
    story(
        &format!(
            "[proxy]\nzone = 'east'\n[routes.top]\ntype = 'replicas'\nchildren = ['a', 'b']\n\
             read = 'near'\n{}{}",
            pool("a", "west"),
            pool("b", "east")
        ),
        "a set k west  -> ok
        b set k east   -> ok
        client get k   -> east
        client get k   -> east
        client get k   -> east
        b kill
        client get k   -> west",
    );
}

#[test]
fn failover_goes_on_to_the_next_and_comes_back() {
    story(
        "[routes.top]
        type = 'failover'
        children = ['a', 'b', 'c']",
        "client set k 1      -> ok
        a get k              -> 1
        b get k              -> -
        b set k 2            -> ok
        a kill
        client get k         -> 2
        client get k         -> 2
        client set n 5       -> ok
        b get n              -> 5
        client incr n        -> 6
        client mset x 1 y 2  -> ok
        b mget x y           -> 1 2
        client mget x no y   -> 1 - 2
        client del x y no    -> 2
        b kill
        c set k 3            -> ok
        client get k         -> 3
        a restart
        client set k 4       ~> ok
        a get k              ~> 4 | -
        client get k         ~> - | 4",
    );
}

#[test]
fn the_best_reply_is_the_answer_when_all_fail() {
    story(
        "[routes.top]
        type = 'failover'
        children = ['a', 'b']
        on = ['timeout', 'connect', 'down', 'miss']",
        "client get k     -> -
        b set k 1         -> ok
        client get k      -> 1
        client get none   -> -
        b kill
        client get none   -> -
        client get k      -> -
        a kill
        client get k      -> !",
    );
}

#[test]
fn a_kind_that_does_not_fail_over_gets_the_error() {
    story(
        "[routes.top]
        type = 'failover'
        children = ['a', 'b']
        on_deletes = []
        on_writes = ['down']",
        "a kill
        client get k   -> -
        client del k   -> !
        client set k 1 ~> ok
        b get k        -> 1",
    );
}

#[test]
fn a_write_in_doubt_is_not_sent_again() {
    let config = |more: &str| {
        format!(
            "[routes.top]
            type = 'failover'
            children = ['a', 'b']
            {more}
            [pools.a]
            protocol = 'PROTOCOL'
            servers = ['@a']
            request_timeout = '300ms'
            failures = 1000"
        )
    };
    story(
        &config(""),
        "client set k 1  -> ok
        b set k 0        -> ok
        a freeze
        client get k     -> 0
        client incr k    -> !
        b get k          -> 0
        a thaw",
    );
    story(
        &config("retry_writes = true"),
        "client set k 1  -> ok
        b set k 0        -> ok
        a freeze
        client incr k    -> 1
        b get k          -> 1
        a thaw",
    );
}

#[test]
fn failover_inside_a_pool_finds_another_server_for_each_key() {
    let config = "[routes.top]
        type = 'failover'
        salted = 'main'
        [pools.main]
        protocol = 'PROTOCOL'
        servers = ['@a', '@b', '@c']
        request_timeout = '1s'";
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, config, "") else {
            return;
        };
        let keys: Vec<String> = (0..30).map(|number| format!("{number}:some-key")).collect();
        let lost: Vec<&String> = {
            for key in &keys {
                house.tell(&format!("client set {key} v -> ok"));
            }
            let on_a = keys
                .iter()
                .filter(|key| house.perform(&format!("a get {key}")) == "v");
            on_a.collect()
        };
        assert!(!lost.is_empty() && lost.len() < keys.len());
        house.tell("a kill");
        for key in &keys {
            let expected = if lost.contains(&key) { "-" } else { "v" };
            house.tell(&format!("client get {key} -> {expected}"));
            house.tell(&format!("client set {key} w -> ok"));
            house.tell(&format!("client get {key} -> w"));
        }
    }
}

#[test]
fn a_rate_bounds_how_much_fails_over() {
    let config = "[routes.top]
        type = 'failover'
        children = ['a', 'b']
        rate = 0.2
        burst = 1";
    let Some(mut house) = House::new(Dialect::Redis, config, "b get k") else {
        return;
    };
    house.tell("b set k 1 -> ok\na kill");
    // One worker or two: the burst is one for each.
    let answered = (0..200)
        .filter(|_| house.perform("client get k") == "1")
        .count();
    assert!(
        (30..=50).contains(&answered),
        "{answered} of 200 failed over"
    );
}

#[test]
fn gutter_takes_over_with_a_short_life() {
    story(
        "[routes.top]
        type = 'gutter'
        main = 'a'
        gutter = 'b'
        ttl = '20s'",
        "client set k 1 1000   -> ok
        a ttl k                -> 1000s
        b get k                -> -
        a kill
        client get k           -> -
        client set k 2 1000    -> ok
        b ttl k                -> 20s
        client set k 2 5       -> ok
        b ttl k                -> 5s
        client set k 2         -> ok
        b ttl k                -> 20s
        client get k           -> 2
        client mset x 1 y 2    -> ok
        client mget x no y     -> 1 - 2
        b get y                -> 2
        a restart
        client get k           ~> -
        client set k 3         -> ok
        client get k           -> 3
        client del x           -> 0 | -
        b get x                ~> -",
    );
}

#[test]
fn a_frozen_gutter_does_not_delay_what_its_main_child_answers() {
    story(
        "[routes.top]
        type = 'gutter'
        main = 'a'
        gutter = 'b'
        [pools.b]
        protocol = 'PROTOCOL'
        servers = ['@b']
        request_timeout = '60s'",
        "b set k 0        -> ok
        b freeze
        client set k 1    -> ok
        client get k      -> 1
        client del k      -> 1
        client get k      -> -
        client set k 2    -> ok
        client get k      -> 2
        b thaw
        b get k           ~> -",
    );
}

#[test]
fn miss_failover_reads_on_until_somebody_has_it() {
    story(
        "[routes.top]
        type = 'miss_failover'
        children = ['a', 'b', 'c']",
        "c set k 3          -> ok
        client get k        -> 3
        b set k 2           -> ok
        client get k        -> 2
        client mget k no k  -> 2 - 2
        client set k 1      -> ok
        a get k             -> 1
        b get k             -> 2
        client get k        -> 1
        a kill
        client get k        -> 2
        client get no       -> -",
    );
}

#[test]
fn routes_nest() {
    story(
        "[routes.top]
        type = 'prefix'
        default = 'guarded'
        children = { 'copy:' = { type = 'failover', children = ['both', 'c'] } }
        [routes.both]
        type = 'replicas'
        children = ['a', 'b']
        read_repair = true
        [routes.guarded]
        type = 'gutter'
        ttl = '20s'
        main = { type = 'key', add_prefix = 'main:', child = 'a' }
        gutter = { type = 'key', add_prefix = 'spare:', child = 'c' }",
        "client set copy:k 1      -> ok
        b get copy:k              -> 1
        client set k 1 1000       -> ok
        a get main:k              -> 1
        client mget k copy:k no   -> 1 1 -
        a kill
        client set k 2 1000       -> ok
        c get spare:k             -> 2
        c ttl spare:k             -> 20s
        client mget k copy:k no   -> 2 1 -
        b kill
        client get copy:k         -> -
        client set copy:k 3       -> ok
        c get copy:k              -> 3
        client mget copy:k k      -> 3 2",
    );
}
