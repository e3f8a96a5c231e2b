//! One plan for a request with several keys, out of the plans of its keys.
//!
//! A server takes such a request whole or not at all, so the plans must lead to
//! the same places. What each key is called there may differ, and so may what is
//! only deleted: a deletion can be sent for each key by itself.
//!
//! ```text
//!   RENAME a b    a: l2, and forget a in l1-1     l2: RENAME a b
//!                 b: l2, and forget b in l1-2     l1-1: DEL a    l1-2: DEL b
//! ```
//!
//! Nothing is refilled: what was found is no copy of any one key.

use std::sync::Arc;

use crate::plan::{Change, Mirror, Pick, Pieces, Plan, Try};

/// The keys of a request but the first, as they are sent at some place.
type Others = Vec<Box<[u8]>>;

impl Plan {
    /// The plan of a request with these keys, each of which has this plan by
    /// itself. `None` if no one place has all keys.
    ///
    /// A copy that nobody waits for and that cannot be made in one place is
    /// deleted there instead, key by key, if the request is a `write`.
    pub fn together(plans: &[Plan], keys: &[&[u8]], write: bool) -> Option<Plan> {
        let others: Others = keys.iter().skip(1).map(|&key| key.into()).collect();
        let plans: Vec<&Plan> = plans.iter().collect();
        let joined = join(&plans, &others, write)?;
        Some(joined.edited(Change {
            others: Some(others.into()),
            ..Change::default()
        }))
    }
}

fn join(plans: &[&Plan], others: &Others, write: bool) -> Option<Plan> {
    let (first, rest) = plans.split_first()?;
    if plans.iter().any(|plan| matches!(plan, Plan::Edit(..))) {
        return join_edits(plans, others, write);
    }
    if plans.iter().any(|plan| extras(plan).is_some()) {
        return join_extras(plans, others, write);
    }
    match first {
        Plan::Answer(_) | Plan::Send(_) | Plan::Reply(_) => {
            let same = rest.iter().all(|plan| plan == first);
            same.then(|| (*first).clone())
        }
        Plan::Try(tries) => {
            let alike = |plan: &&Plan| matches!(plan, Plan::Try(one) if is_like(tries, one));
            if !rest.iter().all(alike) {
                return None;
            }
            // Whoever comes behind one that cannot take it is not asked.
            let plans: Vec<Plan> = (0..tries.plans.len())
                .map_while(|at| join(&nth(plans, at)?, others, write))
                .collect();
            (!plans.is_empty()).then(|| {
                Plan::Try(Box::new(Try {
                    plans,
                    refill: None,
                    copies_missed: false,
                    ..(**tries).clone()
                }))
            })
        }
        Plan::Fan(fan) => {
            let alike = rest.iter().all(|plan| match plan {
                Plan::Fan(other) => {
                    other.answer == fan.answer && other.plans.len() == fan.plans.len()
                }
                _ => false,
            });
            if !alike {
                return None;
            }
            let mut joined = vec![join(&nth(plans, 0)?, others, write)?];
            for at in 1..fan.plans.len() {
                joined.extend(join_or_delete(&nth(plans, at)?, others, write)?);
            }
            Some(Plan::fan(joined, fan.answer))
        }
        Plan::Pieces(pieces) => {
            let heads: Option<Vec<&Plan>> = plans
                .iter()
                .map(|plan| match plan {
                    Plan::Pieces(one) if Arc::ptr_eq(&one.route, &pieces.route) => Some(&one.head),
                    _ => None,
                })
                .collect();
            Some(Plan::Pieces(Box::new(Pieces {
                route: Arc::clone(&pieces.route),
                head: join(&heads?, others, write)?,
            })))
        }
        Plan::Edit(..) | Plan::Mirror(_) => None,
    }
}

/// Changes on the way: each key has its own name from here on.
fn join_edits(plans: &[&Plan], others: &Others, write: bool) -> Option<Plan> {
    let nothing = Change::default();
    let parts: Vec<(&Change, &Plan)> = plans
        .iter()
        .map(|plan| match plan {
            Plan::Edit(change, plan) => (&**change, &**plan),
            plan => (&nothing, *plan),
        })
        .collect();
    let (first, _) = parts.first()?;
    let nameless = |change: &Change| Change {
        key: None,
        others: None,
        ..change.clone()
    };
    if parts
        .iter()
        .any(|(one, _)| nameless(one) != nameless(first))
    {
        return None;
    }
    let named = parts.iter().skip(1).zip(others);
    let others: Others = named
        .map(|((change, _), key)| change.key.as_ref().unwrap_or(key).clone())
        .collect();
    let below: Vec<&Plan> = parts.iter().map(|(_, plan)| *plan).collect();
    let change = Change {
        others: Some(others.clone().into()),
        ..(*first).clone()
    };
    Some(join(&below, &others, write)?.edited(change))
}

/// One that answers, and what is done beside it: the copies of a mirror, or
/// what is deleted with a write. Not every key needs to have any.
fn join_extras(plans: &[&Plan], others: &Others, write: bool) -> Option<Plan> {
    let mains: Vec<&Plan> = plans.iter().map(|plan| main(plan)).collect();
    let main = join(&mains, others, write)?;
    let beside: Vec<&[Plan]> = plans
        .iter()
        .map(|plan| extras(plan).unwrap_or_default())
        .collect();
    let mirror = plans.iter().any(|plan| matches!(plan, Plan::Mirror(_)));
    let even = beside.iter().all(|one| one.len() == beside[0].len());
    let mut extra = Vec::new();
    match even {
        true => {
            for at in 0..beside[0].len() {
                let copies: Vec<&Plan> = beside.iter().map(|one| &one[at]).collect();
                match join(&copies, others, write) {
                    Some(joined) => extra.push(joined),
                    None => extra.extend(deleted(&copies, others, write, mirror)?),
                }
            }
        }
        false => {
            for (number, one) in beside.iter().enumerate() {
                for copy in *one {
                    extra.extend(deletion(copy, number, others, write, mirror)?);
                }
            }
        }
    }
    Some(match (extra.is_empty(), mirror) {
        (true, _) => main,
        (false, true) => Plan::Mirror(Box::new(Mirror {
            main,
            copies: extra,
            refill: None,
        })),
        (false, false) => {
            let plans = std::iter::once(main).chain(extra).collect();
            Plan::fan(plans, Pick::FirstOfAll)
        }
    })
}

/// The same child of every plan.
fn nth<'p>(plans: &[&'p Plan], at: usize) -> Option<Vec<&'p Plan>> {
    let children = plans.iter().map(|plan| match plan {
        Plan::Try(tries) => tries.plans.get(at),
        Plan::Fan(fan) => fan.plans.get(at),
        _ => None,
    });
    children.collect()
}

fn join_or_delete(plans: &[&Plan], others: &Others, write: bool) -> Option<Vec<Plan>> {
    match join(plans, others, write) {
        Some(joined) => Some(vec![joined]),
        None => deleted(plans, others, write, false),
    }
}

/// Every key's own deletion.
fn deleted(plans: &[&Plan], others: &Others, write: bool, copies: bool) -> Option<Vec<Plan>> {
    let each = plans.iter().enumerate();
    let each = each.map(|(number, plan)| deletion(plan, number, others, write, copies));
    Some(
        each.collect::<Option<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect(),
    )
}

/// The deletion of the key with this number; of a copy that is read, none.
fn deletion(
    plan: &Plan,
    number: usize,
    others: &Others,
    write: bool,
    copy: bool,
) -> Option<Option<Plan>> {
    let places = plan.places();
    let deletes = !places.is_empty() && places.iter().all(|(_, change)| change.delete);
    if !deletes && !copy {
        return None;
    }
    let alone = Change {
        key: number.checked_sub(1).and_then(|at| others.get(at).cloned()),
        others: Some(Box::default()),
        delete: true,
        ..Change::default()
    };
    Some((deletes || write).then(|| plan.clone().edited(alone)))
}

fn main(plan: &Plan) -> &Plan {
    match plan {
        Plan::Mirror(mirror) => &mirror.main,
        Plan::Fan(fan) if fan.answer == Pick::FirstOfAll => fan.plans.first().unwrap_or(plan),
        plan => plan,
    }
}

fn extras(plan: &Plan) -> Option<&[Plan]> {
    match plan {
        Plan::Mirror(mirror) => Some(&mirror.copies),
        Plan::Fan(fan) if fan.answer == Pick::FirstOfAll => fan.plans.get(1..),
        _ => None,
    }
}

fn is_like(one: &Try, other: &Try) -> bool {
    one.on == other.on && one.plans.len() == other.plans.len() && one.learn == other.learn
}
