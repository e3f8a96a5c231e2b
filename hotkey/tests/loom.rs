//! The fill protocol, model-checked: every order in which the threads'
//! steps can interleave is tried, up to a few forced switches.
//!
//! Under test is the real code of [`HotKey`] and [`Pulse`]. Around it stands
//! the smallest model of the rest that can still go wrong: a server that is a
//! counter, a store that is one entry, a set that is one key. Every write
//! counts the server's value up, so "not older" is "not smaller".
//!
//! Each promise is checked twice: as the protocol is, where no order may break
//! it, and with one rule of the protocol switched off, where the model must
//! find the order that does. A model that cannot fail proves nothing.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p emberline-hotkey --release --test loom
//! ```
//!
//! loom takes `SeqCst` for `AcqRel`. So what passes here leans on nothing but
//! the order that sockets give anyway: who has read a reply has seen what its
//! sender did before. And loom remembers one access per atomic when it decides
//! which orders are worth trying: a thread that loads and then changes the same
//! atomic hides what others did before its load. That is why an invalidation is
//! one addition and a retirement one `or`, and why the broken twins matter.

#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use emberline_hotkey::{HotKey, KeyHash, Pulse, Token};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// How often threads are interrupted where they need not be. Every broken rule
/// below is found with three, most with two.
const PREEMPTIONS: usize = 3;

/// Run a model in every order.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// One rule of the protocol that a test switches off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// `install` does not ask whether something has happened meanwhile.
    InstallCompares,
    /// A write invalidates when it has been answered, not when it is sent.
    InvalidateAtSend,
    /// A write invalidates when it is sent, not when it has been answered.
    InvalidateAtReply,
    /// A push is not heard.
    Push,
    /// A write in doubt only invalidates.
    Quarantine,
    /// `begin` looks at the quarantine before it takes the generation.
    QuarantineLast,
    /// An install does not move the generation on: two fronts may disagree.
    InstallMoves,
    /// A fill begins before the key is in the published set.
    PublishFirst,
    /// A demoted key leaves the set before it is retired.
    RetireFirst,
    /// An item carries the epoch of its arrival, not that of its sending.
    EpochAtSend,
    /// A read past the L1 does not invalidate what it overtook.
    PastRead,
}

/// What the L1 keeps of a key.
#[derive(Clone, Copy)]
struct Kept {
    generation: u64,
    epoch: u64,
    value: u64,
}

/// One key, its server, and all that the threads share of them.
struct World {
    broken: Broken,
    key: HotKey,
    pulse: Pulse,
    /// The server's value. Only ever touched by read-modify-writes, which see
    /// the last value: a server is not a cache line.
    server: AtomicU64,
    store: Mutex<Option<Kept>>,
    /// The newest value whose write has been acknowledged.
    acknowledged: AtomicU64,
    /// The newest value that a reader was given.
    seen: AtomicU64,
    /// Simulated time.
    clock: AtomicU64,
    /// Whether the key is in the published set.
    published: AtomicU64,
}

impl World {
    fn new(broken: Broken) -> Arc<World> {
        let pulse = Pulse::default();
        pulse.beat(u64::MAX);
        Arc::new(World {
            broken,
            key: HotKey::new(KeyHash(7), 0, b"k", 1),
            pulse,
            server: AtomicU64::new(0),
            store: Mutex::new(None),
            acknowledged: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            published: AtomicU64::new(1),
        })
    }

    /// A world in which the first value is in the L1 already.
    fn filled(broken: Broken) -> Arc<World> {
        let world = World::new(broken);
        world.fill();
        world
    }

    fn ask_server(&self) -> u64 {
        self.server.fetch_add(0, Ordering::AcqRel)
    }

    fn begin(&self) -> Option<Token> {
        let now = self.clock.fetch_add(0, Ordering::AcqRel);
        if self.broken == Broken::QuarantineLast {
            self.key.begin(now)?;
            return self.key.begin(u64::MAX);
        }
        self.key.begin(now)
    }

    fn install(&self, token: Token) -> Option<u64> {
        match self.broken {
            Broken::InstallCompares => self.key.install(self.key.begin(u64::MAX)?),
            // As if the item took the generation that it found.
            Broken::InstallMoves => {
                (self.key.generation() == token.generation()).then_some(token.generation())
            }
            _ => self.key.install(token),
        }
    }

    /// The L1's thread: token, question, answer, install.
    fn fill(&self) {
        let Some(token) = self.begin() else { return };
        let sent_in = self.pulse.epoch();
        let value = self.ask_server();
        if let Some(generation) = self.install(token) {
            let epoch = match self.broken {
                Broken::EpochAtSend => self.pulse.epoch(),
                _ => sent_in,
            };
            *self.store.lock().unwrap() = Some(Kept {
                generation,
                epoch,
                value,
            });
        }
    }

    /// A write through this proxy, from a worker that knows the key as promoted
    /// if it is published.
    fn write(&self) {
        if self.broken != Broken::InvalidateAtSend {
            self.invalidate_if_published();
        }
        let value = self.server.fetch_add(1, Ordering::AcqRel) + 1;
        if self.broken != Broken::InvalidateAtReply {
            self.invalidate_if_published();
        }
        self.acknowledged.fetch_max(value, Ordering::AcqRel);
    }

    fn invalidate_if_published(&self) {
        if self.published.load(Ordering::Acquire) == 1 {
            self.key.invalidate();
        }
    }

    /// A write of which the server's push is all that is heard.
    fn write_elsewhere(&self) {
        let value = self.server.fetch_add(1, Ordering::AcqRel) + 1;
        if self.broken != Broken::Push {
            self.key.invalidate();
        }
        // From here on the proxy knows.
        self.acknowledged.fetch_max(value, Ordering::AcqRel);
    }

    /// What the L1 answers, from `front` or else from the store.
    fn read(&self, front: &mut Option<Kept>) -> Option<u64> {
        let fresh = |kept: &Kept| {
            kept.generation == self.key.generation()
                && kept.epoch == self.pulse.epoch()
                && self.pulse.is_alive(0)
        };
        if !front.as_ref().is_some_and(fresh) {
            *front = *self.store.lock().unwrap();
        }
        front.filter(fresh).map(|kept| kept.value)
    }

    /// A read must not be older than what was acknowledged before it began.
    fn read_your_writes(&self, front: &mut Option<Kept>) {
        let floor = self.acknowledged.load(Ordering::Acquire);
        if let Some(value) = self.read(front) {
            assert!(value >= floor, "stale: {value} after {floor}");
        }
    }

    /// A read must not be older than any that ended before it began.
    fn read_on(&self, front: &mut Option<Kept>) {
        let floor = self.seen.load(Ordering::Acquire);
        if let Some(value) = self.read(front) {
            assert!(value >= floor, "backwards: {value} after {floor}");
            self.seen.fetch_max(value, Ordering::AcqRel);
        }
    }

    /// A read that goes to the server itself, since no fill could answer it or
    /// its worker did not know the key as promoted when it was sent.
    fn read_past(&self) {
        let value = self.ask_server();
        if self.broken != Broken::PastRead {
            self.invalidate_if_published();
        }
        self.seen.fetch_max(value, Ordering::AcqRel);
    }

    /// When all is quiet, what is served is what the server has.
    fn settled(&self) {
        if let Some(value) = self.read(&mut None) {
            let server = self.ask_server();
            assert!(value == server, "stale for good: {value}, not {server}");
        }
    }
}

/// Run these parts as threads of one world, the last one on the main thread.
fn race(world: &Arc<World>, others: &[fn(&World)], main: fn(&World)) {
    let threads: Vec<_> = others
        .iter()
        .map(|&part| {
            let world = Arc::clone(world);
            thread::spawn(move || part(&world))
        })
        .collect();
    main(world);
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Define a test that must pass as the protocol is, and one for each rule
/// whose absence the model must notice.
macro_rules! promise {
    ($name:ident, $model:path $(, $mutant:ident without $rule:ident: $says:literal)* $(,)?) => {
        #[test]
        fn $name() {
            explore(|| $model(Broken::Nothing));
        }

        $(
            #[test]
            #[should_panic(expected = $says)]
            fn $mutant() {
                explore(|| $model(Broken::$rule));
            }
        )*
    };
}

promise!(
    a_fill_racing_a_local_write_never_serves_the_past,
    local_write,
    a_blind_install_is_found without InstallCompares: "stale",
    a_write_that_invalidates_only_when_sent_is_found without InvalidateAtReply: "stale",
);

fn local_write(broken: Broken) {
    let world = World::new(broken);
    race(&world, &[World::fill, World::write], |world| {
        world.read_your_writes(&mut None);
    });
    world.read_your_writes(&mut None);
    world.settled();
}

promise!(
    two_fills_and_a_write_never_serve_the_past,
    two_fills,
    a_blind_install_among_two_fills_is_found without InstallCompares: "stale",
);

fn two_fills(broken: Broken) {
    let world = World::new(broken);
    race(&world, &[World::fill, World::fill, World::write], |_| ());
    world.read_your_writes(&mut None);
    world.settled();
}

promise!(
    what_was_read_while_a_write_is_on_its_way_stays_read,
    write_on_its_way,
    a_write_that_invalidates_only_when_answered_is_found without InvalidateAtSend: "backwards",
);

/// Another client reads the new value from the server itself while the write
/// that made it has not been answered yet. What the L1 held before the write
/// was sent must not be served after that.
fn write_on_its_way(broken: Broken) {
    let world = World::filled(broken);
    race(&world, &[World::write], |world| {
        let value = world.ask_server();
        world.seen.fetch_max(value, Ordering::AcqRel);
        world.read_on(&mut None);
    });
}

promise!(
    a_fill_racing_a_push_settles_on_the_truth,
    pushed,
    a_push_that_is_not_heard_is_found without Push: "stale",
    a_blind_install_over_a_push_is_found without InstallCompares: "stale",
);

fn pushed(broken: Broken) {
    let world = World::new(broken);
    race(&world, &[World::fill, World::write_elsewhere], |world| {
        world.read_your_writes(&mut None);
    });
    world.settled();
}

promise!(
    a_write_and_a_push_at_once_settle_on_the_truth,
    written_and_pushed,
    a_lost_push_beside_a_write_is_found without Push: "stale",
);

fn written_and_pushed(broken: Broken) {
    let world = World::filled(broken);
    race(
        &world,
        &[World::fill, World::write, World::write_elsewhere],
        |_| (),
    );
    world.read_your_writes(&mut None);
    world.settled();
}

promise!(
    a_write_in_doubt_keeps_fills_away_until_it_cannot_happen,
    in_doubt,
    a_doubt_without_quarantine_is_found without Quarantine: "stale",
    a_quarantine_asked_for_too_early_is_found without QuarantineLast: "stale",
);

/// The write was sent and not answered; it takes effect later, before `UNTIL`.
fn in_doubt(broken: Broken) {
    const UNTIL: u64 = 10;
    let world = World::filled(broken);
    race(&world, &[World::fill], |world| {
        world.key.invalidate();
        match world.broken {
            Broken::Quarantine => world.key.invalidate(),
            _ => world.key.quarantine(UNTIL),
        }
        world.server.fetch_add(1, Ordering::AcqRel);
        world.clock.fetch_add(UNTIL, Ordering::AcqRel);
    });
    world.settled();
    world.fill();
    world.settled();
}

promise!(
    two_fronts_never_go_backwards,
    two_fronts,
    an_install_that_keeps_the_generation_is_found without InstallMoves: "backwards",
);

/// Nobody hears of the foreign write, as in `ttl` mode; the item is filled
/// anew because it is due. One client reads here and there in turn.
fn two_fronts(broken: Broken) {
    let world = World::filled(broken);
    let mut here = None;
    world.read_on(&mut here);
    world.server.fetch_add(1, Ordering::AcqRel);
    let filler = Arc::clone(&world);
    let reader = Arc::clone(&world);
    let filler = thread::spawn(move || filler.fill());
    let reader = thread::spawn(move || {
        let mut there = None;
        reader.read_on(&mut there);
        reader.read_on(&mut there);
    });
    world.read_on(&mut here);
    world.read_on(&mut here);
    filler.join().unwrap();
    reader.join().unwrap();
}

promise!(
    a_read_past_the_l1_never_goes_backwards,
    past_read,
    a_read_past_the_l1_that_does_not_invalidate_is_found without PastRead: "backwards",
);

/// A read overtakes a fill at the server: it saw the foreign write, the fill
/// did not.
fn past_read(broken: Broken) {
    let world = World::new(broken);
    race(
        &world,
        &[World::fill, |world| {
            world.server.fetch_add(1, Ordering::AcqRel);
        }],
        |world| {
            world.read_past();
            world.read_on(&mut None);
        },
    );
    world.read_on(&mut None);
}

promise!(
    a_key_promoted_during_a_write_serves_that_write,
    promotion,
    a_fill_before_the_key_is_published_is_found without PublishFirst: "stale",
);

fn promotion(broken: Broken) {
    let world = World::new(broken);
    world.published.store(0, Ordering::Release);
    let promote = |world: &World| {
        if world.broken == Broken::PublishFirst {
            world.fill();
            world.published.store(1, Ordering::Release);
        } else {
            world.published.store(1, Ordering::Release);
            world.fill();
        }
    };
    race(&world, &[promote, World::write], |world| {
        world.read_your_writes(&mut None);
    });
    world.read_your_writes(&mut None);
}

promise!(
    a_key_demoted_during_a_write_is_not_served_after_it,
    demotion,
    a_key_that_leaves_before_it_retires_is_found without RetireFirst: "stale",
);

/// The reader's worker has not followed yet: it still holds key and item.
fn demotion(broken: Broken) {
    let world = World::filled(broken);
    let demote = |world: &World| {
        if world.broken == Broken::RetireFirst {
            world.published.store(0, Ordering::Release);
            world.key.retire();
        } else {
            world.key.retire();
            world.published.store(0, Ordering::Release);
        }
    };
    race(&world, &[demote, World::write, World::fill], |world| {
        world.read_your_writes(&mut None);
    });
    assert!(world.key.is_retired());
    assert_eq!(world.begin(), None);
    assert_eq!(world.read(&mut None), None);
}

promise!(
    what_a_lost_connection_did_not_say_is_not_served,
    connection_lost,
    an_item_with_the_epoch_of_its_arrival_is_found without EpochAtSend: "stale",
);

/// The push is lost with its connection; turning the epoch is all there is.
fn connection_lost(broken: Broken) {
    let world = World::filled(broken);
    race(&world, &[World::fill], |world| {
        let value = world.server.fetch_add(1, Ordering::AcqRel) + 1;
        world.pulse.turn();
        world.acknowledged.fetch_max(value, Ordering::AcqRel);
        world.read_your_writes(&mut None);
    });
    world.settled();
}

#[test]
fn a_stopped_pulse_serves_nothing_until_it_beats() {
    explore(|| {
        let world = World::filled(Broken::Nothing);
        race(&world, &[|world| world.pulse.stop()], |world| {
            world.read(&mut None);
        });
        assert_eq!(world.read(&mut None), None);
        world.pulse.beat(1);
        assert_eq!(world.read(&mut None), Some(0));
    });
}

#[test]
fn a_poisoned_token_never_installs() {
    // Whatever comes between the two, and whichever else is going on.
    for poison in [
        (|key| key.invalidate()) as fn(&HotKey),
        |key| key.quarantine(5),
        |key| key.retire(),
        |key| {
            let token = key.begin(9).unwrap();
            key.install(token).unwrap();
        },
    ] {
        explore(move || {
            let world = World::new(Broken::Nothing);
            let token = world.key.begin(0).unwrap();
            poison(&world.key);
            race(
                &world,
                &[World::fill, |world| world.key.invalidate()],
                |_| (),
            );
            assert_eq!(world.key.install(token), None);
        });
    }
}

/// Three threads take generations in every way there is; none comes twice, and
/// nothing that was retired comes back.
#[test]
fn generations_never_repeat() {
    explore(|| {
        let world = World::new(Broken::Nothing);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let fill = |world: &World, taken: &Mutex<Vec<u64>>| {
            let installed = world.begin().and_then(|token| world.key.install(token));
            taken.lock().unwrap().extend(installed);
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (world, taken) = (Arc::clone(&world), Arc::clone(&taken));
                thread::spawn(move || {
                    fill(&world, &taken);
                    fill(&world, &taken);
                })
            })
            .collect();
        world.key.invalidate();
        world.key.retire();
        world.key.invalidate();
        for thread in threads {
            thread.join().unwrap();
        }
        fill(&world, &taken);
        let mut taken = std::mem::take(&mut *taken.lock().unwrap());
        let count = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), count, "a generation was given twice");
        assert!(world.key.is_retired());
        let again = HotKey::new(KeyHash(7), 0, b"k", 2);
        assert!(taken.iter().all(|&old| old < again.generation()));
    });
}
