//! What the names of servers lead to, followed for as long as the process runs.
//!
//! ```text
//!   Recipe + Known --config--> Running, and the questions that it asks
//!      ^                          |
//!      | reload: the same file,   v
//!      | with other answers    Names: a thread that asks each of them
//!      '------- changed ------ again when its answer ends
//! ```
//!
//! An answer that changes is a reload of the same configuration, and nothing
//! else: what stays keeps its number and its connections, what has gone is
//! retired. So nothing on the way of a request knows of DNS, and a connect
//! never waits for it: an address carries what its name leads to.
//!
//! A failure is no answer. Whatever the nameservers say or do not say, the last
//! good answer is kept, and a name that never had one stands for a server that
//! cannot be reached.

mod known;
mod memory;
mod names;
mod resolver;

pub use known::{Answer, Known, Question, Service};
pub use names::{Figures, Names};

use std::net::SocketAddr;
use std::time::Duration;

/// An answer with more than this is refused: a pool of so many servers was not
/// meant.
pub const ANSWER_MAX: usize = 1000;

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whom to ask; none: whom the system asks.
    pub servers: Vec<SocketAddr>,
    /// An answer is believed for at least this long, whatever it says.
    pub ttl_min: Duration,
    /// And for no longer than this.
    pub ttl_max: Duration,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            servers: Vec::new(),
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(60),
        }
    }
}
