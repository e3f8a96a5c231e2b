//! Files that a configuration takes something from: passwords, certificates.
//!
//! Each is read once, and what was in it is remembered with the configuration
//! that was made of it. So the same can be built again when a name leads
//! elsewhere, whatever has become of the files meanwhile; and a change is told
//! by comparing what they hold now with what was read, not with what they held
//! a moment later.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Environment;

/// More than any list of authorities; what is longer is the wrong file.
pub const FILE_MAX: u64 = 4 << 20;

/// Where a file is that a configuration names.
pub fn full_path(path: &str, environment: &Environment<'_>) -> PathBuf {
    match &environment.directory {
        Some(directory) => directory.join(path),
        None => path.into(),
    }
}

/// What has been read so far.
#[derive(Default)]
pub struct Files {
    held: Mutex<BTreeMap<PathBuf, Held>>,
}

/// What was in a file.
#[derive(Clone, Hash)]
enum Held {
    Bytes(Vec<u8>),
    /// It is no file, or one of more than [`FILE_MAX`] bytes.
    Unfit,
    /// It cannot be read.
    Error(String),
}

impl Files {
    /// All of a file that has at most so many bytes, 4 MiB in any case.
    ///
    /// # Errors
    /// `what` cannot be read, and why.
    pub fn read(&self, path: &Path, bytes_max: u64, what: &str) -> Result<Vec<u8>, String> {
        let mut held = self.held();
        let held = held.entry(path.to_owned()).or_insert_with(|| look(path));
        let shown = path.display();
        match held {
            Held::Bytes(bytes) if bytes.len() as u64 <= bytes_max => Ok(bytes.clone()),
            Held::Bytes(_) | Held::Unfit => Err(format!(
                "{shown} is not a file of at most {bytes_max} bytes"
            )),
            Held::Error(error) => Err(format!("cannot read {what} {shown}: {error}")),
        }
    }

    /// What was read, in a number.
    pub fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.held().hash(&mut hasher);
        hasher.finish()
    }

    /// The number that it would be if the same files were read now.
    pub fn print_now(&self) -> u64 {
        let paths: Vec<PathBuf> = self.held().keys().cloned().collect();
        let now = paths.into_iter().map(|path| (look(&path), path));
        let held = Mutex::new(now.map(|(held, path)| (path, held)).collect());
        Files { held }.print()
    }

    /// Whoever panicked here has left what is still true.
    fn held(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files hold secrets.
impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.held().keys()).finish()
    }
}

fn look(path: &Path) -> Held {
    match read_whole(path) {
        Ok(Some(bytes)) => Held::Bytes(bytes),
        Ok(None) => Held::Unfit,
        Err(error) => Held::Error(error.to_string()),
    }
}

fn read_whole(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opening anything but a file may block, or never end.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)? as u64;
    Ok((read <= FILE_MAX).then_some(bytes))
}
