//! The file that the hot list is kept in: read once, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::list::BYTES_MAX;

/// Its owner alone may read it: keys may be as private as what they stand for.
const MODE: u32 = 0o600;

/// Read the file, or its first 64 MiB; `None` if there is none.
///
/// # Errors
/// When it cannot be read, or is a directory, a pipe or a device.
pub fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Opening a pipe would wait for somebody to write into it.
    if !found.is_file() {
        return Err(io::Error::other(NO_FILE));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

const NO_FILE: &str = "it is not a regular file";

/// Put a list in its place, all at once. Blocks until the disk has it.
///
/// # Errors
/// Whatever the disk says; then the old list is still there.
pub fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(NO_FILE));
    }
    let beside = beside(path);
    // One that a killed process has left; what else may be there, such as a
    // link to somewhere, is not followed.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    let directory = path.parent();
    let directory = directory.filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_list_takes_the_place_of_the_old_one_and_is_private() {
        let directory = std::env::temp_dir().join(format!("emberline-hot-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("hot");
        assert_eq!(load(&path).unwrap(), None);
        for bytes in [&b"one"[..], b"two"] {
            // What a killed process has left, with any mode.
            fs::write(beside(&path), "torn").unwrap();
            save(&path, bytes).unwrap();
            assert_eq!(load(&path).unwrap().as_deref(), Some(bytes));
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(!beside(&path).exists());
        }
        assert!(load(&directory).is_err() && save(&directory, b"").is_err());
        assert!(save(&directory.join("none/hot"), b"").is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
