//! What becomes of every route's plan when servers answer, or do not.
//!
//! A test is one line: what the course asks for, and after `=` what servers
//! say. The acts in the line are not instructions: the line is played with its
//! events alone, and what the course does must give the same line again.
//!
//! ```text
//!   send a0; send b0; a0=timeout; b0=hit; answer b0
//! ```
//!
//! `elapsed` ends the pause that was asked for last; `paid` and `broke` say
//! whether there was a token for the last `spend`. A server that is asked
//! more than once is `a0`, `a0.2`, `a0.3`.

#![allow(clippy::unwrap_used)]

mod scene;

use emberline_protocol::{Kind, Outcome};
use emberline_routing::routes::{FaultAnswer, Read, ShareBy, SizeSplitSpec, Wait};
use emberline_routing::{Act, Course, Leg, Pause, Route, Source, States, Target, explain};
use scene::catalogue as routes;
use scene::{Request, pool, pools, server_name};

/// A case on each line: a request, a bar, and the transcript.
fn check(route: &Route, cases: &str) {
    for case in cases.trim().lines() {
        let (request, transcript) = case.trim().split_once(" | ").unwrap();
        let (course, played) = play(route, request, transcript);
        assert_eq!(played, transcript, "{request}");
        let answers = played.split("; ").filter(|act| act.starts_with("answer"));
        assert_eq!(answers.count(), 1, "{case}");
        assert!(course.is_answered() && course.is_over(), "{case}");
    }
}

fn play(route: &Route, request: &str, transcript: &str) -> (Course, String) {
    let request = Request::new(request);
    let plan = request.plan(route);
    let mut course = Course::new(plan, request.kind);
    let (mut played, mut acts) = (Vec::new(), Vec::new());
    let mut pause = Pause(0);
    course.start(&mut acts);
    told(&course, &mut acts, &mut pause, &mut played);
    for event in transcript.split("; ") {
        if matches!(event, "elapsed" | "paid" | "broke") {
            played.push(event.to_owned());
            match event {
                "elapsed" => course.elapsed(pause, &mut acts),
                event => course.paid(pause, event == "paid", &mut acts),
            }
        } else if let Some((name, outcome)) = event.split_once('=') {
            played.push(event.to_owned());
            let all = Outcome::ALL.into_iter();
            let outcome = all.clone().find(|one| one.name() == outcome);
            course.settle(leg(&course, name), outcome.unwrap(), &mut acts);
        }
        told(&course, &mut acts, &mut pause, &mut played);
    }
    (course, played.join("; "))
}

/// The acts as text.
fn told(course: &Course, acts: &mut Vec<Act>, pause: &mut Pause, played: &mut Vec<String>) {
    for act in acts.drain(..) {
        let text = match act {
            Act::Send(leg) => {
                let (_, change) = course.place(leg).unwrap();
                match explain::change(change) {
                    words if words.is_empty() => format!("send {}", leg_name(course, leg)),
                    words => format!("send {} ({words})", leg_name(course, leg)),
                }
            }
            Act::Wait(which, time) => {
                *pause = which;
                format!("wait {time:?}")
            }
            Act::Answer(Source::Leg(leg)) => format!("answer {}", leg_name(course, leg)),
            Act::Answer(Source::Canned(canned)) => format!("answer {}", explain::canned(&canned)),
            Act::Refill {
                from,
                to,
                cap,
                tombstone,
            } => {
                let to = to
                    .iter()
                    .map(|(server, change)| match explain::change(change) {
                        words if words.is_empty() => server_name(*server),
                        words => format!("{} ({words})", server_name(*server)),
                    });
                let to = to.collect::<Vec<_>>().join(" ");
                let cap = cap.map_or(String::new(), |cap| format!(" for {cap:?}"));
                let mark = tombstone.map_or(String::new(), |state| format!(" unless {}", state.0));
                format!("refill {to} from {}{cap}{mark}", leg_name(course, from))
            }
            Act::Spend(which, _) => {
                *pause = which;
                "spend".to_owned()
            }
            Act::Learn { hit, .. } => format!("learn {}", if hit { "hit" } else { "miss" }),
        };
        played.push(text);
    }
}

fn leg_name(course: &Course, leg: Leg) -> String {
    let name = |leg| match course.place(leg).unwrap().0 {
        Target::Send(server) => server_name(server),
        Target::Answer(pool) => format!("pool{}", pool.0),
    };
    let own = name(leg);
    let before = (0..leg.0).filter(|one| name(Leg(*one)) == own).count();
    match before {
        0 => own,
        before => format!("{own}.{}", before + 1),
    }
}

fn leg(course: &Course, name: &str) -> Leg {
    let legs = (0..u16::MAX).map(Leg);
    let mut legs = legs.take_while(|leg| course.place(*leg).is_some());
    legs.find(|leg| leg_name(course, *leg) == name).unwrap()
}

#[test]
fn leaves() {
    check(&pool("a"), "GET k | send a0; a0=hit; answer a0");
    check(&pool("a"), "GET k | send a0; a0=timeout; answer a0");
    check(&Route::Null, "GET k | answer that there is no such key");
    check(
        &routes::error(),
        r#"SET k | answer with the error "closed for today""#,
    );
    check(
        &routes::prefix(),
        r#"GET strip:1 | send b0 (as key "1"); b0=hit; answer b0"#,
    );
    check(&routes::operation(), "INCR k | send b0; b0=done; answer b0");
    check(
        &routes::by_client(),
        "GET k client=2 | send c0; c0=miss; answer c0",
    );
}

#[test]
fn failover_goes_on_and_answers_with_the_best() {
    let safe = routes::failover(pools(&["a", "b", "c"]), false, None);
    check(
        &safe,
        "
        GET k | send a0; a0=miss; answer a0
        GET k | send a0; a0=error; answer a0
        GET k | send a0; a0=timeout; send b0; b0=connect; send c0; c0=hit; answer c0
        GET k | send a0; a0=busy; send b0; b0=lost; send c0; c0=down; answer a0
        SET k | send a0; a0=down; send b0; b0=done; answer b0
        SET k | send a0; a0=busy; send b0; b0=done; answer b0
        ",
    );
}

#[test]
fn a_write_that_may_have_run_is_not_sent_again() {
    let safe = routes::failover(pools(&["a", "b"]), false, None);
    for request in ["SET k", "DEL k", "INCR k", "TOUCH k"] {
        check(
            &safe,
            &format!("{request} | send a0; a0=timeout; answer a0"),
        );
        check(&safe, &format!("{request} | send a0; a0=lost; answer a0"));
    }
    let again = routes::failover(pools(&["a", "b"]), true, None);
    check(
        &again,
        "SET k | send a0; a0=timeout; send b0; b0=done; answer b0",
    );
}

/// The worst of a fan is "down", and one of it has done the write, or may have.
#[test]
fn nor_when_a_part_of_a_fan_may_have_run_it() {
    let copies = routes::replicas(Read::First, Wait::All, false);
    let safe = routes::failover(vec![copies, pool("g")], false, None);
    let all = "send a0; send b0; send c0";
    check(
        &safe,
        &format!("SET k | {all}; a0=timeout; b0=down; c0=down; answer b0"),
    );
    check(
        &safe,
        &format!("SET k | {all}; a0=done; b0=down; c0=connect; answer b0"),
    );
    let nobody = "a0=down; b0=connect; c0=busy; send g0; g0=done; answer g0";
    check(&safe, &format!("SET k | {all}; {nobody}"));
    // Two of three are down and the third has not said yet.
    let most = routes::replicas(Read::First, Wait::Majority, false);
    let safe = routes::failover(vec![most, pool("g")], false, None);
    check(
        &safe,
        &format!("SET k | {all}; a0=down; b0=down; answer a0; c0=done"),
    );
}

#[test]
fn failover_goes_on_while_it_can_pay() {
    let limited = routes::failover(pools(&["a", "b", "c"]), false, routes::rate(0.5));
    check(
        &limited,
        "
        GET k | send a0; a0=timeout; spend; paid; send b0; b0=hit; answer b0
        GET k | send a0; a0=timeout; spend; broke; answer a0
        GET k | send a0; a0=timeout; spend; paid; send b0; b0=busy; spend; broke; answer b0
        ",
    );
    let states = States::new(1, 0);
    let state = emberline_routing::StateId(0);
    let plan = || Request::new("GET k").plan_with(&limited, &states);
    plan();
    assert!(states.spend(state), "one is there at first");
    // Three requests that time out later bring one and a half.
    plan();
    assert!(!states.spend(state), "half a token");
    plan();
    assert!(states.spend(state), "a whole one");
    assert!(!states.spend(state), "and no more");
}

#[test]
fn failover_inside_a_pool() {
    let route = routes::pool_failover();
    check(
        &route,
        "
        GET k | send m3; m3=timeout; send m0; m0=timeout; send m2; m2=hit; answer m2
        SET k | send m3; m3=timeout; answer m3
        GET k down=m3 | send m0; m0=hit; answer m0
        ",
    );
}

#[test]
fn replicas_are_read_and_repaired() {
    let copies = routes::replicas(Read::First, Wait::All, true);
    check(
        &copies,
        "
        GET k | send a0; a0=hit; answer a0
        GET k | send a0; a0=miss; send b0; b0=miss; send c0; c0=hit; refill a0 b0 from c0 unless 0; answer c0
        ",
    );
    // Who failed is not filled: it may have the key.
    check(
        &copies,
        "
        GET k | send a0; a0=timeout; send b0; b0=miss; send c0; c0=hit; refill b0 from c0 unless 0; answer c0
        GET k | send a0; a0=miss; send b0; b0=down; send c0; c0=timeout; answer a0
        ",
    );
    let fastest = routes::replicas(Read::Fastest, Wait::All, false);
    check(
        &fastest,
        "
        GET k | send a0; send b0; send c0; b0=miss; c0=hit; answer c0; a0=hit
        GET k | send a0; send b0; send c0; b0=error; c0=miss; a0=lost; answer c0
        ",
    );
}

#[test]
fn replicas_are_written_and_waited_for() {
    let write = |wait| routes::replicas(Read::First, wait, false);
    check(
        &write(Wait::All),
        "
        SET k | send a0; send b0; send c0; c0=done; a0=done; b0=done; answer a0
        SET k | send a0; send b0; send c0; c0=done; a0=error; b0=done; answer a0
        ",
    );
    check(
        &write(Wait::Majority),
        "
        SET k | send a0; send b0; send c0; c0=done; a0=error; b0=done; answer b0
        SET k | send a0; send b0; send c0; c0=done; a0=done; answer a0; b0=lost
        SET k | send a0; send b0; send c0; c0=done; a0=error; b0=lost; answer b0
        ",
    );
    check(
        &write(Wait::One),
        "SET k | send a0; send b0; send c0; c0=timeout; a0=done; answer a0; b0=done",
    );
    check(
        &write(Wait::None),
        "SET k | send a0; send b0; send c0; answer that it is being done; a0=done; b0=timeout; c0=done",
    );
}

#[test]
fn a_slow_read_is_hedged_and_a_write_is_not() {
    let copies = routes::hedged();
    check(
        &copies,
        "
        GET k | send a0; wait 5ms; a0=hit; answer a0
        GET k | send a0; wait 5ms; elapsed; send b0; b0=hit; answer b0; a0=hit
        GET k | send a0; wait 5ms; elapsed; send b0; a0=timeout; b0=miss; answer b0
        GET k | send a0; wait 5ms; a0=lost; send b0; elapsed; b0=hit; answer b0
        GET k | send a0; wait 5ms; elapsed; send b0; b0=miss; wait 5ms; a0=hit; answer a0
        GET k | send a0; wait 5ms; elapsed; send b0; b0=error; a0=miss; answer a0
        GET k | send a0; wait 5ms; elapsed; send b0; b0=miss; wait 5ms; a0=timeout; answer b0
        GET k | send a0; wait 5ms; elapsed; send b0; b0=miss; wait 5ms; elapsed; answer b0; a0=hit
        GET k | send a0; wait 5ms; a0=error; send b0; elapsed; b0=hit; answer b0
        GET k | send a0; wait 5ms; a0=error; send b0; elapsed; b0=error; answer a0
        SET k | send a0; send b0; b0=done; answer b0; a0=done
        ",
    );
}

#[test]
fn pools_with_a_spare() {
    let rehash = routes::rehash();
    check(
        &rehash,
        "
        GET k | send m3; m3=hit; answer m3
        GET k down=m3 | send m0; m0=miss; answer m0
        DEL k down=m3 | send m3; send m0; m0=done; m3=down; answer m3
        ",
    );
    let gutter = routes::pool_with_gutter();
    // As plain as the pool, until it is known that the server is down.
    check(
        &gutter,
        "
        GET k | send m3; m3=timeout; answer m3
        SET k | send m3; m3=connect; answer m3
        GET k down=m3 | send g0; g0=hit; answer g0
        DEL k | send m3; send g0; g0=done; m3=not_done; answer m3
        ",
    );
    let capped = "send g0 (to live at most 10s); g0=done; answer g0";
    check(&gutter, &format!("SET k down=m3 | {capped}"));
}

#[test]
fn gutter() {
    let gutter = routes::gutter();
    check(
        &gutter,
        "
        GET k | send a0; a0=miss; answer a0
        GET k | send a0; a0=lost; send g0; g0=miss; answer g0
        SET k | send a0; a0=timeout; answer a0
        ",
    );
    // A delete is as good as it was at the main child.
    check(
        &gutter,
        "
        DEL k | send a0; send g0; g0=done; a0=not_done; answer a0
        DEL k | send a0; send g0; a0=timeout; answer a0; g0=done
        INCR k | send a0; a0=down; answer a0
        ",
    );
}

#[test]
fn misses_go_deeper() {
    let deeper = routes::miss_failover();
    check(
        &deeper,
        "
        GET k | send a0; a0=miss; send b0; b0=timeout; send c0; c0=hit; answer c0
        GET k | send a0; a0=miss; send b0; b0=miss; send c0; c0=error; answer c0
        ",
    );
    let delete = "send a0; send b0; send c0";
    check(
        &deeper,
        &format!("DEL k | {delete}; a0=not_done; b0=done; c0=not_done; answer b0"),
    );
    check(
        &deeper,
        &format!("DEL k | {delete}; a0=done; b0=timeout; c0=done; answer b0"),
    );
    check(&deeper, "SET k | send a0; a0=connect; answer a0");
    // That a field is missing does not say that the key is.
    check(&deeper, "HGET k | send a0; a0=miss; answer a0");
    let all = "send a0; send b0 (as a delete of the key); send c0 (as a delete of the key)";
    check(
        &deeper,
        &format!("HDEL k | {all}; a0=not_done; b0=done; c0=done; answer a0"),
    );
}

#[test]
fn what_is_taken_from_a_cold_child_does_not_come_back() {
    check(
        &routes::warm_up(),
        "
        HDEL k | send a0; send b0 (as a delete of the key, marked as gone for 2s); a0=done; b0=not_done; answer a0
        HDEL k | send a0; send b0 (as a delete of the key, marked as gone for 2s); a0=done; b0=timeout; answer b0
        HGET k | send a0; a0=hit; answer a0
        HGET k | send a0; a0=miss; answer a0; send b0; b0=hit; refill a0 from b0 unless 1
        HGET k | send a0; a0=miss; answer a0; send b0; b0=miss
        HGET k | send a0; a0=timeout; send b0; b0=hit; answer b0
        ",
    );
}

#[test]
fn a_delete_of_all_copies_tells_of_the_one_that_had_it() {
    let copies = routes::replicas(Read::First, Wait::All, false);
    check(
        &copies,
        "
        DEL k | send a0; send b0; send c0; a0=not_done; b0=done; c0=not_done; answer b0
        DEL k | send a0; send b0; send c0; a0=done; b0=done; c0=timeout; answer c0
        HDEL k | send a0; send b0; send c0; a0=not_done; b0=done; c0=done; answer b0
        ",
    );
}

#[test]
fn a_conditional_write_loses_no_value_of_the_other_size() {
    let split = routes::size_split();
    check(
        &split,
        "ADD k size=5 | answer with the error \"route \"by_size\" cannot carry out a conditional write: what it depends on may be in either child\"",
    );
}

#[test]
fn a_cold_child_is_filled() {
    let warm_up = routes::warm_up();
    check(
        &warm_up,
        "
        GET k | send a0; a0=hit; answer a0
        GET k | send a0; a0=miss; send b0; b0=hit; refill a0 from b0 unless 1; answer b0
        GET k | send a0; a0=timeout; send b0; b0=hit; answer b0
        GET k | send a0; a0=miss; send b0; b0=lost; answer a0
        ",
    );
    let delete = "send a0 (marked as gone for 2s); send b0";
    check(
        &warm_up,
        &format!("DEL k | {delete}; a0=not_done; b0=done; answer b0"),
    );
    check(
        &warm_up,
        &format!("DEL k | {delete}; a0=done; b0=down; answer b0"),
    );
    // A copy is planned as a write: every replica gets one.
    let cold = routes::replicas(Read::First, Wait::All, false);
    let warm_up = routes::warm_up_of(cold, pool("m"));
    check(
        &warm_up,
        "GET k | send a0; a0=miss; send m3; m3=hit; refill a0 b0 c0 from m3 unless 1; answer m3",
    );
}

#[test]
fn a_slowly_warming_child_is_learned_about() {
    let slow = routes::slow_warm_up();
    check(
        &slow,
        "
        GET k | send a0; a0=hit; learn hit; answer a0
        GET k | send a0; a0=miss; learn miss; answer a0
        ",
    );
    // The fallback's hit is not the target's.
    check(
        &slow,
        "
        GET k | send a0; a0=timeout; send b0; b0=hit; answer b0
        SET k | send a0; send b0; b0=error; a0=done; answer a0
        DEL k | send a0; send b0; b0=done; a0=not_done; answer b0
        ",
    );

    let states = States::new(16, 9);
    let request = Request::new("GET k");
    let to_target = || {
        let plans = (0..1000).map(|_| request.plan_with(&slow, &states));
        let first = plans.map(|plan| plan.first().unwrap());
        first
            .filter(|target| *target == Target::Send(scene::server("a0")))
            .count()
    };
    let learn = |hit: bool, count| {
        let state = emberline_routing::StateId(2);
        (0..count).for_each(|_| states.learn(state, hit));
    };
    learn(false, 99);
    assert_eq!(to_target(), 1000, "99 reads say nothing");
    learn(false, 1);
    assert!((60..140).contains(&to_target()), "no hits: a tenth");
    learn(true, 100);
    assert!((540..660).contains(&to_target()), "half of them hit");
    learn(true, 5000);
    assert_eq!(to_target(), 1000, "warm");
    learn(false, 200);
    assert_eq!(to_target(), 1000, "more than 0.7 are warm enough");
}

#[test]
fn staging_is_tried_and_filled() {
    let staging = routes::staging();
    check(
        &staging,
        "
        GET k | send a0; send b0; a0=hit; answer a0; b0=hit
        GET k | send a0; send b0; a0=hit; answer a0; b0=miss; refill b0 from a0 unless 3
        GET k | send a0; send b0; b0=miss; a0=hit; refill b0 from a0 unless 3; answer a0
        GET k | send a0; send b0; b0=hit; a0=miss; answer a0
        SET k | send a0; send b0; b0=done; a0=error; answer a0
        DEL k | send a0; send b0 (marked as gone for 2s); a0=done; answer a0; b0=down
        ",
    );
}

#[test]
fn nobody_waits_for_a_shadow() {
    let shadow = routes::shadow(1.0, ShareBy::Key);
    check(
        &shadow,
        "
        GET k | send a0; send b0; a0=hit; answer a0; b0=timeout
        SET k | send a0; send b0; b0=done; a0=error; answer a0
        ",
    );
    let copies = routes::replicas(Read::First, Wait::All, true);
    let safe = routes::failover(vec![copies, pool("g")], false, None);
    let shadow = routes::shadow_of(safe, &[(pool("m"), 1.0, ShareBy::Request)]);
    check(
        &shadow,
        "
        GET k | send a0; send m3; a0=miss; send b0; m3=hit; b0=down; send c0; c0=lost; answer a0
        GET k | send a0; send m3; a0=lost; send b0; b0=down; send c0; c0=down; send g0; g0=hit; answer g0; m3=lost
        ",
    );
    // A shadow with a failover of its own goes on when all has been said.
    let copy = routes::failover(pools(&["b", "c"]), false, None);
    let shadow = routes::shadow_of(pool("a"), &[(copy, 1.0, ShareBy::Key)]);
    check(
        &shadow,
        "GET k | send a0; send b0; a0=hit; answer a0; b0=timeout; send c0; c0=hit",
    );
}

#[test]
fn migration() {
    let moving = routes::migrate();
    check(
        &moving,
        "
        GET k now=0 | send a0; a0=hit; answer a0
        GET k now=9000000 | send b0; b0=hit; answer b0
        DEL k now=9000000 | send b0; b0=done; answer b0
        ",
    );
    let delete = "send a0; send b0; a0=not_done; b0=done; answer b0";
    check(&moving, &format!("DEL k now=1000000 | {delete}"));
}

#[test]
fn hot_keys_are_split() {
    let split = routes::split_hot();
    let copy = "send m0 (as key \"hot#2\")";
    check(
        &split,
        &format!("GET hot seed=1 | {copy}; m0=hit; answer m0"),
    );
    let filled = "refill m0 (as key \"hot#2\") from m1 for 60s unless 4; answer m1";
    check(
        &split,
        &format!("GET hot seed=1 | {copy}; m0=miss; send m1; m1=hit; {filled}"),
    );
    let gone = |n: u8| format!("(as a delete of key \"hot#{n}\", marked as gone for 2s)");
    let all = format!("send m1; send m2 {}; send m0 {}", gone(1), gone(2));
    // The reply is that of the key itself, when the copies are gone.
    check(
        &split,
        &format!("INCR hot | {all}; m1=done; m2=not_done; m0=done; answer m1"),
    );
    check(
        &split,
        &format!("SET hot | {all}; m2=timeout; m0=done; m1=error; answer m1"),
    );
}

#[test]
fn tiers() {
    let tiers = routes::l1_l2();
    let far = "send b0 (a miss remembered for 5s or until a write)";
    check(&tiers, "GET k | send a0; a0=hit; answer a0");
    check(
        &tiers,
        &format!(
            "GET k | send a0; a0=miss; {far}; b0=hit; refill a0 from b0 for 60s unless 6; answer b0"
        ),
    );
    check(
        &tiers,
        &format!("GET k | send a0; a0=miss; {far}; b0=miss; answer a0"),
    );
    check(
        &tiers,
        &format!("GET k | send a0; a0=down; {far}; b0=hit; answer b0"),
    );
    let near = "send a0 (as a delete of the key, marked as gone for 2s)";
    check(
        &tiers,
        &format!("SET k | {far}; {near}; b0=done; a0=not_done; answer b0"),
    );
    check(
        &tiers,
        &format!("SET k | {far}; {near}; a0=done; b0=error; answer b0"),
    );
    check(
        &tiers,
        &format!("SET k | {far}; {near}; a0=timeout; b0=done; answer b0"),
    );
}

#[test]
fn sizes() {
    let split = routes::size_split();
    check(
        &split,
        "GET k | send a0; a0=miss; send b0; b0=hit; answer b0",
    );
    let forget = "send b0; send a0 (as a delete of the key)";
    // What the deletion says is not the reply, unless it failed.
    check(
        &split,
        &format!("SET k size=5000 | {forget}; a0=done; b0=not_done; answer b0"),
    );
    check(
        &split,
        &format!("SET k size=5000 | {forget}; a0=not_done; b0=done; answer b0"),
    );
    check(
        &split,
        &format!("SET k size=5000 | {forget}; a0=timeout; b0=done; answer a0"),
    );
    check(
        &split,
        "TOUCH k | send a0; a0=not_done; send b0; b0=done; answer b0",
    );
}

#[test]
fn pieces_are_one_leg_and_are_not_copied() {
    let big = |name: &str| routes::big_value_of(pool(name));
    let safe = routes::failover(vec![big("a"), big("b")], false, None);
    check(
        &safe,
        "GET k | send a0; a0=down; send b0; b0=hit; answer b0",
    );
    check(&safe, "SET k | send a0; a0=timeout; answer a0");
    // What is below it may be several places: it is one leg all the same.
    let tiers = routes::big_value_of(routes::miss_failover());
    check(&tiers, "GET k | send a0; a0=miss; answer a0");
    // A head without its pieces is no copy.
    let warming = routes::warm_up_of(big("a"), big("b"));
    check(
        &warming,
        "GET k | send a0; a0=miss; send b0; b0=hit; answer b0",
    );
    // A deletion in a write's place is that of the head.
    let by_size = SizeSplitSpec {
        name: "by_size".into(),
        small: pool("a"),
        large: big("b"),
        threshold: 1000,
    };
    check(
        &by_size.into(),
        "SET k size=9 | send a0; send b0 (as a delete of the key); b0=done; a0=done; answer a0",
    );
}

#[test]
fn a_write_that_may_have_run_is_not_said_to_be_certain_not_to_have() {
    let route = routes::replicas(Read::First, Wait::All, false);
    let plan = Request::new("SET k").plan(&route);
    let mut course = Course::new(plan, Kind::Write);
    let mut acts = Vec::new();
    course.start(&mut acts);
    assert_eq!(course.outcome(), None);
    let said = [Outcome::Done, Outcome::Down, Outcome::Done];
    for (leg, outcome) in (0..).map(Leg).zip(said) {
        course.settle(leg, outcome, &mut acts);
    }
    assert_eq!(course.outcome(), Some(Outcome::Lost));
}

#[test]
fn changes() {
    let lives = "to live at least 1s, at most 60s";
    let ttl = routes::ttl_of(pool("a"));
    check(
        &ttl,
        &format!("SET k | send a0 ({lives}); a0=done; answer a0"),
    );
    check(
        &routes::key(),
        r#"GET u:1 | send m1 (as key "p:user:1"); m1=hit; answer m1"#,
    );
    check(
        &routes::log(),
        r#"GET k | send a0 (logged by watched with a hash of the key); a0=hit; answer a0"#,
    );
    // Where caps nest, the smaller counts.
    let gutter = emberline_routing::routes::GutterSpec {
        name: "spare".into(),
        main: pool("a"),
        gutter: routes::ttl_of(pool("g")),
        ttl: scene::secs(10),
        on: emberline_routing::Outcomes::FAILURES,
    };
    let lives = "to live at least 1s, at most 10s";
    let set = format!("send a0; a0=down; send g0 ({lives}); g0=done; answer g0");
    check(&gutter.into(), &format!("SET k | {set}"));
}

#[test]
fn limits() {
    let states = States::new(16, 1);
    let said = |route: &Route, line: &str| {
        let plan = Request::new(line).plan_with(route, &states);
        explain::plan(&plan, &scene::Script::default())
            .render()
            .trim_end()
            .to_owned()
    };
    let refused = "answer with the error \"route \"calm\" is over its rate limit\"";
    let calm = routes::rate_limit(None);
    assert_eq!(said(&calm, "GET k"), "send to a0");
    assert_eq!(said(&calm, "GET k"), "send to a0");
    assert_eq!(said(&calm, "GET k"), refused);
    assert_eq!(said(&calm, "SET k"), "send to a0", "writes have their own");
    assert_eq!(said(&calm, "DEL k"), "send to a0", "deletes have none");
    assert_eq!(said(&calm, "GET k now=999"), refused);
    assert_eq!(said(&calm, "GET k now=1000"), "send to a0", "one a second");
    assert_eq!(said(&calm, "GET k now=1000"), refused);
    let over = routes::rate_limit(Some(pool("b")));
    assert_eq!(said(&over, "GET k now=1000"), "send to b0");

    // A limit says "busy", and a failover goes on.
    let narrow = routes::limit_inflight(pool("a"));
    let safe = routes::failover(vec![narrow.clone(), pool("b")], false, None);
    check(&safe, "SET k load=a0:10 | send b0; b0=done; answer b0");
    let busy = "answer with the error \"route \"narrow\" has 10 requests in flight, its limit\", after which a failover goes on";
    check(&narrow, &format!("GET k load=a0:10 | {busy}"));
}

/// What only asks where a write would go takes no token.
#[test]
fn a_refill_uses_up_nothing() {
    let states = States::new(16, 1);
    let cold = routes::rate_limit(None);
    let warm_up = routes::warm_up_of(cold.clone(), pool("b"));
    for _ in 0..2 {
        Request::new("GET k").plan_with(&warm_up, &states);
    }
    let write = || Request::new("SET k").plan_with(&cold, &states).target();
    assert!(write().is_some() && write().is_some() && write().is_none());
}

#[test]
fn faults() {
    let slow = routes::fault(5, FaultAnswer::Pass);
    check(&slow, "GET k | send a0 (after 5ms); a0=hit; answer a0");
    let error = "answer with the error \"route \"broken\" fails on purpose\"";
    check(
        &routes::fault(0, FaultAnswer::Error),
        &format!("GET k | {error}"),
    );
    check(
        &routes::fault(5, FaultAnswer::Error),
        &format!("GET k | wait 5ms; elapsed; {error}"),
    );
    check(
        &routes::fault(0, FaultAnswer::Null),
        "GET k | answer that there is no such key",
    );
    let dropped = "send a0 (not sent: as if nobody answered); a0=timeout; answer a0";
    check(
        &routes::fault(0, FaultAnswer::Drop),
        &format!("GET k | {dropped}"),
    );
    let broken = routes::fault(5, FaultAnswer::Null);
    let safe = routes::replicas(Read::First, Wait::All, false);
    let shadow = routes::shadow_of(safe, &[(broken, 1.0, ShareBy::Key)]);
    check(
        &shadow,
        "GET k | send a0; wait 5ms; a0=hit; answer a0; elapsed",
    );
}

#[test]
fn choices() {
    check(
        &routes::random(),
        "GET k seed=1 | send c0; c0=hit; answer c0",
    );
    check(&routes::by_host(1), "GET k | send b0; b0=hit; answer b0");
    check(
        &routes::latest(1),
        "GET k | send b0; b0=timeout; send a0; a0=hit; answer a0",
    );
    check(
        &routes::load_balance(),
        "
        SET k load=a0:5 | send b0; b0=done; answer b0
        SET k down=a0 load=b0:5 | send b0; b0=done; answer b0
        ",
    );
}

/// What is said twice, or before it was asked, is not listened to.
#[test]
fn a_leg_settles_once() {
    let safe = routes::failover(pools(&["a", "b"]), false, None);
    let (course, played) = play(
        &safe,
        "GET k",
        "b0=hit; a0=timeout; a0=hit; b0=miss; b0=hit",
    );
    let want = "send a0; b0=hit; a0=timeout; send b0; a0=hit; b0=miss; answer b0; b0=hit";
    assert_eq!(played, want);
    assert!(course.is_over());
}
