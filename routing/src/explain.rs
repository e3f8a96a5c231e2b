//! A plan in words, as a tree: what `emberline explain` and `/explain` print.
//!
//! ```text
//! one after the other, the next after timeout, lost, connect, down, busy
//! ├─ send to 10.0.0.1:6379
//! └─ to live at most 10s
//!    └─ send to 10.0.0.9:6379
//! ```
//!
//! A line says what happens, and the lines below it to whom. This is the one
//! place that finds the words; who has a plan to show says in [`Names`] what its
//! servers are called.

mod tree;

use std::time::Duration;

pub use tree::Tree;

use crate::plan::{Canned, Change, Mirror, Outcomes, Pick, Plan, Refill, Target, Try, TtlChange};
use crate::routes::BigValue;
use crate::{PoolId, ServerId, Upstream};

/// What the servers and pools of a plan are called, and how they are.
pub trait Names {
    /// A server as a reader knows it, and how it is as far as that is known:
    /// `10.0.0.1:6379, marked as down`.
    fn server(&self, server: ServerId) -> String;

    /// The name of an embedded pool.
    fn pool(&self, pool: PoolId) -> String;

    /// The servers as they are at this moment, if that is known: of several
    /// that are tried, the one that would be taken now is pointed out.
    fn live(&self) -> Option<&dyn Upstream> {
        None
    }

    /// A place of the plan: `number` counts them as [`Plan::places`] does. Who
    /// knows how the key came to be there puts it here.
    fn place(&self, _number: usize, target: Target) -> Tree {
        place(target, self)
    }
}

/// This plan in words.
pub fn plan(plan: &Plan, names: &dyn Names) -> Tree {
    let mut guide = Guide { names, places: 0 };
    guide.plan(plan)
}

/// That a request goes to this place.
pub fn place<N: Names + ?Sized>(target: Target, names: &N) -> Tree {
    Tree::new(match target {
        Target::Answer(pool) => format!("answer from {}", memory(pool, names)),
        Target::Send(server) => format!("send to {}", names.server(server)),
    })
}

/// What a change does to a request: `as key "b", after 5ms`. Empty if it does
/// nothing.
pub fn change(change: &Change) -> String {
    let key = change.key.as_ref().map(|key| key.escape_ascii());
    let mut said = match (change.delete, key) {
        (true, Some(key)) => vec![format!("as a delete of key \"{key}\"")],
        (true, None) => vec!["as a delete of the key".to_owned()],
        (false, Some(key)) => vec![format!("as key \"{key}\"")],
        (false, None) => Vec::new(),
    };
    match &change.others {
        Some(others) if others.is_empty() => said.push("of this key alone".to_owned()),
        Some(others) => said.extend(
            others
                .iter()
                .map(|key| format!("with key \"{}\"", key.escape_ascii())),
        ),
        None => {}
    }
    said.extend(change.ttl.map(lives));
    if let Some(delay) = change.delay {
        said.push(format!("after {}", time(delay)));
    }
    if change.withheld {
        said.push("not sent: as if nobody answered".to_owned());
    }
    if let Some(name) = &change.log {
        let key = match change.log_keys {
            true => "the key",
            false => "a hash of the key",
        };
        said.push(format!("logged by {name} with {key}"));
    }
    for mark in &change.tombstones {
        said.push(format!("marked as gone for {}", time(mark.life)));
    }
    if let Some(mark) = change.absent {
        said.push(format!(
            "a miss remembered for {} or until a write",
            time(mark.life)
        ));
    }
    said.join(", ")
}

/// What the proxy says itself, behind "answer".
pub fn canned(canned: &Canned) -> String {
    match canned {
        Canned::Null => "that there is no such key".to_owned(),
        Canned::Accepted => "that it is being done".to_owned(),
        Canned::Error(text) => format!("with the error \"{text}\""),
        Canned::Busy(text) => format!("with the error \"{text}\", after which a failover goes on"),
    }
}

fn memory<N: Names + ?Sized>(pool: PoolId, names: &N) -> String {
    format!("the memory of pool {}", names.pool(pool))
}

fn lives(ttl: TtlChange) -> String {
    let rules = [
        (ttl.set, "exactly"),
        (ttl.floor, "at least"),
        (ttl.cap, "at most"),
    ];
    let said = rules
        .iter()
        .filter_map(|(life, word)| Some(format!("{word} {}", time((*life)?))));
    format!("to live {}", said.collect::<Vec<_>>().join(", "))
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

fn in_pieces(route: &BigValue) -> String {
    format!(
        "a value above {} bytes in pieces, for {} at most; the key itself",
        route.chunk(),
        time(route.ttl())
    )
}

fn pick(pick: Pick) -> &'static str {
    match pick {
        Pick::First => "the first one's reply counts",
        Pick::Fastest => "the first that has it, or has done it, answers",
        Pick::Majority => "what more than half say counts",
        Pick::Worst => "the worst reply counts",
        Pick::Every => "the worst failure counts, or else the best reply",
        Pick::FirstOfAll => "the first one's reply counts, when all have answered",
        Pick::Nobody => "nobody is waited for",
    }
}

/// In what order, and what else is to be known of it.
fn tried(tries: &Try) -> String {
    let mut said = match &tries.plans[..] {
        [_] => vec!["this one alone".to_owned()],
        _ => vec![format!(
            "one after the other, the next after {}",
            outcomes(tries.on)
        )],
    };
    if let Some(after) = tries.hedge_after {
        said.push(format!("the next as well after {}", time(after)));
    }
    if tries.retry_writes {
        said.push("writes too, although they may have been done".to_owned());
    }
    if tries.allowance.is_some() {
        said.push("as often as the rate allows".to_owned());
    }
    if tries.copies_missed {
        said.push("a miss is the answer, and the next is asked for a copy alone".to_owned());
    }
    if tries.learn.is_some() {
        said.push("its hit rate is learned".to_owned());
    }
    said.join("; ")
}

/// Walks a plan, and counts its places.
struct Guide<'n> {
    names: &'n dyn Names,
    places: usize,
}

impl Guide<'_> {
    fn plan(&mut self, plan: &Plan) -> Tree {
        match plan {
            Plan::Answer(pool) => self.place(Target::Answer(*pool)),
            Plan::Send(server) => self.place(Target::Send(*server)),
            Plan::Reply(said) => Tree::new(format!("answer {}", canned(said))),
            Plan::Edit(edit, inner) => self.below(change(edit), std::slice::from_ref(inner)),
            Plan::Try(tries) => self.tries(tries),
            Plan::Fan(fan) => {
                let title = format!("all at once: {}", pick(fan.answer));
                self.below(title, &fan.plans)
            }
            Plan::Mirror(mirror) => self.mirror(mirror),
            Plan::Pieces(pieces) => {
                let head = std::slice::from_ref(&pieces.head);
                self.below(in_pieces(&pieces.route), head)
            }
        }
    }

    fn place(&mut self, target: Target) -> Tree {
        let number = self.places;
        self.places += 1;
        self.names.place(number, target)
    }

    fn below(&mut self, title: String, plans: &[Plan]) -> Tree {
        let mut tree = Tree::new(title);
        tree.extend(plans.iter().map(|plan| self.plan(plan)));
        tree
    }

    fn tries(&mut self, tries: &Try) -> Tree {
        let mut tree = Tree::new(tried(tries));
        let taken = self.names.live().and_then(|live| {
            let mut plans = tries.plans.iter();
            plans.position(|plan| !plan.is_down(live))
        });
        for (number, plan) in tries.plans.iter().enumerate() {
            let mut below = self.plan(plan);
            if taken == Some(number) {
                below.say(", taken now");
            }
            tree.push(below);
        }
        tree.extend(tries.refill.as_ref().map(|refill| self.refill(refill)));
        tree
    }

    fn mirror(&mut self, mirror: &Mirror) -> Tree {
        let title = "answer from the first, and send it to the others too".to_owned();
        let mut tree = self.below(title, std::slice::from_ref(&mirror.main));
        for copy in &mirror.copies {
            let mut copied = Tree::new("a copy, whose reply nobody waits for");
            copied.push(self.copy(copy));
            tree.push(copied);
        }
        tree.extend(mirror.refill.as_ref().map(|refill| self.refill(refill)));
        tree
    }

    /// A copy's places are none of the plan's.
    fn copy(&self, copy: &Plan) -> Tree {
        let names = &Bare(self.names);
        Guide { names, places: 0 }.plan(copy)
    }

    fn refill(&self, refill: &Refill) -> Tree {
        let mut said = "who misses it gets a copy".to_owned();
        if let Some(cap) = refill.cap {
            said += &format!(", for {} at most", time(cap));
        }
        if refill.tombstone.is_some() {
            said += ", unless it is marked as gone";
        }
        let mut tree = Tree::new(said);
        let aims = refill.to.iter().flat_map(Plan::aims);
        tree.extend(aims.map(|(target, edit)| {
            let name = match target {
                Target::Answer(pool) => memory(pool, self.names),
                Target::Send(server) => self.names.server(server),
            };
            Tree::new(match change(&edit) {
                said if said.is_empty() => format!("add to {name}"),
                said => format!("add to {name}, {said}"),
            })
        }));
        tree
    }
}

/// The names, and nothing more about a place.
struct Bare<'n>(&'n dyn Names);

impl Names for Bare<'_> {
    fn server(&self, server: ServerId) -> String {
        self.0.server(server)
    }

    fn pool(&self, pool: PoolId) -> String {
        self.0.pool(pool)
    }

    fn live(&self) -> Option<&dyn Upstream> {
        self.0.live()
    }
}
