//! What the process as a whole allows: memory for requests and replies in
//! transit, clients, descriptors.

#![allow(clippy::unwrap_used)]

mod hostile_support;
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hostile_support::{
    Bystander, addresses, assert_growth, eventually, memcached_proxy, redis_proxy, reset_peak,
    until_closed,
};
use support::{Client, Emberline, Server, command, show};

const MIB: usize = 1024 * 1024;

fn connect(proxy: &Emberline) -> TcpStream {
    let address = proxy.client_address();
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    stream
}

/// Write as much as the other end takes.
fn pour(stream: &mut TcpStream, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Whoever shares the proxy is answered right, or told that memory is short,
/// until `deadline`; afterwards it is answered right.
fn assert_recovers(proxy: &Emberline, patience: Duration) {
    let deadline = Instant::now() + patience;
    loop {
        let mut client = proxy.client();
        let reply = client.call(&["SET", "after", "all"]);
        if reply == b"+OK\r\n" {
            break;
        }
        assert_eq!(show(&reply[..4]), "-ERR", "{}", show(&reply));
        assert!(Instant::now() < deadline, "still {}", show(&reply));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn unfinished_requests_that_must_be_kept_are_refused_beyond_the_budget() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "memory_max = \"32MiB\"", "");
    let before = reset_peak(&proxy);
    let bystander = Bystander::redis(proxy.redis_address());
    // Each a part of an MSET over two servers, which must be seen whole.
    let mut refused = 0;
    let block = vec![b'x'; 6 * MIB];
    let mut attackers: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect(&proxy);
            pour(&mut stream, b"*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$8388608\r\n");
            pour(&mut stream, &block);
            stream
        })
        .collect();
    for stream in &mut attackers {
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let mut answer = [0; 100];
        if let Ok(count) = stream.read(&mut answer) {
            assert!(
                answer[..count].starts_with(b"-ERR "),
                "{}",
                show(&answer[..count])
            );
            refused += 1;
        }
    }
    assert!(refused >= 14, "{refused} refused");
    assert_growth(&proxy, before, 80);
    drop(attackers);
    bystander.finish();
    assert_recovers(&proxy, Duration::from_secs(5));
    proxy.assert_alive();
}

#[test]
fn many_small_unfinished_requests_are_refused_beyond_the_budget() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "memory_max = \"16MiB\"", "");
    let before = reset_peak(&proxy);
    // Each below the size that is passed through at once.
    let block = vec![b'x'; 700 * 1024];
    let attackers: Vec<TcpStream> = (0..120)
        .map(|_| {
            let mut stream = connect(&proxy);
            pour(&mut stream, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n");
            pour(&mut stream, &block);
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    assert_growth(&proxy, before, 64);
    drop(attackers);
    assert_recovers(&proxy, Duration::from_secs(5));
    proxy.assert_alive();
}

#[test]
fn lines_without_end_are_cut_beyond_the_budget() {
    let Some(servers) = Server::memcached_many(1) else {
        return;
    };
    let mut proxy = memcached_proxy(&addresses(&servers), "memory_max = \"16MiB\"", "");
    let before = reset_peak(&proxy);
    let line = [b"get".as_slice(), &b" somekey".repeat(100_000)].concat();
    let attackers: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(&proxy);
            pour(&mut stream, &line);
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    assert_growth(&proxy, before, 64);
    drop(attackers);
    eventually("memory stays short", || {
        proxy.client().ask("set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    });
    proxy.assert_alive();
}

#[test]
fn clients_that_read_nothing_share_one_budget() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let limits = "memory_max = \"32MiB\"\ntimeout_head = \"1s\"";
    let mut proxy = redis_proxy(&addresses(&servers), limits, "");
    let mut client = proxy.client();
    let value = "x".repeat(100_000);
    assert_eq!(show(&client.call(&["SET", "value", &value])), "+OK\\r\\n");
    let before = reset_peak(&proxy);
    let attackers: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(&proxy);
            pour(&mut stream, &command(&["GET", "value"]).repeat(300));
            stream
        })
        .collect();
    // They hold on; the one who reads is served again nevertheless.
    assert_recovers(&proxy, Duration::from_secs(10));
    assert_growth(&proxy, before, 160);
    drop(attackers);
    assert_recovers(&proxy, Duration::from_secs(5));
    proxy.assert_alive();
}

#[test]
fn requests_to_a_stopped_server_do_not_pile_up() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "request_timeout = \"3s\"");
    let mut client = proxy.client();
    assert_eq!(show(&client.call(&["SET", "k", "v"])), "+OK\\r\\n");
    let before = reset_peak(&proxy);
    servers[0].freeze();
    let value = vec![b'x'; 500_000];
    let set = command(&[b"SET".as_slice(), b"k", &value]);
    let attackers: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect(&proxy);
            let sets = set.repeat(20);
            std::thread::spawn(move || {
                pour(&mut stream, &sets);
                stream
            })
        })
        .collect();
    let attackers: Vec<TcpStream> = attackers
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_growth(&proxy, before, 48);
    servers[0].thaw();
    drop(attackers);
    assert_recovers(&proxy, Duration::from_secs(10));
    proxy.assert_alive();
}

#[test]
fn one_client_too_many_is_told_so() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "clients_max = 5", "");
    // The harness' own probe may just be leaving.
    eventually("not all seats are free", || {
        let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
        clients.iter_mut().all(|client| {
            client.send(&command(&["PING"]));
            client.try_reply() == Ok(b"+PONG\r\n".to_vec())
        })
    });
    eventually("the sixth is not refused", || {
        let mut clients: Vec<Client> = (0..5).map(|_| proxy.client()).collect();
        let seated = clients.iter_mut().all(|client| {
            client.send(&command(&["PING"]));
            client.try_reply() == Ok(b"+PONG\r\n".to_vec())
        });
        if !seated {
            return false;
        }
        let mut sixth = connect(&proxy);
        let answer = until_closed(&mut sixth);
        answer == b"-ERR max number of clients reached\r\n"
    });
    eventually("no seat becomes free again", || {
        let mut client = proxy.client();
        let _ = client.writer().write_all(&command(&["PING"]));
        client.try_reply() == Ok(b"+PONG\r\n".to_vec())
    });
    proxy.assert_alive();
}

#[test]
fn connecting_and_leaving_leaks_nothing() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let mut client = proxy.client();
    for number in 0..100 {
        assert_eq!(
            show(&client.call(&["SET", &format!("k{number}"), "v"])),
            "+OK\\r\\n"
        );
    }
    let visit = |number: usize| {
        let mut stream = TcpStream::connect(proxy.redis_address()).unwrap();
        match number % 5 {
            0 => {}
            1 => stream.write_all(b"*2\r\n$3\r\nGET\r\n$").unwrap(),
            2 => stream
                .write_all(&command(&["GET", &format!("k{}", number % 100)]))
                .unwrap(),
            3 => {
                stream.write_all(&command(&["GET", "k1"])).unwrap();
                stream.read_exact(&mut [0; 7]).unwrap();
            }
            _ => {
                stream.write_all(b"*1\r\nx\r\n").unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                until_closed(&mut stream);
            }
        }
    };
    (0..500).for_each(visit);
    eventually("descriptors of those who left stay open", || {
        proxy.descriptors() < 40
    });
    let (open, before) = (proxy.descriptors(), reset_peak(&proxy));
    (0..2000).for_each(visit);
    eventually("descriptors of those who left stay open", || {
        proxy.descriptors() <= open
    });
    assert_growth(&proxy, before, 8);
    assert_eq!(show(&client.call(&["GET", "k1"])), "$1\\r\\nv\\r\\n");
    proxy.assert_alive();
}

#[test]
fn a_burst_of_busy_clients_gives_its_memory_back() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let mut proxy = redis_proxy(&addresses(&servers), "", "");
    let burst = command(&["ECHO", &"x".repeat(1000)]).repeat(200);
    let round = || {
        let mut clients: Vec<TcpStream> = (0..300).map(|_| connect(&proxy)).collect();
        for client in &mut clients {
            client.write_all(&burst).unwrap();
        }
        for client in &mut clients {
            let mut replies = vec![0; 200 * 1009];
            client.read_exact(&mut replies).unwrap();
        }
        clients
    };
    drop(round());
    let clients = round();
    std::thread::sleep(Duration::from_millis(300));
    let busy = proxy.memory();
    drop(clients);
    assert!(
        busy < 96 * MIB as u64,
        "{} KiB with 300 idle clients",
        busy / 1024
    );
    proxy.assert_alive();
}
