//! What is to be done with a request, as data.
//!
//! Routes answer with a [`Plan`]; they never send. Six kinds of node carry
//! every route: an answer or a server at the leaves, and inside
//!
//! ```text
//!   Try     one after the other, until one says what it should
//!   Fan     all at once; a rule says whose reply counts
//!   Mirror  one answers; nobody waits for the others
//!   Pieces  for those around it a leaf; what it leads to depends on the value
//! ```
//!
//! and a [`Change`] on the way to a leaf: another key, another TTL. A plain
//! pool's plan is a leaf, and costs no allocation. What becomes of a plan when
//! servers answer, or do not, is the business of a [`Course`](crate::Course).

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Outcome;

use crate::conditions::{StateId, Upstream};
use crate::routes::BigValue;
use crate::{PoolId, ServerId};

/// One place that can answer a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Target {
    /// This embedded pool.
    Answer(PoolId),
    /// This server.
    Send(ServerId),
}

/// What to do with a request.
#[derive(Clone, PartialEq, Debug)]
pub enum Plan {
    /// Answer it from this embedded pool.
    Answer(PoolId),
    /// Send it to this server.
    Send(ServerId),
    /// Answer it with something that no server said.
    Reply(Canned),
    /// Carry out another plan with a changed request.
    Edit(Box<Change>, Box<Plan>),
    /// One after the other.
    Try(Box<Try>),
    /// All at once.
    Fan(Box<Fan>),
    /// The reply of one, the same request to others.
    Mirror(Box<Mirror>),
    /// The key itself, and pieces of its value if that is large.
    Pieces(Box<Pieces>),
}

/// A reply that no server said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Canned {
    /// There is no such key; nothing was done.
    Null,
    /// It is being done, and nobody waits for it.
    Accepted,
    /// An error that names its route.
    Error(Arc<str>),
    /// An error that says: not here, not now. Nothing was done, and a failover
    /// goes on.
    Busy(Arc<str>),
}

impl Canned {
    /// As what it counts.
    pub fn outcome(&self) -> Outcome {
        match self {
            Canned::Null => Outcome::Miss,
            Canned::Accepted => Outcome::Done,
            Canned::Error(_) => Outcome::Error,
            Canned::Busy(_) => Outcome::Busy,
        }
    }
}

/// The request is not sent as it came.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Change {
    /// The whole key that is sent instead.
    pub key: Option<Box<[u8]>>,
    /// The other keys of a request with several, as they are sent. An empty
    /// list: it is about this one alone. None: as it is further up.
    pub others: Option<Box<[Box<[u8]>]>>,
    /// What becomes of the expiry that it sets.
    pub ttl: Option<TtlChange>,
    /// It is sent this much later.
    pub delay: Option<Duration>,
    /// It is logged under this name.
    pub log: Option<Arc<str>>,
    /// The log shows its key, not a hash of it.
    pub log_keys: bool,
    /// The key is deleted, whatever the request does: a copy that the request
    /// makes wrong goes away. Its reply is never the client's, unless it fails.
    pub delete: bool,
    /// It is not sent, and nobody answers: the leg settles as a timeout when
    /// the time for a reply is over.
    pub withheld: bool,
    /// The key is marked in these before it is sent, so that no [`Refill`] that
    /// is under way brings it back.
    pub tombstones: Vec<Mark>,
    /// That a read finds nothing here is remembered in this, and answered from
    /// memory while it lasts. Anything but a read ends it, before it is sent
    /// and again when it has settled.
    pub absent: Option<Mark>,
}

/// A key is remembered for a while. It is the key that is sent, not the one
/// that the client said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Mark {
    /// Among those of which route.
    pub state: StateId,
    /// How long.
    pub life: Duration,
}

/// What becomes of the time to live that a write asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TtlChange {
    /// This, whatever it asks for.
    pub set: Option<Duration>,
    /// At most this; an item that would never expire gets it.
    pub cap: Option<Duration>,
    /// At least this.
    pub floor: Option<Duration>,
}

impl Change {
    /// A request with another key.
    pub fn key(key: impl Into<Box<[u8]>>) -> Change {
        Change {
            key: Some(key.into()),
            ..Change::default()
        }
    }

    /// A request whose item lives for `cap` at the most.
    pub fn cap(cap: Duration) -> Change {
        let ttl = TtlChange {
            set: None,
            cap: Some(cap),
            floor: None,
        };
        Change {
            ttl: Some(ttl),
            ..Change::default()
        }
    }

    /// The key is deleted instead, and marked in `tombstone`.
    pub fn delete(tombstone: Option<Mark>) -> Change {
        Change {
            delete: true,
            ..Change::tombstone(tombstone)
        }
    }

    /// The key is marked before the request is sent.
    pub fn tombstone(tombstone: Option<Mark>) -> Change {
        Change {
            tombstones: tombstone.into_iter().collect(),
            ..Change::default()
        }
    }

    /// Whether the request is sent as it came, and at once.
    pub fn is_nothing(&self) -> bool {
        *self == Change::default()
    }

    /// Every key that is sent, of a request whose first key is `key`.
    pub fn keys<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        let first = self.key.as_deref().unwrap_or(key);
        let others = self.others.iter().flat_map(|others| others.iter());
        std::iter::once(first).chain(others.map(|key| &**key))
    }

    /// This change and, further down the tree, `inner`: the key that is nearest
    /// to the server counts, and the smaller cap.
    pub fn then(&self, inner: &Change) -> Change {
        Change {
            key: inner.key.clone().or_else(|| self.key.clone()),
            others: inner.others.clone().or_else(|| self.others.clone()),
            ttl: match (self.ttl, inner.ttl) {
                (Some(outer), Some(inner)) => Some(outer.then(inner)),
                (outer, inner) => inner.or(outer),
            },
            delay: match (self.delay, inner.delay) {
                (Some(outer), Some(inner)) => Some(outer.saturating_add(inner)),
                (outer, inner) => inner.or(outer),
            },
            log: inner.log.clone().or_else(|| self.log.clone()),
            log_keys: match &inner.log {
                Some(_) => inner.log_keys,
                None => self.log_keys,
            },
            delete: self.delete || inner.delete,
            withheld: self.withheld || inner.withheld,
            tombstones: [&self.tombstones[..], &inner.tombstones[..]].concat(),
            absent: inner.absent.or(self.absent),
        }
    }
}

impl TtlChange {
    fn then(self, inner: TtlChange) -> TtlChange {
        let smaller = |a: Option<Duration>, b: Option<Duration>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let cap = smaller(self.cap, inner.cap);
        let floor = match (self.floor, inner.floor) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        TtlChange {
            set: inner.set.or(self.set),
            cap,
            floor,
        }
    }
}

/// One after the other: the next when the one before says something of `on`.
/// Whoever says anything else is the answer; if nobody does, the best that was
/// said: a hit before a miss before an error. While a hedge has two of them out,
/// only a hit is the answer at once; anything else waits for the other as long
/// again, and of what has been said then the better one is.
#[derive(Clone, PartialEq, Debug)]
pub struct Try {
    /// In this order; at least one.
    pub plans: Vec<Plan>,
    /// What leads to the next.
    pub on: Outcomes,
    /// The next is asked as well if there is no answer for so long.
    pub hedge_after: Option<Duration>,
    /// A write of which nobody knows whether it was carried out is tried
    /// elsewhere too.
    pub retry_writes: bool,
    /// Going on to the next takes one from this allowance, if there is one:
    /// without one the best so far is the answer.
    pub allowance: Option<StateId>,
    /// Who gets a copy of what a later one had and they had not.
    pub refill: Option<Refill>,
    /// A miss is the answer; the next is asked all the same, and if it finds
    /// something, who missed it gets the copy of `refill`.
    pub copies_missed: bool,
    /// Whether it hit or missed is learned here.
    pub learn: Option<StateId>,
}

impl Try {
    /// These plans, going on after `on`.
    pub fn new(plans: Vec<Plan>, on: Outcomes) -> Try {
        Try {
            plans,
            on,
            hedge_after: None,
            retry_writes: false,
            allowance: None,
            refill: None,
            copies_missed: false,
            learn: None,
        }
    }
}

/// A copy of a key, made behind the reader's back: added, never overwritten,
/// with its TTL and flags.
#[derive(Clone, PartialEq, Debug)]
pub struct Refill {
    /// As a write is planned; every server in it gets a copy. None: those that
    /// said that they have not got the key.
    pub to: Option<Plan>,
    /// The copy lives for so long at the most.
    pub cap: Option<Duration>,
    /// A key that is marked here gets none. Asked before the copy is sent, and
    /// again when it is there: what was marked meanwhile is deleted again,
    /// because a delete on another connection may have overtaken it.
    pub tombstone: Option<StateId>,
}

impl Refill {
    /// Those that said that they have not got the key get a copy.
    pub fn missed(tombstone: Option<Mark>) -> Refill {
        Refill {
            to: None,
            cap: None,
            tombstone: tombstone.map(|mark| mark.state),
        }
    }
}

/// All at once.
#[derive(Clone, PartialEq, Debug)]
pub struct Fan {
    /// At least one.
    pub plans: Vec<Plan>,
    /// Whose reply counts.
    pub answer: Pick,
}

/// Whose reply counts, and how long the client waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Pick {
    /// The first plan's, as soon as it is there.
    First,
    /// The first hit, or write that was done; if there is none, the best.
    Fastest,
    /// What more than half of them say; without a majority, the worst.
    Majority,
    /// The worst, when all have answered.
    Worst,
    /// When all have answered: the worst failure, or else the best.
    Every,
    /// The first plan's, when all have answered.
    FirstOfAll,
    /// Nobody's: the client is told at once that it is being done.
    Nobody,
}

/// One answers; the others get the same, and what they say is of no interest.
#[derive(Clone, PartialEq, Debug)]
pub struct Mirror {
    /// Whose reply counts.
    pub main: Plan,
    /// Who gets the same.
    pub copies: Vec<Plan>,
    /// A copy that has not got what `main` has gets it.
    pub refill: Option<Refill>,
}

/// A key whose value may be in pieces.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// How large they are, and where each of them is.
    pub route: Arc<BigValue>,
    /// Where the key itself is: the value, or the head that stands for it. It
    /// leads somewhere.
    pub head: Plan,
}

impl Pieces {
    /// Bytes of a head.
    pub const HEAD_LEN: usize = 40;
}

/// The same pieces of the same route.
impl PartialEq for Pieces {
    fn eq(&self, other: &Pieces) -> bool {
        Arc::ptr_eq(&self.route, &other.route) && self.head == other.head
    }
}

/// The place of a plan that stands for all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home<'p> {
    /// Who is asked first.
    pub server: ServerId,
    /// The key there, if it is not the client's.
    pub key: Option<&'p [u8]>,
    /// Whether "there is no such key" would be the answer as well. If not, only
    /// a value is.
    pub misses: bool,
}

/// A set of [`Outcome`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Outcomes(u16);

impl Outcomes {
    /// Nobody answered.
    pub const FAILURES: Outcomes = Outcomes::of(&[
        Outcome::Timeout,
        Outcome::Connect,
        Outcome::Down,
        Outcome::Lost,
        Outcome::Busy,
    ]);

    /// These.
    pub const fn of(outcomes: &[Outcome]) -> Outcomes {
        let (mut bits, mut i) = (0, 0);
        while i < outcomes.len() {
            bits |= 1 << outcomes[i] as u16;
            i += 1;
        }
        Outcomes(bits)
    }

    /// These and those.
    pub const fn and(self, other: Outcomes) -> Outcomes {
        Outcomes(self.0 | other.0)
    }

    /// Whether this is one of them.
    pub const fn has(self, outcome: Outcome) -> bool {
        self.0 & (1 << outcome as u16) != 0
    }
}

impl std::fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = Outcome::ALL.iter().filter(|outcome| self.has(**outcome));
        f.debug_set().entries(names).finish()
    }
}

impl From<Target> for Plan {
    fn from(target: Target) -> Plan {
        match target {
            Target::Answer(pool) => Plan::Answer(pool),
            Target::Send(server) => Plan::Send(server),
        }
    }
}

impl Plan {
    /// The one place where it goes as it came, if it is as simple as that.
    #[inline]
    pub fn target(&self) -> Option<Target> {
        match *self {
            Plan::Answer(pool) => Some(Target::Answer(pool)),
            Plan::Send(server) => Some(Target::Send(server)),
            _ => None,
        }
    }

    /// The one place for a request that is too large to be kept, and so can be
    /// sent as it comes and once only: who would get a copy gets none, and
    /// nobody is tried after a failure. None where it has to reach several, or
    /// to be changed.
    pub fn streamed(&self) -> Option<Target> {
        match self {
            Plan::Answer(_) | Plan::Send(_) => self.target(),
            Plan::Try(tries) => tries.plans.first()?.streamed(),
            Plan::Mirror(mirror) => mirror.main.streamed(),
            Plan::Reply(_) | Plan::Edit(..) | Plan::Fan(_) | Plan::Pieces(_) => None,
        }
    }

    /// The same with a changed request.
    pub fn edited(self, change: Change) -> Plan {
        match self {
            plan if change.is_nothing() => plan,
            Plan::Edit(inner, plan) => Plan::Edit(Box::new(change.then(&inner)), plan),
            plan => Plan::Edit(Box::new(change), Box::new(plan)),
        }
    }

    /// Whose reply to a read would be the answer, if one place is asked before
    /// all others.
    pub fn home(&self) -> Option<Home<'_>> {
        match self {
            Plan::Send(server) => Some(Home {
                server: *server,
                key: None,
                misses: true,
            }),
            Plan::Answer(_) | Plan::Reply(_) | Plan::Pieces(_) => None,
            Plan::Edit(change, plan) => {
                let unseen = change.delay.is_none()
                    && change.log.is_none()
                    && !change.delete
                    && !change.withheld;
                let home = plan.home().filter(|_| unseen)?;
                let key = home.key.or(change.key.as_deref());
                Some(Home { key, ..home })
            }
            Plan::Try(tried) => {
                let home = tried.plans.first()?.home()?;
                let misses = home.misses && !tried.on.has(Outcome::Miss);
                Some(Home { misses, ..home })
            }
            Plan::Fan(fan) => match fan.answer {
                Pick::First | Pick::Fastest => {
                    let home = fan.plans.first()?.home()?;
                    let misses = home.misses && fan.answer == Pick::First;
                    Some(Home { misses, ..home })
                }
                _ => None,
            },
            Plan::Mirror(mirror) => mirror.main.home(),
        }
    }

    /// Whether it is carried out in steps although nothing fails: one place is
    /// asked when another has not got the key, or later than the request came.
    pub fn takes_steps(&self) -> bool {
        match self {
            Plan::Answer(_) | Plan::Send(_) | Plan::Reply(_) => false,
            Plan::Pieces(_) => true,
            Plan::Edit(change, plan) => change.delay.is_some() || plan.takes_steps(),
            Plan::Try(tried) => {
                let goes_on = [Outcome::Miss, Outcome::NotDone].map(|said| tried.on.has(said));
                tried.plans.len() > 1 && goes_on.contains(&true)
                    || tried.plans.iter().any(Plan::takes_steps)
            }
            Plan::Fan(fan) => fan.plans.iter().any(Plan::takes_steps),
            Plan::Mirror(mirror) => mirror.main.takes_steps(),
        }
    }

    /// After how long without an answer from its [`home`](Self::home) another
    /// is asked as well.
    pub fn hedge_after(&self) -> Option<Duration> {
        match self {
            Plan::Answer(_) | Plan::Send(_) | Plan::Reply(_) | Plan::Pieces(_) => None,
            Plan::Edit(_, plan) => plan.hedge_after(),
            Plan::Try(tried) => {
                let inner = tried.plans.first().and_then(Plan::hedge_after);
                tried.hedge_after.into_iter().chain(inner).min()
            }
            Plan::Fan(fan) => fan.plans.first()?.hedge_after(),
            Plan::Mirror(mirror) => mirror.main.hedge_after(),
        }
    }

    /// Whether somewhere in it the client is answered before anybody has
    /// ([`Pick::Nobody`]).
    pub fn is_unheard(&self) -> bool {
        match self {
            Plan::Answer(_) | Plan::Send(_) | Plan::Reply(_) => false,
            Plan::Pieces(pieces) => pieces.head.is_unheard(),
            Plan::Edit(_, plan) => plan.is_unheard(),
            Plan::Try(tried) => tried.plans.iter().any(Plan::is_unheard),
            Plan::Fan(fan) => fan.answer == Pick::Nobody || fan.plans.iter().any(Plan::is_unheard),
            Plan::Mirror(mirror) => mirror.main.is_unheard(),
        }
    }

    /// The same, but the client waits for the first that has done it, for
    /// requests whose answer only a server knows.
    pub fn heard(mut self) -> Plan {
        self.hear();
        self
    }

    fn hear(&mut self) {
        match self {
            Plan::Answer(_) | Plan::Send(_) | Plan::Reply(_) => {}
            Plan::Pieces(pieces) => pieces.head.hear(),
            Plan::Edit(_, plan) => plan.hear(),
            Plan::Try(tried) => tried.plans.iter_mut().for_each(Plan::hear),
            Plan::Fan(fan) => {
                if fan.answer == Pick::Nobody {
                    fan.answer = Pick::Fastest;
                }
                fan.plans.iter_mut().for_each(Plan::hear);
            }
            Plan::Mirror(mirror) => mirror.main.hear(),
        }
    }

    /// Where it would go first: what it is counted under.
    pub fn first(&self) -> Option<Target> {
        match self {
            Plan::Answer(_) | Plan::Send(_) => self.target(),
            Plan::Reply(_) => None,
            Plan::Edit(_, plan) => plan.first(),
            Plan::Try(tries) => tries.plans.iter().find_map(Plan::first),
            Plan::Fan(fan) => fan.plans.iter().find_map(Plan::first),
            Plan::Mirror(mirror) => mirror.main.first(),
            Plan::Pieces(pieces) => pieces.head.first(),
        }
    }

    /// The server that has to have room before a request with this plan is
    /// sent, if it has none; a request need not wait for a server that another
    /// can stand in for. What is not a read waits for the first of a `Try`: to
    /// write elsewhere because of a busy moment would leave two values.
    pub fn waits_for(
        &self,
        read: bool,
        is_full: &mut dyn FnMut(ServerId) -> bool,
    ) -> Option<ServerId> {
        match self {
            Plan::Send(server) => Some(*server).filter(|server| is_full(*server)),
            Plan::Answer(_) | Plan::Reply(_) => None,
            Plan::Edit(change, _) if change.withheld => None,
            Plan::Edit(_, plan) => plan.waits_for(read, is_full),
            Plan::Mirror(mirror) => mirror.main.waits_for(read, is_full),
            Plan::Pieces(pieces) => pieces.head.waits_for(read, is_full),
            Plan::Try(tries) => {
                let (first, others) = tries.plans.split_first()?;
                let full = first.waits_for(read, is_full)?;
                let free = |plan: &Plan| plan.waits_for(read, is_full).is_none();
                Some(full).filter(|_| !read || !others.iter().any(free))
            }
            Plan::Fan(fan) => {
                let mut full = fan.plans.iter().map(|plan| plan.waits_for(read, is_full));
                match fan.answer {
                    Pick::First => full.next().flatten(),
                    Pick::Worst | Pick::Every | Pick::FirstOfAll => full.flatten().next(),
                    Pick::Majority | Pick::Fastest => {
                        let full: Vec<ServerId> = full.flatten().collect();
                        let enough = match fan.answer {
                            Pick::Majority => fan.plans.len().div_ceil(2),
                            _ => fan.plans.len(),
                        };
                        full.first().copied().filter(|_| full.len() >= enough)
                    }
                    Pick::Nobody => None,
                }
            }
        }
    }

    /// Whether it cannot be carried out now, as far as is known: what it waits
    /// for is down.
    pub fn is_down(&self, upstream: &dyn Upstream) -> bool {
        match self {
            Plan::Answer(_) | Plan::Reply(_) => false,
            Plan::Send(server) => upstream.is_ejected(*server),
            Plan::Edit(_, plan) => plan.is_down(upstream),
            Plan::Try(tries) => tries.plans.iter().all(|plan| plan.is_down(upstream)),
            Plan::Fan(fan) => {
                let mut down = fan.plans.iter().map(|plan| plan.is_down(upstream));
                match fan.answer {
                    Pick::First | Pick::FirstOfAll => down.next().unwrap_or(false),
                    Pick::Worst | Pick::Every => down.any(|down| down),
                    Pick::Majority => down.filter(|down| *down).count() * 2 >= fan.plans.len(),
                    Pick::Fastest | Pick::Nobody => down.all(|down| down),
                }
            }
            Plan::Mirror(mirror) => mirror.main.is_down(upstream),
            Plan::Pieces(pieces) => pieces.head.is_down(upstream),
        }
    }

    /// Leave out the pieces of which `concerns` says that the request has
    /// nothing to do with them: it goes the way of the key itself.
    pub fn leave_pieces(&mut self, concerns: &dyn Fn(&BigValue) -> bool) {
        let all = |plans: &mut [Plan]| {
            let each = plans.iter_mut();
            each.for_each(|plan| plan.leave_pieces(concerns));
        };
        match self {
            Plan::Answer(_) | Plan::Send(_) | Plan::Reply(_) => {}
            Plan::Edit(_, plan) => plan.leave_pieces(concerns),
            Plan::Try(tries) => all(&mut tries.plans),
            Plan::Fan(fan) => all(&mut fan.plans),
            Plan::Mirror(mirror) => {
                mirror.main.leave_pieces(concerns);
                all(&mut mirror.copies);
            }
            Plan::Pieces(pieces) if concerns(&pieces.route) => {}
            Plan::Pieces(pieces) => {
                let mut head = std::mem::replace(&mut pieces.head, Plan::Reply(Canned::Null));
                head.leave_pieces(concerns);
                *self = head;
            }
        }
    }

    /// Every place in it, with what the request is there. Copies of a shadow
    /// are not among them, nor are pieces.
    pub fn places(&self) -> Vec<(Target, Change)> {
        let mut found = Vec::new();
        self.collect(&Change::default(), usize::MAX, &mut found);
        found
    }

    /// The places where it goes if nothing fails.
    pub fn aims(&self) -> Vec<(Target, Change)> {
        let mut found = Vec::new();
        self.collect(&Change::default(), 1, &mut found);
        found
    }

    /// `tries`: how many of those that are tried one after the other count.
    fn collect(&self, outer: &Change, tries: usize, found: &mut Vec<(Target, Change)>) {
        let mut all = |plans: &[Plan]| {
            let each = plans.iter();
            each.for_each(|plan| plan.collect(outer, tries, found));
        };
        match self {
            Plan::Try(all_tries) => all(&all_tries.plans[..all_tries.plans.len().min(tries)]),
            Plan::Fan(fan) => all(&fan.plans),
            Plan::Mirror(mirror) => mirror.main.collect(outer, tries, found),
            Plan::Pieces(pieces) => pieces.head.collect(outer, tries, found),
            Plan::Edit(change, plan) => plan.collect(&outer.then(change), tries, found),
            Plan::Answer(pool) => found.push((Target::Answer(*pool), outer.clone())),
            Plan::Send(server) => found.push((Target::Send(*server), outer.clone())),
            Plan::Reply(_) => {}
        }
    }

    /// All at once, for as many plans as there are.
    pub(crate) fn fan(plans: Vec<Plan>, answer: Pick) -> Plan {
        Plan::Fan(Box::new(Fan { plans, answer }))
    }
}
