//! Large values: they pass through in both directions without being kept, in
//! their order, whole, or not at all.

#![allow(clippy::unwrap_used)]

mod hostile_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hostile_support::{
    Bystander, addresses, assert_growth, eventually, memcached_proxy, one_worker, redis_config,
    redis_proxy, reset_peak, until_closed,
};
use support::{Client, Emberline, Random, Scripted, Server, command, show};

const MIB: usize = 1024 * 1024;

/// A value that cannot be mistaken for a part of itself elsewhere.
struct Pattern {
    block: Vec<u8>,
    len: usize,
}

impl Pattern {
    fn new(len: usize) -> Pattern {
        // A prime, so that no read or write boundary falls together with it.
        Pattern {
            block: Random::new(len as u64).bytes(65_521),
            len,
        }
    }

    /// Write the value in pieces, its place in the block decided by position.
    fn send(&self, to: &mut TcpStream, len: usize) -> std::io::Result<()> {
        let mut left = len;
        while left > 0 {
            let count = left.min(self.block.len());
            to.write_all(&self.block[..count])?;
            left -= count;
        }
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        self.block.iter().copied().cycle().take(self.len).collect()
    }

    /// Read the value and compare it.
    fn expect(&self, from: &mut TcpStream) {
        let mut buffer = vec![0; self.block.len()];
        let mut left = self.len;
        while left > 0 {
            let count = left.min(buffer.len());
            from.read_exact(&mut buffer[..count]).unwrap();
            assert!(
                buffer[..count] == self.block[..count],
                "wrong bytes {left} before the end"
            );
            left -= count;
        }
    }
}

fn expect(from: &mut TcpStream, bytes: &[u8]) {
    let mut buffer = vec![0; bytes.len()];
    from.read_exact(&mut buffer).unwrap();
    assert_eq!(show(&buffer), show(bytes));
}

fn connect(proxy: &Emberline) -> TcpStream {
    let stream = TcpStream::connect(proxy.redis_address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

#[test]
fn a_value_of_256_mib_passes_through_both_ways_and_costs_no_memory() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let bystander = Bystander::redis(proxy.redis_address());
    let pattern = Pattern::new(256 * MIB);
    let len = pattern.len;
    // The first connections and buffers are not what is measured.
    let mut client = connect(&proxy);
    client
        .write_all(&command(&["SET", "large", "small"]))
        .unwrap();
    expect(&mut client, b"+OK\r\n");
    let before = reset_peak(&proxy);
    // Requests before and behind, without waiting.
    client
        .write_all(&command(&["INCR", "n"]).repeat(3))
        .unwrap();
    client
        .write_all(format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${len}\r\n").as_bytes())
        .unwrap();
    pattern.send(&mut client, len).unwrap();
    client.write_all(b"\r\n").unwrap();
    client
        .write_all(&command(&["INCR", "n"]).repeat(3))
        .unwrap();
    expect(&mut client, b":1\r\n:2\r\n:3\r\n+OK\r\n:4\r\n:5\r\n:6\r\n");
    client.write_all(&command(&["INCR", "n"])).unwrap();
    client.write_all(&command(&["GET", "large"])).unwrap();
    client.write_all(&command(&["STRLEN", "large"])).unwrap();
    client.write_all(&command(&["INCR", "n"])).unwrap();
    expect(&mut client, format!(":7\r\n${len}\r\n").as_bytes());
    pattern.expect(&mut client);
    expect(&mut client, format!("\r\n:{len}\r\n:8\r\n").as_bytes());
    assert_growth(&proxy, before, 16);
    bystander.finish();
    proxy.assert_alive();
}

#[test]
fn a_server_that_dies_within_an_upload_costs_its_client_an_error() {
    let Some(mut servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let pattern = Pattern::new(64 * MIB);
    let mut client = connect(&proxy);
    client.write_all(&command(&["SET", "small", "1"])).unwrap();
    expect(&mut client, b"+OK\r\n");
    let before = reset_peak(&proxy);
    client
        .write_all(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", pattern.len).as_bytes())
        .unwrap();
    pattern.send(&mut client, pattern.len / 2).unwrap();
    servers[0].kill();
    // The rest is thrown away: it must not be read as requests.
    pattern
        .send(&mut client, pattern.len - pattern.len / 2)
        .unwrap();
    client.write_all(b"\r\n").unwrap();
    client.write_all(&command(&["PING"])).unwrap();
    let mut answer = vec![0; 4096];
    let mut count = 0;
    while !answer[..count].ends_with(b"+PONG\r\n") {
        count += client.read(&mut answer[count..]).unwrap();
    }
    assert!(
        answer.starts_with(b"-ERR server 127.0.0.1:"),
        "{}",
        show(&answer[..count])
    );
    assert_growth(&proxy, before, 16);
    servers[0].restart();
    let mut other = proxy.client();
    eventually("the server does not come back", || {
        proxy.client().call(&["SET", "k", "v"]) == b"+OK\r\n"
    });
    assert_eq!(show(&other.call(&["GET", "k"])), "$1\\r\\nv\\r\\n");
    proxy.assert_alive();
}

#[test]
fn a_server_that_stops_within_an_upload_is_given_up() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let pattern = Pattern::new(64 * MIB);
    let mut client = connect(&proxy);
    client.write_all(&command(&["SET", "small", "1"])).unwrap();
    expect(&mut client, b"+OK\r\n");
    let before = reset_peak(&proxy);
    client
        .write_all(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", pattern.len).as_bytes())
        .unwrap();
    servers[0].freeze();
    let mut writer = client.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        pattern.send(&mut writer, pattern.len).unwrap();
        writer.write_all(b"\r\n").unwrap();
        writer.write_all(&command(&["PING"])).unwrap();
    });
    let mut answer = vec![0; 4096];
    let mut count = 0;
    while !answer[..count].ends_with(b"+PONG\r\n") {
        count += client.read(&mut answer[count..]).unwrap();
    }
    assert!(
        answer.starts_with(b"-ERR server 127.0.0.1:"),
        "{}",
        show(&answer[..count])
    );
    sender.join().unwrap();
    servers[0].thaw();
    assert_growth(&proxy, before, 16);
    eventually("the server does not come back", || {
        proxy.client().call(&["GET", "small"]) == b"$1\r\n1\r\n"
    });
    assert_eq!(show(&proxy.client().call(&["EXISTS", "k"])), ":0\\r\\n");
    proxy.assert_alive();
}

#[test]
fn a_client_that_dies_within_an_upload_leaves_no_trace() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let mut other = proxy.client();
    assert_eq!(show(&other.call(&["SET", "k", "kept"])), "+OK\\r\\n");
    let bystander = Bystander::redis(proxy.redis_address());
    let open = proxy.descriptors();
    for _ in 0..10 {
        let pattern = Pattern::new(32 * MIB);
        let mut client = connect(&proxy);
        client
            .write_all(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", pattern.len).as_bytes())
            .unwrap();
        pattern.send(&mut client, 5 * MIB).unwrap();
    }
    eventually("connections of dead uploads stay open", || {
        proxy.descriptors() <= open + 3
    });
    assert_eq!(show(&other.call(&["GET", "k"])), "$4\\r\\nkept\\r\\n");
    bystander.finish();
    proxy.assert_alive();
}

#[test]
fn uploads_between_small_requests_of_many_clients_keep_their_order() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let bystander = Bystander::redis(proxy.redis_address());
    let address = proxy.redis_address();
    let clients: Vec<_> = (0..12)
        .map(|number| {
            std::thread::spawn(move || {
                let pattern = Pattern::new(5 * MIB + number);
                let value = pattern.bytes();
                let mut client = Client::connect(address);
                let (counter, large) = (format!("counter:{number}"), format!("large:{number}"));
                let incr = command(&["INCR", &counter]);
                let set = command(&[b"SET".as_slice(), large.as_bytes(), &value]);
                let mut writer = client.writer();
                let get = command(&["GET", &large]);
                let sender = std::thread::spawn(move || {
                    for _ in 0..2 {
                        writer.write_all(&incr.repeat(5)).unwrap();
                        writer.write_all(&set).unwrap();
                        writer.write_all(&incr).unwrap();
                    }
                    writer.write_all(&get).unwrap();
                    writer.write_all(&incr).unwrap();
                });
                for round in 0..2 {
                    for at in 1..=5 {
                        assert_eq!(show(&client.reply()), format!(":{}\\r\\n", round * 6 + at));
                    }
                    assert_eq!(show(&client.reply()), "+OK\\r\\n");
                    assert_eq!(show(&client.reply()), format!(":{}\\r\\n", round * 6 + 6));
                }
                let header = format!("${}\r\n", value.len());
                assert_eq!(client.exactly(header.len()), header.as_bytes());
                assert!(
                    client.exactly(value.len()) == value,
                    "the value is not what was stored"
                );
                assert_eq!(client.exactly(2), b"\r\n");
                assert_eq!(show(&client.reply()), ":13\\r\\n");
                sender.join().unwrap();
            })
        })
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    bystander.finish();
    proxy.assert_alive();
}

#[test]
fn large_values_of_two_servers_are_merged() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let bystander = Bystander::redis(proxy.redis_address());
    let mut client = proxy.client();
    let keys: Vec<String> = (0..12)
        .map(|number| format!("{}:merged:{number}", number * 7919))
        .collect();
    let value = |number: usize| Pattern::new(MIB + number).bytes();
    let mut mset = vec![b"MSET".to_vec()];
    let mut expected = format!("*{}\r\n", keys.len()).into_bytes();
    for (number, key) in keys.iter().enumerate() {
        mset.push(key.clone().into_bytes());
        mset.push(value(number));
        expected.extend_from_slice(format!("${}\r\n", value(number).len()).as_bytes());
        expected.extend_from_slice(&value(number));
        expected.extend_from_slice(b"\r\n");
    }
    assert_eq!(show(&client.call(&mset)), "+OK\\r\\n");
    let mget: Vec<String> = std::iter::once("MGET".to_owned()).chain(keys).collect();
    client.send(&command(&mget).repeat(3));
    client.send(&command(&["PING"]));
    for _ in 0..3 {
        let reply = client.exactly(expected.len());
        assert!(reply == expected, "got {}", show(&reply));
    }
    assert_eq!(show(&client.reply()), "+PONG\\r\\n");
    bystander.finish();
    proxy.assert_alive();
}

#[test]
fn a_request_too_large_to_be_split_is_refused_and_thrown_away() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let before = reset_peak(&proxy);
    let pattern = Pattern::new(100 * MIB);
    let mut client = connect(&proxy);
    client.write_all(&command(&["INCR", "n"])).unwrap();
    client
        .write_all(format!("*5\r\n$4\r\nMSET\r\n$1\r\na\r\n${}\r\n", pattern.len).as_bytes())
        .unwrap();
    pattern.send(&mut client, pattern.len).unwrap();
    client.write_all(b"\r\n$1\r\nb\r\n$1\r\n2\r\n").unwrap();
    client.write_all(&command(&["INCR", "n"])).unwrap();
    expect(
        &mut client,
        b":1\r\n-ERR the request is too large to be split over servers or kept in memory\r\n:2\r\n",
    );
    assert_growth(&proxy, before, 16);
    proxy.assert_alive();
}

#[test]
fn an_upload_to_a_denied_command_is_refused() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let config = redis_config(&addresses(&servers), "", "");
    let config = config.replace("route = \"main\"", "route = \"main\"\ndeny = [\"set\"]");
    let mut proxy = one_worker(&config);
    let mut client = proxy.client();
    client.send(&command(&[b"SET".as_slice(), b"k", &vec![b'x'; 3 * MIB]]));
    assert!(client.reply().starts_with(b"-"));
    assert_eq!(show(&client.call(&["EXISTS", "k"])), ":0\\r\\n");
    let Some(servers) = Server::memcached_many(1) else {
        return;
    };
    let servers = addresses(&servers);
    let mut other = one_worker(&format!(
        "[listeners.main]\nprotocol = \"memcached\"\nbind = \"MEMCACHED_BIND\"\nroute = \"main\"\n\
         deny = [\"set\"]\n[pools.main]\nprotocol = \"memcached\"\nservers = [\"{}\"]\n\
         value_max = \"8MiB\"\n",
        servers[0]
    ));
    let mut client = other.client();
    let set = [
        b"set k 0 0 3145728\r\n".as_slice(),
        &vec![b'x'; 3 * MIB],
        b"\r\n",
    ]
    .concat();
    assert!(client.ask(set).starts_with(b"CLIENT_ERROR "));
    assert_eq!(show(&client.ask("get k\r\n")), "END\\r\\n");
    proxy.assert_alive();
    other.assert_alive();
}

#[test]
fn an_upload_after_client_reply_off_is_not_answered() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let proxy = redis_proxy(&addresses(&servers), "", "");
    let mut client = proxy.client();
    client.send(&command(&["CLIENT", "REPLY", "OFF"]));
    client.send(&command(&[b"SET".as_slice(), b"k", &vec![b'x'; 3 * MIB]]));
    client.send(&command(&["CLIENT", "REPLY", "ON"]));
    assert_eq!(show(&client.reply()), "+OK\\r\\n");
    assert_eq!(show(&client.call(&["STRLEN", "k"])), ":3145728\\r\\n");
}

fn large_memcached() -> Option<(Vec<Server>, Emberline)> {
    let start = || Server::memcached_with(&["-I", "64m", "-m", "512"]);
    let servers = vec![start()?, start()?];
    let proxy = memcached_proxy(&addresses(&servers), "", "value_max = \"64MiB\"");
    Some((servers, proxy))
}

#[test]
fn large_memcached_values_pass_through() {
    let Some((_servers, mut proxy)) = large_memcached() else {
        return;
    };
    let bystander = Bystander::memcached(proxy.memcached_address());
    let mut client = proxy.client();
    assert_eq!(
        show(&client.ask("set small 0 0 1\r\n1\r\n")),
        "STORED\\r\\n"
    );
    let before = reset_peak(&proxy);
    let value = Pattern::new(32 * MIB).bytes();
    let len = value.len();
    let mut writer = client.writer();
    std::thread::scope(|scope| {
        let value = &value;
        scope.spawn(move || {
            for (head, tail) in [
                (
                    format!("incr small 1\r\nset large 5 0 {len}\r\n"),
                    "\r\nincr small 1\r\n",
                ),
                (
                    format!("set large 5 0 {len} noreply\r\n"),
                    "\r\nincr small 1\r\n",
                ),
                (format!("ms large {len} F6\r\n"), "\r\nincr small 1\r\n"),
                (format!("ms large {len} F7 q\r\n"), "\r\nmn\r\n"),
            ] {
                writer.write_all(head.as_bytes()).unwrap();
                writer.write_all(value).unwrap();
                writer.write_all(tail.as_bytes()).unwrap();
            }
        });
        for expected in ["2", "STORED", "3", "4", "HD", "5", "MN"] {
            assert_eq!(show(&client.memcached_reply()), format!("{expected}\\r\\n"));
        }
    });
    assert_growth(&proxy, before, 16);
    for (request, header, end) in [
        (
            "get large\r\n",
            format!("VALUE large 7 {len}\r\n"),
            "\r\nEND\r\n",
        ),
        ("mg large v f\r\n", format!("VA {len} f7\r\n"), "\r\n"),
        ("mg large v f q\r\n", format!("VA {len} f7\r\n"), "\r\n"),
        (
            "get small large absent\r\n",
            format!("VALUE small 0 1\r\n5\r\nVALUE large 7 {len}\r\n"),
            "\r\nEND\r\n",
        ),
    ] {
        client.send(request.as_bytes());
        client.send(b"mn\r\n");
        assert_eq!(
            show(&client.exactly(header.len())),
            show(header.as_bytes()),
            "{request}"
        );
        assert!(client.exactly(len) == value, "{request} gave other bytes");
        assert_eq!(
            show(&client.exactly(end.len())),
            show(end.as_bytes()),
            "{request}"
        );
        assert_eq!(show(&client.memcached_reply()), "MN\\r\\n");
    }
    bystander.finish();
    proxy.assert_alive();
}

#[test]
fn a_memcached_value_above_the_servers_own_limit_is_refused_in_its_turn() {
    let Some(servers) = Server::memcached_many(1) else {
        return;
    };
    let mut proxy = memcached_proxy(&addresses(&servers), "", "value_max = \"64MiB\"");
    let mut client = proxy.client();
    for quiet in [false, true] {
        let noreply = if quiet { " noreply" } else { "" };
        client.send(format!("set k 0 0 {}{noreply}\r\n", 5 * MIB).as_bytes());
        client.send(&vec![b'x'; 5 * MIB]);
        client.send(b"\r\nmn\r\n");
        if !quiet {
            let reply = client.memcached_reply();
            assert!(reply.starts_with(b"SERVER_ERROR "), "{}", show(&reply));
        }
        assert_eq!(show(&client.memcached_reply()), "MN\\r\\n");
    }
    assert_eq!(show(&client.ask("set k 0 0 1\r\nx\r\n")), "STORED\\r\\n");
    proxy.assert_alive();
}

#[test]
fn a_bad_end_of_a_large_value_is_an_error_and_loses_no_step() {
    let Some((_servers, mut proxy)) = large_memcached() else {
        return;
    };
    let mut client = proxy.client();
    client.send(format!("set k 0 0 {}\r\n", 3 * MIB).as_bytes());
    client.send(&vec![b'x'; 3 * MIB]);
    client.send(b"xxmn\r\n");
    assert_eq!(
        show(&client.memcached_reply()),
        "CLIENT_ERROR bad data chunk\\r\\n"
    );
    assert_eq!(show(&client.memcached_reply()), "MN\\r\\n");
    assert_eq!(show(&client.ask("get k\r\n")), "END\\r\\n");
    let mut client = TcpStream::connect(proxy.memcached_address()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client
        .write_all(format!("set k 0 0 {}\r\n", 3 * MIB).as_bytes())
        .unwrap();
    client.write_all(&vec![b'x'; MIB]).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = until_closed(&mut client);
    assert!(!answer.starts_with(b"STORED"), "{}", show(&answer));
    proxy.assert_alive();
}

#[test]
fn a_broken_upload_is_a_protocol_error_and_never_reaches_the_next_request() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let mut client = connect(&proxy);
    client
        .write_all(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 3 * MIB).as_bytes())
        .unwrap();
    client.write_all(&vec![b'x'; 3 * MIB]).unwrap();
    client.write_all(b"xx*1\r\n$4\r\nPING\r\n").unwrap();
    let answer = until_closed(&mut client);
    assert!(!answer.ends_with(b"+PONG\r\n"), "{}", show(&answer));
    assert!(answer.starts_with(b"-ERR "), "{}", show(&answer));
    assert_eq!(show(&proxy.client().call(&["EXISTS", "k"])), ":0\\r\\n");
    proxy.assert_alive();
}

#[test]
fn a_server_that_answers_an_upload_early_is_believed() {
    let server = Scripted::start(|mut stream, _| {
        let mut buffer = [0; 65536];
        if stream.read(&mut buffer).unwrap_or(0) > 0 {
            let _ = stream.write_all(b"-OOM no room for that\r\n");
            while stream.read(&mut buffer).unwrap_or(0) > 0 {}
        }
    });
    let mut proxy = redis_proxy(&[server.address()], "", "");
    let mut client = proxy.client();
    client.send(&command(&[b"SET".as_slice(), b"k", &vec![b'x'; 8 * MIB]]));
    client.send(&command(&["PING"]));
    assert_eq!(show(&client.reply()), "-OOM no room for that\\r\\n");
    assert_eq!(show(&client.reply()), "+PONG\\r\\n");
    proxy.assert_alive();
}
