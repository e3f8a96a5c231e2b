//! The memcached protocols: text and meta.
//!
//! What a request *means* is said once, in [`Verb`] and [`Request`]; how it is
//! written is said per encoding, in `text` and `meta`, which hold the same
//! files. Both encodings share a connection: the first word of a line tells
//! them apart. The binary protocol (first byte 0x80) is refused.
//!
//! A line that is refused here is answered with the words of memcached
//! 1.6.18, and the next request begins where memcached would look for it. A
//! line that is accepted is one that every memcached accepts *as to its
//! length*: were a server to refuse a storage line that the proxy forwarded,
//! it would read the value as commands, and every later reply on that shared
//! connection would belong to someone else. Everything that cannot shift the
//! stream, such as an unknown meta flag, is left for the server to judge.
//!
//! [`outcome()`] says what a reply means, [`edit()`] writes a request with
//! another key or another expiry, and [`restore_key`] undoes it in the reply.

pub mod base64;
pub mod copy;
mod edit;
pub mod encode;
mod error;
mod expiry;
mod key;
mod meta;
mod number;
mod outcome;
mod reply;
mod request;
mod text;
mod unsaid;
mod verb;
mod words;

pub use edit::{EditError, edit, restore_key};
pub use encode::{forward, fragment};
pub use error::{Recovery, ReplyError, RequestError};
pub use key::{KEY_MAX, key_ok};
pub use meta::reply::{Got, Returned, Ttl, got};
pub use meta::request::{flag, flags};
pub use outcome::outcome;
pub use reply::{Scanner, Value, Values, is_error, suppressed, values};
pub use request::{Limits, Parser, Request, body_terminated};
pub use unsaid::{accepted, missing};
pub use verb::{Dialect, Verb};
pub use words::tokens;
