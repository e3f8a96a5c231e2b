//! What the proxy writes: lines for servers, and replies of its own.

use super::{Request, key_ok};

/// Appends the command line for a server, with `noreply` and the meta flag
/// `q` removed so that every request has exactly one reply, and everything
/// else as it came. The data block is appended by the caller.
///
/// `buf` is what was given to the parser. Words that memcached ignores and
/// spaces around the line are left out; the line ends in CRLF.
pub fn forward(out: &mut Vec<u8>, buf: &[u8], request: &Request) {
    let (start, end) = request.sent;
    let (cut, resume) = request.cut;
    let part = |from: u32, to: u32| buf.get(from as usize..to as usize).unwrap_or_default();
    out.extend_from_slice(part(start, cut));
    out.extend_from_slice(part(resume, end));
    out.extend_from_slice(b"\r\n");
}

/// Appends a part of a multi-get: the verb, its expiry if it has one, and
/// these keys. `line` is what was given to the parser.
///
/// A key that is not [`key_ok`] is left out, whatever path it came from.
pub fn fragment<'a>(
    out: &mut Vec<u8>,
    line: &[u8],
    request: &Request,
    keys: impl Iterator<Item = &'a [u8]>,
) {
    use super::Verb;
    out.extend_from_slice(request.verb.name().as_bytes());
    if matches!(request.verb, Verb::Gat | Verb::Gats) {
        let line = &line[..request.head.min(line.len())];
        out.push(b' ');
        out.extend_from_slice(super::tokens(line).nth(1).unwrap_or(b"0"));
    }
    for key in keys.filter(|key| key_ok(key)) {
        out.push(b' ');
        out.extend_from_slice(key);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a `VALUE` block; `cas` only for `gets` and `gats`.
pub fn value(out: &mut Vec<u8>, key: &[u8], flags: u32, data: &[u8], cas: Option<u64>) {
    value_line(out, key, flags, data.len(), cas);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the first line of a `VALUE` block with `len` bytes of data; they
/// and the line end behind them are the caller's.
pub fn value_line(out: &mut Vec<u8>, key: &[u8], flags: u32, len: usize, cas: Option<u64>) {
    out.reserve(key.len() + len + 64);
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    out.push(b' ');
    number(out, u64::from(flags));
    out.push(b' ');
    number(out, len as u64);
    if let Some(cas) = cas {
        out.push(b' ');
        number(out, cas);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the `END` of a get reply.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"END\r\n");
}

/// Appends one line; control characters in it become spaces, so that no text
/// can end the line early.
pub fn line(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|b| if b < b' ' { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_end_its_line_early() {
        let mut out = Vec::new();
        line(&mut out, "SERVER_ERROR a\r\nEND\r\n");
        assert_eq!(out, b"SERVER_ERROR a  END  \r\n");
    }

    #[test]
    fn a_value_is_written_as_memcached_writes_it() {
        let mut out = Vec::new();
        value(&mut out, b"k", 7, b"abc", None);
        value(&mut out, b"k", 7, b"", Some(u64::MAX));
        end(&mut out);
        assert_eq!(
            out,
            b"VALUE k 7 3\r\nabc\r\nVALUE k 7 0 18446744073709551615\r\n\r\nEND\r\n"
        );
    }
}
