//! Where memcached's requests and replies have the value.

use std::ops::Range;

use emberline_protocol::memcache::{self, Dialect, Parser, Verb, encode};

use super::role::Role;

/// What this request, line and data block, has to do with the value.
pub fn role(verb: Verb, bytes: &[u8], limits: &memcache::Limits) -> Role {
    let Some((line, body)) = parted(bytes, limits) else {
        return Role::Nothing;
    };
    let joins = || {
        let mode = memcache::flag(line, verb, b'M').and_then(<[u8]>::first);
        matches!(mode, Some(b'A' | b'a' | b'P' | b'p'))
    };
    match verb {
        Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats => Role::Reads,
        Verb::MetaGet => match has(line, b'v') || has(line, b's') {
            true => Role::Reads,
            false => Role::Nothing,
        },
        Verb::Append | Verb::Prepend => Role::Refused,
        Verb::MetaSet if joins() => Role::Refused,
        Verb::Set | Verb::Add | Verb::Replace | Verb::Cas | Verb::MetaSet => Role::Writes {
            value: body,
            tells: false,
        },
        _ => Role::Nothing,
    }
}

/// The line with its end, and where the data is.
fn parted<'a>(bytes: &'a [u8], limits: &memcache::Limits) -> Option<(&'a [u8], Range<usize>)> {
    let request = Parser::default().parse(bytes, limits).ok()??;
    let body = request.head..request.head.checked_add(request.body.unwrap_or(0))?;
    bytes.get(body.clone())?;
    Some((bytes.get(..request.head)?, body))
}

fn has(line: &[u8], flag: u8) -> bool {
    memcache::flag(line, Verb::MetaGet, flag).is_some()
}

/// The request whose reply has the value that this one is about.
pub fn ask(verb: Verb, bytes: &[u8]) -> Option<Vec<u8>> {
    let line = bytes.trim_ascii_end();
    let asks = verb == Verb::MetaGet && !has(bytes, b'v');
    asks.then(|| [line, b" v\r\n"].concat())
}

/// The same request with a head in the place of its value.
pub fn headed(verb: Verb, bytes: &[u8], limits: &memcache::Limits, head: &[u8]) -> Option<Vec<u8>> {
    let (line, _) = parted(bytes, limits)?;
    let size_at = match verb.dialect() {
        Dialect::Text => 4,
        Dialect::Meta => 2,
    };
    let mut out = Vec::with_capacity(line.len() + head.len() + 16);
    for (at, word) in memcache::tokens(line).enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        match at == size_at {
            true => encode::number(&mut out, head.len() as u64),
            false => out.extend_from_slice(word),
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(head);
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// A piece's write, which lives as long as `bytes` asks for.
pub fn store(
    verb: Verb,
    bytes: &[u8],
    limits: &memcache::Limits,
    key: &[u8],
    piece: &[u8],
) -> Option<Vec<u8>> {
    let (line, _) = parted(bytes, limits)?;
    let life = match verb.dialect() {
        Dialect::Text => memcache::tokens(line).nth(3),
        Dialect::Meta => memcache::flag(line, verb, b'T'),
    };
    let mut out = Vec::with_capacity(key.len() + piece.len() + 64);
    out.extend_from_slice(b"set ");
    out.extend_from_slice(key);
    out.extend_from_slice(b" 0 ");
    out.extend_from_slice(life.unwrap_or(b"0"));
    out.push(b' ');
    encode::number(&mut out, piece.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// A piece's read.
pub fn fetch(key: &[u8]) -> Vec<u8> {
    [b"get ", key, b"\r\n"].concat()
}

/// Where a reply has a value.
pub fn value(reply: &[u8]) -> Option<Range<usize>> {
    let start = memchr::memchr(b'\n', reply)? + 1;
    let mut words = memcache::tokens(reply.get(..start)?);
    let size = match words.next()? {
        b"VALUE" => words.nth(2)?,
        b"VA" => words.next()?,
        _ => return None,
    };
    let size: usize = std::str::from_utf8(size).ok()?.parse().ok()?;
    let end = start.checked_add(size)?;
    (end.checked_add(2)? <= reply.len()).then_some(start..end)
}

/// The reply that the client is given. `whole` is what was put together: none
/// if a piece is missing, and `reply` itself has the value if it was not in
/// pieces.
pub fn told(verb: Verb, bytes: &[u8], reply: Vec<u8>, whole: Option<Option<Vec<u8>>>) -> Vec<u8> {
    let (Some(range), None | Some(Some(_))) = (value(&reply), &whole) else {
        return match whole {
            None => reply,
            Some(_) if verb == Verb::MetaGet => b"EN\r\n".to_vec(),
            Some(_) => b"END\r\n".to_vec(),
        };
    };
    let (line, rest) = reply.split_at(range.start);
    let whole = whole.flatten();
    let wanted = verb != Verb::MetaGet || has(bytes, b'v');
    if whole.is_none() && wanted {
        return reply;
    }
    let value = whole
        .as_deref()
        .or_else(|| rest.get(..range.len()))
        .unwrap_or_default();
    let mut out = Vec::with_capacity(line.len() + value.len() + 32);
    sized(line, value.len(), wanted, &mut out);
    if wanted {
        out.extend_from_slice(value);
        out.extend_from_slice(rest.get(range.len()..).unwrap_or_default());
    }
    out
}

/// Append the first line of a reply with this size in every place that says
/// one, and as a header alone if the value is not wanted.
fn sized(line: &[u8], size: usize, wanted: bool, out: &mut Vec<u8>) {
    let meta = line.starts_with(b"VA ") || line.starts_with(b"HD");
    for (at, word) in memcache::tokens(line).enumerate() {
        let is_size = match (meta, at) {
            (true, 0) if !wanted => {
                out.extend_from_slice(b"HD");
                continue;
            }
            (true, 1) if !wanted && line.starts_with(b"VA ") => continue,
            (true, 1) if line.starts_with(b"VA ") => true,
            (true, _) => false,
            (false, at) => at == 3,
        };
        if at > 0 {
            out.push(b' ');
        }
        if is_size {
            encode::number(out, size as u64);
        } else if meta && at > 0 && word.first() == Some(&b's') {
            out.push(b's');
            encode::number(out, size as u64);
        } else {
            out.extend_from_slice(word);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The reply to a write whose value went into pieces: the size that it may tell
/// is that of the value.
pub fn stored(verb: Verb, reply: Vec<u8>, size: usize) -> Vec<u8> {
    if verb != Verb::MetaSet || !reply.starts_with(b"HD ") {
        return reply;
    }
    let mut out = Vec::with_capacity(reply.len() + 8);
    sized(&reply, size, true, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> memcache::Limits {
        memcache::Limits::default()
    }

    fn text(bytes: Option<Vec<u8>>) -> String {
        String::from_utf8(bytes.unwrap()).unwrap()
    }

    #[test]
    fn a_head_takes_the_place_of_the_value_and_pieces_live_as_long() {
        for (verb, line, head, life) in [
            (Verb::Set, "set k 7 60 3", "set k 7 60 2", "60"),
            (Verb::Add, "add k 7 -1 3", "add k 7 -1 2", "-1"),
            (Verb::Cas, "cas k 0 0 3 99", "cas k 0 0 2 99", "0"),
            (Verb::MetaSet, "ms k 3", "ms k 2", "0"),
            (
                Verb::MetaSet,
                "ms k 3 T60 F7 c ME s",
                "ms k 2 T60 F7 c ME s",
                "60",
            ),
        ] {
            let bytes = format!("{line}\r\nabc\r\n").into_bytes();
            let role = role(verb, &bytes, &limits());
            let Role::Writes { value, .. } = role else {
                panic!("{line}: {role:?}");
            };
            assert_eq!(&bytes[value], b"abc");
            let headed = text(headed(verb, &bytes, &limits(), b"HH"));
            assert_eq!(headed, format!("{head}\r\nHH\r\n"));
            let piece = text(store(verb, &bytes, &limits(), b"p", b"PPPP"));
            assert_eq!(piece, format!("set p 0 {life} 4\r\nPPPP\r\n"));
        }
    }

    #[test]
    fn replies_say_the_whole_size() {
        let check = |verb, asked: &str, reply: &str, whole: Option<Option<&str>>, want: &str| {
            let whole = whole.map(|whole| whole.map(|whole| whole.as_bytes().to_vec()));
            let told = told(verb, asked.as_bytes(), reply.as_bytes().to_vec(), whole);
            assert_eq!(String::from_utf8_lossy(&told), want, "{asked}");
        };
        let big = Some(Some("hello"));
        let text = "VALUE k 7 2 99\r\nHH\r\nEND\r\n";
        check(
            Verb::Gets,
            "gets k",
            text,
            big,
            "VALUE k 7 5 99\r\nhello\r\nEND\r\n",
        );
        check(Verb::Gets, "gets k", text, Some(None), "END\r\n");
        check(Verb::Gets, "gets k", text, None, text);
        let meta = "VA 2 s2 f7 kskey t-1 W\r\nHH\r\n";
        let asked = "mg skey s f k t v\r\n";
        check(
            Verb::MetaGet,
            asked,
            meta,
            big,
            "VA 5 s5 f7 kskey t-1 W\r\nhello\r\n",
        );
        check(Verb::MetaGet, asked, meta, Some(None), "EN\r\n");
        let asked = "mg skey s f k t\r\n";
        check(Verb::MetaGet, asked, meta, big, "HD s5 f7 kskey t-1 W\r\n");
        check(Verb::MetaGet, asked, meta, None, "HD s2 f7 kskey t-1 W\r\n");
        check(Verb::MetaGet, asked, "EN\r\n", None, "EN\r\n");
        let stored = stored(Verb::MetaSet, b"HD s2 c7\r\n".to_vec(), 500);
        assert_eq!(stored, b"HD s500 c7\r\n");
    }

    #[test]
    fn a_value_is_found_where_it_is_whole() {
        assert_eq!(value(b"VALUE k 0 1\r\na\r\nEND\r\n"), Some(13..14));
        assert_eq!(value(b"VA 1 f0\r\na\r\n"), Some(9..10));
        for reply in [
            "END\r\n",
            "EN\r\n",
            "HD s1\r\n",
            "VA 9 f0\r\na\r\n",
            "VA x\r\na\r\n",
            "VALUE k 0\r\n",
            "VA",
            "VA 18446744073709551615\r\n",
            "SERVER_ERROR x\r\n",
            "",
        ] {
            assert_eq!(value(reply.as_bytes()), None, "{reply:?}");
        }
    }
}
