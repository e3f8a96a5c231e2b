//! The Redis serialization protocol, versions 2 and 3.
//!
//! [`request`] and [`reply`] find where a request or a reply ends and where
//! its parts are, [`encode`] writes what the proxy itself has to say, and
//! [`command`] knows every command of Redis 7.0: its arity, where its keys
//! are, and what the proxy does with it. [`outcome()`] says what a reply means,
//! [`edit()`] writes a request with another key or another life, and
//! [`restore_keys`] has the reply name the key that the client asked for.

mod absence;
pub mod command;
pub mod copy;
mod edit;
pub mod encode;
mod flow;
mod framing;
mod inline;
mod keys;
mod outcome;
pub mod reply;
pub mod request;
mod restore;
mod subcommands;
mod table;
mod unsaid;

pub use absence::{proves_absence, reads_whole, takes_away};
pub use command::{Args, Class, Command, FanOut, KeyError, Split};
pub use edit::{carries_ttl, edit};
pub use encode::Version;
pub use outcome::outcome;
pub use reply::{ReplyError, Scanner};
pub use request::{Flow, Limits, Parser, RequestError, Step};
pub use restore::{names_keys, restore_keys};
pub use unsaid::{accepted, missing};
