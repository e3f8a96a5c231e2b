//! Replies that name keys, put back to the names that the client knows.
//!
//! Nearly every reply tells of values alone. Those that choose among keys say
//! which one it was, beside what they found there:
//!
//! ```text
//!   LMPOP ZMPOP         *2  key  what was taken
//!   XREAD XREADGROUP    *n  *2  key  entries   ...      in RESP3 %n  key  entries  ...
//! ```

use super::command::Command;
use super::framing::line_end;
use super::{encode, reply};
use crate::edit::Rename;

/// Whether this command's replies name keys.
pub fn names_keys(command: &Command) -> bool {
    is_pop(command) || matches!(command.name, "xread" | "xreadgroup")
}

/// A whole reply in which every key that is named has become what `rename` says.
///
/// What names no key comes back as it was: a null, an error, another command's
/// reply, bytes that are no reply.
pub fn restore_keys(command: &Command, reply: Vec<u8>, rename: Rename<'_>) -> Vec<u8> {
    match names_keys(command) {
        true => restored(command, &reply, rename).unwrap_or(reply),
        false => reply,
    }
}

fn is_pop(command: &Command) -> bool {
    matches!(command.name, "lmpop" | "zmpop")
}

fn restored(command: &Command, reply: &[u8], rename: Rename<'_>) -> Option<Vec<u8>> {
    let is_map = match reply.first()? {
        b'*' => is_pop(command),
        b'%' => true,
        _ => return None,
    };
    let (header, mut rest) = reply.split_at(line_end(reply, 1)? + 2);
    let mut out = Vec::with_capacity(reply.len());
    out.extend_from_slice(header);
    while !rest.is_empty() {
        if !is_map {
            rest = rest.strip_prefix(PAIR)?;
            out.extend_from_slice(PAIR);
        }
        let (key, after) = element(rest)?;
        let start = line_end(key, 1)? + 2;
        let name = key.strip_suffix(b"\r\n")?.get(start..)?;
        let mut renamed = Vec::new();
        rename(name, &mut renamed);
        encode::bulk(&mut out, &renamed);
        let (found, after) = element(after)?;
        out.extend_from_slice(found);
        rest = after;
    }
    Some(out)
}

const PAIR: &[u8] = b"*2\r\n";

/// The first element, and what is behind it.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = reply::skip(bytes).ok()??;
    bytes.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::super::command::lookup;
    use super::*;

    fn check(name: &str, reply: &str, want: &str) {
        let command = lookup(name.as_bytes()).expect("a command");
        let rename = |key: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(key.strip_prefix(b"app:").unwrap_or(key));
        };
        let got = restore_keys(command, reply.as_bytes().to_vec(), &rename);
        assert_eq!(String::from_utf8_lossy(&got), want);
    }

    #[test]
    fn keys_alone_are_put_back() {
        let popped = "*1\r\n$5\r\napp:v\r\n";
        let pop = |key: &str| format!("*2\r\n{key}{popped}");
        check("LMPOP", &pop("$5\r\napp:k\r\n"), &pop("$1\r\nk\r\n"));
        check("ZMPOP", &pop("$5\r\napp:k\r\n"), &pop("$1\r\nk\r\n"));
        check("GET", "$5\r\napp:k\r\n", "$5\r\napp:k\r\n");
        let read =
            |one: &str, other: &str| format!("*2\r\n*2\r\n{one}{popped}*2\r\n{other}{popped}");
        let sent = read("$5\r\napp:k\r\n", "$5\r\napp:l\r\n");
        check("XREAD", &sent, &read("$1\r\nk\r\n", "$1\r\nl\r\n"));
        let map = |key: &str| format!("%1\r\n{key}{popped}");
        check("XREADGROUP", &map("$5\r\napp:k\r\n"), &map("$1\r\nk\r\n"));
    }

    #[test]
    fn what_names_no_key_stays() {
        for reply in [
            "*-1\r\n",
            "_\r\n",
            "-ERR no\r\n",
            "*2\r\n",
            "*1\r\n:1\r\n",
            "*",
            "",
        ] {
            check("XREAD", reply, reply);
        }
        check("LMPOP", "*-1\r\n", "*-1\r\n");
    }
}
