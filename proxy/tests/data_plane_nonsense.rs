//! Servers that talk nonsense, too much or too little: the one who asked gets an
//! error, nobody else notices, and the connection is discarded.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Emberline, Scripted, command, drain_requests, show};

/// What a scripted server does when it is asked for a key of this name.
const MISDEEDS: [&str; 15] = [
    "short",
    "close",
    "close-in-bulk",
    "late",
    "garbage",
    "nested",
    "long-header",
    "negative",
    "huge-array",
    "no-number",
    "unclosed",
    "wrong-end",
    "http",
    "memcached",
    "zero",
];

fn misbehave(stream: &mut std::net::TcpStream, how: &str) -> bool {
    let reply: Vec<u8> = match how {
        "short" => b"$100\r\nabc".to_vec(),
        "close" => return false,
        "close-in-bulk" => {
            let mut reply = b"$500000\r\n".to_vec();
            reply.resize(300_000, b'x');
            reply
        }
        "late" => {
            std::thread::sleep(Duration::from_millis(600));
            b"$4\r\nlate\r\n".to_vec()
        }
        "garbage" => b"hello, world\r\n".to_vec(),
        "nested" => b"*1\r\n".repeat(100_000),
        "long-header" => [&b"$"[..], &[b'1'; 5000]].concat(),
        "negative" => b"$-7\r\n".to_vec(),
        "huge-array" => b"*99999999999999999999\r\n".to_vec(),
        "no-number" => b"$abc\r\n".to_vec(),
        "unclosed" => b"*3\r\n$1\r\na\r\n".to_vec(),
        "wrong-end" => b"$3\r\nabcdef\r\n".to_vec(),
        "http" => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        "memcached" => b"VALUE key 0 1\r\na\r\nEND\r\n".to_vec(),
        "zero" => vec![0; 1000],
        _ => unreachable!("{how}"),
    };
    let sent = stream.write_all(&reply).is_ok();
    if matches!(how, "short" | "unclosed") {
        // Whatever came next would be the rest of this reply.
        std::thread::sleep(Duration::from_millis(600));
        return false;
    }
    sent && !how.starts_with("close")
}

/// Answers `GET key` with the key, unless the key says to do otherwise.
fn scripted() -> Scripted {
    Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, args| {
            let name = args[0].to_ascii_uppercase();
            let key = args
                .get(1)
                .map(|key| String::from_utf8_lossy(key).into_owned());
            match (name.as_slice(), key.as_deref()) {
                (b"GET", Some(key)) => match key.strip_prefix("evil:") {
                    Some(how) => misbehave(stream, how),
                    None => {
                        let reply = format!("${}\r\n{key}\r\n", key.len());
                        stream.write_all(reply.as_bytes()).is_ok()
                    }
                },
                _ => stream.write_all(b"+OK\r\n").is_ok(),
            }
        });
    })
}

#[test]
fn a_server_that_talks_nonsense_harms_nobody_else() {
    let server = scripted();
    let mut proxy = Emberline::redis_within(&[server.address()], "200ms");
    let over = AtomicBool::new(false);
    let (right, errors) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (proxy, over, right, errors) = (&proxy, &over, &right, &errors);
            scope.spawn(move || bystander(proxy, number, over, right, errors));
        }
        let done = std::panic::catch_unwind(|| {
            for round in 0..3 {
                for how in MISDEEDS {
                    let mut victim = proxy.client();
                    // A server that has just failed is not asked for a while.
                    let deadline = Instant::now() + Duration::from_secs(15);
                    while victim.call(&["GET", "well"]) != b"$4\r\nwell\r\n" {
                        assert!(
                            Instant::now() < deadline,
                            "{how}: the server is not used again"
                        );
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    victim.send(&command(&["GET", &format!("evil:{how}")]));
                    let reply = victim.raw_reply(Duration::from_secs(5));
                    check_victim(how, round, &reply);
                }
            }
        });
        over.store(true, Ordering::Relaxed);
        done.unwrap();
    });
    println!("bystanders: {right:?} right, {errors:?} errors");
    assert!(right.load(Ordering::Relaxed) > 100);
    proxy.assert_alive();
    let deadline = Instant::now() + Duration::from_secs(15);
    while proxy.client().call(&["GET", "after"]) != b"$5\r\nafter\r\n" {
        assert!(Instant::now() < deadline, "the server is not used again");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The one who asked for it gets an error, or the beginning of the reply and
/// then the end of the connection.
fn check_victim(how: &str, round: usize, reply: &[u8]) {
    // A reply that had begun can only break off.
    let begun: &[u8] = match how {
        "short" => b"$100\r\nabc",
        "close-in-bulk" => b"$500000\r\n",
        "unclosed" => b"*3\r\n$1\r\na\r\n",
        "nested" => b"*1\r\n",
        "wrong-end" => b"$3\r\nabc",
        _ => b"-",
    };
    let fits = reply.starts_with(b"-ERR server 127.0.0.1:")
        || reply.is_empty() && begun != b"-"
        || begun != b"-" && (begun.starts_with(reply) || reply.starts_with(begun));
    assert!(fits, "{how}, round {round}: {}", show(reply));
}

fn bystander(
    proxy: &Emberline,
    number: usize,
    over: &AtomicBool,
    right: &AtomicUsize,
    errors: &AtomicUsize,
) {
    let mut client = proxy.client();
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let keys: Vec<String> = (0..4)
            .map(|_| {
                count += 1;
                format!("good:{number}:{count}")
            })
            .collect();
        client.send(
            &keys
                .iter()
                .flat_map(|key| command(&["GET", key]))
                .collect::<Vec<u8>>(),
        );
        for key in keys {
            let reply = client.reply();
            if reply == format!("${}\r\n{key}\r\n", key.len()).into_bytes() {
                right.fetch_add(1, Ordering::Relaxed);
            } else {
                assert!(
                    reply.starts_with(b"-ERR server 127.0.0.1:"),
                    "{key}: {}",
                    show(&reply)
                );
                errors.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_reply_that_nobody_asked_for_costs_the_connection() {
    // Every reply but the first of a connection comes twice; the first is
    // followed by a word of the server's own, a little later.
    let hung_up = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&hung_up);
    let server = Scripted::start(move |mut stream, number| {
        drain_requests(&mut stream, |stream, args| {
            let key = String::from_utf8_lossy(&args[1]).into_owned();
            let reply = format!("${}\r\n{key}\r\n", key.len());
            if number % 2 == 0 {
                stream.write_all(reply.repeat(2).as_bytes()).is_ok()
            } else {
                let sent = stream.write_all(reply.as_bytes()).is_ok();
                std::thread::sleep(Duration::from_millis(20));
                sent && stream.write_all(b"+surprise\r\n").is_ok()
            }
        });
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut proxy = Emberline::redis_within(&[server.address()], "1s");
    let mut client = proxy.client();
    for number in 0..8 {
        let key = format!("key{number}");
        let deadline = Instant::now() + Duration::from_secs(10);
        // Whoever is hung up on several times in a row waits a little.
        let reply = loop {
            let reply = client.call(&["GET", &key]);
            let paused = reply.starts_with(b"-ERR server") && Instant::now() < deadline;
            if !paused {
                break reply;
            }
        };
        assert_eq!(show(&reply), format!("$4\\r\\n{key}\\r\\n"));
        while hung_up.load(Ordering::Relaxed) <= number {
            assert!(
                Instant::now() < deadline,
                "connection {number} is still in use"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(client.is_silent(Duration::from_millis(5)));
    }
    proxy.assert_alive();
}

#[test]
fn fragments_that_do_not_fit_are_an_error() {
    let servers: Vec<Scripted> = (0..2)
        .map(|_| {
            Scripted::start(|mut stream, _| {
                drain_requests(&mut stream, |stream, args| {
                    let reply: &[u8] = match args[0].as_slice() {
                        b"MGET" => b"*1\r\n$1\r\nx\r\n",
                        b"EXISTS" => b"$1\r\n3\r\n",
                        b"DEL" => b":9223372036854775807\r\n",
                        _ => b"*0\r\n",
                    };
                    stream.write_all(reply).is_ok()
                });
            })
        })
        .collect();
    let mut proxy = Emberline::redis_within(&[servers[0].address(), servers[1].address()], "1s");
    let mut client = proxy.client();
    let keys: Vec<String> = (0..20).map(|number| format!("{number}:some-key")).collect();
    for name in ["MGET", "EXISTS", "DEL", "TOUCH"] {
        let mut args = vec![name.to_owned()];
        args.extend(keys.iter().cloned());
        let reply = client.call(&args);
        assert_eq!(
            show(&reply),
            "-ERR a server gave a reply that does not fit the request\\r\\n",
            "{name}"
        );
    }
    proxy.assert_alive();
}

#[test]
fn an_accepting_server_that_hangs_up_makes_no_storm_of_connects() {
    let server = Scripted::start(|stream, _| drop(stream));
    let mut proxy = Emberline::redis_within(&[server.address()], "1s");
    let mut client = proxy.client();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        assert!(
            client
                .call(&["GET", "key"])
                .starts_with(b"-ERR server 127.0.0.1:")
        );
    }
    assert!(
        server.connections() < 40,
        "{} connects",
        server.connections()
    );
    proxy.assert_alive();
}
