//! What the process counts, and how a scraper reads it.
//!
//! Workers write [`Meter`]s, one each, without knowing a single label; the
//! admin thread sums them and puts the names to the sums. Labels are names
//! from the configuration or from the command tables, never anything that a
//! client sent.

mod command;
mod duration;
mod family;
pub mod hotkeys;
mod memory;
mod meter;
pub mod process;
mod requests;
mod scrape;
pub mod totals;

pub use command::{OTHER, memcache_command, redis_command};
pub use meter::{Class, Event, Health, Meter, Shed, Verdict};
pub use scrape::Scrape;
