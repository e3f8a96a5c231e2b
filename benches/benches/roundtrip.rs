//! One GET through a running emberline and back, beside the same GET directly.
//!
//! Skips, saying so, where there is no emberline binary (of the release
//! profile, or the one that `EMBERLINE` names) or no redis-server.

#![allow(missing_docs)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use emberline_benches::load::keyspace::Keyspace;
use emberline_benches::load::{Sizes, redis};
use emberline_benches::peers::{Kind, Servers};
use emberline_benches::process::Scratch;

fn roundtrip(criterion: &mut Criterion) {
    if let Err(error) = try_roundtrip(criterion) {
        eprintln!("roundtrip: skipped: {error}");
    }
}

fn try_roundtrip(criterion: &mut Criterion) -> io::Result<()> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/emberline");
    let binary = std::env::var_os("EMBERLINE").map_or_else(|| PathBuf::from(built), PathBuf::from);
    if !binary.is_file() {
        let text = format!("no binary at {}", binary.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    let scratch = Scratch::new("roundtrip")?;
    let servers = Servers::start(&scratch)?;
    let proxy = Kind::Emberline(binary).start(&scratch, &servers)?;
    let mut group = criterion.benchmark_group("GET, one connection");
    let doors = [
        ("direct", servers.redis[0].redis),
        ("emberline", proxy.redis),
    ];
    for (name, port) in doors
        .into_iter()
        .filter_map(|(name, port)| Some((name, port?)))
    {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut request = Vec::new();
        redis::encode_write(1, &Keyspace::new(Sizes::Fixed(64)), &mut request);
        exchange(&mut stream, &request, b"+OK\r\n".len())?;
        request.clear();
        redis::encode_read(&[1], false, &mut request);
        let mut failure = None;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                if let Err(error) = exchange(&mut stream, &request, b"$64\r\n\r\n".len() + 64) {
                    failure = Some(error);
                }
            });
        });
        if let Some(error) = failure {
            return Err(error);
        }
    }
    group.finish();
    Ok(())
}

/// Send a request, and receive a reply of this many bytes.
fn exchange(stream: &mut TcpStream, request: &[u8], reply: usize) -> io::Result<()> {
    let mut buffer = [0; 256];
    stream.write_all(request)?;
    stream.read_exact(&mut buffer[..reply])
}

criterion_group!(benches, roundtrip);
criterion_main!(benches);
