//! How many reads are sent a second time: what the retry budget allows, be it
//! because a server does not answer or because it takes too long. The servers
//! are scripted, because they have to be silent and to count.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Client, Emberline, Scripted, command, drain_requests};

/// Requests of one client, all at once.
const READS: usize = 60;

/// What time itself adds to a budget, ten a second, while a test runs on a
/// machine that has other work: far less than the reads.
const LEEWAY: usize = 30;

/// A server that counts reads, and answers them or not.
struct Counting {
    server: Scripted,
    reads: Arc<AtomicUsize>,
}

impl Counting {
    fn start(answers: bool) -> Counting {
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let server = Scripted::start(move |mut stream, _| {
            use std::io::Write;
            drain_requests(&mut stream, |stream, args| {
                if args[0].eq_ignore_ascii_case(b"get") {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                !answers || stream.write_all(b"$1\r\nv\r\n").is_ok()
            });
        });
        Counting { server, reads }
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

/// A proxy before pools of one server each, which are replicas.
fn proxy(servers: &[Counting], route: &str, pool: &str) -> Emberline {
    let mut config = format!(
        "[listeners.main]\nprotocol = 'redis'\nbind = 'REDIS_BIND'\n\
         route = {{ type = 'replicas', children = [{}], {route} }}\n",
        (0..servers.len())
            .map(|number| format!("'p{number}'"))
            .collect::<Vec<_>>()
            .join(", "),
    );
    for (number, one) in servers.iter().enumerate() {
        config += &format!(
            "[pools.p{number}]\nprotocol = 'redis'\nfailures = 1000\n{pool}\nservers = ['{}']\n",
            one.server.address()
        );
    }
    Emberline::config_with(&config, &["--workers", "1"])
}

/// Send all reads at once; how many were answered with a value.
fn read_all(client: &mut Client) -> usize {
    client.send(&command(&["GET", "k"]).repeat(READS));
    (0..READS)
        .filter(|_| client.reply().starts_with(b"$1"))
        .count()
}

#[test]
fn reads_that_time_out_everywhere_are_not_all_sent_everywhere() {
    let servers = [false, false, false].map(Counting::start);
    let proxy = proxy(
        &servers,
        "read = 'first', read_repair = false",
        "request_timeout = '300ms'\nretry_budget = 0.0",
    );
    assert_eq!(read_all(&mut proxy.client()), 0);
    let [first, second, third] = servers.each_ref().map(Counting::reads);
    assert_eq!(first, READS);
    let again = second + third;
    assert!(
        again <= LEEWAY,
        "{again} of {READS} reads were sent once more"
    );
}

#[test]
fn the_pool_that_is_asked_first_pays() {
    let servers = [false, true].map(Counting::start);
    let proxy = proxy(
        &servers,
        "read = 'first', read_repair = false",
        "request_timeout = '300ms'\nretry_budget = 1.0",
    );
    assert_eq!(read_all(&mut proxy.client()), READS);
}

#[test]
fn hedges_are_paid_for_as_well() {
    let servers = [false, false, false].map(Counting::start);
    let proxy = proxy(
        &servers,
        "read = 'first', read_repair = false, hedge_after = '5ms'",
        "request_timeout = '500ms'\nretry_budget = 0.0",
    );
    assert_eq!(read_all(&mut proxy.client()), 0);
    let [first, second, third] = servers.each_ref().map(Counting::reads);
    assert_eq!(first, READS);
    let again = second + third;
    assert!(again <= LEEWAY, "{again} of {READS} reads were hedged");
}
