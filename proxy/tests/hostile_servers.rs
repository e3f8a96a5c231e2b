//! Servers that answer what no honest server does: their connections are
//! discarded, their clients get an error or are cut off, and the clients of a
//! good server on the same worker notice nothing.

#![allow(clippy::unwrap_used)]

mod hostile_support;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hostile_support::{
    Bystander, addresses, assert_growth, eventually, one_worker, redis_config, reset_peak,
    until_closed,
};
use support::{Client, Emberline, Scripted, Server, command, drain_requests, free_port, show};

/// A proxy of one worker with two listeners: one before a good Redis server,
/// where somebody works, the other before bad servers.
struct Site {
    proxy: Emberline,
    bad: SocketAddr,
    bystander: Option<Bystander>,
    before: u64,
    _good: Vec<Server>,
}

impl Site {
    fn redis(bad: &[&Scripted]) -> Option<Site> {
        Site::start("redis", bad)
    }

    fn start(protocol: &str, servers: &[&Scripted]) -> Option<Site> {
        let good = Server::redis_many(1)?;
        let bad = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let servers: Vec<String> = servers
            .iter()
            .map(|server| format!("\"{}\"", server.address()))
            .collect();
        let config = format!(
            "{}\n[listeners.bad]\nprotocol = \"{protocol}\"\nbind = \"{bad}\"\nroute = \"bad\"\n\
             [pools.bad]\nprotocol = \"{protocol}\"\nservers = [{}]\nrequest_timeout = \"400ms\"\n",
            redis_config(&addresses(&good), "", ""),
            servers.join(", ")
        );
        let proxy = one_worker(&config);
        let bystander = Some(Bystander::redis(proxy.redis_address()));
        let before = reset_peak(&proxy);
        Some(Site {
            proxy,
            bad,
            bystander,
            before,
            _good: good,
        })
    }

    fn client(&self) -> Client {
        Client::connect(self.bad)
    }

    /// Nobody else noticed.
    fn finish(mut self, growth_mib: u64) {
        let worst = self.bystander.take().unwrap().finish();
        println!("somebody else waited {worst:?}");
        assert_growth(&self.proxy, self.before, growth_mib);
        self.proxy.assert_alive();
    }
}

/// Sends `reply` to the first request of each connection and then keeps quiet.
fn says(reply: impl Into<Vec<u8>>) -> Scripted {
    let reply = reply.into();
    Scripted::start(move |mut stream, _| {
        if stream.read(&mut [0; 4096]).unwrap_or(0) > 0 {
            let _ = stream.write_all(&reply);
            let _ = stream.read(&mut [0]);
        }
    })
}

/// A command and keys enough that no server is left out.
fn many_keys(name: &str) -> Vec<String> {
    // FNV spreads short keys that differ in one letter badly: these differ in more.
    let keys = (0..40).map(|number| format!("{}:key:{number}", number * 7919));
    std::iter::once(name.to_owned()).chain(keys).collect()
}

/// Everything that comes for `request` until a whole error or the end.
fn outcome(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(request).unwrap();
    let (mut all, mut more) = (Vec::new(), [0; 65536]);
    loop {
        let error = all.starts_with(b"-") || all.starts_with(b"SERVER_ERROR");
        if error && all.ends_with(b"\r\n") {
            return all;
        }
        match stream.read(&mut more) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&more[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("neither answered nor closed ({error}): {}", show(&all)),
        }
    }
}

/// Whatever the server says, the client is told that it was lost, or is cut
/// off after a part of the reply.
fn check_lost(name: &str, reply: impl Into<Vec<u8>>) {
    let reply = reply.into();
    let server = says(reply.clone());
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let answer = outcome(site.bad, &command(&["GET", "k"]));
    let error = answer.starts_with(b"-ERR server 127.0.0.1:");
    let part = reply.starts_with(&answer);
    assert!(error || part, "{name}: {}", show(&answer));
    site.finish(16);
}

#[test]
fn nested_replies_are_cut_at_a_depth() {
    check_lost("arrays", b"*1\r\n".repeat(100_000));
    check_lost("mixed", b"*1\r\n%1\r\n+k\r\n~1\r\n>1\r\n".repeat(25_000));
    check_lost("attributes", b"|1\r\n".repeat(100_000));
    check_lost("streamed", b"*?\r\n".repeat(100_000));
}

#[test]
fn absurd_lengths_in_replies_are_refused() {
    for reply in [
        "*4294967295\r\n",
        "%2147483648\r\n",
        "$9223372036854775807\r\n",
        "$-2\r\n",
        "$+3\r\nabc\r\n",
        "$03\r\nabc\r\n",
        "*-2\r\n",
        "$18446744073709551616\r\n",
        "$3\r\nabcde\r\n",
        "?\r\n",
        "\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        check_lost(reply, reply);
    }
    check_lost("joint budget", b"*1000000000\r\n".repeat(100));
    check_lost(
        "a header without end",
        b"$".iter()
            .chain(&[b'1'; 100_000])
            .copied()
            .collect::<Vec<_>>(),
    );
}

#[test]
fn counts_that_never_come_end_in_an_error() {
    for reply in [
        "*2000000000\r\n",
        "*1000000000\r\n:1\r\n",
        "%500000000\r\n",
        "$1073741824\r\nabc",
        "+half a li",
    ] {
        let server = says(reply);
        let Some(site) = Site::redis(&[&server]) else {
            return;
        };
        let begun = Instant::now();
        let answer = outcome(site.bad, &command(&["GET", "k"]));
        let error = answer.starts_with(b"-ERR server 127.0.0.1:");
        assert!(
            error || reply.as_bytes().starts_with(&answer),
            "{reply}: {}",
            show(&answer)
        );
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{reply}: cut after {:?}",
            begun.elapsed()
        );
        site.finish(16);
    }
}

#[test]
fn a_deep_but_honest_reply_passes() {
    let reply = [b"*1\r\n".repeat(120), b":1\r\n".to_vec()].concat();
    let server = says(reply.clone());
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let mut client = site.client();
    assert_eq!(show(&client.call(&["GET", "k"])), show(&reply));
    site.finish(16);
}

#[test]
fn merged_replies_that_do_not_fit_are_errors() {
    let endless = [b"*2000000000\r\n".to_vec(), b"$1\r\na\r\n".repeat(100_000)].concat();
    let cases: &[&[u8]] = &[
        b"*0\r\n",
        b"*1000000000\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*?\r\n$1\r\na\r\n.\r\n",
        &endless,
    ];
    for reply in cases {
        let (one, two) = (says(*reply), says(*reply));
        let Some(site) = Site::redis(&[&one, &two]) else {
            return;
        };
        let answer = outcome(site.bad, &command(&many_keys("MGET")));
        assert!(
            answer.starts_with(b"-ERR "),
            "after {}: {}",
            show(reply),
            show(&answer)
        );
        site.finish(32);
    }
}

#[test]
fn a_server_that_talks_out_of_turn_is_discarded() {
    let discarded = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&discarded);
    let server = Scripted::start(move |mut stream, _| {
        drain_requests(&mut stream, |stream, args| {
            let reply = command(&[&args[1]]);
            let _ = stream.write_all(&reply);
            std::thread::sleep(Duration::from_millis(10));
            stream.write_all(b"+EARLY\r\n").is_ok()
        });
        count.fetch_add(1, Ordering::Relaxed);
    });
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let mut client = site.client();
    for number in 0..5 {
        let key = format!("k{number}");
        // The next connect has to wait for a moment.
        eventually("it is not asked again", || {
            let reply = client.call(&["GET", &key]);
            let refused = reply.starts_with(b"-ERR server 127.0.0.1:");
            assert!(refused || reply == command(&[&key]), "{}", show(&reply));
            !refused
        });
        // Who asks before it has said all has asked for that.
        eventually("it is not discarded", || {
            discarded.load(Ordering::Relaxed) > number
        });
    }
    assert_eq!(server.connections(), 5);
    site.finish(16);
}

#[test]
fn a_reply_that_comes_twice_costs_the_connection_and_not_the_next_client() {
    let server = Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, args| {
            let reply = command(&[&args[1]]);
            let times = if args[1] == b"twice" { 2 } else { 1 };
            stream.write_all(&reply.repeat(times)).is_ok()
        });
    });
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let (mut bad, mut good) = (site.client(), site.client());
    for number in 0..20 {
        let reply = bad.call(&["GET", "twice"]);
        assert!(
            reply == command(&["twice"]) || reply.starts_with(b"-ERR server"),
            "{}",
            show(&reply)
        );
        std::thread::sleep(Duration::from_millis(5));
        let key = format!("k{number}");
        let reply = good.call(&["GET", &key]);
        assert!(
            reply == command(&[&key]) || reply.starts_with(b"-ERR server"),
            "{}",
            show(&reply)
        );
    }
    site.finish(16);
}

#[test]
fn a_reply_after_its_timeout_is_never_given_to_anybody() {
    let server = Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, args| {
            if args[1] == b"slow" {
                std::thread::sleep(Duration::from_millis(700));
            }
            stream.write_all(&command(&[&args[1]])).is_ok()
        });
    });
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let mut client = site.client();
    // A server whose first reply is late counts as down for a moment.
    assert_eq!(show(&client.call(&["GET", "k"])), show(&command(&["k"])));
    for number in 0..3 {
        let reply = client.call(&["GET", "slow"]);
        assert!(
            reply.ends_with(b"did not answer in time\r\n"),
            "{}",
            show(&reply)
        );
        for at in 0..20 {
            let key = format!("k{number}:{at}");
            assert_eq!(show(&client.call(&["GET", &key])), show(&command(&[&key])));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    site.finish(16);
}

#[test]
fn a_server_that_closes_within_a_value_cuts_its_reader_only() {
    let server = Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, args| match args[1].as_slice() {
            b"half" => {
                let _ = stream.write_all(b"$3000000\r\n");
                let _ = stream.write_all(&[b'x'; 1_000_000]);
                false
            }
            key => stream.write_all(&command(&[key])).is_ok(),
        });
    });
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    for _ in 0..5 {
        let mut other = site.client();
        // The connection of the round before has not lived for long.
        eventually("it is not asked again", || {
            other.call(&["GET", "k"]) == command(&["k"])
        });
        let mut reader = TcpStream::connect(site.bad).unwrap();
        reader
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        reader.write_all(&command(&["GET", "half"])).unwrap();
        let answer = until_closed(&mut reader);
        assert!(answer.starts_with(b"$3000000\r\nx"), "{}", show(&answer));
        assert!(
            answer[10..].iter().all(|byte| *byte == b'x'),
            "something else came with the value"
        );
    }
    site.finish(16);
}

#[test]
fn replies_split_at_every_byte_are_whole_for_the_client() {
    let server = Scripted::start(|mut stream, _| {
        drain_requests(&mut stream, |stream, args| {
            let reply = format!(
                "*3\r\n$3\r\na\r\n\r\n%1\r\n+k\r\n:1\r\n{}",
                show(&command(&[&args[1]])).replace("\\r\\n", "\r\n")
            );
            reply
                .as_bytes()
                .iter()
                .all(|byte| stream.write_all(&[*byte]).is_ok())
        });
    });
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let mut client = site.client();
    for number in 0..10 {
        let key = format!("k{number}");
        let expected = [
            b"*3\r\n$3\r\na\r\n\r\n%1\r\n+k\r\n:1\r\n".to_vec(),
            command(&[&key]),
        ]
        .concat();
        assert_eq!(show(&client.call(&["GET", &key])), show(&expected));
    }
    site.finish(16);
}

#[test]
fn a_handshake_that_never_ends_is_cut_off() {
    let server = Scripted::start(|mut stream, _| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"$1073741824\r\n");
        let block = [b'x'; 65536];
        while stream.write_all(&block).is_ok() {}
    });
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let mut client = site.client();
    assert!(client.call(&["HELLO", "3"]).starts_with(b"%"));
    let reply = client.call(&["GET", "k"]);
    assert!(
        reply.starts_with(b"-ERR server 127.0.0.1:"),
        "{}",
        show(&reply)
    );
    site.finish(16);
}

#[test]
fn a_server_that_accepts_and_hangs_up_is_not_stormed_with_connects() {
    let server = Scripted::start(|stream, _| drop(stream));
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let mut client = site.client();
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        let reply = client.call(&["GET", "k"]);
        assert!(
            reply.starts_with(b"-ERR server 127.0.0.1:"),
            "{}",
            show(&reply)
        );
        asked += 1;
    }
    assert!(
        server.connections() < 30,
        "{} connects for {asked} requests",
        server.connections()
    );
    site.finish(16);
}

/// Neither of them is a way to have the proxy connect for every request.
#[test]
fn a_server_that_answers_once_and_hangs_up_is_not_stormed_with_connects() {
    for last in ["", "+UNASKED\r\n", "?\r\n"] {
        let server = Scripted::start(move |mut stream, _| {
            drain_requests(&mut stream, |stream, _| {
                // At once: between two writes the client asks again, and to that
                // the second would be the reply.
                let _ = stream.write_all(format!("$1\r\nv\r\n{last}").as_bytes());
                false
            });
        });
        let Some(site) = Site::redis(&[&server]) else {
            return;
        };
        let mut client = site.client();
        let begun = Instant::now();
        let (mut asked, mut answered) = (0, 0);
        while begun.elapsed() < Duration::from_secs(1) {
            let reply = client.call(&["GET", "k"]);
            let is_answer = reply == b"$1\r\nv\r\n";
            let refused = reply.starts_with(b"-ERR server 127.0.0.1:");
            assert!(is_answer || refused, "{}", show(&reply));
            asked += 1;
            answered += usize::from(is_answer);
        }
        assert!(answered > 0, "none of {asked} requests was answered");
        assert!(
            server.connections() < 30,
            "{} connects for {asked} requests",
            server.connections()
        );
        site.finish(16);
    }
}

/// What it says to everybody is nobody's reply.
#[test]
fn a_memcached_that_is_full_is_not_stormed_and_what_it_says_is_no_reply() {
    let server = Scripted::start(|mut stream, _| {
        let _ = stream.write_all(b"ERROR Too many open connections\r\n");
    });
    let Some(site) = Site::start("memcached", &[&server]) else {
        return;
    };
    let expected = format!(
        "SERVER_ERROR server {} cannot be reached: it said ERROR Too many open connections\\r\\n",
        server.address()
    );
    let mut client = site.client();
    for _ in 0..200 {
        assert_eq!(show(&client.ask("get k\r\n")), expected);
    }
    assert!(server.connections() < 30, "{}", server.connections());
    site.finish(16);
}

#[test]
fn garbage_replies_never_reach_a_client_as_somebody_elses() {
    let seed = AtomicUsize::new(1);
    let server = Scripted::start(move |mut stream, _| {
        let mut random = support::Random::new(seed.fetch_add(1, Ordering::Relaxed) as u64);
        drain_requests(&mut stream, |stream, args| {
            if args[1].starts_with(b"good") {
                return stream.write_all(&command(&[&args[1]])).is_ok();
            }
            let len = random.within(1, 500);
            let mut garbage = random.bytes(len);
            garbage[0] = *random.pick(b"+-:$*%~>|#,_=!(");
            stream.write_all(&garbage).is_ok()
        });
    });
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let attackers: Vec<_> = (0..4)
        .map(|number| {
            let bad = site.bad;
            std::thread::spawn(move || {
                for at in 0..40 {
                    let mut stream = TcpStream::connect(bad).unwrap();
                    stream
                        .set_read_timeout(Some(Duration::from_millis(50)))
                        .unwrap();
                    stream
                        .write_all(&command(&["GET", &format!("bad{number}:{at}")]))
                        .unwrap();
                    let _ = stream.read(&mut [0; 1024]);
                }
            })
        })
        .collect();
    attackers
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    site.finish(16);
}

#[test]
fn memcached_servers_that_lie_are_discarded() {
    let cases: &[&[u8]] = &[
        b"VALUE k 0 99999999999999999999\r\n",
        b"VALUE k 0 -1\r\n",
        b"VALUE k 0 2147483648\r\n",
        b"VALUE k 0 3\r\nabcdefgh\r\nEND\r\n",
        b"VALUE k 0\r\n",
        b"HELLO\r\n",
        b"VALUE k 0 1\r\na\r\nSTORED\r\n",
        &[b'x'; 100_000],
        b"VALUE k 0 1073741824\r\nabc",
        b"VALUE k 0 1\r\na\r\n",
        b"VA 1073741824\r\nabc",
        b"\x81\x00\x00\x00",
    ];
    for reply in cases {
        let server = says(*reply);
        let Some(site) = Site::start("memcached", &[&server]) else {
            return;
        };
        let answer = outcome(site.bad, b"get k\r\n");
        let error = answer.starts_with(b"SERVER_ERROR server 127.0.0.1:");
        assert!(
            error || reply.starts_with(&answer),
            "after {}: {}",
            show(reply),
            show(&answer)
        );
        site.finish(16);
    }
}

#[test]
fn a_multi_get_takes_only_the_values_that_it_asked_for() {
    let reply = "VALUE stranger 0 1\r\nx\r\nVALUE 0:key:0 0 1\r\na\r\nEND\r\n";
    let (one, two) = (says(reply), says(reply));
    let Some(site) = Site::start("memcached", &[&one, &two]) else {
        return;
    };
    let mut client = site.client();
    client.send(format!("{}\r\n", many_keys("get").join(" ")).as_bytes());
    let answer = client.memcached_reply();
    assert!(
        !answer.windows(8).any(|bytes| bytes == b"stranger"),
        "{}",
        show(&answer)
    );
    site.finish(16);
}

#[test]
fn a_silent_server_costs_its_clients_an_error_and_no_connection_piles_up() {
    let server = Scripted::start(
        |mut stream, _| while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {},
    );
    let Some(site) = Site::redis(&[&server]) else {
        return;
    };
    let open = site.proxy.descriptors();
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..50).map(|_| site.client()).collect();
        clients
            .iter_mut()
            .for_each(|client| client.send(&command(&["GET", "k"])));
        for client in &mut clients {
            let reply = client.reply();
            assert!(
                reply.starts_with(b"-ERR server 127.0.0.1:"),
                "{}",
                show(&reply)
            );
        }
    }
    eventually("connections to a silent server stay open", || {
        site.proxy.descriptors() <= open + 2
    });
    site.finish(16);
}
