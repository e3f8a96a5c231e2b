//! Hot keys: which keys draw the most requests right now, with certified
//! bounds on how many.
//!
//! This crate counts and decides. It opens no socket, reads no clock (time is
//! an argument) and depends on no other crate of the project. One worker
//! feeds one [`Detector`] per pool; nothing in here is shared or locked.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod detector;
mod key;

pub use detector::{Bounds, Detector, Heat, SUB_WINDOWS, Settings};
pub use key::{KeyHash, KeyHasher};
