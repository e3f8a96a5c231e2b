//! The thread that writes: a batch of whatever has been asked meanwhile, one
//! fsync for all of it, and then the answers.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::file::{Found, LogFile};
use super::index::Pending;
use super::names::Names;
use super::record::{GONE_LEN, Record};
use super::{Refused, Shared};
use crate::log::Limited;
use crate::running;

/// The most that one batch takes.
const BATCH: usize = 4096;

/// How often old deletes are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Between two attempts to make the file shorter, where the first has failed.
const NO_ROOM: Duration = Duration::from_secs(10);

/// A log that stays full, or cannot be written, must not fill the other one.
static REFUSALS: Limited = Limited::new(1);

/// Told when a delete is on the disk, or why it is not.
type Answer = oneshot::Sender<Result<(), Refused>>;

/// What the thread is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Open a log.
    Open {
        /// Where it is, and its bounds.
        settings: running::DeleteLog,
        /// The servers of its pool.
        names: Names,
        /// Told of it, or why it cannot be used.
        answer: Sender<io::Result<Arc<Shared>>>,
    },
    /// Nobody has this log any more.
    Close {
        /// Which.
        log: usize,
    },
    /// Write a delete.
    Append {
        /// Which log's.
        log: usize,
        /// Its server's number there.
        server: u32,
        /// Its key.
        key: Arc<[u8]>,
        /// When it was asked for.
        unix_ms: u64,
        /// Told when it is on the disk.
        answer: Answer,
    },
    /// Write that a delete has been applied.
    Gone {
        /// Which log's.
        log: usize,
        /// Its server's number there.
        server: u32,
        /// Its number.
        seq: u64,
        /// Its key.
        key: Arc<[u8]>,
    },
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Writer {
    /// By number.
    logs: HashMap<usize, Seat>,
    /// The next one's number: none is given twice.
    next: usize,
}

#[derive(Debug)]
struct Seat {
    log: Arc<Shared>,
    file: LogFile,
    /// The next delete's number.
    next: u64,
    batch: Batch,
    /// No attempt to make the file shorter before this.
    no_room_until: Option<Instant>,
}

/// A delete with its number, and who waits for it.
type Added = (u64, Pending, Answer);

/// What is to be written at once.
#[derive(Debug, Default)]
struct Batch {
    /// The records of `added`.
    bytes: Vec<u8>,
    added: Vec<Added>,
    /// Also those that could not be written before.
    gone: Vec<(u32, u64, Arc<[u8]>)>,
}

/// Deletes that wait no more.
#[derive(Debug)]
struct Ends {
    /// They have been applied: server, number, key.
    gone: Vec<(u32, u64, Arc<[u8]>)>,
    /// They have become too old.
    old: Vec<u64>,
}

impl Ends {
    fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.old.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = u64> {
        let gone = self.gone.iter().map(|(_, seq, _)| *seq);
        gone.chain(self.old.iter().copied())
    }
}

impl Writer {
    /// Work until nobody can ask any more.
    pub fn run(mut self, queue: &Receiver<Job>) {
        loop {
            match queue.recv_timeout(SWEEP) {
                Ok(job) => {
                    self.take(job);
                    queue.try_iter().take(BATCH).for_each(|job| self.take(job));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.logs.values_mut().for_each(Seat::write);
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Open {
                settings,
                names,
                answer,
            } => {
                // Whoever asked waits for it.
                let _ = answer.send(self.open(&settings, names));
            }
            Job::Close { log } => {
                self.logs.remove(&log).into_iter().for_each(Seat::close);
            }
            Job::Append {
                log,
                server,
                key,
                unix_ms,
                answer,
            } => {
                if let Some(seat) = self.logs.get_mut(&log) {
                    let pending = Pending {
                        server,
                        key,
                        unix_ms,
                    };
                    seat.add(pending, answer);
                }
            }
            Job::Gone {
                log,
                server,
                seq,
                key,
            } => {
                if let Some(seat) = self.logs.get_mut(&log) {
                    seat.batch.gone.push((server, seq, key));
                }
            }
        }
    }

    fn open(&mut self, settings: &running::DeleteLog, mut names: Names) -> io::Result<Arc<Shared>> {
        // Who had it last is gone, or it would be shared; that it is to be closed
        // may be behind this in the queue.
        let before =
            |(number, seat): (&usize, &Seat)| (seat.log.path == settings.path).then_some(*number);
        if let Some(number) = self.logs.iter().find_map(before) {
            self.logs.remove(&number).into_iter().for_each(Seat::close);
        }
        let own = names.len();
        let (file, found) = LogFile::open(&settings.path, |name| names.number(name))?;
        let Found {
            index,
            next,
            torn,
            bad,
        } = found;
        let path = settings.path.display();
        if bad > 0 {
            error!(
                %path,
                bytes = bad,
                "the delete log is damaged: what could be read is used, but a delete may \
                 have been lost, and one that was applied may be applied again"
            );
        }
        if torn > 0 {
            warn!(
                %path,
                bytes = torn,
                "the delete log's last record was not written whole: it was left out"
            );
        }
        if index.len() > 0 {
            info!(
                %path,
                deletes = index.len(),
                unknown_servers = names.len() - own,
                "deletes of an earlier process wait to be applied"
            );
        }
        let number = self.next;
        self.next += 1;
        let log = Arc::new(Shared::new(settings.path.clone(), number, index, names));
        log.follow(settings);
        log.show(file.len());
        let seat = Seat {
            log: Arc::clone(&log),
            file,
            next,
            batch: Batch::default(),
            no_room_until: None,
        };
        self.logs.insert(number, seat);
        Ok(log)
    }
}

impl Seat {
    fn add(&mut self, pending: Pending, answer: Answer) {
        let before = self.batch.bytes.len();
        let names = self.log.names();
        write_waits(&mut self.batch.bytes, self.next, &pending, &names);
        drop(names);
        let fits = self.fits() || self.make_room() && self.fits();
        if !fits {
            self.batch.bytes.truncate(before);
            self.refuse(vec![answer], "the delete log is full");
            return;
        }
        self.batch.added.push((self.next, pending, answer));
        self.next += 1;
    }

    /// Whether what is in the file and in the batch is within the bound, and
    /// what will be written when those that wait are gone.
    fn fits(&self) -> bool {
        let waiting = self.log.waiting.load(Ordering::Relaxed) + self.batch.added.len() + 1;
        let bytes = self.file.len() + self.batch.bytes.len() as u64;
        bytes + waiting as u64 * GONE_LEN <= self.log.bytes_max()
    }

    /// Throw out of the file what waits no more, if that is most of it: not
    /// again and again for a few bytes, nor on a disk that has just refused.
    ///
    /// Workers ask the index at every request, so nothing is encoded or
    /// written while it is locked.
    fn make_room(&mut self) -> bool {
        let now = Instant::now();
        if self.no_room_until.is_some_and(|until| now < until) {
            return false;
        }
        let waits: Vec<(u64, Pending)> = {
            let index = self.log.index();
            if index.bytes() > self.file.len() / 2 {
                return false;
            }
            index.iter().map(|(seq, one)| (seq, one.clone())).collect()
        };
        let mut records = Vec::new();
        for (seq, pending) in &waits {
            write_waits(&mut records, *seq, pending, &self.log.names());
        }
        self.no_room_until = None;
        if let Err(error) = self.file.replace(&records) {
            self.no_room_until = Some(now + NO_ROOM);
            self.complain(&error);
        }
        true
    }

    /// Write the batch, and what has become too old; then say so.
    fn write(&mut self) {
        let Batch { bytes, added, gone } = std::mem::take(&mut self.batch);
        let ends = self.ends(gone);
        let mut ending = Vec::new();
        for seq in ends.all() {
            Record::Gone(seq).write(&mut ending);
        }
        let rest = match added.is_empty() {
            true => Some(ends),
            false => self.write_added(&[&bytes[..], &ending].concat(), added, ends),
        };
        if let Some(ends) = rest.filter(|ends| !ends.is_empty()) {
            self.write_ends(&ending, ends);
        }
        self.log.show(self.file.len());
    }

    /// Write deletes that are new, with those that wait no more. Without room
    /// for the new ones there may be some for the others, which are answered.
    fn write_added(&mut self, bytes: &[u8], added: Vec<Added>, ends: Ends) -> Option<Ends> {
        let written = self.file.append(bytes);
        if let Err(error) = written {
            self.complain(&error);
            let answers = added.into_iter().map(|(_, _, answer)| answer).collect();
            self.refuse(
                answers,
                &format!("the delete log cannot be written: {error}"),
            );
            return Some(ends);
        }
        let mut answers = Vec::with_capacity(added.len());
        {
            let mut index = self.log.index();
            for (seq, pending, answer) in added {
                answers.push(answer);
                index.insert(seq, pending);
            }
        }
        let appended = &self.log.figures.appended;
        appended.fetch_add(answers.len() as u64, Ordering::Relaxed);
        self.settle(ends);
        // The index first: who hears that it is written finds it there.
        self.log.show(self.file.len());
        for answer in answers {
            let _ = answer.send(Ok(()));
        }
        None
    }

    /// Write that deletes wait no more. If that cannot be written, those that
    /// were applied stay pending until it is: a later process would apply them
    /// again, over whatever was written since.
    fn write_ends(&mut self, bytes: &[u8], ends: Ends) {
        // Cutting the file works on a full disk, too.
        let written = match self.is_all(&ends) {
            true => self.file.clear(),
            false => self.file.append(bytes),
        };
        match written {
            Ok(()) => self.settle(ends),
            Err(error) => {
                self.complain(&error);
                self.batch.gone = ends.gone;
            }
        }
    }

    /// What waits no more: it has been applied, or become too old.
    fn ends(&self, gone: Vec<(u32, u64, Arc<[u8]>)>) -> Ends {
        let mut old = self.too_old();
        if !old.is_empty() {
            let applied: HashSet<u64> = gone.iter().map(|(_, seq, _)| *seq).collect();
            old.retain(|seq| !applied.contains(seq));
        }
        Ends { gone, old }
    }

    /// These have been written.
    fn settle(&self, ends: Ends) {
        let figures = &self.log.figures;
        let (replayed, dropped) = (ends.gone.len() as u64, ends.old.len() as u64);
        let mut woken = Vec::new();
        let mut index = self.log.index();
        for (server, seq, key) in ends.gone {
            index.remove(seq);
            woken.extend(index.release(server, &key));
        }
        for seq in ends.old {
            index.remove(seq);
        }
        drop(index);
        woken.into_iter().for_each(Waker::wake);
        figures.replayed.fetch_add(replayed, Ordering::Relaxed);
        figures.dropped.fetch_add(dropped, Ordering::Relaxed);
        if dropped > 0 {
            warn!(
                path = %self.log.path.display(),
                deletes = dropped,
                "deletes have waited for too long and will not be applied"
            );
        }
    }

    /// Whether nothing waits without these.
    fn is_all(&self, ends: &Ends) -> bool {
        let index = self.log.index();
        if index.len() > ends.gone.len() + ends.old.len() {
            return false;
        }
        let ends: HashSet<u64> = ends.all().collect();
        index.iter().all(|(seq, _)| ends.contains(&seq))
    }

    fn too_old(&self) -> Vec<u64> {
        if self.log.waiting.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let oldest = now.unwrap_or_default().saturating_sub(self.log.age_max());
        let oldest = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        let index = self.log.index();
        match index.oldest().is_some_and(|first| first < oldest) {
            true => index.before(oldest),
            false => Vec::new(),
        }
    }

    fn close(mut self) {
        self.write();
        if !self.batch.gone.is_empty() {
            warn!(
                path = %self.log.path.display(),
                deletes = self.batch.gone.len(),
                "that these deletes were applied could not be written: \
                 whoever opens the log applies them again"
            );
        }
    }

    fn refuse(&self, answers: Vec<Answer>, why: &str) {
        if answers.is_empty() {
            return;
        }
        let count = answers.len() as u64;
        self.log.figures.dropped.fetch_add(count, Ordering::Relaxed);
        let why: Refused = why.into();
        for answer in answers {
            let _ = answer.send(Err(Arc::clone(&why)));
        }
        if let Some(skipped) = REFUSALS.admit() {
            let path = self.log.path.display();
            warn!(%path, why = &*why, skipped, "a delete was not written down");
        }
    }

    fn complain(&self, error: &io::Error) {
        if let Some(skipped) = REFUSALS.admit() {
            let path = self.log.path.display();
            error!(%path, %error, skipped, "the delete log cannot be written");
        }
    }
}

fn write_waits(out: &mut Vec<u8>, seq: u64, pending: &Pending, names: &Names) {
    let record = Record::Waits {
        seq,
        unix_ms: pending.unix_ms,
        server: names.name(pending.server),
        key: &pending.key,
    };
    record.write(out);
}

#[cfg(test)]
mod tests {
    use super::super::disk::{Step, failing, tried};
    use super::super::index::Claim;
    use super::*;

    type Answered = oneshot::Receiver<Result<(), Refused>>;

    /// A log, written by whoever tests it.
    struct Desk {
        writer: Writer,
        log: Arc<Shared>,
        settings: running::DeleteLog,
    }

    impl Desk {
        fn open(name: &str, bytes_max: u64) -> Desk {
            let file = format!("emberline-writer-{name}-{}", std::process::id());
            let settings = running::DeleteLog {
                path: std::env::temp_dir().join(file),
                bytes_max,
                age_max: Duration::from_secs(1 << 30),
            };
            let _ = std::fs::remove_file(&settings.path);
            let mut writer = Writer::default();
            let log = writer.open(&settings, ["a:1"].into_iter().collect());
            Desk {
                writer,
                log: log.unwrap(),
                settings,
            }
        }

        fn append(&mut self, key: &str) -> Answered {
            let (answer, answered) = oneshot::channel();
            self.writer.take(Job::Append {
                log: 0,
                server: 0,
                key: key.as_bytes().into(),
                unix_ms: 1_700_000_000_000,
                answer,
            });
            answered
        }

        /// A worker sends the delete of this key, and it is applied.
        fn apply(&mut self, key: &str) {
            let key: Arc<[u8]> = key.as_bytes().into();
            let Claim::Yours(seq) = self.log.index().claim(0, &key) else {
                panic!("it is not there");
            };
            let job = Job::Gone {
                log: 0,
                server: 0,
                seq,
                key,
            };
            self.writer.take(job);
        }

        fn write(&mut self) {
            self.writer.logs.values_mut().for_each(Seat::write);
        }

        fn add(&mut self, key: &str) -> bool {
            let mut answered = self.append(key);
            self.write();
            answered.try_recv().unwrap().is_ok()
        }

        fn is_pending(&self, key: &str) -> bool {
            self.log.index().has(0, &key.as_bytes().into())
        }

        /// What the next process finds to be done.
        fn left(self) -> Vec<String> {
            let path = self.settings.path.clone();
            drop(self);
            let (_, found) = LogFile::open(&path, |_| 0).unwrap();
            std::fs::remove_file(&path).unwrap();
            let key = |one: &Pending| String::from_utf8_lossy(&one.key).into_owned();
            found.index.iter().map(|(_, one)| key(one)).collect()
        }
    }

    /// Disk full: what was applied must not be applied again by the next
    /// process, over what clients wrote since.
    #[test]
    fn an_applied_delete_is_pending_until_that_is_written() {
        let mut desk = Desk::open("applied", 1 << 20);
        assert!(desk.add("a") && desk.add("b") && desk.add("c"));
        failing(&[Step::Append], || {
            desk.apply("a");
            desk.write();
            assert!(desk.is_pending("a"));
            // Other work does not make it forget.
            assert!(!desk.add("d"));
            assert!(desk.is_pending("a") && !desk.is_pending("d"));
        });
        assert_eq!(desk.log.figures.replayed.load(Ordering::Relaxed), 0);
        desk.write();
        assert!(!desk.is_pending("a"));
        assert_eq!(desk.log.figures.replayed.load(Ordering::Relaxed), 1);
        assert_eq!(desk.left(), ["b", "c"]);
    }

    #[test]
    fn a_full_disk_takes_it_that_nothing_waits() {
        let mut desk = Desk::open("nothing-waits", 1 << 20);
        assert!(desk.add("a") && desk.add("b"));
        failing(&[Step::Append], || {
            desk.apply("a");
            // A new one has no room; that the old one is gone must not hang
            // on it.
            assert!(!desk.add("c"));
            desk.apply("b");
            assert!(!desk.add("c"));
            assert!(!desk.is_pending("a") && !desk.is_pending("b"));
        });
        assert!(desk.left().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_cut_back_is_as_long_as_before() {
        let mut desk = Desk::open("cut", 1 << 20);
        assert!(desk.add("a"));
        let len = desk.writer.logs[&0].file.len();
        failing(&[Step::Cut], || {
            desk.apply("a");
            desk.write();
            assert!(desk.is_pending("a"));
        });
        assert_eq!(desk.writer.logs[&0].file.len(), len);
        assert!(desk.add("b"));
        assert!(!desk.is_pending("a"));
        assert_eq!(desk.left(), ["b"]);
    }

    #[test]
    fn what_is_too_old_stays_until_that_is_written() {
        let mut desk = Desk::open("old", 1 << 20);
        assert!(desk.add("a") && desk.add("b"));
        desk.settings.age_max = Duration::from_secs(1);
        desk.log.follow(&desk.settings);
        failing(&[Step::Append, Step::Cut], || desk.write());
        assert!(desk.is_pending("a"));
        assert_eq!(desk.log.figures.dropped.load(Ordering::Relaxed), 0);
        desk.write();
        assert!(!desk.is_pending("a"));
        assert_eq!(desk.log.figures.dropped.load(Ordering::Relaxed), 2);
        assert!(desk.left().is_empty());
    }

    /// A reload gives the log up on one thread, and another takes it up again.
    #[test]
    fn a_log_is_opened_again_before_it_is_closed() {
        let mut desk = Desk::open("again", 1 << 20);
        assert!(desk.add("a"));
        let again = desk.writer.open(&desk.settings, Names::default());
        desk.log = again.unwrap();
        desk.writer.take(Job::Close { log: 0 });
        assert!(desk.is_pending("a"));
        assert_eq!(desk.writer.logs.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(desk.left(), ["a"]);
    }

    #[test]
    fn a_compaction_that_fails_is_not_tried_again_at_once() {
        let mut desk = Desk::open("compaction", 2000);
        let before = tried(Step::Replace);
        // One key again and again: all but the last waits no more.
        let refused = failing(&[Step::Replace], || {
            (0..100).filter(|_| !desk.add("key")).count()
        });
        assert!((1..100).contains(&refused), "{refused}");
        assert_eq!(tried(Step::Replace) - before, 1);
        desk.writer.logs.get_mut(&0).unwrap().no_room_until = None;
        assert!(desk.add("key") && desk.add("other"));
        assert_eq!(tried(Step::Replace) - before, 2);
        assert_eq!(desk.left(), ["key", "other"]);
    }
}
