//! Requests too large to be kept, when their server or their client goes away
//! while they pass.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{Emberline, Server, addresses, command, show};

#[test]
fn an_upload_whose_server_dies_is_an_error_and_keeps_its_client() {
    let Some(mut servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis_within(&addresses(&servers), "5s");
    let mut client = proxy.client();
    let value = vec![b'v'; 8 << 20];
    let key = (0..)
        .map(|number| format!("{number}:some-key"))
        .find(|key| {
            assert_eq!(client.call(&["SET", key, key]), b"+OK\r\n");
            servers[0].client().call(&["EXISTS", key]) == b":1\r\n"
        })
        .unwrap();
    let request = command(&[b"SET", key.as_bytes(), &value]);
    for half in [2 << 20, 7 << 20] {
        client.send(&request[..half]);
        std::thread::sleep(Duration::from_millis(30));
        servers[0].kill();
        // The rest of the value is no request, whatever it looks like.
        client.send(&request[half..]);
        client.send(&command(&["PING"]));
        let reply = client.reply();
        assert!(
            reply.starts_with(b"-ERR server 127.0.0.1:"),
            "{}",
            show(&reply)
        );
        assert_eq!(client.reply(), b"+PONG\r\n");
        servers[0].restart();
        let deadline = Instant::now() + Duration::from_secs(15);
        while client.call(&[b"SET", key.as_bytes(), &value]) != b"+OK\r\n" {
            assert!(Instant::now() < deadline, "the server is not used again");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(
            client.call(&["STRLEN", &key]),
            format!(":{}\r\n", value.len()).into_bytes()
        );
    }
    proxy.assert_alive();
}

#[test]
fn an_upload_whose_client_leaves_writes_nothing() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = Emberline::redis_within(&addresses(&servers), "5s");
    let value = vec![b'v'; 4 << 20];
    let request = command(&[b"SET", b"key".as_slice(), &value]);
    for end in [2 << 20, (4 << 20) - 100, request.len() - 1] {
        let mut client = proxy.client();
        client.send(&request[..end]);
        std::thread::sleep(Duration::from_millis(20));
        client.finish_quietly();
        let mut other = proxy.client();
        assert_eq!(other.call(&["GET", "key"]), b"$-1\r\n");
        // Neither do the next ones continue it.
        let other_value = vec![b'o'; 2 << 20];
        assert_eq!(
            other.call(&[b"SET", b"other".as_slice(), &other_value]),
            b"+OK\r\n"
        );
        assert_eq!(other.call(&["EXISTS", "key"]), b":0\r\n");
    }
    proxy.assert_alive();
}

#[test]
fn a_large_request_that_is_refused_says_nothing_to_a_muted_client() {
    // Nobody listens on that port: the first request finds out.
    let dead = SocketAddr::from(([127, 0, 0, 1], support::free_port()));
    let proxy = Emberline::redis_within(&[dead], "5s");
    let mut client = proxy.client();
    assert!(
        client
            .call(&["GET", "key"])
            .starts_with(b"-ERR server 127.0.0.1:")
    );
    let value = vec![b'v'; 3 << 20];
    client.send(&command(&["CLIENT", "REPLY", "SKIP"]));
    client.send(&command(&[b"SET", b"key".as_slice(), &value]));
    client.send(&command(&["PING"]));
    assert_eq!(show(&client.reply()), "+PONG\\r\\n");
    assert!(
        client
            .call(&[b"SET", b"key".as_slice(), &value])
            .starts_with(b"-ERR server")
    );
}
