//! The load generator: many connections on few threads, light enough to share
//! two cores with what it measures.
//!
//! The parts, from the outside in: [`options`] is what the user asks for;
//! [`engine`] drives connections with one poll loop per thread; a
//! [`connection`] keeps its requests in flight and counts what comes back;
//! [`redis`] and [`memcached`] are the two wire formats with the same three
//! functions; [`keyspace`] names keys and their values; [`figures`] is the
//! result.
//!
//! Two ways to load, and they answer different questions:
//!
//! * *closed loop* (default): each connection sends `pipeline` requests, waits
//!   for all replies and sends the next batch. It measures throughput and CPU
//!   per request; its latencies hide stalls, since a stalled server is asked
//!   less.
//! * *open loop* (`--rate`): requests are due at fixed times whatever the
//!   server does, and latency counts from the time a request was *due*. A
//!   stall of one second shows up in every request that was due during it.

pub mod connection;
pub mod engine;
pub mod figures;
pub mod keyspace;
pub mod memcached;
pub mod options;
pub mod redis;
pub mod reply;
pub mod rng;
pub mod sizes;
pub mod target;
pub mod zipf;

pub use engine::{Engine, Job, Limit};
pub use figures::Figures;
pub use options::{Options, Protocol};
pub use sizes::Sizes;
pub use target::Target;
