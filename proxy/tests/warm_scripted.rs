//! `emberline warm` between servers that do what real ones do not on demand:
//! end connections at the wrong moment, answer late, and count.

#![allow(clippy::unwrap_used)]

mod support;
mod warm_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use emberline_protocol::redis::encode;
use serde_json::Value;
use support::{Scripted, TempDir, drain_requests};
use warm_support::{Running, checkpoint, emberline, said, summary, until};

/// What a scripted server says to a request; `None`: it ends the connection.
type Say = Option<Vec<u8>>;

/// The arguments of a request.
type Args = Vec<Vec<u8>>;

/// Two pools, the new one of one server.
struct Pair {
    dir: TempDir,
}

impl Pair {
    fn new(old: SocketAddr, new: SocketAddr) -> Pair {
        Pair::of(&[old], new)
    }

    /// The old servers have names, so that the ring is the same in every run.
    fn of(old: &[SocketAddr], new: SocketAddr) -> Pair {
        let pair = Pair {
            dir: TempDir::new(),
        };
        let pool = |name: &str, servers: &[SocketAddr]| {
            let servers = servers.iter().enumerate();
            let servers: Vec<String> = servers
                .map(|(i, at)| format!("{{ address = \"{at}\", name = \"s{i}\" }}"))
                .collect();
            let servers = servers.join(", ");
            format!("[pools.{name}]\nprotocol = \"redis\"\nservers = [{servers}]\n")
        };
        let text = format!(
            "[listeners.main]\nprotocol = \"redis\"\nbind = \"127.0.0.1:1\"\nroute = \"old\"\n{}{}",
            pool("old", old),
            pool("new", &[new])
        );
        std::fs::write(pair.path("emberline.toml"), text).unwrap();
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn warm(&self, args: &[&str]) -> Output {
        let config = self.path("emberline.toml");
        let mut command = emberline(&["warm", "-c", config.to_str().unwrap(), "--json"]);
        command.args(["--from", "old", "--to", "new"]);
        command.args(args).output().unwrap()
    }

    fn start(&self, args: &[&str]) -> Running {
        let config = self.path("emberline.toml");
        let mut command = emberline(&["warm", "-c", config.to_str().unwrap(), "--json"]);
        command.args(["--from", "old", "--to", "new"]).args(args);
        Running::start(command)
    }

    /// With a checkpoint that says how far the source was; how far it is then.
    fn warm_from(&self, instance: &str, cursor: u64) -> (Output, Value) {
        let path = self.path("state.json");
        let file = path.to_str().unwrap();
        let mut state = checkpoint(&path).unwrap_or_else(|| {
            self.warm(&["--checkpoint", file]);
            checkpoint(&path).unwrap()
        });
        for server in state["servers"].as_object_mut().unwrap().values_mut() {
            server["instance"] = instance.into();
            server["cursor"] = cursor.into();
            server["done"] = false.into();
        }
        std::fs::write(&path, state.to_string()).unwrap();
        let output = self.warm(&["--checkpoint", file, "--retry-for", "30s"]);
        let state = checkpoint(&path).unwrap();
        let mut servers = state["servers"].as_object().unwrap().values();
        (output, servers.next().unwrap().clone())
    }
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

fn info(run_id: &str) -> Say {
    Some(bulk(&format!("# Server\r\nrun_id:{run_id}\r\n")))
}

fn page(next: u64, keys: &[&str]) -> Say {
    let mut out = b"*2\r\n".to_vec();
    out.extend(bulk(&next.to_string()));
    encode::command(&mut out, keys.iter().map(|key| key.as_bytes()));
    Some(out)
}

/// Starts a server from what it says to requests; it is told which connection
/// asks.
fn server(say: impl Fn(&[Vec<u8>], usize) -> Say + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |mut stream: TcpStream, connection| {
        drain_requests(&mut stream, |stream, args| {
            let said = say(args, connection);
            said.is_some_and(|said| stream.write_all(&said).is_ok())
        });
    })
}

/// A target that takes everything and keeps what it was told.
fn target() -> (Scripted, Arc<Mutex<Vec<Args>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let server = server(move |args, _| match &args[0][..] {
        b"RESTORE" => {
            telling.lock().unwrap().push(args.to_vec());
            Some(b"+OK\r\n".to_vec())
        }
        _ => info("target"),
    });
    (server, told)
}

/// An hour of waiting would otherwise cost every key an hour of its life.
#[test]
fn an_outage_takes_nothing_off_a_time_to_live() {
    let outage: Mutex<Option<Instant>> = Mutex::default();
    let source = server(move |args, _| match &args[0][..] {
        b"INFO" => info("source"),
        b"DBSIZE" => Some(b":1\r\n".to_vec()),
        b"SCAN" => page(0, &["key"]),
        b"DUMP" => Some(bulk("value")),
        b"PTTL" => {
            let mut outage = outage.lock().unwrap();
            let since = *outage.get_or_insert_with(Instant::now);
            let up = since.elapsed() > Duration::from_millis(2500);
            up.then(|| b":2000\r\n".to_vec())
        }
        _ => Some(b"+PONG\r\n".to_vec()),
    });
    let (target, told) = target();
    let output = Pair::new(source.address(), target.address()).warm(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary(&output)["copied"], 1, "{}", said(&output));
    assert_eq!(told.lock().unwrap().len(), 1);
}

/// A source whose answers to `INFO` and `SCAN` are as told, from the second run
/// on; the first finds nothing.
fn told_source(
    say: impl Fn(&str, &[Vec<u8>]) -> Say + Send + Sync + 'static,
) -> (Scripted, Arc<Mutex<Vec<String>>>) {
    let (asked, first) = (Arc::new(Mutex::new(Vec::new())), AtomicBool::new(true));
    let asking = Arc::clone(&asked);
    let server = server(move |args, _| match &args[0][..] {
        b"INFO" if first.load(Ordering::Relaxed) => info("first"),
        b"SCAN" if first.swap(false, Ordering::Relaxed) => page(0, &[]),
        b"INFO" => say("INFO", args),
        b"SCAN" => {
            let cursor = String::from_utf8_lossy(&args[1]).into_owned();
            asking.lock().unwrap().push(cursor);
            say("SCAN", args)
        }
        b"DUMP" => Some(bulk("value")),
        b"PTTL" => Some(b":-1\r\n".to_vec()),
        b"DBSIZE" => Some(b":1\r\n".to_vec()),
        _ => Some(b"+PONG\r\n".to_vec()),
    });
    (server, asked)
}

/// Between learning that the server is another one and its first page, the
/// connection is lost: the old cursor must not be written beside the new name.
#[test]
fn a_cursor_is_never_another_servers() {
    let (source, asked) = told_source(|command, _| match command {
        "INFO" => info("new"),
        _ => Some(b"-ERR no such luck\r\n".to_vec()),
    });
    let (target, _) = target();
    let pair = Pair::new(source.address(), target.address());
    let (output, state) = pair.warm_from("old", 100);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(*asked.lock().unwrap(), ["0"]);
    assert_eq!(
        (&state["instance"], &state["cursor"]),
        (&"new".into(), &0.into())
    );
}

#[test]
fn a_page_of_another_server_begins_anew_also_at_the_second_attempt() {
    let scans = AtomicUsize::new(0);
    let (source, asked) = told_source(move |command, _| match command {
        "INFO" => info("new"),
        _ => match scans.fetch_add(1, Ordering::Relaxed) {
            0 => None,
            1 => page(7, &["key"]),
            _ => Some(b"-ERR no such luck\r\n".to_vec()),
        },
    });
    let (target, told) = target();
    let pair = Pair::new(source.address(), target.address());
    let (_, state) = pair.warm_from("old", 100);
    assert_eq!(*asked.lock().unwrap(), ["0", "0", "7"]);
    assert_eq!(told.lock().unwrap().len(), 1);
    assert_eq!(
        (&state["instance"], &state["cursor"]),
        (&"new".into(), &7.into())
    );
}

/// A script that runs, a replica without its master, a server that loads: all
/// of them end, and none of them is another server.
#[test]
fn a_busy_source_is_waited_for_and_goes_on_where_it_was() {
    let (infos, scans) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (source, asked) = told_source(move |command, _| match command {
        "INFO" => match infos.fetch_add(1, Ordering::Relaxed) {
            0 => Some(b"-LOADING it is not there yet\r\n".to_vec()),
            1 => Some(b"-BUSY a script runs\r\n".to_vec()),
            _ => info("same"),
        },
        _ => match scans.fetch_add(1, Ordering::Relaxed) {
            0 => Some(b"-BUSY a script runs\r\n".to_vec()),
            1 => Some(b"-MASTERDOWN no link\r\n".to_vec()),
            _ => page(0, &["key"]),
        },
    });
    let (target, told) = target();
    let pair = Pair::new(source.address(), target.address());
    let (output, state) = pair.warm_from("same", 100);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(*asked.lock().unwrap(), ["100", "100", "100"]);
    assert_eq!(told.lock().unwrap().len(), 1);
    assert_eq!(state["done"], true);
}

/// Without the right to `INFO` nobody knows whether it is the same server.
#[test]
fn a_source_that_may_not_say_who_it_is_begins_anew() {
    let (source, asked) = told_source(|command, _| match command {
        "INFO" => Some(b"-NOPERM no\r\n".to_vec()),
        _ => page(0, &["key"]),
    });
    let (target, told) = target();
    let pair = Pair::new(source.address(), target.address());
    let (output, _) = pair.warm_from("same", 100);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(*asked.lock().unwrap(), ["0"]);
    assert_eq!(told.lock().unwrap().len(), 1);
}

/// A source with so many keys, of so many bytes each, that counts.
struct Counting {
    server: Scripted,
    /// How many keys were asked for at a time.
    batches: Arc<Mutex<Vec<usize>>>,
    /// How many keys were to be walked over at a time.
    pages: Arc<Mutex<Vec<usize>>>,
    pings: Arc<AtomicUsize>,
}

impl Counting {
    fn start(keys: usize, bytes: usize) -> Counting {
        Counting::slow(keys, bytes, Duration::ZERO, 0)
    }

    /// Each `PING` takes `ping`, and the first page waits for `pings` of them.
    fn slow(keys: usize, bytes: usize, ping: Duration, first: usize) -> Counting {
        let batches: Arc<Mutex<Vec<usize>>> = Arc::default();
        let pages: Arc<Mutex<Vec<usize>>> = Arc::default();
        let pings = Arc::new(AtomicUsize::new(0));
        let counts = (Arc::clone(&batches), Arc::clone(&pages), Arc::clone(&pings));
        let server = Scripted::start(move |mut stream, _| {
            let (batches, pages, pings) = &counts;
            while let Some(requests) = a_batch(&mut stream) {
                let dumps = requests.iter().filter(|args| args[0] == b"DUMP").count();
                if dumps > 0 {
                    batches.lock().unwrap().push(dumps);
                }
                for args in requests {
                    let reply = match &args[0][..] {
                        b"PING" => {
                            std::thread::sleep(ping);
                            pings.fetch_add(1, Ordering::Relaxed);
                            b"+PONG\r\n".to_vec()
                        }
                        b"SCAN" => {
                            while pings.load(Ordering::Relaxed) < first {
                                std::thread::sleep(Duration::from_millis(1));
                            }
                            let number = |at: usize| String::from_utf8_lossy(&args[at]).parse();
                            let (cursor, count): (usize, usize) =
                                (number(1).unwrap(), number(3).unwrap());
                            pages.lock().unwrap().push(count);
                            let end = (cursor + count).min(keys);
                            let names: Vec<String> =
                                (cursor..end).map(|i| format!("key:{i}")).collect();
                            let names: Vec<&str> = names.iter().map(String::as_str).collect();
                            let next = if end == keys { 0 } else { end as u64 };
                            page(next, &names).unwrap()
                        }
                        b"DUMP" => bulk(&"v".repeat(bytes)),
                        b"PTTL" => b":-1\r\n".to_vec(),
                        b"DBSIZE" => format!(":{keys}\r\n").into_bytes(),
                        _ => info("counting").unwrap(),
                    };
                    if stream.write_all(&reply).is_err() {
                        return;
                    }
                }
            }
        });
        Counting {
            server,
            batches,
            pages,
            pings,
        }
    }
}

/// Requests that were written at once: whoever asks for values waits for the
/// answers before it asks on.
fn a_batch(stream: &mut TcpStream) -> Option<Vec<Args>> {
    let (mut buffer, mut more) = (Vec::new(), [0; 65536]);
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    loop {
        match stream.read(&mut more) {
            Ok(0) => return None,
            Ok(count) => buffer.extend_from_slice(&more[..count]),
            Err(_) if buffer.is_empty() => return None,
            Err(_) => return Some(requests(&buffer)),
        }
        // A lone question is answered at once.
        if !buffer.windows(4).any(|word| word == b"PTTL") {
            return Some(requests(&buffer));
        }
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
    }
}

fn requests(mut bytes: &[u8]) -> Vec<Args> {
    use emberline_protocol::redis::{Limits, Parser, Step};
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    while let Ok(Step::Frame { len, .. }) = parser.parse(bytes, &Limits::default()) {
        found.push(parser.args(bytes).map(<[u8]>::to_vec).collect());
        bytes = &bytes[len..];
    }
    found
}

/// 256 keys at once, of a length that nobody knows yet, may be any number of
/// bytes.
#[test]
fn long_values_are_asked_for_a_few_at_a_time() {
    let source = Counting::start(20, 3 << 20);
    let (target, told) = target();
    let output = Pair::new(source.server.address(), target.address()).warm(&["--concurrency", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary(&output)["copied"], 20);
    assert_eq!(told.lock().unwrap().len(), 20);
    // 24 MiB are too much at a time; each half of them is not.
    let batches = source.batches.lock().unwrap();
    assert_eq!(batches[..3], [8, 4, 4], "{batches:?}");
    assert!(batches[3..].iter().all(|size| *size <= 4), "{batches:?}");
}

impl Counting {
    /// What is asked of it until it has seen so many more probes.
    fn await_probes(&self, more: usize) {
        let before = self.pings.load(Ordering::Relaxed);
        until("probes", || {
            self.pings.load(Ordering::Relaxed) >= before + more
        });
    }

    /// A run that would end in no time and is slow; how many keys were asked for
    /// when it has gone on for twenty probes.
    fn asked_by(&self, pair: &Pair, args: &[&str]) -> usize {
        let mut run = pair.start(args);
        until("the first batch", || {
            !self.batches.lock().unwrap().is_empty()
        });
        self.await_probes(20);
        run.kill();
        self.batches.lock().unwrap().iter().sum()
    }
}

#[test]
fn a_rate_holds_the_copy_back() {
    let source = Counting::start(5000, 10);
    let (target, _) = target();
    let pair = Pair::new(source.server.address(), target.address());
    let asked = source.asked_by(&pair, &["--rate", "20"]);
    assert!((1..1000).contains(&asked), "{asked}");
    let batches = source.batches.lock().unwrap();
    assert!(batches.iter().all(|size| *size <= 2), "{batches:?}");
}

#[test]
fn a_bandwidth_holds_the_copy_back() {
    let source = Counting::start(5000, 10_000);
    let (target, _) = target();
    let pair = Pair::new(source.server.address(), target.address());
    let asked = source.asked_by(&pair, &["--bandwidth", "1KiB", "--concurrency", "1"]);
    // The second batch may be on its way when the first is weighed.
    assert!((8..=24).contains(&asked), "{asked}");
}

/// Keys that nobody wants are looked at all the same.
#[test]
fn a_rate_holds_the_walk_back() {
    let source = Counting::start(50_000, 10);
    let (target, _) = target();
    let pair = Pair::new(source.server.address(), target.address());
    let mut run = pair.start(&["--rate", "20", "--match", "other:"]);
    until("the first page", || {
        !source.pages.lock().unwrap().is_empty()
    });
    source.await_probes(20);
    run.kill();
    let pages = source.pages.lock().unwrap().len();
    assert!((1..10).contains(&pages), "{pages}");
}

/// Every probe takes longer than is allowed.
#[test]
fn a_slow_source_is_asked_for_little() {
    let source = Counting::slow(200, 10, Duration::from_millis(20), 12);
    let (target, _) = target();
    let pair = Pair::new(source.server.address(), target.address());
    let output = pair.warm(&["--source-p99", "5ms"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let summary = summary(&output);
    assert_eq!(summary["copied"], 200);
    let sources = summary["sources"].as_object().unwrap();
    let slowed = sources.values().next().unwrap()["slowed_down"].as_u64();
    assert!(slowed.unwrap() >= 5, "{summary:#}");
    // 128 at first, and 4 after five halvings; both were so when it began.
    let batches = source.batches.lock().unwrap();
    assert!(batches.iter().all(|size| *size <= 4), "{batches:?}");
    let pages = source.pages.lock().unwrap();
    assert!(pages[1..].iter().all(|count| *count <= 4), "{pages:?}");
}

/// A server that is done with its hot keys waits until the slowest is.
#[test]
fn hot_keys_of_all_servers_come_before_any_other_key() {
    let source = |pause: Duration| {
        server(move |args, _| match &args[0][..] {
            b"INFO" => info("source"),
            b"DBSIZE" => Some(b":3\r\n".to_vec()),
            b"SCAN" => page(0, &["other:1", "other:2", "other:3"]),
            b"PTTL" => Some(b":-1\r\n".to_vec()),
            b"DUMP" => {
                std::thread::sleep(pause);
                Some(bulk("value"))
            }
            _ => Some(b"+PONG\r\n".to_vec()),
        })
    };
    let sources = [
        source(Duration::ZERO),
        source(Duration::from_millis(20)),
        source(Duration::ZERO),
    ];
    let (target, told) = target();
    let old = sources.each_ref().map(Scripted::address);
    let pair = Pair::of(&old, target.address());
    let hot: Vec<String> = (0..60).map(|i| format!("{}:hot:{i}", i * 7919)).collect();
    std::fs::write(pair.path("hot"), hot.join("\n")).unwrap();
    let output = pair.warm(&["--all", "--hot-list", pair.path("hot").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = told.lock().unwrap();
    let keys: Vec<_> = told.iter().map(|args| args[1].escape_ascii()).collect();
    let mut first: Vec<String> = keys[..60].iter().map(ToString::to_string).collect();
    let mut hot = hot;
    first.sort();
    hot.sort();
    assert_eq!(first, hot);
    assert_eq!(keys.len(), 60 + 3 * 3);
}
