//! What it costs to hash and place a key, and to build the ring in the first place.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use emberline_benches::load::keyspace::name;
use emberline_routing::{ByteSign, Distribution, Hash, Member, Pool, PoolId, PoolSpec, ServerId};

fn spec(distribution: Distribution, servers: u32) -> PoolSpec {
    let member = |i| Member {
        name: format!("10.0.0.{i}:6379"),
        weight: 1,
    };
    PoolSpec {
        name: "ring".to_owned(),
        id: PoolId(0),
        members: (1..=servers).map(member).collect(),
        ids: (0..servers).map(ServerId).collect(),
        distribution,
        hash: Hash::default(),
        byte_sign: ByteSign::Signed,
        hash_tag: None,
        salt: Box::default(),
    }
}

fn pick(criterion: &mut Criterion) {
    // Many keys in turn, as in life: one key alone would be predicted by the processor.
    let keys: Vec<[u8; 16]> = (0..4096).map(name).collect();
    for servers in [3, 25] {
        let mut group = criterion.benchmark_group(format!("pick of {servers}"));
        for distribution in Distribution::ALL {
            let pool = Pool::new(spec(distribution, servers)).unwrap();
            group.bench_function(BenchmarkId::from_parameter(distribution), |bencher| {
                let mut turn = 0;
                bencher.iter(|| {
                    turn = (turn + 1) % keys.len();
                    pool.server(black_box(&keys[turn]))
                });
            });
        }
        group.finish();
    }
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build of 25");
    group.sample_size(10);
    for distribution in Distribution::ALL {
        group.bench_function(BenchmarkId::from_parameter(distribution), |bencher| {
            bencher.iter_batched(|| spec(distribution, 25), Pool::new, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, pick, build);
criterion_main!(benches);
