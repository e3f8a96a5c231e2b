//! Everything the proxy itself says in RESP; appends to a `Vec<u8>`.
//!
//! Replies of servers never pass through here: they are forwarded as the
//! bytes that came. What RESP2 cannot say is said as Redis says it to a RESP2
//! client: a map is a flat array, a double is a bulk string, a boolean is 0
//! or 1, a verbatim string is a bulk string.

/// The protocol version that a client negotiated with `HELLO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// RESP2, what every connection starts with.
    #[default]
    Resp2,
    /// RESP3, asked for by `HELLO 3`.
    Resp3,
}

/// A request as clients send it: an array of bulk strings.
pub fn command<'a>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    header(out, b'*', args.len());
    for arg in args {
        bulk(out, arg);
    }
}

/// `+text`. A line break in `text` would end the reply early, so it becomes a space.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    line(out, b'+', text);
}

/// `-text`. The code (`ERR`, `WRONGTYPE` ...) is the first word of `text`; line breaks become spaces.
pub fn error(out: &mut Vec<u8>, text: &str) {
    line(out, b'-', text);
}

/// `:value`.
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    crlf(out);
}

/// `$len`, then the bytes.
pub fn bulk(out: &mut Vec<u8>, data: &[u8]) {
    header(out, b'$', data.len());
    out.extend_from_slice(data);
    crlf(out);
}

/// The absent value.
pub fn null(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"$-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// The absent array, which RESP2 tells from the absent string.
pub fn null_array(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(match version {
        Version::Resp2 => b"*-1\r\n",
        Version::Resp3 => b"_\r\n",
    });
}

/// The header of an array; `len` elements follow.
pub fn array(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len);
}

/// The header of a map; `pairs` keys and values follow, alternating.
pub fn map(out: &mut Vec<u8>, pairs: usize, version: Version) {
    match version {
        Version::Resp2 => header(out, b'*', 2 * pairs),
        Version::Resp3 => header(out, b'%', pairs),
    }
}

/// The header of a set; `len` elements follow.
pub fn set(out: &mut Vec<u8>, len: usize, version: Version) {
    match version {
        Version::Resp2 => header(out, b'*', len),
        Version::Resp3 => header(out, b'~', len),
    }
}

/// The header of an out-of-band message; `len` elements follow.
pub fn push(out: &mut Vec<u8>, len: usize, version: Version) {
    match version {
        Version::Resp2 => header(out, b'*', len),
        Version::Resp3 => header(out, b'>', len),
    }
}

/// A floating-point number, in the fewest digits that read back the same.
pub fn double(out: &mut Vec<u8>, value: f64, version: Version) {
    let text = double_text(value);
    match version {
        Version::Resp2 => bulk(out, text.as_bytes()),
        Version::Resp3 => line(out, b',', &text),
    }
}

/// A truth value.
pub fn boolean(out: &mut Vec<u8>, value: bool, version: Version) {
    out.extend_from_slice(match (version, value) {
        (Version::Resp2, false) => b":0\r\n",
        (Version::Resp2, true) => b":1\r\n",
        (Version::Resp3, false) => b"#f\r\n",
        (Version::Resp3, true) => b"#t\r\n",
    });
}

/// Text meant for people, such as the answer to `INFO`.
pub fn verbatim(out: &mut Vec<u8>, text: &[u8], version: Version) {
    match version {
        Version::Resp2 => bulk(out, text),
        Version::Resp3 => {
            header(out, b'=', text.len() + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text);
            crlf(out);
        }
    }
}

fn header(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    crlf(out);
}

fn line(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    out.extend(text.bytes().map(|byte| match byte {
        b'\r' | b'\n' => b' ',
        other => other,
    }));
    crlf(out);
}

fn crlf(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// C's `%g` switches to an exponent outside these bounds, Rust's `{}` never does.
fn double_text(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "nan".into()
    } else if value.is_infinite() {
        if value > 0.0 { "inf" } else { "-inf" }.into()
    } else if size != 0.0 && !(1e-4..1e17).contains(&size) {
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
            _ => text,
        }
    } else {
        format!("{value}")
    }
}
