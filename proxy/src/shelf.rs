//! A table that threads share, that grows, and whose values never move.
//!
//! What is read at every request (a server's health, its pulse) must be found
//! without a lock, and be there for as long as anybody looks at it, while a
//! reload adds servers. So the values lie in pieces, each twice as long as the
//! one before; a piece is made once and stays:
//!
//! ```text
//!   piece 0   0..64
//!   piece 1   64..192
//!   piece 2   192..448
//! ```
//!
//! It never shrinks. Places are used again by `running::Slots`, which bounds it.

use std::sync::OnceLock;

/// The length of the first piece, as a power of two.
const FIRST: u32 = 6;

/// Enough for every index of 32 bits.
const PIECES: usize = 27;

/// See the module's description.
#[derive(Debug)]
pub struct Shelf<T>([OnceLock<Box<[T]>>; PIECES]);

impl<T: Default> Shelf<T> {
    /// A table with room for so many.
    pub fn new(count: usize) -> Shelf<T> {
        let shelf = Shelf(std::array::from_fn(|_| OnceLock::new()));
        shelf.grow(count);
        shelf
    }

    /// Make room for so many, if there is not.
    pub fn grow(&self, count: usize) {
        let Some(last) = count.checked_sub(1) else {
            return;
        };
        let (piece, _) = place(last);
        for (piece, values) in self.0.iter().enumerate().take(piece + 1) {
            values.get_or_init(|| (0..length(piece)).map(|_| T::default()).collect());
        }
    }

    /// The value with this index, if there was ever room for it.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        let (piece, at) = place(index);
        self.0.get(piece)?.get()?.get(at)
    }
}

fn length(piece: usize) -> usize {
    1 << (FIRST as usize + piece)
}

/// In which piece an index lies, and where in it.
#[inline]
fn place(index: usize) -> (usize, usize) {
    let shifted = index.saturating_add(1 << FIRST);
    let piece = (shifted.ilog2() - FIRST) as usize;
    (piece, shifted - length(piece))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let shelf: Shelf<AtomicUsize> = Shelf::new(1000);
        for index in 0..1000 {
            shelf.get(index).unwrap().store(index, Ordering::Relaxed);
        }
        for index in 0..1000 {
            assert_eq!(shelf.get(index).unwrap().load(Ordering::Relaxed), index);
        }
    }

    #[test]
    fn what_is_there_stays_when_it_grows() {
        let shelf: Shelf<AtomicUsize> = Shelf::new(1);
        let first = shelf.get(0).unwrap();
        first.store(7, Ordering::Relaxed);
        assert!(shelf.get(64).is_none());
        shelf.grow(65);
        assert!(std::ptr::eq(first, shelf.get(0).unwrap()));
        assert!(shelf.get(64).is_some());
        assert!(shelf.get(usize::MAX).is_none());
    }

    #[test]
    fn an_empty_table_has_nothing() {
        assert!(Shelf::<u8>::new(0).get(0).is_none());
    }
}
