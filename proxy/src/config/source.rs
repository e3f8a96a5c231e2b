//! The text that a configuration came from, and positions in it.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration text with a name to show in front of positions.
#[derive(Debug)]
pub struct Source {
    /// The file's name as the user wrote it.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Where the file is; relative paths inside it start from here.
    pub directory: Option<PathBuf>,
    /// Offset of the first byte of every line.
    starts: Vec<usize>,
}

/// A place for a reader: both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Source {
    /// A text under this name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let starts = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        Source {
            name: name.into(),
            text,
            directory: None,
            starts,
        }
    }

    /// The same text, known to be in a file of this directory.
    pub fn in_directory(mut self, directory: Option<&Path>) -> Source {
        self.directory = directory.map(Path::to_owned);
        self
    }

    /// Where the byte at this offset is. An offset behind the text, or inside
    /// a character, is moved back to the nearest one that is neither.
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.boundary(offset);
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let start = self.starts[line - 1];
        Position {
            line,
            column: self.text[start..offset].chars().count() + 1,
        }
    }

    /// A line by its number from 1, without its line break, and the offset of
    /// its first byte.
    pub fn line(&self, number: usize) -> (usize, &str) {
        let Some(&start) = self.starts.get(number.wrapping_sub(1)) else {
            return (self.text.len(), "");
        };
        let end = self.starts.get(number).copied().unwrap_or(self.text.len());
        let line = &self.text[start..end];
        (start, line.trim_end_matches(['\n', '\r']))
    }

    /// This range, made to fit the text.
    pub(super) fn clamp(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.boundary(span.start);
        start..self.boundary(span.end).max(start)
    }

    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("x", "a\nöö = 1\r\n");
        let check = |offset, line, column| {
            assert_eq!(source.position(offset), Position { line, column });
        };
        check(0, 1, 1);
        check(1, 1, 2);
        check(2, 2, 1);
        check(3, 2, 1);
        check(7, 2, 4);
        check(99, 3, 1);
        assert_eq!(source.line(2), (2, "öö = 1"));
        assert_eq!(source.line(7), (12, ""));
        assert_eq!(
            Source::new("x", "").position(5),
            Position { line: 1, column: 1 }
        );
    }
}
