//! One source server: its keys are walked, filtered, and cut into batches.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use emberline_routing::ServerId;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::batch::{self, Batch};
use super::checkpoint::Progress;
use super::endpoint::{Endpoint, Failed};
use super::frontier::{Frontier, PageId};
use super::probe::Probed;
use super::walk::{Page, Walk};
use super::{BATCH, Options, Side, Work, memcached};
use crate::running::{Pool, Protocol, Server};

/// Bytes that a batch should have at most, going by the values seen so far.
const BATCH_BYTES: f64 = (1 << 20) as f64;

/// Keys of the first batches, while nobody knows how long values are.
const TRUST: usize = 8;

/// See the module's description.
#[derive(Debug)]
pub struct Source {
    /// The server.
    pub end: Endpoint,
    id: ServerId,
    address: crate::running::Address,
    /// What its other clients see, and how fast it may be copied.
    pub probed: Arc<Probed>,
    /// What is finished.
    pub frontier: RefCell<Frontier>,
    /// Bytes of a value, on average, of late.
    value: Cell<f64>,
    /// Keys of a batch at most: twice as many as were ever answered at a time.
    trust: Cell<usize>,
    walk: RefCell<Option<Walk>>,
    /// As of the last page.
    progress: RefCell<Progress>,
}

impl Source {
    /// A server that was copied this far.
    pub fn new(
        from: &Side,
        id: ServerId,
        server: &Server,
        options: &Options,
        progress: Progress,
    ) -> Source {
        let (walk, frontier) = Walk::new(&options.prefix, progress.clone());
        let most = options.concurrency.saturating_mul(BATCH);
        let probed = Probed::new(&server.address, from.index, options.source_p99, most);
        Source {
            end: Endpoint::new(&server.name, &server.address, options.retry_for),
            id,
            address: server.address.clone(),
            probed: Arc::new(probed),
            frontier: RefCell::new(frontier),
            value: Cell::new(0.0),
            trust: Cell::new(TRUST),
            walk: RefCell::new(Some(walk)),
            progress: RefCell::new(progress),
        }
    }

    /// Forget how far it was copied.
    pub fn begin_anew(&self, options: &Options) {
        let (walk, frontier) = Walk::new(&options.prefix, Progress::default());
        self.walk.replace(Some(walk));
        self.frontier.replace(frontier);
        self.progress.take();
    }

    /// What a later run needs to know.
    pub fn progress(&self) -> Progress {
        // The walk is out while it waits for a page; then what it said last
        // holds, but for what has been finished since.
        if let Some(walk) = &*self.walk.borrow() {
            self.progress
                .replace(walk.progress(&self.frontier.borrow()));
        }
        self.progress.borrow().clone()
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.progress.borrow().done
    }

    /// A value of so many bytes was read.
    pub fn weigh(&self, bytes: usize) {
        let before = self.value.get();
        self.value.set(before + (bytes as f64 - before) / 64.0);
    }

    /// A batch of so many keys was answered.
    pub fn trust(&self, keys: usize) {
        let grown = keys.saturating_mul(2).min(BATCH);
        self.trust.set(self.trust.get().max(grown));
    }

    /// The answers to a batch of so many keys were too long.
    pub fn distrust(&self, keys: usize) {
        self.trust.set((keys / 2).max(1));
    }

    /// Keys of the next batch: what the pace allows, and not too many bytes.
    fn portion(&self, work: &Work) -> usize {
        let light = (BATCH_BYTES / self.value.get().max(1.0)) as usize;
        let most = self.trust.get().min(self.probed.allowed());
        let most = most.min(light.max(1));
        work.keys.borrow().portion(most)
    }

    /// Batches that may be in flight.
    fn in_flight(&self, work: &Work) -> usize {
        let batches = self.probed.allowed().div_ceil(BATCH);
        batches.clamp(1, work.options.concurrency.max(1))
    }
}

/// Copy all keys of a server: those that come first, and when every other server
/// has copied its own of them, too, or was given up, the rest.
pub async fn copy(work: Rc<Work>, source: Rc<Source>) {
    // Whoever failed has said so to its endpoint.
    let begun = copy_hot(&work, &source).await;
    if !work.options.hot.is_empty() {
        work.hot_copied.wait().await;
    }
    if begun.is_ok() {
        let _ = copy_rest(&work, &source).await;
    }
}

async fn copy_hot(work: &Rc<Work>, source: &Rc<Source>) -> Result<(), Failed> {
    let pool = work.from.pool().ok_or(Failed)?;
    let ended = source.walk.borrow().as_ref().is_none_or(Walk::ended);
    if !ended {
        count(work, source, pool).await?;
        let mut batches = JoinSet::new();
        send(work, source, &mut batches, None, hot_keys(work, source)).await;
        super::all(&mut batches).await;
    }
    Ok(())
}

async fn copy_rest(work: &Rc<Work>, source: &Rc<Source>) -> Result<(), Failed> {
    let pool = work.from.pool().ok_or(Failed)?;
    let taken = source.walk.borrow_mut().take();
    let mut walk = taken.ok_or(Failed)?;
    let mut batches = JoinSet::new();
    while !work.stopped.get() && !work.is_hopeless() {
        let page = walk.page(pool, &source.end, &source.probed).await;
        let page = match page {
            Ok(Some(page)) => page,
            Ok(None) | Err(Failed) => break,
        };
        let walked = match pool.protocol {
            Protocol::Redis => page.walked,
            // A dump that is over costs its server nothing more.
            Protocol::Memcached => 0,
        };
        let (id, keys) = take_up(work, source, page);
        let passed = walked.saturating_sub(keys.len());
        // What the walk says of itself holds until it is asked for more.
        source.walk.replace(Some(walk));
        source.progress();
        send(work, source, &mut batches, Some(id), keys).await;
        if passed > 0 {
            // Keys that are not copied were looked at, too.
            wait_for_limits(work, passed).await;
        }
        let taken = source.walk.borrow_mut().take();
        walk = match taken {
            Some(walk) => walk,
            None => return Err(Failed),
        };
    }
    source.walk.replace(Some(walk));
    super::all(&mut batches).await;
    Ok(())
}

/// Ask how many keys there are; nobody minds if there is no answer.
async fn count(work: &Work, source: &Source, pool: &Pool) -> Result<(), Failed> {
    let question: &[u8] = match pool.protocol {
        Protocol::Redis => b"DBSIZE\r\n",
        Protocol::Memcached => b"stats\r\n",
    };
    let ask = |out: &mut Vec<u8>| {
        out.extend_from_slice(question);
        1
    };
    let replies = source.end.ask(pool, ask).await?;
    source.end.answered();
    let reply = replies.reply(0);
    let keys = match pool.protocol {
        Protocol::Redis => emberline_protocol::redis::reply::integer(reply)
            .and_then(|keys| u64::try_from(keys).ok()),
        Protocol::Memcached => memcached::statistic(reply, "curr_items"),
    };
    work.total.set(work.total.get() + keys.unwrap_or(0));
    Ok(())
}

/// The keys that come first and are on this server.
fn hot_keys(work: &Work, source: &Source) -> Vec<Vec<u8>> {
    let hot = work.options.hot.iter();
    let ours = hot.filter(|key| {
        let placed = work.from.ring.server(key) == source.id;
        placed && wanted(work, source, key).is_ok()
    });
    ours.cloned().collect()
}

/// Note a page, and leave those keys that are to be copied.
fn take_up(work: &Work, source: &Source, page: Page) -> (PageId, Vec<Vec<u8>>) {
    let mut keys = page.keys;
    let mut tally = work.tally.borrow_mut();
    tally.seen += keys.len() as u64;
    keys.retain(|key| match wanted(work, source, key) {
        Ok(()) => true,
        Err(Unwanted::Leftover) => {
            tally.leftovers += 1;
            false
        }
        Err(Unwanted::Choice) => {
            tally.unwanted += 1;
            false
        }
        Err(Unwanted::Stays) => {
            tally.staying += 1;
            false
        }
    });
    let mut frontier = source.frontier.borrow_mut();
    if page.anew {
        frontier.restart(0);
    }
    let id = frontier.open(page.position, keys.len(), page.next);
    (id, keys)
}

/// Why a key is not copied.
enum Unwanted {
    Leftover,
    Choice,
    Stays,
}

fn wanted(work: &Work, source: &Source, key: &[u8]) -> Result<(), Unwanted> {
    if !key.starts_with(&work.options.prefix) {
        return Err(Unwanted::Choice);
    }
    if work.knows_owners() && work.from.ring.server(key) != source.id {
        return Err(Unwanted::Leftover);
    }
    let id = work.to.ring.server(key);
    let target = work.to.running.servers.get(id.0 as usize);
    let Some(target) = target else {
        return Err(Unwanted::Choice);
    };
    if !work.options.only.is_empty() && !work.options.only.contains(&target.name) {
        return Err(Unwanted::Choice);
    }
    let database = |side: &Side| side.pool().map(|pool| pool.database);
    if target.address == source.address && database(&work.from) == database(&work.to) {
        return Err(Unwanted::Stays);
    }
    Ok(())
}

/// Cut keys into batches and send them on their way, as many as may be.
async fn send(
    work: &Rc<Work>,
    source: &Rc<Source>,
    batches: &mut JoinSet<()>,
    page: Option<PageId>,
    mut keys: Vec<Vec<u8>>,
) {
    while !keys.is_empty() && !work.stopped.get() {
        while batches.len() >= source.in_flight(work) {
            batches.join_next().await;
        }
        let size = source.portion(work);
        wait_for_limits(work, size.min(keys.len())).await;
        let rest = keys.split_off(size.min(keys.len()));
        let batch = Batch {
            page,
            keys: std::mem::replace(&mut keys, rest),
        };
        batches.spawn_local(batch::copy(Rc::clone(work), Rc::clone(source), batch));
    }
}

async fn wait_for_limits(work: &Work, keys: usize) {
    let now = Instant::now();
    let bytes = work.bytes.borrow().wait(now);
    let wait = work.keys.borrow().wait(now).max(bytes);
    work.keys.borrow_mut().take(keys, now);
    if !wait.is_zero() {
        sleep(wait).await;
    }
}
