//! Golden transcripts: what memcached 1.6.18 answers, the proxy answers.
//!
//! Each case of `data/memcache/transcripts.txt` is a client's bytes, what a
//! proxy sends its server for them (`sent`), what the server replies (`reply`)
//! and what the client reads (`answer`). The proxy here is twenty lines: parse,
//! forward, scan, suppress. A second test runs the same cases through the real
//! memcached, directly and behind this proxy, and compares the two byte for
//! byte; it skips, saying so, where memcached 1.6.18 is not installed.
//!
//! To record anew after adding a `client` line:
//! `EMBERLINE_RECORD=1 cargo test -p emberline-protocol --test memcache_golden`

#![allow(clippy::unwrap_used)]

mod memcache_support;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use emberline_protocol::Scan;
use emberline_protocol::memcache::{Limits, Scanner};
use memcache_support::{proxy, unescape};

const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/memcache/transcripts.txt"
);

/// One case, every part still escaped.
#[derive(Debug, Default, PartialEq)]
struct Case {
    client: String,
    sent: Vec<String>,
    reply: Vec<String>,
    answer: String,
}

#[test]
fn the_proxy_answers_as_the_transcripts_say() {
    for case in cases() {
        let mut sent = case.sent.iter();
        let mut reply = case.reply.iter();
        let answer = proxy(
            &unescape(&case.client),
            &Limits::default(),
            |line, _body| {
                let want = sent
                    .next()
                    .unwrap_or_else(|| panic!("{}: nothing more to send", case.client));
                assert_eq!(&line.escape_ascii().to_string(), want, "{}", case.client);
                unescape(reply.next().unwrap())
            },
        );
        assert_eq!(
            answer.escape_ascii().to_string(),
            case.answer,
            "{}",
            case.client
        );
        assert_eq!(sent.next(), None, "{}", case.client);
    }
}

#[test]
fn the_proxy_answers_as_memcached_does() {
    let (Some(direct), Some(behind)) = (Memcached::start(), Memcached::start()) else {
        eprintln!("skipped: memcached 1.6.18 is not installed");
        return;
    };
    let mut record = String::from(HEADER);
    for case in cases() {
        let client = unescape(&case.client);
        let want = direct.answer(&client);
        let mut connection = TcpStream::connect(("127.0.0.1", behind.port)).unwrap();
        let (mut sent, mut replies) = (Vec::new(), Vec::new());
        let got = proxy(&client, &Limits::default(), |line, body| {
            let reply = ask(&mut connection, line, body);
            sent.push(line.escape_ascii().to_string());
            replies.push(reply.escape_ascii().to_string());
            reply
        });
        assert_eq!(
            got.escape_ascii().to_string(),
            want.escape_ascii().to_string(),
            "{}",
            case.client
        );
        writeln!(record, "client {}", case.client).unwrap();
        for (sent, reply) in sent.iter().zip(&replies) {
            writeln!(record, "sent   {sent}\nreply  {reply}").unwrap();
        }
        writeln!(record, "answer {}\n", want.escape_ascii()).unwrap();
    }
    if std::env::var_os("EMBERLINE_RECORD").is_some() {
        std::fs::write(PATH, record).unwrap();
    }
}

const HEADER: &str =
    "# Recorded from memcached 1.6.18; see memcache_golden.rs. {k*251} is 251 times k.\n\n";

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in std::fs::read_to_string(PATH).unwrap().lines() {
        let Some((name, text)) = line.split_once(' ') else {
            continue;
        };
        let text = text.trim_start().to_string();
        match (name, cases.last_mut()) {
            ("client", _) => cases.push(Case {
                client: text,
                ..Case::default()
            }),
            ("sent", Some(case)) => case.sent.push(text),
            ("reply", Some(case)) => case.reply.push(text),
            ("answer", Some(case)) => case.answer = text,
            _ => {}
        }
    }
    assert!(cases.len() > 150, "only {} cases", cases.len());
    cases
}

/// Sends one request and reads its one reply.
fn ask(connection: &mut TcpStream, line: &[u8], body: &[u8]) -> Vec<u8> {
    connection
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    connection.write_all(line).unwrap();
    connection.write_all(body).unwrap();
    let (mut reply, mut passed) = (Vec::new(), 0);
    let mut scanner = Scanner::default();
    loop {
        let mut buf = [0; 4096];
        let n = connection
            .read(&mut buf)
            .expect("exactly one reply to every request");
        assert!(n > 0, "closed after {}", line.escape_ascii());
        reply.extend_from_slice(&buf[..n]);
        match scanner.feed(&reply[passed..]).unwrap() {
            Scan::Done(n) => {
                assert_eq!(
                    passed + n,
                    reply.len(),
                    "more than one reply to {}",
                    line.escape_ascii()
                );
                return reply;
            }
            Scan::More(n) => passed += n,
        }
    }
}

struct Memcached {
    process: Child,
    port: u16,
}

impl Memcached {
    fn start() -> Option<Memcached> {
        let version = Command::new("memcached").arg("-V").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains("1.6.18") {
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let process = Command::new("memcached")
            .args([
                "-u",
                "root",
                "-l",
                "127.0.0.1",
                "-U",
                "0",
                "-m",
                "64",
                "-p",
                &port.to_string(),
            ])
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Memcached { process, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "memcached does not listen"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    /// Everything it says to these bytes.
    fn answer(&self, client: &[u8]) -> Vec<u8> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        connection.write_all(client).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        answer
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
