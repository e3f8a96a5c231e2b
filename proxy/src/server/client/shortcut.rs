//! The shortest way: a plain Redis `GET` of a promoted key that memory can
//! answer at once.
//!
//! What is asked most often is looked up in no table of commands and takes no
//! slot. Whatever is special (a muted client, requests that wait, an item near
//! its end, a key that is not promoted) is left to the long way, in `redis` and
//! `recall`, which would answer the same.

use std::rc::Rc;

use super::conversation::{Conversation, Dialogue};
use crate::running::Listener;
use crate::server::form::Form;
use crate::server::worker::Worker;

impl Conversation {
    /// Whether a `GET` may be answered without a look at anything but its key.
    pub(super) fn may_serve_hot(&self, worker: &Worker) -> bool {
        let plain = match &self.dialogue {
            Dialogue::Redis(session) => session.is_plain(),
            Dialogue::Memcached => false,
        };
        plain
            && !self.noted
            && worker.heat.may_serve()
            && !worker.policies[self.client.listener].denies_get
            && !worker.is_overloaded()
    }

    /// Answer a command of one argument, if it is the `GET` of a promoted key
    /// that memory can answer at once; false if there is anything else to it.
    #[inline]
    pub(super) fn serve_hot(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        name: &[u8],
        key: &[u8],
    ) -> bool {
        if !name.eq_ignore_ascii_case(b"get") {
            return false;
        }
        let wire = self.client.wire();
        let Some(pool) = listener.router.pool_of(key) else {
            return false;
        };
        let mut lent = self.client.pipeline.borrow_mut();
        let pipeline = lent.get_or_insert_with(|| worker.lend_pipeline(self.client.next.get()));
        if !pipeline.is_answered() {
            return false;
        }
        let served = worker.heat.serve(pool, key, worker.now(), |value| {
            pipeline.answer(|out| Form::Bulk.write(key, value, wire, out));
        });
        drop(lent);
        if served {
            if self.served.0 != pool {
                self.count_served();
                self.served.0 = pool;
            }
            self.served.1 += 1;
        }
        served
    }

    /// Count what was served at once.
    pub(super) fn count_served(&mut self) {
        let (pool, times) = self.served;
        if times > 0 {
            self.served.1 = 0;
            self.worker.count_gets(self.client.listener, pool, times);
        }
    }
}
