//! The load generator against real servers.
//!
//! Skips, saying so, where a server is not installed; with
//! `EMBERLINE_REQUIRE_SERVERS` set that is a failure instead.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use emberline_benches::load::{Engine, Figures, Job, Limit, Options, Protocol, Sizes, Target};
use emberline_benches::peers::Kind;
use emberline_benches::peers::{self, Peer};
use emberline_benches::process::{Scratch, find};

/// Whether the program is there; panics where it must be.
fn present(program: &str) -> bool {
    let found = find(program).is_some();
    assert!(
        found || std::env::var_os("EMBERLINE_REQUIRE_SERVERS").is_none(),
        "{program} is not installed"
    );
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn options(peer: &Peer, protocol: Protocol) -> Options {
    Options {
        connections: 10,
        pipeline: 8,
        keys: 1000,
        zipf: 1.0,
        sizes: Sizes::Range(16, 40_000),
        verify: true,
        threads: 2,
        ..Options::new(peer.target(protocol).unwrap(), protocol)
    }
}

fn run(options: &Options, job: Job) -> Figures {
    Engine::connect(options.clone())
        .unwrap()
        .run(job, None)
        .unwrap()
}

/// Fill, read one by one, read several at once, mix, and an open loop: every value is right.
fn check(peer: &Peer, protocol: Protocol) {
    let base = options(peer, protocol);
    let empty = run(&base, Job::Mix(Limit::Requests(500)));
    assert_eq!(
        (empty.requests, empty.misses()),
        (500, 500),
        "{}",
        empty.text()
    );

    let filled = run(&base, Job::Fill);
    assert_eq!((filled.requests, filled.reads), (1000, 0));
    assert!(filled.clean(), "{}", filled.text());

    let open = Options {
        rate: Some(2000.0),
        ..base.clone()
    };
    let several = Options {
        mget: 7,
        ..base.clone()
    };
    let mixed = Options {
        reads: 0.5,
        ..base.clone()
    };
    for options in [&base, &several, &mixed, &open] {
        let figures = run(options, Job::Mix(Limit::Requests(2001)));
        assert_eq!(figures.requests, 2001);
        assert!(
            figures.clean() && figures.misses() == 0,
            "{options:?}: {}",
            figures.text()
        );
        assert_eq!(figures.latency.len(), 2001);
    }
    // Over half a second, 1000 requests are due.
    let paced = run(&open, Job::Mix(Limit::Time(Duration::from_millis(500))));
    assert!(
        (995..=1005).contains(&(paced.requests + paced.unsent)),
        "{}",
        paced.text()
    );

    let others = Options {
        sizes: Sizes::Fixed(50),
        ..base
    };
    let wrong = run(&others, Job::Mix(Limit::Requests(100)));
    assert!(
        wrong.mismatches > 90,
        "other sizes were expected: {}",
        wrong.text()
    );
}

#[test]
fn redis_server_answers_every_load() {
    if !present("redis-server") {
        return;
    }
    let scratch = Scratch::new("load-redis").unwrap();
    let peer = peers::redis::start(&scratch, "redis-server").unwrap();
    check(&peer, Protocol::Redis);
}

#[test]
fn memcached_answers_every_load() {
    if !present("memcached") {
        return;
    }
    let scratch = Scratch::new("load-memcached").unwrap();
    let peer = peers::memcached::start(&scratch, "memcached").unwrap();
    check(&peer, Protocol::Memcached);
}

#[test]
fn a_stall_shows_in_the_open_loop_and_an_absent_server_is_an_error() {
    if !present("redis-server") {
        return;
    }
    let scratch = Scratch::new("load-stall").unwrap();
    let peer = peers::redis::start(&scratch, "redis-server").unwrap();
    let pid = peer.process.pid().to_string();
    let options = Options {
        connections: 4,
        rate: Some(1000.0),
        keys: 10,
        ..Options::new(peer.target(Protocol::Redis).unwrap(), Protocol::Redis)
    };
    let stall = std::thread::spawn(move || {
        for signal in ["-STOP", "-CONT"] {
            std::thread::sleep(Duration::from_millis(300));
            assert!(
                Command::new("kill")
                    .args([signal, &pid])
                    .status()
                    .unwrap()
                    .success()
            );
        }
    });
    let figures = run(&options, Job::Mix(Limit::Time(Duration::from_secs(1))));
    stall.join().unwrap();
    // About 300 of 1000 requests were due while the server stood still.
    assert!(figures.quantile(0.85) > 50_000.0, "{}", figures.text());
    let (half, late) = (figures.quantile(0.5), figures.quantile(0.85));
    assert!(half < late, "{}", figures.text());

    let nowhere = Options::new(Target::Tcp("127.0.0.1:1".into()), Protocol::Redis);
    assert!(Engine::connect(nowhere).is_err());
}

#[test]
fn nutcracker_passes_every_value() {
    if !["redis-server", "memcached", "nutcracker"]
        .into_iter()
        .all(present)
    {
        return;
    }
    let scratch = Scratch::new("load-nutcracker").unwrap();
    let servers = peers::Servers::start(&scratch).unwrap();
    let proxy = Kind::Nutcracker.start(&scratch, &servers).unwrap();
    check(&proxy, Protocol::Redis);
    check(&proxy, Protocol::Memcached);
}
