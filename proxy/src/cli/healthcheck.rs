//! `emberline healthcheck`: is the proxy on this machine ready?
//!
//! Made for an exec probe: the kubelet cannot reach an admin listener on
//! loopback or a Unix socket, but it can run this in the container. It asks
//! `/readyz`, with nothing but a socket, and answers with its exit code.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::ask::{self, Answer};

/// How long the whole check may take unless told otherwise.
const TIMEOUT_MS: u64 = 1000;

/// Ask a running proxy whether it is ready: exit code 0 if it is, 1 if not.
#[derive(Clone, Debug, clap::Args)]
pub struct Healthcheck {
    /// The admin or status listener: HOST:PORT or unix:/PATH.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9779")]
    pub admin: String,
    /// How long the check may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout_ms: u64,
}

/// Check, and say on standard error why it failed.
pub fn run(args: Healthcheck) -> ExitCode {
    let timeout = Duration::from_millis(args.timeout_ms);
    match check(&args.admin, timeout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed there is nobody left to tell; the exit code stands.
            let _ = writeln!(io::stderr(), "not ready: {}: {error}", args.admin);
            ExitCode::FAILURE
        }
    }
}

/// Ask `/readyz` at this address.
///
/// # Errors
///
/// When it cannot be reached in time, or says anything but 200.
pub fn check(address: &str, timeout: Duration) -> io::Result<()> {
    verdict(&ask::get(address, "/readyz", timeout)?)
}

fn verdict(answer: &Answer) -> io::Result<()> {
    if answer.status == "200" {
        return Ok(());
    }
    let body = answer.body.lines().next().unwrap_or_default();
    let text = format!("status {}: {}", answer.status, body.escape_debug());
    Err(io::Error::other(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_status_200_is_ready() {
        let check = |status: &str, body: &str| {
            let answer = Answer {
                status: status.to_owned(),
                body: body.to_owned(),
            };
            verdict(&answer).map_err(|error| error.to_string())
        };
        assert_eq!(check("200", "ready\n"), Ok(()));
        assert_eq!(
            check("503", "draining\n\x1b[2J"),
            Err("status 503: draining".to_owned())
        );
    }
}
