//! Transcripts of redis-server 7.0.15, recorded once, against the parsers.

#![allow(clippy::unwrap_used)]

mod redis_pieces;

use emberline_protocol::redis::command::{keys, lookup};
use emberline_protocol::redis::reply::{elements, is_error};
use emberline_protocol::redis::{Limits, RequestError, encode};
use redis_pieces::{every, flow, parse, scan};

/// The lines of a transcript, split at tabs.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
}

/// Bytes as the transcripts write them: `\r`, `\n`, `\\`, `\xHH`, `{byte*count}`.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = || {
            let (inside, behind) = rest.strip_prefix('{')?.split_once('}')?;
            let (byte, count) = inside.split_once('*')?;
            Some((byte.as_bytes()[0], count.parse().ok()?, behind))
        };
        if let Some((byte, count, behind)) = run() {
            out.extend(std::iter::repeat_n(byte, count));
            rest = behind;
            continue;
        }
        if first != '\\' {
            out.push(first as u8);
            rest = &rest[1..];
            continue;
        }
        let (byte, len) = match &rest[1..2] {
            "r" => (b'\r', 2),
            "n" => (b'\n', 2),
            "x" => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
            _ => (b'\\', 2),
        };
        out.push(byte);
        rest = &rest[len..];
    }
    out
}

/// What a server that knows PING and ECHO answers, and whether it closes.
fn answers(stream: &[u8], limits: &Limits, piece: usize) -> (Vec<u8>, bool) {
    let found = parse(stream, limits, every(piece));
    let mut out = Vec::new();
    for (_, args) in &found.items {
        let name = args.first().map(|name| name.to_ascii_lowercase());
        match (name.as_deref(), &args[..]) {
            (None, _) => {}
            (Some(b"ping"), [_]) => encode::simple(&mut out, "PONG"),
            (Some(b"ping" | b"echo"), [_, text]) => encode::bulk(&mut out, text),
            (Some(b"echo"), _) => {
                encode::error(&mut out, "ERR wrong number of arguments for 'echo' command");
            }
            (Some(name), _) => {
                let name = String::from_utf8_lossy(name).replace("echo", "ECHO");
                encode::error(
                    &mut out,
                    &format!("ERR unknown command '{name}', with args beginning with: "),
                );
            }
        }
    }
    match found.end {
        Ok(_) => (out, false),
        // Redis throws away what it had to say before.
        Err(RequestError::HttpRequest) => (Vec::new(), true),
        Err(error) => {
            encode::error(&mut out, &format!("ERR {error}"));
            (out, true)
        }
    }
}

#[test]
fn requests_are_taken_and_refused_in_the_words_of_redis() {
    let mut limits = Limits::default();
    let mut stricter = false;
    for line in lines(include_str!("data/redis/requests.txt")) {
        let [sent, answered, end] = line[..] else {
            stricter = line[0] == "!stricter";
            if line[0] == "!unauthenticated" {
                limits = Limits::unauthenticated();
            }
            continue;
        };
        let stream = bytes(sent);
        let pieces = if stream.len() > 4096 { 1000 } else { 1 };
        for piece in [stream.len(), pieces] {
            let (out, closed) = answers(&stream, &limits, piece);
            if stricter {
                assert!(closed, "{sent}");
                continue;
            }
            let out = String::from_utf8_lossy(&out).into_owned();
            assert_eq!(out, String::from_utf8_lossy(&bytes(answered)), "{sent}");
            assert_eq!(closed, end == "closed", "{sent}");
        }
        let parsed = parse(&stream, &limits, every(stream.len()));
        let flowed = flow(&stream, &limits, every(pieces));
        assert_eq!(parsed.end, flowed.end, "{sent}");
        let lengths: Vec<_> = parsed.items.iter().map(|(len, _)| *len).collect();
        assert_eq!(lengths, flowed.items, "{sent}");
    }
}

#[test]
fn every_recorded_reply_ends_where_the_server_stopped() {
    for line in lines(include_str!("data/redis/replies.txt")) {
        let reply = bytes(line[1]);
        // DEBUG PROTOCOL push is a push and then a reply.
        let items = if reply.starts_with(b">2") { 2 } else { 1 };
        for piece in [1, 2, 7, reply.len()] {
            let found = scan(&reply, every(piece));
            assert_eq!(found.end, Ok(0), "{}", line[0]);
            assert_eq!(found.items.len(), items, "{}", line[0]);
        }
        assert_eq!(is_error(&reply), line[1].starts_with('-'));
        if let Ok(elements) = elements(&reply) {
            let all: usize = elements.clone().map(<[u8]>::len).sum();
            let header = reply.len() - all;
            assert!(items == 2 || header < 8, "{}", line[0]);
        }
    }
}

#[test]
fn keys_are_where_redis_finds_them() {
    for line in lines(include_str!("data/redis/keys.txt")) {
        let args: Vec<&[u8]> = line[0].split(' ').map(str::as_bytes).collect();
        let mut found = Vec::new();
        keys(lookup(args[0]).unwrap(), &args, &mut found).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|at| std::str::from_utf8(args[*at]).unwrap())
            .collect();
        assert_eq!(found.join(" "), line[1], "{}", line[0]);
    }
}

#[test]
fn key_errors_are_in_the_words_of_redis() {
    for line in lines(include_str!("data/redis/key_errors.txt")) {
        let args: Vec<&[u8]> = line[0].split(' ').map(str::as_bytes).collect();
        let error = keys(lookup(args[0]).unwrap(), &args, &mut Vec::new()).unwrap_err();
        assert_eq!(format!("ERR {error}"), line[1], "{}", line[0]);
    }
}
