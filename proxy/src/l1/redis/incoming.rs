//! A server's bytes, cut into frames.
//!
//! A frame that is longer than anybody could use is passed over as it comes:
//! its bytes are never kept, and what is said of it is that it was too long.

use emberline_protocol::Scan;
use emberline_protocol::redis::Scanner;

/// Bytes of a push. One names a few keys; a longer one counts as all keys.
pub const PUSH_MAX: usize = 1 << 20;

/// One reply or push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// It was passed over. Its first byte.
    TooLong(u8),
}

impl Frame<'_> {
    /// Whether it answers nothing.
    pub fn is_push(self) -> bool {
        let kind = match self {
            Frame::Whole(bytes) => bytes.first().copied(),
            Frame::TooLong(kind) => Some(kind),
        };
        kind == Some(b'>')
    }
}

/// Cuts a stream apart.
#[derive(Debug)]
pub struct Incoming {
    scanner: Scanner,
    /// The beginning of the frame that is arriving, unless it is too long.
    partial: Vec<u8>,
    /// The first byte of that frame.
    kind: Option<u8>,
    too_long: bool,
    reply_max: usize,
}

impl Incoming {
    /// For a stream whose replies have at most `reply_max` bytes.
    pub fn new(reply_max: usize) -> Incoming {
        Incoming {
            scanner: Scanner::default(),
            partial: Vec::new(),
            kind: None,
            too_long: false,
            reply_max,
        }
    }

    /// Hand each frame that ends in `bytes` to `each`, in order. Answers how
    /// many bytes were used; the rest has to come again, with more behind it.
    ///
    /// # Errors
    /// When the bytes are no frames, or `each` says so.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Frame<'_>) -> Result<(), String>,
    ) -> Result<usize, String> {
        let mut at = 0;
        while at < bytes.len() {
            let fresh = &bytes[at..];
            let kind = *self.kind.get_or_insert(fresh[0]);
            let scan = self
                .scanner
                .feed(fresh)
                .map_err(|error| error.to_string())?;
            match scan {
                Scan::More(0) => break,
                Scan::More(len) => {
                    at += len;
                    self.keep(&fresh[..len], kind);
                }
                Scan::Done(len) => {
                    at += len;
                    self.kind = None;
                    if self.partial.is_empty() && !self.too_long {
                        each(Frame::Whole(&fresh[..len]))?;
                    } else {
                        self.keep(&fresh[..len], kind);
                        self.finish(kind, &mut each)?;
                    }
                }
            }
        }
        Ok(at)
    }

    /// Keep a piece of a frame, unless the frame is going to be too long.
    fn keep(&mut self, piece: &[u8], kind: u8) {
        let max = match kind {
            b'>' => PUSH_MAX,
            _ => self.reply_max,
        };
        let missing = self.scanner.body_missing();
        let len = self.partial.len().saturating_add(piece.len());
        if self.too_long || len.saturating_add(missing) > max {
            self.too_long = true;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    fn finish(
        &mut self,
        kind: u8,
        each: &mut impl FnMut(Frame<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let too_long = std::mem::take(&mut self.too_long);
        let bytes = std::mem::take(&mut self.partial);
        match too_long {
            true => each(Frame::TooLong(kind)),
            false => each(Frame::Whole(&bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nfoo\r\n+OK\r\n:-1\r\n\
        $5\r\nhello\r\n_\r\n$30\r\n123456789012345678901234567890\r\n*2\r\n:5\r\n$1\r\nx\r\n-ERR no\r\n";

    /// Feed `stream` in pieces of `size`.
    fn frames(stream: &[u8], size: usize, reply_max: usize) -> Vec<String> {
        let mut incoming = Incoming::new(reply_max);
        let (mut out, mut rest) = (Vec::new(), Vec::new());
        for piece in stream.chunks(size) {
            rest.extend_from_slice(piece);
            let show = |frame: Frame<'_>| {
                out.push(match frame {
                    Frame::Whole(bytes) => bytes.escape_ascii().to_string(),
                    Frame::TooLong(kind) => format!("too long: {}", char::from(kind)),
                });
                Ok(())
            };
            let used = incoming.feed(&rest, show).unwrap();
            rest.drain(..used);
            assert!(incoming.partial.len() <= reply_max.max(stream.len()));
        }
        assert!(rest.is_empty() && incoming.partial.is_empty());
        out
    }

    #[test]
    fn frames_are_the_same_wherever_the_stream_is_cut() {
        let whole = frames(STREAM, STREAM.len(), 1000);
        assert_eq!(whole.len(), 8);
        assert_eq!(whole[3], r"$5\r\nhello\r\n");
        for size in 1..STREAM.len() {
            assert_eq!(frames(STREAM, size, 1000), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_long_reply_is_passed_over_and_the_next_is_whole() {
        let mut got = frames(STREAM, 7, 25);
        assert_eq!(got[5], "too long: $");
        assert_eq!(got.pop().unwrap(), r"-ERR no\r\n");
    }

    #[test]
    fn nothing_of_a_huge_value_is_kept() {
        let mut incoming = Incoming::new(1000);
        let none = |_: Frame<'_>| Ok(());
        incoming.feed(b"$1000000000\r\n", none).unwrap();
        for _ in 0..100 {
            incoming.feed(&[b'x'; 10_000], none).unwrap();
            assert_eq!(incoming.partial.capacity(), 0);
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let mut incoming = Incoming::new(1000);
        assert!(incoming.feed(b"hello\r\n", |_| Ok(())).is_err());
    }
}
