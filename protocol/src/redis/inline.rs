//! Requests typed as a plain line: `SET key "a value"`.
//!
//! The rules are those of `sdssplitargs` in Redis' `sds.c`: words between
//! white space; `"..."` with `\n \r \t \b \a \\ \" \xHH`; `'...'` with `\'`
//! alone; a closing quote ends its word.

use super::request::{Limits, RequestError};
use memchr::memchr2;

/// Looks for the end of a line at the start of `buf`; `searched` bytes were looked at before.
///
/// Gives the line's length with its `\n`, or `None` if that has not come.
pub(super) fn line(
    buf: &[u8],
    searched: &mut usize,
    limits: &Limits,
) -> Result<Option<usize>, RequestError> {
    let reach = buf.len().min(limits.inline_max.saturating_add(1));
    let from = (*searched).min(reach);
    match memchr2(b'\n', 0, &buf[from..reach]) {
        // C's string functions end at the NUL, so Redis would never see this
        // line's end; it is most often the start of a TLS handshake.
        Some(at) if buf[from + at] == 0 => Err(RequestError::InlineNul),
        Some(at) => Ok(Some(from + at + 1)),
        None if buf.len() > limits.inline_max => Err(RequestError::InlineTooBig),
        None => {
            *searched = reach;
            Ok(None)
        }
    }
}

/// Takes a line (with its line break) apart: the words go to `decoded`, their places to `args`.
pub(super) fn split(
    line: &[u8],
    decoded: &mut Vec<u8>,
    args: &mut Vec<(u32, u32)>,
) -> Result<(), RequestError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    loop {
        rest = skip_space(rest);
        if rest.is_empty() {
            return refuse_http(decoded, args);
        }
        let start = decoded.len() as u32;
        rest = word(rest, decoded).ok_or(RequestError::UnbalancedQuotes)?;
        args.push((start, decoded.len() as u32));
    }
}

/// A browser that was tricked into talking to us sends these two lines; so
/// Redis closes the connection at either, and so do we.
fn refuse_http(decoded: &[u8], args: &[(u32, u32)]) -> Result<(), RequestError> {
    let name = match args.first() {
        Some(&(from, to)) => &decoded[from as usize..to as usize],
        None => return Ok(()),
    };
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        return Err(RequestError::HttpRequest);
    }
    Ok(())
}

/// Appends the word at the start of `text` to `out`; gives what is behind it, or `None` if its quotes do not match.
fn word<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        text = match text {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(text),
            [b'"', rest @ ..] => return closed(double_quoted(rest, out)?),
            [b'\'', rest @ ..] => return closed(single_quoted(rest, out)?),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

/// A closing quote must be followed by space or by nothing.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        Some(byte) if !is_space(*byte) => None,
        _ => Some(rest),
    }
}

fn double_quoted<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        text = match text {
            [] => return None,
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'x', high, low, rest @ ..] if both_hex(*high, *low) => {
                out.push(hex(*high) << 4 | hex(*low));
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

fn single_quoted<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        text = match text {
            [] => return None,
            [b'\'', rest @ ..] => return Some(rest),
            [b'\\', b'\'', rest @ ..] => {
                out.push(b'\'');
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

fn skip_space(text: &[u8]) -> &[u8] {
    let words = text.iter().position(|byte| !is_space(*byte));
    &text[words.unwrap_or(text.len())..]
}

/// C's `isspace`, which unlike Rust's knows the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn both_hex(high: u8, low: u8) -> bool {
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a') + 10,
    }
}
