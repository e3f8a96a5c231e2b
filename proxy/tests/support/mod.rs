//! Real servers and the assembled binary, each on a free loopback port, each
//! killed by its own process id when its guard is dropped.
//!
//! ```text
//!   let Some(servers) = Server::redis_many(2) else { return };
//!   let proxy = Emberline::redis(&servers);
//!   let mut client = proxy.client();
//!   client.send(b"PING\r\n");
//!   assert_eq!(client.reply(), b"+PONG\r\n");
//! ```
//!
//! A test whose server is not installed is skipped and says so, unless
//! `EMBERLINE_REQUIRE_SERVERS` or `CI` is set: then it fails.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]
#![allow(clippy::unwrap_used)]

mod client;
mod commands;
mod http;
mod process;
mod random;
mod scripted;

use std::time::{Duration, Instant};

pub use client::{Client, command, replies};
pub use commands::{Asked, Commands};
pub use http::{http, page};
pub use process::{Emberline, Server, TempDir, addresses, free_port};
pub use random::Random;
pub use scripted::{Scripted, drain_requests};

/// Wait until it is so, but not for ever.
#[track_caller]
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number from the environment, for longer or shorter runs.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

/// Bytes as a reader of a failed test wants to see them.
pub fn show(bytes: &[u8]) -> String {
    const SHOWN: usize = 400;
    let text = bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string();
    match bytes.len() {
        0..=SHOWN => text,
        len => format!("{text}... ({len} bytes)"),
    }
}

/// Fail unless these are the same; show where they part.
#[track_caller]
pub fn assert_same(got: &[u8], expected: &[u8]) {
    if got != expected {
        let at = got.iter().zip(expected).position(|(a, b)| a != b);
        let at = at.unwrap_or(got.len().min(expected.len()));
        let from = at.saturating_sub(20);
        panic!(
            "replies differ at {at} of {} and {}\n  got:      {}\n  expected: {}",
            got.len(),
            expected.len(),
            show(&got[from..got.len().min(at + 60)]),
            show(&expected[from..expected.len().min(at + 60)]),
        );
    }
}
