//! Redis commands with several keys, through routes that keep a key in several
//! places, change it or leave its place to chance: before real servers.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;

use routes_support::{Dialect, House, story_of};

#[track_caller]
fn story(config: &str, script: &str) {
    story_of(Dialect::Redis, config, script);
}

#[test]
fn no_key_of_a_command_is_left_stale_in_the_near_tier() {
    story(
        "[routes.top]
        type = 'l1_l2'
        l1 = 'near'
        l2 = 'c'
        ttl = '60s'
        [pools.near]
        protocol = 'redis'
        servers = ['@a', '@b']",
        "c set b old            -> ok
        client get b           -> old
        client set a new       -> ok
        client rename a b      -> ok
        client get b           -> new
        client get a           -> -
        client set a 2         -> ok
        client get a           -> 2
        client copy a b REPLACE -> 1
        client get b           -> 2
        client del a b         -> 2
        client get a           -> -
        client get b           -> -
        client msetnx a 5 b 6  -> 1
        client get b           -> 6
        client get a           -> 5
        client msetnx a 7 x 8  -> 0
        client eval redis.call('mset',KEYS[1],8,KEYS[2],9) 2 a b -> -
        client get a           -> 8
        client get b           -> 9
        client del a b         -> 2
        client rpush a 1       -> 1
        client llen b          -> 0
        client lmove a b LEFT RIGHT -> 1
        client llen b          -> 1
        client llen a          -> 0
        client set u{t} 1      -> ok
        client get u{t}        -> 1
        client set v{t} 2      -> ok
        client rename v{t} u{t} -> ok
        client get u{t}        -> 2
        client sadd s1 x y     -> 2
        client sadd s2 y z     -> 2
        client smembers s1     ~> x y | y x
        client sinter s1 s2    -> y",
    );
}

#[test]
fn keys_of_one_tag_stay_together_in_shares() {
    let config = "[routes.top]
        type = 'shadow'
        main = 'main'
        copies = [{ route = 'c', share = 0.5, by = 'key' }]
        [pools.main]
        protocol = 'redis'
        servers = ['@a', '@b']";
    let Some(mut house) = House::new(Dialect::Redis, config, "c") else {
        return;
    };
    let mut copied = 0;
    for number in 0..40 {
        house.tell(&format!(
            "client set {{u{number}}}a 1 -> ok
            client rename {{u{number}}}a {{u{number}}}b -> ok
            client get {{u{number}}}b -> 1"
        ));
        let copy = house.perform(&format!("c get {{u{number}}}b"));
        copied += usize::from(copy == "1");
    }
    assert!((5..=35).contains(&copied), "{copied}");
}

#[test]
fn chance_takes_no_key_from_another() {
    for config in [
        "[routes.top]
        type = 'random'
        children = ['a', 'b', 'c']",
        "[routes.top]
        type = 'load_balance'
        children = ['a', 'b', 'c']",
        "[routes.top]
        type = 'log'
        child = 'a'
        share = 0.5",
        "[routes.top]
        type = 'fault'
        child = 'a'
        share = 0.5
        delay = '1ms'",
        "[routes.top]
        type = 'replicas'
        children = ['a', 'b', 'c']
        read = 'random'",
        "[routes.top]
        type = 'replicas'
        children = ['a', 'b', 'c']
        read = 'least_loaded'",
        "[routes.top]
        type = 'rate_limit'
        child = 'a'
        all = { rate = 0.001, burst = 90 }",
    ] {
        let Some(mut house) = House::new(Dialect::Redis, config, "a") else {
            return;
        };
        house.tell("a sadd s1 x y -> 2\na sadd s2 y -> 1");
        for server in ["b", "c"] {
            if config.contains(&format!("'{server}'")) {
                house.tell(&format!(
                    "{server} sadd s1 x y -> 2\n{server} sadd s2 y -> 1"
                ));
            }
        }
        for number in 0..40 {
            let said = house.perform("client sinter s1 s2");
            assert_eq!(said, "y", "{number}: {config}");
        }
    }
}

#[test]
fn every_key_is_renamed() {
    story(
        "[routes.top]
        type = 'key'
        child = 'a'
        add_prefix = 'app:'",
        "client set x 1           -> ok
        client rename x y        -> ok
        a get app:y              -> 1
        a get app:x              -> -
        client msetnx p 1 q 2    -> 1
        a get app:p              -> 1
        a get app:q              -> 2
        client eval return{KEYS[1],KEYS[2]} 2 p q -> app:p app:q
        client copy p z          -> 1
        a get app:z              -> 1
        a exists p q z x y       -> 0",
    );
    story(
        "[routes.top]
        type = 'prefix'
        children = { 'old:' = 'a' }
        rewrite = { 'old:' = 'new:' }
        default = 'a'",
        "client set old:x 1       -> ok
        client rename old:x old:y -> ok
        a get new:y              -> 1
        client rename old:y z    -> ok
        a get z                  -> 1
        a exists new:y old:y     -> 0",
    );
}

#[test]
fn a_hot_key_may_be_one_of_several() {
    story(
        "[routes.top]
        type = 'split_hot'
        child = 'a'
        copies = 2
        keys = ['hot']",
        "client set hot 1        -> ok
        client get hot; client get hot; client get hot; client get hot; a exists hot#1 hot#2 ~> 2
        client set cold 2        -> ok
        client rename cold hot   -> ok
        a exists hot#1 hot#2     -> 0
        client get hot           -> 2",
    );
}

#[test]
fn what_was_taken_from_a_cold_child_stays_taken() {
    story(
        "[routes.top]
        type = 'warm_up'
        cold = 'a'
        warm = 'b'",
        "b hset h f 1 g 2        -> 2
        client hgetall h         -> f 1 g 2
        a hlen h                 ~> 2
        client hdel h f          -> 1
        client hget h f          -> -
        client hdel h g          -> 1
        client hgetall h         ->
        b rpush l x              -> 1
        client llen l            -> 1
        a llen l                 ~> 1
        client lpop l            -> x
        client llen l            -> 0
        b set s old              -> ok
        client set s 0           -> ok
        client getbit s 1        -> 0
        client getbit s 7        -> 0
        b hset part f 1          -> 1
        client hget part f; a hget part f ~> 1
        client hget part f       -> 1
        client hget part no      -> -",
    );
}

#[test]
fn a_conditional_write_between_two_sizes_is_refused() {
    let config = "[routes.top]
        type = 'size_split'
        small = 'a'
        large = 'b'
        threshold = '1KiB'";
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        story_of(
            dialect,
            config,
            "client set k =2000      -> ok
            client add k small       -> ! conditional
            redis: client say SET k small XX ~> -ERR route \\\"top\\\" cannot carry out a conditional write: what it depends on may be in either child\\r\\n
            client get k             -> =2000
            a get k                  -> -",
        );
    }
}

#[test]
fn a_delete_says_what_any_copy_had() {
    story_of(
        Dialect::Memcached,
        "[routes.top]
        type = 'replicas'
        children = ['a', 'b']
        wait = 'all'",
        "b set k 1 -> ok\nclient del k -> 1\nclient del k -> 0",
    );
    story(
        "[routes.top]
        type = 'replicas'
        children = ['a', 'b']
        wait = 'all'",
        "b set k 1 -> ok\nclient del k -> 1\nclient del k -> 0",
    );
}
