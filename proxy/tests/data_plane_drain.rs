//! Coming up and going down: the first answer, the last one, and the sockets
//! between.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::drain_requests;
use support::{Client, Emberline, Scripted, Server, TempDir, assert_same, command, free_port};

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers every request `+late`, this long after it came.
fn slow(delay: Duration) -> Scripted {
    Scripted::start(move |mut stream, _| {
        drain_requests(&mut stream, |stream, _| {
            std::thread::sleep(delay);
            stream.write_all(b"+late\r\n").is_ok()
        });
    })
}

#[test]
fn a_first_answer_comes_soon_after_the_start() {
    let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let started = Instant::now();
    let args = ["--redis", "127.0.0.1:1", "--redis-bind", &bind.to_string()].map(str::to_owned);
    let mut proxy = Emberline::spawn(&args);
    let mut stream = loop {
        match TcpStream::connect(bind) {
            Ok(stream) => break stream,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
    };
    stream.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).unwrap();
    println!("from start to first answer: {:?}", started.elapsed());
    assert_eq!(&reply, b"+PONG\r\n");
    proxy.assert_alive();
}

#[test]
fn what_is_in_flight_is_answered_before_the_end() {
    let server = slow(Duration::from_millis(300));
    let mut proxy = Emberline::redis_at(&[server.address()]);
    let mut busy: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    let mut idle = proxy.client();
    assert_eq!(idle.call(&["PING"]), b"+PONG\r\n");
    for client in &mut busy {
        client.send(&command(&["GET", "key"]));
    }
    // The requests must have been read, or they are not in flight.
    while server.connections() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50));
    proxy.signal("TERM");
    assert_eq!(idle.rest(), b"");
    for client in &mut busy {
        assert_same(&client.rest(), b"+late\r\n");
    }
    let status = proxy.wait(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_pipeline_is_answered_to_its_end_before_the_end() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis(&servers);
    let mut client = proxy.client();
    const COUNT: usize = 3000;
    let pipeline: Vec<u8> = (0..COUNT)
        .flat_map(|number| command(&["SET", &format!("{number}:some-key"), "value"]))
        .collect();
    client.send(&pipeline);
    assert_eq!(client.reply(), b"+OK\r\n");
    proxy.signal("TERM");
    let rest = client.rest();
    // What had come is answered; what had not is not.
    assert!(rest.len().is_multiple_of(5) && rest.chunks(5).all(|reply| reply == b"+OK\r\n"));
    let answered = 1 + rest.len() / 5;
    let written: usize = servers
        .iter()
        .map(|server| String::from_utf8(server.client().call(&["DBSIZE"])).unwrap())
        .map(|reply| reply[1..].trim_end().parse::<usize>().unwrap())
        .sum();
    println!("{answered} of {COUNT} answered");
    assert_eq!(answered, written, "an answer was lost");
    assert_eq!(proxy.wait(PATIENCE).expect("it ends").code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = slow(Duration::from_secs(600));
    let mut proxy = Emberline::config(&format!(
        "[proxy]\ntimeout_drain = \"600s\"\n\
         [listeners.redis]\nprotocol = \"redis\"\nbind = \"REDIS_BIND\"\nroute = \"pool\"\n\
         [pools.pool]\nprotocol = \"redis\"\nservers = [\"{}\"]\nrequest_timeout = \"600s\"\n",
        server.address()
    ));
    let mut client = proxy.client();
    client.send(&command(&["GET", "key"]));
    assert!(client.is_silent(Duration::from_millis(100)));
    proxy.signal("TERM");
    assert!(
        proxy.wait(Duration::from_millis(300)).is_none(),
        "it does not wait for a reply"
    );
    proxy.signal("TERM");
    assert_eq!(proxy.wait(PATIENCE).expect("it ends").code(), Some(0));
}

#[test]
fn nobody_new_is_served_while_it_drains() {
    let server = slow(Duration::from_millis(700));
    let mut proxy = Emberline::redis_at(&[server.address()]);
    let address = proxy.redis_address();
    let mut client = proxy.client();
    client.send(&command(&["GET", "key"]));
    assert!(client.is_silent(Duration::from_millis(100)));
    proxy.signal("TERM");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_same(&client.rest(), b"+late\r\n");
    assert_eq!(proxy.wait(PATIENCE).expect("it ends").code(), Some(0));
}

#[test]
fn a_half_closed_client_gets_every_answer() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis(&servers);
    // As `printf ... | nc` does: write all, shut down, read to the end.
    for count in [1, 1024, 5000] {
        let mut client = proxy.client();
        let mut writer = client.writer();
        let pipeline: String = (0..count)
            .map(|number| {
                format!("SET {number}:half-closed {number}\r\nGET {number}:half-closed\r\n")
            })
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                writer.write_all(pipeline.as_bytes()).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let expected: String = (0..count)
                .map(|number: usize| number.to_string())
                .map(|number| format!("+OK\r\n${}\r\n{number}\r\n", number.len()))
                .collect();
            assert_same(&client.rest(), expected.as_bytes());
        });
    }
    proxy.assert_alive();
}

#[test]
fn a_unix_socket_serves_and_goes_away() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let dir = TempDir::new();
    let path = dir.path().join("emberline.sock");
    let addresses: Vec<String> = servers
        .iter()
        .map(|server| server.address().to_string())
        .collect();
    let bind = format!("unix:{}", path.display());
    let args = ["--redis", &addresses.join(","), "--redis-bind", &bind].map(str::to_owned);
    // Twice: the second start finds what a killed one has left behind.
    for signal in ["KILL", "TERM"] {
        let mut proxy = Emberline::spawn(&args);
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let count = 2000;
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..count {
                    writer
                        .write_all(&command(&[
                            "MSET",
                            &format!("{number}:a"),
                            "1",
                            &format!("{number}:b"),
                            "2",
                        ]))
                        .unwrap();
                }
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut replies = Vec::new();
            stream.read_to_end(&mut replies).unwrap();
            assert_same(&replies, &b"+OK\r\n".repeat(count));
        });
        proxy.signal(signal);
        let status = proxy.wait(PATIENCE).expect("it ends");
        assert_eq!(status.code(), if signal == "TERM" { Some(0) } else { None });
        assert_eq!(path.exists(), signal == "KILL");
    }
}
