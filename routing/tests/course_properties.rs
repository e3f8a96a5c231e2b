//! What holds for every plan and whatever servers say, in whatever order.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use emberline_protocol::{Kind, Outcome};
use emberline_routing::{
    Act, Canned, Change, Course, Fan, Leg, Mirror, Outcomes, Pause, Pick, Plan, Refill, ServerId,
    Source, StateId, States, Try,
};
use proptest::prelude::*;

fn plans() -> impl Strategy<Value = Plan> {
    let leaf = prop_oneof![
        6 => (0u32..4).prop_map(|id| Plan::Send(ServerId(id))),
        1 => Just(Plan::Reply(Canned::Null)),
        1 => Just(Plan::Reply(Canned::Busy("busy".into()))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            3 => (several.clone(), tries()).prop_map(|(plans, tries)| {
                Plan::Try(Box::new(Try { plans, ..tries }))
            }),
            2 => (several.clone(), picks())
                .prop_map(|(plans, answer)| Plan::Fan(Box::new(Fan { plans, answer }))),
            1 => (inner.clone(), several).prop_map(|(main, copies)| {
                let refill = Some(Refill::missed(None));
                Plan::Mirror(Box::new(Mirror { main, copies, refill }))
            }),
            1 => (inner, changes())
                .prop_map(|(plan, change)| Plan::Edit(Box::new(change), Box::new(plan))),
        ]
    })
}

fn tries() -> impl Strategy<Value = Try> {
    let all = Outcome::ALL.to_vec();
    let some = prop::sample::subsequence(all, 0..10).prop_map(|on| Outcomes::of(&on));
    let on = prop_oneof![2 => Just(Outcomes::FAILURES), 1 => some];
    let again = prop::bool::weighted(0.2);
    (on, any::<bool>(), again, any::<bool>()).prop_map(|(on, hedged, again, filled)| Try {
        hedge_after: hedged.then_some(Duration::from_millis(5)),
        retry_writes: again,
        allowance: Some(StateId(0)),
        refill: filled.then(|| Refill::missed(None)),
        learn: Some(StateId(1)),
        ..Try::new(Vec::new(), on)
    })
}

fn picks() -> impl Strategy<Value = Pick> {
    prop::sample::select(vec![
        Pick::First,
        Pick::Fastest,
        Pick::Majority,
        Pick::Worst,
        Pick::Every,
        Pick::FirstOfAll,
        Pick::Nobody,
    ])
}

fn changes() -> impl Strategy<Value = Change> {
    (any::<bool>(), any::<bool>()).prop_map(|(delayed, delete)| Change {
        delay: delayed.then_some(Duration::from_millis(5)),
        delete,
        ..Change::default()
    })
}

/// Where a leg stands: for every `Try` above it that it concerns, the number of
/// the child, and whether that `Try` repeats writes.
type Way = HashMap<usize, (usize, bool)>;

/// The ways of all legs, in their order.
fn ways(plan: &Plan, above: &Way, tries: &mut usize, found: &mut Vec<Way>) {
    match plan {
        Plan::Send(_) | Plan::Answer(_) | Plan::Pieces(_) => found.push(above.clone()),
        Plan::Reply(_) => {}
        Plan::Edit(_, plan) => ways(plan, above, tries, found),
        Plan::Fan(fan) => {
            let each = fan.plans.iter();
            each.for_each(|plan| ways(plan, above, tries, found));
        }
        Plan::Try(one) => {
            let id = *tries;
            *tries += 1;
            for (number, plan) in one.plans.iter().enumerate() {
                let mut way = above.clone();
                way.insert(id, (number, one.retry_writes));
                ways(plan, &way, tries, found);
            }
        }
        Plan::Mirror(mirror) => {
            ways(&mirror.main, above, tries, found);
            // A copy is not the request: it may be made again.
            let each = mirror.copies.iter();
            each.for_each(|plan| ways(plan, &Way::new(), tries, found));
        }
    }
}

/// Plays a course with chance for its servers.
struct Play {
    course: Course,
    read: bool,
    ways: Vec<Way>,
    out: Vec<Leg>,
    pauses: Vec<Pause>,
    sent: HashSet<Leg>,
    said: HashMap<Leg, Outcome>,
    /// Legs whose reply had to be kept when it came.
    heard: HashSet<Leg>,
    answers: usize,
    spent: usize,
    /// Servers say what they say of a read.
    read_only: bool,
    /// What had been said when the answer was, and which it is.
    said_before: Vec<Outcome>,
    answer: Option<Outcome>,
}

impl Play {
    fn new(plan: &Plan, kind: Kind) -> Play {
        let mut found = Vec::new();
        ways(plan, &Way::new(), &mut 0, &mut found);
        Play {
            course: Course::new(plan.clone(), kind),
            read: kind == Kind::Read,
            ways: found,
            out: Vec::new(),
            pauses: Vec::new(),
            sent: HashSet::new(),
            said: HashMap::new(),
            heard: HashSet::new(),
            answers: 0,
            spent: 0,
            read_only: false,
            said_before: Vec::new(),
            answer: None,
        }
    }

    fn run(&mut self, seed: u64) {
        let chance = States::new(0, seed);
        let mut acts = Vec::new();
        self.course.start(&mut acts);
        self.take(&mut acts);
        while !self.out.is_empty() || !self.pauses.is_empty() {
            assert!(self.out.is_empty() || !self.course.is_over());
            let turn = chance.random() as usize % (self.out.len() + self.pauses.len());
            match turn.checked_sub(self.out.len()) {
                Some(pause) => self
                    .course
                    .elapsed(self.pauses.swap_remove(pause), &mut acts),
                None => {
                    let leg = self.out.swap_remove(turn);
                    let all: Vec<Outcome> = Outcome::ALL
                        .into_iter()
                        .filter(|outcome| {
                            !self.read_only || !matches!(outcome, Outcome::Done | Outcome::NotDone)
                        })
                        .collect();
                    let outcome = all[chance.random() as usize % all.len()];
                    if self.course.may_answer(leg) {
                        self.heard.insert(leg);
                    }
                    self.said.insert(leg, outcome);
                    self.course.settle(leg, outcome, &mut acts);
                    // Said twice is said once.
                    let before = acts.len();
                    self.course.settle(leg, Outcome::Hit, &mut acts);
                    assert_eq!(acts.len(), before);
                }
            }
            self.take(&mut acts);
        }
        assert_eq!(self.answers, 1);
        assert!(self.course.is_answered() && self.course.is_over());
    }

    fn take(&mut self, acts: &mut Vec<Act>) {
        let mut left = std::mem::take(acts);
        while !left.is_empty() {
            self.take_some(std::mem::take(&mut left), acts);
            left.append(acts);
        }
    }

    fn take_some(&mut self, acts: Vec<Act>, more: &mut Vec<Act>) {
        for act in acts {
            match act {
                Act::Send(leg) => self.send(leg),
                Act::Wait(pause, _) => self.pauses.push(pause),
                Act::Answer(source) => {
                    self.answers += 1;
                    if let Source::Leg(leg) = source {
                        assert!(self.said.contains_key(&leg), "answered by who said nothing");
                        assert!(self.heard.contains(&leg), "answered by what was not kept");
                        self.answer = self.said.get(&leg).copied();
                        self.said_before = self.said.values().copied().collect();
                    }
                }
                Act::Refill { from, to, .. } => {
                    assert_eq!(self.said[&from], Outcome::Hit);
                    assert!(!to.is_empty());
                }
                Act::Spend(pause, _) => {
                    self.spent += 1;
                    let paid = !self.spent.is_multiple_of(3);
                    self.course.paid(pause, paid, more);
                }
                Act::Learn { .. } => {}
            }
        }
    }

    fn send(&mut self, leg: Leg) {
        assert!(self.sent.insert(leg), "sent twice");
        self.out.push(leg);
        if self.read {
            return;
        }
        // In a `Try`, nothing that came before may have carried it out.
        for (id, (number, again)) in &self.ways[usize::from(leg.0)] {
            for before in self.sent.iter().filter(|before| **before != leg) {
                let earlier = self.ways[usize::from(before.0)].get(id);
                if *again || earlier.is_none_or(|(earlier, _)| earlier >= number) {
                    continue;
                }
                let said = self.said.get(before);
                let not_run = |outcome: &Outcome| {
                    outcome.is_certain_not_run()
                        || matches!(outcome, Outcome::Miss | Outcome::NotDone | Outcome::Error)
                };
                assert!(
                    said.is_some_and(not_run),
                    "{leg:?} after {before:?}: {said:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn a_course_answers_once_and_ends(plan in plans(), seed: u64) {
        for kind in [Kind::Read, Kind::Write, Kind::Delete, Kind::Counter] {
            Play::new(&plan, kind).run(seed);
        }
    }

    /// Of those that a hedged read has asked, the best answers: no faster miss
    /// hides what a slower one has.
    #[test]
    fn the_answer_is_the_best_one_said(seed: u64, count in 1usize..5, hedged: bool, misses: bool) {
        let plans: Vec<Plan> = (0..count as u32).map(|id| Plan::Send(ServerId(id))).collect();
        let failures = Outcomes::FAILURES.and(Outcomes::of(&[Outcome::Error]));
        let on = match misses {
            true => failures.and(Outcomes::of(&[Outcome::Miss])),
            false => failures,
        };
        let tries = Try {
            hedge_after: hedged.then_some(Duration::from_millis(5)),
            ..Try::new(plans.clone(), on)
        };
        let fan = Fan { plans, answer: Pick::Fastest };
        for plan in [Plan::Try(Box::new(tries)), Plan::Fan(Box::new(fan))] {
            let mut play = Play::new(&plan, Kind::Read);
            play.read_only = true;
            play.run(seed);
            let answer = play.answer.unwrap();
            let best = play.said_before.iter().map(|outcome| outcome.rank()).min().unwrap();
            prop_assert_eq!(answer.rank(), best, "{:?}", play.said_before);
        }
    }

    /// Everywhere that a course sends to is among the plan's places, or a
    /// copy's; and its first place is where it begins.
    #[test]
    fn a_plan_knows_its_places(plan in plans()) {
        let (places, aims) = (plan.places(), plan.aims());
        prop_assert!(aims.len() <= places.len());
        prop_assert!(aims.iter().all(|aim| places.contains(aim)));
        if let Some(first) = plan.first() {
            prop_assert!(places.iter().any(|(target, _)| *target == first));
        }
    }
}
