//! The bus, against a real redis-server: two processes' L1s and a plain client
//! beside them.

#![allow(clippy::unwrap_used)]

mod l1_support;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use emberline::l1::Ask;
use emberline::metrics::Event;
use emberline::running::{Address, Bus, Mode, Running, Secret};
use emberline_hotkey::HotKey;
use emberline_protocol::redis::reply;
use l1_support::house::{House, eventually};
use support::{Client, Server, free_port};

fn bus(at: SocketAddr) -> Bus {
    Bus {
        address: Address::Ip(at),
        name: at.to_string(),
        channel: "emberline".to_owned(),
        username: None,
        password: None,
        tls: None,
    }
}

/// A process on this bus, before a server that nobody asks.
fn house(bus: Bus) -> House {
    house_with(bus, |_| {})
}

fn house_with(bus: Bus, edit: impl FnOnce(&mut Running)) -> House {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()));
    House::memcached(nowhere, |running| {
        running.bus = Some(bus);
        edit(running);
    })
}

fn publish(house: &House, pool: u16, key: &[u8]) {
    house.l1.ask(Ask::Publish {
        pool,
        key: key.into(),
    });
}

/// Wait until this process listens.
fn listens(house: &House) {
    eventually("the bus is subscribed to", || house.epoch() > 0);
}

/// Publish `key` until it is heard: what is sent before the bus stands may be lost.
#[track_caller]
fn comes_through(from: &House, key: &Arc<HotKey>) {
    let before = key.generation();
    eventually("a write is heard of", || {
        publish(from, 0, &key.key);
        std::thread::sleep(std::time::Duration::from_millis(5));
        key.generation() > before
    });
}

/// A client that listens beside the proxies.
fn eavesdrop(server: &Server) -> Client {
    let mut client = server.client();
    assert!(client.call(&["SUBSCRIBE", "emberline"]).starts_with(b"*3"));
    client
}

/// What a pub/sub message says.
fn message(client: &mut Client) -> Vec<u8> {
    let item = client.reply();
    let last = reply::elements(&item).unwrap().last().unwrap();
    let start = last.iter().position(|&b| b == b'\n').unwrap() + 1;
    last[start..last.len() - 2].to_vec()
}

/// A message as another proxy writes it.
fn notice(keys: &[(&str, &[u8])]) -> Vec<u8> {
    let mut message = vec![1];
    message.extend_from_slice(&[9; 16]);
    for (pool, key) in keys {
        message.extend_from_slice(&(pool.len() as u16).to_be_bytes());
        message.extend_from_slice(pool.as_bytes());
        message.extend_from_slice(&(key.len() as u32).to_be_bytes());
        message.extend_from_slice(key);
    }
    message
}

#[test]
fn a_write_here_invalidates_the_key_there_and_not_here() {
    let Some(server) = Server::redis() else {
        return;
    };
    let (here, there) = (house(bus(server.address())), house(bus(server.address())));
    listens(&here);
    listens(&there);
    let key = b"k\r\n\0\xff";
    let (own, other) = (here.promote(key), there.promote(key));
    let neighbour = there.promote("neighbour");
    let before = (own.generation(), neighbour.generation());
    comes_through(&here, &other);
    // Once more round the bus: what was said before has arrived everywhere.
    comes_through(&there, &here.promote("marker"));
    assert_eq!((own.generation(), neighbour.generation()), before);
    assert!(there.events(Event::Bus) >= 1);
}

#[test]
fn keys_that_are_cold_here_are_published_in_order() {
    let Some(server) = Server::redis() else {
        return;
    };
    let mut client = eavesdrop(&server);
    let house = house(bus(server.address()));
    // While the bus says nothing, batches grow.
    server.freeze();
    let mut expected = Vec::new();
    for n in 0..3000 {
        let key = format!("key-{}", n % 1000);
        publish(&house, 0, key.as_bytes());
        if n < 1000 {
            expected.push(key.into_bytes());
        }
    }
    publish(&house, 7, b"of no pool");
    publish(&house, 0, b"last");
    expected.push(b"last".to_vec());
    server.thaw();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    while seen.last().map(Vec::as_slice) != Some(b"last") {
        let message = message(&mut client);
        assert_eq!(message[0], 1);
        let mut rest = &message[17..];
        while !rest.is_empty() {
            let (pool, behind) = cut(rest, 2);
            let (key, behind) = cut(behind, 4);
            assert_eq!(pool, b"pool");
            seen.push(key.to_vec());
            rest = behind;
        }
    }
    let mut once = Vec::new();
    for key in &seen {
        if !once.contains(key) {
            once.push(key.clone());
        }
    }
    assert_eq!(once, expected);
}

/// A part whose length is in the first `size` bytes, and what is behind it.
fn cut(bytes: &[u8], size: usize) -> (&[u8], &[u8]) {
    let len = bytes[..size]
        .iter()
        .fold(0, |n, &b| n << 8 | usize::from(b));
    bytes[size..].split_at(len)
}

#[test]
fn what_is_no_message_is_ignored_and_the_next_is_heard() {
    let Some(server) = Server::redis() else {
        return;
    };
    let house = house(bus(server.address()));
    listens(&house);
    let (key, mut client) = (house.promote("k"), server.client());
    let before = key.generation();
    let good = notice(&[("pool", b"k")]);
    let mut bad: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"hello".to_vec(),
        vec![1; 17],
        vec![1; 1000],
        vec![255; 100],
        vec![1; 3 << 20],
        [&good[..], b"x"].concat(),
        [&[2], &good[1..]].concat(),
        notice(&[]),
        notice(&[
            ("nowhere", b"k"),
            ("", b"k"),
            ("pool", b""),
            ("pool", b"other"),
        ]),
    ];
    bad.extend((0..good.len()).map(|len| good[..len].to_vec()));
    for message in &bad {
        client.call(&[b"PUBLISH", &b"emberline"[..], message]);
    }
    client.call(&[b"PUBLISH", &b"elsewhere"[..], &good]);
    // Behind all that, so that it has been read.
    let marker = house.promote("marker");
    let unmarked = marker.generation();
    client.call(&[
        b"PUBLISH",
        &b"emberline"[..],
        &notice(&[("pool", b"marker")]),
    ]);
    eventually("the last is heard", || marker.generation() > unmarked);
    assert_eq!(key.generation(), before);
    client.call(&[
        b"PUBLISH",
        &b"emberline"[..],
        &notice(&[("nowhere", b""), ("pool", b"k")]),
    ]);
    eventually("a good one is heard", || key.generation() > before);
}

#[test]
fn a_bus_that_was_away_turns_what_nobody_else_watches() {
    for (mode, turns) in [
        (Mode::Ttl, true),
        (Mode::Tracking, true),
        (Mode::Revalidate, false),
    ] {
        let Some(mut server) = Server::redis() else {
            return;
        };
        let edit = |running: &mut Running| running.pools[0].l1.mode = mode;
        let (here, there) = (
            house_with(bus(server.address()), edit),
            house_with(bus(server.address()), edit),
        );
        let key = there.promote("k");
        comes_through(&here, &key);
        let before = there.epoch();
        server.kill();
        // These wait; that nothing listens meanwhile is no harm.
        for n in 0..100 {
            publish(&here, 0, format!("{n}").as_bytes());
        }
        server.restart();
        comes_through(&here, &key);
        assert_eq!(there.epoch() > before, turns, "{mode:?}");
    }
}

#[test]
fn writes_wait_while_the_bus_is_away() {
    let Some(mut server) = Server::redis() else {
        return;
    };
    let house = house(bus(server.address()));
    listens(&house);
    server.kill();
    publish(&house, 0, b"waits");
    server.restart();
    let mut client = server.client();
    // Whoever is subscribed when the publisher is back hears it. It may be
    // back before: then the next write is what is heard.
    assert!(client.call(&["SUBSCRIBE", "emberline"]).starts_with(b"*3"));
    publish(&house, 0, b"later");
    loop {
        let message = message(&mut client);
        if message.ends_with(b"later") {
            break;
        }
        assert!(message.windows(5).any(|part| part == b"waits"));
    }
}

#[test]
fn a_bus_with_a_password_is_given_it() {
    let Some(server) = Server::redis_with(&["--requirepass", "secret"]) else {
        return;
    };
    let mut right = bus(server.address());
    right.password = Some(Secret::new("secret".to_owned()));
    right.username = Some("default".to_owned());
    let mut short = right.clone();
    short.username = None;
    let (here, there) = (house(right), house(short));
    comes_through(&here, &there.promote("k"));
    comes_through(&there, &here.promote("k"));

    let mut wrong = bus(server.address());
    wrong.password = Some(Secret::new("guess".to_owned()));
    let outside = [house(wrong), house(bus(server.address()))];
    for outside in &outside {
        publish(outside, 0, b"k");
    }
    comes_through(&here, &there.promote("k"));
    assert!(
        outside.iter().all(|house| house.epoch() == 0),
        "they hear nothing"
    );
}

#[test]
fn a_bus_that_is_none_does_no_harm() {
    let Some(server) = Server::memcached() else {
        return;
    };
    let house = house(bus(server.address()));
    for n in 0..1000 {
        publish(&house, 0, format!("{n}").as_bytes());
    }
    let filled = house.fill("k");
    assert!(format!("{filled:?}").starts_with("Failed"), "{filled:?}");
    assert_eq!(house.epoch(), 0);
}
