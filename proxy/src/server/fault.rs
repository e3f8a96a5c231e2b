//! Why a server did not answer, as the client and the metrics are told.

use std::sync::Arc;

use emberline_protocol::Outcome;

use crate::metrics::Verdict;

/// A request that no server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Connecting failed, now or so recently that it was not tried again.
    Down(Arc<str>),
    /// The server did not answer in time.
    Timeout,
    /// The connection ended while the request was in flight.
    Lost(Arc<str>),
}

impl Fault {
    /// The client's error text, naming the server.
    pub fn text(&self, server: &str) -> String {
        match self {
            Fault::Down(why) => format!("server {server} is down: {why}"),
            Fault::Timeout => format!("server {server} did not answer in time"),
            Fault::Lost(why) => format!("server {server} was lost before it answered: {why}"),
        }
    }

    /// How it is counted.
    pub fn verdict(&self) -> Verdict {
        match self {
            Fault::Timeout => Verdict::Timeout,
            Fault::Down(_) | Fault::Lost(_) => Verdict::Unavailable,
        }
    }

    /// What it means for a route.
    pub fn outcome(&self) -> Outcome {
        match self {
            Fault::Down(_) => Outcome::Down,
            Fault::Timeout => Outcome::Timeout,
            Fault::Lost(_) => Outcome::Lost,
        }
    }
}
