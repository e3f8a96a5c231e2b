//! The log's file: what is appended, what is left when it is opened again, and
//! how it becomes shorter.
//!
//! ```text
//!   EMBRDEL1 | waits 1 | waits 2 | gone 1 | waits 3 | ...
//! ```
//!
//! When nothing waits, the file is cut back to its first eight bytes. When it
//! is full of what waits no more, what waits is copied to a new file, which
//! takes the place of the old one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::disk::{Step, may};
use super::index::{Index, Pending};
use super::record::{self, MAGIC, Record};

/// An open log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes that are known to be sound.
    len: u64,
    /// There may be bytes behind those, which could not be cut off.
    ragged: bool,
    /// The disk may still know another file by this name.
    renamed: bool,
}

/// What was found in a log.
#[derive(Debug, Default)]
pub struct Found {
    /// What waits.
    pub index: Index,
    /// A number higher than all in it.
    pub next: u64,
    /// Bytes behind the last sound record, which have been cut off.
    pub torn: u64,
    /// Bytes that are no record, before sound ones.
    pub bad: u64,
}

impl Found {
    /// Take up what these say. A process that died while it wrote leaves
    /// something behind the last record; a disk may spoil any of them, and what
    /// was acknowledged behind that one is not lost with it.
    fn read(&mut self, mut rest: &[u8], mut server: impl FnMut(&[u8]) -> u32) {
        loop {
            while let Some((record, len)) = record::read(rest) {
                rest = &rest[len..];
                self.take(record, &mut server);
            }
            let Some(skipped) = record::next_sound(rest) else {
                self.torn = rest.len() as u64;
                return;
            };
            self.bad += skipped as u64;
            rest = &rest[skipped..];
        }
    }

    fn take(&mut self, record: Record<'_>, server: &mut impl FnMut(&[u8]) -> u32) {
        match record {
            Record::Waits {
                seq,
                unix_ms,
                server: name,
                key,
            } => {
                self.next = self.next.max(seq.saturating_add(1));
                let pending = Pending {
                    server: server(name),
                    key: key.into(),
                    unix_ms,
                };
                self.index.insert(seq, pending);
            }
            Record::Gone(seq) => {
                self.index.remove(seq);
            }
        }
    }
}

impl LogFile {
    /// Open a log, or begin one; `server` numbers a server's name.
    ///
    /// # Errors
    /// When it cannot be read and written, another process has it open, or it
    /// is another kind of file.
    pub fn open(path: &Path, mut server: impl FnMut(&[u8]) -> u32) -> io::Result<(LogFile, Found)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        lock(&file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut found = Found {
            next: 1,
            ..Found::default()
        };
        // A process may have died while it wrote even these.
        if bytes.len() < MAGIC.len() && MAGIC.starts_with(&bytes) {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(MAGIC)?;
            file.sync_all()?;
            sync_directory(path)?;
            bytes = MAGIC.to_vec();
        }
        let Some(records) = bytes.strip_prefix(MAGIC) else {
            let why = "it is there already, and no delete log";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        found.read(records, &mut server);
        let mut log = LogFile {
            path: path.to_owned(),
            file,
            len: bytes.len() as u64 - found.torn,
            ragged: false,
            renamed: false,
        };
        if found.torn > 0 {
            log.restore()?;
        }
        Ok((log, found))
    }

    /// Its bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Append these and wait until they are on the disk.
    ///
    /// # Errors
    /// When they are not; then none of them is in the log.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.try_append(bytes);
        match written {
            Ok(()) => self.len += bytes.len() as u64,
            // Half a record would end what is read here.
            Err(_) => {
                self.ragged = true;
                self.restore()?;
            }
        }
        written
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.settle_name()?;
        if self.ragged {
            self.restore()?;
        }
        may(Step::Append)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    /// Cut off what is not known to be sound.
    fn restore(&mut self) -> io::Result<()> {
        may(Step::Cut)?;
        self.file.set_len(self.len)?;
        self.file.sync_data()?;
        self.ragged = false;
        Ok(())
    }

    /// Nothing waits any more. This needs no room on the disk.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn clear(&mut self) -> io::Result<()> {
        self.settle_name()?;
        may(Step::Cut)?;
        let len = MAGIC.len() as u64;
        self.file.set_len(len)?;
        self.len = len;
        self.ragged = false;
        self.file.sync_data()
    }

    /// Put these records in the place of all that is in the log.
    ///
    /// # Errors
    /// When the new file cannot be written; then the old one stays.
    pub fn replace(&mut self, records: &[u8]) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        may(Step::Replace)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(&beside)?;
        lock(&file)?;
        file.write_all(MAGIC)?;
        file.write_all(records)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        // From here on this is the log, whatever the directory says: the old
        // file has no name any more.
        self.file = file;
        self.len = (MAGIC.len() + records.len()) as u64;
        self.ragged = false;
        self.renamed = true;
        self.settle_name()
    }

    /// Until the directory is on the disk, after a power cut the old file may
    /// have the name: nothing is promised before.
    fn settle_name(&mut self) -> io::Result<()> {
        if self.renamed {
            sync_directory(&self.path)?;
            self.renamed = false;
        }
        Ok(())
    }
}

/// Two processes that append to one file would lose each other's deletes.
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::WouldBlock, "another process has it open")
        }
        std::fs::TryLockError::Error(error) => error,
    })
}

/// A new name in a directory is on the disk when the directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    may(Step::Directory)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delete_log::disk::failing;

    fn waits(seq: u64, key: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let record = Record::Waits {
            seq,
            unix_ms: 1,
            server: b"a:1",
            key: key.as_bytes(),
        };
        record.write(&mut bytes);
        bytes
    }

    fn gone(seq: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Record::Gone(seq).write(&mut bytes);
        bytes
    }

    /// The keys that wait in a log, and the next number.
    fn keys(path: &Path) -> (Vec<String>, u64) {
        let (_, found) = LogFile::open(path, |_| 0).unwrap();
        let key = |(_, one): (u64, &Pending)| String::from_utf8_lossy(&one.key).into_owned();
        (found.index.iter().map(key).collect(), found.next)
    }

    #[test]
    fn what_is_appended_is_found_and_what_is_gone_is_not() {
        let path = std::env::temp_dir().join(format!("emberline-log-{}", std::process::id()));
        let (mut log, found) = LogFile::open(&path, |_| 0).unwrap();
        assert_eq!((found.index.len(), found.next, found.torn), (0, 1, 0));
        let again = LogFile::open(&path, |_| 0).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
        let bytes = [waits(1, "a"), waits(2, "b"), gone(1), waits(3, "b")].concat();
        log.append(&bytes).unwrap();
        drop(log);
        assert_eq!(keys(&path), (vec!["b".to_owned()], 4));

        let (mut log, found) = LogFile::open(&path, |_| 0).unwrap();
        let before = log.len();
        assert_eq!(found.index.len(), 1);
        log.replace(&waits(3, "b")).unwrap();
        assert!(log.len() < before);
        log.append(&waits(4, "c")).unwrap();
        drop(log);
        assert_eq!(keys(&path), (vec!["b".to_owned(), "c".to_owned()], 5));

        // Cut anywhere, what is before the cut is there and can be added to.
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let (mut log, found) = LogFile::open(&path, |_| 0).unwrap();
            assert!(found.index.len() < 2, "cut at {len}");
            log.append(&waits(9, "z")).unwrap();
            drop(log);
            assert!(keys(&path).0.contains(&"z".to_owned()), "cut at {len}");
        }
        let (mut log, _) = LogFile::open(&path, |_| 0).unwrap();
        log.clear().unwrap();
        drop(log);
        assert_eq!(keys(&path), (Vec::new(), 1));
        std::fs::remove_file(&path).unwrap();
    }

    /// A path of this test's own.
    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("emberline-{name}-{}", std::process::id()))
    }

    #[test]
    fn what_is_appended_behind_a_rename_is_in_the_file_of_that_name() {
        let path = path("renamed");
        let (mut log, _) = LogFile::open(&path, |_| 0).unwrap();
        log.append(&[waits(1, "a"), waits(2, "b"), gone(1)].concat())
            .unwrap();
        failing(&[Step::Directory], || {
            assert!(log.replace(&waits(2, "b")).is_err());
            // A power cut could bring the old file back.
            assert!(log.append(&waits(3, "c")).is_err());
            assert!(log.clear().is_err());
        });
        let again = LogFile::open(&path, |_| 0).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::WouldBlock);
        log.append(&waits(4, "d")).unwrap();
        drop(log);
        assert_eq!(keys(&path), (vec!["b".to_owned(), "d".to_owned()], 5));
        std::fs::remove_file(&path).unwrap();
    }

    /// A disk may spoil what it has kept, a length or anything behind it.
    #[test]
    fn a_spoilt_record_takes_no_other_with_it() {
        let path = path("spoilt");
        let names = ["a", "b", "c"];
        let records: Vec<Vec<u8>> = (1..).zip(names).map(|(seq, key)| waits(seq, key)).collect();
        let whole = [&MAGIC[..], &records.concat()].concat();
        let second = MAGIC.len() + records[0].len();
        for at in second..second + records[1].len() {
            let mut spoilt = whole.clone();
            spoilt[at] ^= 4;
            std::fs::write(&path, &spoilt).unwrap();
            let (mut log, found) = LogFile::open(&path, |_| 0).unwrap();
            assert_eq!((found.bad, found.torn), (records[1].len() as u64, 0));
            log.append(&waits(4, "d")).unwrap();
            drop(log);
            let left = ["a", "c", "d"].map(str::to_owned).to_vec();
            assert_eq!(keys(&path), (left, 5), "byte {at}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn half_a_batch_that_could_not_be_cut_off_is_cut_off_before_the_next() {
        let path = path("ragged");
        let (mut log, _) = LogFile::open(&path, |_| 0).unwrap();
        log.append(&waits(1, "a")).unwrap();
        failing(&[Step::Append, Step::Cut], || {
            assert!(log.append(&waits(2, "b")).is_err());
            // As if it had been written, and only the sync had failed.
            log.file.seek(SeekFrom::Start(log.len)).unwrap();
            log.file.write_all(&waits(2, "refused")).unwrap();
            assert!(log.clear().is_err());
        });
        log.append(&gone(7)).unwrap();
        drop(log);
        assert_eq!(keys(&path), (vec!["a".to_owned()], 2));
        std::fs::remove_file(&path).unwrap();
    }
}
