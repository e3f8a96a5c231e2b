//! memcached's text and meta commands as far as the checker needs them.

use std::io;

use super::{Answer, Ask, Client, Found, Put, ReadForm, WriteForm, malformed};

/// The commands of a request.
pub fn encode(ask: &Ask, out: &mut Vec<u8>) {
    match ask {
        Ask::Read(ReadForm::Meta, keys) => {
            for key in keys {
                out.extend_from_slice(format!("mg {key} c v f\r\n").as_bytes());
            }
        }
        Ask::Read(form, keys) => {
            let verb = if *form == ReadForm::Gets {
                "gets"
            } else {
                "get"
            };
            out.extend_from_slice(verb.as_bytes());
            for key in keys {
                out.extend_from_slice(format!(" {key}").as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        Ask::Write(form, puts) => puts.iter().for_each(|put| write(*form, put, out)),
    }
}

fn write(form: WriteForm, put: &Put, out: &mut Vec<u8>) {
    let Put { key, value, flags } = put;
    let len = value.len();
    let (line, block) = match form {
        WriteForm::Delete => (format!("delete {key}"), false),
        WriteForm::MetaDelete => (format!("md {key}"), false),
        WriteForm::Expire(ms) => (format!("touch {key} {}", seconds(ms)), false),
        WriteForm::MetaSet => (format!("ms {key} {len} F{flags}"), true),
        WriteForm::SetFor(ms) => (format!("set {key} {flags} {} {len}", seconds(ms)), true),
        _ => (format!("set {key} {flags} 0 {len}"), true),
    };
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
    if block {
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// memcached counts whole seconds.
fn seconds(ms: u32) -> u32 {
    ms.div_ceil(1000)
}

/// The replies to a request.
pub fn answer(client: &mut Client, ask: &Ask) -> io::Result<Answer> {
    match ask {
        Ask::Read(ReadForm::Meta, _) => meta(client),
        Ask::Read(_, keys) => {
            let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
            values(client, &names)
        }
        Ask::Write(_, puts) => {
            let mut whole = Answer::Done;
            for _ in puts {
                let line = client.line()?;
                let text = String::from_utf8_lossy(&line).into_owned();
                match text.split(' ').next().unwrap_or_default() {
                    "STORED" | "DELETED" | "TOUCHED" | "HD" => {}
                    // A deletion of what is not there has come about.
                    "NOT_FOUND" | "NF" => whole = not_found(ask),
                    _ => whole = Answer::Refused(text),
                }
            }
            Ok(whole)
        }
    }
}

fn not_found(ask: &Ask) -> Answer {
    match ask {
        Ask::Write(form, _) if form.deletes() => Answer::Done,
        _ => Answer::Nothing,
    }
}

fn values(client: &mut Client, names: &[String]) -> io::Result<Answer> {
    let mut values = vec![None; names.len()];
    loop {
        let line = client.line()?;
        if line == b"END" {
            return Ok(Answer::Values(values));
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let ["VALUE", name, flags, len, cas @ ..] = &words[..] else {
            return Ok(Answer::Refused(text));
        };
        let bytes = client.block(number(len)?)?;
        let place = names.iter().position(|wanted| wanted == name);
        let place = place.ok_or_else(|| malformed("a key that was asked for", &line))?;
        values[place] = Some(Found {
            bytes,
            flags: Some(number(flags)?),
            cas: cas.first().map(|cas| number(cas)).transpose()?,
        });
    }
}

fn meta(client: &mut Client) -> io::Result<Answer> {
    let line = client.line()?;
    let text = String::from_utf8_lossy(&line).into_owned();
    let mut words = text.split(' ');
    match words.next() {
        Some("EN") => return Ok(Answer::Values(vec![None])),
        Some("VA") => {}
        _ => return Ok(Answer::Refused(text)),
    }
    let bytes = client.block(number(words.next().unwrap_or_default())?)?;
    let mut found = Found {
        bytes,
        ..Found::default()
    };
    for word in words {
        match word.split_at_checked(1) {
            Some(("f", flags)) => found.flags = Some(number(flags)?),
            Some(("c", cas)) => found.cas = Some(number(cas)?),
            _ => return Err(malformed("the flags of an mg", &line)),
        }
    }
    Ok(Answer::Values(vec![Some(found)]))
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    let number = text.trim().parse();
    number.map_err(|_| malformed("a number", text.as_bytes()))
}
