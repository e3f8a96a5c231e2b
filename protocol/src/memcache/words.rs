//! A command line as words between spaces.
//!
//! memcached separates on the space alone: a tab is part of a word.

use std::ops::Range;

use super::key::key_end;

/// No command but a multi-get has more words than this, so what stands behind
/// is only counted as "too many".
const WORDS_MAX: usize = 24;

/// Where the words of one line stand.
pub(super) struct Words {
    at: [(u32, u32); WORDS_MAX],
    len: usize,
    has_nul: bool,
}

impl Words {
    /// Splits `line`, which has no line end.
    #[inline]
    pub(super) fn split(line: &[u8]) -> Words {
        let mut words = Words {
            at: [(0, 0); WORDS_MAX],
            len: 0,
            has_nul: false,
        };
        let mut at = 0;
        while at < line.len() {
            if line[at] == b' ' {
                at += 1;
                continue;
            }
            let start = at;
            loop {
                at = key_end(line, at);
                match line.get(at) {
                    None | Some(b' ') => break,
                    Some(&b) => words.has_nul |= b == 0,
                }
                at += 1;
            }
            if words.len < WORDS_MAX {
                words.at[words.len] = (start as u32, at as u32);
                words.len += 1;
            }
        }
        words
    }

    /// Whether a NUL stands anywhere in the line.
    pub(super) fn has_nul(&self) -> bool {
        self.has_nul
    }

    /// How many words there are; at most 24 are told apart.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where the `i`th word stands.
    pub(super) fn range(&self, i: usize) -> Range<usize> {
        let (start, end) = if i < self.len { self.at[i] } else { (0, 0) };
        start as usize..end as usize
    }

    /// The `i`th word; empty if there is none.
    pub(super) fn word<'a>(&self, line: &'a [u8], i: usize) -> &'a [u8] {
        line.get(self.range(i)).unwrap_or_default()
    }
}

/// Where the next word stands at or behind `from`.
pub(super) fn next_word(line: &[u8], from: usize) -> Option<Range<usize>> {
    let start = from + line.get(from..)?.iter().position(|&b| b != b' ')?;
    let end = line[start..]
        .iter()
        .position(|&b| b == b' ')
        .map_or(line.len(), |n| start + n);
    Some(start..end)
}

/// The words of a command line, whether its line end is still there or not.
pub fn tokens(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    without_end(line)
        .split(|&b| b == b' ')
        .filter(|word| !word.is_empty())
}

/// A line without its line end, if that is still there.
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
