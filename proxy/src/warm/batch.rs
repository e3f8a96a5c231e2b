//! One batch of keys: read from its source, sorted by target, added there.
//!
//! A batch is *finished* when nothing more can be done for any of its keys:
//! copied, refused, or not there. Keys whose server was lost are not finished,
//! and so hold the checkpoint back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::time::Instant;

use super::Work;
use super::endpoint::{Endpoint, Failed};
use super::frontier::PageId;
use super::item::{Found, Item, Wrote};
use super::link::{Fault, INPUT_MAX, Replies};
use super::source::Source;
use super::{memcached, redis};
use crate::running::{Pool, Protocol};

/// Keys of one source.
#[derive(Debug)]
pub struct Batch {
    /// Where they were found; none for keys of a hot list.
    pub page: Option<PageId>,
    /// The keys.
    pub keys: Vec<Vec<u8>>,
}

/// Bytes that a source may answer to several keys. More of them are asked for
/// one by one: nobody knows how long a value is before it comes.
const REPLIES_MAX: usize = 16 << 20;

/// Copy a batch.
pub async fn copy(work: Rc<Work>, source: Rc<Source>, batch: Batch) {
    let keys = batch.keys.len();
    let (mut lost, mut parts) = (0, vec![batch.keys]);
    while let Some(part) = parts.pop() {
        let size = part.len();
        lost += match read(&work, &source, part, &mut parts).await {
            Ok(items) => deliver_all(&work, items).await,
            Err(Failed) => size,
        };
    }
    work.tally.borrow_mut().undelivered += lost as u64;
    if let Some(page) = batch.page {
        source
            .frontier
            .borrow_mut()
            .finish(page, keys - lost.min(keys));
    }
}

/// The values that are to be copied. `rest` is given those keys that must be
/// asked for again, and the halves of what was too much.
async fn read(
    work: &Work,
    source: &Source,
    keys: Vec<Vec<u8>>,
    rest: &mut Vec<Vec<Vec<u8>>>,
) -> Result<Vec<Item>, Failed> {
    let pool = work.from.pool().ok_or(Failed)?;
    // Of the attempt that was answered: an outage takes nothing off a time
    // to live that is told behind it.
    let asked = Cell::new(Instant::now());
    let ask = |out: &mut Vec<u8>| {
        asked.set(Instant::now());
        for key in &keys {
            encode_read(pool, out, key);
        }
        keys.len() * replies_per_read(pool)
    };
    let most = match keys.len() {
        1 => INPUT_MAX,
        _ => REPLIES_MAX,
    };
    let Some(replies) = source.end.ask_within(pool, most, ask).await? else {
        work.bytes.borrow_mut().take(most, Instant::now());
        split(work, source, keys, rest);
        return Ok(Vec::new());
    };
    source.trust(keys.len());
    let items = sort(work, source, pool, keys, &replies, asked.get(), rest).await;
    let bytes = items.iter().map(|item| item.data.len()).sum();
    work.bytes.borrow_mut().take(bytes, Instant::now());
    Ok(keep(work, items))
}

/// These keys' values were too much at a time.
fn split(work: &Work, source: &Source, mut keys: Vec<Vec<u8>>, rest: &mut Vec<Vec<Vec<u8>>>) {
    source.distrust(keys.len());
    if let [key] = &keys[..] {
        let mut tally = work.tally.borrow_mut();
        tally.refuse(key, &source.end.name, &Fault::TooLong.to_string());
        return;
    }
    let half = keys.split_off(keys.len() / 2);
    rest.extend([half, keys]);
}

/// Tell what was found from what was not.
async fn sort(
    work: &Work,
    source: &Source,
    pool: &Pool,
    keys: Vec<Vec<u8>>,
    replies: &Replies,
    asked: Instant,
    rest: &mut Vec<Vec<Vec<u8>>>,
) -> Vec<Item> {
    let (mut items, mut later, mut why) = (Vec::new(), Vec::new(), String::new());
    let count = keys.len();
    for (at, key) in keys.into_iter().enumerate() {
        match found(pool, replies, at, &key, asked) {
            Found::Item(item) => {
                source.weigh(item.data.len());
                items.push(item);
            }
            Found::Again(words) => {
                why = words;
                later.push(key);
            }
            Found::Gone => work.tally.borrow_mut().gone += 1,
            Found::Placeholder => work.tally.borrow_mut().placeholders += 1,
            Found::Refused(words) => {
                let mut tally = work.tally.borrow_mut();
                tally.refuse(&key, &source.end.name, &words);
            }
        }
    }
    if later.len() < count {
        source.end.answered();
    }
    if !later.is_empty() {
        rest.push(later);
        // Once it is given up, whoever asks for them hears of it.
        let _ = source.end.again(Fault::Lost(why)).await;
    }
    items
}

/// Those that have enough time left.
fn keep(work: &Work, mut items: Vec<Item>) -> Vec<Item> {
    let min = work.options.min_ttl;
    items.retain(|item| {
        let short = item.left.is_some_and(|left| left < min);
        work.tally.borrow_mut().short += u64::from(short);
        !short
    });
    items
}

fn replies_per_read(pool: &Pool) -> usize {
    match pool.protocol {
        Protocol::Redis => redis::READ_REPLIES,
        Protocol::Memcached => 1,
    }
}

fn encode_read(pool: &Pool, out: &mut Vec<u8>, key: &[u8]) {
    match pool.protocol {
        Protocol::Redis => redis::read(out, key),
        Protocol::Memcached => memcached::read(out, key),
    }
}

fn found(pool: &Pool, replies: &Replies, at: usize, key: &[u8], asked: Instant) -> Found {
    match pool.protocol {
        Protocol::Redis => {
            let at = at * redis::READ_REPLIES;
            let three = [at, at + 1, at + 2].map(|at| replies.reply(at));
            redis::found(key, three, asked)
        }
        Protocol::Memcached => memcached::found(key, replies.reply(at), asked),
    }
}

/// Bring each item to its target; how many could not be.
async fn deliver_all(work: &Work, items: Vec<Item>) -> usize {
    let mut by_target: BTreeMap<u32, Vec<Item>> = BTreeMap::new();
    for item in items {
        let target = work.to.ring.server(&item.key);
        by_target.entry(target.0).or_default().push(item);
    }
    let mut lost = 0;
    for (target, items) in by_target {
        lost += match work.targets.get(&target) {
            Some(end) => deliver(work, end, items).await,
            None => items.len(),
        };
    }
    lost
}

/// Bring items to one target; how many could not be.
async fn deliver(work: &Work, end: &Endpoint, mut items: Vec<Item>) -> usize {
    let Some(pool) = work.to.pool() else {
        return items.len();
    };
    loop {
        let now = Instant::now();
        items.retain(|item| {
            let expired = item.expired(now);
            work.tally.borrow_mut().gone += u64::from(expired);
            !expired
        });
        if items.is_empty() {
            return 0;
        }
        let Ok(today) = today(pool, end, &items).await else {
            return items.len();
        };
        let ask = |out: &mut Vec<u8>| {
            for item in &items {
                encode_write(work, pool, out, item, today);
            }
            items.len()
        };
        let Ok(replies) = end.ask(pool, ask).await else {
            return items.len();
        };
        let mut why = None;
        let mut at = 0;
        items.retain(|item| {
            let wrote = wrote(work, pool, replies.reply(at));
            at += 1;
            let later = note(work, end, item, wrote);
            let again = later.is_some();
            why = later.or(why.take());
            again
        });
        if items.len() < at {
            end.answered();
        }
        if let Some(why) = why
            && end.again(Fault::Lost(why)).await.is_err()
        {
            return items.len();
        }
    }
}

/// The clock of a memcached that is to be given dates; otherwise 0.
async fn today(pool: &Pool, end: &Endpoint, items: &[Item]) -> Result<u64, Failed> {
    if pool.protocol == Protocol::Redis || !items.iter().any(memcached::needs_date) {
        return Ok(0);
    }
    let ask = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"stats\r\n");
        1
    };
    let stats = end.ask(pool, ask).await?;
    Ok(memcached::statistic(stats.reply(0), "time").unwrap_or(0))
}

/// What is said to a target about an item: in a dry run, a question.
fn encode_write(work: &Work, pool: &Pool, out: &mut Vec<u8>, item: &Item, today: u64) {
    let (now, replace) = (Instant::now(), work.options.replace);
    match (pool.protocol, work.options.dry_run) {
        (Protocol::Redis, true) => redis::look(out, &item.key),
        (Protocol::Redis, false) => redis::write(out, item, now, replace),
        (Protocol::Memcached, true) => memcached::look(out, &item.key),
        (Protocol::Memcached, false) => memcached::write(out, item, now, replace, today),
    }
}

fn wrote(work: &Work, pool: &Pool, reply: &[u8]) -> Wrote {
    let wrote = match (pool.protocol, work.options.dry_run) {
        (Protocol::Redis, true) => redis::looked(reply),
        (Protocol::Redis, false) => redis::wrote(reply),
        (Protocol::Memcached, true) => memcached::looked(reply),
        (Protocol::Memcached, false) => memcached::wrote(reply),
    };
    match wrote {
        Wrote::Exists if work.options.dry_run && work.options.replace => Wrote::Stored,
        wrote => wrote,
    }
}

/// Count what became of an item; why it must be tried again, if it must.
fn note(work: &Work, end: &Endpoint, item: &Item, wrote: Wrote) -> Option<String> {
    let mut tally = work.tally.borrow_mut();
    let target = tally.targets.entry(end.name.clone()).or_default();
    match wrote {
        Wrote::Stored => {
            target.keys += 1;
            target.bytes += item.data.len() as u64;
        }
        Wrote::Exists => target.existed += 1,
        Wrote::Refused(words) => tally.refuse(&item.key, &end.name, &words),
        Wrote::Again(words) => return Some(words),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{Job, Options, Side};
    use super::*;
    use crate::config::{self, Environment, Source as Text};

    /// A copy between servers that nobody asks.
    fn work() -> Work {
        let text = "[listeners.main]\nprotocol = \"redis\"\nbind = \"127.0.0.1:1\"\nroute = \"old\"\n\
                    [pools.old]\nprotocol = \"redis\"\nservers = [\"127.0.0.1:2\"]\n\
                    [pools.new]\nprotocol = \"redis\"\nservers = [\"127.0.0.1:3\"]\n";
        let text = Text::new("test".to_owned(), text.to_owned());
        let (running, _) = config::load(&text, &Environment::process());
        let running = Arc::new(running.unwrap());
        let options = Options {
            replace: false,
            all: false,
            only: Default::default(),
            prefix: Vec::new(),
            min_ttl: Duration::ZERO,
            rate: None,
            bandwidth: None,
            concurrency: 4,
            source_p99: None,
            checkpoint: None,
            dry_run: false,
            retry_for: Duration::ZERO,
            hot: Vec::new(),
        };
        let side = |name| Side::named(&running, name).unwrap();
        Work::new(Job::new(side("old"), side("new"), options).unwrap())
    }

    #[test]
    fn what_is_too_much_is_halved_and_a_key_alone_refused() {
        let (work, mut rest) = (work(), Vec::new());
        let keys = ["a", "b", "c"].map(|key| key.as_bytes().to_vec());
        split(&work, &work.sources[0], keys.to_vec(), &mut rest);
        let [a, b, c] = keys;
        assert_eq!(rest.pop(), Some(vec![a]));
        assert_eq!(rest.pop(), Some(vec![b.clone(), c]));
        split(&work, &work.sources[0], vec![b], &mut rest);
        assert!(rest.is_empty());
        let tally = work.tally.borrow();
        assert_eq!((tally.refused, tally.undelivered), (1, 0));
        let said = "b at 127.0.0.1:2: its replies are too long";
        assert_eq!(tally.refusals, [said]);
    }
}
