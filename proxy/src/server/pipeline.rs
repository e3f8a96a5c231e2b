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

use emberline_protocol::memcache::{self, Verb};

use super::gather::{Gather, Wire};

/// Buffers larger than this are given back to the allocator when idle.
const KEEP: usize = 32 * 1024;

/// Small buffers kept for replies that arrive before their turn.
const SPARES: usize = 64;

/// What is to be counted when a request has been answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Index of the command among the meter's commands.
    pub command: u16,
    /// Index of the pool that answers, if one does.
    pub pool: Option<u16>,
    /// Whether the request only reads.
    pub read: bool,
    /// When it was taken up, in nanoseconds of the worker's clock.
    pub started: u64,
}

/// How a reply becomes what the client sees.
#[derive(Debug)]
pub enum Shape {
    /// As the server said it.
    Plain,
    /// Thrown away: `noreply`, `CLIENT REPLY OFF`.
    Mute,
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
    progress: Progress,
    failed: bool,
    record: Record,
}

/// What a delivery did.
#[derive(Debug, Default)]
pub struct Delivered {
    /// There is something new to write.
    pub ready: bool,
    /// The request is answered: count it, and whether it was with an error.
    pub complete: Option<(Record, bool)>,
}

/// The slots and the bytes that are ready to be written.
#[derive(Debug, Default)]
pub struct Pipeline {
    /// Sequence number of `slots[0]`.
    first: u64,
    slots: VecDeque<Slot>,
    out: Vec<u8>,
    sent: usize,
    /// Bytes in slots that wait for their turn.
    held: usize,
    spares: Vec<Vec<u8>>,
}

impl Pipeline {
    /// Requests that have not been answered, or not in their turn.
    pub fn len(&self) -> usize {
        self.slots.len()
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
    pub fn push(&mut self, shape: Shape, record: Record) -> u64 {
        let seq = self.first + self.slots.len() as u64;
        self.slots.push_back(Slot {
            shape,
            progress: Progress::Waiting,
            failed: false,
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
            progress: Progress::Done(reply),
            failed: false,
            record: Record::default(),
        });
        result
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
        let front = index == 0;
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
                if matches!(slot.progress, Progress::Waiting) {
                    slot.failed = wire.is_error(bytes);
                }
                if front {
                    self.out.extend_from_slice(bytes);
                    return if done {
                        let complete = Some((slot.record, slot.failed));
                        self.pop_front();
                        Delivered {
                            ready: true,
                            complete,
                        }
                    } else {
                        slot.progress = Progress::Flowing;
                        Delivered {
                            ready: true,
                            complete: None,
                        }
                    };
                }
                self.hold(index, bytes);
            }
            Shape::Mute => {
                slot.failed |= wire.is_error(bytes);
            }
            Shape::Quiet(_) => self.hold(index, bytes),
            Shape::Gather(gather) => {
                self.held += bytes.len();
                if !gather.deliver(fragment, bytes, done) {
                    return Delivered::default();
                }
                self.held -= gather.len().min(self.held);
                let mut reply = self.spares.pop().unwrap_or_default();
                slot.failed = gather.finish(wire, &mut reply);
                self.held += reply.len();
                slot.progress = Progress::Held(reply);
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
    pub fn fail(&mut self, seq: u64, fragment: u32, error: &[u8], wire: Wire) -> Option<Delivered> {
        let Some(index) = self.index(seq) else {
            return Some(Delivered::default());
        };
        let slot = &mut self.slots[index];
        match std::mem::replace(&mut slot.progress, Progress::Waiting) {
            Progress::Flowing => return None,
            Progress::Held(bytes) => {
                self.held -= bytes.len();
                self.spare(bytes);
            }
            Progress::Waiting | Progress::Done(_) => {}
        }
        if let Shape::Gather(gather) = &mut self.slots[index].shape {
            self.held -= gather.clear(fragment).min(self.held);
        }
        Some(self.deliver(seq, fragment, error, true, wire))
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
        if let Shape::Quiet(verb) = slot.shape {
            slot.failed = wire.is_error(&reply);
            if memcache::suppressed(verb, &reply) {
                self.held -= reply.len();
                reply.clear();
            }
        }
        slot.progress = Progress::Done(reply);
        let complete = Some((slot.record, slot.failed));
        if index == 0 {
            self.drain();
        }
        Delivered {
            ready: index == 0,
            complete,
        }
    }

    fn pop_front(&mut self) {
        self.slots.pop_front();
        self.first += 1;
        self.drain();
    }

    /// Move everything whose turn has come to `out`.
    fn drain(&mut self) {
        while let Some(slot) = self.slots.front_mut() {
            match std::mem::replace(&mut slot.progress, Progress::Waiting) {
                Progress::Done(reply) => {
                    self.held -= reply.len();
                    self.out.extend_from_slice(&reply);
                    self.spare(reply);
                    self.slots.pop_front();
                    self.first += 1;
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

    fn spare(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES && (1..=4096).contains(&buffer.capacity()) {
            buffer.clear();
            self.spares.push(buffer);
        }
    }
}
