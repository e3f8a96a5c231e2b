//! Streams of keys: drawn from a distribution, or recorded at a real site.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::load::rng::Rng;
use crate::load::zipf::Zipf;

/// So many requests for the keys `0..keys`.
pub fn zipf(keys: u64, exponent: f64, requests: u64) -> impl Iterator<Item = u32> {
    let zipf = Zipf::new(keys, exponent);
    let mut rng = Rng::new(1);
    (0..requests).map(move |_| zipf.sample(&mut rng) as u32)
}

/// The keys of a trace: big-endian 32-bit numbers, compressed with xz, which
/// the program of that name unpacks.
///
/// # Errors
/// When the file or the program `xz` is missing, or the file is damaged.
pub fn trace(path: &Path) -> io::Result<Vec<u32>> {
    std::fs::metadata(path)?;
    let unpacked = Command::new("xz").arg("-dc").arg("--").arg(path).output()?;
    if !unpacked.status.success() {
        let said = String::from_utf8_lossy(&unpacked.stderr).trim().to_owned();
        return Err(io::Error::other(said));
    }
    let keys = unpacked.stdout.chunks_exact(4);
    Ok(keys
        .map(|key| u32::from_be_bytes([key[0], key[1], key[2], key[3]]))
        .collect())
}
