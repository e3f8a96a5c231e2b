//! What Emberline costs, and what its peers cost on the same machine.
//!
//! Two programs measure servers: `emberline-load`, a load generator for both
//! protocols, and `emberline-compare`, which starts real servers and proxies
//! and measures them side by side in interleaved rounds. The micro-benchmarks
//! beside them (`benches/*.rs`) time single functions of the libraries, and
//! `heat` judges the hot-key detector by an exact count.
//!
//! Nothing here is shipped, and what measures servers does not depend on the
//! code it measures: the load generator has its own small encoder and reply reader, so a fault
//! in the proxy's parser cannot hide itself.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod compare;
pub mod heat;
pub mod interrupt;
pub mod load;
pub mod peers;
pub mod process;
pub mod procfs;
