//! The L1's own thread: it opens a link to each server that it is asked about,
//! hands fetches to it, and keeps time.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use emberline_hotkey::mutation::{Mutation, breaks};
use emberline_routing::{PoolId, ServerId};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::copying::{Asker, Copying};
use super::desk::Desk;
use super::{Ask, Asked, Fetch, Filled, Given, L1, Landed, LinkState, Said, bus, memcached, redis};
use crate::generation::Generation;
use crate::metrics::Meter;
use crate::running::{Changes, Protocol, Running};

/// How often flights, items and keys are looked over.
const TICK: Duration = Duration::from_millis(100);

/// Start the thread. `tell` hands an answer to the worker with that number.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn(
    running: Arc<Running>,
    l1: Arc<L1>,
    meter: Arc<Meter>,
    asked: mpsc::UnboundedReceiver<Given>,
    tell: impl Fn(usize, Landed) + Send + 'static,
) -> io::Result<()> {
    let work = move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let desk = Desk::new(running, l1, meter, Box::new(tell));
                Keeper::new(desk).run(asked).await;
            }),
            Err(error) => tracing::error!(%error, "the L1's thread could not start its runtime"),
        }
    };
    std::thread::Builder::new()
        .name("l1".to_owned())
        .spawn(work)?;
    Ok(())
}

/// What the thread is made of.
struct Keeper {
    desk: Rc<Desk>,
    /// By `ServerId`; opened at the first fetch, one for all workers (rule 1).
    links: Vec<Option<mpsc::UnboundedSender<Fetch>>>,
    /// Links that a mutation has made too many.
    spares: Vec<mpsc::UnboundedSender<Fetch>>,
    copying: Rc<Copying>,
    /// Where other proxies are told of writes.
    bus: Option<mpsc::UnboundedSender<(u16, Box<[u8]>)>>,
    /// Something was asked for: there is something to look over.
    used: bool,
}

impl Keeper {
    fn new(desk: Rc<Desk>) -> Keeper {
        let links = desk.running.servers.all().map(|_| None).collect();
        Keeper {
            spares: Vec::new(),
            copying: Copying::new(Rc::clone(&desk)),
            desk,
            links,
            bus: None,
            used: false,
        }
    }

    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Given>) {
        if let Some(bus) = self.desk.running.bus.clone() {
            let (writes, written) = mpsc::unbounded_channel();
            tokio::task::spawn_local(bus::run(Rc::clone(&self.desk), bus, written));
            self.bus = Some(writes);
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some(ask) => self.take(ask),
                    None => return,
                },
                _ = tick.tick(), if self.used => self.desk.tick(),
            }
        }
    }

    fn take(&mut self, Given { ask, under }: Given) {
        match ask {
            Ask::Reload(generation, done) => {
                self.reload(&generation);
                // Nobody waits any more only if the process is on its way out.
                let _ = done.send(());
            }
            Ask::Fill {
                key, token, worker, ..
            } if !self.desk.is_under(under) => {
                self.desk.answer(key.hash, token, worker, Filled::Failed);
            }
            Ask::Copy {
                key, token, worker, ..
            } if !self.desk.is_under(under) => {
                let worker = Some(worker);
                self.desk.answer(key.hash, token, worker, Filled::Failed);
            }
            Ask::Fill {
                key,
                token,
                server,
                worker,
            } => {
                self.used = true;
                if let Some(fetch) = self.desk.ask(key, token, server, worker) {
                    self.send(fetch);
                }
            }
            Ask::Copy {
                key,
                token,
                home,
                copies,
                worker,
            } => self
                .copying
                .start(key, home, copies, Asker { worker, token }),
            Ask::Publish { pool, key } => {
                if let Some(bus) = &self.bus {
                    let _ = bus.send((pool, key));
                }
            }
        }
    }

    /// Go on under another generation. A link stays if it would be made the
    /// same way now, and nothing of its pool is different.
    fn reload(&mut self, generation: &Generation) {
        let (old, new) = (Rc::clone(&self.desk), &generation.running);
        let l1 = Arc::clone(&old.l1);
        l1.pulses.grow(new.servers.places());
        l1.links.grow(new.servers.places());
        self.links.resize_with(new.servers.places(), || None);
        self.desk = old.next(generation);
        self.copying = Copying::new(Rc::clone(&self.desk));
        let changes = Changes::between(&old.running, new);
        for (at, link) in self.links.iter_mut().enumerate() {
            let server = ServerId(u32::try_from(at).unwrap_or(u32::MAX));
            if changes.touches_server(server) {
                // Its task ends when nobody can ask it any more.
                link.take();
                l1.links.note(server, LinkState::Idle);
                if let Some(pulse) = l1.pulse(server.0) {
                    pulse.turn();
                    pulse.stop();
                }
            }
        }
        for key in l1.board.set().keys() {
            let pool = usize::from(key.pool);
            if changes.touches_pool(PoolId(key.pool)) {
                key.invalidate();
            }
            if new.pools.is_gone(pool) {
                l1.board.demote(key.hash);
            }
        }
        for (PoolId(id), pool) in new.pools() {
            let before = old.running.pools.get(usize::from(id));
            let before = before.map_or(&[][..], |pool| &pool.hotkey.always);
            for key in before
                .iter()
                .filter(|key| !pool.hotkey.always.contains(key))
            {
                l1.board.demote(l1.hasher.hash_in(id, key));
            }
            l1.board.always(&l1.hasher, id, &pool.hotkey.always);
        }
    }

    /// Hand a fetch to its server's link.
    fn send(&mut self, fetch: Fetch) {
        let server = fetch.server;
        let protocol = self.desk.pool(server).map(|pool| pool.protocol);
        let link = self.links.get_mut(server.0 as usize);
        let (Some(link), Some(protocol)) = (link, protocol) else {
            return self.fail(fetch);
        };
        if breaks(Mutation::TwoLinks)
            && let Some(link) = link.take()
        {
            self.spares.push(link);
        }
        let link = link.get_or_insert_with(|| open(&self.desk, server, protocol));
        if let Err(refused) = link.send(fetch) {
            self.fail(refused.0);
        }
    }

    fn fail(&self, fetch: Fetch) {
        fail(&self.desk, fetch);
    }
}

/// Start a server's link.
fn open(desk: &Rc<Desk>, server: ServerId, protocol: Protocol) -> mpsc::UnboundedSender<Fetch> {
    let (sender, fetches) = mpsc::unbounded_channel();
    let desk = Rc::clone(desk);
    match protocol {
        Protocol::Redis => tokio::task::spawn_local(redis::run(desk, server, fetches)),
        Protocol::Memcached => tokio::task::spawn_local(memcached::run(desk, server, fetches)),
    };
    sender
}

/// A fetch that is not made.
fn fail(desk: &Desk, fetch: Fetch) {
    let asked: Asked = desk.asked(fetch.server);
    desk.land(fetch, asked, Said::Failed);
}
