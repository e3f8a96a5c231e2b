//! Deletes that wait, in a log or in memory, sent to their server when it is
//! up again; and the requests that must not overtake them.
//!
//! Worker 0 goes through the logs a few times a second, and sends what waits
//! for servers that are not ejected, in order, over one connection. What is
//! owed to undo a copy (`dispatch/owed`) is sent at once, and then by whichever
//! worker looks first, as often. Any worker that has a request for a pending
//! key sends that key's delete at once, and lets the request wait:
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

use super::Hub;
use super::backend::{Backend, Entry};
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
    place: Place,
    server: ServerId,
    key: Arc<[u8]>,
    /// A client waits for it.
    wanted: bool,
}

/// Where a delete waits.
#[derive(Debug)]
enum Place {
    /// In this log, under this number.
    Log(ServerLog, u64),
    /// Among what is owed.
    Memory,
}

impl Replay {
    /// The server has answered.
    pub fn answered(self, worker: &Worker, reply: &[u8]) {
        let protocol = worker.pool_of(self.server).protocol;
        match forgotten(protocol, &self.key, reply) {
            Some(Outcome::Done | Outcome::NotDone | Outcome::Miss) => match self.place {
                Place::Log(log, seq) => log.gone(seq, self.key),
                Place::Memory => worker.hub.owed.settle(self.server, &self.key),
            },
            _ => {
                if let Place::Memory = self.place {
                    worker.hub.owed.refuse(self.server, &self.key);
                }
                self.failed(worker);
            }
        }
    }

    /// It has not: the delete waits on. Who waits for it is woken when it is
    /// time to try again.
    pub fn failed(self, worker: &Worker) {
        let hub = Arc::clone(&worker.hub);
        if !self.wanted {
            return self.release(&hub);
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(AGAIN).await;
            self.release(&hub);
        });
    }

    fn release(self, hub: &Hub) {
        match self.place {
            Place::Log(log, _) => log.release(&self.key),
            Place::Memory => hub.owed.release(self.server, &self.key),
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
        let logged = ask.kind == Kind::Delete && self.delete_log(server).is_some();
        match logged || self.awaits_delete(server, ask.key) {
            true => Plan::Edit(Box::default(), Box::new(plan)),
            false => plan,
        }
    }

    /// Whether a delete of this key waits for a server: nothing about the key is
    /// to be sent there before it.
    pub fn awaits_delete(&self, server: ServerId, key: &[u8]) -> bool {
        let logged = self.delete_log(server).is_some_and(|log| log.has(key));
        logged || self.hub.owed.has(server, key)
    }

    /// Whether nothing about this key may be sent to a server: a delete waits in
    /// a log, or the server has refused one that is owed.
    pub fn withholds(&self, server: ServerId, key: &[u8]) -> bool {
        let logged = self.delete_log(server).is_some_and(|log| log.has(key));
        logged || self.hub.owed.is_refused(server, key)
    }

    /// A request about these keys is about to be sent over this connection:
    /// deletes of them that are owed go first. Mostly its client has waited for
    /// those, but another thread may owe one since.
    pub fn pay_first<'k>(
        self: &Rc<Worker>,
        backend: &Backend,
        keys: impl Iterator<Item = &'k [u8]>,
    ) {
        let (owed, server) = (&self.hub.owed, backend.server);
        if owed.is_empty() {
            return;
        }
        for key in keys.filter(|key| owed.has(server, key)) {
            let key: Arc<[u8]> = key.into();
            let errand = owed.claim(server, &key).then(|| Replay {
                place: Place::Memory,
                server,
                key: Arc::clone(&key),
                wanted: false,
            });
            self.push_delete(backend, &key, errand);
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
            if self.health.is_ejected(server) || !self.awaits_delete(server, key) {
                continue;
            }
            let key: Arc<[u8]> = key.into();
            let logged = match self.delete_log(server) {
                Some(log) => log.claim(&key, waker),
                None => Claim::Nothing,
            };
            if let (Some(log), Claim::Yours(seq)) = (self.delete_log(server), &logged) {
                self.replay(Replay {
                    place: Place::Log(log.clone(), *seq),
                    server,
                    key: Arc::clone(&key),
                    wanted: true,
                });
            }
            let owed = self.hub.owed.claim_and_wait(server, &key, waker);
            if let Claim::Yours(_) = owed {
                self.replay(Replay {
                    place: Place::Memory,
                    server,
                    key,
                    wanted: true,
                });
            }
            waits |= logged != Claim::Nothing || owed != Claim::Nothing;
        }
        waits
    }

    /// A copy that was made in the room that was reserved for it may have come
    /// behind a delete of its key: delete it again, now or as soon as its
    /// server can be told. Until then nothing else about the key is sent there.
    pub fn owe_delete(self: &Rc<Worker>, server: ServerId, key: &[u8]) {
        self.hub.owed.owe(server, key);
        if !self.replay_owed(server, key.into()) {
            self.doubt(server, key);
        }
    }

    /// Send the delete of this key, if one is owed that nobody is sending.
    fn replay_owed(self: &Rc<Worker>, server: ServerId, key: Arc<[u8]>) -> bool {
        self.hub.owed.claim(server, &key)
            && self.replay(Replay {
                place: Place::Memory,
                server,
                key,
                wanted: false,
            })
    }

    /// A few times a second: send what is owed to servers that are up.
    pub fn replay_debts(self: &Rc<Worker>) {
        let owed = &self.hub.owed;
        if owed.is_empty() {
            return;
        }
        // Another thread may know more servers by now than this worker does.
        let newest = self.hub.newest();
        owed.forgive(|server| newest.servers.gone_for(server.0 as usize).is_some());
        let is_up = |server: ServerId| {
            !self.running.servers.is_gone(server.0 as usize) && !self.health.is_ejected(server)
        };
        for (server, key) in owed.claim_some(BATCH, is_up) {
            self.replay(Replay {
                place: Place::Memory,
                server,
                key,
                wanted: false,
            });
        }
    }

    /// Send it; whether there is room for another.
    fn replay(self: &Rc<Worker>, replay: Replay) -> bool {
        let (server, key) = (replay.server, Arc::clone(&replay.key));
        let backend = match self.backend(server, Version::Resp2, 0) {
            Ok(backend) if !backend.is_full() => backend,
            _ => {
                replay.failed(self);
                return false;
            }
        };
        self.push_delete(&backend, &key, Some(replay));
        true
    }

    /// Without a replay, somebody else's is on its way by another connection,
    /// and this one makes sure of the order on its own.
    fn push_delete(self: &Rc<Worker>, backend: &Backend, key: &[u8], replay: Option<Replay>) {
        let server = backend.server;
        let pool = self.pool_of_server(server);
        let touch = match self.heat.hash(pool, key) {
            Some(hash) => {
                let touch = Touch::Write(hash);
                self.forget_all_copies(&touch, server);
                self.heat.told(pool, touch, std::iter::once(key))
            }
            None => Touch::None,
        };
        let entry = match replay {
            Some(replay) => Entry::errand(Errand::Replay(replay), self.now()),
            None => Entry::unheard(self.now()),
        };
        let protocol = self.pool(pool).protocol;
        let entry = entry.touching(touch);
        backend.push(self, entry, |out| forget(protocol, key, out));
    }
}

/// Go through the logs until the process ends, or no pool has one.
pub async fn run(mut worker: Rc<Worker>) {
    let mut stuck: HashMap<ServerId, (u64, u32)> = HashMap::new();
    while !worker.is_draining() {
        if let Some(newest) = worker.successor() {
            worker = newest;
        }
        if !worker.is_durable() {
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
            place: Place::Log(log.clone(), seq),
            server,
            key,
            wanted: false,
        };
        match room {
            true => room = worker.replay(replay),
            false => replay.failed(worker),
        }
    }
    true
}
