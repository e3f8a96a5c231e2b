//! The posts of all workers for one window of a pool, and their sums.
//!
//! Workers end their sub-windows at the same times, but hear of it when they
//! next look at the clock, so posts may be of different *rounds*. What a post
//! of the round before is sure of is what it saw in its nine youngest
//! sub-windows: those lie in the window of this round too. An older one is
//! sure of nothing; its upper bounds count for as long as a window lasts.

use super::post::{Note, Post, View};
use crate::{KeyHash, SUB_WINDOWS};

#[derive(Debug, Default)]
pub struct Round {
    /// When its youngest sub-window ended.
    closed_ms: u64,
    sub_window_ms: u64,
    /// By worker.
    posts: Vec<Option<Post>>,
}

impl Round {
    pub fn new(sub_window_ms: u64) -> Round {
        Round {
            sub_window_ms,
            ..Round::default()
        }
    }

    /// Whether a post of this time opens a new round.
    pub fn is_new(&self, closed_ms: u64) -> bool {
        closed_ms > self.closed_ms
    }

    /// Go on to the round of this time, without the posts that are too old.
    pub fn advance(&mut self, closed_ms: u64) {
        self.closed_ms = closed_ms;
        for i in 0..self.posts.len() {
            let age = self.posts[i].as_ref().map(|post| self.age(post));
            if age.is_some_and(|age| age > SUB_WINDOWS as u64) {
                self.posts[i] = None;
            }
        }
    }

    /// Take a worker's post in place of its last one.
    pub fn put(&mut self, worker: usize, post: Post) {
        *self.slot(worker) = Some(post);
    }

    /// Note what a worker reported of a key between two posts, by view.
    pub fn note(&mut self, worker: usize, closed_ms: u64, hash: KeyHash, notes: [Note; 3]) {
        let fresh = || Post {
            closed_ms,
            ..Post::default()
        };
        let post = self.slot(worker).get_or_insert_with(fresh);
        for (sheet, note) in post.sheets.iter_mut().zip(notes) {
            let before = sheet.note(hash);
            let after = Note {
                lower: before.lower,
                upper: before.upper.max(note.upper),
                recent: before.recent.max(note.recent),
            };
            sheet.notes.insert(hash, after);
        }
    }

    /// The sum of what all workers say of a key.
    pub fn sum(&self, view: View, hash: KeyHash) -> Note {
        let said = |post: &Post| {
            let note = post.sheets[view as usize].note(hash);
            match self.age(post) {
                0 => note,
                1 => Note {
                    lower: note.recent,
                    recent: 0,
                    ..note
                },
                _ => Note {
                    upper: note.upper,
                    ..Note::default()
                },
            }
        };
        self.posts()
            .map(said)
            .fold(Note::default(), std::ops::Add::add)
    }

    /// The weight of all keys.
    pub fn total(&self, view: View) -> u64 {
        self.posts()
            .map(|post| post.sheets[view as usize].total)
            .sum()
    }

    /// Whether any worker names this key.
    pub fn names(&self, hash: KeyHash) -> bool {
        let named = |post: &Post| post.sheets.iter().any(|s| s.notes.contains_key(&hash));
        self.posts().any(named)
    }

    /// Every key that a worker names, once for each.
    pub fn named(&self) -> impl Iterator<Item = KeyHash> + '_ {
        let sheets = self.posts().flat_map(|post| &post.sheets);
        sheets.flat_map(|sheet| sheet.notes.keys().copied())
    }

    fn posts(&self) -> impl Iterator<Item = &Post> {
        self.posts.iter().flatten()
    }

    fn slot(&mut self, worker: usize) -> &mut Option<Post> {
        if self.posts.len() <= worker {
            self.posts.resize_with(worker + 1, || None);
        }
        &mut self.posts[worker]
    }

    /// In rounds.
    fn age(&self, post: &Post) -> u64 {
        self.closed_ms.saturating_sub(post.closed_ms) / self.sub_window_ms.max(1)
    }
}
