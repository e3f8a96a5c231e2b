//! What the proxy answers itself, without asking a server: connection state
//! (`HELLO`, `CLIENT`, `AUTH`), facts about the commands, figures about the
//! process, and the refusals that must never be a closed connection.
//!
//! Nothing here does I/O on a socket. A caller hands over a parsed request, the
//! client's [`redis::Session`] and a [`Context`]; the reply is appended to a
//! buffer. Figures are asked for only by the few commands that print them.

mod context;
pub mod memcache;
mod process;
pub mod redis;

pub use context::{Context, Figures, ServerFigures, Then};
