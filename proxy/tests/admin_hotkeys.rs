//! `/hotkeys`: what people see of the hot keys, and what they must not.

#![allow(clippy::unwrap_used)]

mod admin_support;

use std::sync::Arc;
use std::time::Duration;

use admin_support::{Site, ask, running, start};
use emberline::metrics::Event;
use emberline::running::{HotRule, Mode, Running, Visibility};
use emberline_hotkey::{HotKey, Item, Value as Kept};
use serde_json::Value;

fn hotkeys(site: &Site, query: &str) -> Value {
    let (code, body) = ask(site.admin(), "GET", &format!("/hotkeys{query}"));
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Promote a key as the workers would.
fn promote(site: &Site, pool: u16, key: &[u8]) -> Arc<HotKey> {
    let l1 = &site.state.l1;
    let hash = l1.hasher.hash_in(pool, key);
    l1.board.promote(hash, pool, key);
    Arc::clone(l1.board.set().get(hash).unwrap())
}

/// Put an item of the key's next generation into memory, as a fill would.
fn keep(site: &Site, key: &HotKey) {
    let l1 = &site.state.l1;
    let token = key.begin(l1.now()).unwrap();
    let item = Item {
        hash: key.hash,
        generation: key.install(token).unwrap(),
        server: 0,
        epoch: 0,
        sent: l1.now(),
        took: 1,
        expires: u64::MAX,
        value: Kept::Redis(b"$5\r\nhello\r\n"[..].into()),
    };
    assert!(l1.store.insert(&l1.store.hold(item)));
    l1.store.tidy();
}

fn in_ttl_mode() -> Running {
    let mut running = running("r", 2, 1);
    running.pools[1].l1.mode = Mode::Ttl;
    running
}

#[test]
fn a_state_tells_what_becomes_of_a_keys_reads() {
    let mut running = in_ttl_mode();
    running.pools[1].hotkey.rules = vec![HotRule {
        prefix: b"secret:".as_slice().into(),
        window_ms: 1000,
        threshold: 1,
        hold: Duration::ZERO,
        ttl: None,
        allow: false,
    }];
    let site = start(running);
    let state = |key: &str| {
        let answer = hotkeys(&site, &format!("?key={key}"));
        assert_eq!(answer["found"], 1, "{answer}");
        answer["keys"][0]["state"].as_str().unwrap().to_owned()
    };
    let key = promote(&site, 1, b"1:a");
    assert_eq!(state("1:a"), "promoted");
    keep(&site, &key);
    assert_eq!(state("1:a"), "cached");
    key.invalidate();
    assert_eq!(state("1:a"), "promoted");
    key.quarantine(u64::MAX);
    assert_eq!(state("1:a"), "quarantined");
    promote(&site, 1, b"secret:1");
    assert_eq!(state("secret:1"), "excluded");
    promote(&site, 0, b"0:a");
    assert_eq!(state("0:a"), "observed");
}

#[test]
fn pools_and_memory_stand_above_the_keys() {
    let site = start(in_ttl_mode());
    keep(&site, &promote(&site, 1, b"1:a"));
    promote(&site, 1, b"1:b");
    promote(&site, 0, b"0:a");
    for meter in &*site.state.view().meters {
        meter.event(1, Event::Hit, 4);
        meter.event(1, Event::Miss, 1);
        meter.event(0, Event::WouldHit, 9);
        meter.event(0, Event::WouldMiss, 1);
    }
    let answer = hotkeys(&site, "");
    assert_eq!(answer["l1"]["capacity"], 1 << 20);
    assert_eq!(answer["l1"]["items"], 1);
    let [observing, caching] = [0, 1].map(|at| &answer["pools"][at]);
    assert_eq!(caching["mode"], "ttl");
    assert_eq!(
        (&caching["hits"], &caching["misses"]),
        (&8.into(), &2.into())
    );
    assert_eq!(caching["hit_ratio"], 0.8);
    assert_eq!(
        (&caching["hot_keys"], &caching["items"]),
        (&2.into(), &1.into())
    );
    assert!(caching["bytes"].as_u64().unwrap() > 11);
    assert_eq!(caching["would_save"], Value::Null);
    assert_eq!(observing["hit_ratio"], 0.9);
    let sentence = observing["would_save"]["sentence"].as_str().unwrap();
    assert!(sentence.starts_with("memory would answer "), "{sentence}");
    assert!(sentence.ends_with(" for 1 hot key"), "{sentence}");
}

#[test]
fn a_key_is_a_hash_that_only_a_guess_finds() {
    let site = start(running("r", 2, 1));
    let key = promote(&site, 1, b"mail:someone@example.org");
    promote(&site, 0, b"other");
    let answer = hotkeys(&site, "");
    assert!(!answer.to_string().contains("someone"), "{answer}");
    assert_eq!(answer["key_visibility"], "hash");
    assert_eq!(answer["found"], 2);
    let found = hotkeys(&site, "?key=mail%3Asomeone%40example.org");
    assert_eq!(found["found"], 1);
    assert_eq!(found["keys"][0]["key"], format!("{:016x}", key.hash.0));
    assert_eq!(hotkeys(&site, "?key=mail")["found"], 0);
    // The same key in another pool is another one.
    assert_eq!(
        hotkeys(&site, "?pool=pool-0&key=mail:someone@example.org")["found"],
        0
    );
}

#[test]
fn a_plain_key_is_text_whatever_it_holds() {
    let mut running = running("r", 1, 1);
    running.visibility = Visibility::Plain;
    let site = start(running);
    for (key, shown) in [
        (&b"user:1"[..], "user:1"),
        (b"\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        (
            b"<img src=x onerror=alert(1)>",
            "<img\\x20src=x\\x20onerror=alert(1)>",
        ),
        (b"\xff\x00\r\n", "\\xff\\x00\\x0d\\x0a"),
        ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
    ] {
        let key = promote(&site, 0, key);
        let answer = hotkeys(&site, "");
        let keys = answer["keys"].as_array().unwrap();
        let own = keys
            .iter()
            .find(|row| row["hash"] == format!("{:016x}", key.hash.0));
        assert_eq!(own.unwrap()["key"], shown);
        site.state.l1.board.demote(key.hash);
    }
    // The page puts texts in as texts: it has no other way.
    let (_, page) = ask(site.admin(), "GET", "/");
    assert!(page.contains("textContent"));
    for markup in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
    ] {
        assert!(!page.contains(markup), "{markup}");
    }
}

#[test]
fn a_query_is_obeyed_or_refused() {
    let site = start(running("r", 2, 1));
    for i in 0..150 {
        promote(&site, i % 2, format!("key:{i}").as_bytes());
    }
    let keys = |query: &str| hotkeys(&site, query)["keys"].as_array().unwrap().len();
    assert_eq!(keys(""), 100);
    assert_eq!(keys("?limit=150"), 150);
    assert_eq!(keys("?limit=7&sort=bytes"), 7);
    assert_eq!(keys("?pool=pool-1&limit=10000"), 75);
    let one = hotkeys(&site, "?pool=pool-1");
    assert_eq!(one["pools"].as_array().unwrap().len(), 1);
    for (query, why) in [
        ("?pool=nobody", "there is no pool \"nobody\""),
        ("?limit=0", "limit wants a number from 1 to 10000"),
        ("?limit=1e3", "limit wants a number"),
        ("?sort=name", "sort is by rate, bytes or writes"),
        ("?keys=1", "there are pool, key, limit and sort"),
        ("?pool=%1b%5b2J", "there is no pool \"\\u{1b}[2J\""),
    ] {
        let (code, said) = ask(site.admin(), "GET", &format!("/hotkeys{query}"));
        assert_eq!(code, 400, "{query}: {said}");
        assert!(said.contains(why), "{query}: {said}");
    }
    assert_eq!(ask(site.admin(), "POST", "/hotkeys").0, 405);
    assert_eq!(ask(site.status(), "GET", "/hotkeys").0, 404);
}
