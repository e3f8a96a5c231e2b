//! Why a server did not answer, as the client, the metrics and the routes are
//! told.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Outcome;

use crate::metrics::Verdict;

/// A request that no server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server was known to be down: the request was not sent.
    Down {
        /// What it was found by.
        why: Arc<str>,
        /// For how long it has been.
        lasted: Duration,
    },
    /// The configuration says that the server is down: the request was not sent.
    Marked,
    /// The server has not been told of an earlier delete of the key: the
    /// request was not sent.
    Pending,
    /// There was no connection to send it over: connecting failed, now or so
    /// recently that it was not tried again, or the connection ended before
    /// any of the request was written.
    Connect(Arc<str>),
    /// The proxy has not what a connection takes, such as a file descriptor or
    /// a port of its own. It says nothing about the server.
    Ours(Arc<str>),
    /// It waited for so long that it was given up before any of it was
    /// written, while the server had this many others to answer.
    Queued(usize),
    /// The server did not answer in time.
    Timeout,
    /// The connection ended while the request was in flight.
    Lost(Arc<str>),
}

impl Fault {
    /// The client's error text, naming the server.
    pub fn text(&self, server: &str) -> String {
        match self {
            Fault::Down { why, lasted } => {
                format!("server {server} has been down for {lasted:.1?}: {why}")
            }
            Fault::Marked => {
                format!("server {server} is marked as down in the proxy's configuration")
            }
            Fault::Pending => {
                format!("server {server} has not carried out an earlier delete of this key yet")
            }
            Fault::Connect(why) => format!("server {server} cannot be reached: {why}"),
            Fault::Ours(why) => format!("the proxy cannot connect to server {server}: {why}"),
            Fault::Queued(inflight) => format!(
                "server {server} has {inflight} requests in flight: this one was not sent in time"
            ),
            Fault::Timeout => format!("server {server} did not answer in time"),
            Fault::Lost(why) => format!("server {server} was lost before it answered: {why}"),
        }
    }

    /// How it is counted.
    pub fn verdict(&self) -> Verdict {
        match self {
            Fault::Timeout => Verdict::Timeout,
            Fault::Down { .. }
            | Fault::Marked
            | Fault::Pending
            | Fault::Connect(_)
            | Fault::Ours(_)
            | Fault::Queued(_)
            | Fault::Lost(_) => Verdict::Unavailable,
        }
    }

    /// What it means for a route. After `Down`, `Connect` and `Ours` the request
    /// has certainly not been carried out.
    pub fn outcome(&self) -> Outcome {
        match self {
            Fault::Down { .. } | Fault::Marked | Fault::Pending => Outcome::Down,
            Fault::Connect(_) | Fault::Ours(_) | Fault::Queued(_) => Outcome::Connect,
            Fault::Timeout => Outcome::Timeout,
            Fault::Lost(_) => Outcome::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fault: &Fault, text: &str, outcome: Outcome) {
        assert_eq!(fault.text("a:1"), text);
        assert_eq!(fault.outcome(), outcome);
    }

    #[test]
    fn every_fault_names_the_server_and_says_what_may_have_happened() {
        let why: Arc<str> = "it is gone".into();
        let down = Fault::Down {
            why: Arc::clone(&why),
            lasted: Duration::from_millis(2345),
        };
        check(
            &down,
            "server a:1 has been down for 2.3s: it is gone",
            Outcome::Down,
        );
        check(
            &Fault::Marked,
            "server a:1 is marked as down in the proxy's configuration",
            Outcome::Down,
        );
        check(
            &Fault::Pending,
            "server a:1 has not carried out an earlier delete of this key yet",
            Outcome::Down,
        );
        check(
            &Fault::Connect(Arc::clone(&why)),
            "server a:1 cannot be reached: it is gone",
            Outcome::Connect,
        );
        check(
            &Fault::Ours("too many open files".into()),
            "the proxy cannot connect to server a:1: too many open files",
            Outcome::Connect,
        );
        check(
            &Fault::Queued(1024),
            "server a:1 has 1024 requests in flight: this one was not sent in time",
            Outcome::Connect,
        );
        check(
            &Fault::Timeout,
            "server a:1 did not answer in time",
            Outcome::Timeout,
        );
        check(
            &Fault::Lost(why),
            "server a:1 was lost before it answered: it is gone",
            Outcome::Lost,
        );
    }
}
