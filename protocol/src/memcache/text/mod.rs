//! The classic text commands.

pub(super) mod reply;
pub(super) mod request;
