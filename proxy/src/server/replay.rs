//! Deletes that have waited in a log, sent to their server when it is up
//! again; and the requests that must not overtake them.
//!
//! Worker 0 goes through the logs a few times a second, and sends what waits
//! for servers that are not ejected, in order, over one connection. Any worker
//! that has a request for a pending key sends that key's delete at once, and
//! lets the request wait:
//!
//! ```text
//!   request --> claim the delete; who has it already?
//!                 |         \
//!              nobody     somebody: he will end it
//!                 |           |
//!              send it        |            the client's task sleeps
//!                 |           |
//!              applied, and that is written; or not, and a pause has passed
//!                         |
//!              the claim ends, and wakes all who wait for it
//! ```
//!
//! A task is put on the list under the same lock as the claim is looked at, so
//! there is no moment at which a claim ends unheard.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use emberline_protocol::redis::Version;
use emberline_protocol::{Kind, Outcome};
use emberline_routing::{Ask, Change, Plan, ServerId, Target};

use super::backend::Entry;
use super::client::{forget, forgotten};
use super::errand::Errand;
use super::heat::Touch;
use super::worker::Worker;
use crate::delete_log::{Claim, ServerLog};

/// How often the logs are gone through when nothing waits.
const CALM: Duration = Duration::from_millis(100);

/// The same while deletes are being sent.
const BUSY: Duration = Duration::from_millis(5);

/// Deletes sent at once to one server.
const BATCH: usize = 512;

/// Rounds that are left out after one without progress: the server is up, but
/// says to try later.
const PATIENCE: u32 = 50;

/// Before a delete is sent again for whose sake a client waits: a server that
/// says no at once would be asked without end.
const AGAIN: Duration = Duration::from_millis(10);

/// A delete that is on its way to its server. Nobody else may send it.
#[derive(Debug)]
pub struct Replay {
    log: ServerLog,
    server: ServerId,
    seq: u64,
    key: Arc<[u8]>,
    /// A client waits for it.
    wanted: bool,
}

impl Replay {
    /// The server has answered.
    pub fn answered(self, worker: &Worker, reply: &[u8]) {
        let protocol = worker.pool_of(self.server).protocol;
        match forgotten(protocol, &self.key, reply) {
            Some(Outcome::Done | Outcome::NotDone | Outcome::Miss) => {
                self.log.gone(self.seq, self.key);
            }
            _ => self.failed(),
        }
    }

    /// It has not: the delete waits on. Who waits for it is woken when it is
    /// time to try again.
    pub fn failed(self) {
        match self.wanted {
            true => {
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(AGAIN).await;
                    self.log.release(&self.key);
                });
            }
            false => self.log.release(&self.key),
        }
    }
}

impl Worker {
    /// A plan that leads to one place alone, made one that is carried out step
    /// by step, if it is a delete that may have to be written down, or one is
    /// pending: nothing goes past that.
    #[cold]
    pub fn mind_deletes(&self, plan: Plan, ask: &Ask<'_>) -> Plan {
        let Some(Target::Send(server)) = plan.target() else {
            return plan;
        };
        let log = self.delete_log(server);
        match log.is_some_and(|log| ask.kind == Kind::Delete || log.has(ask.key)) {
            true => Plan::Edit(Box::default(), Box::new(plan)),
            false => plan,
        }
    }

    /// Whether a delete of this key waits for a place of the plan that is up;
    /// has it sent. The task of this waker is woken when it is worth asking
    /// again.
    pub fn brings_deletes(self: &Rc<Worker>, plan: &Plan, key: &[u8], waker: &Waker) -> bool {
        let mut waits = false;
        for (target, Change { key: changed, .. }) in plan.places() {
            let Target::Send(server) = target else {
                continue;
            };
            let key = changed.as_deref().unwrap_or(key);
            let Some(log) = self.delete_log(server) else {
                continue;
            };
            if self.health.is_ejected(server) || !log.has(key) {
                continue;
            }
            let key: Arc<[u8]> = key.into();
            let claim = log.claim(&key, waker);
            waits |= claim != Claim::Nothing;
            if let Claim::Yours(seq) = claim {
                self.replay(Replay {
                    log: log.clone(),
                    server,
                    seq,
                    key,
                    wanted: true,
                });
            }
        }
        waits
    }

    /// Send it; whether there is room for another.
    fn replay(self: &Rc<Worker>, replay: Replay) -> bool {
        let (server, key) = (replay.server, Arc::clone(&replay.key));
        let backend = match self.backend(server, Version::Resp2, 0) {
            Ok(backend) if !backend.is_full() => backend,
            _ => {
                replay.failed();
                return false;
            }
        };
        let pool = self.pool_of_server(server);
        let touch = match self.heat.hash(pool, &key) {
            Some(hash) => {
                let touch = Touch::Write(hash);
                self.forget_all_copies(&touch, server);
                self.heat.told(pool, touch, std::iter::once(&*key))
            }
            None => Touch::None,
        };
        let protocol = self.pool(pool).protocol;
        let entry = Entry::errand(Errand::Replay(replay), self.now()).touching(touch);
        backend.push(self, entry, |out| forget(protocol, &key, out));
        true
    }
}

/// Go through the logs until the process ends, or no pool has one.
pub async fn run(mut worker: Rc<Worker>) {
    let mut stuck: HashMap<ServerId, (u64, u32)> = HashMap::new();
    while !worker.is_draining() {
        if let Some(newest) = worker.successor() {
            worker = newest;
        }
        if !worker.has_delete_logs() {
            return worker.end_replay();
        }
        worker.tick();
        let mut sent = false;
        for (server, _) in worker.running.servers() {
            let Some(log) = worker.delete_log(server) else {
                continue;
            };
            if worker.health.is_ejected(server) || !log.waits() {
                continue;
            }
            if let Some((_, pause)) = stuck.get_mut(&server)
                && *pause > 0
            {
                *pause -= 1;
                continue;
            }
            sent |= replay_some(&worker, log, server, &mut stuck);
        }
        tokio::time::sleep(if sent { BUSY } else { CALM }).await;
    }
}

/// Send the first of what waits for a server.
fn replay_some(
    worker: &Rc<Worker>,
    log: &ServerLog,
    server: ServerId,
    stuck: &mut HashMap<ServerId, (u64, u32)>,
) -> bool {
    let claimed = log.claim_first(BATCH);
    let Some((first, _)) = claimed.first() else {
        return false;
    };
    // The same as last time: that one was of no use.
    let pause = match stuck.get(&server) {
        Some((before, _)) if before == first => PATIENCE,
        _ => 0,
    };
    stuck.insert(server, (*first, pause));
    let mut room = true;
    for (seq, key) in claimed {
        let replay = Replay {
            log: log.clone(),
            server,
            seq,
            key,
            wanted: false,
        };
        match room {
            true => room = worker.replay(replay),
            false => replay.failed(),
        }
    }
    true
}
