//! `emberline warm` between servers that do what real ones do not on demand:
//! end connections at the wrong moment, answer late, and count.

#![allow(clippy::unwrap_used)]

mod support;
mod warm_support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use emberline_protocol::redis::encode;
use support::{Scripted, TempDir, drain_requests};
use warm_support::{checkpoint, emberline, said, summary};

/// What a scripted server says to a request; `None`: it ends the connection.
type Say = Option<Vec<u8>>;

/// Two pools of a server each.
struct Pair {
    dir: TempDir,
}

impl Pair {
    fn new(old: SocketAddr, new: SocketAddr) -> Pair {
        let pair = Pair {
            dir: TempDir::new(),
        };
        let pool =
            |name, at| format!("[pools.{name}]\nprotocol = \"redis\"\nservers = [\"{at}\"]\n");
        let text = format!(
            "[listeners.main]\nprotocol = \"redis\"\nbind = \"127.0.0.1:1\"\nroute = \"old\"\n{}{}",
            pool("old", old),
            pool("new", new)
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

    /// With a checkpoint that says how far the source was.
    fn warm_from(&self, instance: &str, cursor: u64) -> Output {
        let path = self.path("state.json");
        let file = path.to_str().unwrap();
        let output = self.warm(&["--checkpoint", file, "--dry-run"]);
        // A dry run writes none: a run of no keys does.
        drop(output);
        let mut state = checkpoint(&path).unwrap();
        let servers = state["servers"].as_object_mut().unwrap();
        for server in servers.values_mut() {
            server["instance"] = instance.into();
            server["cursor"] = cursor.into();
            server["done"] = false.into();
        }
        std::fs::write(&path, state.to_string()).unwrap();
        self.warm(&["--checkpoint", file])
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
fn target() -> (Scripted, Arc<Mutex<Vec<Vec<Vec<u8>>>>>) {
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
