//! What each hash costs, for a short key and a long one.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use emberline_routing::{ByteSign, Hash};

fn hashes(criterion: &mut Criterion) {
    let long = [b'k'; 200];
    for key in [&b"key:000000000001"[..], &long] {
        let mut group = criterion.benchmark_group(format!("hash of {} bytes", key.len()));
        group.throughput(Throughput::Bytes(key.len() as u64));
        for hash in Hash::ALL {
            group.bench_with_input(BenchmarkId::from_parameter(hash), &hash, |bencher, hash| {
                bencher.iter(|| hash.hash(black_box(key), ByteSign::Signed));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hashes);
criterion_main!(benches);
