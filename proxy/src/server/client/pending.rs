//! Requests for keys with a delete that its server has not been told of yet.

use std::rc::Rc;
use std::time::Duration;

use emberline_routing::Plan;

use super::conversation::{Conversation, Next};
use crate::nanos::nanos;
use crate::server::worker::Worker;

/// How often it is looked whether the delete has been applied: that takes a
/// round trip to the server and one to the disk.
const PAUSE: Duration = Duration::from_millis(1);

impl Conversation {
    /// What to do first, if an earlier delete of the key waits for a server
    /// that is up: wait until it has been applied, for as long as a request may
    /// take. After that the request gets an error, as it does from a server
    /// that is down: it is never sent ahead of the delete.
    pub(super) fn wait_for_delete(
        &mut self,
        worker: &Rc<Worker>,
        plan: &Plan,
        key: &[u8],
    ) -> Option<Next> {
        if !worker.has_delete_logs() || plan.target().is_some() {
            return None;
        }
        if !worker.brings_deletes(plan, key) {
            self.deleted_until = 0;
            return None;
        }
        let now = worker.now();
        if self.deleted_until == 0 {
            let patience = plan.first().map(|first| worker.pool_of_target(first));
            let patience = patience.map_or(PAUSE, |pool| worker.pool(pool).timeout_request);
            self.deleted_until = now + nanos(patience);
        }
        if now >= self.deleted_until {
            self.deleted_until = 0;
            return None;
        }
        let client = Rc::clone(&self.client);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(PAUSE).await;
            client.wake();
        });
        Some(Next::Wait)
    }
}
