//! One question to a server that is down, on a connection of its own: `PING`,
//! after the same first words as any other connection's, or `version`.
//!
//! Any answer will do that is not "try later": a server that wants a password
//! is up, and clients are to see its error rather than ours.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use emberline_protocol::Scan;
use emberline_protocol::redis::{Version, encode};
use tokio::time::timeout;

use crate::running::{Pool, Protocol, Server};
use crate::scanner::Scanner;
use crate::server::backend::first_words;
use crate::server::socket::Socket;

/// However long requests may take: a server is not up that needs longer.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// Bytes of answers to our few words.
const ANSWERS_MAX: usize = 64 * 1024;

/// Ask `server` for a sign of life.
///
/// # Errors
/// Why there was none, in words for the log.
pub async fn probe(pool: &Pool, server: &Server) -> Result<(), String> {
    let connecting = Socket::connect(&server.address, pool.tls.as_ref());
    let connecting = timeout(pool.timeout_connect, connecting);
    let connected = connecting.await.map_err(|_| "connecting timed out")?;
    let socket = connected.map_err(|error| error.to_string())?;
    let patience = pool.timeout_request.min(PATIENCE_MAX);
    let asking = timeout(patience, ask(pool, socket));
    asking.await.map_err(|_| "it did not answer in time")?
}

async fn ask(pool: &Pool, mut socket: Socket) -> Result<(), String> {
    let (words, count) = words(pool);
    let mut sent = 0;
    poll_fn(|context| socket.poll_write_all(context, &words, &mut sent))
        .await
        .map_err(|error| error.to_string())?;
    let mut answers = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let reading = poll_fn(|context| {
            let read = ready!(socket.poll_read(context, &mut buffer));
            Poll::Ready(read.map(|count| buffer.get(..count).unwrap_or_default().to_vec()))
        });
        let more = reading.await.map_err(|error| error.to_string())?;
        answers.extend_from_slice(&more);
        if let Some(verdict) = judge(pool.protocol, &answers, count)? {
            return verdict;
        }
        if more.is_empty() {
            return Err("the server closed the connection".to_owned());
        }
        if answers.len() > ANSWERS_MAX {
            return Err("its answer does not end".to_owned());
        }
    }
}

/// What is asked, and how many answers there will be.
fn words(pool: &Pool) -> (Vec<u8>, usize) {
    if pool.protocol == Protocol::Memcached {
        return (b"version\r\n".to_vec(), 1);
    }
    let mut out = Vec::new();
    let mut commands = first_words(pool, Version::Resp2);
    commands.push(vec!["PING".to_owned()]);
    for words in &commands {
        encode::command(&mut out, words.iter().map(|word| word.as_bytes()));
    }
    (out, commands.len())
}

/// What these answers say, once there are `count` of them; an error if they
/// are none.
fn judge(
    protocol: Protocol,
    answers: &[u8],
    count: usize,
) -> Result<Option<Result<(), String>>, String> {
    let mut rest = answers;
    for number in 1..=count {
        let Some(len) = reply_len(protocol, rest)? else {
            return Ok(None);
        };
        let (reply, behind) = rest.split_at(len);
        let is_last = number == count;
        if is_refusal(protocol, reply, is_last) {
            let reply = String::from_utf8_lossy(reply);
            return Ok(Some(Err(format!("it said {}", reply.trim_end()))));
        }
        rest = behind;
    }
    Ok(Some(Ok(())))
}

/// The length of the reply that `bytes` begin with, if it is whole.
fn reply_len(protocol: Protocol, bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut scanner = Scanner::new(protocol);
    let mut at = 0;
    while at < bytes.len() {
        match scanner.feed(&bytes[at..])? {
            Scan::Done(len) => return Ok(Some(at + len)),
            Scan::More(0) => return Ok(None),
            Scan::More(len) => at += len,
        }
    }
    Ok(None)
}

/// Whether this is not the answer of a server that can be used. Our first
/// words must be taken; the last one's answer may be an error, but not one
/// that says "later".
fn is_refusal(protocol: Protocol, reply: &[u8], is_last: bool) -> bool {
    match protocol {
        Protocol::Memcached => !reply.starts_with(b"VERSION"),
        Protocol::Redis if is_last => reply.starts_with(b"-LOADING") || reply.starts_with(b"-BUSY"),
        Protocol::Redis => reply.starts_with(b"-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of these answers to `count` questions: `up`, `more`, or
    /// what the log says.
    #[track_caller]
    fn check(protocol: Protocol, count: usize, answers: &str, expected: &str) {
        let made = match judge(protocol, answers.as_bytes(), count) {
            Ok(None) => "more".to_owned(),
            Ok(Some(Ok(()))) => "up".to_owned(),
            Ok(Some(Err(why))) | Err(why) => why,
        };
        assert!(made.starts_with(expected), "{answers:?}: {made}");
    }

    #[test]
    fn redis_is_up_when_it_answers() {
        use Protocol::Redis;
        check(Redis, 1, "", "more");
        check(Redis, 1, "+PON", "more");
        check(Redis, 1, "+PONG\r\n", "up");
        check(Redis, 1, "-NOAUTH Authentication required.\r\n", "up");
        check(Redis, 1, "-LOADING later\r\n", "it said -LOADING later");
        check(Redis, 1, "-BUSY a script\r\n", "it said -BUSY");
        check(Redis, 2, "+OK\r\n", "more");
        check(Redis, 2, "+OK\r\n+PONG\r\n", "up");
        check(Redis, 2, "-WRONGPASS no\r\n", "it said -WRONGPASS no");
        check(Redis, 3, "+OK\r\n+OK\r\n+PONG\r\n", "up");
    }

    #[test]
    fn memcached_is_up_when_it_says_which_it_is() {
        use Protocol::Memcached;
        check(Memcached, 1, "VERSION 1.6", "more");
        check(Memcached, 1, "VERSION 1.6.9\r\n", "up");
        check(Memcached, 1, "ERROR\r\n", "it said ERROR");
    }
}
