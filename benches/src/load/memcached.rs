//! Memcached's text protocol for the load generator: get and set, and their replies.

use std::io::Write;

use super::keyspace::{Keyspace, name};
use super::reply::{Body, Event, Malformed, line, number};

/// `get key...`.
pub fn encode_read(keys: &[u64], out: &mut Vec<u8>) {
    out.extend_from_slice(b"get");
    for &key in keys {
        out.push(b' ');
        out.extend_from_slice(&name(key));
    }
    out.extend_from_slice(b"\r\n");
}

/// `set key 0 0 bytes`.
pub fn encode_write(key: u64, keyspace: &Keyspace, out: &mut Vec<u8>) {
    out.extend_from_slice(b"set ");
    out.extend_from_slice(&name(key));
    // Writing into a Vec cannot fail.
    let _ = write!(out, " 0 0 {}\r\n", keyspace.value_len(key));
    keyspace.append_value(key, out);
    out.extend_from_slice(b"\r\n");
}

/// Follows replies across reads.
#[derive(Debug, Default)]
pub struct Reader {
    /// The data block being received.
    body: Option<Body>,
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
        if let Some(rest) = line.strip_prefix(b"VALUE ") {
            let mut tokens = rest.split(|&byte| byte == b' ');
            let name = tokens.next();
            let len = tokens.nth(1).and_then(number);
            let len = len.and_then(|len| u64::try_from(len).ok());
            let len = len.ok_or_else(|| Malformed::line(line))?;
            sink(Event::Value { name, len });
            self.body = Some(Body::new(len));
            return Ok(());
        }
        match line {
            b"END" => {}
            b"STORED" => sink(Event::Status),
            b"ERROR" | b"NOT_STORED" => sink(Event::Error(line)),
            _ if line.starts_with(b"SERVER_ERROR") || line.starts_with(b"CLIENT_ERROR") => {
                sink(Event::Error(line));
            }
            _ => return Err(Malformed::line(line)),
        }
        sink(Event::End);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_read_the_same_however_they_are_cut() {
        let transcript = b"STORED\r\nVALUE a 0 4\r\nx\r\ny\r\nVALUE b 5 0 99\r\n\r\nEND\r\nEND\r\nSERVER_ERROR out\r\n";
        let expected = [
            "Status",
            "End",
            "a=x\\r\\ny",
            "b=",
            "End",
            "End",
            "-SERVER_ERROR out",
            "End",
        ];
        for step in 1..transcript.len() {
            let mut reader = Reader::default();
            let (mut out, mut value, mut held) = (Vec::new(), String::new(), Vec::new());
            for piece in transcript.chunks(step) {
                held.extend_from_slice(piece);
                let used = reader
                    .read(&held, &mut |event| match event {
                        Event::Value { name, .. } => {
                            value = format!("{}=", name.unwrap().escape_ascii());
                        }
                        Event::Chunk(chunk) => value.push_str(&chunk.escape_ascii().to_string()),
                        Event::ValueEnd => out.push(value.clone()),
                        Event::Error(text) => out.push(format!("-{}", text.escape_ascii())),
                        other => out.push(format!("{other:?}")),
                    })
                    .unwrap();
                held.drain(..used);
            }
            assert_eq!(out, expected, "step {step}");
        }
    }

    #[test]
    fn requests_are_text() {
        let mut out = Vec::new();
        encode_read(&[1, 2], &mut out);
        assert_eq!(out, b"get key:000000000001 key:000000000002\r\n");
        out.clear();
        encode_write(1, &Keyspace::new(super::super::Sizes::Fixed(3)), &mut out);
        assert_eq!(out, b"set key:000000000001 0 0 3\r\nkey\r\n");
    }
}
