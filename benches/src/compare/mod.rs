//! The side-by-side comparison: real servers, several proxies, interleaved rounds.
//!
//! [`cells`] says what is measured, [`rounds`] measures CPU time per request,
//! [`syscalls`] counts system calls, [`footprint`] looks at start time and
//! [`memory`], and [`record`] writes it all down.

pub mod cells;
pub mod footprint;
pub mod memory;
pub mod record;
pub mod rounds;
pub mod stats;
pub mod syscalls;
