//! Hot keys: which keys draw the most requests right now, with certified
//! bounds on how many.
//!
//! This crate counts and decides. It opens no socket, reads no clock (time is
//! an argument) and depends on no other crate of the project. Every worker has a
//! [`Watch`] per pool, which counts; what the watches see comes together on the
//! [`Board`], which decides what is hot.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod board;
mod detector;
mod front;
mod hot;
mod item;
mod key;
pub mod mutation;
mod pieces;
mod pulse;
mod rules;
mod store;
mod sync;
mod watch;

pub use board::{Board, HotSet, Reason, Row};
pub use detector::{Bounds, Detector, Heavy, SUB_WINDOWS, Sighting};
pub use front::{Counts, Front, Seat};
pub use hot::{HotKey, Token};
pub use item::{Item, Value};
pub use key::{KeyHash, KeyHasher};
pub use pieces::{PIECE, Pieces};
pub use pulse::Pulse;
pub use store::{Held, Store};
pub use watch::{Access, Rule, Watch, WatchSettings};
