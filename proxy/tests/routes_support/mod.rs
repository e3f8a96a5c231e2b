//! Stories: what clients do through the proxy and what then lies on which
//! server, line by line, told once for both protocols.
//!
//! ```text
//!   client set k 1      -> ok        a client of the proxy
//!   a get k             -> 1         server a, asked without the proxy
//!   a kill
//!   client get k        -> -         nothing there; an error is `! its text`
//!   b get k             ~> 1         becomes so in a while
//!   client get k; a get k ~> 1       both, until the second says so
//!   memcached: ...                   with memcached alone
//! ```
//!
//! Servers are `a`, `b`, `c` ...; each is a pool of its name unless the
//! configuration puts it, as `@a`, into another. The listener's route is `top`.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]
#![allow(clippy::unwrap_used)]

mod example;
mod talk;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use example::{Example, count, scenario};
pub use talk::Dialect;
use talk::perform;

use super::support::{Client, Emberline, Server};

/// How long something may take to become so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tell a story with Redis, and once more with memcached.
#[track_caller]
pub fn story(config: &str, script: &str) {
    story_of(Dialect::Redis, config, script);
    story_of(Dialect::Memcached, config, script);
}

/// Tell it with one of them.
#[track_caller]
pub fn story_of(dialect: Dialect, config: &str, script: &str) {
    if let Some(mut house) = House::new(dialect, config, script) {
        house.tell(script);
    }
}

/// Servers, the proxy before them, and its clients.
pub struct House {
    pub dialect: Dialect,
    pub servers: Vec<Server>,
    pub proxy: Emberline,
    clients: HashMap<String, Client>,
    /// Other listeners, by the port that the example gives them: their clients
    /// have it in their names, as in `client:7380`.
    doors: HashMap<String, SocketAddr>,
}

impl House {
    /// With the servers that the configuration or the story mention; `None`
    /// where they are not installed.
    pub fn new(dialect: Dialect, config: &str, script: &str) -> Option<House> {
        House::with(dialect, config, script, Emberline::config)
    }

    /// The same, whose proxy has a log that is read.
    pub fn logging(dialect: Dialect, config: &str, script: &str) -> Option<House> {
        House::with(dialect, config, script, Emberline::logging)
    }

    fn with(
        dialect: Dialect,
        config: &str,
        script: &str,
        start: fn(&str) -> Emberline,
    ) -> Option<House> {
        let is_told = |letter: char| {
            let who = |line: &str| told(dialect, line).is_some_and(|line| begins(line, letter));
            script.lines().any(who)
                || config.contains(&format!("'{letter}'"))
                || config.contains(&format!("@{letter}"))
        };
        let count = ('a'..='h').rev().find(|&letter| is_told(letter));
        let count = count.map_or(0, |last| last as usize - 'a' as usize + 1);
        let servers = servers(dialect, count)?;
        let proxy = start(&written(dialect, config, &servers));
        Some(House::of(dialect, servers, proxy))
    }

    /// These servers and this proxy.
    pub fn of(dialect: Dialect, servers: Vec<Server>, proxy: Emberline) -> House {
        House {
            dialect,
            servers,
            proxy,
            clients: HashMap::new(),
            doors: HashMap::new(),
        }
    }

    /// Do what each line says, and hold what comes of it against the line.
    #[track_caller]
    pub fn tell(&mut self, script: &str) {
        for line in script.lines() {
            let Some(line) = told(self.dialect, line) else {
                continue;
            };
            let (what, expected, patient) = match (line.split_once("~>"), line.split_once("->")) {
                (Some((what, expected)), _) => (what, Some(expected.trim()), true),
                (None, Some((what, expected))) => (what, Some(expected.trim()), false),
                (None, None) => (line, None, false),
            };
            let end = Instant::now() + PATIENCE;
            loop {
                let got = self.perform(what);
                let Some(expected) = expected else { break };
                if is_like(&got, expected) {
                    break;
                }
                assert!(
                    patient && Instant::now() < end,
                    "{:?}: {line}\n  got: {got}",
                    self.dialect
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.proxy.assert_alive();
    }

    /// One line without its expectation; of several sayings the last counts.
    pub fn perform(&mut self, what: &str) -> String {
        if let Some((first, rest)) = what.split_once(';') {
            self.perform(first);
            return self.perform(rest);
        }
        let mut words = what.split_whitespace();
        let who = words.next().unwrap();
        let words: Vec<&str> = words.collect();
        if let Some(number) = server_number(who) {
            let server = &mut self.servers[number];
            match words[0] {
                "kill" => server.kill(),
                "restart" => server.restart(),
                "freeze" => server.freeze(),
                "thaw" => server.thaw(),
                _ => return perform(self.dialect, &mut server.client(), &words),
            }
            return String::new();
        }
        let dialect = self.dialect;
        perform(dialect, self.client(who), &words)
    }

    /// A client by its name in the story.
    pub fn client(&mut self, name: &str) -> &mut Client {
        let (proxy, doors) = (&self.proxy, &self.doors);
        let client = self.clients.entry(name.to_owned());
        client.or_insert_with(|| match name.split_once(':') {
            Some((_, port)) => Client::connect(doors[port]),
            None => proxy.client(),
        })
    }
}

/// So many servers that speak this.
pub fn servers(dialect: Dialect, count: usize) -> Option<Vec<Server>> {
    match dialect {
        Dialect::Redis => Server::redis_many(count),
        // Large values shall fit.
        Dialect::Memcached => (0..count)
            .map(|_| Server::memcached_with(&["-I", "64m", "-m", "512"]))
            .collect(),
    }
}

/// The configuration with addresses, and with pools for servers that have none.
fn written(dialect: Dialect, config: &str, servers: &[Server]) -> String {
    let protocol = dialect.name();
    let bind = format!("{}_BIND", protocol.to_uppercase());
    let mut text = format!(
        "[listeners.main]\nprotocol = '{protocol}'\nbind = '{bind}'\nroute = 'top'\n{config}\n"
    );
    text = text.replace("PROTOCOL", protocol);
    for (letter, server) in ('a'..).zip(servers) {
        let (mark, address) = (format!("@{letter}"), server.address().to_string());
        if text.contains(&mark) {
            text = text.replace(&mark, &address);
        } else {
            text += &format!(
                "[pools.{letter}]\nprotocol = '{protocol}'\nservers = ['{address}']\n\
                 request_timeout = '1s'\n{}",
                match dialect {
                    Dialect::Redis => "",
                    Dialect::Memcached => "value_max = '64MiB'\n",
                }
            );
        }
    }
    text
}

/// A line without its comment, if this dialect's story has it.
fn told(dialect: Dialect, line: &str) -> Option<&str> {
    let line = line.split("//").next().unwrap_or_default().trim();
    let line = match line.split_once(": ") {
        Some(("redis", rest)) if dialect == Dialect::Redis => rest,
        Some(("memcached", rest)) if dialect == Dialect::Memcached => rest,
        Some(("redis" | "memcached", _)) => return None,
        _ => line,
    };
    (!line.is_empty()).then_some(line.trim())
}

fn begins(line: &str, letter: char) -> bool {
    line.starts_with(letter) && line[1..].starts_with(' ')
}

fn server_number(who: &str) -> Option<usize> {
    match who.as_bytes() {
        [letter @ b'a'..=b'h'] => Some(usize::from(letter - b'a')),
        _ => None,
    }
}

/// `! text`: an error that has the text in it. `90s`: so many seconds, or a few
/// less, because time passes while the story is told. `x | y`: either.
fn is_like(got: &str, expected: &str) -> bool {
    if let Some((one, other)) = expected.split_once(" | ") {
        return is_like(got, one) || is_like(got, other);
    }
    let seconds = |text: &str| text.strip_suffix('s')?.parse::<i64>().ok();
    match (expected.strip_prefix('!'), seconds(expected), seconds(got)) {
        (Some(text), ..) => got.starts_with('!') && got.contains(text.trim()),
        (None, Some(most), Some(got)) => got <= most && got >= most - 8,
        _ => got == expected,
    }
}
