//! Files that a configuration names: where they are, and what is in them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Config, Environment};

/// Where a file is that a configuration names.
pub fn full_path(path: &str, environment: &Environment<'_>) -> PathBuf {
    match &environment.directory {
        Some(directory) => directory.join(path),
        None => path.into(),
    }
}

/// All of a file that has at most so many bytes.
///
/// # Errors
/// `what` cannot be read, and why.
pub fn read(path: &Path, bytes_max: u64, what: &str) -> Result<Vec<u8>, String> {
    let shown = path.display();
    match read_whole(path, bytes_max) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!(
            "{shown} is not a file of at most {bytes_max} bytes"
        )),
        Err(error) => Err(format!("cannot read {what} {shown}: {error}")),
    }
}

fn read_whole(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    // Opening anything but a file may block, or never end.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)? as u64;
    Ok((read <= bytes_max).then_some(bytes))
}

/// Every file whose contents the configuration takes over, each once: who
/// follows the configuration follows them, too.
pub fn taken_over(config: &Config, environment: &Environment<'_>) -> Vec<PathBuf> {
    let listeners = config.listeners.values();
    let listeners = listeners.flat_map(|table| {
        let tls = table.tls.iter().flat_map(|tls| tls.files());
        table.password_file.iter().chain(tls)
    });
    let pools = config.pools.values();
    let pools = pools.flat_map(|table| {
        let tls = table.tls.iter().flat_map(|tls| tls.files());
        table.password_file.iter().chain(tls)
    });
    let bus = config.bus.iter().flat_map(|table| {
        let tls = table.tls.iter().flat_map(|tls| tls.files());
        table.password_file.iter().chain(tls)
    });
    let paths = listeners.chain(pools).chain(bus);
    let paths = paths.map(|at| full_path(&at.value, environment));
    let each: std::collections::BTreeSet<PathBuf> = paths.collect();
    each.into_iter().collect()
}
