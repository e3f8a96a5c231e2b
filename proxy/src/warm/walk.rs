//! All keys of one source server, page by page, and where a later run may go on.
//!
//! Redis has a cursor, which any later `SCAN` understands as long as the server
//! lives: every key that is there all the time comes at least once.
//!
//! memcached has no such thing: a metadump walks the LRU, whose order changes
//! while it is read. What stays is the slab class of an item, which only a write
//! to it changes. So classes are dumped one after the other, and those that are
//! done need not be dumped again. An item that is written anew in the meantime
//! may move to a class that is done and be missed, as one that is written after
//! its copy was made would be stale: whoever copies a pool in use writes to both.

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
    /// memcached: classes begun, in their order; those before the frontier's
    /// position are done.
    classes: Vec<u32>,
    /// memcached: the last of them is still being dumped.
    inside: bool,
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
    pub fn new(protocol: Protocol, prefix: &[u8], progress: Progress) -> (Walk, Frontier) {
        let position = match protocol {
            Protocol::Redis => progress.cursor,
            Protocol::Memcached => progress.classes.len() as u64,
        };
        let walk = Walk {
            prefix: prefix.to_vec(),
            instance: progress.instance,
            state: match progress.done {
                true => State::End,
                false => State::Unconnected,
            },
            cursor: progress.cursor,
            classes: progress.classes,
            inside: false,
        };
        (walk, Frontier::new(position))
    }

    /// Whether there are no more pages.
    pub fn ended(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// What a later run needs to know.
    pub fn progress(&self, frontier: &Frontier) -> Progress {
        let done = usize::try_from(frontier.position()).unwrap_or(usize::MAX);
        Progress {
            instance: self.instance.clone(),
            done: self.ended() && frontier.is_clear(),
            cursor: match self.classes.is_empty() {
                true => frontier.position(),
                false => 0,
            },
            classes: self.classes.iter().take(done).copied().collect(),
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
                    // A dump that broke off is begun again with its class.
                    if std::mem::take(&mut self.inside) {
                        self.classes.pop();
                    }
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
                let mut link = end.open(pool).await?;
                anew = self.recognise(&mut link).await?;
                if !self.begin(&mut link).await? {
                    self.state = State::End;
                    return Ok(None);
                }
                link
            }
        };
        let (keys, ended) = some_of_dump(&mut link).await?;
        self.inside = !ended;
        if !ended {
            self.state = State::Dumping(link);
        }
        // A class is done when all of its pages are.
        let position = self.classes.len().saturating_sub(1) as u64;
        Ok(Some(Page {
            position,
            keys,
            next: position + u64::from(ended),
            anew,
        }))
    }

    /// Whether this is another server, or another life of it, than before.
    async fn recognise(&mut self, link: &mut Link) -> Result<bool, Fault> {
        link.output.extend_from_slice(b"stats\r\n");
        let stats = link.ask(1).await?;
        let number = |name| memcached::statistic(stats.reply(0), name).unwrap_or(0);
        let born = number("time").saturating_sub(number("uptime"));
        let instance = format!("{} {born}", number("pid"));
        let same = instance_is(&self.instance, number("pid"), born);
        if !same {
            self.instance = instance;
            self.classes.clear();
        }
        Ok(!same)
    }

    /// Begin to dump a class that has not been; `false` if there is none.
    async fn begin(&mut self, link: &mut Link) -> Result<bool, Fault> {
        link.output.extend_from_slice(b"stats items\r\n");
        let stats = link.ask(1).await?;
        let classes = memcached::classes(stats.reply(0));
        let Some(class) = classes
            .into_iter()
            .find(|class| !self.classes.contains(class))
        else {
            return Ok(false);
        };
        let started = Instant::now();
        loop {
            let request = format!("lru_crawler metadump {class}\r\n");
            link.output.extend_from_slice(request.as_bytes());
            while !link.input.contains(&b'\n') {
                link.more().await?;
            }
            if link.input.starts_with(b"key=") || link.input.starts_with(b"END") {
                self.classes.push(class);
                self.inside = true;
                return Ok(true);
            }
            let text = format!(
                "it refused lru_crawler metadump: {}",
                item::words(&link.input)
            );
            if !link.input.starts_with(b"BUSY") {
                return Err(Fault::Refused(text));
            }
            if started.elapsed() > CRAWLER {
                return Err(Fault::Lost(text));
            }
            link.input.clear();
            sleep(Duration::from_millis(50)).await;
        }
    }
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

/// The second of a server's birth is known to one or two.
fn instance_is(instance: &str, pid: u64, born: u64) -> bool {
    let mut words = instance.split(' ').map(str::parse::<u64>);
    let then = (words.next(), words.next());
    matches!(then, (Some(Ok(then)), Some(Ok(at))) if then == pid && at.abs_diff(born) <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_again_by_its_process_and_birth() {
        assert!(instance_is("17 1700000000", 17, 1_700_000_001));
        assert!(!instance_is("17 1700000000", 18, 1_700_000_000));
        assert!(!instance_is("17 1700000000", 17, 1_700_000_009));
        assert!(!instance_is("", 17, 0));
        assert!(!instance_is("x y", 17, 0));
    }
}
