//! What Emberline costs, and what its peers cost on the same machine.
//!
//! Two programs share this crate: `emberline-load`, a load generator for both
//! protocols, and `emberline-compare`, which starts real servers and proxies
//! and measures them side by side in interleaved rounds. The micro-benchmarks
//! beside it (`benches/*.rs`) time single functions of the libraries.
//!
//! Nothing here is shipped, and nothing here depends on the code it measures:
//! the load generator has its own small encoder and reply reader, so a fault
//! in the proxy's parser cannot hide itself.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod checker;
pub mod compare;
pub mod interrupt;
pub mod load;
pub mod peers;
pub mod process;
pub mod procfs;
