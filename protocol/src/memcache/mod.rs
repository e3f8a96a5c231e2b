//! The memcached protocols: text and meta.
//!
//! What a request *means* is said once, in [`Verb`] and [`Request`]; how it
//! is written is said per encoding, in [`text`] and [`meta`], which hold the
//! same files. Both encodings share a connection: the first word of a line
//! tells them apart. The binary protocol (first byte 0x80) is refused.

mod base64;
pub mod encode;
mod error;
mod forward;
mod key;
pub mod meta;
mod reply;
mod request;
pub mod text;
mod verb;

pub use error::{Recovery, ReplyError, RequestError};
pub use forward::{forward, fragment, suppressed};
pub use key::{KEY_MAX, key_ok};
pub use reply::{Scanner, Value, Values, is_error, values};
pub use request::{Limits, Parser, Request, body_terminated, tokens};
pub use verb::{Dialect, Verb};
