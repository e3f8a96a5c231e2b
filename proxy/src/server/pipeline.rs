//! One client's replies, in the order of its requests.
//!
//! Every request that waits for a server holds a *slot*. Servers answer when
//! they like; a slot's bytes go to the socket only when every earlier slot has
//! been answered:
//!
//! ```text
//!   requests   GET a     GET b     MGET c d    PING
//!   slots    [ waiting | held    | gathering | held ]
//!                 ^ front: its bytes go straight to `out`, even in pieces
//! ```
//!
//! The pipeline knows nothing of sockets or tasks. A client that waits for
//! nothing has none: it is lent one from the worker's pool while it is busy.

use std::collections::VecDeque;

use emberline_hotkey::KeyHash;
use emberline_protocol::memcache::{self, Verb};

use super::gather::{Gather, Merge, Wire};
use crate::metrics::{self, Verdict};
use crate::running::Partial;

/// Buffers larger than this are given back to the allocator when idle.
const KEEP: usize = 16 * 1024;

/// Small buffers kept for replies that arrive before their turn.
const SPARES: usize = 32;

/// Gatherers kept for requests that go to several places.
const GATHERS: usize = 4;

/// What is to be counted when a request has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Index of the command among the meter's commands.
    pub command: u16,
    /// Index of the pool that answers, if one does.
    pub pool: Option<u16>,
    /// Whether the request only reads.
    pub read: bool,
    /// When it was taken up, in nanoseconds of the worker's clock.
    pub started: u64,
    /// Who answers it, as far as the order of a client's requests is concerned.
    pub via: Via,
    /// Its key, if it concerns one that is watched.
    pub key: Option<KeyHash>,
}

/// Who answers a request, as far as the order of a client's requests is
/// concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The proxy itself, or nobody who knows of keys.
    Proxy,
    /// The key's server.
    Server,
    /// Servers, one after the other. Its key, if it has one, is hashed as the
    /// client says it.
    Steps,
    /// Servers, and it may change keys that are not said.
    Anywhere,
    /// Memory, when the value has been fetched.
    Memory,
}

impl Default for Record {
    /// Of a request that is no known command and reaches no pool.
    fn default() -> Record {
        Record {
            command: metrics::OTHER,
            pool: None,
            read: false,
            started: 0,
            via: Via::Proxy,
            key: None,
        }
    }
}

/// How a reply becomes what the client sees.
#[derive(Debug)]
pub enum Shape {
    /// As the server said it.
    Plain,
    /// A quiet meta request: thrown away unless it says something of interest.
    Quiet(Verb),
    /// Put together from several replies.
    Gather(Box<Gather>),
}

#[derive(Debug)]
enum Progress {
    /// Nothing has come.
    Waiting,
    /// At the front and partly written to `out`.
    Flowing,
    /// Bytes that came before their turn, or that must be seen whole.
    Held(Vec<u8>),
    /// Complete, waiting for its turn.
    Done(Vec<u8>),
}

#[derive(Debug)]
struct Slot {
    shape: Shape,
    /// The client does not want to hear it: `noreply`, `CLIENT REPLY OFF`.
    mute: bool,
    progress: Progress,
    verdict: Verdict,
    record: Record,
}

impl Slot {
    /// Note that the request has failed; the first reason stands.
    fn blame(&mut self, verdict: Verdict) {
        if self.verdict == Verdict::Ok {
            self.verdict = verdict;
        }
    }
}

/// What a delivery did.
#[derive(Debug, Default)]
pub struct Delivered {
    /// There is something new to write.
    pub ready: bool,
    /// The request is answered: count it.
    pub complete: Option<(Record, Verdict)>,
}

/// The slots and the bytes that are ready to be written.
#[derive(Debug, Default)]
pub struct Pipeline {
    /// Sequence number of `slots[0]`.
    first: u64,
    slots: VecDeque<Slot>,
    /// Slots that memory answers: nobody has to look for them if there are none.
    recalled: usize,
    /// The same for those that are carried out in steps.
    stepping: usize,
    out: Vec<u8>,
    sent: usize,
    /// Bytes in slots that wait for their turn.
    held: usize,
    spares: Vec<Vec<u8>>,
    #[expect(
        clippy::vec_box,
        reason = "lent as they are, so that lending moves a pointer"
    )]
    gathers: Vec<Box<Gather>>,
}

impl Pipeline {
    /// Number the requests from `first` on: a client's numbers go on where
    /// they ended, so that no reply can find the slot of another request.
    pub fn number_from(&mut self, first: u64) {
        self.first = first;
    }

    /// The number that the next request gets.
    pub fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Requests that have not been answered, or not in their turn.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether every request so far has been answered.
    #[inline]
    pub fn is_answered(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a request like this has not been answered.
    pub fn has_waiting(&self, like: impl Fn(&Record) -> bool) -> bool {
        let waiting = |slot: &&Slot| !matches!(slot.progress, Progress::Done(_));
        let mut waiting = self.slots.iter().filter(waiting);
        waiting.any(|slot| like(&slot.record))
    }

    /// Whether there may be a request that memory has yet to answer.
    #[inline]
    pub fn may_wait_for_memory(&self) -> bool {
        self.recalled > 0
    }

    /// Whether there may be a request that has steps to take.
    #[inline]
    pub fn may_take_steps(&self) -> bool {
        self.stepping > 0
    }

    /// Whether nothing waits and nothing is to be written.
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.sent == self.out.len()
    }

    /// Bytes queued for the client, in their turn or not.
    pub fn queued(&self) -> usize {
        self.out.len() - self.sent + self.held
    }

    /// Whether more than `limit` bytes wait for the client to read, as far as
    /// that matters to the server that answers request `seq`.
    ///
    /// Bytes of later requests cannot leave before those of earlier ones have
    /// come, and fragments of one request only together. So whoever holds up
    /// the front is measured by what can be written now alone.
    pub fn is_congested(&self, seq: u64, limit: usize) -> bool {
        let bytes = if seq > self.first {
            self.queued()
        } else {
            self.ready().len()
        };
        bytes > limit
    }

    /// The bytes to be written next.
    pub fn ready(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// Forget the first `count` of [`ready`](Self::ready).
    pub fn written(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.out.len());
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            if self.out.capacity() > KEEP {
                self.out.shrink_to(KEEP);
            }
        } else if self.sent > KEEP && self.sent * 2 > self.out.len() {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Take a slot for a request that a server answers.
    pub fn push(&mut self, shape: Shape, mute: bool, record: Record) -> u64 {
        let seq = self.next();
        self.recalled += usize::from(record.via == Via::Memory);
        self.stepping += usize::from(record.via == Via::Steps);
        self.slots.push_back(Slot {
            shape,
            mute,
            progress: Progress::Waiting,
            verdict: Verdict::Ok,
            record,
        });
        seq
    }

    /// Answer a request on the spot: `write` appends the reply.
    pub fn answer<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.slots.is_empty() {
            return write(&mut self.out);
        }
        let mut reply = self.spares.pop().unwrap_or_default();
        let result = write(&mut reply);
        self.held += reply.len();
        self.slots.push_back(Slot {
            shape: Shape::Plain,
            mute: false,
            progress: Progress::Done(reply),
            verdict: Verdict::Ok,
            record: Record::default(),
        });
        result
    }

    /// A gatherer for a request to `fragments` places, used before if possible.
    pub fn lend_gather(&mut self, merge: Merge, partial: Partial, fragments: usize) -> Box<Gather> {
        let mut gather = self.gathers.pop().unwrap_or_default();
        gather.reset(merge, partial, fragments);
        gather
    }

    /// Take `bytes` of the reply to request `seq`; `done` with its last ones.
    pub fn deliver(
        &mut self,
        seq: u64,
        fragment: u32,
        bytes: &[u8],
        done: bool,
        wire: Wire,
    ) -> Delivered {
        let Some(index) = self.index(seq) else {
            return Delivered::default();
        };
        let slot = &mut self.slots[index];
        if let Shape::Quiet(verb) = slot.shape
            && !done
            && !memcache::suppressed(verb, bytes)
        {
            // A reply in pieces begins with a whole line: it is a value to be
            // seen, and need not be held until it is whole.
            slot.shape = Shape::Plain;
        }
        match &mut slot.shape {
            Shape::Plain => {
                if matches!(slot.progress, Progress::Waiting) && wire.is_error(bytes) {
                    slot.blame(Verdict::Error);
                }
                if slot.mute {
                    slot.progress = Progress::Held(Vec::new());
                } else if index == 0 {
                    return self.flow(bytes, done);
                } else {
                    self.hold(index, bytes);
                }
            }
            Shape::Quiet(_) => self.hold(index, bytes),
            Shape::Gather(gather) => {
                let before = gather.len();
                let whole = gather.deliver(fragment, bytes, done);
                self.held += gather.len() - before;
                if !whole {
                    return Delivered::default();
                }
                self.merge(index, wire);
                return self.complete(index, wire);
            }
        }
        if done {
            self.complete(index, wire)
        } else {
            Delivered::default()
        }
    }

    /// Answer request `seq`, or one fragment of it, with an error of our own.
    ///
    /// `None` when part of a reply has already gone to the client, so that no
    /// error can be put in its place: the connection has to end.
    pub fn fail(
        &mut self,
        seq: u64,
        fragment: u32,
        error: &[u8],
        verdict: Verdict,
        wire: Wire,
    ) -> Option<Delivered> {
        let Some(index) = self.index(seq) else {
            return Some(Delivered::default());
        };
        let slot = &mut self.slots[index];
        match std::mem::replace(&mut slot.progress, Progress::Waiting) {
            Progress::Flowing => {
                slot.progress = Progress::Flowing;
                return None;
            }
            Progress::Done(reply) => {
                slot.progress = Progress::Done(reply);
                return Some(Delivered::default());
            }
            Progress::Held(bytes) => {
                self.held -= bytes.len();
                self.spare(bytes);
            }
            Progress::Waiting => {}
        }
        self.slots[index].blame(verdict);
        if let Shape::Gather(gather) = &mut self.slots[index].shape {
            self.held -= gather.clear(fragment);
        }
        Some(self.deliver(seq, fragment, error, true, wire))
    }

    /// Bytes of the front slot's plain reply.
    fn flow(&mut self, bytes: &[u8], done: bool) -> Delivered {
        self.out.extend_from_slice(bytes);
        let slot = &mut self.slots[0];
        let complete = done.then_some((slot.record, slot.verdict));
        if done {
            self.pop();
            self.drain();
        } else {
            slot.progress = Progress::Flowing;
        }
        Delivered {
            ready: true,
            complete,
        }
    }

    /// The last fragment of slot `index` has come.
    fn merge(&mut self, index: usize, wire: Wire) {
        let slot = &mut self.slots[index];
        let Shape::Gather(mut gather) = std::mem::replace(&mut slot.shape, Shape::Plain) else {
            return;
        };
        self.held -= gather.len();
        let mut reply = self.spares.pop().unwrap_or_default();
        if gather.finish(wire, &mut reply) {
            slot.blame(Verdict::Error);
        } else {
            // Values of a failed server may be missing: then all is well.
            slot.verdict = Verdict::Ok;
        }
        self.held += reply.len();
        slot.progress = Progress::Held(reply);
        if self.gathers.len() < GATHERS {
            gather.forget();
            self.gathers.push(gather);
        }
    }

    fn index(&self, seq: u64) -> Option<usize> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        (index < self.slots.len()).then_some(index)
    }

    fn hold(&mut self, index: usize, bytes: &[u8]) {
        self.held += bytes.len();
        match &mut self.slots[index].progress {
            Progress::Held(held) => held.extend_from_slice(bytes),
            progress => {
                let mut held = self.spares.pop().unwrap_or_default();
                held.extend_from_slice(bytes);
                *progress = Progress::Held(held);
            }
        }
    }

    /// The reply in slot `index` is whole.
    fn complete(&mut self, index: usize, wire: Wire) -> Delivered {
        let slot = &mut self.slots[index];
        let mut reply = match std::mem::replace(&mut slot.progress, Progress::Waiting) {
            Progress::Held(reply) => reply,
            _ => Vec::new(),
        };
        let mut unwanted = slot.mute;
        if let Shape::Quiet(verb) = slot.shape {
            if wire.is_error(&reply) {
                slot.blame(Verdict::Error);
            }
            unwanted |= memcache::suppressed(verb, &reply);
        }
        if unwanted {
            self.held -= reply.len();
            reply.clear();
        }
        slot.progress = Progress::Done(reply);
        let complete = Some((slot.record, slot.verdict));
        if index == 0 {
            self.drain();
        }
        Delivered {
            ready: index == 0,
            complete,
        }
    }

    /// Move everything whose turn has come to `out`.
    fn drain(&mut self) {
        while let Some(slot) = self.slots.front_mut() {
            match std::mem::replace(&mut slot.progress, Progress::Waiting) {
                Progress::Done(reply) => {
                    self.held -= reply.len();
                    self.out.extend_from_slice(&reply);
                    self.spare(reply);
                    self.pop();
                }
                Progress::Held(reply) if matches!(slot.shape, Shape::Plain) => {
                    slot.progress = Progress::Flowing;
                    self.held -= reply.len();
                    self.out.extend_from_slice(&reply);
                    self.spare(reply);
                    return;
                }
                progress => {
                    slot.progress = progress;
                    return;
                }
            }
        }
    }

    /// The first slot's turn is over.
    fn pop(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.recalled -= usize::from(slot.record.via == Via::Memory);
            self.stepping -= usize::from(slot.record.via == Via::Steps);
            self.first += 1;
        }
    }

    fn spare(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES && (1..=4096).contains(&buffer.capacity()) {
            buffer.clear();
            self.spares.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use emberline_protocol::redis::Version;

    use super::*;

    const REDIS: Wire = Wire::Redis(Version::Resp2);

    fn pipeline(shapes: impl IntoIterator<Item = Shape>) -> Pipeline {
        let mut pipeline = Pipeline::default();
        for shape in shapes {
            pipeline.push(shape, false, Record::default());
        }
        pipeline
    }

    /// What is ready to be written, which is then written.
    fn take(pipeline: &mut Pipeline) -> String {
        let ready = String::from_utf8_lossy(pipeline.ready()).into_owned();
        pipeline.written(ready.len());
        ready
    }

    #[test]
    fn replies_leave_in_the_order_of_the_requests() {
        let mut pipeline = pipeline([Shape::Plain, Shape::Plain, Shape::Plain]);
        assert!(!pipeline.deliver(2, 0, b"+c\r\n", true, REDIS).ready);
        assert!(!pipeline.deliver(1, 0, b"+b\r\n", true, REDIS).ready);
        assert_eq!(take(&mut pipeline), "");
        assert_eq!(pipeline.queued(), 8);
        assert!(pipeline.deliver(0, 0, b"+a\r\n", true, REDIS).ready);
        assert_eq!(take(&mut pipeline), "+a\r\n+b\r\n+c\r\n");
        assert!(pipeline.is_idle());
        assert_eq!(pipeline.queued(), 0);
    }

    #[test]
    fn a_reply_in_pieces_flows_once_it_is_at_the_front() {
        let mut pipeline = pipeline([Shape::Plain, Shape::Plain]);
        pipeline.deliver(1, 0, b"$4\r\n", false, REDIS);
        pipeline.deliver(0, 0, b"+a\r\n", true, REDIS);
        assert_eq!(take(&mut pipeline), "+a\r\n$4\r\n");
        pipeline.deliver(1, 0, b"da", false, REDIS);
        assert_eq!(take(&mut pipeline), "da");
        assert!(
            pipeline
                .deliver(1, 0, b"ta\r\n", true, REDIS)
                .complete
                .is_some()
        );
        assert_eq!(take(&mut pipeline), "ta\r\n");
    }

    #[test]
    fn an_error_replaces_a_reply_only_while_nothing_of_it_was_written() {
        let mut pipeline = pipeline([Shape::Plain, Shape::Plain]);
        pipeline.deliver(1, 0, b"$9\r\nhalf", false, REDIS);
        let delivered = pipeline.fail(1, 0, b"-ERR gone\r\n", Verdict::Timeout, REDIS);
        assert!(delivered.is_some_and(|delivered| {
            delivered
                .complete
                .is_some_and(|(_, verdict)| verdict == Verdict::Timeout)
        }));
        pipeline.deliver(0, 0, b"$9\r\nhalf", false, REDIS);
        assert!(
            pipeline
                .fail(0, 0, b"-ERR gone\r\n", Verdict::Timeout, REDIS)
                .is_none()
        );
    }

    #[test]
    fn a_late_error_does_not_undo_an_answer_that_waits_for_its_turn() {
        let mut pipeline = pipeline([Shape::Plain, Shape::Plain]);
        pipeline.deliver(1, 0, b"+b\r\n", true, REDIS);
        let late = pipeline.fail(1, 0, b"-ERR late\r\n", Verdict::Timeout, REDIS);
        assert!(late.is_some_and(|late| late.complete.is_none()));
        pipeline.deliver(0, 0, b"+a\r\n", true, REDIS);
        assert_eq!(take(&mut pipeline), "+a\r\n+b\r\n");
    }

    #[test]
    fn muted_and_suppressed_replies_leave_nothing_behind() {
        let mut pipeline = Pipeline::default();
        pipeline.push(Shape::Plain, true, Record::default());
        pipeline.push(Shape::Quiet(Verb::MetaGet), false, Record::default());
        pipeline.push(Shape::Plain, false, Record::default());
        pipeline.deliver(2, 0, b"END\r\n", true, Wire::Memcached);
        pipeline.deliver(1, 0, b"EN\r\n", true, Wire::Memcached);
        pipeline.deliver(0, 0, b"STORED\r\n", true, Wire::Memcached);
        assert_eq!(take(&mut pipeline), "END\r\n");
        assert_eq!(pipeline.queued(), 0);
    }

    #[test]
    fn fragments_are_counted_once_and_gatherers_are_used_again() {
        let mut pipeline = Pipeline::default();
        for _ in 0..3 {
            let mut gather = pipeline.lend_gather(Merge::Mget, Partial::Error, 2);
            gather.order(&[1, 0, 1]);
            let seq = pipeline.push(Shape::Gather(gather), false, Record::default());
            let first = pipeline.deliver(seq, 1, b"*2\r\n$1\r\na\r\n$-1\r\n", true, REDIS);
            assert!(first.complete.is_none());
            let last = pipeline.deliver(seq, 0, b"*1\r\n$1\r\nb\r\n", true, REDIS);
            assert!(last.ready && last.complete.is_some());
            assert_eq!(take(&mut pipeline), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
            assert_eq!(pipeline.queued(), 0);
        }
        assert_eq!(pipeline.gathers.len(), 1);
    }

    #[test]
    fn what_memory_answers_is_counted_until_its_turn_is_over() {
        let recalled = Record {
            via: Via::Memory,
            ..Record::default()
        };
        let mut pipeline = Pipeline::default();
        for record in [Record::default(), recalled, recalled] {
            pipeline.push(Shape::Plain, false, record);
        }
        assert!(pipeline.may_wait_for_memory());
        pipeline.deliver(1, 0, b"+b\r\n", true, REDIS);
        pipeline.deliver(0, 0, b"+a\r\n", true, REDIS);
        assert!(pipeline.may_wait_for_memory(), "one is left");
        pipeline.deliver(2, 0, b"+c\r\n", true, REDIS);
        assert!(pipeline.is_answered() && !pipeline.may_wait_for_memory());
    }

    #[test]
    fn a_muted_request_to_several_places_ends_with_its_last_reply() {
        let mut pipeline = Pipeline::default();
        let gather = pipeline.lend_gather(Merge::First, Partial::Error, 2);
        let seq = pipeline.push(Shape::Gather(gather), true, Record::default());
        assert!(
            pipeline
                .deliver(seq, 1, b"+OK\r\n", true, REDIS)
                .complete
                .is_none()
        );
        assert_eq!(pipeline.len(), 1);
        assert!(
            pipeline
                .deliver(seq, 0, b"+OK\r\n", true, REDIS)
                .complete
                .is_some()
        );
        assert!(pipeline.is_idle());
        assert_eq!(take(&mut pipeline), "");
    }
}
