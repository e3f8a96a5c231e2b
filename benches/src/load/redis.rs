//! RESP2 for the load generator: GET, MGET and SET, and their replies.

use std::io::Write;

use super::keyspace::{Keyspace, NAME_LEN, name};
use super::reply::{Body, Event, Malformed, line, number};

/// `GET key`, or `MGET key...` when there are several or `multi` asks for it.
pub fn encode_read(keys: &[u64], multi: bool, out: &mut Vec<u8>) {
    if let ([key], false) = (keys, multi) {
        out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
        encode_name(*key, out);
        return;
    }
    // Writing into a Vec cannot fail.
    let _ = write!(out, "*{}\r\n$4\r\nMGET\r\n", keys.len() + 1);
    for &key in keys {
        encode_name(key, out);
    }
}

/// `SET key value`.
pub fn encode_write(key: u64, keyspace: &Keyspace, out: &mut Vec<u8>) {
    out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
    encode_name(key, out);
    let _ = write!(out, "${}\r\n", keyspace.value_len(key));
    keyspace.append_value(key, out);
    out.extend_from_slice(b"\r\n");
}

fn encode_name(key: u64, out: &mut Vec<u8>) {
    const _: () = assert!(NAME_LEN == 16);
    out.extend_from_slice(b"$16\r\n");
    out.extend_from_slice(&name(key));
    out.extend_from_slice(b"\r\n");
}

/// Follows replies across reads.
#[derive(Debug, Default)]
pub struct Reader {
    /// The bulk string being received.
    body: Option<Body>,
    /// Elements of the array that are still to come; 0 outside of an array.
    elements: u64,
}

impl Reader {
    /// Read as much as can be read; returns how many bytes are done with.
    pub fn read<'a>(
        &mut self,
        buf: &'a [u8],
        sink: &mut impl FnMut(Event<'a>),
    ) -> Result<usize, Malformed> {
        let mut at = 0;
        loop {
            if let Some(body) = &mut self.body {
                let (taken, whole) = body.take(&buf[at..], sink);
                at += taken;
                if !whole {
                    return Ok(at);
                }
                self.body = None;
                sink(Event::ValueEnd);
                self.finish_element(sink);
            }
            let Some((line, len)) = line(&buf[at..])? else {
                return Ok(at);
            };
            self.read_line(line, sink)?;
            at += len;
        }
    }

    fn read_line<'a>(
        &mut self,
        line: &'a [u8],
        sink: &mut impl FnMut(Event<'a>),
    ) -> Result<(), Malformed> {
        let (&kind, rest) = line.split_first().ok_or_else(|| Malformed::line(line))?;
        let count = || number(rest).ok_or_else(|| Malformed::line(line));
        match kind {
            b'$' => match u64::try_from(count()?) {
                Ok(len) => {
                    sink(Event::Value { name: None, len });
                    self.body = Some(Body::new(len));
                    return Ok(());
                }
                Err(_) => sink(Event::Missing),
            },
            b'*' if self.elements == 0 => {
                self.elements = count()?.max(0) as u64;
                if self.elements > 0 {
                    return Ok(());
                }
            }
            b'_' => sink(Event::Missing),
            b'-' => sink(Event::Error(rest)),
            b'+' | b':' => sink(Event::Status),
            _ => return Err(Malformed::line(line)),
        }
        self.finish_element(sink);
        Ok(())
    }

    fn finish_element<'a>(&mut self, sink: &mut impl FnMut(Event<'a>)) {
        self.elements = self.elements.saturating_sub(1);
        if self.elements == 0 {
            sink(Event::End);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a transcript that arrives in pieces of `step` bytes; chunks are joined.
    fn events(transcript: &[u8], step: usize) -> Vec<String> {
        let mut reader = Reader::default();
        let mut out: Vec<String> = Vec::new();
        let mut held: Vec<u8> = Vec::new();
        let mut value = String::new();
        for piece in transcript.chunks(step) {
            held.extend_from_slice(piece);
            let used = reader
                .read(&held, &mut |event| match event {
                    Event::Value { len, .. } => value = format!("{len}:"),
                    Event::Chunk(chunk) => value.push_str(&chunk.escape_ascii().to_string()),
                    Event::ValueEnd => out.push(value.clone()),
                    Event::Error(text) => out.push(format!("-{}", text.escape_ascii())),
                    other => out.push(format!("{other:?}")),
                })
                .unwrap();
            held.drain(..used);
        }
        assert!(held.is_empty());
        out
    }

    #[test]
    fn replies_read_the_same_however_they_are_cut() {
        let transcript = b"+OK\r\n$5\r\nhe\r\no\r\n$-1\r\n*3\r\n$1\r\na\r\n$-1\r\n-ERR x\r\n:1\r\n$0\r\n\r\n*0\r\n-ERR y\r\n";
        let expected = [
            "Status",
            "End",
            "5:he\\r\\no",
            "End",
            "Missing",
            "End",
            "1:a",
            "Missing",
            "-ERR x",
            "End",
            "Status",
            "End",
            "0:",
            "End",
            "End",
            "-ERR y",
            "End",
        ];
        for step in 1..transcript.len() {
            assert_eq!(events(transcript, step), expected, "step {step}");
        }
    }

    #[test]
    fn garbage_is_an_error() {
        for garbage in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"\r\n"] {
            assert!(Reader::default().read(garbage, &mut |_| {}).is_err());
        }
    }

    #[test]
    fn requests_are_resp() {
        let mut out = Vec::new();
        encode_read(&[1], false, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n");
        out.clear();
        encode_read(&[1, 2], true, &mut out);
        assert_eq!(
            out,
            b"*3\r\n$4\r\nMGET\r\n$16\r\nkey:000000000001\r\n$16\r\nkey:000000000002\r\n"
        );
        out.clear();
        encode_write(1, &Keyspace::new(super::super::Sizes::Fixed(3)), &mut out);
        assert_eq!(
            out,
            b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$3\r\nkey\r\n"
        );
    }
}
