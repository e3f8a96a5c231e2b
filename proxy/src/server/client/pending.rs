//! Requests for keys with a delete that its server has not been told of yet.

use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use emberline_routing::Plan;

use super::conversation::{Conversation, Next};
use crate::nanos::nanos;
use crate::server::worker::Worker;

impl Conversation {
    /// What to do first, if an earlier delete of the key waits for a server
    /// that is up: wait until it has been applied, for as long as a request may
    /// take. After that the request gets an error, as it does from a server
    /// that is down: it is never sent ahead of the delete.
    ///
    /// All keys of a request wait together: the time is over for all of them
    /// when the request is taken up.
    pub(super) fn wait_for_delete(
        &mut self,
        worker: &Rc<Worker>,
        plan: &Plan,
        key: &[u8],
    ) -> Option<Next> {
        if !worker.may_await_deletes() || plan.target().is_some() {
            return None;
        }
        // Nobody writes there but this task, when it is polled.
        let waker = self.client.waker.borrow();
        let waker = waker.as_ref().unwrap_or(Waker::noop());
        if !worker.brings_deletes(plan, key, waker) {
            return None;
        }
        let now = worker.now();
        if self.deleted_until == 0 {
            let patience = plan.first().map(|first| worker.pool_of_target(first));
            let patience =
                patience.map_or(Duration::ZERO, |pool| worker.pool(pool).timeout_request);
            self.deleted_until = now.saturating_add(nanos(patience)).max(1);
        }
        self.awaits_delete = now < self.deleted_until;
        self.awaits_delete.then_some(Next::Wait)
    }
}
