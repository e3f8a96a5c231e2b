//! All keys of one source server, page by page, and where a later run may go on.
//!
//! Redis has a cursor, which any later `SCAN` understands as long as the server
//! lives: every key that is there all the time comes at least once.
//!
//! memcached is dumped in the order of its hash table, `metadump hash`. The other
//! dumps walk the LRU, where the server itself moves items from list to list while
//! they are read: of a million just stored, a few were missed every time. But while
//! a reader of this dump is slow, the server holds locks that its other clients
//! wait for. So a dump is read to its end as fast as it comes, and only then are
//! values asked for. For a later run not to begin at the beginning, the keys are
//! copied *slice* by slice, by a hash of our own. And for what is kept in between
//! not to grow without bound, a dump keeps as many slices as are small enough
//! together, and there is another for the next ones: mostly, there is one.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::checkpoint::Progress;
use super::endpoint::{Endpoint, Failed};
use super::frontier::Frontier;
use super::keys::Keys;
use super::link::{Fault, Link};
use super::probe::Probed;
use super::{instance, item, memcached, redis};
use crate::running::{Pool, Protocol};

/// Keys of a page, about.
const PAGE: usize = 512;

/// Keys that are in memory at once, about.
const KEPT: u64 = 16 << 20;

/// Slices that one dump is sorted into, at most.
const SLICES_MAX: u64 = 1024;

/// Slices at least, so that an interrupted run need not begin at the beginning.
const SLICES_MIN: u64 = 4;

/// How long another's use of memcached's crawler is waited for.
const CRAWLER: Duration = Duration::from_secs(60);

/// A walk over one server's keys.
#[derive(Debug)]
pub struct Walk {
    prefix: Vec<u8>,
    instance: String,
    /// The server was found to be another than before, and no page has said so
    /// yet: what was found earlier is still counted.
    anew: bool,
    state: State,
    /// Redis: where the next page begins.
    cursor: u64,
    /// memcached: slices, 0 while not known, and the one that is being copied.
    slices: u64,
    slice: u64,
    /// memcached: keys that are still to come, of this slice and the next ones,
    /// as far as they were dumped.
    keys: VecDeque<Keys>,
}

#[derive(Debug)]
enum State {
    Unconnected,
    Scanning(Link),
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
    /// Keys that the server has looked at for it.
    pub walked: usize,
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
            anew: false,
            state: match progress.done {
                true => State::End,
                false => State::Unconnected,
            },
            cursor: progress.cursor,
            slices: progress.slices,
            slice: progress.cursor,
            keys: VecDeque::new(),
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
            done: self.ended() && frontier.is_clear() && !self.anew,
            // The old one means nothing to a new server.
            cursor: match self.anew {
                true => 0,
                false => frontier.position(),
            },
            slices: self.slices,
        }
    }

    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// When the server was given up.
    pub async fn page(
        &mut self,
        pool: &Pool,
        end: &Endpoint,
        probed: &Probed,
    ) -> Result<Option<Page>, Failed> {
        loop {
            if end.failed().is_some() {
                return Err(Failed);
            }
            let page = match pool.protocol {
                Protocol::Redis => self.scan(pool, end, PAGE.min(probed.allowed())).await,
                Protocol::Memcached => self.dump(pool, end, probed).await,
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

    /// The next page, of about so many keys: what the server looks at in one go
    /// is what its other clients wait for.
    async fn scan(
        &mut self,
        pool: &Pool,
        end: &Endpoint,
        count: usize,
    ) -> Result<Option<Page>, Fault> {
        let mut link = match std::mem::replace(&mut self.state, State::Unconnected) {
            State::Scanning(link) => link,
            State::End => {
                self.state = State::End;
                return Ok(None);
            }
            State::Unconnected => {
                let mut link = end.open(pool).await?;
                let instance = instance::ask(&mut link, pool.protocol).await?;
                if !instance::is_same(pool.protocol, &self.instance, &instance) {
                    (self.instance, self.cursor, self.anew) = (instance, 0, true);
                }
                link
            }
        };
        redis::scan(&mut link.output, self.cursor, count, &self.prefix);
        let replies = link.ask(1).await?;
        let reply = replies.reply(0);
        let Some((next, keys)) = redis::scanned(reply) else {
            let text = format!("it refused SCAN: {}", item::words(reply));
            return Err(match redis::again(reply) {
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
            // With a pattern it does not say how many it has passed over.
            walked: match self.prefix.is_empty() || next == 0 {
                true => keys.len(),
                false => count.max(keys.len()),
            },
            keys,
            next,
            anew: std::mem::take(&mut self.anew),
        }))
    }

    async fn dump(
        &mut self,
        pool: &Pool,
        end: &Endpoint,
        probed: &Probed,
    ) -> Result<Option<Page>, Fault> {
        if self.keys.is_empty() {
            if self.ended() || self.slices > 0 && self.slice >= self.slices {
                self.state = State::End;
                return Ok(None);
            }
            // It goes as fast as it can, and those who wait for its locks notice.
            probed.calm().await;
            let mut link = end.open(pool).await?;
            let items = self.recognise(&mut link).await?;
            self.keys = self.keys_of(link, items).await?;
        }
        let Some(keys) = self.keys.front_mut() else {
            return Ok(None);
        };
        let page: Vec<Vec<u8>> = keys.by_ref().take(PAGE).collect();
        let position = self.slice;
        if keys.is_empty() {
            self.keys.pop_front();
            self.slice += 1;
        }
        Ok(Some(Page {
            position,
            walked: page.len(),
            keys: page,
            next: self.slice,
            anew: std::mem::take(&mut self.anew),
        }))
    }

    /// See whether this is another server, or another life of it, than before,
    /// and how many slices there are to be then. How many items it has.
    async fn recognise(&mut self, link: &mut Link) -> Result<u64, Fault> {
        link.output
            .extend_from_slice(instance::question(Protocol::Memcached));
        let stats = link.ask(1).await?;
        let stats = stats.reply(0);
        let instance = instance::read(Protocol::Memcached, stats)?;
        let same = instance::is_same(Protocol::Memcached, &self.instance, &instance);
        let items = memcached::statistic(stats, "curr_items").unwrap_or(0);
        if self.slices == 0 || !same {
            self.instance = instance;
            self.slices = items.div_ceil(KEPT).max(SLICES_MIN);
            (self.slice, self.anew) = (0, true);
        }
        Ok(items)
    }

    /// Dump everything, so many items, and keep this slice and those of the next
    /// ones for which there is room.
    async fn keys_of(&self, link: Link, items: u64) -> Result<VecDeque<Keys>, Fault> {
        let mut link = begin_dump(link).await?;
        let kept = slices_kept(items, self.slices, self.slice);
        let mut keys: VecDeque<Keys> = (0..kept).map(|_| Keys::default()).collect();
        let mut dumped = 0_u64;
        while !read_dump(&mut link.input, |key| {
            dumped += 1;
            let at = slice_of(&key, self.slices).checked_sub(self.slice);
            let at = at.and_then(|at| usize::try_from(at).ok());
            if let Some(slice) = at.and_then(|at| keys.get_mut(at)) {
                slice.push(&key);
            }
        })? {
            link.more().await?;
        }
        if dumped == 0 && count(&mut link).await? > 0 {
            return Err(Fault::Lost(
                "its metadump is empty and it is not".to_owned(),
            ));
        }
        Ok(keys)
    }
}

/// How many slices from this one on fit into memory together.
fn slices_kept(items: u64, slices: u64, slice: u64) -> u64 {
    let kept = KEPT.saturating_mul(slices) / items.max(1);
    let left = slices.saturating_sub(slice);
    kept.clamp(1, SLICES_MAX).min(left.max(1))
}

/// Which of so many slices a key is in: FNV-1a, the same in every run, and
/// stirred, or keys that differ in a digit would stay together.
fn slice_of(key: &[u8], slices: u64) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 32) % slices.max(1)
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
async fn count(link: &mut Link) -> Result<u64, Fault> {
    // What is left of the dump's last line.
    link.input.clear();
    link.output.extend_from_slice(b"stats\r\n");
    let stats = link.ask(1).await?;
    Ok(memcached::statistic(stats.reply(0), "curr_items").unwrap_or(0))
}

/// Take whole lines of a dump; whether it has ended.
fn read_dump(input: &mut Vec<u8>, mut each: impl FnMut(Vec<u8>)) -> Result<bool, Fault> {
    let mut at = 0;
    while let Some(len) = memchr::memchr(b'\n', input.get(at..).unwrap_or_default()) {
        let line = input.get(at..at + len).unwrap_or_default();
        at += len + 1;
        if line.trim_ascii_end() == b"END" {
            input.clear();
            return Ok(true);
        }
        let key = memcached::dumped(line);
        each(key.ok_or_else(|| Fault::Lost("its metadump has a line that is none".to_owned()))?);
    }
    input.drain(..at);
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_one_slice_and_they_are_alike() {
        let mut counts = [0; 4];
        for i in 0..4000 {
            counts[slice_of(format!("key:{i}").as_bytes(), 4) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn one_dump_does_where_all_keys_fit_into_memory() {
        assert_eq!(slices_kept(1_000_000, 4, 0), 4);
        assert_eq!(slices_kept(1_000_000, 4, 3), 1);
        assert_eq!(slices_kept(0, 4, 1), 3);
        assert_eq!(slices_kept(4 * KEPT, 4, 0), 1);
        assert_eq!(slices_kept(2 * KEPT, 4, 0), 2);
        assert_eq!(slices_kept(1, u64::MAX, 0), SLICES_MAX);
    }

    #[test]
    fn a_dump_is_read_however_it_is_cut() {
        let dump = b"key=a exp=-1\nkey=b%20c exp=5\r\nEND\r\n";
        for cut in 0..dump.len() {
            let (mut input, mut keys) = (dump[..cut].to_vec(), Vec::new());
            assert_eq!(read_dump(&mut input, |key| keys.push(key)), Ok(false));
            input.extend_from_slice(&dump[cut..]);
            assert_eq!(read_dump(&mut input, |key| keys.push(key)), Ok(true));
            assert_eq!(keys, [b"a".to_vec(), b"b c".to_vec()]);
        }
        let mut garbage = b"STAT x 1\r\n".to_vec();
        assert!(read_dump(&mut garbage, drop).is_err());
    }
}
