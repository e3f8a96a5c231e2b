//! A delete that its server did not answer is written down, in pools with a
//! delete log: its client hears that it was done, as soon as it is certain
//! that it will be.
//!
//! For the course it is a failure all the same, so that a failover goes on to
//! the next place, which may have a copy. It is only when the failed leg's
//! reply is the answer that the client hears of success, and not of the
//! server's error; and not if another place failed that has no log.
//!
//! A disk that takes nothing holds up its client for no longer than a server
//! would: after that the client hears of the server's error, although the
//! delete may be written later.

use std::rc::Rc;
use std::time::Duration;

use emberline_protocol::{Kind, Outcome};
use emberline_routing::{Canned, Change, Leg, ServerId};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::info;

use super::{Dispatch, Fault};
use crate::delete_log::Refused;
use crate::log::Limited;
use crate::metrics::Verdict;
use crate::server::heat::Touch;
use crate::server::worker::Worker;

/// An outage has many of them.
static WRITTEN_DOWN: Limited = Limited::new(1);

impl Dispatch {
    /// Whether a leg deletes its key, and nothing else: what a replay does.
    fn deletes(&self, change: &Change) -> bool {
        change.delete || self.request.is_delete()
    }

    /// Have a leg that failed written down; whether that is being done.
    pub(super) fn write_down(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        leg: Leg,
        server: Option<ServerId>,
        fault: &Fault,
    ) -> bool {
        let change = self.change(leg).unwrap_or_default();
        // A server that is marked as down does not come back.
        let (Some(server), true) = (server, *fault != Fault::Marked) else {
            return false;
        };
        let Some(log) = worker.delete_log(server).filter(|_| self.deletes(&change)) else {
            return false;
        };
        let now = worker.unix_millis();
        let mut lines = Vec::new();
        for key in change.keys(self.request.key()) {
            worker.doubt(server, key);
            lines.push(log.append(key, now));
        }
        let patience = worker.pool_of(server).timeout_request;
        let (this, worker, fault) = (Rc::clone(self), Rc::clone(worker), fault.clone());
        tokio::task::spawn_local(async move {
            let written = are_written(lines, patience).await;
            worker.tick();
            this.written_down(&worker, leg, (server, &change), &fault, written);
        });
        true
    }

    fn written_down(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        leg: Leg,
        (server, change): (ServerId, &Change),
        fault: &Fault,
        written: bool,
    ) {
        let name = worker.server_name(server);
        if !written {
            let said = (fault.text(name), fault.verdict());
            return self.settle_failed(worker, leg, change, said, fault.outcome());
        }
        if let Some(skipped) = WRITTEN_DOWN.admit() {
            let pool = &worker.pool_of(server).name;
            let why = fault.text(name);
            info!(
                pool,
                server = name,
                why,
                skipped,
                "a delete is not yet applied: it is in the log"
            );
        }
        self.remember(worker, change, false);
        // A copy that goes away with a write is nobody's answer.
        if self.request.kind() != Kind::Delete {
            return self.settle(worker, leg, Outcome::Done);
        }
        let wire = self.reader.client.wire();
        self.keep(leg, |kept| {
            self.request
                .canned(&Canned::Accepted, wire, &mut kept.bytes);
            kept.whole = true;
            kept.owed = true;
        });
        self.settle(worker, leg, fault.outcome());
    }

    /// A write has not been sent to a server: others may take it.
    pub(super) fn unsent(&self, worker: &Rc<Worker>, server: ServerId, change: &Change) {
        if self.request.kind() != Kind::Read {
            let key = change.key.as_deref().unwrap_or(self.request.key());
            worker.doubt(server, key);
        }
    }

    /// Of the places that failed, one that has not been written down.
    pub(super) fn unwritten(&self) -> Option<(String, Verdict)> {
        let mut replies = self.replies.borrow_mut();
        replies.iter_mut().find_map(|reply| reply.fault.take())
    }
}

impl Worker {
    /// What memory has of the key is not served any more, although nothing was
    /// sent; other proxies hear of it too.
    pub fn doubt(self: &Rc<Worker>, server: ServerId, key: &[u8]) {
        let pool = self.pool_of_server(server);
        if let Some(hash) = self.heat.hash(pool, key) {
            let touch = Touch::Write(hash);
            self.forget_all_copies(&touch, server);
            let touch = self.heat.told(pool, touch, std::iter::once(key));
            self.heat.doubted(&touch, self.now(), &self.meter);
        }
    }
}

/// What becomes of one of the deletes.
type Line = oneshot::Receiver<Result<(), Refused>>;

/// Whether it is certain within `patience` that the deletes are on the disk.
async fn are_written(lines: Vec<Line>, patience: Duration) -> bool {
    let all = async {
        let mut written = true;
        for line in lines {
            written &= matches!(line.await, Ok(Ok(())));
        }
        written
    };
    timeout(patience, all).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_is_not_waited_for_without_end() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let check = |answer: Option<Result<(), Refused>>, expected: bool| {
            let (mut disk, written) = (None, oneshot::channel());
            match answer {
                Some(answer) => written.0.send(answer).unwrap(),
                None => disk = Some(written.0),
            }
            let waiting = are_written(vec![written.1], Duration::from_millis(1));
            assert_eq!(runtime.block_on(waiting), expected);
            drop(disk);
        };
        check(Some(Ok(())), true);
        check(Some(Err("the disk is full".into())), false);
        check(None, false);
    }
}
