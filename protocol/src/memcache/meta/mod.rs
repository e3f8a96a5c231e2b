//! The two-letter meta commands.

pub(super) mod reply;
pub(super) mod request;
