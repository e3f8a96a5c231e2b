//! One fetch as a conversation with a Redis server: what is sent, and what its
//! replies come to.
//!
//! ```text
//!   Tracked       CLIENT CACHING YES   PTTL k   GET k
//!   Atomic        MULTI   PTTL k   GET k   EXEC
//!   Plain         PTTL k   GET k   PTTL k
//! ```
//!
//! In the first the key is tracked from its PTTL on: whatever happens to it
//! between PTTL and GET is pushed before the GET's reply, and the token is
//! worth nothing any more. The other two have no such push, so the time to live
//! must belong to the value: a transaction sees to that, and where there is
//! none, the shorter of the times before and after it is one that the value
//! cannot outlive.

use std::time::Duration;

use emberline_hotkey::Value;
use emberline_hotkey::mutation::{Mutation, breaks};
use emberline_protocol::redis::encode;
use emberline_protocol::redis::reply;

use super::control::{self, Life};
use super::incoming::Frame;
use crate::l1::{Asked, Fetch, Said};

/// See the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The server pushes what happens to the key.
    Tracked,
    /// In a transaction.
    Atomic,
    /// Without either.
    Plain,
}

impl How {
    /// Append the commands that fetch a key.
    pub fn encode(self, key: &[u8], out: &mut Vec<u8>) {
        let mut say = |words: &[&[u8]]| encode::command(out, words.iter().copied());
        match self {
            How::Tracked => {
                match breaks(Mutation::NoCachingYes) {
                    false => say(&[b"CLIENT", b"CACHING", b"YES"]),
                    true => say(&[b"PING"]),
                }
                say(&[b"PTTL", key]);
                say(&[b"GET", key]);
            }
            How::Atomic => {
                say(&[b"MULTI"]);
                say(&[b"PTTL", key]);
                say(&[b"GET", key]);
                say(&[b"EXEC"]);
            }
            How::Plain => {
                say(&[b"PTTL", key]);
                say(&[b"GET", key]);
                say(&[b"PTTL", key]);
            }
        }
    }
}

/// A fetch whose replies are awaited.
#[derive(Debug)]
pub struct Fill {
    /// What for.
    pub fetch: Fetch,
    /// When it was sent.
    pub asked: Asked,
    answers: Answers,
}

impl Fill {
    /// Sent this way just now.
    pub fn new(fetch: Fetch, asked: Asked, how: How, max_item: usize) -> Fill {
        Fill {
            fetch,
            asked,
            answers: Answers::new(how, max_item),
        }
    }

    /// The next reply; true if it was the last.
    pub fn take(&mut self, frame: Frame<'_>) -> bool {
        self.answers.take(frame)
    }

    /// Whether the server said that the key lives elsewhere.
    pub fn has_moved(&self) -> bool {
        self.answers.moved
    }

    /// The code of the error that made it fail, such as `NOPERM`.
    pub fn code(&self) -> &str {
        self.answers.failed.as_deref().unwrap_or_default()
    }

    /// The fetch, and what the replies come to.
    pub fn finish(self) -> (Fetch, Asked, Said) {
        (self.fetch, self.asked, self.answers.said())
    }
}

/// The replies to one fetch so far.
#[derive(Debug)]
struct Answers {
    how: How,
    max_item: usize,
    taken: u8,
    /// The shortest life that PTTL named.
    life: Option<Life>,
    value: Option<Got>,
    /// The code of the error that makes it a failure; empty if it was none.
    failed: Option<String>,
    moved: bool,
}

#[derive(Debug)]
enum Got {
    Value(Value),
    Unfit,
    TooLarge,
}

impl Answers {
    fn new(how: How, max_item: usize) -> Answers {
        Answers {
            how,
            max_item,
            taken: 0,
            life: None,
            value: None,
            failed: None,
            moved: false,
        }
    }

    fn take(&mut self, frame: Frame<'_>) -> bool {
        self.moved |= matches!(frame, Frame::Whole(bytes) if bytes.starts_with(b"-MOVED"));
        let number = self.taken;
        self.taken += 1;
        match (self.how, number) {
            (How::Tracked, 0) | (How::Atomic, 0..=2) => {
                // An error here is one of the server's, not of the key's.
                if matches!(frame, Frame::Whole(bytes) if reply::is_error(bytes)) {
                    self.fail(frame);
                }
            }
            (How::Tracked, 1) | (How::Plain, 0 | 2) => self.take_life(frame),
            (How::Atomic, 3) => self.take_both(frame),
            _ => self.take_value(frame),
        }
        let last = match self.how {
            How::Tracked | How::Plain => 3,
            How::Atomic => 4,
        };
        self.taken == last
    }

    fn take_life(&mut self, frame: Frame<'_>) {
        let Some(life) = control::life(frame) else {
            return self.fail(frame);
        };
        self.life = Some(match (self.life, life) {
            (Some(Life::Gone), _) | (_, Life::Gone) => Life::Gone,
            (Some(Life::Ends(a)), Life::Ends(b)) => Life::Ends(a.min(b)),
            (Some(Life::Ends(a)), Life::Endless) => Life::Ends(a),
            (Some(Life::Endless) | None, other) => other,
        });
    }

    fn take_value(&mut self, frame: Frame<'_>) {
        let got = match frame {
            Frame::TooLong(_) => Got::TooLarge,
            Frame::Whole(b"_\r\n" | b"$-1\r\n") => Got::Value(Value::Missing),
            Frame::Whole(bytes @ [b'$', ..]) if self.fits(bytes) => {
                Got::Value(Value::Redis(bytes.into()))
            }
            Frame::Whole([b'$', ..]) => Got::TooLarge,
            Frame::Whole(bytes) if control::code(bytes) == "WRONGTYPE" => Got::Unfit,
            Frame::Whole(_) => return self.fail(frame),
        };
        self.value = Some(got);
    }

    /// The reply to EXEC.
    fn take_both(&mut self, frame: Frame<'_>) {
        let Frame::Whole(bytes) = frame else {
            return self.take_value(frame);
        };
        let parts: Option<Vec<&[u8]>> = reply::elements(bytes).ok().map(Iterator::collect);
        match parts.as_deref() {
            Some([life, value]) => {
                self.take_life(Frame::Whole(life));
                self.take_value(Frame::Whole(value));
            }
            _ => self.fail(frame),
        }
    }

    /// Not what was expected. The first error is the one that says why.
    fn fail(&mut self, frame: Frame<'_>) {
        let code = match frame {
            Frame::Whole(bytes) => control::code(bytes).to_owned(),
            Frame::TooLong(_) => String::new(),
        };
        self.failed.get_or_insert(code);
    }

    /// Whether a bulk string is short enough to be kept.
    fn fits(&self, bulk: &[u8]) -> bool {
        let header = bulk.iter().position(|&byte| byte == b'\n').unwrap_or(0);
        bulk.len().saturating_sub(header + 3) <= self.max_item
    }

    fn said(self) -> Said {
        if self.moved {
            return Said::Unfit;
        }
        match (self.value, self.life) {
            (Some(Got::Unfit), _) => Said::Unfit,
            (Some(Got::TooLarge), _) => Said::TooLarge,
            (Some(Got::Value(Value::Missing)), Some(_)) if self.failed.is_none() => {
                Said::Value(Value::Missing, None)
            }
            (Some(Got::Value(value)), Some(life)) if self.failed.is_none() => {
                let remaining = match life {
                    Life::Endless => None,
                    Life::Ends(time) => Some(time),
                    // It was there, and was not: nobody knows for how long.
                    Life::Gone => Some(Duration::ZERO),
                };
                Said::Value(value, remaining)
            }
            _ => Said::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these replies come to.
    fn said(how: How, replies: &[&str]) -> Said {
        let mut answers = Answers::new(how, 5);
        for (at, reply) in replies.iter().enumerate() {
            let frame = match *reply {
                "..." => Frame::TooLong(b'$'),
                reply => Frame::Whole(reply.as_bytes()),
            };
            assert_eq!(answers.take(frame), at + 1 == replies.len());
        }
        answers.said()
    }

    fn value(remaining: Option<u64>) -> Said {
        let value = Value::Redis(b"$5\r\nhello\r\n".as_slice().into());
        Said::Value(value, remaining.map(Duration::from_millis))
    }

    const HELLO: &str = "$5\r\nhello\r\n";

    #[test]
    fn tracked() {
        let check = |caching, life, got, expected| {
            assert_eq!(said(How::Tracked, &[caching, life, got]), expected);
        };
        check("+OK\r\n", ":-1\r\n", HELLO, value(None));
        check("+OK\r\n", ":1500\r\n", HELLO, value(Some(1500)));
        check("+OK\r\n", ":-2\r\n", HELLO, value(Some(0)));
        check(
            "+OK\r\n",
            ":-2\r\n",
            "_\r\n",
            Said::Value(Value::Missing, None),
        );
        check(
            "+OK\r\n",
            ":1\r\n",
            "_\r\n",
            Said::Value(Value::Missing, None),
        );
        check("+OK\r\n", ":-1\r\n", "$6\r\nhello!\r\n", Said::TooLarge);
        check("+OK\r\n", ":-1\r\n", "...", Said::TooLarge);
        check(
            "+OK\r\n",
            ":-1\r\n",
            "-WRONGTYPE Operation\r\n",
            Said::Unfit,
        );
        check("+OK\r\n", ":-1\r\n", "-LOADING Redis\r\n", Said::Failed);
        check("+OK\r\n", ":-1\r\n", "+hello\r\n", Said::Failed);
        check("+OK\r\n", "-NOPERM no\r\n", HELLO, Said::Failed);
        check("-ERR tracking is off\r\n", ":-1\r\n", HELLO, Said::Failed);
        let moved = "-MOVED 1 a:1\r\n";
        check("+OK\r\n", moved, moved, Said::Unfit);
    }

    #[test]
    fn atomic() {
        let check = |exec, expected| {
            let queued = "+QUEUED\r\n";
            assert_eq!(
                said(How::Atomic, &["+OK\r\n", queued, queued, exec]),
                expected
            );
        };
        check("*2\r\n:-1\r\n$5\r\nhello\r\n", value(None));
        check("*2\r\n:7\r\n$5\r\nhello\r\n", value(Some(7)));
        check("*2\r\n:-2\r\n_\r\n", Said::Value(Value::Missing, None));
        check("*2\r\n:-2\r\n$-1\r\n", Said::Value(Value::Missing, None));
        check("*2\r\n:-1\r\n-WRONGTYPE x\r\n", Said::Unfit);
        check("...", Said::TooLarge);
        check("*1\r\n:-1\r\n", Said::Failed);
        check("-EXECABORT x\r\n", Said::Failed);
        check("_\r\n", Said::Failed);
    }

    #[test]
    fn plain_takes_the_shorter_life() {
        let check = |before, after, expected| {
            assert_eq!(said(How::Plain, &[before, HELLO, after]), expected);
        };
        check(":-1\r\n", ":-1\r\n", value(None));
        check(":9\r\n", ":5\r\n", value(Some(5)));
        check(":5\r\n", ":9\r\n", value(Some(5)));
        check(":-1\r\n", ":9\r\n", value(Some(9)));
        check(":9\r\n", ":-1\r\n", value(Some(9)));
        check(":-2\r\n", ":-1\r\n", value(Some(0)));
        check(":9\r\n", ":-2\r\n", value(Some(0)));
        check("-ERR\r\n", ":9\r\n", Said::Failed);
    }
}
