//! Deletes that are owed: a copy may have come behind a delete of its key, and
//! has to go again before anybody reads it.
//!
//! ```text
//!   reserve --copy sent--> give_up                nobody has deleted the key
//!                     `--> owe --claim--> settle  the server has carried it out
//!                           ^        `--> release no reply: it is sent again
//!                           |        `--> refuse  it says no: asked again, but
//!                           |                     nothing is read meanwhile
//!                           `----------- settle   owed anew while it was sent
//! ```
//!
//! It is the delete log's promise without its file: who asks about such a key
//! waits until its delete has been carried out, and where a thread learns of it
//! too late to wait, another delete goes first on the same connection. So a copy
//! that outlived its delete is never read through this process. It ends with the
//! process, because what it is about ends soon as well: the race between two
//! requests, not an outage that a restart may be part of.
//!
//! Room is reserved *before* a copy is sent. Where there is none, no copies are
//! made, and nothing has to be thrown away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use emberline_routing::ServerId;

use crate::delete_log::Claim;

/// Bytes that may be owed, with those of copies that are being made.
const OWED_MAX: usize = 16 * 1024 * 1024;

/// What a key takes beside its bytes, about.
const BESIDE: usize = 128;

/// See the module's description. Shared by all threads.
#[derive(Debug, Default)]
pub struct Owed {
    /// Something has been owed since the process began.
    used: AtomicBool,
    /// How many are owed; read before the book is.
    count: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    servers: HashMap<ServerId, HashMap<Arc<[u8]>, Debt>>,
    /// Of all keys in it, and of all that room is reserved for.
    bytes: usize,
}

/// What is known of one that is owed.
#[derive(Debug, Default)]
struct Debt {
    /// Somebody is sending it.
    claimed: bool,
    /// It was owed anew since, by a copy that may have come behind what is
    /// being sent.
    anew: bool,
    /// Its server has said no, the last time.
    refused: bool,
    /// Tasks that wait until nobody is sending it any more.
    waiting: Vec<Waker>,
}

impl Owed {
    /// Whether there is room to owe a delete of this key; it is kept until
    /// [`owe`](Self::owe) or [`give_up`](Self::give_up).
    #[must_use]
    pub fn reserve(&self, key: &[u8]) -> bool {
        let mut book = self.book();
        let bytes = book.bytes + weight(key);
        let room = bytes <= OWED_MAX;
        if room {
            book.bytes = bytes;
        }
        room
    }

    /// The room that was reserved is not needed.
    pub fn give_up(&self, key: &[u8]) {
        self.book().free(key);
    }

    /// The room is needed: the key has to be deleted.
    pub fn owe(&self, server: ServerId, key: &[u8]) {
        let mut book = self.book();
        self.used.store(true, Ordering::Release);
        let keys = book.servers.entry(server).or_default();
        match keys.get_mut(key) {
            Some(debt) => {
                debt.anew = debt.claimed;
                book.free(key);
            }
            None => {
                keys.insert(key.into(), Debt::default());
                self.count.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Whether anything was ever owed.
    #[inline]
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Whether nothing is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether this key has to be deleted.
    #[inline]
    pub fn has(&self, server: ServerId, key: &[u8]) -> bool {
        !self.is_empty() && self.book().debt(server, key).is_some()
    }

    /// Whether it has to be, and its server will not: it may have become a
    /// replica, whose value is still the old one.
    pub fn is_refused(&self, server: ServerId, key: &[u8]) -> bool {
        !self.is_empty()
            && self
                .book()
                .debt(server, key)
                .is_some_and(|debt| debt.refused)
    }

    /// Whether this delete is for who asks to send, from here on.
    #[must_use]
    pub fn claim(&self, server: ServerId, key: &[u8]) -> bool {
        !self.is_empty() && self.book().debt(server, key).is_some_and(Debt::claim)
    }

    /// The same. If it is owed, the end of the claim wakes this task.
    pub fn claim_and_wait(&self, server: ServerId, key: &[u8], waker: &Waker) -> Claim {
        if self.is_empty() {
            return Claim::Nothing;
        }
        let mut book = self.book();
        let Some(debt) = book.debt(server, key) else {
            return Claim::Nothing;
        };
        if !debt.waiting.iter().any(|other| other.will_wake(waker)) {
            debt.waiting.push(waker.clone());
        }
        match debt.claim() {
            true => Claim::Yours(0),
            false => Claim::Taken,
        }
    }

    /// Claim some that are owed to servers which are up.
    pub fn claim_some(
        &self,
        max: usize,
        is_up: impl Fn(ServerId) -> bool,
    ) -> Vec<(ServerId, Arc<[u8]>)> {
        let mut book = self.book();
        let up = book
            .servers
            .iter_mut()
            .filter(|(server, _)| is_up(**server));
        let all = up.flat_map(|(server, keys)| keys.iter_mut().map(|entry| (*server, entry)));
        let free =
            all.filter_map(|(server, (key, debt))| debt.claim().then(|| (server, Arc::clone(key))));
        free.take(max).collect()
    }

    /// What was claimed has not been carried out, as far as is known.
    pub fn release(&self, server: ServerId, key: &[u8]) {
        let mut book = self.book();
        let Some(debt) = book.debt(server, key) else {
            return;
        };
        (debt.claimed, debt.anew) = (false, false);
        let woken = std::mem::take(&mut debt.waiting);
        drop(book);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The server has said that it does not carry out what was claimed, which
    /// is to be released.
    pub fn refuse(&self, server: ServerId, key: &[u8]) {
        if let Some(debt) = self.book().debt(server, key) {
            debt.refused = true;
        }
    }

    /// What was claimed has been carried out.
    pub fn settle(&self, server: ServerId, key: &[u8]) {
        let mut book = self.book();
        let Some(debt) = book.debt(server, key) else {
            return;
        };
        let debt = std::mem::take(debt);
        if !debt.anew {
            self.forget(&mut book, server, key);
        }
        drop(book);
        debt.waiting.into_iter().for_each(Waker::wake);
    }

    /// Nothing is owed any more to servers that have gone.
    pub fn forgive(&self, has_gone: impl Fn(ServerId) -> bool) {
        let mut book = self.book();
        let gone: Vec<ServerId> = book
            .servers
            .keys()
            .copied()
            .filter(|one| has_gone(*one))
            .collect();
        let mut woken = Vec::new();
        for server in gone {
            for (key, debt) in book.servers.remove(&server).into_iter().flatten() {
                self.count.fetch_sub(1, Ordering::Release);
                book.free(&key);
                woken.extend(debt.waiting);
            }
        }
        drop(book);
        woken.into_iter().for_each(Waker::wake);
    }

    fn forget(&self, book: &mut Book, server: ServerId, key: &[u8]) {
        let Some(keys) = book.servers.get_mut(&server) else {
            return;
        };
        if keys.remove(key).is_some() {
            if keys.is_empty() {
                book.servers.remove(&server);
            }
            self.count.fetch_sub(1, Ordering::Release);
            book.free(key);
        }
    }

    /// Whoever panicked here has left a book that is still true.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn debt(&mut self, server: ServerId, key: &[u8]) -> Option<&mut Debt> {
        self.servers.get_mut(&server)?.get_mut(key)
    }

    fn free(&mut self, key: &[u8]) {
        self.bytes = self.bytes.saturating_sub(weight(key));
    }
}

impl Debt {
    fn claim(&mut self) -> bool {
        !std::mem::replace(&mut self.claimed, true)
    }
}

fn weight(key: &[u8]) -> usize {
    key.len() + BESIDE
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServerId = ServerId(0);
    const B: ServerId = ServerId(1);

    fn owed(keys: &[(ServerId, &str)]) -> Owed {
        let owed = Owed::default();
        for (server, key) in keys {
            assert!(owed.reserve(key.as_bytes()));
            owed.owe(*server, key.as_bytes());
        }
        owed
    }

    /// Nothing is owed, and all room is free again.
    #[track_caller]
    fn check_settled(owed: &Owed) {
        let book = owed.book();
        assert!(owed.is_empty() && book.servers.is_empty());
        assert_eq!(book.bytes, 0);
    }

    #[test]
    fn one_sends_at_a_time_until_it_is_carried_out() {
        let owed = owed(&[(A, "k")]);
        assert!(owed.has(A, b"k") && !owed.has(B, b"k") && !owed.has(A, b"l"));
        assert!(owed.claim(A, b"k") && !owed.claim(A, b"k"));
        owed.release(A, b"k");
        assert!(owed.has(A, b"k") && owed.claim(A, b"k"));
        owed.refuse(A, b"k");
        owed.release(A, b"k");
        assert!(owed.is_refused(A, b"k") && owed.claim(A, b"k"));
        owed.settle(A, b"k");
        assert!(!owed.has(A, b"k") && !owed.is_refused(A, b"k"));
        check_settled(&owed);
    }

    #[test]
    fn what_is_owed_anew_while_it_is_sent_is_sent_again() {
        let owed = owed(&[(A, "k")]);
        assert!(owed.claim(A, b"k"));
        assert!(owed.reserve(b"k"));
        owed.owe(A, b"k");
        owed.settle(A, b"k");
        assert!(owed.has(A, b"k") && owed.claim(A, b"k"));
        owed.settle(A, b"k");
        check_settled(&owed);
    }

    #[test]
    fn the_end_of_a_claim_wakes_who_waits_for_it() {
        let owed = owed(&[(A, "k")]);
        let waker = Waker::noop();
        let wait = |key: &[u8]| owed.claim_and_wait(A, key, waker);
        let waits = || {
            owed.book()
                .debt(A, b"k")
                .map(|debt| !debt.waiting.is_empty())
        };
        assert_eq!(wait(b"none"), Claim::Nothing);
        assert_eq!(wait(b"k"), Claim::Yours(0));
        assert_eq!((wait(b"k"), waits()), (Claim::Taken, Some(true)));
        owed.release(A, b"k");
        assert_eq!((waits(), wait(b"k")), (Some(false), Claim::Yours(0)));
        owed.settle(A, b"k");
        assert_eq!((waits(), wait(b"k")), (None, Claim::Nothing));
        check_settled(&owed);
    }

    #[test]
    fn only_servers_that_are_up_are_sent_something() {
        let owed = owed(&[(A, "k"), (B, "l"), (B, "m")]);
        assert_eq!(owed.claim_some(10, |_| false), []);
        assert_eq!(owed.claim_some(1, |server| server == B).len(), 1);
        assert_eq!(owed.claim_some(10, |server| server == B).len(), 1);
        assert_eq!(owed.claim_some(10, |_| true), [(A, b"k".as_slice().into())]);
        owed.forgive(|server| server == B);
        assert!(owed.has(A, b"k") && !owed.has(B, b"l"));
        owed.settle(B, b"l");
        owed.settle(A, b"k");
        check_settled(&owed);
    }

    #[test]
    fn no_copy_is_made_that_could_not_be_undone() {
        let owed = Owed::default();
        let key = vec![b'k'; OWED_MAX - 2 * BESIDE];
        assert!(owed.reserve(&key) && owed.reserve(b"") && !owed.reserve(b""));
        owed.give_up(&key);
        owed.give_up(b"");
        check_settled(&owed);
    }
}
