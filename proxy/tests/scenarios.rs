//! The scenarios that people run such proxies for: each example of
//! `configs/examples/` that shows one, exercised with real servers. Servers are
//! `a`, `b` ... in the order in which the example mentions them.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;
mod tls_support;

use std::net::SocketAddr;
use std::time::Duration;

use routes_support::{Example, House, count, scenario};
use support::{Emberline, command, free_port};
use tls_support::Papers;

/// Keys that land everywhere.
fn keys(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{number}:some-key"))
        .collect()
}

/// Write keys through the proxy, each with itself as its value.
fn write(house: &mut House, keys: &[String]) {
    for key in keys {
        house.tell(&format!("client set {key} {key} -> ok"));
    }
}

#[test]
fn s01_a_salt_places_keys_in_another_way() {
    let keys = keys(60);
    let placed = |example: Example| -> Option<Vec<bool>> {
        let mut house = example.start()?;
        write(&mut house, &keys);
        let total: usize = ["a", "b", "c"]
            .map(|name| count(&mut house, name, &keys))
            .iter()
            .sum();
        assert_eq!(total, keys.len(), "each key is in one place");
        let at_first = |key: &String| house.perform(&format!("a get {key}")) != "-";
        Some(keys.iter().map(at_first).collect())
    };
    // Names, not addresses, place keys; so both have the same ring.
    let example = || {
        (1..=3).fold(Example::open("01-salted-pool.toml"), |example, number| {
            let address = format!("\"10.0.0.{number}:6379\"");
            example.with(
                &address,
                &format!("{{ address = {address}, name = \"{number}\" }}"),
            )
        })
    };
    let Some(salted) = placed(example()) else {
        return;
    };
    assert_eq!(placed(example()).unwrap(), salted);
    let plain = placed(example().with("salt = \"sessions\"", "")).unwrap();
    let moved = salted
        .iter()
        .zip(&plain)
        .filter(|(one, other)| one != other)
        .count();
    assert!(
        moved >= 10,
        "{moved} of 60 moved to or from the first server"
    );
}

#[test]
fn s02_one_of_five_is_read_and_all_are_written() {
    scenario(
        "02-replicated-pool.toml",
        "client set k 1 1000  -> ok
        a get k               -> 1
        c ttl k               -> 1000s
        e get k               -> 1
        b kill
        client get k          -> 1
        d kill
        client get k          -> 1
        client mget k no      -> 1 -
        b restart
        d restart
        client get k; b get k ~> 1
        client get k; d ttl k ~> 1000s
        client set k 2        ~> ok
        d get k               -> 2
        client del k          -> 1
        a get k               -> -
        e get k               -> -",
    );
}

#[test]
fn s03_prefixes_lead_to_pools_nested_anywhere() {
    scenario(
        "03-nested-prefixes.toml",
        "client set x 1          -> ok
        client set shop:x 2      -> ok
        client set shop:cart:x 3 -> ok
        client set ads:x 4       -> ok
        a get x                  -> 1
        b get shop:x             -> 2
        c get shop:cart:x        -> 3
        d get ads:x              -> 4
        client mget x shop:x shop:cart:x ads:x no  -> 1 2 3 4 -
        c kill
        client set shop:cart:x 5 -> ok
        a get shop:cart:x        -> 5
        client get shop:x        -> 2",
    );
}

#[test]
fn s04_each_kind_of_command_goes_its_own_way() {
    scenario(
        "04-by-operation.toml",
        "client set k 1    -> ok
        a get k            -> 1
        b get k            -> 1
        b set k 2          -> ok
        client get k       -> 1
        client incr n      -> 1
        b get n            -> 1
        a get n            -> -
        client touch k 10  -> no
        a ttl k            -> forever
        client del k       -> 1
        b get k            -> -",
    );
}

#[test]
fn s05_regions_have_their_keys_and_a_delete_reaches_all() {
    scenario(
        "05-regions.toml",
        "client set west:k 1   -> ok
        c get k                -> 1
        client get west:k      -> 1
        client get k           -> -
        client set k 2         -> ok
        client get east:k      -> 2
        client mget west:k k east:k  -> 1 2 2
        client del k           -> 1
        c get k                -> -
        client get k           -> -
        client set west:k 3    -> ok
        client set k 4         -> ok
        client del west:k      -> 1
        client mget west:k k   -> - -
        client set k 4         -> ok
        c kill
        client del k           -> !
        client get k           -> -",
    );
}

#[test]
fn s06_a_gutter_lives_for_three_seconds() {
    scenario(
        "06-gutter.toml",
        "client set k 1 1000  -> ok
        a kill
        b kill
        client get k           -> -
        client set k 2 1000    -> ok
        c ttl k                -> 3s
        client get k           -> 2
        c get k                ~> -
        client set l 3         -> ok
        client get l           -> 3
        a restart
        b restart
        client set m 4; client del m  ~> 1",
    );
}

#[test]
fn s07_failover_by_outcome_by_operation_and_by_rate() {
    let Some(mut house) = Example::open("07-failover.toml").start() else {
        return;
    };
    house.tell(
        "b set k far     -> ok
        client set k near -> ok
        client get k      -> near
        a kill
        client get k      -> far
        client del k      -> !
        b get k           -> far
        client set k new  -> ok
        b get k           -> new",
    );
    let answered = (0..500).filter(|_| house.perform("client get k") == "new");
    let answered = answered.count();
    // A fifth, and what is left of the burst.
    assert!((90..=112).contains(&answered), "{answered} of 500");
}

#[test]
fn s08_keys_of_a_dead_server_go_to_their_second_choice() {
    let Some(mut house) = Example::open("08-rendezvous-failover.toml").start() else {
        return;
    };
    let keys = keys(80);
    write(&mut house, &keys);
    let before = ["b", "c", "d"].map(|name| count(&mut house, name, &keys));
    house.tell("a kill");
    write(&mut house, &keys);
    for key in &keys {
        house.tell(&format!("client get {key} -> {key}"));
    }
    let after = ["b", "c", "d"].map(|name| count(&mut house, name, &keys));
    assert_eq!(after.iter().sum::<usize>(), keys.len());
    for (before, after) in before.iter().zip(after) {
        assert!(after > *before, "each takes a part: {before} {after}");
    }
}

#[test]
fn s09_a_new_cluster_is_filled_from_the_old_one() {
    scenario(
        "09-warm-up.toml",
        "c set k 1 1000 7     -> ok
        client get k          -> 1
        client get k; a get k; client mget k -> 1
        c set k 2             -> ok
        client get k          ~> 1
        client del k          -> 1
        client get k          -> -
        c get k               -> -
        c set k 3             -> ok      // as if a slow client wrote it there
        client get k          -> 3
        a get k               -> -       // remembered as deleted
        b get k               -> -
        client set n 5        -> ok
        c get n               -> -
        client get n          -> 5",
    );
}

#[test]
fn s10_a_cold_pool_is_spared_until_it_hits() {
    let Some(mut house) = Example::open("10-slow-warm-up.toml").start() else {
        return;
    };
    house.tell("b set k old -> ok");
    let asked = |house: &mut House, answer: &str, count: usize| {
        let each = (0..count).map(|_| house.perform("client get k"));
        each.filter(|got| got == answer).count()
    };
    asked(&mut house, "-", 100);
    let spared = asked(&mut house, "old", 200);
    assert!(spared > 140, "only {spared} of 200 were spared");
    house.tell("a set k new -> ok");
    let full = (0..200).any(|_| asked(&mut house, "new", 100) == 100);
    assert!(full, "it never gets everything again");
}

#[test]
fn s11_two_tiers_and_what_neither_has() {
    scenario(
        "11-two-tiers.toml",
        "client set k 1           -> ok
        client get k; a get k      ~> 1
        a ttl k                    -> 60s
        client get none            -> -
        b set none 2               -> ok
        c set none 2               -> ok
        client get none            -> -
        client get none            ~> 2
        client del k               -> 1
        a get k                    -> -
        client get k               -> -",
    );
}

#[test]
fn s12_large_values_have_servers_of_their_own() {
    scenario(
        "12-size-split.toml",
        "client set k =65535  -> ok
        c get k               -> -
        client get k          -> =65535
        client set k =65536   -> ok
        c get k               -> =65536
        a get k               -> -
        b get k               -> -
        client mget k no      -> =65536 -
        client del k          -> 1
        client get k          -> -",
    );
}

#[test]
fn s13_a_tenth_of_the_keys_is_shadowed() {
    let Some(mut house) = Example::open("13-shadow.toml").start() else {
        return;
    };
    let keys = keys(400);
    write(&mut house, &keys);
    let copied = count(&mut house, "c", &keys);
    assert!((15..=80).contains(&copied), "{copied} of 400");
    house.tell("c freeze");
    write(&mut house, &keys);
    house.tell("c kill");
    for key in &keys {
        house.tell(&format!("client get {key} -> {key}"));
    }
}

#[test]
fn s14_a_migration_takes_what_is_missing_from_the_old_cluster() {
    let example = || Example::open("14-timed-migration.toml");
    let Some(mut house) = example().with("2027-01-01", "2099-01-01").start() else {
        return;
    };
    house.tell(
        "client set k 1  -> ok
        a get k           -> 1
        client del k      -> 1
        client set k 2    -> ok
        a kill
        client set k 3    -> ok
        c get k           -> 3",
    );
    let mut house = example().with("2027-01-01", "2001-01-01").start().unwrap();
    house.tell(
        "a set k 1 1000  -> ok
        client get k      -> 1
        b get k           ~> 1
        b ttl k           -> 1000s
        client set n 2    -> ok
        b get n           -> 2
        a get n           -> -
        a kill
        b kill
        client set n 3    -> ok
        c get n           -> 3",
    );
}

#[test]
fn s15_weights_share_and_weight_zero_drains() {
    let Some(mut house) = Example::open("weighted-drain.toml").start() else {
        return;
    };
    let keys = keys(300);
    write(&mut house, &keys);
    let [small, big, leaving] = ["a", "b", "c"].map(|name| count(&mut house, name, &keys));
    assert_eq!(leaving, 0);
    assert_eq!(small + big, keys.len());
    assert!(big > 2 * small && small > 10, "{small} and {big}");
    house.tell("c kill");
    write(&mut house, &keys);
}

#[test]
fn s16_more_than_is_allowed_fails_at_once() {
    let Some(mut house) = Example::open("16-limits.toml").start() else {
        return;
    };
    let stored = (0..100).filter(|_| house.perform("client set k 1") == "ok");
    let stored = stored.count();
    assert!((10..60).contains(&stored), "{stored} of 100 writes");
    house.tell("client set k 2 -> ! over its rate limit\nclient get k -> 1");
    // One of the servers does not answer: eight requests wait for it, and
    // whoever comes later is told so.
    house.tell("a freeze\nb freeze");
    for number in 0..40 {
        let name = format!("waiting{number}");
        house.client(&name).send(&command(&["GET", "k"]));
    }
    let mut refused = 0;
    for number in 0..40 {
        let waiting = house.client(&format!("waiting{number}"));
        refused += usize::from(!waiting.is_silent(Duration::from_millis(500)));
    }
    assert!(refused >= 40 - 2 * 8, "{refused} were told");
    house.tell("a thaw\nb thaw\nclient get k ~> 1");
}

#[test]
fn s17_a_hot_key_is_read_from_copies() {
    let Some(mut house) = Example::open("17-split-hot.toml").start() else {
        return;
    };
    house.tell("client set front-page 1 -> ok");
    let copies: Vec<String> = (1..=3).map(|copy| format!("front-page#{copy}")).collect();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let made = |house: &mut House| -> usize {
        ["a", "b", "c", "d"]
            .iter()
            .map(|name| count(house, name, &copies))
            .sum()
    };
    while made(&mut house) < 3 {
        assert!(std::time::Instant::now() < end, "copies are not made");
        house.tell("client get front-page -> 1");
    }
    house.tell("other set front-page 2 -> ok");
    for _ in 0..30 {
        house.tell("client get front-page -> 2");
    }
    house.tell("client set ordinary 1 -> ok\nclient get ordinary -> 1\na get ordinary#1 -> -");
}

#[test]
fn s18_keys_are_renamed_and_live_for_an_hour() {
    scenario(
        "18-ttl-and-keys.toml",
        "client set v1:k 1      -> ok
        a get shop:k             -> 1
        a ttl shop:k             -> 3600s
        client set usr:k 2 60    -> ok
        a get shop:user:k        -> 2
        a ttl shop:user:k        -> 60s
        client say get v1:k      -> VALUE v1:k 0 1\\r\\n1\\r\\nEND\\r\\n
        client mget usr:k k no   -> 2 1 -
        client touch k 9999      -> ok
        a ttl shop:k             -> 3600s
        client del v1:k          -> 1
        a get shop:k             -> -",
    );
}

#[test]
fn s19_large_values_are_kept_in_pieces() {
    let Some(mut house) = Example::open("19-big-values.toml").start() else {
        return;
    };
    house.tell(
        "client set small =524288 60   -> ok
        client set k =5000000         -> ok
        client get k                  -> =5000000
        client size k                 -> 5000000
        client ttl k                  -> 43200s
        client ttl small              -> 60s
        client set l =31000000 60     -> ok
        client mget k no l small      -> =5000000 - =31000000 =524288
        client set k =600000          -> ok
        client get k                  -> =600000",
    );
    // The key itself is a head, wherever it is.
    for (key, size) in [("k", "40"), ("l", "40"), ("small", "524288")] {
        let mut at = |server: &str| house.perform(&format!("{server} size {key}"));
        let sizes = ["a", "b", "c"].map(&mut at);
        assert_eq!(
            sizes.iter().filter(|own| **own == size).count(),
            1,
            "{key}: {sizes:?}"
        );
    }
    house.tell("client del k -> 1\nclient get k -> -");
}

#[test]
fn s20_two_tiers_talk_to_each_other_in_private() {
    let papers = Papers::new();
    papers.issue("app", &["app"]);
    let at = SocketAddr::from(([127, 0, 0, 1], free_port())).to_string();
    let example = |name: &str| Example::open(name).with("/etc/emberline/tls", &papers.at(""));
    let far = example("20-far-tier.toml").with("127.0.0.1:7379", &at);
    let Some(mut far) = far.start() else { return };
    let near = || {
        let near = example("20-near-tier.toml").with("far-tier.cache:7379", &at);
        near.with("tls.crt", "app.crt").with("tls.key", "app.key")
    };
    let mut house = near().start().unwrap();
    house.tell("client get k ~> -");

    let keys = keys(60);
    write(&mut house, &keys);
    let (a, b) = (count(&mut far, "a", &keys), count(&mut far, "b", &keys));
    assert!(a > 0 && b > 0 && a + b == 60, "{a} and {b} of 60");
    house.tell(
        "client mget 1:some-key no 2:some-key -> 1:some-key - 2:some-key
        client set k =3000000 1000 -> ok
        client get k               -> =3000000
        client ttl k               -> 1000s
        client del k               -> 1
        client get k               -> -",
    );
    // What the far tier denies its clients, it denies the near one.
    let flush = house.client("client").call(&["FLUSHALL"]);
    assert!(flush.starts_with(b"-"), "{}", flush.escape_ascii());

    // Who has no certificate is not let in; who has one from elsewhere neither.
    let lines =
        "certificate = \"/etc/emberline/tls/tls.crt\"\nkey = \"/etc/emberline/tls/tls.key\"\n";
    let stranger = Example::open("20-near-tier.toml").with(lines, "");
    let stranger = stranger.with("/etc/emberline/tls", &papers.at(""));
    let stranger = stranger.with("far-tier.cache:7379", &at).start();
    let answer = stranger
        .unwrap()
        .client("client")
        .call(&["GET", "1:some-key"]);
    assert!(answer.starts_with(b"-"), "{}", answer.escape_ascii());

    // The near tier finds the far one again.
    let text = std::fs::read_to_string(far.proxy.file()).unwrap();
    far.proxy.signal("KILL");
    far.proxy.wait(Duration::from_secs(20)).unwrap();
    house.tell("client get 1:some-key ~> ! server");
    far.proxy = Emberline::config(&text);
    house.tell("client get 1:some-key ~> 1:some-key");
}

#[test]
fn s21_one_client_computes_what_is_missing_and_the_others_wait() {
    let Some(mut house) = Example::open("21-leases.toml").start() else {
        return;
    };
    house.tell(
        "client set front-page 0 -> ok\nclient get front-page -> 0\nclient del front-page -> 1",
    );
    for number in 0..8 {
        house
            .client(&format!("c{number}"))
            .send(b"get front-page\r\n");
    }
    // All but one wait; that one computes the value.
    let mut waiting = Vec::new();
    for number in 0..8 {
        let name = format!("c{number}");
        match house.client(&name).is_silent(Duration::from_millis(150)) {
            true => waiting.push(name),
            false => assert_eq!(house.client(&name).memcached_reply(), b"END\r\n"),
        }
    }
    assert_eq!(waiting.len(), 7, "one of eight computes it");
    house.tell("client set front-page 1 -> ok");
    for name in waiting {
        let reply = house.client(&name).memcached_reply();
        assert_eq!(reply, b"VALUE front-page 0 1\r\n1\r\nEND\r\n");
    }
}

#[test]
fn s22_each_listener_has_its_tree_and_reads_stay_in_the_zone() {
    let Some(mut house) = Example::open("22-trees-and-zones.toml").start() else {
        return;
    };
    house.tell(
        "client set k 1       -> ok
        a get k                -> 1
        a set k east           -> ok
        client get k           -> east
        client get k           -> east
        client:7380 get k      -> 1
        c get k                -> -
        c DBSIZE               -> 0",
    );
    let keys = keys(60);
    for key in &keys {
        house.tell(&format!(
            "client:7380 set {key} v -> ok\nclient:7380 get {key} -> v"
        ));
    }
    // What belongs to the one marked as down lives in the spare for a while.
    let (one, spare) = (count(&mut house, "b", &keys), count(&mut house, "d", &keys));
    assert_eq!(count(&mut house, "c", &keys), 0);
    assert_eq!(one + spare, keys.len());
    assert!(one > 5 && spare > 5, "{one} and {spare}");
    house.tell("a kill\nclient get k -> 1");
}

#[test]
fn s23_pools_share_what_they_do_not_say() {
    scenario(
        "23-shared-defaults.toml",
        "client set k 1       -> ok
        client set user:k 2    -> ok
        client set img:k 3     -> ok
        a get k                -> 1
        b get user:k           -> 2
        c get img:k            -> 3
        client set k =5000     -> !
        client set k =4000     -> ok
        client mget k user:k img:k  -> =4000 2 3",
    );
}

#[test]
fn s24_faults_are_there_for_those_who_ask() {
    let Some(mut house) = Example::open("24-faults.toml").start() else {
        return;
    };
    house.tell(
        "client set late:k 1  -> ok
        client get late:k      -> 1
        client set lost:k 1    -> !
        client get lost:k      -> !
        client get refused:k   -> !
        client set gone:k 1    -> no
        client get gone:k      -> -
        client set k 2         -> ok
        client get k           -> 2
        a set flaky:k 3        -> ok",
    );
    let failed = (0..100).filter(|_| house.perform("client get flaky:k") != "3");
    let failed = failed.count();
    assert!((20..=80).contains(&failed), "{failed} of 100");
}
