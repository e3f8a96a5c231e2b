//! Fills from memcached servers, and clients answered from what they bring:
//! against a real memcached wherever one will do.

#![allow(clippy::unwrap_used)]

mod l1_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use emberline::l1::Filled;
use emberline::l1::encode::{self, Compared};
use emberline::running::Mode;
use emberline_hotkey::Value;
use emberline_protocol::memcache::base64;
use l1_support::house::{House, eventually, is_unfit, item};
use support::{Client, Random, Scripted, Server, assert_same, show};

const SECOND: u64 = 1_000_000_000;

fn in_base64(key: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode(&mut text, key);
    String::from_utf8(text).unwrap()
}

/// Store a value by its decoded key.
fn store(client: &mut Client, key: &[u8], flags: u32, ttl: u32, data: &[u8]) {
    let plain = emberline_protocol::memcache::key_ok(key);
    let mut request = match plain {
        true => [b"ms ".as_slice(), key].concat(),
        false => format!("ms {}", in_base64(key)).into_bytes(),
    };
    let b = if plain { "" } else { " b" };
    request.extend_from_slice(format!(" {} F{flags} T{ttl}{b}\r\n", data.len()).as_bytes());
    request.extend_from_slice(data);
    request.extend_from_slice(b"\r\n");
    assert_same(&client.ask(request), b"HD\r\n");
}

fn data(value: &Value) -> Vec<u8> {
    match value {
        Value::Memcached { data, .. } => data.to_vec(),
        other => panic!("it is {other:?}"),
    }
}

#[test]
fn a_fill_brings_value_flags_and_unique_number() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    store(&mut client, b"k", 7, 0, b"hello");
    let item = house.item("k");
    let said = show(&client.ask("gets k\r\n"));
    let Value::Memcached { flags, cas, data } = &item.value else {
        panic!("it is {:?}", item.value);
    };
    assert_eq!((*flags, data.head()), (7, &b"hello"[..]));
    assert_eq!(said, format!("VALUE k 7 5 {cas}\\r\\nhello\\r\\nEND\\r\\n"));
    assert_eq!(item.expires - item.sent, 3600 * SECOND, "the pool's ttl");
    assert!(house.l1.pulse(0).unwrap().is_alive(u64::MAX - 1));
    assert_eq!(house.item("none").value, Value::Missing);
}

#[test]
fn keys_that_need_base64_and_values_of_any_bytes_are_filled() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    let mut random = Random::new(3);
    let keys: [&[u8]; 6] = [
        b"a b",
        b"\r\nmg x v\r\n",
        &[0],
        &[0x7f; 186],
        &[0xff; 250],
        b"plain",
    ];
    for key in keys {
        for len in [0, 1, 2, 16 * 1024 - 40, 16 * 1024, 100_000] {
            let value: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
            store(&mut client, key, 1, 0, &value);
            house.promote(key).invalidate();
            assert_same(&data(&house.item(key).value), &value);
        }
    }
    house.unfit([b' '; 187]);
    house.unfit([b'k'; 251]);
}

#[test]
fn many_fills_are_in_flight_at_once_and_each_gets_its_own() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let house = House::memcached(server.address(), |running| {
        running.pools[0].inflight_max = 100;
    });
    let mut client = server.client();
    const KEYS: usize = 2000;
    for n in 0..KEYS {
        let value = vec![b'a' + (n % 26) as u8; n * 7];
        store(
            &mut client,
            format!("key-{n}").as_bytes(),
            n as u32,
            0,
            &value,
        );
    }
    server.freeze();
    let keys: Vec<_> = (0..KEYS)
        .map(|n| house.promote(format!("key-{n}")))
        .collect();
    for key in &keys {
        house.ask(key, 0);
    }
    server.thaw();
    let mut seen = vec![false; KEYS];
    for _ in 0..KEYS {
        let (_, landed) = house.landed();
        let n = keys.iter().position(|key| key.hash == landed.hash).unwrap();
        let item = item(landed.filled);
        assert_eq!(data(&item.value), vec![b'a' + (n % 26) as u8; n * 7]);
        assert!(!std::mem::replace(&mut seen[n], true));
    }
}

#[test]
fn an_item_expires_no_later_than_at_its_server() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    store(&mut client, b"long", 0, 100, b"v");
    let long = house.item("long");
    assert!(long.expires - long.sent <= 98 * SECOND);
    assert!(long.expires > long.sent);
    for ttl in [1, 2] {
        let key = format!("ttl-{ttl}");
        store(&mut client, key.as_bytes(), 0, ttl, b"v");
        let short = house.item(&key);
        assert_eq!(data(&short.value), b"v", "for those who wait");
        assert_eq!(short.expires, short.sent, "and for nobody else");
    }
    // Filled at all phases of the server's second.
    let mut items = Vec::new();
    for n in 0..40 {
        let key = format!("phase-{n}");
        store(&mut client, key.as_bytes(), 0, 3, b"v");
        items.push((key.clone(), house.item(&key)));
        std::thread::sleep(Duration::from_millis(29));
    }
    while !items.is_empty() {
        items.retain(|(key, item)| {
            let there = client.ask(format!("mg {key} v\r\n")).starts_with(b"VA");
            // It is gone by now; so it must be here.
            let now = house.l1.now();
            assert!(
                there || item.expires <= now,
                "{key} is served after its end"
            );
            there
        });
    }
}

#[test]
fn a_stale_item_is_not_kept_and_its_win_is_left_for_a_client() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    for key in ["stale", "sta le"] {
        store(&mut client, key.as_bytes(), 0, 0, b"old");
        let (name, b) = match key {
            "stale" => (key.to_owned(), ""),
            _ => (in_base64(key.as_bytes()), " b"),
        };
        assert_same(&client.ask(format!("md {name} I T30{b}\r\n")), b"HD\r\n");
        house.unfit(key);
        let won = client.ask(format!("mg {name} v{b}\r\n"));
        assert_same(&won, b"VA 3 X W\r\nold\r\n");
    }
    // Now somebody has won: that is nobody's to take away.
    let other = House::memcached(server.address(), |_| {});
    other.unfit("stale");
    assert_same(&client.ask("mg stale v\r\n"), b"VA 3 Z X\r\nold\r\n");
    store(&mut client, b"stale", 0, 0, b"new");
    other.promote("stale").invalidate();
    let third = House::memcached(server.address(), |_| {});
    assert_eq!(data(&third.item("stale").value), b"new");
}

#[test]
fn somebody_elses_stub_is_not_kept() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    assert!(client.ask("mg stub N30 v\r\n").starts_with(b"VA 0 W"));
    house.unfit("stub");
    // The same of an item that somebody is about to renew.
    store(&mut client, b"renew", 0, 10, b"v");
    assert_same(&client.ask("mg renew R30\r\n"), b"HD W\r\n");
    house.unfit("renew");
}

#[test]
fn values_that_are_too_large_are_passed_over_as_they_come() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let house = House::memcached(server.address(), |running| {
        running.pools[0].l1.max_item = 1000;
    });
    let mut client = server.client();
    store(&mut client, b"large", 0, 0, &vec![b'x'; 1_000_000]);
    store(&mut client, b"above", 0, 0, &[b'x'; 1001]);
    store(&mut client, b"fits", 0, 0, &[b'y'; 1000]);
    let keys: Vec<_> = ["large", "fits", "above"]
        .map(|key| house.promote(key))
        .into();
    for key in &keys {
        house.ask(key, 0);
    }
    let fates: Vec<_> = keys.iter().map(|_| house.landed().1).collect();
    for landed in fates {
        match landed.hash == keys[1].hash {
            true => assert_eq!(data(&item(landed.filled).value), [b'y'; 1000]),
            false => assert!(is_unfit(&landed.filled), "{:?}", landed.filled),
        }
    }
}

#[test]
fn an_item_stored_in_base64_without_need_is_not_kept() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    let name = in_base64(b"text");
    assert_same(&client.ask(format!("ms {name} 2 b\r\nhi\r\n")), b"HD\r\n");
    // The server would return its key in base64 to whoever asks for it.
    assert_same(
        &client.ask("mg text k\r\n"),
        format!("HD k{name} b\r\n").as_bytes(),
    );
    house.unfit("text");
}

#[test]
fn one_of_those_who_wait_is_given_the_lease_and_the_others_its_value() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let house = House::memcached(server.address(), |running| {
        running.pools[0].l1.lease = Duration::from_secs(30);
        running.pools[0].timeout_request = Duration::from_secs(30);
    });
    let mut client = server.client();
    let key = house.promote("k");
    let token = house.ask(&key, 0);
    house.ask_with(&key, token, 1);
    let (first, landed) = house.landed();
    assert!(
        matches!(landed.filled, Filled::Lease),
        "{:?}",
        landed.filled
    );
    assert!(house.is_silent(Duration::from_millis(50)));
    store(&mut client, b"k", 0, 0, b"set");
    let mut others = [house.landed(), house.landed()];
    others.sort_by_key(|(worker, _)| *worker);
    for (at, (worker, landed)) in others.into_iter().enumerate() {
        assert_eq!((worker, landed.token), (at, token));
        assert_eq!(data(&item(landed.filled).value), b"set");
    }
    assert_eq!(first, 0, "whoever asked first");
}

#[test]
fn under_somebody_elses_lease_all_wait_for_the_value() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let house = House::memcached(server.address(), |running| {
        running.pools[0].l1.lease = Duration::from_secs(30);
        running.pools[0].timeout_request = Duration::from_secs(30);
    });
    let mut client = server.client();
    assert!(client.ask("mg k N30 v\r\n").starts_with(b"VA 0 W"));
    house.ask(&house.promote("k"), 0);
    assert!(house.is_silent(Duration::from_millis(50)));
    store(&mut client, b"k", 0, 0, b"");
    let (_, landed) = house.landed();
    assert_eq!(
        data(&item(landed.filled).value),
        b"",
        "an empty value is one"
    );
}

#[test]
fn a_lease_that_lapses_is_given_once_more_or_the_key_is_missing() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let house = House::memcached(server.address(), |running| {
        running.pools[0].l1.lease = Duration::from_millis(1500);
        running.pools[0].timeout_request = Duration::from_secs(30);
    });
    house.ask(&house.promote("k"), 0);
    let mut leases = 0;
    let end = loop {
        match house.landed().1.filled {
            Filled::Lease => leases += 1,
            end => break item(end),
        }
    };
    assert!((1..=3).contains(&leases), "{leases} leases");
    assert_eq!(end.value, Value::Missing);
    assert_eq!(end.expires, end.sent, "for those who wait alone");
}

#[test]
fn without_unique_numbers_nothing_is_kept_for_revalidate() {
    let Some(server) = Server::memcached_with(&["-C"]) else {
        return;
    };
    let mut client = server.client();
    store(&mut client, b"k", 0, 0, b"v");
    let ttl = House::memcached(server.address(), |_| {});
    assert_eq!(data(&ttl.item("k").value), b"v");
    let house = House::memcached(server.address(), |running| {
        running.pools[0].l1.mode = Mode::Revalidate;
    });
    house.unfit("k");
}

#[test]
fn a_lost_connection_turns_the_epoch_only_where_numbers_count() {
    for mode in [Mode::Ttl, Mode::Revalidate] {
        let Some(mut server) = Server::memcached() else {
            return;
        };
        let house = House::memcached(server.address(), |running| {
            running.pools[0].l1.mode = mode;
        });
        store(&mut server.client(), b"k", 0, 0, b"v");
        let item = house.item("k");
        assert_eq!(item.epoch, house.epoch());
        server.restart();
        let key = house.promote("k");
        eventually("the fill goes to the new server", || {
            key.invalidate();
            let filled = house.fill("k");
            matches!(&filled, Filled::Item(item) if item.value == Value::Missing)
        });
        assert_eq!(house.epoch() > item.epoch, mode == Mode::Revalidate);
    }
}

#[test]
fn a_server_that_falls_silent_fails_its_fills_and_recovers() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let house = House::memcached(server.address(), |running| {
        running.pools[0].timeout_request = Duration::from_millis(200);
    });
    store(&mut server.client(), b"k", 0, 0, b"v");
    house.item("k");
    server.freeze();
    let key = house.promote("k");
    key.invalidate();
    let filled = house.fill("k");
    assert!(matches!(filled, Filled::Failed), "{filled:?}");
    server.thaw();
    eventually("it answers again", || {
        key.invalidate();
        matches!(house.fill("k"), Filled::Item(_))
    });
}

#[test]
fn a_server_that_is_not_there_fails_fills_at_once() {
    let house = House::memcached(([127, 0, 0, 1], support::free_port()).into(), |_| {});
    for n in 0..50 {
        let filled = house.fill(format!("k{n}"));
        assert!(matches!(filled, Filled::Failed), "{filled:?}");
    }
}

/// Answers every line with what `reply` makes of its key.
fn scripted(reply: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |mut stream: TcpStream, number| {
        let (mut input, mut more) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut more) {
            input.extend_from_slice(&more[..count]);
            while let Some(end) = input.iter().position(|&b| b == b'\n') {
                let line = String::from_utf8(input.drain(..=end).collect()).unwrap();
                let key = line.split(' ').nth(1).unwrap_or_default();
                if stream.write_all(reply(key, number).as_bytes()).is_err() {
                    return;
                }
            }
        }
    })
}

#[test]
fn two_seconds_of_a_time_to_live_are_not_relied_on() {
    // `t` is the key here.
    let server = scripted(|key, _| format!("VA 1 k{key} f0 c1 t{key}\r\nv\r\n"));
    let house = House::memcached(server.address(), |_| {});
    for (t, left) in [(0, 0), (1, 0), (2, 0), (3, 1), (60, 58)] {
        let item = house.item(t.to_string());
        assert_eq!(item.expires - item.sent, left * SECOND, "t{t}");
    }
    let item = house.item("-1");
    assert_eq!(item.expires - item.sent, 3600 * SECOND, "the pool's ttl");
}

#[test]
fn a_server_without_meta_commands_is_left_alone() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let server = scripted(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        "ERROR\r\n".to_owned()
    });
    let house = House::memcached(server.address(), |_| {});
    for key in ["a", "b", "c"] {
        house.unfit(key);
    }
    assert_eq!(requests.load(Ordering::Relaxed), 1, "it is asked once");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_miss_without_its_key_is_not_kept() {
    // As early memcached 1.6 says it: clients would be told otherwise.
    let server = scripted(|_, _| "EN\r\n".to_owned());
    let house = House::memcached(server.address(), |_| {});
    house.unfit("a");
}

#[test]
fn what_cannot_be_the_reply_ends_the_connection_and_not_the_link() {
    let bad = [
        "VA 1 kother f0 c1 t-1\r\nx\r\n",
        "VA 1 kkey f0 c1 t-1\r\nxyz\r\n",
        "VA x\r\n",
        "VA 99999999999999 kkey f0 c1 t-1\r\n",
        "HD kkey f0 c1 t-1\r\n",
        "EN kother\r\n",
        "\r\n",
        "\0\u{1}\u{2}\n",
        "EN kkey\r\nEN kkey\r\n",
    ];
    for reply in bad {
        let server = scripted(move |_, number| match number {
            0 => reply.to_owned(),
            _ => "VA 2 kkey f3 c4 t-1\r\nok\r\n".to_owned(),
        });
        let house = House::memcached(server.address(), |_| {});
        let key = house.promote("key");
        eventually("the next connection answers", || {
            key.invalidate();
            match house.fill("key") {
                Filled::Item(item) if item.value == Value::Missing => false,
                Filled::Item(item) => data(&item.value) == b"ok",
                other => {
                    assert!(matches!(other, Filled::Failed), "{other:?} for {reply:?}");
                    false
                }
            }
        });
    }
    // A line that never ends, and a value that breaks off.
    for reply in ["x".repeat(5000), "VA 10 kkey f0 c1 t-1\r\nhalf".to_owned()] {
        let server = scripted(move |_, _| reply.clone());
        let house = House::memcached(server.address(), |running| {
            running.pools[0].timeout_request = Duration::from_millis(100);
        });
        let filled = house.fill("key");
        assert!(matches!(filled, Filled::Failed), "{filled:?}");
    }
}

#[test]
fn errors_of_a_server_leave_its_connection_in_use() {
    let server = scripted(|key, _| match key {
        "memory" => "SERVER_ERROR out of memory\r\n".to_owned(),
        "client" => "CLIENT_ERROR bad command line format\r\n".to_owned(),
        _ => "VA 1 kok f0 c1 t-1\r\nv\r\n".to_owned(),
    });
    let house = House::memcached(server.address(), |_| {});
    let filled = house.fill("memory");
    assert!(matches!(filled, Filled::Failed), "{filled:?}");
    house.unfit("client");
    assert_eq!(data(&house.item("ok").value), b"v");
    assert_eq!(server.connections(), 1);
}

/// Every answer that is given from memory is the one that the server gives.
#[test]
fn clients_are_told_from_memory_what_the_server_tells_them() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    let keys: [&[u8]; 5] = [
        b"plain",
        b"a b",
        &[0, 255, 10],
        "schl\u{fc}ssel".as_bytes(),
        b"none",
    ];
    let values: [&[u8]; 4] = [b"hello", b"", b"\r\nEND\r\n\0", &[b'x'; 70_000]];
    for (at, key) in keys.into_iter().enumerate() {
        for value in values {
            if key != b"none" {
                store(&mut client, key, at as u32 * 1000, 0, value);
            }
            house.promote(key).invalidate();
            let item = house.item(key);
            for request in requests(key) {
                let mut ours = Vec::new();
                answer(&mut ours, &request, key, &item.value);
                // The `mn` ends what a quiet miss leaves empty.
                client.send(&[&request[..], b"mn\r\n"].concat());
                let theirs = client.until(b"MN\r\n");
                let theirs = theirs.strip_suffix(b"MN\r\n").unwrap();
                assert_eq!(show(&ours), show(theirs), "to {}", show(&request));
                assert_same(&ours, theirs);
            }
        }
    }
}

/// Requests for a key that memory can answer.
fn requests(key: &[u8]) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let flags = [
        "v",
        "s",
        "k",
        "f",
        "c",
        "q",
        "O1",
        "v f c",
        "c f v",
        "s v k",
        "k v s O123 f c q",
        "q O9 k",
        "O k",
        "v q",
        "f c k s",
        "O0123456789012345678901234567890 v",
    ];
    if emberline_protocol::memcache::key_ok(key) {
        for verb in ["get", "gets"] {
            requests.push([verb.as_bytes(), b" ", key, b"\r\n"].concat());
        }
        for flags in flags {
            requests.push([b"mg ", key, b" ", flags.as_bytes(), b"\r\n"].concat());
        }
    }
    for flags in flags {
        let name = in_base64(key);
        requests.push(format!("mg {name} b {flags}\r\n").into_bytes());
        requests.push(format!("mg {name} {flags} b\r\n").into_bytes());
    }
    requests
}

fn answer(out: &mut Vec<u8>, request: &[u8], key: &[u8], value: &Value) {
    if request.starts_with(b"mg ") {
        assert!(encode::servable(request), "{}", show(request));
        return encode::meta(out, request, key, value);
    }
    match request.starts_with(b"gets ") {
        true => encode::gets(out, key, value),
        false => encode::get(out, key, value),
    }
    out.extend_from_slice(b"END\r\n");
}

#[test]
fn a_server_says_whether_a_value_is_still_the_same() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let (house, mut client) = (House::memcached(server.address(), |_| {}), server.client());
    let keys: [&[u8]; 2] = [b"k", b"k k"];
    for key in keys {
        let (name, b) = match key {
            b"k" => ("k".to_owned(), ""),
            _ => (in_base64(key), " b"),
        };
        let mut question = Vec::new();
        encode::revalidate(&mut question, key);
        store(&mut client, key, 0, 0, b"v");
        let item = house.item(key);
        let Value::Memcached { cas, .. } = item.value else {
            panic!("it is {:?}", item.value);
        };
        let compare = |client: &mut Client| encode::compare(&client.ask(&question), cas);
        assert_eq!(compare(&mut client), Compared::Same);
        store(&mut client, key, 0, 0, b"v");
        assert_eq!(compare(&mut client), Compared::Changed);
        assert_same(&client.ask(format!("md {name} I{b}\r\n")), b"HD\r\n");
        let Compared::Won(now) = compare(&mut client) else {
            panic!("whoever asks first wins");
        };
        let mut give_back = Vec::new();
        encode::give_back(&mut give_back, key, now);
        assert_same(&client.ask(&give_back), b"HD\r\n");
        assert!(
            client
                .ask(format!("mg {name} v{b}\r\n"))
                .starts_with(b"VA 1 X W")
        );
        assert_eq!(compare(&mut client), Compared::Changed);
        // What was set meanwhile is left alone.
        store(&mut client, key, 0, 0, b"w");
        assert_same(&client.ask(&give_back), b"EX\r\n");
        assert_same(&client.ask(format!("md {name}{b}\r\n")), b"HD\r\n");
        assert_eq!(compare(&mut client), Compared::Missing);
        assert_same(&client.ask(&give_back), b"NF\r\n");
    }
}
