//! Emberline, the caching proxy: sockets, time, configuration and metrics
//! around the three libraries that decide things without any of them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod answer;
pub mod cli;
pub mod config;
pub mod delete_log;
pub mod dns;
mod explain;
pub mod generation;
mod glob;
pub mod l1;
pub mod local;
pub mod log;
pub mod metrics;
mod nanos;
pub mod reload;
pub mod running;
mod scanner;
pub mod server;
mod shelf;
pub mod tls;
pub mod warm;
