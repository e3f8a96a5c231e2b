//! Where Redis commands and their replies have the value.

use std::ops::Range;

use emberline_protocol::redis::encode::{self, Version};
use emberline_protocol::redis::{self, Command, Parser, Step, command};

use super::role::Role;

/// What this command, an array of bulk strings, has to do with the value.
///
/// Only strings are ever in pieces. What is not named here either works on
/// other types, and is told by the server that this is none of them; or works
/// on the key and not on its value (EXPIRE, TYPE, DEL); or wants a number,
/// which neither a head nor a large value is.
pub fn role(command: &Command, bytes: &[u8]) -> Role {
    let Some(parser) = parsed(bytes) else {
        return Role::Nothing;
    };
    let has = |word: &[u8]| {
        parser
            .args(bytes)
            .skip(2)
            .any(|arg| arg.eq_ignore_ascii_case(word))
    };
    let writes = |at: usize, tells: bool| match parser.range(at) {
        Some(value) => Role::Writes { value, tells },
        None => Role::Nothing,
    };
    match command.name {
        "get" | "getex" | "getdel" | "mget" | "strlen" => Role::Reads,
        "getrange" | "substr" => match bounds(&parser, bytes) {
            Some(_) => Role::Reads,
            None => Role::Nothing,
        },
        "set" => writes(2, has(b"get")),
        "getset" => writes(2, true),
        "setnx" => writes(2, false),
        "mset" if parser.len() == 3 => writes(2, false),
        "setex" | "psetex" => writes(3, false),
        // They look at some bytes of a value, or change some, or take it
        // elsewhere; nobody knows what a script does.
        "append" | "setrange" | "setbit" | "getbit" | "bitcount" | "bitpos" | "bitop"
        | "bitfield" | "bitfield_ro" | "lcs" | "dump" | "restore" | "copy" | "rename"
        | "renamenx" | "move" | "mset" | "msetnx" | "eval" | "eval_ro" | "evalsha"
        | "evalsha_ro" | "fcall" | "fcall_ro" => Role::Refused,
        // GET names other keys, whose values may be heads.
        "sort" | "sort_ro" if has(b"get") => Role::Refused,
        _ => Role::Nothing,
    }
}

fn parsed(bytes: &[u8]) -> Option<Parser> {
    let mut parser = Parser::default();
    match parser.parse(bytes, &redis::Limits::default()) {
        Ok(Step::Frame { .. }) => Some(parser),
        _ => None,
    }
}

/// The request whose reply has the value that this one is about.
pub fn ask(asked: &Command, bytes: &[u8]) -> Option<(&'static Command, Vec<u8>)> {
    if !matches!(asked.name, "strlen" | "getrange" | "substr") {
        return None;
    }
    let parser = parsed(bytes)?;
    let words = [b"GET", parser.arg(bytes, 1)];
    written("get", &words)
}

/// The same request with a head in the place of its value. What has no place
/// for a life becomes a SET, which has one: a head does not outlive its pieces.
pub fn headed(asked: &Command, bytes: &[u8], head: &[u8]) -> Option<(&'static Command, Vec<u8>)> {
    let parser = parsed(bytes)?;
    let key = parser.arg(bytes, 1);
    match asked.name {
        "setnx" => written("set", &[b"SET", key, head, b"NX"]),
        "getset" => written("set", &[b"SET", key, head, b"GET"]),
        "mset" => written("set", &[b"SET", key, head]),
        name => {
            let mut words: Vec<&[u8]> = parser.args(bytes).collect();
            let at = if name == "set" { 2 } else { 3 };
            *words.get_mut(at)? = head;
            written(name, &words)
        }
    }
}

/// A piece's write, which lives as long as `bytes` asks for.
pub fn store(
    asked: &Command,
    bytes: &[u8],
    key: &[u8],
    piece: &[u8],
) -> Option<(&'static Command, Vec<u8>)> {
    let parser = parsed(bytes)?;
    let mut words = vec![&b"SET"[..], key, piece];
    match asked.name {
        "setex" => words.extend([b"EX", parser.arg(bytes, 2)]),
        "psetex" => words.extend([b"PX", parser.arg(bytes, 2)]),
        "set" => {
            let lives: [&[u8]; 4] = [b"ex", b"px", b"exat", b"pxat"];
            let is_life = |&at: &usize| {
                let word = parser.arg(bytes, at);
                lives.iter().any(|life| word.eq_ignore_ascii_case(life))
            };
            if let Some(at) = (3..parser.len()).find(is_life) {
                words.extend([parser.arg(bytes, at), parser.arg(bytes, at + 1)]);
            }
        }
        _ => {}
    }
    written("set", &words)
}

/// A piece's read.
pub fn fetch(key: &[u8]) -> Option<(&'static Command, Vec<u8>)> {
    written("get", &[b"GET", key])
}

fn written(name: &str, words: &[&[u8]]) -> Option<(&'static Command, Vec<u8>)> {
    let len: usize = words.iter().map(|word| word.len() + 16).sum();
    let mut bytes = Vec::with_capacity(len);
    encode::command(&mut bytes, words.iter().copied());
    Some((command::lookup(name.as_bytes())?, bytes))
}

/// How the reply to an MGET of one key begins.
const ONE: &[u8] = b"*1\r\n";

/// Where a reply has a string.
pub fn value(reply: &[u8]) -> Option<Range<usize>> {
    let before = if reply.starts_with(ONE) { ONE.len() } else { 0 };
    let line = reply.get(before..)?.strip_prefix(b"$")?;
    let end = memchr::memchr(b'\r', line.get(..line.len().min(16))?)?;
    let len: usize = std::str::from_utf8(line.get(..end)?).ok()?.parse().ok()?;
    let start = before + 1 + end + 2;
    let whole = start.checked_add(len)?..start.checked_add(len)?.checked_add(2)?;
    (whole.end == reply.len()).then_some(start..whole.start)
}

/// The reply that the client is given. `value` is what was put together: none
/// if a piece is missing, and `reply` itself has it if it was not in pieces.
pub fn told(
    asked: &Command,
    bytes: &[u8],
    reply: Vec<u8>,
    whole: Option<Option<Vec<u8>>>,
    version: Version,
) -> Vec<u8> {
    let in_reply = value(&reply);
    let said = match (&whole, in_reply) {
        (Some(whole), _) => whole.as_deref(),
        (None, Some(range)) => reply.get(range),
        (None, None) => None,
    };
    let is_null = matches!(reply.get(..2), Some(b"$-" | b"_\r"));
    let mut out = Vec::new();
    match asked.name {
        "strlen" if said.is_some() || is_null || whole.is_some() => {
            let len = said.map_or(0, <[u8]>::len);
            encode::integer(&mut out, i64::try_from(len).unwrap_or(i64::MAX));
        }
        "getrange" | "substr" if said.is_some() || is_null || whole.is_some() => {
            let said = said.unwrap_or_default();
            let bounds = parsed(bytes).and_then(|parser| bounds(&parser, bytes));
            encode::bulk(&mut out, part(said, bounds.unwrap_or_default()));
        }
        "setnx" if reply == b"+OK\r\n" => encode::integer(&mut out, 1),
        "setnx" if is_null => encode::integer(&mut out, 0),
        _ => match whole {
            None => return reply,
            Some(whole) => {
                if reply.starts_with(ONE) {
                    out.extend_from_slice(ONE);
                }
                match whole {
                    Some(whole) => {
                        out.reserve(whole.len() + 32);
                        encode::bulk(&mut out, &whole);
                    }
                    None => encode::null(&mut out, version),
                }
            }
        },
    }
    out
}

/// What GETRANGE asks for; `None` if a server would not understand it.
fn bounds(parser: &Parser, bytes: &[u8]) -> Option<(i64, i64)> {
    let number = |at: usize| {
        let text = std::str::from_utf8(parser.arg(bytes, at)).ok()?;
        let number: i64 = text.parse().ok()?;
        // `+1` and `01` are none to Redis.
        (number.to_string() == text).then_some(number)
    };
    (parser.len() == 4).then_some((number(2)?, number(3)?))
}

/// As Redis counts: from 0, or from the end below it; both ends belong to it.
fn part(value: &[u8], (start, end): (i64, i64)) -> &[u8] {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let place = |at: i64| {
        if at < 0 {
            at.saturating_add(len).max(0)
        } else {
            at
        }
    };
    let (start, end) = (place(start), place(end).min(len - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) => value.get(start..=end).unwrap_or_default(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> (&'static Command, Vec<u8>) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let name = String::from_utf8_lossy(words[0]).to_lowercase();
        written(&name, &words).unwrap()
    }

    fn text(found: Option<(&'static Command, Vec<u8>)>) -> String {
        let (_, bytes) = found.unwrap();
        let parser = parsed(&bytes).unwrap();
        let words = parser
            .args(&bytes)
            .map(|word| String::from_utf8_lossy(word).into_owned());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_head_takes_the_place_of_the_value_and_pieces_live_as_long() {
        for (asked, head, piece) in [
            ("SET k v", "SET k H", "SET p P"),
            ("SET k v NX GET", "SET k H NX GET", "SET p P"),
            ("set k v xx ex 9", "set k H xx ex 9", "SET p P ex 9"),
            ("SET k EX PXAT 9 XX", "SET k H PXAT 9 XX", "SET p P PXAT 9"),
            ("SET k v KEEPTTL", "SET k H KEEPTTL", "SET p P"),
            ("SETEX k 9 v", "SETEX k 9 H", "SET p P EX 9"),
            ("PSETEX k 9 v", "PSETEX k 9 H", "SET p P PX 9"),
            ("SETNX k v", "SET k H NX", "SET p P"),
            ("GETSET k v", "SET k H GET", "SET p P"),
            ("MSET k v", "SET k H", "SET p P"),
        ] {
            let words: Vec<&str> = asked.split(' ').collect();
            let (command, bytes) = command(&words);
            assert!(
                matches!(role(command, &bytes), Role::Writes { .. }),
                "{asked}"
            );
            assert_eq!(text(headed(command, &bytes, b"H")), head);
            assert_eq!(text(store(command, &bytes, b"p", b"P")), piece);
        }
    }

    #[test]
    fn ranges_are_those_of_redis() {
        let check = |start, end, want: &str| {
            assert_eq!(
                part(b"hello", (start, end)),
                want.as_bytes(),
                "{start} {end}"
            );
        };
        check(0, -1, "hello");
        check(1, 3, "ell");
        check(-3, -1, "llo");
        check(-1, -3, "");
        check(3, 1, "");
        check(4, 100, "o");
        check(5, 100, "");
        check(-100, 0, "h");
        check(0, -100, "h");
        check(i64::MIN, i64::MAX, "hello");
        assert_eq!(part(b"", (0, -1)), b"");
    }

    #[test]
    fn a_reply_that_is_no_string_has_no_value() {
        assert_eq!(value(b"$3\r\nabc\r\n"), Some(4..7));
        assert_eq!(value(b"*1\r\n$0\r\n\r\n"), Some(8..8));
        for reply in [
            "",
            "$",
            "$3",
            "$-1\r\n",
            "+OK\r\n",
            "_\r\n",
            "*1\r\n$-1\r\n",
            "$3\r\nabc",
            "-ERR\r\n",
            "$4\r\nabc\r\n",
            "$18446744073709551615\r\n",
            "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        ] {
            assert_eq!(value(reply.as_bytes()), None, "{reply:?}");
        }
    }
}
