//! A plan as text, for `explain`:
//!
//! ```text
//! one after the other, on timeout, lost, connect, down, busy:
//!   send to 10.0.0.1:6379
//!   with a TTL of at most 10s:
//!     send to 10.0.0.9:6379
//! ```
//!
//! A line says what happens, and the lines below it, further in, to whom.

use std::fmt::Write;
use std::time::Duration;

use crate::plan::{Canned, Change, Mirror, Outcomes, Pick, Plan, Refill, Target, Try, TtlChange};
use crate::routes::BigValue;
use crate::{PoolId, ServerId};

/// What servers and pools are called.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// A server, as a reader knows it.
    pub server: &'a dyn Fn(ServerId) -> String,
    /// An embedded pool.
    pub pool: &'a dyn Fn(PoolId) -> String,
}

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

/// This plan as text, a line each with its end.
pub fn plan(plan: &Plan, names: &Names<'_>) -> String {
    let mut page = Page {
        text: String::new(),
        names,
    };
    page.plan(plan, 0);
    page.text
}

/// What a change does to a request, in words: `as key "b", after 5ms`. Empty
/// if it does nothing.
pub fn change(change: &Change) -> String {
    let mut words = Vec::new();
    if change.delete {
        words.push("as a deletion".to_owned());
    }
    if let Some(key) = &change.key {
        words.push(format!("as key \"{}\"", key.escape_ascii()));
    }
    match &change.others {
        Some(others) if others.is_empty() => words.push("of this key alone".to_owned()),
        Some(others) => words.extend(
            others
                .iter()
                .map(|key| format!("with key \"{}\"", key.escape_ascii())),
        ),
        None => {}
    }
    if let Some(TtlChange { set, cap, floor }) = change.ttl {
        let rules = [
            (set, "with a TTL of"),
            (floor, "with a TTL of at least"),
            (cap, "with a TTL of at most"),
        ];
        let said = rules
            .iter()
            .filter_map(|(life, word)| Some((word, (*life)?)));
        words.extend(said.map(|(word, life)| format!("{word} {}", time(life))));
    }
    if let Some(delay) = change.delay {
        words.push(format!("after {}", time(delay)));
    }
    if change.withheld {
        words.push("not sent, so never answered".to_owned());
    }
    if let Some(name) = &change.log {
        words.push(format!("logged as \"{name}\""));
    }
    for mark in &change.tombstones {
        words.push(format!("marked as gone for {}", time(mark.life)));
    }
    if let Some(mark) = change.absent {
        words.push(format!(
            "a miss remembered for {} or until a write",
            time(mark.life)
        ));
    }
    words.join(", ")
}

/// What the proxy says itself.
pub fn canned(canned: &Canned) -> String {
    match canned {
        Canned::Null => "nothing there".to_owned(),
        Canned::Accepted => "accepted".to_owned(),
        Canned::Error(message) => format!("error \"{message}\""),
        Canned::Busy(message) => format!("busy \"{message}\""),
    }
}

/// In one unit, as a configuration has it.
fn time(time: Duration) -> String {
    match (time.as_nanos(), time.as_micros(), time.as_millis()) {
        (nanos, micros, _) if nanos == 0 || nanos % 1_000 != 0 || micros == 0 => {
            format!("{nanos}ns")
        }
        (_, micros, _) if micros % 1_000 != 0 => format!("{micros}us"),
        (_, _, millis) if millis % 1_000 != 0 => format!("{millis}ms"),
        (_, _, millis) => format!("{}s", millis / 1_000),
    }
}

fn outcomes(on: Outcomes) -> String {
    let all = emberline_protocol::Outcome::ALL.iter();
    let names = all.filter(|outcome| on.has(**outcome));
    names.map(|one| one.name()).collect::<Vec<_>>().join(", ")
}

/// That a value may be in pieces, in words.
pub fn in_pieces(route: &BigValue) -> String {
    format!(
        "a value above {} bytes in pieces, for {} at most; the key itself",
        route.chunk(),
        time(route.ttl())
    )
}

fn pick(pick: Pick) -> &'static str {
    match pick {
        Pick::First => "the reply is that of the first",
        Pick::Fastest => "the reply is the first success",
        Pick::Majority => "the reply is what most say",
        Pick::Worst => "the reply is the worst",
        Pick::Every => "the reply is the best, unless one fails",
        Pick::FirstOfAll => "the reply is that of the first, when all have answered",
        Pick::Nobody => "answered at once as accepted",
    }
}

struct Page<'a> {
    text: String,
    names: &'a Names<'a>,
}

impl Page<'_> {
    fn line(&mut self, depth: usize, words: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.text, "{:1$}{words}", "", depth * 2);
    }

    fn plan(&mut self, plan: &Plan, depth: usize) {
        match plan {
            Plan::Answer(pool) => {
                let line = format!("answer from {}", (self.names.pool)(*pool));
                self.line(depth, &line);
            }
            Plan::Send(server) => {
                let line = format!("send to {}", (self.names.server)(*server));
                self.line(depth, &line);
            }
            Plan::Reply(said) => self.line(depth, &format!("answer {}", canned(said))),
            Plan::Edit(edit, inner) => {
                self.line(depth, &format!("{}:", change(edit)));
                self.plan(inner, depth + 1);
            }
            Plan::Try(tries) => self.tries(tries, depth),
            Plan::Fan(fan) => {
                self.line(depth, &format!("all at once, {}:", pick(fan.answer)));
                self.plans(&fan.plans, depth + 1);
            }
            Plan::Mirror(mirror) => self.mirror(mirror, depth),
            Plan::Pieces(pieces) => {
                self.line(depth, &format!("{}:", in_pieces(&pieces.route)));
                self.plan(&pieces.head, depth + 1);
            }
        }
    }

    fn plans(&mut self, plans: &[Plan], depth: usize) {
        plans.iter().for_each(|plan| self.plan(plan, depth));
    }

    fn tries(&mut self, tries: &Try, depth: usize) {
        let mut words = match &tries.plans[..] {
            [_] => "this".to_owned(),
            _ => format!("one after the other, on {}", outcomes(tries.on)),
        };
        if let Some(after) = tries.hedge_after {
            words += &format!(", the next as well after {}", time(after));
        }
        if tries.retry_writes {
            words += ", writes too if nobody knows whether they were done";
        }
        if tries.allowance.is_some() {
            words += ", as often as the rate allows";
        }
        if tries.copies_missed {
            words += "; after a miss, the answer, the next for a copy alone";
        }
        if tries.learn.is_some() {
            words += ", learning its hit rate";
        }
        self.line(depth, &format!("{words}:"));
        self.plans(&tries.plans, depth + 1);
        if let Some(refill) = &tries.refill {
            self.refill(refill, depth);
        }
    }

    fn mirror(&mut self, mirror: &Mirror, depth: usize) {
        self.plan(&mirror.main, depth);
        self.line(depth, "and copied, nobody waits:");
        self.plans(&mirror.copies, depth + 1);
        if let Some(refill) = &mirror.refill {
            self.refill(refill, depth);
        }
    }

    fn refill(&mut self, refill: &Refill, depth: usize) {
        let mut words = "what missed gets a copy".to_owned();
        if let Some(cap) = refill.cap {
            words += &format!(", for {} at most", time(cap));
        }
        if refill.tombstone.is_some() {
            words += ", unless it is marked as gone";
        }
        let Some(to) = &refill.to else {
            return self.line(depth, &words);
        };
        self.line(depth, &format!("{words}:"));
        for (target, edit) in to.aims() {
            let name = match target {
                Target::Answer(pool) => (self.names.pool)(pool),
                Target::Send(server) => (self.names.server)(server),
            };
            match change(&edit) {
                words if words.is_empty() => self.line(depth + 1, &format!("add to {name}")),
                words => self.line(depth + 1, &format!("add to {name}, {words}")),
            }
        }
    }
}
