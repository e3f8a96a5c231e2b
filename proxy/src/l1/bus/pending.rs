//! Writes that wait to be published: a bounded queue that no key is in twice.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::Write;

/// Keys that may wait to be published. Above it the oldest are let go.
const WAITING_MAX: usize = 16 * 1024;

/// Bytes of keys that may wait to be published.
const WAITING_BYTES: usize = 4 << 20;

/// Bytes of one message, about: none grows larger by more than one key.
const MESSAGE: usize = 64 * 1024;

/// Longer keys are not published: other proxies learn of them after T.
const KEY_MAX: usize = 512 * 1024;

/// What a key takes in a message beside itself, about.
const ENTRY: usize = 32;

/// Keys that wait to be published, each once, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<(u16, Rc<[u8]>)>,
    known: HashSet<(u16, Rc<[u8]>)>,
    bytes: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Take a write in; false if others had to go for it, or it itself.
    pub(super) fn push(&mut self, (pool, key): Write) -> bool {
        if key.len() > KEY_MAX {
            return false;
        }
        let write = (pool, Rc::from(key));
        if !self.known.insert((pool, Rc::clone(&write.1))) {
            return true;
        }
        self.bytes += write.1.len();
        self.queue.push_back(write);
        let mut whole = true;
        while self.queue.len() > WAITING_MAX || self.bytes > WAITING_BYTES {
            self.pop();
            whole = false;
        }
        whole
    }

    fn pop(&mut self) -> Option<(u16, Rc<[u8]>)> {
        let oldest = self.queue.pop_front()?;
        self.known.remove(&oldest);
        self.bytes -= oldest.1.len();
        Some(oldest)
    }

    /// What goes into the next message.
    pub(super) fn batch(&mut self) -> Vec<Write> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < MESSAGE
            && let Some((pool, key)) = self.pop()
        {
            bytes += key.len() + ENTRY;
            batch.push((pool, Box::from(&key[..])));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn a_key_waits_once_and_is_published_in_its_turn() {
        let mut pending = Pending::default();
        for (pool, name) in [(0, "a"), (0, "b"), (1, "a"), (0, "a"), (0, "b")] {
            assert!(pending.push((pool, key(name))));
        }
        assert_eq!(
            pending.batch(),
            [(0, key("a")), (0, key("b")), (1, key("a"))]
        );
        assert!(pending.is_empty());
        assert!(
            pending.push((0, key("a"))),
            "what is on its way may wait again"
        );
        assert_eq!(pending.batch(), [(0, key("a"))]);
    }

    #[test]
    fn the_oldest_is_let_go_when_too_much_waits() {
        let mut pending = Pending::default();
        for n in 0..WAITING_MAX {
            assert!(pending.push((0, key(&n.to_string()))));
        }
        assert!(!pending.push((0, key("last"))));
        assert_eq!(pending.queue.len(), WAITING_MAX);
        assert_eq!(pending.batch()[0], (0, key("1")));

        let mut pending = Pending::default();
        let long = |n: u8| vec![n; KEY_MAX].into_boxed_slice();
        let room = (WAITING_BYTES / KEY_MAX) as u8;
        for n in 0..room {
            assert!(pending.push((0, long(n))));
        }
        assert!(!pending.push((0, long(room))));
        assert_eq!(pending.queue.front().map(|write| write.1[0]), Some(1));
        assert!(
            !pending.push((0, vec![0; KEY_MAX + 1].into())),
            "it is too long for any message"
        );
        assert_eq!(
            pending.batch().len(),
            1,
            "no message is much larger than it must be"
        );
    }
}
