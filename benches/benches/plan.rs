//! What it costs to decide where a key goes: hash tag, hash, ring, route.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use emberline_benches::load::keyspace::name;
use emberline_protocol::Kind;
use emberline_routing::{
    Ask, ByteSign, Calm, Conditions, Distribution, Hash, HashTag, Member, Pool, PoolId, PoolSpec,
    Prefix, Route, Router, ServerId, States,
};

/// A power of two.
const KEYS: usize = 4096;

fn pool(id: u16, servers: u32) -> Route {
    let first = u32::from(id) * 100;
    let member = |i| Member {
        name: format!("10.0.{id}.{i}:6379"),
        weight: 1,
    };
    let spec = PoolSpec {
        name: format!("pool-{id}"),
        id: PoolId(id),
        members: (0..servers).map(member).collect(),
        ids: (first..first + servers).map(ServerId).collect(),
        distribution: Distribution::Ketama,
        hash: Hash::Fnv1a_64,
        byte_sign: ByteSign::Signed,
        hash_tag: Some(HashTag::BRACES),
        salt: Box::default(),
    };
    Route::Pool(Arc::new(Pool::new(spec).unwrap()))
}

fn plans(criterion: &mut Criterion) {
    let keys: Vec<[u8; 16]> = (0..KEYS as u64).map(name).collect();
    let prefixes = |count: u16| {
        let tenants = (1..count).map(|id| (format!("tenant-{id}:").into_bytes(), pool(id, 3)));
        let children = tenants.chain([(b"key:".to_vec(), pool(count, 3))]);
        Route::Prefix(Prefix::new("tenants", children, pool(0, 1)).unwrap())
    };
    let routers = [
        ("pool of 1", Router::new(pool(0, 1))),
        ("pool of 2", Router::new(pool(0, 2))),
        ("pool of 25", Router::new(pool(0, 25))),
        ("prefix of 2", Router::new(prefixes(2))),
        ("prefix of 50", Router::new(prefixes(50))),
    ];
    let states = States::new(0, 1);
    let conditions = Conditions {
        upstream: &Calm,
        states: &states,
        now_ms: 0,
        unix_ms: 0,
        client: 0,
    };
    let mut group = criterion.benchmark_group("plan");
    // What of the others is the loop, and the question.
    group.bench_function("floor", |bencher| {
        let mut turn = 0;
        bencher.iter(|| {
            turn = (turn + 1) & (KEYS - 1);
            *black_box(&Ask::new(black_box(&keys[turn]), Kind::Read))
        });
    });
    for (label, router) in &routers {
        group.bench_function(*label, |bencher| {
            let mut turn = 0;
            bencher.iter(|| {
                // A mask: a division would cost a fifth of what is measured.
                turn = (turn + 1) & (KEYS - 1);
                let ask = Ask::new(black_box(&keys[turn]), Kind::Read);
                router.plan(&ask, &conditions)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
