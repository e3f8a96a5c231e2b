//! What Emberline costs, and what its peers cost on the same machine.
//!
//! `emberline-load` is a load generator for both protocols; `emberline-compare`
//! starts real servers and proxies and measures them side by side in interleaved
//! rounds; `flash` sends a flash crowd at one key and counts what its server
//! sees of it; `l1memory` fills an L1 and compares what it counts with what it
//! takes; `heat` judges the hot-key detector by an exact count. The
//! micro-benchmarks beside them (`benches/*.rs`) time single
//! functions of the libraries.
//!
//! Nothing here is shipped. Except for `l1memory` and `heat`, nothing here
//! depends on the code it measures: the load generator has its own small encoder and reply
//! reader, so a fault in the proxy's parser cannot hide itself.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod checker;
pub mod compare;
pub mod heat;
pub mod interrupt;
pub mod load;
pub mod peers;
pub mod process;
pub mod procfs;
