//! The words of a story in each protocol.

use super::super::support::{Client, command, show};

/// What servers and clients of a story speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Memcached,
}

impl Dialect {
    /// As a configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Redis => "redis",
            Dialect::Memcached => "memcached",
        }
    }
}

/// So many bytes that would show if some were lost or twice there.
pub fn pattern(len: usize) -> Vec<u8> {
    // Its length is a prime: shifted by any buffer's size it is another.
    let block: Vec<u8> = (0..4099u32).map(|at| (at * at / 7) as u8).collect();
    let mut bytes = block.repeat(len / block.len() + 1);
    bytes.truncate(len);
    bytes
}

/// Do it, and say what came of it in the words of stories.
pub fn perform(dialect: Dialect, client: &mut Client, words: &[&str]) -> String {
    match dialect {
        Dialect::Redis => redis(client, words),
        Dialect::Memcached => memcached(client, words),
    }
}

/// A value as a story writes it: `=1048576` are so many bytes.
fn value(word: &str) -> Vec<u8> {
    match word.strip_prefix('=') {
        Some(len) => pattern(len.parse().unwrap()),
        None => word.as_bytes().to_vec(),
    }
}

/// And how one is told.
fn told(value: &[u8]) -> String {
    match value.len() {
        0..=200 => show(value),
        len if value == pattern(len) => format!("={len}"),
        len => format!("{len} wrong bytes"),
    }
}

fn redis(client: &mut Client, words: &[&str]) -> String {
    let ask: Vec<Vec<u8>> = match words {
        ["set", key, text, ttl @ ..] => {
            let mut ask = vec![b"SET".to_vec(), key.as_bytes().to_vec(), value(text)];
            if let [ttl, ..] = ttl {
                ask.extend([b"EX".to_vec(), ttl.as_bytes().to_vec()]);
            }
            ask
        }
        ["add", key, text] => vec![
            b"SET".to_vec(),
            key.as_bytes().to_vec(),
            value(text),
            b"NX".to_vec(),
        ],
        ["flags", ..] => panic!("Redis has no flags"),
        ["touch", key, ttl] => bytes(&["EXPIRE", key, ttl]),
        ["size", key] => bytes(&["STRLEN", key]),
        ["flush"] => bytes(&["FLUSHALL"]),
        ["say", words @ ..] => {
            client.send(&command(words));
            return show(&client.reply());
        }
        words => bytes(words),
    };
    client.send(&command(&ask));
    let reply = client.reply();
    match (words[0], reply.as_slice()) {
        ("ttl", b":-1\r\n") => "forever".to_owned(),
        ("ttl", b":-2\r\n") => "-".to_owned(),
        ("ttl", [b':', rest @ ..]) => format!("{}s", line(rest)),
        ("touch", b":1\r\n") => "ok".to_owned(),
        ("touch", b":0\r\n") => "no".to_owned(),
        ("set" | "add", b"$-1\r\n" | b"_\r\n") => "no".to_owned(),
        _ => redis_value(&mut reply.as_slice()),
    }
}

fn bytes(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn line(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == b'\r');
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// The reply that `bytes` begin with, which is taken away.
fn redis_value(bytes: &mut &[u8]) -> String {
    let first = line(bytes);
    *bytes = &bytes[first.len() + 2..];
    let number = || first[1..].parse::<i64>().unwrap();
    match first.as_bytes()[0] {
        b'+' => first[1..].to_ascii_lowercase(),
        b':' => first[1..].to_owned(),
        b'-' => format!("! {}", &first[1..]),
        b'_' => "-".to_owned(),
        b'$' | b'*' if number() < 0 => "-".to_owned(),
        b'$' => {
            let len = number() as usize;
            let text = told(&bytes[..len]);
            *bytes = &bytes[len + 2..];
            text
        }
        b'*' => {
            let elements: Vec<String> = (0..number()).map(|_| redis_value(bytes)).collect();
            elements.join(" ")
        }
        _ => first,
    }
}

fn memcached(client: &mut Client, words: &[&str]) -> String {
    match words {
        [verb @ ("set" | "add"), key, text, more @ ..] => {
            let (ttl, flags) = (more.first().unwrap_or(&"0"), more.get(1).unwrap_or(&"0"));
            let body = value(text);
            let mut ask = format!("{verb} {key} {flags} {ttl} {}\r\n", body.len()).into_bytes();
            ask.extend_from_slice(&body);
            ask.extend_from_slice(b"\r\n");
            memcached_word(&client.ask(ask))
        }
        ["get", key] => memcached_values(client, &[key]),
        ["mget", keys @ ..] => memcached_values(client, keys),
        ["del", keys @ ..] => {
            let mut gone = 0;
            for key in keys {
                let reply = client.ask(format!("delete {key}\r\n"));
                match reply.as_slice() {
                    b"DELETED\r\n" => gone += 1,
                    b"NOT_FOUND\r\n" => {}
                    reply => return memcached_word(reply),
                }
            }
            gone.to_string()
        }
        ["mset", pairs @ ..] => {
            let mut said = "ok".to_owned();
            for pair in pairs.chunks(2) {
                said = memcached(client, &["set", pair[0], pair[1]]);
            }
            said
        }
        ["ttl", key] => match meta_flag(client, key, 't').as_str() {
            "-1" => "forever".to_owned(),
            "-" => "-".to_owned(),
            seconds => format!("{seconds}s"),
        },
        ["flags", key] => meta_flag(client, key, 'f'),
        ["size", key] => match meta_flag(client, key, 's').as_str() {
            "-" => "0".to_owned(),
            size => size.to_owned(),
        },
        ["incr", key] => memcached_word(&client.ask(format!("incr {key} 1\r\n"))),
        ["touch", key, ttl] => memcached_word(&client.ask(format!("touch {key} {ttl}\r\n"))),
        ["flush"] => memcached_word(&client.ask("flush_all\r\n")),
        ["say", words @ ..] => show(&client.ask(format!("{}\r\n", words.join(" ")))),
        words => panic!("memcached has no {words:?}"),
    }
}

/// What `mg key flag` says; `-` if the key is not there.
fn meta_flag(client: &mut Client, key: &str, flag: char) -> String {
    let reply = line(&client.ask(format!("mg {key} {flag}\r\n")));
    match reply.strip_prefix(&format!("HD {flag}")) {
        Some(value) => value.to_owned(),
        None if reply == "EN" => "-".to_owned(),
        None => format!("! {reply}"),
    }
}

fn memcached_word(reply: &[u8]) -> String {
    match reply {
        b"STORED\r\n" | b"TOUCHED\r\n" | b"OK\r\n" => "ok".to_owned(),
        b"NOT_STORED\r\n" => "no".to_owned(),
        b"NOT_FOUND\r\n" => "-".to_owned(),
        b"DELETED\r\n" => "1".to_owned(),
        [b'0'..=b'9', ..] => line(reply),
        reply => format!("! {}", line(reply)),
    }
}

fn memcached_values(client: &mut Client, keys: &[&str]) -> String {
    let reply = client.ask(format!("get {}\r\n", keys.join(" ")));
    let mut found = std::collections::HashMap::new();
    let mut rest = reply.as_slice();
    while rest.starts_with(b"VALUE ") {
        let head = line(rest);
        let words: Vec<&str> = head.split(' ').collect();
        let (start, len) = (head.len() + 2, words[3].parse::<usize>().unwrap());
        found.insert(words[1].to_owned(), told(&rest[start..start + len]));
        rest = &rest[start + len + 2..];
    }
    if rest != b"END\r\n" {
        return format!("! {}", line(rest));
    }
    let each = keys.iter().map(|key| match found.get(*key) {
        Some(value) => value.as_str(),
        None => "-",
    });
    each.collect::<Vec<_>>().join(" ")
}
