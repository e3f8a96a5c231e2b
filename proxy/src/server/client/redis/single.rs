//! Redis requests with one key: from memory, added up, to copies, or handed to
//! the place that the key has.

use std::rc::Rc;

use emberline_hotkey::Access;
use emberline_protocol::redis::command::Command;
use emberline_routing::Target;

use super::{Frame, access_of};
use crate::running::{Listener, Protocol};
use crate::server::ask::ask_of;
use crate::server::client::conversation::{Conversation, Next};
use crate::server::client::copies::forget;
use crate::server::client::recall::Read;
use crate::server::form::Form;
use crate::server::heat::Touch;
use crate::server::worker::Worker;

impl Conversation {
    /// A request with one key.
    pub(super) fn single(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Listener,
        command: &'static Command,
        frame: Frame<'_>,
        key: &[u8],
    ) -> Next {
        let ask = ask_of(command, &frame.request(), key);
        let plan = worker.plan(listener, self.client.origin, &ask);
        if let Some(next) = self.wait_for_delete(worker, &plan, key) {
            return next;
        }
        let Some(plan) = plan.target() else {
            if is_get(command) {
                let record = self.record(Some(command), None);
                let request = || frame.kept(command, &[key]);
                let read = (key, Form::Bulk);
                if let Some(next) = self.recall_home(worker, &plan, read, record, request) {
                    return next;
                }
            }
            return self.dispatch_redis(worker, command, frame, &[key], plan);
        };
        let pool = worker.pool_of_target(plan);
        let access = access_of(command);
        let hash = self.note(worker, pool, access, key);
        let mut record = self.record(Some(command), plan);
        record.key = hash;
        let (Some(hash), Target::Send(server)) = (hash, plan) else {
            return self.pass(worker, record, Touch::None, plan, frame);
        };
        let touch = match access {
            Access::Write if self.fetch_clashes(worker, Some(hash)) => return self.wait_for_all(),
            Access::Write => {
                let copies = self.copies_of(worker, hash, server);
                if let Some(delta) = delta_of(command, frame)
                    && copies.is_none()
                    && let Some(next) =
                        self.combine(worker, server, hash, key, delta, record, |out| {
                            frame.write(out);
                        })
                {
                    return next;
                }
                let touch = Touch::Write(hash);
                let touch = worker.heat.told(pool, touch, std::iter::once(key));
                if let Some(copies) = copies {
                    let forget = |out: &mut Vec<u8>| forget(Protocol::Redis, key, out);
                    let write = |out: &mut Vec<u8>| frame.write(out);
                    return self.write_copied(
                        worker,
                        (server, &copies),
                        record,
                        touch,
                        write,
                        forget,
                    );
                }
                touch
            }
            // Nothing is promoted: there is nothing to be looked up.
            Access::Read if worker.heat.is_cold() => match tells_value(command) {
                true => worker.heat.touch_read(pool, hash),
                false => Touch::Look(hash),
            },
            Access::Read if is_get(command) => {
                let read = Read {
                    pool,
                    server,
                    key,
                    hash,
                    form: Form::Bulk,
                    misses: true,
                };
                if let Some(next) = self.recall(worker, &read, record) {
                    return next;
                }
                if !worker.heat.pool(pool).may_stand_in() {
                    return self.pass(worker, record, Touch::Look(hash), plan, frame);
                }
                if let Some(next) = self.read_copy(worker, &read, record) {
                    return next;
                }
                if self.fetch_clashes(worker, Some(hash)) {
                    return self.wait_for_all();
                }
                worker.heat.touch_read(pool, hash)
            }
            Access::Read if self.fetch_clashes(worker, Some(hash)) => return self.wait_for_all(),
            Access::Read if tells_value(command) => worker.heat.touch_read(pool, hash),
            Access::Read => Touch::Look(hash),
        };
        self.pass(worker, record, touch, plan, frame)
    }
}

/// Whether its reply says something of a string's value, so that a reader who
/// has had it must not be given an older one from memory.
fn tells_value(command: &Command) -> bool {
    matches!(command.group, "string" | "bitmap") || command.name == "dump"
}

/// Whether it is the command that memory answers.
fn is_get(command: &Command) -> bool {
    command.name == "get"
}

/// By how much a command increments, if it does nothing else.
fn delta_of(command: &Command, frame: Frame<'_>) -> Option<i64> {
    let given = || integer(frame.arg(2));
    match (command.name, frame.parser.len()) {
        ("incr", 2) => Some(1),
        ("decr", 2) => Some(-1),
        ("incrby", 3) => given(),
        ("decrby", 3) => given()?.checked_neg(),
        _ => None,
    }
}

/// An integer in the one way of writing it that a server takes: `+1` and `01`
/// are none.
fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let canonical = itoa::Buffer::new().format(number).as_bytes() == text;
    canonical.then_some(number)
}
