//! What the process counts, and how a scraper reads it.
//!
//! Workers write [`Meter`]s, one each, without knowing a single label; the
//! admin thread sums them and puts the names to the sums. Labels are names
//! from the configuration or from the command tables, never anything that a
//! client sent.

mod command;
mod duration;
mod layout;
mod meter;

pub use command::OTHER;
pub use meter::{Class, Health, Meter, Shed, Verdict};
