//! RESP2 and RESP3 as far as a client of strings needs them.

use std::io;

use super::{Answer, Ask, Client, Found, Put, ReadForm, WriteForm, malformed};

/// Replies nest no deeper than this.
const DEPTH_MAX: u32 = 6;

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+`, or anything else that is one line.
    Simple(String),
    /// `-`.
    Error(String),
    /// `$`, or `=` with its prefix.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1`, `_`.
    Null,
    /// `*`, `~`, and `%` with its keys and values in turn.
    Array(Vec<Reply>),
}

impl Reply {
    /// A string, or an empty one.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) | Reply::Error(text) => text.clone(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Reply::Null | Reply::Array(_) => String::new(),
        }
    }
}

/// A command of these words.
pub fn command<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The commands of a request, one or two.
pub fn encode(ask: &Ask, out: &mut Vec<u8>) {
    match ask {
        Ask::Read(form, keys) => {
            let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let mut words: Vec<&[u8]> = vec![match form {
                ReadForm::Many => b"MGET",
                ReadForm::Range => b"GETRANGE",
                ReadForm::Get | ReadForm::Gets | ReadForm::Meta => b"GET",
            }];
            words.extend(names.iter().map(String::as_bytes));
            if *form == ReadForm::Range {
                words.extend([&b"0"[..], b"-1"]);
            }
            command(out, words.into_iter());
        }
        Ask::Write(WriteForm::Many, puts) => {
            let names: Vec<String> = puts.iter().map(|put| put.key.to_string()).collect();
            let mut words: Vec<&[u8]> = vec![b"MSET"];
            for (name, put) in names.iter().zip(puts) {
                words.extend([name.as_bytes(), &put.value]);
            }
            command(out, words.into_iter());
        }
        Ask::Write(form, puts) => puts.iter().for_each(|put| write(*form, put, out)),
    }
}

fn write(form: WriteForm, put: &Put, out: &mut Vec<u8>) {
    let key = put.key.to_string();
    // In braces, so that both keys are of one slot wherever slots matter.
    let temporary = format!("{{{key}}}:t");
    let (key, temporary, value) = (key.as_bytes(), temporary.as_bytes(), &put.value[..]);
    let mut say = |words: &[&[u8]]| command(out, words.iter().copied());
    match form {
        WriteForm::Set | WriteForm::MetaSet | WriteForm::Many => say(&[b"SET", key, value]),
        WriteForm::SetFor(ms) => say(&[b"SET", key, value, b"PX", ms.to_string().as_bytes()]),
        WriteForm::Delete | WriteForm::MetaDelete => say(&[b"DEL", key]),
        WriteForm::Expire(ms) => say(&[b"PEXPIRE", key, ms.to_string().as_bytes()]),
        WriteForm::Swap => say(&[b"GETSET", key, value]),
        WriteForm::Script => say(&[
            b"EVAL",
            b"return redis.call('SET', KEYS[1], ARGV[1])",
            b"1",
            key,
            value,
        ]),
        WriteForm::Rename => {
            say(&[b"SET", temporary, value]);
            say(&[b"RENAME", temporary, key]);
        }
        WriteForm::Copy => {
            say(&[b"SET", temporary, value]);
            say(&[b"COPY", temporary, key, b"REPLACE"]);
        }
    }
}

/// The replies to a request.
pub fn answer(client: &mut Client, ask: &Ask) -> io::Result<Answer> {
    let first = reply(client)?;
    if let Ask::Write(WriteForm::Rename | WriteForm::Copy, _) = ask {
        let second = reply(client)?;
        return Ok(match (first, second) {
            (Reply::Error(text), _) | (_, Reply::Error(text)) => Answer::Refused(text),
            // COPY says how many keys it has copied.
            (_, Reply::Simple(copied)) if copied == "0" => Answer::Refused("not copied".into()),
            _ => Answer::Done,
        });
    }
    if let Reply::Error(text) = first {
        return Ok(Answer::Refused(text));
    }
    Ok(match ask {
        Ask::Read(ReadForm::Many, keys) => match first {
            Reply::Array(replies) if replies.len() == keys.len() => Answer::Values(
                replies
                    .into_iter()
                    .map(|reply| found(ReadForm::Many, reply))
                    .collect::<io::Result<_>>()?,
            ),
            other => return Err(malformed("the values of an MGET", other.text().as_bytes())),
        },
        Ask::Read(form, _) => Answer::Values(vec![found(*form, first)?]),
        Ask::Write(WriteForm::Expire(_), _) if first == Reply::Simple("0".into()) => {
            Answer::Nothing
        }
        Ask::Write(..) => Answer::Done,
    })
}

fn found(form: ReadForm, reply: Reply) -> io::Result<Option<Found>> {
    match reply {
        Reply::Null => Ok(None),
        Reply::Bulk(bytes) if form == ReadForm::Range && bytes.is_empty() => Ok(None),
        Reply::Bulk(bytes) => Ok(Some(Found {
            bytes,
            ..Found::default()
        })),
        other => Err(malformed("a value", other.text().as_bytes())),
    }
}

/// The next reply; pushes are passed over.
pub fn reply(client: &mut Client) -> io::Result<Reply> {
    loop {
        let line = client.line()?;
        match line.split_first() {
            Some((b'>', count)) => {
                elements(client, number(count)?, 1)?;
            }
            _ => return rest(client, &line, 0),
        }
    }
}

fn rest(client: &mut Client, line: &[u8], depth: u32) -> io::Result<Reply> {
    let Some((&kind, text)) = line.split_first() else {
        return Err(malformed("a reply", line));
    };
    Ok(match kind {
        b'-' => Reply::Error(String::from_utf8_lossy(text).into_owned()),
        b'_' => Reply::Null,
        b'$' | b'=' | b'*' | b'~' | b'%' if text == b"-1" => Reply::Null,
        b'$' | b'=' => Reply::Bulk(client.block(number(text)?)?),
        b'*' | b'~' => Reply::Array(elements(client, number(text)?, depth + 1)?),
        b'%' => Reply::Array(elements(client, 2 * number(text)?, depth + 1)?),
        b'+' | b':' | b'#' | b',' | b'(' => {
            Reply::Simple(String::from_utf8_lossy(text).into_owned())
        }
        _ => return Err(malformed("a reply", line)),
    })
}

fn elements(client: &mut Client, count: usize, depth: u32) -> io::Result<Vec<Reply>> {
    if depth > DEPTH_MAX || count > 1 << 20 {
        return Err(malformed("a shallow reply", b"a deep one"));
    }
    let mut replies = Vec::new();
    for _ in 0..count {
        let line = client.line()?;
        replies.push(rest(client, &line, depth)?);
    }
    Ok(replies)
}

fn number(text: &[u8]) -> io::Result<usize> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| malformed("a number", text))
}
