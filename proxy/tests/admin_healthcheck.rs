//! The readiness probe against the real admin server, and against servers
//! that do not behave.

#![allow(clippy::unwrap_used)]

mod admin_support;
// The command line is private to the crate, so the probe is taken from its source.
#[path = "../src/cli/ask.rs"]
mod ask;
#[path = "../src/cli/healthcheck.rs"]
mod healthcheck;

use std::io::Write;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use admin_support::{running, start};
use emberline::running::Bind;
use healthcheck::{Healthcheck, check, run};

const PATIENCE: Duration = Duration::from_millis(500);

fn failure(address: &str) -> String {
    check(address, PATIENCE).unwrap_err().to_string()
}

#[test]
fn it_follows_the_proxy_through_its_life() {
    let site = start(running("r", 1, 1));
    for address in [site.admin().to_string(), site.status().to_string()] {
        assert!(failure(&address).starts_with("status 503: starting"));
    }
    site.state.set_ready();
    check(&site.admin().to_string(), PATIENCE).unwrap();
    check(&format!("localhost:{}", site.admin().port()), PATIENCE).unwrap();
    check(&format!("0.0.0.0:{}", site.status().port()), PATIENCE).unwrap();
    site.state.set_draining();
    assert_eq!(failure(&site.admin().to_string()), "status 503: draining");
}

#[test]
fn it_asks_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("emberline-probe-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    assert!(!failure(&address).is_empty());
    let mut config = running("r", 1, 1);
    config.admin = Some(Bind::Unix(path));
    let site = start(config);
    site.state.set_ready();
    check(&address, PATIENCE).unwrap();
}

#[test]
fn its_exit_code_is_the_answer() {
    let site = start(running("r", 1, 1));
    let ask = || {
        run(Healthcheck {
            admin: site.admin().to_string(),
            timeout_ms: 500,
        })
    };
    assert_eq!(ask(), ExitCode::FAILURE);
    site.state.set_ready();
    assert_eq!(ask(), ExitCode::SUCCESS);
}

#[test]
fn a_server_that_is_silent_or_trickles_costs_no_more_than_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let began = Instant::now();
    assert_eq!(failure(&address), "no answer in time");
    assert!(began.elapsed() < 3 * PATIENCE);

    let trickle = std::thread::spawn(move || {
        // The first connection is the silent one's, given up by now.
        drop(listener.accept().unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(b"H").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    assert_eq!(failure(&address), "no answer in time");
    assert!(began.elapsed() < 3 * PATIENCE);
    trickle.join().unwrap();
}

#[test]
fn nobody_there_is_not_ready() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(failure(&free.to_string()).contains("refused"));
    assert!(!failure("no port").is_empty());
}
