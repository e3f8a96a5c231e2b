//! Writes too large to be kept, through routes: what decides where a small one
//! goes, decides it for them before they are whole.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;

use routes_support::{Dialect, House, story};
use support::{command, show};

const SIZED: &str = "[routes.top]
    type = 'size_split'
    small = 'a'
    large = 'b'
    threshold = '64KiB'";

/// More than is looked at before a request passes through.
const LARGE: usize = 3_000_000;

/// More than is kept.
const HUGE: usize = 40 << 20;

#[test]
fn a_value_that_passes_through_goes_where_its_size_belongs() {
    story(
        SIZED,
        "client set k small         -> ok
        client set k =3000000      -> ok
        a get k                    -> -
        b get k                    -> =3000000
        client get k               -> =3000000
        client set k =3000000 500  -> ok
        a get k                    -> -
        b ttl k                    -> 500s
        client set k small         -> ok
        b get k                    -> -
        client get k               -> small",
    );
    let Some(mut house) = House::new(Dialect::Redis, SIZED, "") else {
        return;
    };
    let value = vec![b'v'; LARGE];
    let seconds: &[u8] = b"500";
    for words in [
        vec![b"SETEX", b"k".as_slice(), seconds, &value],
        vec![b"PSETEX".as_slice(), b"k", b"500000", &value],
        vec![b"SET".as_slice(), b"k", &value, b"EX", seconds],
    ] {
        let said = house.client("client").call(&words);
        assert_eq!(show(&said), "+OK\\r\\n");
        house.tell("a get k -> -\nb size k -> 3000000\nb ttl k -> 500s");
        house.tell("client del k -> 1");
    }
}

#[test]
fn a_conditional_write_that_passes_through_is_refused_as_a_small_one_is() {
    story(
        SIZED,
        "client add k =3000000      -> ! route \"top\" cannot carry out a conditional write
        client get k               -> -
        client set k small         -> ok
        client add k =3000000      -> ! route \"top\" cannot carry out a conditional write
        client get k               -> small
        b get k                    -> -",
    );
    let Some(mut house) = House::new(Dialect::Redis, SIZED, "") else {
        return;
    };
    let value = vec![b'v'; LARGE];
    for words in [
        vec![b"SETNX".as_slice(), b"k", &value],
        vec![b"GETSET".as_slice(), b"k", &value],
        vec![b"SET".as_slice(), b"k", &value, b"EX", b"50", b"GET"],
    ] {
        let said = show(&house.client("client").call(&words));
        assert!(said.starts_with("-ERR route"), "{said}");
    }
    house.tell("a get k -> -\nb get k -> -");
    let Some(mut house) = House::new(Dialect::Memcached, SIZED, "") else {
        return;
    };
    for line in ["replace k 0 0", "add k 0 0", "cas k 0 0", "ms k"] {
        let said = show(&house.client("client").ask(stored(line, LARGE)));
        assert!(said.starts_with("SERVER_ERROR route"), "{line}: {said}");
    }
    house.tell("a get k -> -\nb get k -> -");
}

/// A request that stores so many bytes: its line but for the size.
fn stored(line: &str, size: usize) -> Vec<u8> {
    let end = match line.split(' ').next() {
        Some("cas") => format!(" {size} 1\r\n"),
        Some("ms") => format!(" {size} ME\r\n"),
        _ => format!(" {size}\r\n"),
    };
    [line.as_bytes(), end.as_bytes(), &vec![b'v'; size], b"\r\n"].concat()
}

#[test]
fn a_number_is_compared_by_no_replica() {
    let config = "[routes.top]
        type = 'replicas'
        children = ['a', 'b']";
    let Some(mut house) = House::new(Dialect::Memcached, config, "") else {
        return;
    };
    house.tell("client set k 1 -> ok");
    for size in [10, LARGE] {
        let said = show(&house.client("client").ask(stored("cas k 0 0", size)));
        assert!(said.contains("unique number"), "{size}: {said}");
    }
    house.tell("a get k -> 1\nb get k -> 1");
}

#[test]
fn what_belongs_to_two_places_and_cannot_be_kept_is_refused() {
    let Some(mut house) = House::new(Dialect::Redis, SIZED, "") else {
        return;
    };
    let value = vec![b'v'; HUGE];
    let set: &[&[u8]] = &[b"SET", b"k", &value];
    for words in [set, &[set, &[b"EX".as_slice(), b"50"]].concat()] {
        let client = house.client("client");
        client.send(&command(words));
        let said = show(&client.reply());
        assert!(said.starts_with("-ERR the request is too large"), "{said}");
        house.tell("a get k -> -\nb get k -> -\nclient set l 1 -> ok");
    }
}

/// One place for all: options behind the value make no difference.
#[test]
fn what_has_one_place_passes_with_options_behind_its_value() {
    let config = "[routes.top]
        type = 'prefix'
        children = { 'b:' = 'b' }
        default = 'a'";
    let Some(mut house) = House::new(Dialect::Redis, config, "") else {
        return;
    };
    let value = vec![b'v'; HUGE];
    for (option, said) in [("XX", "$-1\r\n"), ("NX", "+OK\r\n"), ("NX", "$-1\r\n")] {
        let words: &[&[u8]] = &[b"SET", b"b:k", &value, option.as_bytes()];
        let reply = house.client("client").call(words);
        assert_eq!(reply, said.as_bytes(), "{option}");
    }
    house.tell(&format!("b size b:k -> {HUGE}"));
}

/// While it is being kept, it is planned again and again.
#[test]
fn a_large_write_counts_once_for_a_rate_limit() {
    // A worker's half of the burst is two.
    let config = "[routes.top]
        type = 'rate_limit'
        child = { type = 'replicas', children = ['a', 'b'] }
        writes = { rate = 0.001, burst = 4 }";
    story(
        config,
        "client set k =3000000      -> ok
        client set k =3000001      -> ok
        client set k =3000002      -> ! is over its rate limit
        client get k               -> =3000001",
    );
}
