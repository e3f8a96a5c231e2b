//! Replies that the proxy writes itself.

use std::fmt::Write as _;

/// Appends a `VALUE` block; `cas` only for `gets` and `gats`.
pub fn value(out: &mut Vec<u8>, key: &[u8], flags: u32, data: &[u8], cas: Option<u64>) {
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    let mut head = String::new();
    let _ = write!(head, " {flags} {}", data.len());
    if let Some(cas) = cas {
        let _ = write!(head, " {cas}");
    }
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the `END` of a get reply.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"END\r\n");
}

/// Appends one line; control characters in it become spaces.
pub fn line(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().map(|b| if b < b' ' { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}
