//! Whom to ask for which key next: the hottest first, so many at a time, and no
//! more bytes than allowed. Asks nobody itself.
//!
//! A server that does not answer delays its own keys alone, and is asked for
//! one after a pause, until it answers:
//!
//! ```text
//!   window 32 --failed--> rest, window 1 --failed--> rest twice as long
//!                              | landed
//!                              v
//!                         window 2, 4, ... 32
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use emberline_routing::ServerId;

/// Fetches under way to one server at a time.
const WINDOW: usize = 32;

/// The first pause of a server that did not answer; it doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_millis(800);

/// See the module's description. `K` is a key.
#[derive(Debug)]
pub struct Queue<K> {
    places: Vec<Place<K>>,
    /// Whose turn it is.
    turn: usize,
    bytes_max: u64,
    bytes: u64,
    /// What the values may take that are being fetched.
    reserved: u64,
}

#[derive(Debug)]
struct Place<K> {
    server: ServerId,
    /// The largest value that is kept of this server.
    item_max: u64,
    waiting: VecDeque<K>,
    flying: usize,
    window: usize,
    pause: Duration,
    rests_until: Option<Instant>,
}

/// What became of a fetch.
#[derive(Debug)]
pub enum Landing<K> {
    /// A value that takes so many bytes, 0 for none.
    Done(u64),
    /// There was no answer for this key.
    Failed(K),
}

impl<K> Queue<K> {
    /// An empty queue for values of so many bytes together.
    pub fn new(bytes_max: u64) -> Queue<K> {
        Queue {
            places: Vec::new(),
            turn: 0,
            bytes_max,
            bytes: 0,
            reserved: 0,
        }
    }

    /// Put a key behind the others of its server, whose values have at most
    /// `item_max` bytes.
    pub fn add(&mut self, server: ServerId, item_max: u64, key: K) {
        let known = self.places.iter().position(|place| place.server == server);
        let at = known.unwrap_or(self.places.len());
        if known.is_none() {
            self.places.push(Place {
                server,
                item_max,
                waiting: VecDeque::new(),
                flying: 0,
                window: WINDOW,
                pause: PAUSE_FIRST,
                rests_until: None,
            });
        }
        self.places[at].waiting.push_back(key);
    }

    /// A key to ask for now, and its server.
    pub fn next(&mut self, now: Instant) -> Option<(ServerId, K)> {
        for _ in 0..self.places.len() {
            let at = self.turn % self.places.len();
            self.turn = at + 1;
            let room = self.has_room(self.places[at].item_max);
            let place = &mut self.places[at];
            let rests = place.rests_until.is_some_and(|until| now < until);
            if room
                && !rests
                && place.flying < place.window
                && let Some(key) = place.waiting.pop_front()
            {
                place.flying += 1;
                self.reserved += place.item_max;
                return Some((place.server, key));
            }
        }
        None
    }

    /// Whether one more may be fetched. The last one may be too much: nobody
    /// knows how large it is before it is there.
    fn has_room(&self, item_max: u64) -> bool {
        let sum = self.bytes + self.reserved;
        !self.is_spent() && (self.reserved == 0 || sum.saturating_add(item_max) <= self.bytes_max)
    }

    /// A fetch from this server has ended.
    pub fn landed(&mut self, server: ServerId, landing: Landing<K>, now: Instant) {
        let mut places = self.places.iter_mut();
        let Some(place) = places.find(|place| place.server == server) else {
            return;
        };
        place.flying = place.flying.saturating_sub(1);
        self.reserved = self.reserved.saturating_sub(place.item_max);
        match landing {
            Landing::Done(bytes) => {
                self.bytes = self.bytes.saturating_add(bytes);
                place.window = (place.window * 2).min(WINDOW);
                place.pause = PAUSE_FIRST;
            }
            Landing::Failed(key) => {
                place.waiting.push_front(key);
                place.window = 1;
                // Those that were under way with it are one failure.
                if place.rests_until.is_none_or(|until| until <= now) {
                    place.rests_until = Some(now + place.pause);
                    place.pause = (place.pause * 2).min(PAUSE_LAST);
                }
            }
        }
    }

    /// When a server that rests now can be asked again, whatever lands.
    pub fn wakes(&self, now: Instant) -> Option<Instant> {
        let waiting = self.places.iter().filter(|place| !place.waiting.is_empty());
        let rests = waiting.filter_map(|place| place.rests_until);
        rests.filter(|&until| until > now).min()
    }

    /// Whether as many bytes have been fetched as may be.
    pub fn is_spent(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Bytes that were fetched.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is under way, nor will be.
    pub fn is_over(&self) -> bool {
        let done = |place: &Place<K>| place.waiting.is_empty() || self.is_spent();
        self.places
            .iter()
            .all(|place| place.flying == 0 && done(place))
    }

    /// Keys that were not asked for, or failed.
    pub fn waiting(&self) -> usize {
        self.places.iter().map(|place| place.waiting.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServerId = ServerId(1);
    const B: ServerId = ServerId(2);

    fn queue(bytes_max: u64, item_max: u64, keys: &[(ServerId, u32)]) -> Queue<u32> {
        let mut queue = Queue::new(bytes_max);
        for &(server, key) in keys {
            queue.add(server, item_max, key);
        }
        queue
    }

    fn all(queue: &mut Queue<u32>, now: Instant) -> Vec<(ServerId, u32)> {
        std::iter::from_fn(|| queue.next(now)).collect()
    }

    #[test]
    fn servers_take_turns_and_each_has_a_window() {
        let now = Instant::now();
        let keys: Vec<_> = (0..100).map(|key| (A, key)).collect();
        let mut queue = queue(1 << 30, 1, &[&keys[..], &[(B, 7), (B, 8)]].concat());
        let asked = all(&mut queue, now);
        assert_eq!(asked[..5], [(A, 0), (B, 7), (A, 1), (B, 8), (A, 2)]);
        assert_eq!(asked.len(), WINDOW + 2);
        queue.landed(A, Landing::Done(10), now);
        queue.landed(B, Landing::Done(10), now);
        assert_eq!(all(&mut queue, now), [(A, 32)]);
        assert!(!queue.is_over());
        assert_eq!((queue.bytes(), queue.waiting()), (20, 67));
    }

    #[test]
    fn a_server_that_does_not_answer_rests_and_is_then_tried_with_one_key() {
        let now = Instant::now();
        let mut queue = queue(1 << 30, 1, &[(A, 0), (A, 1), (A, 2), (A, 3), (B, 9)]);
        assert_eq!(all(&mut queue, now).len(), 5);
        for key in [3, 2, 1, 0] {
            queue.landed(A, Landing::Failed(key), now);
        }
        queue.landed(B, Landing::Done(0), now);
        assert_eq!(all(&mut queue, now), []);
        let wakes = now + PAUSE_FIRST;
        assert_eq!(queue.wakes(now), Some(wakes));
        assert_eq!(all(&mut queue, wakes), [(A, 0)]);
        queue.landed(A, Landing::Failed(0), wakes);
        assert_eq!(queue.wakes(wakes), Some(wakes + 2 * PAUSE_FIRST));
        let later = wakes + 2 * PAUSE_FIRST;
        assert_eq!(all(&mut queue, later), [(A, 0)]);
        queue.landed(A, Landing::Done(1), later);
        assert_eq!(all(&mut queue, later), [(A, 1), (A, 2)]);
        for _ in 0..2 {
            queue.landed(A, Landing::Done(1), later);
        }
        assert_eq!(all(&mut queue, later), [(A, 3)]);
        queue.landed(A, Landing::Done(1), later);
        assert!(queue.is_over() && queue.waiting() == 0);
    }

    #[test]
    fn no_more_bytes_are_fetched_than_allowed_but_for_one_value() {
        let now = Instant::now();
        let keys: Vec<_> = (0..100).map(|key| (A, key)).collect();
        let mut queue = queue(100, 30, &keys);
        // Three may be 30 bytes long each.
        assert_eq!(all(&mut queue, now).len(), 3);
        for _ in 0..3 {
            queue.landed(A, Landing::Done(5), now);
        }
        let mut most = 0;
        while !queue.is_over() {
            let flying = all(&mut queue, now).len();
            assert!(flying > 0, "it goes on");
            (0..flying).for_each(|_| queue.landed(A, Landing::Done(30), now));
            most = queue.bytes();
        }
        assert!((100..130).contains(&most), "{most}");
        assert!(queue.is_spent() && queue.waiting() > 80);
    }
}
