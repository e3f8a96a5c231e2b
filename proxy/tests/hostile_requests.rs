//! Requests that no honest client sends: each gets a well-formed error in its
//! own protocol or a closed connection, and nobody else notices.

#![allow(clippy::unwrap_used)]

mod hostile_support;
mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hostile_support::{
    Bystander, addresses, assert_growth, memcached_proxy, one_worker, provoke, redis_config,
    redis_proxy, reset_peak, until_closed,
};
use support::{Client, Server, show};

/// The beginning of a TLS handshake as browsers and probes send it.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\
    \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
    \x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\
    \x00\x00\x02\x13\x01\x01\x00\x00\x76\x00\x00\x00\x0e\x00\x0c\x00\x00\x09localhost";

/// Run an attack on a Redis proxy of one worker while somebody else works.
fn under_redis_attack(attack: impl Fn(SocketAddr)) {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let address = proxy.redis_address();
    let bystander = Bystander::redis(address);
    let before = reset_peak(&proxy);
    attack(address);
    bystander.finish();
    assert_growth(&proxy, before, 16);
    proxy.assert_alive();
}

/// The same before memcached servers; the attack is told one server's address
/// too, to compare.
fn under_memcached_attack(attack: impl Fn(SocketAddr, SocketAddr)) {
    let Some(servers) = Server::memcached_many(1) else {
        return;
    };
    let mut proxy = memcached_proxy(&addresses(&servers), "", "");
    let address = proxy.memcached_address();
    let bystander = Bystander::memcached(address);
    let before = reset_peak(&proxy);
    attack(address, servers[0].address());
    bystander.finish();
    assert_growth(&proxy, before, 16);
    proxy.assert_alive();
}

/// `bytes` must be answered with exactly `error`, and the connection closed;
/// in one piece and byte by byte.
fn check_fatal(address: SocketAddr, bytes: &[u8], error: &str) {
    let answer = provoke(address, bytes);
    assert_eq!(
        show(&answer),
        show(error.as_bytes()),
        "after {}",
        show(bytes)
    );
    if bytes.len() <= 64 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in bytes {
            let _ = stream.write_all(&[*byte]);
        }
        let answer = until_closed(&mut stream);
        assert_eq!(
            show(&answer),
            show(error.as_bytes()),
            "after the bytes of {}",
            show(bytes)
        );
    }
}

#[test]
fn nested_requests_are_refused() {
    under_redis_attack(|address| {
        let got = |byte| format!("-ERR Protocol error: expected '$', got '{byte}'\r\n");
        check_fatal(address, &b"*1\r\n".repeat(100_000), &got('*'));
        for byte in ['%', '~', '>', '|'] {
            let mixed = format!("*1\r\n{byte}1\r\n").repeat(50_000);
            check_fatal(address, mixed.as_bytes(), &got(byte));
        }
    });
}

#[test]
fn absurd_lengths_are_refused_before_anything_is_allocated() {
    under_redis_attack(|address| {
        let multibulk = "-ERR Protocol error: invalid multibulk length\r\n";
        for count in [
            "2000000000",
            "4294967295",
            "1048577",
            "9223372036854775808",
            "+3",
            "03",
            "x",
        ] {
            check_fatal(address, format!("*{count}\r\n").as_bytes(), multibulk);
        }
        let bulk = "-ERR Protocol error: invalid bulk length\r\n";
        for size in [
            "9223372036854775807",
            "-2",
            "-1",
            "+3",
            "03",
            "536870913",
            "18446744073709551616",
        ] {
            check_fatal(
                address,
                format!("*2\r\n$3\r\nGET\r\n${size}\r\n").as_bytes(),
                bulk,
            );
        }
        check_fatal(
            address,
            format!("*{}\r\n", "1".repeat(70_000)).as_bytes(),
            "-ERR Protocol error: too big mbulk count string\r\n",
        );
        check_fatal(
            address,
            format!("*1\r\n${}\r\n", "1".repeat(70_000)).as_bytes(),
            "-ERR Protocol error: too big bulk count string\r\n",
        );
    });
}

#[test]
fn announced_maxima_cost_nothing_before_they_come() {
    under_redis_attack(|address| {
        let open: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream
                    .write_all(b"*1048576\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")
                    .unwrap();
                stream
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        drop(open);
    });
}

#[test]
fn half_a_request_changes_no_other_clients_request() {
    under_redis_attack(|address| {
        for half in [
            "*",
            "*2\r\n",
            "*9\r\n$3\r\nSET\r\n$5\r\nab",
            "*2\r\n$400\r\n",
            "GET ",
        ] {
            let mut other = Client::connect(address);
            assert_eq!(show(&other.call(&["PING"])), "+PONG\\r\\n");
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(half.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(show(&other.call(&["ECHO", "hello"])), "$5\\r\\nhello\\r\\n");
        }
    });
    under_memcached_attack(|address, _| {
        for half in ["g", "get some", "set k 0 0 10\r\nab", "mg "] {
            let mut other = Client::connect(address);
            assert_eq!(show(&other.ask("mn\r\n")), "MN\\r\\n");
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(half.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(show(&other.ask("mn\r\n")), "MN\\r\\n");
        }
    });
}

#[test]
fn lines_that_cannot_be_split_are_refused() {
    under_redis_attack(|address| {
        let unbalanced = "-ERR Protocol error: unbalanced quotes in request\r\n";
        for line in [
            "GET \"abc\r\n",
            "GET 'abc\r\n",
            "SET k \"a\"b\r\n",
            "\"\r\n",
            "GET \"x\\\r\n",
        ] {
            check_fatal(address, line.as_bytes(), unbalanced);
        }
        check_fatal(
            address,
            &b"a".repeat(70_000),
            "-ERR Protocol error: too big inline request\r\n",
        );
        let mut client = Client::connect(address);
        client.send(b"GET \"x\\x4\"\r\nPING\r\n");
        assert_eq!(show(&client.reply()), "$-1\\r\\n");
        assert_eq!(show(&client.reply()), "+PONG\\r\\n");
    });
}

#[test]
fn words_of_replies_are_unknown_commands() {
    under_redis_attack(|address| {
        let mut client = Client::connect(address);
        for line in [
            "%2147483648",
            "~1",
            ">1",
            "_",
            "$5",
            "+OK",
            "-ERR",
            ":1",
            "(1",
        ] {
            client.send(format!("{line}\r\n").as_bytes());
            let reply = client.reply();
            assert!(
                reply.starts_with(b"-ERR unknown command"),
                "{line}: {}",
                show(&reply)
            );
        }
        client.send(b"\r\n\r\n*0\r\n*-1\r\nPING\r\n");
        assert_eq!(show(&client.reply()), "+PONG\\r\\n");
    });
}

#[test]
fn http_is_closed_without_a_word_and_forwards_nothing() {
    under_redis_attack(|address| {
        let body = "SET smuggled 1\r\n";
        for head in [
            "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "Host: localhost\r\n",
            "post / \r\n",
        ] {
            check_fatal(address, format!("{head}{body}").as_bytes(), "");
        }
        // A GET request is a wrong command, and the header behind it ends it.
        let answer = provoke(
            address,
            format!("GET / HTTP/1.1\r\nHost: x\r\n\r\n{body}").as_bytes(),
        );
        assert!(
            answer.starts_with(b"-ERR wrong number of arguments"),
            "{}",
            show(&answer)
        );
        assert_eq!(
            answer.iter().filter(|byte| **byte == b'\n').count(),
            1,
            "{}",
            show(&answer)
        );
        assert_eq!(
            show(&Client::connect(address).call(&["EXISTS", "smuggled"])),
            ":0\\r\\n"
        );
    });
}

#[test]
fn a_tls_handshake_on_a_plain_port_is_closed() {
    under_redis_attack(|address| {
        let answer = provoke(address, CLIENT_HELLO);
        assert!(
            answer.is_empty() || answer.starts_with(b"-ERR "),
            "{}",
            show(&answer)
        );
    });
    under_memcached_attack(|address, _| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(CLIENT_HELLO).unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = until_closed(&mut stream);
        assert!(
            answer.is_empty() || answer.starts_with(b"ERROR"),
            "{}",
            show(&answer)
        );
    });
}

#[test]
fn before_auth_a_client_may_say_little() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let config = redis_config(&addresses(&servers), "", "");
    let config = config.replace(
        "route = \"main\"",
        "route = \"main\"\npassword = \"secret\"",
    );
    let mut proxy = one_worker(&config);
    let address = proxy.redis_address();
    check_fatal(
        address,
        b"*11\r\n",
        "-ERR Protocol error: unauthenticated multibulk length\r\n",
    );
    check_fatal(
        address,
        b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
        "-ERR Protocol error: unauthenticated bulk length\r\n",
    );
    let mut client = proxy.client();
    assert_eq!(
        show(&client.call(&["GET", "k"])),
        "-NOAUTH Authentication required.\\r\\n"
    );
    assert_eq!(
        client.call(&["GET", &"k".repeat(16_000)])[..8],
        *b"-NOAUTH "
    );
    assert!(client.call(&["AUTH", "wrong"]).starts_with(b"-WRONGPASS "));
    assert_eq!(
        show(&client.call(&["GET", "k"])),
        "-NOAUTH Authentication required.\\r\\n"
    );
    assert_eq!(show(&client.call(&["AUTH", "secret"])), "+OK\\r\\n");
    let value = "v".repeat(100_000);
    assert_eq!(show(&client.call(&["SET", "k", &value])), "+OK\\r\\n");
    proxy.assert_alive();
}

/// Send `bytes` and a request whose reply marks the end; what comes up to
/// there, to the end of the connection or to a long silence.
fn memcached_transcript(address: SocketAddr, bytes: &[u8]) -> String {
    use std::io::Read;
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.write_all(b"mn\r\n");
    let (mut all, mut more) = (Vec::new(), [0; 65536]);
    while !all.ends_with(b"MN\r\n") {
        match stream.read(&mut more) {
            Ok(0) => {
                all.extend_from_slice(b"(closed)");
                break;
            }
            Ok(count) => all.extend_from_slice(&more[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                all.extend_from_slice(b"(closed)");
                break;
            }
            Err(_) => {
                all.extend_from_slice(b"(silence)");
                break;
            }
        }
    }
    show(&all)
}

#[test]
fn broken_memcached_lines_are_answered_as_memcached_does() {
    let long = "k".repeat(251);
    let overlong = format!("get {}\r\n", [long.as_str(); 100].join(" "));
    let lines: &[&str] = &[
        "\n",
        "\r\n",
        "get\r\n",
        "get \r\n",
        "gets \r\n",
        &format!("get {long}\r\n"),
        &overlong,
        &format!("get a {long} b\r\n"),
        &format!("set {long} 0 0 1\r\nx\r\n"),
        &format!("delete {long}\r\n"),
        &format!("mg {long} v\r\n"),
        "set k 0 0 -1\r\n",
        "set k 0 0 -2147483648\r\n",
        "set k 0 0 99999999999999999999\r\n",
        "set k 0 0 4294967295\r\n",
        "set k 0 0 2147483647\r\n",
        "set k 0 0 2147483646\r\n",
        "set k 0 0 x\r\n",
        "set k x 0 1\r\n",
        "set k 0 0\r\n",
        "set k 0 0 3\r\nabcde\r\n",
        "incr k\r\n",
        "incr k -1\r\n",
        "incr k 99999999999999999999999\r\n",
        "touch k x\r\n",
        "gat 0\r\n",
        "ms k S-1\r\n",
        "ms k x\r\n",
        "mg\r\n",
        "nonsense\r\n",
    ];
    under_memcached_attack(|address, server| {
        for line in lines {
            let expected = memcached_transcript(server, line.as_bytes());
            let answer = memcached_transcript(address, line.as_bytes());
            assert_eq!(answer, expected, "after {}", show(line.as_bytes()));
        }
        // memcached counts modulo 2^32, and takes what follows for commands.
        let answer = memcached_transcript(address, b"set k 0 0 4294967296\r\n");
        assert_eq!(answer, "CLIENT_ERROR bad command line format\\r\\nMN\\r\\n");
    });
}

#[test]
fn the_binary_protocol_is_closed_cleanly() {
    under_memcached_attack(|address, _| {
        // A get; a negative body; extras longer than the body; a huge key.
        for head in [
            b"\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01",
            b"\x80\x01\x00\x01\x08\x00\x00\x00\xff\xff\xff\xff",
            b"\x80\x01\x00\x01\xff\x00\x00\x00\x00\x00\x00\x01",
            b"\x80\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01",
        ] {
            let mut packet = head.to_vec();
            packet.resize(64, 0);
            check_fatal(address, &packet, "");
        }
    });
}

#[test]
fn memcached_lines_without_end_are_cut() {
    under_memcached_attack(|address, _| {
        let answer = provoke(address, &b"x".repeat(100_000));
        assert!(
            answer.starts_with(b"CLIENT_ERROR ") || answer.starts_with(b"ERROR"),
            "{}",
            show(&answer)
        );
        let mut gets = b"get".to_vec();
        while gets.len() < 2 << 20 {
            gets.extend_from_slice(b" key");
        }
        let answer = provoke(address, &gets);
        assert!(answer.starts_with(b"CLIENT_ERROR "), "{}", show(&answer));
    });
}

#[test]
fn keys_cannot_smuggle_commands_to_a_memcached_server() {
    under_memcached_attack(|address, _| {
        let mut canary = Client::connect(address);
        assert_eq!(
            show(&canary.ask("set canary 0 0 1\r\n1\r\n")),
            "STORED\\r\\n"
        );
        // "a b", "a\r\nflush_all\r\n" and "a\0b" in base64.
        for key in ["YSBi", "YQ0KZmx1c2hfYWxsDQo=", "YQBi", "YQpi"] {
            let reply = canary.ask(format!("ms {key} 1 b\r\nx\r\n"));
            assert_eq!(show(&reply), "HD\\r\\n", "{key}");
            let reply = canary.ask(format!("mg {key} b v\r\n"));
            assert_eq!(show(&reply), "VA 1\\r\\nx\\r\\n", "{key}");
        }
        for line in [
            b"get a\0b\r\n".as_slice(),
            b"get a\x01b\r\n",
            b"set a\0 0 0 1\r\n",
            b"delete a\0flush_all\r\n",
            b"get a\rflush_all\r\n",
            b"mg a\x7fb v\r\n",
            b"mg not*base64 b v\r\n",
        ] {
            memcached_transcript(address, line);
        }
        assert_eq!(
            show(&canary.ask("get canary\r\n")),
            "VALUE canary 0 1\\r\\n1\\r\\nEND\\r\\n"
        );
    });
}

#[test]
fn a_refused_value_is_swallowed_and_never_read_as_commands() {
    under_memcached_attack(|address, _| {
        let mut client = Client::connect(address);
        assert_eq!(
            show(&client.ask("set canary 0 0 1\r\n1\r\n")),
            "STORED\\r\\n"
        );
        let mut attack = b"set k 0 0 3000000\r\n".to_vec();
        attack.extend_from_slice(&b"flush_all\r\n".repeat(300_000)[..3_000_000]);
        attack.extend_from_slice(b"\r\nget canary\r\n");
        client.send(&attack);
        assert_eq!(
            show(&client.memcached_reply()),
            "SERVER_ERROR object too large for cache\\r\\n"
        );
        assert_eq!(
            show(&client.memcached_reply()),
            "VALUE canary 0 1\\r\\n1\\r\\nEND\\r\\n"
        );
    });
}

#[test]
fn garbage_ends_in_an_error_or_a_close_and_never_in_silence() {
    let mut random = support::Random::new(7);
    let mut garbage = || {
        let len = random.within(1, 3000);
        let mut bytes = random.bytes(len);
        bytes.push(b'\n');
        bytes
    };
    let samples: Vec<Vec<u8>> = (0..300).map(|_| garbage()).collect();
    let attack = |address: SocketAddr| {
        for bytes in &samples {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            until_closed(&mut stream);
        }
    };
    under_redis_attack(attack);
    under_memcached_attack(|address, _| attack(address));
}
