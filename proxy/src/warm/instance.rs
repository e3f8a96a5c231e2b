//! Which life of a server this is. A cursor means something in one life alone,
//! and what a target was given is gone with the life in which it was.
//!
//! Redis has a `run_id`. memcached has none, so its process and the second of
//! its birth stand for it, the second known to one or two.

use super::item;
use super::link::{Fault, Link};
use super::{memcached, redis};
use crate::running::Protocol;

/// Write the question to which [`read`] knows the answer.
pub fn question(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Redis => b"INFO server\r\n",
        Protocol::Memcached => b"stats\r\n",
    }
}

/// What the answer says; empty if the server does not tell.
///
/// # Errors
/// When it may tell later.
pub fn read(protocol: Protocol, reply: &[u8]) -> Result<String, Fault> {
    match protocol {
        Protocol::Redis if redis::again(reply) => Err(Fault::Lost(item::words(reply))),
        Protocol::Redis => Ok(redis::run_id(reply).unwrap_or_default()),
        Protocol::Memcached => {
            let number = |name| memcached::statistic(reply, name).unwrap_or(0);
            let born = number("time").saturating_sub(number("uptime"));
            Ok(format!("{} {born}", number("pid")))
        }
    }
}

/// Ask on a connection.
///
/// # Errors
/// When the server does not answer, or may tell later.
pub async fn ask(link: &mut Link, protocol: Protocol) -> Result<String, Fault> {
    link.output.extend_from_slice(question(protocol));
    let replies = link.ask(1).await?;
    read(protocol, replies.reply(0))
}

/// Whether these are known to be one life of a server.
pub fn is_same(protocol: Protocol, then: &str, now: &str) -> bool {
    match (protocol, birth(then), birth(now)) {
        _ if then.is_empty() || now.is_empty() => false,
        (Protocol::Memcached, Some((then, early)), Some((now, late))) => {
            then == now && early.abs_diff(late) <= 2
        }
        _ => then == now,
    }
}

fn birth(instance: &str) -> Option<(u64, u64)> {
    let (pid, born) = instance.split_once(' ')?;
    Some((pid.parse().ok()?, born.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memcached_is_known_again_by_its_process_and_birth() {
        let check = |then, now, same| {
            let protocol = Protocol::Memcached;
            assert_eq!(is_same(protocol, then, now), same, "{then:?} {now:?}");
        };
        check("17 1700000000", "17 1700000001", true);
        check("17 1700000000", "18 1700000000", false);
        check("17 1700000000", "17 1700000009", false);
        check("", "17 0", false);
        check("17 0", "", false);
        check("x y", "17 0", false);
    }

    #[test]
    fn who_may_not_say_is_unknown_and_who_is_busy_is_asked_again() {
        let read = |reply: &[u8]| read(Protocol::Redis, reply);
        assert_eq!(read(b"$9\r\nrun_id:5e\r\n"), Ok("5e".to_owned()));
        assert_eq!(read(b"-NOPERM no\r\n"), Ok(String::new()));
        assert!(read(b"-LOADING x\r\n").is_err());
        assert!(read(b"-BUSY x\r\n").is_err());
    }
}
