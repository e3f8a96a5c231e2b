//! All keys of one source server, page by page, and where a later run may go on.
//!
//! Redis has a cursor, which any later `SCAN` understands as long as the server
//! lives: every key that is there all the time comes at least once.
//!
//! memcached is dumped in the order of its hash table, `metadump hash`. The other
//! dumps walk the LRU, where the server itself moves items from list to list while
//! they are read: of a million just stored, a few were missed every time. A dump
//! cannot be begun in its middle, and no count of lines says where it was: so a
//! later run begins a server that is not done anew, and what was copied is there
//! already.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::checkpoint::Progress;
use super::endpoint::{Endpoint, Failed};
use super::frontier::Frontier;
use super::link::{Fault, Link};
use super::{item, memcached, redis};
use crate::running::{Pool, Protocol};

/// Keys of a page, about.
const PAGE: usize = 512;

/// How long another's use of memcached's crawler is waited for.
const CRAWLER: Duration = Duration::from_secs(60);

/// A walk over one server's keys.
#[derive(Debug)]
pub struct Walk {
    prefix: Vec<u8>,
    instance: String,
    state: State,
    /// Redis: where the next page begins.
    cursor: u64,
    /// memcached: keys of this dump so far.
    dumped: u64,
}

#[derive(Debug)]
enum State {
    Unconnected,
    Scanning(Link),
    /// A dump whose next bytes are to be read.
    Dumping(Link),
    End,
}

/// Keys that were found together.
#[derive(Debug)]
pub struct Page {
    /// Where a later run finds them.
    pub position: u64,
    /// The keys, perhaps none.
    pub keys: Vec<Vec<u8>>,
    /// Where the next page begins.
    pub next: u64,
    /// The server is another than before: what was found earlier counts for
    /// nothing.
    pub anew: bool,
}

impl Walk {
    /// Go on where a checkpoint ends, or at the beginning.
    pub fn new(prefix: &[u8], progress: Progress) -> (Walk, Frontier) {
        let position = progress.cursor;
        let walk = Walk {
            prefix: prefix.to_vec(),
            instance: progress.instance,
            state: match progress.done {
                true => State::End,
                false => State::Unconnected,
            },
            cursor: progress.cursor,
            dumped: 0,
        };
        (walk, Frontier::new(position))
    }

    /// Whether there are no more pages.
    pub fn ended(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// What a later run needs to know.
    pub fn progress(&self, frontier: &Frontier) -> Progress {
        Progress {
            instance: self.instance.clone(),
            done: self.ended() && frontier.is_clear(),
            cursor: frontier.position(),
        }
    }

    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// When the server was given up.
    pub async fn page(&mut self, pool: &Pool, end: &Endpoint) -> Result<Option<Page>, Failed> {
        loop {
            if end.failed().is_some() {
                return Err(Failed);
            }
            let page = match pool.protocol {
                Protocol::Redis => self.scan(pool, end).await,
                Protocol::Memcached => self.dump(pool, end).await,
            };
            match page {
                Ok(page) => {
                    end.answered();
                    return Ok(page);
                }
                Err(fault) => {
                    self.state = State::Unconnected;
                    end.again(fault).await?;
                }
            }
        }
    }

    async fn scan(&mut self, pool: &Pool, end: &Endpoint) -> Result<Option<Page>, Fault> {
        let mut anew = false;
        let mut link = match std::mem::replace(&mut self.state, State::Unconnected) {
            State::Scanning(link) => link,
            State::End => {
                self.state = State::End;
                return Ok(None);
            }
            State::Unconnected | State::Dumping(_) => {
                let mut link = end.open(pool).await?;
                link.output.extend_from_slice(b"INFO server\r\n");
                let info = link.ask(1).await?;
                let instance = redis::run_id(info.reply(0)).unwrap_or_default();
                if instance.is_empty() || instance != self.instance {
                    (self.instance, self.cursor, anew) = (instance, 0, true);
                }
                link
            }
        };
        redis::scan(&mut link.output, self.cursor, PAGE, &self.prefix);
        let replies = link.ask(1).await?;
        let reply = replies.reply(0);
        let Some((next, keys)) = redis::scanned(reply) else {
            let text = format!("it refused SCAN: {}", item::words(reply));
            return Err(match reply.starts_with(b"-LOADING") {
                true => Fault::Lost(text),
                false => Fault::Refused(text),
            });
        };
        let position = std::mem::replace(&mut self.cursor, next);
        self.state = match next {
            0 => State::End,
            _ => State::Scanning(link),
        };
        Ok(Some(Page {
            position,
            keys,
            next,
            anew,
        }))
    }

    async fn dump(&mut self, pool: &Pool, end: &Endpoint) -> Result<Option<Page>, Fault> {
        let mut anew = false;
        let mut link = match std::mem::replace(&mut self.state, State::Unconnected) {
            State::Dumping(link) => link,
            State::End => {
                self.state = State::End;
                return Ok(None);
            }
            State::Unconnected | State::Scanning(_) => {
                anew = true;
                self.dumped = 0;
                begin_dump(end.open(pool).await?).await?
            }
        };
        let (keys, ended) = some_of_dump(&mut link).await?;
        self.dumped += keys.len() as u64;
        if ended && self.dumped == 0 && items(&mut link).await? > 0 {
            return Err(Fault::Lost(
                "its metadump is empty and it is not".to_owned(),
            ));
        }
        self.state = match ended {
            true => State::End,
            false => State::Dumping(link),
        };
        Ok(Some(Page {
            position: 0,
            keys,
            next: 0,
            anew,
        }))
    }
}

/// Start a dump. While the hash table grows there is none to be had, and there
/// is one crawler for all who want it.
async fn begin_dump(mut link: Link) -> Result<Link, Fault> {
    let started = Instant::now();
    loop {
        link.output.extend_from_slice(b"stats\r\n");
        let stats = link.ask(1).await?;
        let mut waits_for = "its hash table to grow".to_owned();
        if memcached::statistic(stats.reply(0), "hash_is_expanding") != Some(1) {
            let request = b"lru_crawler metadump hash\r\n";
            link.output.extend_from_slice(request);
            while !link.input.contains(&b'\n') {
                link.more().await?;
            }
            if link.input.starts_with(b"key=") || link.input.starts_with(b"END") {
                return Ok(link);
            }
            let said = item::words(&link.input);
            if !link.input.starts_with(b"BUSY") {
                let text = format!("it refused lru_crawler metadump hash: {said}");
                return Err(Fault::Refused(text));
            }
            link.input.clear();
            waits_for = format!("its crawler: {said}");
        }
        if started.elapsed() > CRAWLER {
            return Err(Fault::Lost(format!("waited too long for {waits_for}")));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many items a memcached says that it has.
async fn items(link: &mut Link) -> Result<u64, Fault> {
    // What is left of the dump's last line.
    link.input.clear();
    link.output.extend_from_slice(b"stats\r\n");
    let stats = link.ask(1).await?;
    Ok(memcached::statistic(stats.reply(0), "curr_items").unwrap_or(0))
}

/// About a page of a dump's keys, and whether it has ended.
async fn some_of_dump(link: &mut Link) -> Result<(Vec<Vec<u8>>, bool), Fault> {
    let mut keys = Vec::new();
    loop {
        let mut at = 0;
        while let Some(len) = memchr::memchr(b'\n', link.input.get(at..).unwrap_or_default()) {
            let line = link.input.get(at..at + len).unwrap_or_default();
            at += len + 1;
            if line.trim_ascii_end() == b"END" {
                return Ok((keys, true));
            }
            match memcached::dumped(line) {
                Some(key) => keys.push(key),
                None => {
                    return Err(Fault::Lost(
                        "its metadump has a line that is none".to_owned(),
                    ));
                }
            }
            if keys.len() >= PAGE {
                break;
            }
        }
        link.input.drain(..at);
        if keys.len() >= PAGE {
            return Ok((keys, false));
        }
        link.more().await?;
    }
}
