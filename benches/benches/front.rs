//! What it costs to answer from memory: a lookup in a worker's front, beside
//! one in the store that all workers share.
//!
//! The first two are paid by every request of a pool, hit or not.

#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use emberline_benches::load::rng::{Rng, mix};
use emberline_hotkey::{Board, Front, HotKey, Item, KeyHash, Pieces, Pulse, Store, Value};

/// Promoted keys: about as many as can be hot at a time.
const PROMOTED: u64 = 64;

struct L1 {
    store: Store,
    pulses: Box<[Pulse]>,
    front: Front,
    keys: Vec<Arc<HotKey>>,
}

impl L1 {
    fn new(promoted: u64) -> L1 {
        let board = Board::default();
        (0..promoted).for_each(|key| board.promote(hash(key), 0, b"key"));
        let set = board.set();
        let mut front = Front::default();
        front.follow(&set);
        let l1 = L1 {
            store: Store::new(64 << 20),
            pulses: (0..2).map(|_| Pulse::default()).collect(),
            front,
            keys: set.keys().cloned().collect(),
        };
        l1.pulses.iter().for_each(|pulse| pulse.beat(u64::MAX));
        l1.keys.iter().for_each(|key| l1.fill(key));
        l1.store.tidy();
        l1
    }

    fn fill(&self, key: &HotKey) {
        let generation = key.begin(1).and_then(|token| key.install(token));
        let held = self.store.hold(Item {
            hash: key.hash,
            generation: generation.unwrap_or(0),
            server: 1,
            epoch: 0,
            sent: 0,
            took: 200_000,
            expires: 60_000_000_000,
            value: Value::Redis(b"$5\r\nhello\r\n"[..].into()),
        });
        self.store.insert(&held);
    }
}

fn hash(key: u64) -> KeyHash {
    KeyHash(mix(key + 1))
}

fn lookups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("front");
    // Other keys every time, or the branch predictor learns one lookup by heart.
    let keys: Vec<KeyHash> = (0..4096).map(|turn| hash(mix(turn) % PROMOTED)).collect();
    let absent: Vec<KeyHash> = (0..4096).map(|turn| hash(PROMOTED + turn)).collect();

    let mut empty = L1::new(0);
    let mut turn = 0;
    group.bench_function("no key is promoted", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % 4096;
            let front = black_box(&mut empty.front);
            !front.is_empty() && front.seat(absent[turn]).is_some()
        });
    });
    let mut l1 = L1::new(PROMOTED);
    group.bench_function("another key is promoted", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % 4096;
            let front = black_box(&mut l1.front);
            !front.is_empty() && front.seat(absent[turn]).is_some()
        });
    });
    let mut rng = Rng::new(1);
    group.bench_function("a fresh hit", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % 4096;
            let now = black_box(1_000_000_000);
            let seat = l1.front.seat(keys[turn])?;
            let item = seat.fresh(&l1.store, |server| l1.pulses.get(server as usize), now)?;
            let (len, due) = (item.value.len(), item.is_due(now, 1.0, 1.0 - rng.unit()));
            seat.hit(1, len);
            Some((len, due))
        });
    });
    group.bench_function("the store alone", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % 4096;
            l1.store.get(keys[turn]).map(|held| held.value.len())
        });
    });
    let key = Arc::clone(&l1.keys[0]);
    group.bench_function("invalidate", |bencher| bencher.iter(|| key.invalidate()));
    group.bench_function("fill", |bencher| bencher.iter(|| l1.fill(&key)));
    group.finish();
}

/// A value into a reply, and out of one; beside the same bytes in one block.
fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("value");
    let mut out = Vec::with_capacity(1 << 20);
    for (size, len) in [("64 B", 64), ("4 KiB", 4 << 10), ("256 KiB", 256 << 10)] {
        let bytes = vec![b'x'; len];
        let (pieces, block) = (Pieces::from(&bytes[..]), bytes.clone().into_boxed_slice());
        group.bench_function(format!("write {size}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&pieces).write_to(black_box(&mut out));
            });
        });
        group.bench_function(format!("write {size} in one block"), |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&mut out).extend_from_slice(black_box(&block));
            });
        });
        group.bench_function(format!("keep {size}"), |bencher| {
            bencher.iter(|| Pieces::from(black_box(&bytes[..])));
        });
        group.bench_function(format!("keep {size} in one block"), |bencher| {
            bencher.iter(|| Box::<[u8]>::from(black_box(&bytes[..])));
        });
    }
    group.finish();
}

criterion_group!(benches, lookups, values);
criterion_main!(benches);
