//! What the proxy answers itself is what memcached 1.6 answers.
#![allow(clippy::unwrap_used)]

mod answer_support;

use answer_support::{Server, ask, context, pool, running};
use emberline::answer::Then;
use emberline::answer::memcache::{answer, is_local};
use emberline::running::Protocol;
use emberline_protocol::memcache::Verb;

/// A request's verb and whether it ends in `noreply`, as the parser finds them.
fn answer_line(line: &str) -> (String, Then) {
    let word = line.split(' ').next().unwrap();
    let verb = *Verb::ALL.iter().find(|verb| verb.name() == word).unwrap();
    assert!(is_local(verb), "{line}");
    let mut running = running(Protocol::Memcached, None);
    running.pools.push(pool(Protocol::Memcached));
    let quiet = line.ends_with(" noreply");
    let mut out = Vec::new();
    let line = format!("{line}\r\n");
    let then = answer(verb, line.as_bytes(), quiet, &context(&running), &mut out);
    (String::from_utf8(out).unwrap(), then)
}

const SAME: &str = "\
mn
mn x
version
version x
verbosity
verbosity 1
verbosity 1 2
verbosity 1 2 3
verbosity 1 noreply
verbosity noreply
verbosity x
verbosity x y
verbosity -1
verbosity foo bar my
stats items
stats slabs
stats reset
stats reset x
stats foo
stats noreply
stats sizes
stats detail
stats detail on
stats detail on x
stats detail off
stats detail dump
stats detail foo
stats cachedump
stats cachedump 1
stats cachedump 1 1
shutdown
shutdown graceful";

#[test]
fn answers_are_those_of_memcached() {
    let server = Server::start("memcached", &["-l", "127.0.0.1", "-u", "nobody", "-p"]);
    let mut stream = server.connect();
    let mut different = Vec::new();
    for line in SAME.lines() {
        let ours = answer_line(line).0;
        // A second request tells that the first is answered, even if with nothing.
        let request = format!("{line}\r\nincr missing 1\r\n");
        let end = b"NOT_FOUND\r\n";
        let reply = ask(&mut stream, request.as_bytes(), |reply| {
            reply.ends_with(end)
        });
        let theirs = String::from_utf8_lossy(&reply[..reply.len() - end.len()]).into_owned();
        if ours != theirs {
            different.push(format!("{line}\n   ours {ours:?}\n theirs {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn stats_are_lines_that_clients_read() {
    for line in ["stats", "stats settings", "stats hotkeys"] {
        let (reply, _) = answer_line(line);
        let body = reply.strip_suffix("END\r\n").unwrap();
        for stat in body.split_terminator("\r\n") {
            let words: Vec<_> = stat.splitn(3, ' ').collect();
            assert_eq!((words[0], words.len()), ("STAT", 3), "{stat}");
        }
    }
    let (reply, _) = answer_line("stats");
    for stat in [
        "STAT uptime 3600\r\n",
        "STAT time 1700000000\r\n",
        "STAT version 1.6.18\r\n",
        "STAT curr_connections 3\r\n",
        "STAT cmd_get 5\r\n",
        "STAT threads 2\r\n",
    ] {
        assert!(reply.contains(stat), "{stat} in {reply}");
    }
}

#[test]
fn quit_closes_without_a_word() {
    assert_eq!(answer_line("quit"), (String::new(), Then::Close));
}

#[test]
fn administration_is_refused_with_a_reason() {
    let refused = |verb: &&Verb| verb.is_administrative() && !verb.is_for_all();
    for verb in Verb::ALL.iter().filter(refused) {
        let (reply, then) = answer_line(verb.name());
        assert_eq!(then, Then::Continue);
        match verb {
            Verb::Shutdown => assert_eq!(reply, "ERROR: shutdown not enabled\r\n"),
            _ => assert!(reply.contains("is refused by this proxy: "), "{reply}"),
        }
        assert_eq!(reply.matches("\r\n").count(), 1);
    }
}

#[test]
fn hot_keys_are_stats_the_busiest_first() {
    let (reply, _) = answer_line("stats hotkeys");
    let first = "STAT hotkeys 2\r\n\
        STAT hotkeys:1:key 00000000000000a0\r\n\
        STAT hotkeys:1:pool cache\r\n\
        STAT hotkeys:1:state cached\r\n\
        STAT hotkeys:1:requests_per_second 500.0\r\n\
        STAT hotkeys:1:requests_per_second_min 450.0\r\n\
        STAT hotkeys:1:requests_per_second_max 550.0\r\n\
        STAT hotkeys:1:reads_per_second 490.0\r\n\
        STAT hotkeys:1:writes_per_second 10.0\r\n\
        STAT hotkeys:1:bytes_per_second 2000.0\r\n\
        STAT hotkeys:1:share_percent 50.0\r\n\
        STAT hotkeys:1:certain 1\r\n\
        STAT hotkeys:1:hits 3\r\n\
        STAT hotkeys:1:misses 1\r\n\
        STAT hotkeys:1:hot_ms 5000\r\n\
        STAT hotkeys:2:key 00000000000000b0\r\n";
    assert!(reply.starts_with(first), "{reply}");
}
