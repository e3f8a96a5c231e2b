//! The L1's thread before Redis: what it fills, what makes that stale, and
//! what it does when a server cannot do what it should.
//!
//! No test knows how long anything takes: what must happen is waited for, and
//! what must not happen is looked for after something that comes later.

#![allow(clippy::unwrap_used)]

mod l1_support;
mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use emberline::l1::{Filled, LinkState};
use emberline::metrics::Event;
use emberline::running::{HotRule, Mode, Pool, Secret};
use emberline_hotkey::Value;
use emberline_protocol::redis::encode;

use l1_support::{Bench, text};
use support::{Client, Scripted, Server, drain_requests};

fn tracking(pool: &mut Pool) {
    pool.l1.mode = Mode::Tracking;
    pool.l1.ttl = Duration::from_secs(60);
    pool.l1.heartbeat = Duration::from_secs(30);
    pool.l1.reads_per_invalidation = 0;
}

fn ttl(pool: &mut Pool) {
    tracking(pool);
    pool.l1.mode = Mode::Ttl;
}

/// Say something that must succeed.
#[track_caller]
fn ok(client: &mut Client, words: &[&str]) {
    let reply = client.call(words);
    assert!(
        !reply.starts_with(b"-"),
        "{words:?}: {}",
        support::show(&reply)
    );
}

// What is kept.

#[test]
fn a_value_is_kept_no_longer_than_the_server_keeps_it() {
    let Some(redis) = Server::redis() else { return };
    let mut client = redis.client();
    ok(&mut client, &["SET", "short", "x", "PX", "20000"]);
    ok(&mut client, &["SET", "long", "x", "PX", "90000"]);
    ok(&mut client, &["SET", "endless", "x"]);
    ok(&mut client, &["SET", "ruled", "x"]);
    for mode in [tracking, ttl] {
        let bench = Bench::new(redis.address(), |pool| {
            mode(pool);
            let rule = |prefix: &str, ttl| HotRule {
                prefix: prefix.as_bytes().into(),
                window_ms: 1000,
                threshold: 1,
                hold: Duration::ZERO,
                ttl,
                allow: true,
            };
            pool.hotkey.rules = vec![
                rule("rul", Some(Duration::from_secs(7))),
                rule("r", Some(Duration::from_secs(3))),
            ];
        });
        let kept = |name: &str| {
            let key = bench.promote(name);
            assert_eq!(bench.settle(&key), text("x"), "{name}");
            bench
                .look(&key, |item| (item.expires - item.sent) / 1_000_000)
                .unwrap()
        };
        assert!(kept("short") <= 20_000);
        assert_eq!(kept("long"), 60_000);
        assert_eq!(kept("endless"), 60_000);
        assert_eq!(kept("ruled"), 7_000, "the longest prefix counts");
    }
}

#[test]
fn an_expired_item_is_not_served_and_asked_for_anew() {
    let Some(redis) = Server::redis() else { return };
    let mut client = redis.client();
    let bench = Bench::new(redis.address(), ttl);
    let key = bench.promote("k");
    ok(&mut client, &["SET", "k", "v", "PX", "300"]);
    bench.settle(&key);
    bench.until("the end", || bench.serves(&key).is_none());
    bench.until("nothing", || bench.fill(&key) == Value::Missing);
}

#[test]
fn that_there_is_no_such_key_is_kept_for_a_short_time() {
    let Some(redis) = Server::redis() else { return };
    for mode in [tracking, ttl] {
        let bench = Bench::new(redis.address(), mode);
        let key = bench.promote("nothing");
        bench.until("a fill to hold", || {
            assert_eq!(bench.fill(&key), Value::Missing);
            bench.serves(&key).is_some()
        });
        let kept = bench.look(&key, |item| item.expires - item.sent);
        assert!(kept.is_none_or(|kept| kept == 1_000_000_000), "{kept:?}");
    }
}

#[test]
fn without_a_negative_ttl_nothing_is_not_kept() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), |pool| {
        tracking(pool);
        pool.l1.negative_ttl = Duration::ZERO;
    });
    let key = bench.promote("nothing");
    assert_eq!(bench.fill(&key), Value::Missing);
    assert!(bench.l1.store.get(key.hash).is_none());
    assert_eq!(bench.events(Event::Installed), 0);
}

#[test]
fn what_cannot_be_kept_is_left_alone() {
    let Some(redis) = Server::redis() else { return };
    let mut client = redis.client();
    ok(&mut client, &["RPUSH", "list", "a"]);
    ok(&mut client, &["SET", "six", "123456"]);
    let huge = "x".repeat(3 << 20);
    ok(&mut client, &["SET", "huge", &huge]);
    ok(&mut client, &["SET", "five", "12345"]);
    ok(&mut client, &["SET", "forbidden", "1"]);
    for mode in [tracking, ttl] {
        let bench = Bench::new(redis.address(), |pool| {
            mode(pool);
            pool.l1.max_item = 5;
            pool.hotkey.rules = vec![HotRule {
                prefix: b"forb".as_slice().into(),
                window_ms: 1000,
                threshold: 1,
                hold: Duration::ZERO,
                ttl: None,
                allow: false,
            }];
        });
        for (number, name) in ["list", "six", "huge"].into_iter().enumerate() {
            let key = bench.promote(name);
            let Filled::Unfit { until, .. } = bench.fetch(&key) else {
                panic!("{name} was kept");
            };
            // The second ask is answered without the server.
            let again = bench.fetch(&key);
            assert!(matches!(again, Filled::Unfit { until: same, .. } if same == until));
            let fills = number as u64 + 1;
            assert_eq!(bench.events(Event::Fill), fills);
            assert_eq!(bench.events(Event::Unfit), fills);
        }
        // The stream goes on behind a value that was passed over.
        assert_eq!(bench.settle(&bench.promote("five")), text("12345"));

        let fills = bench.events(Event::Fill);
        let forbidden = bench.fetch(&bench.promote("forbidden"));
        assert!(matches!(forbidden, Filled::Unfit { .. }));
        assert_eq!(bench.events(Event::Fill), fills, "it was not asked for");
    }
}

#[test]
fn values_are_kept_byte_for_byte() {
    let Some(redis) = Server::redis() else { return };
    let mut client = redis.client();
    let bench = Bench::new(redis.address(), tracking);
    for (number, value) in ["", "\r\n", "$5\r\nhello\r\n", &"y".repeat(200_000)]
        .into_iter()
        .enumerate()
    {
        let name = format!("key \r\n{number}");
        ok(&mut client, &["SET", &name, value]);
        assert_eq!(bench.settle(&bench.promote(&name)), text(value));
    }
}

// What makes it stale.

#[test]
fn whatever_others_do_to_a_key_is_heard() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    let key = bench.promote("k");
    let mut client = redis.client();
    let writes: &[&[&str]] = &[
        &["SET", "k", "other"],
        &["APPEND", "k", "x"],
        &["DEL", "k"],
        &["EXPIRE", "k", "100"],
        &["PEXPIRE", "k", "1"],
        &["PERSIST", "k"],
        &["GETSET", "k", "x"],
        &["GETDEL", "k"],
        &["RENAME", "k", "other"],
        &["RENAME", "source", "k"],
        &["COPY", "source", "k", "REPLACE"],
        &["EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "k"],
        &["MOVE", "k", "1"],
        &["FLUSHDB"],
    ];
    for write in writes {
        ok(&mut client, &["FLUSHALL"]);
        ok(&mut client, &["SET", "k", "value", "EX", "1000"]);
        ok(&mut client, &["SET", "source", "other"]);
        assert_eq!(bench.settle(&key), text("value"), "before {write:?}");
        let fills = bench.events(Event::Fill);
        ok(&mut client, write);
        bench.until(&format!("{write:?} to be heard"), || {
            bench.serves(&key).is_none()
        });
        assert_eq!(bench.events(Event::Fill), fills);
    }
    assert_eq!(bench.state(), LinkState::Tracking);
}

#[test]
fn a_missing_key_that_comes_into_being_is_heard() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    let key = bench.promote("k");
    bench.until("nothing to be known", || bench.fill(&key) == Value::Missing);
    let pushes = bench.events(Event::Push);
    ok(&mut redis.client(), &["SET", "k", "v"]);
    bench.until("the push", || bench.events(Event::Push) > pushes);
    assert_eq!(bench.settle(&key), text("v"));
}

#[test]
fn a_write_of_the_same_connection_does_not_silence_the_next() {
    // What NOLOOP would do; here the second of two foreign writes is heard
    // because the key was asked for again in between.
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    let key = bench.promote("k");
    let mut client = redis.client();
    for round in 0..5 {
        let value = round.to_string();
        ok(&mut client, &["SET", "k", &value]);
        bench.until("the new value", || bench.settle(&key) == text(&value));
    }
}

#[test]
fn flushall_turns_the_epoch() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    let mut client = redis.client();
    let keys: Vec<_> = (0..20).map(|n| bench.promote(format!("k{n}"))).collect();
    for key in &keys {
        bench.settle(key);
    }
    let (epoch, pushes) = (
        bench.l1.pulse(0).unwrap().epoch(),
        bench.events(Event::Push),
    );
    ok(&mut client, &["FLUSHALL"]);
    bench.until("the turn", || bench.l1.pulse(0).unwrap().epoch() > epoch);
    assert!(keys.iter().all(|key| bench.serves(key).is_none()));
    assert_eq!(bench.events(Event::Turn), 1);
    assert_eq!(bench.events(Event::Push), pushes, "no key was named");
    bench.settle(&keys[0]);
}

#[test]
fn a_full_tracking_table_costs_items_and_not_freshness() {
    let Some(redis) = Server::redis_with(&["--tracking-table-max-keys", "1"]) else {
        return;
    };
    let mut client = redis.client();
    let bench = Bench::new(redis.address(), tracking);
    let keys: Vec<_> = (0..50).map(|n| bench.promote(format!("k{n}"))).collect();
    for key in &keys {
        bench.fill(key);
    }
    // Those that the server forgot have been pushed.
    bench.until("pushes", || bench.events(Event::Push) >= 40);
    for (number, key) in keys.iter().enumerate() {
        ok(&mut client, &["SET", &format!("k{number}"), "new"]);
        bench.until("nothing old", || {
            bench.serves(key).is_none_or(|value| value == text("new"))
        });
    }
}

#[test]
fn writes_in_another_database_and_items_of_another_database() {
    let Some(redis) = Server::redis() else { return };
    let mut client = redis.client();
    ok(&mut client, &["SET", "k", "in zero"]);
    ok(&mut client, &["SELECT", "3"]);
    ok(&mut client, &["SET", "k", "in three"]);
    for mode in [tracking, ttl] {
        let bench = Bench::new(redis.address(), |pool| {
            mode(pool);
            pool.database = 3;
        });
        let key = bench.promote("k");
        assert_eq!(bench.settle(&key), text("in three"));
    }
    let bench = Bench::new(redis.address(), |pool| {
        tracking(pool);
        pool.database = 3;
    });
    let key = bench.promote("k");
    bench.settle(&key);
    ok(&mut client, &["SET", "k", "new"]);
    bench.until("the push", || bench.serves(&key).is_none());
    assert_eq!(bench.settle(&key), text("new"));
}

#[test]
fn the_bus_and_others_invalidate_by_name_what_a_fill_then_replaces() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    let key = bench.promote("k");
    bench.settle(&key);
    key.invalidate();
    assert!(bench.serves(&key).is_none());
    bench.settle(&key);
    bench.l1.board.demote(key.hash);
    assert!(bench.serves(&key).is_none());
}

// Flights.

#[test]
fn workers_that_ask_with_one_token_share_a_flight() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    bench.settle(&bench.promote("warm"));
    let fills = bench.events(Event::Fill);
    let key = bench.promote("k");
    redis.freeze();
    bench.ask(&key, Some(0));
    bench.ask(&key, Some(1));
    bench.ask(&key, Some(1));
    bench.ask(&key, None);
    redis.thaw();
    let mut told = [bench.landed(), bench.landed()].map(|(worker, landed)| {
        assert!(matches!(landed.filled, Filled::Item(_)));
        assert_eq!(landed.hash, key.hash);
        worker
    });
    told.sort_unstable();
    assert_eq!(told, [0, 1]);
    bench.settle(&bench.promote("later"));
    assert!(bench.is_quiet(), "nobody is told twice");
    assert_eq!(bench.events(Event::Fill), fills + 2);
}

#[test]
fn an_early_refresh_makes_a_new_item_and_tells_nobody() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), ttl);
    let key = bench.promote("k");
    let mut client = redis.client();
    ok(&mut client, &["SET", "k", "old"]);
    bench.settle(&key);
    let installed = bench.events(Event::Installed);
    ok(&mut client, &["SET", "k", "new"]);
    let before = key.generation();
    bench.ask(&key, None);
    bench.until("the new item", || bench.serves(&key) == Some(text("new")));
    assert_eq!(
        key.generation(),
        before + 1,
        "the old one is stale everywhere"
    );
    // It is counted when it can be seen already.
    bench.until("its count", || bench.events(Event::Installed) > installed);
    assert_eq!(bench.events(Event::Installed), installed + 1);
    assert_eq!(bench.events(Event::Refresh), 1);
    bench.settle(&bench.promote("later"));
    assert!(bench.is_quiet());
}

#[test]
fn a_worker_whose_token_was_overtaken_by_a_fill_gets_that_fills_item() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    let key = bench.promote("k");
    let token = key.begin(0).unwrap();
    bench.settle(&key);
    let fills = bench.events(Event::Fill);
    bench.l1.ask(emberline::l1::Ask::Fill {
        key: Arc::clone(&key),
        token,
        server: emberline_routing::ServerId(0),
        worker: Some(5),
    });
    let (worker, landed) = bench.landed();
    assert_eq!((worker, landed.token), (5, token));
    assert!(matches!(landed.filled, Filled::Item(item) if item.generation == key.generation()));
    assert_eq!(bench.events(Event::Fill), fills);
}

#[test]
fn a_pool_that_answers_nothing_from_memory_fetches_nothing() {
    let Some(redis) = Server::redis() else { return };
    for mode in [Mode::Off, Mode::Observe] {
        let bench = Bench::new(redis.address(), |pool| pool.l1.mode = mode);
        let key = bench.promote("k");
        assert!(matches!(bench.fetch(&key), Filled::Failed));
        assert_eq!(bench.state(), LinkState::Idle);
    }
}

// Servers that fail.

#[test]
fn a_lost_connection_stops_the_pulse_and_a_new_one_starts_it() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), tracking);
    let key = bench.promote("k");
    bench.settle(&key);
    let epoch = bench.l1.pulse(0).unwrap().epoch();
    ok(
        &mut redis.client(),
        &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
    );
    bench.until("the turn", || bench.l1.pulse(0).unwrap().epoch() > epoch);
    assert!(bench.serves(&key).is_none());
    bench.settle(&key);
    assert_eq!(bench.state(), LinkState::Tracking);
}

#[test]
fn while_a_server_is_down_asks_fail_at_once() {
    let Some(mut redis) = Server::redis() else {
        return;
    };
    let bench = Bench::new(redis.address(), |pool| {
        tracking(pool);
        // Whoever waited for this would wait longer than the test does.
        pool.timeout_request = Duration::from_secs(3600);
    });
    let key = bench.promote("k");
    bench.settle(&key);
    redis.kill();
    bench.until("the loss", || matches!(bench.state(), LinkState::Down(_)));
    assert!(bench.serves(&key).is_none());
    for _ in 0..3 {
        assert!(matches!(bench.fetch(&key), Filled::Failed));
    }
    redis.restart();
    ok(&mut redis.client(), &["SET", "k", "after"]);
    bench.until("the new value", || bench.settle(&key) == text("after"));
}

#[test]
fn a_server_that_was_never_there_fails_what_is_asked() {
    let port = support::free_port();
    let address = ([127, 0, 0, 1], port).into();
    let bench = Bench::new(address, tracking);
    let key = bench.promote("k");
    assert!(matches!(bench.fetch(&key), Filled::Failed));
    assert!(matches!(bench.fetch(&key), Filled::Failed));
}

#[test]
fn a_frozen_server_stops_being_served_and_comes_back() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), |pool| {
        tracking(pool);
        pool.l1.heartbeat = Duration::from_millis(200);
        pool.timeout_request = Duration::from_secs(3600);
    });
    let key = bench.promote("k");
    bench.settle(&key);
    let epoch = bench.l1.pulse(0).unwrap().epoch();
    redis.freeze();
    bench.until("the pulse to stop", || bench.serves(&key).is_none());
    assert_eq!(
        bench.l1.pulse(0).unwrap().epoch(),
        epoch,
        "the link was not lost"
    );
    redis.thaw();
    bench.until("the pulse", || bench.serves(&key).is_some());
    assert_eq!(bench.events(Event::Fill), bench.events(Event::Installed));
}

#[test]
fn a_frozen_server_fails_what_waits_for_it_and_loses_its_link() {
    let Some(redis) = Server::redis() else { return };
    for mode in [tracking, ttl] {
        let bench = Bench::new(redis.address(), |pool| {
            mode(pool);
            pool.l1.heartbeat = Duration::from_millis(100);
            pool.timeout_request = Duration::from_millis(300);
        });
        let key = bench.promote("k");
        bench.settle(&key);
        key.invalidate();
        redis.freeze();
        assert!(matches!(bench.fetch(&key), Filled::Failed));
        bench.until("the link to be given up", || {
            bench.ask(&key, None);
            matches!(bench.state(), LinkState::Down(_) | LinkState::Connecting)
        });
        redis.thaw();
        bench.settle(&key);
    }
}

#[test]
fn a_server_that_speaks_something_else_is_down() {
    let server = Scripted::start(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        drain_requests(&mut stream, |_, _| true);
    });
    let bench = Bench::new(server.address(), tracking);
    let key = bench.promote("k");
    assert!(matches!(bench.fetch(&key), Filled::Failed));
    bench.until("it to be down", || {
        matches!(bench.state(), LinkState::Down(_))
    });
}

// Who we are.

#[test]
fn a_password_and_a_user_are_presented() {
    let Some(redis) = Server::redis_with(&["--requirepass", "secret"]) else {
        return;
    };
    let mut client = redis.client();
    ok(&mut client, &["AUTH", "secret"]);
    ok(
        &mut client,
        &["ACL", "SETUSER", "ember", "on", ">pass", "~*", "+@all"],
    );
    ok(&mut client, &["SET", "k", "v"]);
    for (user, password) in [(None, "secret"), (Some("ember"), "pass")] {
        let bench = Bench::new(redis.address(), |pool| {
            tracking(pool);
            pool.username = user.map(str::to_owned);
            pool.password = Some(Secret::new(password.to_owned()));
        });
        assert_eq!(bench.settle(&bench.promote("k")), text("v"));
        assert_eq!(bench.state(), LinkState::Tracking);
    }
    for password in [None, Some("wrong")] {
        let bench = Bench::new(redis.address(), |pool| {
            tracking(pool);
            pool.password = password.map(|text| Secret::new(text.to_owned()));
        });
        let key = bench.promote("k");
        assert!(matches!(bench.fetch(&key), Filled::Failed), "{password:?}");
        bench.until(
            "it to be down",
            || matches!(bench.state(), LinkState::Down(why) if !why.contains("wrong")),
        );
    }
}

// Without tracking.

/// A server of which this is refused falls back.
#[track_caller]
fn check_fallback(arguments: &[&str], acl: Option<&[&str]>) {
    let Some(redis) = Server::redis_with(arguments) else {
        return;
    };
    let mut client = redis.client();
    ok(&mut client, &["SET", "k", "v"]);
    if let Some(rules) = acl {
        let user = ["ACL", "SETUSER", "ember", "on", ">pass", "~*", "+@all"];
        ok(&mut client, &[&user, rules].concat());
    }
    let bench = Bench::new(redis.address(), |pool| {
        tracking(pool);
        if acl.is_some() {
            pool.username = Some("ember".to_owned());
            pool.password = Some(Secret::new("pass".to_owned()));
        }
    });
    let key = bench.promote("k");
    assert_eq!(bench.fill(&key), text("v"));
    let LinkState::Fallback(why) = bench.state() else {
        panic!("{acl:?}: it is {:?}", bench.state());
    };
    assert!(why.starts_with("it refused"), "{why}");
    assert!(!why.contains("pass"), "{why}");
    bench.until("a fill to hold", || {
        bench.fill(&key);
        bench.serves(&key).is_some()
    });
    let kept = bench.l1.store.get(key.hash).unwrap();
    assert_eq!(kept.expires - kept.sent, 1_000_000_000, "{why}");
    bench.until("its end", || bench.serves(&key).is_none());
}

#[test]
fn without_client_values_are_kept_for_a_second() {
    check_fallback(&["--rename-command", "CLIENT", ""], None);
}

#[test]
fn without_hello_values_are_kept_for_a_second() {
    check_fallback(&["--rename-command", "HELLO", ""], None);
}

#[test]
fn without_hello_and_multi_values_are_kept_for_a_second() {
    let arguments = [
        "--rename-command",
        "HELLO",
        "",
        "--rename-command",
        "MULTI",
        "",
    ];
    check_fallback(&arguments, None);
}

#[test]
fn without_the_right_to_track_values_are_kept_for_a_second() {
    check_fallback(&[], Some(&["-client|tracking"]));
    check_fallback(&[], Some(&["-client|caching"]));
}

#[test]
fn without_multi_the_lives_before_and_after_are_compared() {
    let Some(redis) = Server::redis_with(&["--rename-command", "MULTI", ""]) else {
        return;
    };
    let mut client = redis.client();
    ok(&mut client, &["SET", "k", "v", "PX", "20000"]);
    let bench = Bench::new(redis.address(), ttl);
    let key = bench.promote("k");
    assert_eq!(bench.settle(&key), text("v"));
    assert_eq!(bench.state(), LinkState::Ttl);
    let kept = bench.look(&key, |item| item.expires - item.sent).unwrap();
    assert!(kept <= 20_000_000_000);
    assert_eq!(bench.settle(&bench.promote("nothing")), Value::Missing);
}

#[test]
fn in_ttl_mode_a_lost_connection_takes_nothing_away() {
    let Some(mut redis) = Server::redis() else {
        return;
    };
    let bench = Bench::new(redis.address(), ttl);
    let key = bench.promote("k");
    bench.settle(&key);
    redis.kill();
    bench.until("the loss", || matches!(bench.state(), LinkState::Down(_)));
    // Missing keys are kept for a second, which may be over.
    assert_eq!(bench.events(Event::Turn), 0);
    redis.restart();
    bench.settle(&key);
}

// Scripted servers.

/// A server that tracks, and answers GET as `get` says.
fn tracker(
    get: impl Fn(&mut TcpStream, &[u8]) + Send + Sync + 'static,
) -> (Scripted, Arc<Mutex<Vec<String>>>) {
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let saying = Arc::clone(&said);
    let server = Scripted::start(move |mut stream, _| {
        drain_requests(&mut stream, |stream, words| {
            let line = words.join(&b' ').escape_ascii().to_string();
            saying.lock().unwrap().push(line);
            let reply: &[u8] = match &*words[0] {
                b"HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n",
                b"CLIENT" => b"+OK\r\n",
                b"PING" => b"+PONG\r\n",
                b"PTTL" => b":-1\r\n",
                b"TOUCH" => b":1\r\n",
                b"GET" => {
                    get(stream, &words[1]);
                    b""
                }
                _ => b"-ERR unknown command\r\n",
            };
            stream.write_all(reply).is_ok()
        });
    });
    (server, said)
}

fn invalidation(key: &[u8]) -> Vec<u8> {
    let mut push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n".to_vec();
    encode::bulk(&mut push, key);
    push
}

#[test]
fn a_write_between_pttl_and_get_poisons_the_fill() {
    let rounds = AtomicU64::new(0);
    let (server, _) = tracker(move |stream, key| {
        // The first time, somebody writes before the GET.
        let mut reply = match rounds.fetch_add(1, Ordering::Relaxed) {
            0 => invalidation(key),
            _ => Vec::new(),
        };
        reply.extend_from_slice(b"$3\r\nnew\r\n");
        stream.write_all(&reply).unwrap();
    });
    let bench = Bench::new(server.address(), tracking);
    let key = bench.promote("k");
    let Filled::Item(item) = bench.fetch(&key) else {
        panic!("those who waited get the value");
    };
    assert_eq!(item.value, text("new"));
    assert_ne!(item.generation, key.generation());
    assert!(bench.serves(&key).is_none() && bench.l1.store.get(key.hash).is_none());
    assert_eq!(bench.events(Event::Poisoned), 1);
    assert_eq!(bench.settle(&key), text("new"));
}

/// Two workers ask, the one with the older token later: what it brings is
/// newer, and the older value is not served after it.
#[test]
fn what_is_kept_is_never_older_than_what_others_waited_for() {
    let rounds = AtomicU64::new(0);
    let (go, gone) = std::sync::mpsc::channel();
    let gone = Mutex::new(gone);
    let (server, _) = tracker(move |stream, _| {
        let reply: &[u8] = match rounds.fetch_add(1, Ordering::Relaxed) {
            0 => {
                gone.lock().unwrap().recv().unwrap();
                b"$3\r\nold\r\n"
            }
            _ => b"$3\r\nnew\r\n",
        };
        stream.write_all(reply).unwrap();
    });
    let bench = Bench::new(server.address(), tracking);
    let key = bench.promote("k");
    let older = key.begin(0).unwrap();
    key.invalidate();
    bench.ask(&key, Some(0));
    bench.l1.ask(emberline::l1::Ask::Fill {
        key: Arc::clone(&key),
        token: older,
        server: emberline_routing::ServerId(0),
        worker: Some(1),
    });
    bench.until("both have been asked for", || {
        bench.events(Event::Fill) == 2
    });
    go.send(()).unwrap();
    let told = [bench.landed(), bench.landed()].map(|(worker, landed)| match landed.filled {
        Filled::Item(item) => (worker, item.value.clone()),
        other => panic!("{other:?}"),
    });
    assert_eq!(told, [(0, text("old")), (1, text("new"))]);
    let kept = bench.l1.store.get(key.hash).unwrap();
    assert_ne!(
        kept.generation,
        key.generation(),
        "it is not served any more"
    );
}

#[test]
fn everything_goes_between_pttl_and_get() {
    let rounds = AtomicU64::new(0);
    let (server, _) = tracker(move |stream, _| {
        let all: &[u8] = match rounds.fetch_add(1, Ordering::Relaxed) {
            0 => b">2\r\n$10\r\ninvalidate\r\n_\r\n",
            _ => b"",
        };
        stream.write_all(&[all, b"$3\r\nold\r\n"].concat()).unwrap();
    });
    let bench = Bench::new(server.address(), tracking);
    let key = bench.promote("k");
    assert!(matches!(bench.fetch(&key), Filled::Item(_)));
    assert!(bench.serves(&key).is_none());
    assert_eq!(
        [bench.events(Event::Turn), bench.events(Event::Poisoned)],
        [1, 1]
    );
    bench.settle(&key);
}

#[test]
fn a_push_too_long_to_be_kept_concerns_everything() {
    let (server, _) = tracker(|stream, key| match key {
        b"long" => {
            let push = invalidation(&vec![b'x'; 2 << 20]);
            stream.write_all(&push).unwrap();
            stream.write_all(b"$1\r\nl\r\n").unwrap();
        }
        _ => stream.write_all(b"$1\r\nv\r\n").unwrap(),
    });
    let bench = Bench::new(server.address(), tracking);
    let key = bench.promote("k");
    bench.settle(&key);
    bench.fill(&bench.promote("long"));
    assert!(bench.serves(&key).is_none());
    assert_eq!(bench.events(Event::Turn), 1);
}

#[test]
fn a_reply_cut_anywhere_is_understood() {
    let (server, _) = tracker(|stream, key| {
        let reply = [&invalidation(b"other")[..], b"$5\r\nhello\r\n"].concat();
        let cut: usize = std::str::from_utf8(key).unwrap().parse().unwrap();
        let (first, second) = reply.split_at(cut.min(reply.len()));
        stream.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        stream.write_all(second).unwrap();
    });
    let bench = Bench::new(server.address(), tracking);
    for cut in 0..50 {
        let key = bench.promote(cut.to_string());
        assert_eq!(bench.settle(&key), text("hello"));
    }
    assert_eq!(bench.events(Event::Turn), 0);
}

#[test]
fn the_words_on_the_link_are_those_of_the_fill_protocol() {
    let (server, said) = tracker(|stream, _| stream.write_all(b"$1\r\nv\r\n").unwrap());
    let bench = Bench::new(server.address(), |pool| {
        tracking(pool);
        pool.l1.touch_every = Duration::from_secs(1);
        pool.l1.heartbeat = Duration::from_millis(400);
    });
    bench.settle(&bench.promote("k"));
    bench.until("a TOUCH", || bench.events(Event::Touch) > 0);
    bench.until("it to be sent", || {
        said.lock().unwrap().iter().any(|line| line == "TOUCH k")
    });
    let said = said.lock().unwrap();
    let words: Vec<&str> = said.iter().map(String::as_str).collect();
    let handshake = [
        "HELLO 3",
        "CLIENT TRACKING ON OPTIN",
        "CLIENT CACHING YES",
        "PING",
        "PING",
        "CLIENT CACHING YES",
        "PTTL k",
        "GET k",
    ];
    assert_eq!(words[..8], handshake);
    assert!(words.iter().all(|words| !words.contains("NOLOOP")));
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_pong_counts_from_when_its_ping_was_sent() {
    // Every PONG comes later than a heartbeat after its PING.
    const HEARTBEAT: Duration = Duration::from_millis(100);
    let pongs = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pongs);
    let server = Scripted::start(move |mut stream, _| {
        let mut pings = 0;
        drain_requests(&mut stream, |stream, words| {
            let reply: &[u8] = match &*words[0] {
                b"HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n",
                b"CLIENT" => b"+OK\r\n",
                b"PTTL" => b":-1\r\n",
                b"GET" => b"$1\r\nv\r\n",
                _ => {
                    pings += 1;
                    // The first belongs to the handshake.
                    if pings > 1 {
                        std::thread::sleep(HEARTBEAT * 3 / 2);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    b"+PONG\r\n"
                }
            };
            stream.write_all(reply).is_ok()
        });
    });
    let bench = Bench::new(server.address(), |pool| {
        tracking(pool);
        pool.l1.heartbeat = HEARTBEAT;
        pool.timeout_request = Duration::from_secs(3600);
    });
    bench.ask(&bench.promote("k"), Some(0));
    bench.until("six PONGs", || {
        assert!(!bench.l1.pulse(0).unwrap().is_alive(bench.l1.now()));
        pongs.load(Ordering::Relaxed) >= 6
    });
}

#[test]
fn a_key_that_lives_elsewhere_turns_the_epoch_and_is_left_alone() {
    let (server, _) = tracker(|stream, key| {
        let reply: &[u8] = match key {
            b"moved" => b"-MOVED 1 127.0.0.1:1\r\n",
            _ => b"$1\r\nv\r\n",
        };
        stream.write_all(reply).unwrap();
    });
    let bench = Bench::new(server.address(), tracking);
    let key = bench.promote("k");
    bench.settle(&key);
    assert!(matches!(
        bench.fetch(&bench.promote("moved")),
        Filled::Unfit { .. }
    ));
    assert!(bench.serves(&key).is_none());
}

#[test]
fn a_reply_nobody_asked_for_ends_the_connection() {
    let (server, _) = tracker(|stream, _| {
        stream
            .write_all(b"$1\r\nv\r\n$1\r\nw\r\n+PONG\r\n+PONG\r\n")
            .unwrap();
    });
    let bench = Bench::new(server.address(), tracking);
    let key = bench.promote("k");
    bench.fill(&key);
    bench.until("the loss", || bench.events(Event::Turn) > 0);
    assert!(bench.serves(&key).is_none());
}

// What it costs.

#[test]
fn kept_keys_stay_used_for_the_servers_eviction() {
    let Some(redis) = Server::redis_with(&["--maxmemory-policy", "allkeys-lru"]) else {
        return;
    };
    let mut client = redis.client();
    let bench = Bench::new(redis.address(), |pool| {
        tracking(pool);
        pool.l1.touch_every = Duration::from_secs(1);
        pool.l1.heartbeat = Duration::from_secs(1);
    });
    let names: Vec<String> = (0..250).map(|n| format!("k{n}")).collect();
    for name in &names {
        ok(&mut client, &["SET", name, "v"]);
        bench.settle(&bench.promote(name));
    }
    ok(&mut client, &["SET", "unused", "v"]);
    let touched = bench.events(Event::Touch);
    bench.until("three rounds", || {
        bench.events(Event::Touch) >= touched + 750
    });
    let mut idle = |name: &str| {
        let reply = client.call(&["OBJECT", "IDLETIME", name]);
        emberline_protocol::redis::reply::integer(&reply).unwrap()
    };
    bench.until("the unused key to look unused alone", || {
        let unused = idle("unused");
        names.iter().all(|name| idle(name) < unused)
    });
}

#[test]
fn a_key_that_changes_more_often_than_it_is_read_is_dropped() {
    let Some(redis) = Server::redis() else { return };
    let bench = Bench::new(redis.address(), |pool| {
        tracking(pool);
        pool.l1.reads_per_invalidation = 1000;
    });
    let key = bench.promote("k");
    let mut dropped = false;
    bench.until("the guard", || {
        key.invalidate();
        dropped |= matches!(bench.fetch(&key), Filled::Unfit { .. });
        dropped
    });
    assert_eq!(bench.events(Event::Churn), 1);
    assert!(bench.l1.store.get(key.hash).is_none());
    assert_eq!(bench.events(Event::Unfit), 0);
}
