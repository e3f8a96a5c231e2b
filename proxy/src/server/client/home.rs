//! Reads of several places that memory answers in place of the first.
//!
//! Where a plan leads to more than one place, and one of them is asked before
//! the others, memory may know what that one would say: then nobody has to be
//! asked. If it does not, the value is fetched from there, and whoever waits
//! has a *detour*: where the fetch brings no answer, or takes longer than the
//! plan's hedge, the plan is carried out after all.
//!
//! Memory never stands in for a server that is down: what has been written
//! since went to the others.

use std::rc::Rc;

use emberline_hotkey::{Access, KeyHash, Seat};
use emberline_routing::{Home, Plan, ServerId};

use super::conversation::{Conversation, Next};
use super::recall::{Goal, Read, Recall};
use crate::running::Mode;
use crate::server::dispatch::{Request, later};
use crate::server::flight::Detour;
use crate::server::form::Form;
use crate::server::pipeline::{Record, Via};
use crate::server::worker::Worker;

impl Conversation {
    /// Answer a read of one key from memory, or let it wait for a fetch; `None`
    /// if the plan is to be carried out. `key` is the client's, and `request`
    /// makes of it what is dispatched.
    pub(super) fn recall_home(
        &mut self,
        worker: &Rc<Worker>,
        plan: &Plan,
        (key, form): (&[u8], Form<'_>),
        record: Record,
        request: impl FnOnce() -> Request,
    ) -> Option<Next> {
        let Home {
            server,
            key: sent,
            misses,
        } = plan.home()?;
        let (pool, sent) = (worker.pool_of_server(server), sent.unwrap_or(key));
        let hash = self.note(worker, pool, Access::Read, sent)?;
        self.noted = true;
        if !may_know(worker, server, (sent, hash)) {
            return None;
        }
        if self.read_clashes(hash) {
            return Some(self.wait_for_all());
        }
        // Answered under the key that the client asked for.
        let read = Read {
            pool,
            server,
            key,
            hash,
            form,
            misses,
        };
        let goal = Goal::Slot(Record {
            pool: Some(pool.0),
            via: Via::Memory,
            key: Some(hash),
            ..record
        });
        let (key, token) = match self.look(worker, &read, goal) {
            Recall::Nothing => return None,
            Recall::Answered => return Some(Next::Taken),
            Recall::Fetch(key, token) => (key, token),
        };
        let detour = || {
            Some(Box::new(Detour {
                plan: plan.clone(),
                request: request(),
                misses,
            }))
        };
        let seq = self.join(worker, &read, (key, token), goal, detour)?;
        if let Some(after) = plan.hedge_after() {
            let (client, worker) = (Rc::clone(&self.client), Rc::clone(worker));
            later(after, move || {
                worker.tick();
                worker.leave_flight((hash, token), &client, seq);
            });
        }
        Some(Next::Taken)
    }
}

/// Whether memory may have what this server would say of a key, or may have it
/// fetched.
fn may_know(worker: &Worker, server: ServerId, (key, hash): (&[u8], KeyHash)) -> bool {
    let (heat, pool) = (&worker.heat, worker.pool_of_server(server));
    let serves = matches!(heat.pool(pool).mode, Mode::Ttl | Mode::Tracking);
    let leases = !worker.pool(pool).l1.lease.is_zero();
    if heat.is_cold() || !serves || leases || worker.health.is_ejected(server) {
        return false;
    }
    let fit = |seat: &mut Seat| *seat.key.key == *key && worker.now() >= seat.unfit_until;
    heat.with_seat(hash, fit).unwrap_or(false)
}
