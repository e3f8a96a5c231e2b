//! What it costs to find the end of a request or a reply, for both protocols.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use emberline_benches::load::keyspace::Keyspace;
use emberline_benches::load::{Sizes, memcached, redis};
use emberline_protocol::redis::command::lookup;
use emberline_protocol::redis::{Limits, Parser, Scanner, Step};
use emberline_protocol::{Scan, memcache};

fn redis_requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("redis request");
    let keyspace = Keyspace::new(Sizes::Fixed(64));
    let (mut get, mut mget, mut set) = (Vec::new(), Vec::new(), Vec::new());
    redis::encode_read(&[1], false, &mut get);
    redis::encode_read(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], true, &mut mget);
    redis::encode_write(1, &keyspace, &mut set);
    let limits = Limits::default();
    for (name, bytes) in [
        ("get", get),
        ("mget10", mget),
        ("set 64", set),
        ("inline", b"GET key:1\r\n".to_vec()),
    ] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            let mut parser = Parser::default();
            bencher.iter(|| {
                let step = parser.parse(black_box(&bytes), &limits).unwrap();
                assert!(matches!(step, Step::Frame { .. }));
                black_box(parser.arg(&bytes, 0).len())
            });
        });
    }
    group.finish();
    criterion.bench_function("redis lookup/get", |bencher| {
        bencher.iter(|| lookup(black_box(b"GET")))
    });
}

fn redis_replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("redis reply");
    let bulk = |n: usize| [format!("${n}\r\n").as_bytes(), &vec![b'x'; n], b"\r\n"].concat();
    let ten = [&b"*10\r\n"[..], &bulk(64).repeat(10)].concat();
    for (name, bytes) in [
        ("ok", b"+OK\r\n".to_vec()),
        ("64 B", bulk(64)),
        ("16 KiB", bulk(16 << 10)),
        ("10 x 64 B", ten),
    ] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            let mut scanner = Scanner::default();
            bencher.iter(|| {
                let scan = scanner.feed(black_box(&bytes)).unwrap();
                assert_eq!(scan, Scan::Done(bytes.len()));
            });
        });
    }
    group.finish();
}

fn memcache_requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memcache request");
    let keyspace = Keyspace::new(Sizes::Fixed(64));
    let (mut get, mut get10, mut set) = (Vec::new(), Vec::new(), Vec::new());
    memcached::encode_read(&[1], &mut get);
    memcached::encode_read(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &mut get10);
    memcached::encode_write(1, &keyspace, &mut set);
    let limits = memcache::Limits::default();
    let meta = b"mg key:000000000001 v t f\r\n".to_vec();
    for (name, bytes) in [
        ("get", get),
        ("get10", get10),
        ("set 64", set),
        ("mg", meta),
    ] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            let mut parser = memcache::Parser::default();
            bencher.iter(|| {
                let request = parser.parse(black_box(&bytes), &limits).unwrap().unwrap();
                assert_eq!(request.len(), bytes.len());
            });
        });
    }
    group.finish();
}

fn memcache_replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memcache reply");
    let keyspace = Keyspace::new(Sizes::Fixed(64));
    let mut value = b"VALUE key:000000000001 0 64\r\n".to_vec();
    keyspace.append_value(1, &mut value);
    value.extend_from_slice(b"\r\n");
    for count in [1, 10] {
        let bytes = [value.repeat(count), b"END\r\n".to_vec()].concat();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("values", count), |bencher| {
            let mut scanner = memcache::Scanner::default();
            bencher.iter(|| {
                let scan = scanner.feed(black_box(&bytes)).unwrap();
                assert_eq!(scan, Scan::Done(bytes.len()));
            });
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    redis_requests,
    redis_replies,
    memcache_requests,
    memcache_replies
);
criterion_main!(benches);
