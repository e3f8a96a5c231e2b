//! What can be counted: fills, connections that track keys, answers from memory.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::wire::{Client, Dialect};

/// Nobody is asked for longer than this.
const PATIENCE: Duration = Duration::from_millis(500);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Census {
    /// Whether the server can be asked: redis-server, and none that is stopped
    /// or killed on purpose.
    pub enabled: bool,
    /// The most connections that tracked keys at the same time.
    pub tracking_max: u64,
}

impl Census {
    /// Count the connections that track keys.
    pub fn look(&mut self, server: u16) {
        if !self.enabled {
            return;
        }
        let count = Client::connect(server, Dialect::Resp2, PATIENCE)
            .and_then(|mut client| tracking(&mut client))
            .map_or(0, |ids| ids.len() as u64);
        self.tracking_max = self.tracking_max.max(count);
    }
}

/// The ids of the connections that track keys.
pub fn tracking(client: &mut Client) -> io::Result<Vec<String>> {
    let list = client.command(&["CLIENT", "LIST"])?.text();
    Ok(list
        .lines()
        .filter(|line| field(line, "flags=").is_some_and(|flags| flags.contains('t')))
        .filter_map(|line| field(line, "id=").map(str::to_owned))
        .collect())
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name))
}

/// How often a redis-server was given these commands since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// `CLIENT CACHING`, one per tracked fill.
    pub caching: u64,
    /// `PTTL`, one per fill.
    pub pttl: u64,
    /// `TOUCH`.
    pub touch: u64,
}

impl Calls {
    /// Ask the server.
    pub fn read(server: u16) -> io::Result<Calls> {
        let mut client = Client::connect(server, Dialect::Resp2, PATIENCE)?;
        let stats = client.command(&["INFO", "commandstats"])?.text();
        let of = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(name));
            let calls = line.and_then(|line| line.split(',').next());
            calls.and_then(|calls| calls.parse().ok()).unwrap_or(0)
        };
        Ok(Calls {
            caching: of("cmdstat_client|caching:calls="),
            pttl: of("cmdstat_pttl:calls="),
            touch: of("cmdstat_touch:calls="),
        })
    }
}

/// What the proxy counts.
#[derive(Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    /// Ask the proxy's admin address.
    pub fn scrape(admin: u16) -> io::Result<Metrics> {
        let mut stream = TcpStream::connect(("127.0.0.1", admin))?;
        stream.set_read_timeout(Some(PATIENCE * 4))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(Metrics(text))
    }

    /// The sum of `emberline_l1_events_total` over the pools for one event.
    pub fn event(&self, event: &str) -> u64 {
        let label = format!("event=\"{event}\"");
        let lines = self
            .0
            .lines()
            .filter(|line| line.starts_with("emberline_l1_events_total{") && line.contains(&label));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    /// All events that were counted.
    pub fn events(&self) -> Vec<(String, u64)> {
        let mut names: Vec<&str> = self
            .0
            .lines()
            .filter(|line| line.starts_with("emberline_l1_events_total{"))
            .filter_map(|line| line.split("event=\"").nth(1)?.split('"').next())
            .collect();
        names.sort_unstable();
        names.dedup();
        let counted = names
            .into_iter()
            .map(|name| (name.to_owned(), self.event(name)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}
