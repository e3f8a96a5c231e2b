//! Clients that ask for much at once, read nothing, or dawdle: memory stays
//! bounded and whoever shares their worker and their servers goes on.

#![allow(clippy::unwrap_used)]

mod hostile_support;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hostile_support::{
    Bystander, addresses, assert_growth, memcached_proxy, redis_proxy, reset_peak, until_closed,
};
use support::{Client, Emberline, Server, command, setting, show};

/// How long others had to wait at the most, whatever somebody else did. It is
/// judged only when a bound is given: it says as much about the machine as
/// about the proxy. That they got their answers is always judged.
fn judge(worst: Duration) {
    println!("somebody else waited {worst:?}");
    let bound = Duration::from_millis(setting("EMBERLINE_TEST_LATENCY_MS", 0));
    assert!(bound.is_zero() || worst < bound, "that is too long");
}

/// How long a client goes on that never ends its request.
const DRIBBLE: Duration = Duration::from_secs(15);

fn redis(proxy: &str) -> Option<(Vec<Server>, Emberline)> {
    let servers = Server::redis_many(2)?;
    let proxy = redis_proxy(&addresses(&servers), proxy, "");
    Some((servers, proxy))
}

fn memcached(proxy: &str) -> Option<(Vec<Server>, Emberline)> {
    let servers = Server::memcached_many(2)?;
    let proxy = memcached_proxy(&addresses(&servers), proxy, "");
    Some((servers, proxy))
}

fn finish(mut proxy: Emberline, bystander: Bystander) {
    let worst = bystander.finish();
    judge(worst);
    proxy.assert_alive();
}

#[test]
fn ten_thousand_keys_in_one_mget_over_two_servers() {
    let Some((_servers, proxy)) = redis("") else {
        return;
    };
    let bystander = Bystander::redis(proxy.redis_address());
    let mut client = proxy.client();
    let keys: Vec<String> = (0..10_000).map(|number| format!("mget:{number}")).collect();
    let set = keys
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 3 != 0);
    let pairs = set.flat_map(|(number, key)| [key.clone(), format!("value {number}")]);
    let mset: Vec<String> = std::iter::once("MSET".to_owned()).chain(pairs).collect();
    assert_eq!(show(&client.call(&mset)), "+OK\\r\\n");
    let mget: Vec<String> = std::iter::once("MGET".to_owned()).chain(keys).collect();
    let mut expected = b"*10000\r\n".to_vec();
    for number in 0..10_000 {
        let value = format!("value {number}");
        let element = match number % 3 {
            0 => "$-1\r\n".to_owned(),
            _ => format!("${}\r\n{value}\r\n", value.len()),
        };
        expected.extend_from_slice(element.as_bytes());
    }
    for _ in 0..5 {
        let reply = client.call(&mget);
        assert!(reply == expected, "got {}", show(&reply));
    }
    let mut del = mget;
    del[0] = "DEL".to_owned();
    assert_eq!(show(&client.call(&del)), ":6666\\r\\n");
    finish(proxy, bystander);
}

#[test]
fn ten_thousand_keys_in_one_memcached_get() {
    let Some((_servers, proxy)) = memcached("") else {
        return;
    };
    let bystander = Bystander::memcached(proxy.memcached_address());
    let mut client = proxy.client();
    let (mut sets, mut get, mut expected) = (String::new(), "get".to_owned(), String::new());
    for number in 0..10_000 {
        get.push_str(&format!(" multi:{number}"));
        if number % 3 != 0 {
            let value = format!("value {number}");
            let block = format!("{}\r\n{value}\r\n", value.len());
            sets.push_str(&format!("set multi:{number} {number} 0 {block}"));
            expected.push_str(&format!("VALUE multi:{number} {number} {block}"));
        }
    }
    client.send(sets.as_bytes());
    for _ in 0..6666 {
        assert_eq!(show(&client.memcached_reply()), "STORED\\r\\n");
    }
    expected.push_str("END\r\n");
    get.push_str("\r\n");
    for _ in 0..5 {
        let reply = client.ask(&get);
        assert!(reply == expected.as_bytes(), "got {}", show(&reply));
    }
    finish(proxy, bystander);
}

#[test]
fn two_hundred_thousand_commands_in_one_pipeline_are_answered_in_order() {
    let Some((_servers, proxy)) = redis("") else {
        return;
    };
    let bystander = Bystander::redis(proxy.redis_address());
    let before = reset_peak(&proxy);
    let mut client = proxy.client();
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for number in 0..200_000u32 {
            let text = number.to_string();
            match number % 4 {
                0 => requests.extend(command(&["SET", &format!("k{}", number % 1000), &text])),
                1 => requests.extend(command(&[
                    "GETRANGE",
                    &format!("k{}", (number - 1) % 1000),
                    "0",
                    "-1",
                ])),
                2 => requests.extend(command(&["ECHO", &text])),
                _ => requests.extend(command(&["PING", &text])),
            }
        }
        writer.write_all(&requests).unwrap();
    });
    for number in 0..200_000u32 {
        let value = if number % 4 == 1 { number - 1 } else { number }.to_string();
        let expected = match number % 4 {
            0 => "+OK\\r\\n".to_owned(),
            _ => format!("${}\\r\\n{value}\\r\\n", value.len()),
        };
        assert_eq!(show(&client.reply()), expected, "reply {number}");
    }
    sender.join().unwrap();
    assert_growth(&proxy, before, 16);
    finish(proxy, bystander);
}

/// Write `request` again and again until the other end takes no more for a
/// while, or has taken enough.
fn stuff(address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_write_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    let requests = request.repeat((256 * 1024 / request.len()).max(1));
    for _ in 0..32 {
        if stream.write_all(&requests).is_err() {
            break;
        }
    }
    stream
}

#[test]
fn clients_that_pipeline_and_never_read_hold_little() {
    let Some((_servers, proxy)) = redis("") else {
        return;
    };
    let mut client = proxy.client();
    for (key, len) in [("small", 10), ("middle", 10_000), ("large", 500_000)] {
        assert_eq!(
            show(&client.call(&["SET", key, &"x".repeat(len)])),
            "+OK\\r\\n"
        );
    }
    let bystander = Bystander::redis(proxy.redis_address());
    let before = reset_peak(&proxy);
    let requests = [
        command(&["PING"]),
        command(&["GET", "small"]),
        command(&["GET", "middle"]),
        command(&["GET", "large"]),
        command(&["MGET", "small", "middle", "large"]),
        command(&["COMMAND"]),
        b"nonsense\r\n".to_vec(),
    ];
    let address = proxy.redis_address();
    let attackers: Vec<_> = requests
        .into_iter()
        .map(|request| std::thread::spawn(move || stuff(address, &request)))
        .collect();
    let streams: Vec<TcpStream> = attackers
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    // Seven clients: queues of a few MiB each are what the design allows.
    // Who holds others up is cut off.
    bystander.goes_on();
    assert_growth(&proxy, before, 96);
    drop(streams);
    finish(proxy, bystander);
}

#[test]
fn memcached_clients_that_never_read_hold_little() {
    let Some((_servers, proxy)) = memcached("") else {
        return;
    };
    let mut client = proxy.client();
    for (key, len) in [("small", 10), ("large", 500_000)] {
        let set = format!("set {key} 0 0 {len}\r\n{}\r\n", "x".repeat(len));
        assert_eq!(show(&client.ask(set)), "STORED\\r\\n");
    }
    let bystander = Bystander::memcached(proxy.memcached_address());
    let before = reset_peak(&proxy);
    let requests = [
        "version\r\n",
        "get small\r\n",
        "get large\r\n",
        "mg large v\r\n",
        "mg large v q\r\n",
        "get small large k1 k2\r\n",
        "x\r\n",
    ];
    let address = proxy.memcached_address();
    let attackers: Vec<_> = requests
        .into_iter()
        .map(|request| std::thread::spawn(move || stuff(address, request.as_bytes())))
        .collect();
    let streams: Vec<TcpStream> = attackers
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    // Nor does what waits for them take the room of others.
    bystander.goes_on();
    assert_growth(&proxy, before, 96);
    drop(streams);
    finish(proxy, bystander);
}

/// What waits for a client is in flight no longer, as far as others go: on either
/// worker there is room for them.
#[test]
fn who_does_not_read_takes_nobodys_room() {
    let Some(server) = Server::redis() else {
        return;
    };
    let room = "inflight_max = 16\nqueue_timeout = \"5s\"";
    let proxy = redis_proxy(&[server.address()], "", room);
    let address = proxy.redis_address();
    let mut client = proxy.client();
    let large = "x".repeat(3_000_000);
    assert_eq!(client.call(&["SET", "large", &large]), b"+OK\r\n");
    let greedy: Vec<TcpStream> = (0..12)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            let gets = command(&["GET", "large"]).repeat(16);
            stream.write_all(&gets).unwrap();
            stream
        })
        .collect();
    // Until so much lies in front of them that it waits.
    std::thread::sleep(Duration::from_millis(500));
    for number in 0..8 {
        let mut client = Client::connect(address);
        for _ in 0..20 {
            let reply = client.call(&["GET", "none"]);
            assert_eq!(show(&reply), "$-1\\r\\n", "client {number}");
        }
    }
    drop(greedy);
}

#[test]
fn a_head_that_never_ends_is_cut_off_and_a_slow_value_is_not() {
    let Some((_servers, proxy)) = redis("timeout_head = \"500ms\"") else {
        return;
    };
    let address = proxy.redis_address();
    let bystander = Bystander::redis(address);
    let idle = TcpStream::connect(address).unwrap();
    let halves: Vec<_> = ["*", "*2\r\n", "*2\r\n$3\r\nGET\r\n$", "GET ", "*1\r\n$4"]
        .into_iter()
        .map(|half| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            stream.write_all(half.as_bytes()).unwrap();
            std::thread::spawn(move || {
                let begun = Instant::now();
                // A byte now and then makes no head whole.
                let mut writer = stream.try_clone().unwrap();
                let dribble = std::thread::spawn(move || {
                    while begun.elapsed() < DRIBBLE && writer.write_all(b"1").is_ok() {
                        std::thread::sleep(Duration::from_millis(200));
                    }
                });
                let answer = until_closed(&mut stream);
                let lasted = begun.elapsed();
                let _ = stream.shutdown(std::net::Shutdown::Both);
                dribble.join().unwrap();
                (half, answer, lasted)
            })
        })
        .collect();
    // A value may take its time as long as it comes.
    let mut client = Client::connect(address);
    client.send(b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$20\r\n");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        client.send(b"x");
    }
    client.send(b"\r\n");
    assert_eq!(show(&client.reply()), "+OK\\r\\n");
    for half in halves {
        let (half, answer, lasted) = half.join().unwrap();
        assert!(
            answer.is_empty() || answer.starts_with(b"-ERR Protocol error"),
            "{half:?}: {}",
            show(&answer)
        );
        assert!(lasted < DRIBBLE, "{half:?} was not cut off");
    }
    // Whoever has begun nothing may stay.
    let mut idle = idle;
    idle.write_all(b"PING\r\n").unwrap();
    idle.read_exact(&mut [0; 7]).unwrap();
    finish(proxy, bystander);
}

#[test]
fn a_slow_memcached_value_is_not_cut_off_and_a_slow_line_is() {
    let Some((_servers, proxy)) = memcached("timeout_head = \"500ms\"") else {
        return;
    };
    let address = proxy.memcached_address();
    let bystander = Bystander::memcached(address);
    let mut slow = TcpStream::connect(address).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    slow.write_all(b"get some").unwrap();
    let mut client = Client::connect(address);
    client.send(b"set slow 0 0 20\r\n");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        client.send(b"x");
    }
    client.send(b"\r\n");
    assert_eq!(show(&client.memcached_reply()), "STORED\\r\\n");
    assert_eq!(show(&until_closed(&mut slow)), "");
    finish(proxy, bystander);
}

#[test]
fn waiting_for_a_slow_server_is_not_held_against_the_client() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let pool = "request_timeout = \"5s\"";
    let proxy = redis_proxy(&addresses(&servers), "timeout_head = \"300ms\"", pool);
    let mut client = proxy.client();
    assert_eq!(show(&client.call(&["SET", "k", "v"])), "+OK\\r\\n");
    // Requests enough to have to wait, and a part of another behind them.
    servers[0].freeze();
    let many = command(&["GET", "k"]).repeat(3000);
    client.send(&many);
    client.send(b"*2\r\n$3\r\nGET\r\n");
    std::thread::sleep(Duration::from_secs(2));
    servers[0].thaw();
    client.send(b"$1\r\nk\r\n");
    for number in 0..3001 {
        assert_eq!(show(&client.reply()), "$1\\r\\nv\\r\\n", "reply {number}");
    }
}

#[test]
fn a_slow_reader_alone_gets_its_large_value_and_what_it_asked_for_behind() {
    let Some((_servers, mut proxy)) = redis("") else {
        return;
    };
    const LEN: usize = 64 * 1024 * 1024;
    let mut client = proxy.client();
    let set = [b"SET".as_slice(), b"large", &vec![b'x'; LEN]];
    assert_eq!(show(&client.call(&set)), "+OK\\r\\n");
    let before = reset_peak(&proxy);
    let mut reader = TcpStream::connect(proxy.redis_address()).unwrap();
    reader.write_all(&command(&["GET", "large"])).unwrap();
    reader.write_all(&command(&["ECHO", "behind"])).unwrap();
    reader.write_all(&command(&["STRLEN", "large"])).unwrap();
    let (mut taken, mut buffer) = (0, vec![0; 512 * 1024]);
    // Slower than any timeout: a second and a half without a byte, three times.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1500));
        for _ in 0..8 {
            taken += reader.read(&mut buffer).unwrap();
        }
    }
    let end = "\r\n$6\r\nbehind\r\n:67108864\r\n";
    let expected = format!("${LEN}\r\n").len() + LEN + end.len();
    reader
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut last = Vec::new();
    while taken < expected {
        match reader.read(&mut buffer).unwrap() {
            0 => panic!("cut off after {taken} of {expected} bytes"),
            count => {
                taken += count;
                last.extend_from_slice(&buffer[..count]);
                last.drain(..last.len().saturating_sub(end.len()));
            }
        }
    }
    assert_eq!(show(&last), show(end.as_bytes()));
    assert_growth(&proxy, before, 32);
    proxy.assert_alive();
}

#[test]
fn a_slow_reader_of_a_large_value_holds_nobody_up() {
    let Some((_servers, mut proxy)) = redis("") else {
        return;
    };
    const LEN: usize = 64 * 1024 * 1024;
    let mut client = proxy.client();
    let set = [b"SET".as_slice(), b"large", &vec![b'x'; LEN]];
    assert_eq!(show(&client.call(&set)), "+OK\\r\\n");
    let address = proxy.redis_address();
    let bystanders: Vec<Bystander> = (0..4).map(|_| Bystander::redis(address)).collect();
    let before = reset_peak(&proxy);
    for _ in 0..3 {
        let mut reader = TcpStream::connect(address).unwrap();
        reader.write_all(&command(&["GET", "large"])).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..10 {
            // It may be cut off for the sake of whoever waits behind it.
            let count = reader.read(&mut buffer).unwrap_or(0);
            assert!(
                buffer[..count]
                    .iter()
                    .all(|byte| b"$67108864\r\nx".contains(byte))
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert_growth(&proxy, before, 48);
    for bystander in bystanders {
        let worst = bystander.finish();
        judge(worst);
    }
    proxy.assert_alive();
}

#[test]
fn readers_that_stop_within_a_value_hold_little_and_nobody_up() {
    let Some((_servers, proxy)) = redis("") else {
        return;
    };
    let mut client = proxy.client();
    let set = [b"SET".as_slice(), b"large", &vec![b'x'; 8 << 20]];
    assert_eq!(show(&client.call(&set)), "+OK\\r\\n");
    let before = reset_peak(&proxy);
    let bystander = Bystander::redis(proxy.redis_address());
    let readers: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut reader = TcpStream::connect(proxy.redis_address()).unwrap();
            reader.write_all(&command(&["GET", "large"])).unwrap();
            reader
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    assert_growth(&proxy, before, 48);
    drop(readers);
    finish(proxy, bystander);
}
