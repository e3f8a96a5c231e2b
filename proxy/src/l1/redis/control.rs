//! What a server says to our own commands, and what it pushes.
//!
//! These frames are decoded by `redis-protocol`, whose decoder recurses as
//! deeply as a frame is nested: unoptimised, the 128 levels that our scanner
//! lets through overflow a thread's stack. So a frame is looked over before it
//! is decoded, and is refused if it is long or deep.

use std::time::Duration;

use redis_protocol::resp3::decode::complete;
use redis_protocol::resp3::types::OwnedFrame;

use super::incoming::{Frame, PUSH_MAX};

/// Bytes of a control reply. HELLO's is below 1 KiB.
const CONTROL_MAX: usize = 64 * 1024;

/// Levels of a frame. HELLO's reply has four on a server with modules.
const LEVELS_MAX: usize = 8;

/// Decode a frame.
///
/// # Errors
/// When it is too long or no frame; the text says which and quotes nothing.
pub fn decode(frame: Frame<'_>) -> Result<OwnedFrame, String> {
    let (max, bytes) = match frame {
        Frame::Whole(bytes) if frame.is_push() => (PUSH_MAX, bytes),
        Frame::Whole(bytes) => (CONTROL_MAX, bytes),
        Frame::TooLong(_) => return Err(TOO_LONG.to_owned()),
    };
    if bytes.len() > max {
        return Err(TOO_LONG.to_owned());
    }
    if !is_shallow(bytes) {
        return Err("it sent what is nested too deeply".to_owned());
    }
    match complete::decode(bytes) {
        Ok(Some((decoded, _))) => Ok(decoded),
        _ => Err("it sent what cannot be understood".to_owned()),
    }
}

const TOO_LONG: &str = "its reply to a command of our own is too long";

/// Whether a whole frame has few levels, and nothing that is rarely seen
/// (attributes, pieces of no announced number).
fn is_shallow(frame: &[u8]) -> bool {
    let mut open: Vec<usize> = Vec::new();
    let mut rest = frame;
    loop {
        let Some((kind, line, behind)) = header(rest) else {
            return false;
        };
        rest = behind;
        let count = || std::str::from_utf8(line).ok()?.parse::<usize>().ok();
        let inside = match (kind, count()) {
            (b'$' | b'=' | b'!', Some(size)) => match size.checked_add(2) {
                Some(size) if size <= rest.len() => {
                    rest = &rest[size..];
                    0
                }
                _ => return false,
            },
            (b'*' | b'~' | b'>', Some(count)) => count,
            (b'%', Some(pairs)) => pairs.saturating_mul(2),
            (b'$' | b'*', None) if line == b"-1" => 0,
            (b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(', _) => 0,
            _ => return false,
        };
        match inside {
            0 if !close(&mut open) => return true,
            0 => {}
            _ if open.len() == LEVELS_MAX => return false,
            count => open.push(count),
        }
    }
}

/// Count an element as ended; false if it was the last of all.
fn close(open: &mut Vec<usize>) -> bool {
    while let Some(left) = open.last_mut() {
        *left -= 1;
        if *left > 0 {
            return true;
        }
        open.pop();
    }
    false
}

/// The type of the next element, what stands behind it in its line, and what
/// follows the line.
fn header(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some((kind, &rest[..end], &rest[end + 2..]))
}

/// The text of an error, if the frame is one.
pub fn error(frame: &OwnedFrame) -> Option<String> {
    match frame {
        OwnedFrame::SimpleError { data, .. } => Some(data.clone()),
        OwnedFrame::BlobError { data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
        _ => None,
    }
}

/// An error's first word, such as `WRONGTYPE`: the rest of it may quote a key.
pub fn code(reply: &[u8]) -> &str {
    let text = reply.strip_prefix(b"-").unwrap_or_default();
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric());
    std::str::from_utf8(&text[..end.unwrap_or(text.len())]).unwrap_or_default()
}

/// What a server pushes.
#[derive(Debug, PartialEq, Eq)]
pub enum Push {
    /// These keys may have changed.
    Keys(Vec<Vec<u8>>),
    /// All keys may have.
    Everything,
    /// Something that does not concern us.
    Other,
}

/// Understand a push. One that is too long to be kept concerns all keys.
///
/// # Errors
/// When it is about invalidation and cannot be understood.
pub fn push(frame: Frame<'_>) -> Result<Push, String> {
    if let Frame::TooLong(_) = frame {
        return Ok(Push::Everything);
    }
    let OwnedFrame::Push { data, .. } = decode(frame)? else {
        return Err("its push cannot be understood".to_owned());
    };
    let mut parts = data.into_iter();
    if parts.next().and_then(text).as_deref() != Some(b"invalidate") {
        return Ok(Push::Other);
    }
    match parts.next() {
        Some(OwnedFrame::Null) => Ok(Push::Everything),
        Some(OwnedFrame::Array { data, .. }) => {
            let keys: Option<Vec<Vec<u8>>> = data.into_iter().map(text).collect();
            keys.map(Push::Keys)
                .ok_or_else(|| "its invalidation names no keys".to_owned())
        }
        _ => Err("its invalidation names no keys".to_owned()),
    }
}

fn text(frame: OwnedFrame) -> Option<Vec<u8>> {
    match frame {
        OwnedFrame::BlobString { data, .. } | OwnedFrame::SimpleString { data, .. } => Some(data),
        _ => None,
    }
}

/// How long a key has to live, as PTTL says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// For ever.
    Endless,
    /// For this long.
    Ends(Duration),
    /// There is no such key.
    Gone,
}

/// Understand a reply to PTTL; `None` if it is none.
pub fn life(frame: Frame<'_>) -> Option<Life> {
    match decode(frame) {
        Ok(OwnedFrame::Number { data, .. }) => match data {
            -1 => Some(Life::Endless),
            -2 => Some(Life::Gone),
            millis => u64::try_from(millis)
                .ok()
                .map(Duration::from_millis)
                .map(Life::Ends),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(bytes: &[u8]) -> Result<Push, String> {
        push(Frame::Whole(bytes))
    }

    #[test]
    fn pushes_name_keys_or_everything() {
        let one = b">2\r\n$10\r\ninvalidate\r\n*2\r\n$3\r\nfoo\r\n$2\r\n\r\n\r\n";
        let keys = vec![b"foo".to_vec(), b"\r\n".to_vec()];
        assert_eq!(pushed(one), Ok(Push::Keys(keys)));
        let all = b">2\r\n$10\r\ninvalidate\r\n_\r\n";
        assert_eq!(pushed(all), Ok(Push::Everything));
        assert_eq!(push(Frame::TooLong(b'>')), Ok(Push::Everything));
        let other = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n";
        assert_eq!(pushed(other), Ok(Push::Other));
        assert!(pushed(b">2\r\n$10\r\ninvalidate\r\n:5\r\n").is_err());
        assert!(pushed(b">2\r\n$10\r\ninvalidate\r\n*1\r\n:5\r\n").is_err());
        assert!(pushed(b">1\r\n$10\r\ninvalidate\r\n").is_err());
    }

    #[test]
    fn what_is_nested_deeply_is_refused_before_it_is_decoded() {
        let nested = |levels| {
            let mut frame = b">2\r\n$5\r\nhello\r\n".to_vec();
            frame.extend(b"*1\r\n".repeat(levels));
            frame.extend(b":1\r\n");
            pushed(&frame)
        };
        assert_eq!(nested(LEVELS_MAX - 1), Ok(Push::Other));
        for levels in [LEVELS_MAX, 127, 20_000] {
            assert_eq!(
                nested(levels).unwrap_err(),
                "it sent what is nested too deeply"
            );
        }
    }

    #[test]
    fn whole_frames_of_every_type_are_looked_over_to_their_end() {
        for frame in [
            "+OK\r\n",
            ":1\r\n",
            "_\r\n",
            "$-1\r\n",
            "*0\r\n",
            "*-1\r\n",
            "%1\r\n$5\r\nproto\r\n:3\r\n",
            "%2\r\n+a\r\n*2\r\n:1\r\n~1\r\n#t\r\n+b\r\n%0\r\n",
            "*2\r\n$2\r\n\r\n\r\n*1\r\n,1.5\r\n",
        ] {
            assert!(is_shallow(frame.as_bytes()), "{frame:?}");
            for end in 0..frame.len() {
                assert!(!is_shallow(&frame.as_bytes()[..end]), "{frame:?} to {end}");
            }
        }
        for frame in [
            "|1\r\n+a\r\n+b\r\n+c\r\n",
            "*?\r\n.\r\n",
            "$?\r\n;0\r\n",
            "*x\r\n",
        ] {
            assert!(!is_shallow(frame.as_bytes()), "{frame:?}");
        }
    }

    #[test]
    fn lives_are_numbers() {
        let check = |reply: &str, expected| {
            assert_eq!(life(Frame::Whole(reply.as_bytes())), expected, "{reply:?}");
        };
        check(":-1\r\n", Some(Life::Endless));
        check(":-2\r\n", Some(Life::Gone));
        check(":0\r\n", Some(Life::Ends(Duration::ZERO)));
        check(":1500\r\n", Some(Life::Ends(Duration::from_millis(1500))));
        check(":-3\r\n", None);
        check("-NOPERM no\r\n", None);
        check("+QUEUED\r\n", None);
        check(":x\r\n", None);
    }

    #[test]
    fn only_the_code_of_an_error_is_ever_shown() {
        assert_eq!(code(b"-ERR unknown command 'k'\r\n"), "ERR");
        assert_eq!(code(b"-WRONGTYPE\r\n"), "WRONGTYPE");
        assert_eq!(code(b"+OK\r\n"), "");
        assert_eq!(code(b"-\xff\r\n"), "");
    }
}
