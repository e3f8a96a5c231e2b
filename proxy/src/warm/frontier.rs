//! How far a server's keys have been handled without a gap.
//!
//! Pages of keys are found in order and finished in any order. A restart may
//! begin at the oldest page that is not finished, and nowhere later:
//!
//! ```text
//!   cursor   0      17     5      40     next: 12
//!   page     done   left 3 done   left 9
//!                   ^ position
//! ```

use std::collections::VecDeque;

/// Names a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageId(u64);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Frontier {
    /// The number of the first in `pages`.
    first: u64,
    pages: VecDeque<Page>,
    /// Where the next page will begin.
    next: u64,
}

#[derive(Debug)]
struct Page {
    position: u64,
    /// Keys that are not finished.
    left: usize,
}

impl Frontier {
    /// Nothing was found before this position.
    pub fn new(position: u64) -> Frontier {
        Frontier {
            next: position,
            ..Frontier::default()
        }
    }

    /// A page with so many keys was found at this position; the next one
    /// begins at `next`.
    pub fn open(&mut self, position: u64, keys: usize, next: u64) -> PageId {
        self.next = next;
        let page = Page {
            position,
            left: keys,
        };
        self.pages.push_back(page);
        let id = PageId(self.first + self.pages.len() as u64 - 1);
        self.settle();
        id
    }

    /// So many keys of a page are finished.
    pub fn finish(&mut self, id: PageId, keys: usize) {
        let at = id.0.checked_sub(self.first);
        let at = at.and_then(|at| usize::try_from(at).ok());
        if let Some(page) = at.and_then(|at| self.pages.get_mut(at)) {
            page.left = page.left.saturating_sub(keys);
        }
        self.settle();
    }

    /// Everything begins anew at this position; what pages from before still
    /// have to say no longer matters.
    pub fn restart(&mut self, position: u64) {
        self.first += self.pages.len() as u64;
        self.pages.clear();
        self.next = position;
    }

    /// Where a restart may begin.
    pub fn position(&self) -> u64 {
        self.pages.front().map_or(self.next, |page| page.position)
    }

    /// Whether every page that was found is finished.
    pub fn is_clear(&self) -> bool {
        self.pages.is_empty()
    }

    fn settle(&mut self) {
        while self.pages.front().is_some_and(|page| page.left == 0) {
            self.pages.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_at_the_oldest_unfinished_page() {
        let mut frontier = Frontier::new(0);
        let a = frontier.open(0, 4, 17);
        let b = frontier.open(17, 3, 5);
        let c = frontier.open(5, 1, 12);
        assert_eq!(frontier.position(), 0);
        frontier.finish(c, 1);
        frontier.finish(a, 3);
        assert_eq!(frontier.position(), 0);
        frontier.finish(a, 1);
        assert_eq!(frontier.position(), 17);
        frontier.finish(b, 3);
        assert_eq!((frontier.position(), frontier.is_clear()), (12, true));
    }

    #[test]
    fn an_empty_page_moves_it_on_unless_another_waits() {
        let mut frontier = Frontier::new(3);
        frontier.open(3, 0, 9);
        assert_eq!(frontier.position(), 9);
        let id = frontier.open(9, 1, 2);
        frontier.open(2, 0, 7);
        assert_eq!(frontier.position(), 9);
        frontier.finish(id, 1);
        assert_eq!(frontier.position(), 7);
    }

    #[test]
    fn pages_from_before_a_restart_do_not_count() {
        let mut frontier = Frontier::new(0);
        let old = frontier.open(0, 2, 8);
        frontier.restart(0);
        let new = frontier.open(0, 2, 8);
        frontier.finish(old, 2);
        assert_eq!(frontier.position(), 0);
        assert!(!frontier.is_clear());
        frontier.finish(new, 2);
        assert_eq!(frontier.position(), 8);
    }
}
