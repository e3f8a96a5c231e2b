//! What is queued on a connection: bytes to write, which entry they belong to,
//! and until when that one may wait. What was not written in time can be taken
//! back.

use super::Backend;
use super::entry::{Entry, UPLOADING};

#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
    /// What was queued before `bytes`.
    pub(super) before: u64,
}

impl Out {
    /// Where the next byte will lie in all that was ever queued.
    pub(super) fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// How much of all that was ever queued has been written.
    pub(super) fn written(&self) -> u64 {
        self.before + self.sent as u64
    }

    /// Let go of what was written.
    pub(super) fn forget(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        self.before += sent as u64;
        self.bytes.drain(..sent);
    }
}

/// How long a request may wait to be written, and then for its reply; in
/// nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) queue: u64,
    pub(super) response: u64,
}

impl Backend {
    /// What was written lies on the server's side from now on: the time of
    /// requests that are whole there begins.
    pub(super) fn note_written(&self, now: u64) {
        let written = self.out.borrow().written();
        let mut fifo = self.fifo.borrow_mut();
        let (len, mut unwritten) = (fifo.len(), self.unwritten.get());
        while let Some(entry) = len.checked_sub(unwritten).and_then(|at| fifo.get_mut(at))
            && entry.bytes.end <= written
        {
            entry.asked = now;
            if entry.since != UPLOADING {
                entry.since = now;
            }
            unwritten -= 1;
        }
        self.unwritten.set(unwritten);
    }

    /// When this entry has run out of time.
    pub(super) fn deadline(&self, entry: &Entry, times: Times) -> u64 {
        let written = self.out.borrow().written();
        let wait = if entry.bytes.end <= written {
            times.response
        } else if entry.may_withdraw(written) {
            times.queue
        } else {
            times.queue + times.response
        };
        entry.since + wait
    }

    /// Take back the requests that were not written in time: as if they had
    /// never been queued.
    pub(super) fn withdraw(&self, now: u64, times: Times) -> Vec<Entry> {
        let mut out = self.out.borrow_mut();
        let mut fifo = self.fifo.borrow_mut();
        let (written, before) = (out.written(), out.before);
        let first = fifo.len().saturating_sub(self.unwritten.get());
        let late = |entry: &Entry| entry.may_withdraw(written) && entry.since + times.queue <= now;
        if !fifo.range(first..).any(late) {
            return Vec::new();
        }
        // Of these at most the first has been written in part; the rest of it
        // and all of the others is what is left in `out`.
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for mut entry in fifo.split_off(first) {
            if late(&entry) {
                gone.push(entry);
                continue;
            }
            let start = entry.bytes.start.max(written);
            let place = |at: u64| usize::try_from(at - before).unwrap_or(usize::MAX);
            let rest = out.bytes.get(place(start)..place(entry.bytes.end));
            let moved = written + kept.len() as u64;
            if entry.bytes.start >= written {
                entry.bytes.start = moved;
            }
            entry.bytes.end = moved + (entry.bytes.end - start);
            kept.extend_from_slice(rest.unwrap_or_default());
            fifo.push_back(entry);
        }
        let sent = out.sent;
        out.bytes.truncate(sent);
        out.bytes.extend_from_slice(&kept);
        self.unwritten.set(fifo.len() - first);
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use emberline_protocol::redis::Version;
    use emberline_routing::ServerId;

    use super::*;
    use crate::server::backend::{Phase, entry::Owner};
    use crate::server::client::Client;
    use crate::server::gather::Wire;
    use crate::server::health::Load;

    const TIMES: Times = Times {
        queue: 100,
        response: 1000,
    };

    /// A connection with these requests, queued a nanosecond apart from 0 on;
    /// what begins with `#` are our own first words.
    fn connection(requests: &[&str]) -> Backend {
        let backend = Backend {
            server: ServerId(0),
            version: Version::Resp2,
            phase: Cell::new(Phase::Open),
            fifo: RefCell::default(),
            out: RefCell::default(),
            unwritten: Cell::new(0),
            load: Rc::new(Load::new(1024)),
            aside: Cell::new(false),
            waiting: RefCell::default(),
            waker: RefCell::default(),
            woken: Cell::new(false),
        };
        let client = Rc::new(Client::new(0, 0, 0, 0, Wire::Redis(Version::Resp2)));
        for (seq, request) in (0..).zip(requests) {
            let mut entry = Entry::new(Rc::clone(&client), seq, 0, seq);
            if request.starts_with('#') {
                entry.owner = Owner::Handshake(Vec::new());
            }
            backend.append(entry, |out| out.extend_from_slice(request.as_bytes()));
        }
        backend
    }

    fn write(backend: &Backend, count: usize, now: u64) {
        backend.out.borrow_mut().sent += count;
        backend.note_written(now);
    }

    fn left(backend: &Backend) -> String {
        let out = backend.out.borrow();
        String::from_utf8_lossy(&out.bytes[out.sent..]).into_owned()
    }

    /// Of `requests`, of which so many bytes are written at 50, so many are
    /// taken back at `now`, and these bytes are left to be written.
    #[track_caller]
    fn check(requests: &[&str], written: usize, now: u64, gone: usize, expected: &str) {
        for forgotten in [false, true] {
            let backend = connection(requests);
            write(&backend, written, 50);
            if forgotten {
                backend.out.borrow_mut().forget();
            }
            assert_eq!(backend.withdraw(now, TIMES).len(), gone);
            assert_eq!(left(&backend), expected);
            assert_eq!(backend.fifo.borrow().len(), requests.len() - gone);
            // Whatever is left is still known to be written when it is.
            write(&backend, expected.len(), 200);
            assert_eq!(backend.unwritten.get(), 0);
            let fifo = backend.fifo.borrow();
            let ends = fifo.iter().map(|entry| entry.bytes.end);
            assert_eq!(ends.max(), Some(backend.out.borrow().written()));
        }
    }

    #[test]
    fn what_was_not_written_in_time_is_taken_back() {
        let three = ["aaaa", "bb", "cccc"];
        check(&three, 0, 99, 0, "aaaabbcccc");
        check(&three[..2], 4, 99, 0, "bb");
        check(&three, 4, 101, 1, "cccc");
        check(&three, 6, 101, 0, "cccc");
        check(&three, 10, 500, 0, "");
    }

    #[test]
    fn what_is_partly_written_goes_on() {
        check(&["aaaa", "bb", "cccc"], 2, 101, 1, "aacccc");
        check(&["aaaa", "bb", "cccc"], 2, 102, 2, "aa");
        check(&["aaaa", "bb", "cccc"], 5, 102, 1, "b");
    }

    #[test]
    fn our_own_first_words_stay() {
        check(&["#hello", "bb", "cccc"], 0, 102, 2, "#hello");
        check(&["#hello", "#x", "cc", "d"], 3, 102, 1, "llo#xd");
    }

    #[test]
    fn time_runs_from_the_last_byte_written() {
        let backend = connection(&["aaaa", "bb"]);
        let deadline = |at: usize| backend.deadline(&backend.fifo.borrow()[at], TIMES);
        assert_eq!((deadline(0), deadline(1)), (100, 101));
        write(&backend, 3, 40);
        assert_eq!((deadline(0), deadline(1)), (1100, 101));
        write(&backend, 1, 60);
        assert_eq!((deadline(0), deadline(1)), (1060, 101));
        write(&backend, 2, 80);
        assert_eq!((deadline(0), deadline(1)), (1060, 1080));
    }

    #[test]
    fn an_upload_has_all_the_time_until_it_is_whole() {
        let backend = connection(&[]);
        let client = Rc::new(Client::new(0, 0, 0, 0, Wire::Redis(Version::Resp2)));
        backend.append(Entry::uploading(client, 0), |_| ());
        for now in [10, 20] {
            backend.extend(b"xxxx");
            write(&backend, 4, now);
            assert!(backend.deadline(&backend.fifo.borrow()[0], TIMES) > 1 << 60);
        }
        backend.extend(b"x");
        backend.settle(30);
        write(&backend, 1, 40);
        assert_eq!(backend.deadline(&backend.fifo.borrow()[0], TIMES), 1040);
    }
}
